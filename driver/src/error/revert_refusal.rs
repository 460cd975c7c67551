//! Why a revert is not even begun.

use camino::Utf8PathBuf;

use super::Code;
use crate::request::RevertFlag;

/// Why a revert is not even begun. Nothing was touched: a machine that runs runs on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevertRefusal {
    /// Two flags of a revert that do not go together.
    #[error("the flags `{0}` and `{1}` exclude each other")]
    FlagsExclude(RevertFlag, RevertFlag),
    /// A flag that means nothing by itself.
    #[error("the flag `{flag}` needs `{needed}` with it")]
    FlagNeeds {
        /// The flag.
        flag: RevertFlag,
        /// What it needs.
        needed: RevertFlag,
    },
    /// Others descend from a snapshot whose later changes are to go.
    #[error(
        "snapshots {} descend from `{name}` and stand on what would be discarded: say `delete-children` to delete them too, or leave \
         `discard` out",
        .snapshots.join(", ")
    )]
    StandOnDiscarded {
        /// The snapshot.
        name: String,
        /// Those that descend from it.
        snapshots: Vec<String>,
    },
    /// An image that stays stands on one that is to go.
    #[error(
        "`{above}` stands on `{file}` of disk `{disk}`, which would be discarded, and belongs to no snapshot that goes with it: merge it \
         first, or leave `discard` out"
    )]
    ImageOnDiscarded {
        /// The disk.
        disk: String,
        /// What is to go.
        file: Utf8PathBuf,
        /// What stands on it.
        above: Utf8PathBuf,
    },
    /// The record does not say what machine it is of.
    #[error("the record of `{0}` lacks the machine's <domain>: nobody can tell what machine to go back to")]
    NoRollbackInfo(String),
    /// A snapshot of a machine that was off, and one that runs.
    #[error("`{0}` was taken of a machine that was off, and this one runs: say `force` to end it")]
    EndsTheMachine(String),
    /// The snapshot's machine is not the one that runs.
    #[error(
        "the machine that runs is not the one of `{name}`: {difference}; see that the monitor is this machine's own, and say `force` to end \
         it and start the other"
    )]
    OtherMachine {
        /// The snapshot.
        name: String,
        /// Where they differ.
        difference: String,
    },
    /// The memory is of another machine than the record.
    #[error("the memory in `{path}` is not of the machine that the record describes: {difference}")]
    MemoryOfOther {
        /// The save image.
        path: Utf8PathBuf,
        /// Where they differ.
        difference: String,
    },
    /// The memory cannot be loaded.
    #[error("the memory in `{path}` cannot be loaded: {why}")]
    MemoryUnusable {
        /// The save image.
        path: Utf8PathBuf,
        /// Why not.
        why: String,
    },
    /// A machine that is forgotten when it stops would stop.
    #[error("the machine is transient, and `{0}` would leave it off: say `running` or `paused`")]
    OffOfTransient(String),
    /// The guest slept.
    #[error("the guest slept (pmsuspended) when `{0}` was taken: such a snapshot cannot be reverted to")]
    Slept(String),
    /// The state in the record is none that a machine can be put back to.
    #[error("the record of `{name}` says that the machine was `{state}`: nobody can put it back to that")]
    NoGoal {
        /// The snapshot.
        name: String,
        /// The state.
        state: &'static str,
    },
    /// A block job works on a disk that is to be put back.
    #[error("a block job ({filter}) works on disk `{disk}`; wait for it or cancel it before you revert")]
    JobOnRevert {
        /// The disk.
        disk: String,
        /// The filter node that the job put in.
        filter: String,
    },
    /// Nobody can start the machine.
    #[error("to go back to `{0}` a new QEMU has to be started, and no launcher is given")]
    NoLauncher(String),
    /// The launcher cannot start this machine.
    #[error("the machine of `{name}` cannot be started: {why}")]
    CannotLaunch {
        /// The snapshot.
        name: String,
        /// Why not.
        why: String,
    },
    /// A disk that is no file gets no overlay of a name that is made up.
    #[error("the image of disk `{0}` is no file, so no overlay can be made beside it")]
    SourceNotFile(String),
    /// The image of the snapshot is not there.
    #[error("the image `{path}` of disk `{disk}` is not there, or is no regular file")]
    ImageMissing {
        /// The disk.
        disk: String,
        /// The image.
        path: Utf8PathBuf,
    },
    /// The guest writes to the image of the snapshot.
    #[error(
        "the guest writes to `{path}`, which the record holds for the image of disk `{disk}` at that time"
    )]
    ImageWritten {
        /// The disk.
        disk: String,
        /// The image.
        path: Utf8PathBuf,
    },
    /// What is behind an image cannot be found out.
    #[error("the images of the snapshot cannot be read: {0}")]
    Chain(String),
    /// Later snapshots hold a disk in what the caller puts back.
    #[error(
        "snapshots {} hold disk `{disk}` in `{file}` or on it, which the caller puts back: what they hold is lost with that. To give it up \
         say `discard` and `delete-children`, which takes those that descend from this one; have another one's record forgotten first \
         (delete with `metadata`). To keep them, leave the storage as it is, or put it back to what it was",
        .snapshots.join(", ")
    )]
    HeldInWhatGoesBack {
        /// The disk.
        disk: String,
        /// Its image.
        file: Utf8PathBuf,
        /// The snapshots.
        snapshots: Vec<String>,
    },
    /// Disks that the caller has to put back.
    #[error(
        "disks {} were taken by the caller, who has to put their storage back first and to say so (`storage-is-back`)",
        .0.join(", ")
    )]
    ManualDisks(Vec<String>),
    /// The firmware's variables cannot be made anew.
    #[error("the firmware's variables `{file}` cannot be made anew: {why}")]
    CannotResetNvram {
        /// Their file.
        file: Utf8PathBuf,
        /// Why not.
        why: String,
    },
    /// It is in an image of a branch that the machine has left.
    #[error(
        "internal snapshot `{name}` is in `{file}` of disk `{disk}`, which the machine has left for another branch, and from there it is \
         not gone back to; to give up what the machine is in now, end it, make `{name}` the current one (`current --set`), say `{file}` \
         in the machine's description, go back then, and remove the overlays that it was in"
    )]
    OnAnotherBranch {
        /// The snapshot.
        name: String,
        /// The disk.
        disk: String,
        /// The image that holds it.
        file: Utf8PathBuf,
    },
    /// An overlay stands on the image that holds it.
    #[error(
        "internal snapshot `{name}` is in `{file}`, on which an overlay of disk `{disk}` stands that would be torn from what it is \
         based on; to give up all that was written since, end the machine, forget the snapshots above with `delete --metadata`, say \
         `{file}` in the machine's description, and remove the overlays"
    )]
    OverlayAbove {
        /// The snapshot.
        name: String,
        /// The disk.
        disk: String,
        /// The image.
        file: Utf8PathBuf,
    },
    /// A recorded snapshot's overlay, which the machine is not in, stands on the image that holds it.
    #[error(
        "internal snapshot `{name}` is in `{file}` of disk `{disk}`, and by the records `{above}`, the overlay of snapshot `{by}`, stands \
         on that: going back would change what it reads; if the machine is to be in `{above}`, start it from there; if not, forget \
         `{by}` with `delete {by} --metadata`"
    )]
    RecordedAbove {
        /// The snapshot.
        name: String,
        /// The disk.
        disk: String,
        /// The image.
        file: Utf8PathBuf,
        /// The overlay.
        above: Utf8PathBuf,
        /// The snapshot whose overlay it is.
        by: String,
    },
    /// The overlay of a `<transient/>` disk would go with the machine, and somebody may miss it.
    #[error(
        "the machine would be ended, and with it would go `{file}`, the overlay of the <transient/> disk `{disk}`: {why}"
    )]
    OverlayKept {
        /// The disk.
        disk: String,
        /// The overlay.
        file: Utf8PathBuf,
        /// Who may miss it.
        why: String,
    },
}

