//! Why a snapshot of disks is not to be had.

use camino::Utf8PathBuf;

use super::By;
use crate::{
    error::{Code, OperationError},
    name::{BadName, SnapshotName},
    qemu_img::ToolError,
    storage::{Method, StorageError},
};

/// Why a snapshot of disks is not to be had. But for [`DiskError::Operation`] nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// No disk is named. Nothing was run.
    #[error("no disk is named")]
    NoDisk,
    /// The machine has no such disk. Nothing was run.
    #[error("the machine has no disk `{target}`")]
    UnknownDisk {
        /// What was asked for.
        target: String,
    },
    /// Nothing says which storage takes the disk's snapshots. Nothing was run.
    #[error(
        "nothing says who takes snapshots of {target}: state a method, or give the disk a <diskSnapshot method='...'>"
    )]
    NoMethod {
        /// The disk.
        target: String,
    },
    /// The word for the method is none. Nothing was run.
    #[error("{target}: `{word}` is {why}")]
    UnknownMethod {
        /// The disk.
        target: String,
        /// What was stated.
        word: String,
        /// What is wrong with it.
        why: String,
    },
    /// The word for where its snapshots go is none for it. Nothing was run.
    #[error(
        "{target}: a snapshot cannot be `{word}`: by qemu it is external or internal, by a storage it is the storage's"
    )]
    UnknownPlace {
        /// The disk.
        target: String,
        /// What was stated.
        word: String,
    },
    /// The word for how much the guest's rest is needed is none. Nothing was run.
    #[error("{target}: `quiesce` cannot be `{word}`: it is required, best-effort or no")]
    UnknownRest {
        /// The disk.
        target: String,
        /// What was stated.
        word: String,
    },
    /// The method needs to be told more. Nothing was run.
    #[error("{target}: the method {method} needs {what}")]
    Missing {
        /// The disk.
        target: String,
        /// The method.
        method: Method,
        /// What it needs.
        what: &'static str,
    },
    /// What is said is another method's. Nothing was run.
    #[error("{target}: the method {by} knows no `{word}`, which is {whose}")]
    OtherMethods {
        /// The disk.
        target: String,
        /// Who takes its snapshots.
        by: By,
        /// What was said.
        word: &'static str,
        /// Whose it is.
        whose: &'static str,
    },
    /// Several disks that this storage cannot catch at one point in time. Nothing was run.
    #[error("{} cannot be caught at one point in time: {why}", .targets.join(" "))]
    NotTogether {
        /// The disks.
        targets: Vec<String>,
        /// Why not.
        why: &'static str,
    },
    /// Somebody has a disk's image open, which is to be put back.
    #[error("{target} is in use: {why}")]
    InUse {
        /// The disk.
        target: String,
        /// Who says so.
        why: String,
    },
    /// Whether somebody has a disk's image open, or what is behind it, cannot be told.
    #[error("how {target} stands cannot be told: {why}")]
    Unsure {
        /// The disk.
        target: String,
        /// Why not.
        why: ToolError,
    },
    /// The disk is in another image by now than the machine's document names. Nothing was run that changes anything.
    #[error(
        "{target} is not in {image} any more: it is read there, and written nowhere, so that an overlay stands on it; say by the \
         machine's document where the disk is now"
    )]
    MovedOn {
        /// The disk.
        target: String,
        /// What the document names.
        image: Utf8PathBuf,
    },
    /// No backup can read the disk in that snapshot. Nothing was run that changes anything.
    #[error("no backup reads {target}: {why}")]
    NotRead {
        /// The disk.
        target: String,
        /// Why not.
        why: String,
    },
    /// The disk is not in what is to be put back: it has come there since, or is a link that led elsewhere. Nothing was run that changes
    /// anything.
    #[error("{target} cannot be put back: {why}")]
    NotHeld {
        /// The disk.
        target: String,
        /// Why not.
        why: String,
    },
    /// More than these disks lies on what is to be put back. Nothing was run that changes anything.
    #[error(
        "{volume} goes back as a whole, and with it {}: name the disks that are meant too, and let nobody use the rest",
        .others.join("; ")
    )]
    LiesThereToo {
        /// What is to be put back.
        volume: String,
        /// What else lies there.
        others: Vec<String>,
    },
    /// What else lies on what is to be put back cannot be told. Nothing was run that changes anything.
    #[error("{volume} goes back as a whole, and what else lies there cannot be told: {why}")]
    Beside {
        /// What is to be put back.
        volume: String,
        /// Why not.
        why: String,
    },
    /// The snapshot's name is none. Nothing was run.
    #[error(transparent)]
    Name(#[from] BadName),
    /// QEMU takes the disk's snapshots, and no storage does. Nothing was run.
    #[error("{target}: QEMU takes its snapshots, and not the storage below it")]
    ByQemu {
        /// The disk.
        target: String,
    },
    /// QEMU's snapshots stand among the machine's records, and none are kept. Nothing was run.
    #[error("snapshots by QEMU stand among the machine's records: say where those are")]
    NoRecords,
    /// There is such a snapshot, and it is of other disks too, of others, or of the machine's memory. Nothing was run.
    #[error("`{name}` is no snapshot of exactly {}: it is one of the machine's", .targets.join(" "))]
    OfOthers {
        /// The snapshot.
        name: SnapshotName,
        /// The disks.
        targets: Vec<String>,
    },
    /// What a backup would read cannot be served. Nothing was run that changes anything.
    #[error("{target} cannot be exported: {why}")]
    NotExported {
        /// The disk.
        target: String,
        /// Why not.
        why: String,
    },
    /// What QEMU serves could not be ended.
    #[error("what QEMU serves at `{socket}` could not be ended: {why}; end it by nbd-server-stop")]
    ExportLeft {
        /// Where it listens.
        socket: Utf8PathBuf,
        /// Why not.
        why: String,
    },
    /// The storage refuses, or could not be asked.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It was refused, or a step of it failed; it says how things stand.
    #[error(transparent)]
    Operation(#[from] Box<OperationError>),
}

impl From<OperationError> for DiskError {
    fn from(error: OperationError) -> Self {
        DiskError::Operation(Box::new(error))
    }
}

impl DiskError {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            DiskError::Name(_)
            | DiskError::NoDisk
            | DiskError::UnknownDisk { .. }
            | DiskError::UnknownPlace { .. }
            | DiskError::UnknownRest { .. }
            | DiskError::OtherMethods { .. }
            | DiskError::UnknownMethod { .. } => Code::InvalidArg,
            DiskError::NoMethod { .. }
            | DiskError::ByQemu { .. }
            | DiskError::Missing { .. }
            | DiskError::NoRecords => Code::ConfigUnsupported,
            DiskError::NotTogether { .. } | DiskError::NotRead { .. } | DiskError::NotHeld { .. } => {
                Code::OperationUnsupported
            }
            DiskError::InUse { .. }
            | DiskError::MovedOn { .. }
            | DiskError::LiesThereToo { .. }
            | DiskError::OfOthers { .. } => Code::OperationInvalid,
            DiskError::Unsure { .. }
            | DiskError::Beside { .. }
            | DiskError::NotExported { .. }
            | DiskError::ExportLeft { .. } => Code::OperationFailed,
            DiskError::Storage(error) => error.code(),
            DiskError::Operation(error) => error.code(),
        }
    }
}
