//! What a running job still has to do when its timer comes. Jobs hold it and hand it out; they never look inside.

use camino::Utf8PathBuf;

use super::block::{backup::Backup, commit::Commit, mirror::Mirror, stream::Stream};
use crate::host::Backing;

/// What a running job still has to do when its timer comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// All was done within the command: this is how it ended.
    Done(Result<(), String>),
    /// Write the header of a new image.
    WriteHeader(Header),
    /// Move what overlays hold into what is below them.
    Commit(Commit),
    /// Move what is below an overlay into it.
    Stream(Stream),
    /// Let one disk take another's place.
    Mirror(Mirror),
    /// Write what a disk held.
    Backup(Backup),
}

/// A qcow2 header to be written into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// The node that it is written through.
    pub(crate) node: String,
    /// The file.
    pub(crate) path: Utf8PathBuf,
    /// Virtual size in bytes.
    pub(crate) size: u64,
    /// What it names as its backing file.
    pub(crate) backing: Option<Backing>,
}