impl RevertRefusal {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        use RevertRefusal::{
            CannotLaunch, CannotResetNvram, Chain, EndsTheMachine, FlagNeeds, FlagsExclude,
            HeldInWhatGoesBack, ImageMissing, ImageOnDiscarded, ImageWritten, JobOnRevert, ManualDisks,
            MemoryOfOther, MemoryUnusable, NoGoal, NoLauncher, NoRollbackInfo, OffOfTransient,
            OnAnotherBranch, OtherMachine, OverlayAbove, OverlayKept, RecordedAbove, Slept, SourceNotFile,
            StandOnDiscarded,
        };
        match self {
            FlagsExclude(..) | FlagNeeds { .. } => Code::InvalidArg,
            NoGoal { .. } => Code::InternalError,
            ImageMissing { .. } | CannotLaunch { .. } | MemoryOfOther { .. } => Code::ConfigUnsupported,
            OffOfTransient(_)
            | JobOnRevert { .. }
            | ImageWritten { .. }
            | ManualDisks(_)
            | HeldInWhatGoesBack { .. }
            | StandOnDiscarded { .. } => Code::OperationInvalid,
            NoRollbackInfo(_) | EndsTheMachine(_) | OtherMachine { .. } => Code::SnapshotRevertRisky,
            Chain(_) | MemoryUnusable { .. } => Code::OperationFailed,
            OverlayAbove { .. }
            | OnAnotherBranch { .. }
            | RecordedAbove { .. }
            | OverlayKept { .. }
            | ImageOnDiscarded { .. }
            | Slept(_)
            | NoLauncher(_)
            | SourceNotFile(_)
            | CannotResetNvram { .. } => Code::OperationUnsupported,
        }
    }
}
