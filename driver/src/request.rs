//! What a caller asks for.

use std::{collections::BTreeMap, time::Duration};

use camino::Utf8PathBuf;

use crate::name::SnapshotName;

/// How long an operation may take if the caller does not say.
pub const WITHIN: Duration = Duration::from_secs(60);

/// One operation on snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Take one.
    Create(Create),
    /// Put the machine back to an internal one.
    Revert(Revert),
    /// Remove an internal one.
    Delete(Delete),
}

impl Request {
    /// How long it may take until it succeeds or is given up; undoing comes on top.
    pub fn within(&self) -> Duration {
        match self {
            Request::Create(create) => create.within,
            Request::Revert(revert) => revert.within,
            Request::Delete(delete) => delete.within,
        }
    }
}

/// Takes a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// What it is called.
    pub name: SnapshotName,
    /// Which kind.
    pub kind: Kind,
    /// The disks to take part, by target; none means every writable disk.
    pub disks: Vec<String>,
    /// How long it may take.
    pub within: Duration,
}

/// Where a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Inside the images, with the machine's memory.
    Internal {
        /// The disk that takes the memory; none means the first.
        vmstate: Option<String>,
    },
    /// Disks only: the images stay as they are, and the guest goes on in overlays.
    DiskOnly {
        /// The overlay's file by disk; a disk that is not named gets `<its file's stem>.<snapshot name>`.
        files: BTreeMap<String, Utf8PathBuf>,
    },
}

/// Puts machine and disks back to an internal snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    /// Which.
    pub name: SnapshotName,
    /// How long it may take.
    pub within: Duration,
}

/// Removes an internal snapshot from every disk that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Which.
    pub name: SnapshotName,
    /// How long it may take.
    pub within: Duration,
}
