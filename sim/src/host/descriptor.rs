//! A file that a client has opened and hands over to QEMU.

use camino::Utf8PathBuf;

/// An open file, as `SCM_RIGHTS` passes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descriptor {
    /// A plain file, open for reading and writing.
    File {
        /// Which.
        path: Utf8PathBuf,
        /// Where the next byte is read or written.
        position: u64,
    },
    /// A pipe, with a program at its other end that fills this file, or reads it.
    Pipe(Utf8PathBuf),
}

impl Descriptor {
    /// The file that is behind it in the end.
    pub fn path(&self) -> &Utf8PathBuf {
        let (Descriptor::File { path, .. } | Descriptor::Pipe(path)) = self;
        path
    }

    /// Where in that file the next byte is read or written.
    pub fn position(&self) -> u64 {
        match self {
            Descriptor::File { position, .. } => *position,
            Descriptor::Pipe(_) => 0,
        }
    }
}
