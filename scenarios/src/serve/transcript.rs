//! The transcript of a served machine, written line by line as it goes.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "the thin shell that writes one real file"
)]

use std::{fs::File, io, io::Write as _};

use camino::{Utf8Path, Utf8PathBuf};

use crate::transcript::{Lines, Record, render_line};

/// The width of a lane: a step of a driver, as a rule.
const LANE: usize = 16;

/// Turns what is noted into lines of a file.
pub(super) struct Writer {
    file: File,
    path: Utf8PathBuf,
    lines: Lines,
}

impl Writer {
    /// A new transcript, in place of what the file held. `folder` is the machine's own.
    pub(super) fn create(path: &Utf8Path, folder: &Utf8Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, path: path.to_owned(), lines: Lines::new(folder) })
    }
}

/// Follows a record with a file. Dropped, it writes what was noted last: a signal may end the command at any moment.
pub(super) struct Transcript {
    record: Record,
    /// None: what is noted is let go.
    writer: Option<Writer>,
}

impl Transcript {
    pub(super) fn new(record: Record, writer: Option<Writer>) -> Self {
        Self { record, writer }
    }

    /// Writes what is noted for as long as it is run. Never ends.
    pub(super) async fn follow(mut self) {
        loop {
            self.record.noted().await;
            self.write();
        }
    }

    fn write(&mut self) {
        let entries = self.record.take();
        let Some(open) = &mut self.writer else { return };
        for (at, entry) in entries {
            let line = open.lines.line(at, &entry);
            if let Err(error) = open.file.write_all(render_line(&line, LANE).as_bytes()) {
                eprintln!("the transcript {} ends here: {error}", open.path);
                self.writer = None;
                return;
            }
        }
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        self.write();
    }
}
