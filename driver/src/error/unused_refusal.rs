//! Why nothing is begun for a caller whose words would do nothing: they were meant to do something.

use camino::Utf8PathBuf;

use super::Code;

/// What a caller has asked for and nothing of this request could do with. Nothing was touched.
///
/// libvirt passes over what is `ReuseExternal` here, and has no word for the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnusedRefusal {
    /// It is said who takes a disk below QEMU, and QEMU is to take it.
    #[error(
        "disk `{0}` is said to be taken by its storage: for that its place is `manual`, and the snapshot no internal one"
    )]
    Provider(String),
    /// A program is to take disks, and there are none for it.
    #[error(
        "no disk is left to `{0}`: it takes those whose place is `manual` and of which nothing else says who takes them"
    )]
    Hook(Utf8PathBuf),
    /// Overlays' files are to be there already, and there is no overlay.
    #[error("no disk gets an overlay, so that there is no file to reuse: leave `reuse-external` out")]
    ReuseExternal,
    /// A file of memory is to be laid out so, and there is none.
    #[error(
        "no memory goes into a file, so that nothing could be sparse: it wants a memory that is external"
    )]
    Sparse,
    /// The guest is said to stand frozen, and there is none.
    #[error("the machine is off: no guest of it can be frozen already")]
    AlreadyFrozen,
}

impl UnusedRefusal {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            UnusedRefusal::Provider(_) => Code::ConfigUnsupported,
            UnusedRefusal::Hook(_)
            | UnusedRefusal::ReuseExternal
            | UnusedRefusal::Sparse
            | UnusedRefusal::AlreadyFrozen => Code::InvalidArg,
        }
    }
}
