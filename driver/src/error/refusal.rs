//! Why a request is not even begun.

use camino::Utf8PathBuf;

use super::{Code, RevertRefusal};
use crate::{name::BadName, request::CreateFlag, save_image::BadSaveImage};

/// Why a request is not even begun. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is not allowed.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Two flags that do not go together.
    #[error("the flags `{0}` and `{1}` exclude each other")]
    FlagsExclude(CreateFlag, CreateFlag),
    /// A flag that means nothing by itself.
    #[error("the flag `{flag}` needs `{needed}` with it")]
    FlagNeeds {
        /// The flag.
        flag: CreateFlag,
        /// What it needs.
        needed: CreateFlag,
    },
    /// A machine that is forgotten when it stops, to be stopped.
    #[error(
        "the machine is transient: stopped after the snapshot, it would be gone with it; leave `halt` out"
    )]
    HaltOfTransient,
    /// Nobody can bring the guest to rest.
    #[error(
        "no guest agent is configured, so nobody can bring the guest's file systems to rest; leave `quiesce` out"
    )]
    NoAgent,
    /// Memory of a guest that runs on, without a file for it.
    #[error(
        "`live` is for a running machine whose memory goes into a file: <memory snapshot='external' file='...'/>"
    )]
    LiveWithoutMemory,
    /// The guest sleeps.
    #[error("the guest sleeps (pmsuspended); wake it first: its snapshot could not be reverted to")]
    GuestSleeps,
    /// The machine is in a state of which nothing can be kept.
    #[error("no snapshot can be taken of a machine that is `{0}`")]
    BadState(&'static str),
    /// Memory of a machine that is off, or of a snapshot of disks alone.
    #[error("there is no memory to save: the machine is off or only its disks are taken")]
    MemoryWithoutMachine,
    /// The memory is left out of a snapshot inside the images.
    #[error(
        "a running machine's internal snapshot holds its memory; for disks alone use `disk-only`, whose disks are external"
    )]
    InternalWithoutMemory,
    /// More disks are named than there are.
    #[error("{wished} disks are named, and the machine has {has}")]
    TooManyDisks {
        /// As many are named.
        wished: usize,
        /// As many there are.
        has: usize,
    },
    /// One disk is to be taken otherwise than the others of an internal snapshot.
    #[error("disk `{disk}` cannot be {asked} in an internal snapshot: all its disks are internal")]
    MustBeInternal {
        /// The disk.
        disk: String,
        /// What was asked for.
        asked: &'static str,
    },
    /// A file for a disk that gets no overlay.
    #[error("the file `{path}` for disk `{disk}` is of use to an external snapshot only")]
    FileUnused {
        /// The disk.
        disk: String,
        /// The file.
        path: Utf8PathBuf,
    },
    /// An overlay in a format that keeps no backing file, or that is not written here.
    #[error("disk `{disk}` cannot go on in an overlay of format {format}; use qcow2")]
    OverlayFormat {
        /// The disk.
        disk: String,
        /// What was asked for.
        format: String,
    },
    /// An overlay on something that is neither file nor block device.
    #[error("disk `{disk}` cannot go on in an overlay on a `{source_type}`; use a file or a block device")]
    OverlayType {
        /// The disk.
        disk: String,
        /// What was asked for.
        source_type: &'static str,
    },
    /// No name for an overlay can be made up.
    #[error("no file name can be made up for the overlay of disk `{disk}`: {why}; say where it is to be")]
    NameNotGenerated {
        /// The disk.
        disk: String,
        /// Why not.
        why: String,
    },
    /// Inside and outside the images in one snapshot.
    #[error(
        "disks `{internal}` (internal) and `{external}` (external) cannot be in one snapshot; choose one kind"
    )]
    Mixed {
        /// A disk that is to be internal.
        internal: String,
        /// A disk that is to be external.
        external: String,
    },
    /// A disk of a disk-only snapshot of a running machine is to be internal.
    #[error("disk `{0}` of a running machine cannot be internal in a disk-only snapshot; use external")]
    InternalDiskOnly(String),
    /// A job works on the disk.
    #[error("a block job ({filter}) works on disk `{disk}`; wait for it or cancel it")]
    BlockJob {
        /// The disk.
        disk: String,
        /// The filter node that the job put in.
        filter: String,
    },
    /// The guest has the device itself.
    #[error("disk `{0}` is a SCSI device passed through to the guest: there is no place for an overlay")]
    Passthrough(String),
    /// Other machines write the disk too.
    #[error("disk `{0}` is shared with other machines, which would not see what is written to an overlay")]
    Shared(String),
    /// Something is where the overlay is to be.
    #[error(
        "the overlay's file `{path}` for disk `{disk}` exists and is not empty; remove it, choose another, or say `reuse-external`"
    )]
    FileExists {
        /// The disk.
        disk: String,
        /// The file.
        path: Utf8PathBuf,
    },
    /// The file that is to be used again is not there.
    #[error(
        "the file `{path}` that disk `{disk}` is to go on in does not exist, and `reuse-external` makes none"
    )]
    FileMissing {
        /// The disk.
        disk: String,
        /// The file.
        path: Utf8PathBuf,
    },
    /// The block device is not there.
    #[error("the block device `{path}` that disk `{disk}` is to go on in does not exist")]
    DeviceMissing {
        /// The disk.
        disk: String,
        /// The device.
        path: Utf8PathBuf,
    },
    /// A file where a device was said to be, or the other way round.
    #[error("disk `{disk}` is to go on in a {said}, and `{path}` is none")]
    OtherKind {
        /// The disk.
        disk: String,
        /// `file` or `block device`.
        said: &'static str,
        /// What is there.
        path: Utf8PathBuf,
    },
    /// The chain is too long.
    #[error("disk `{disk}` has {depth} images in its chain; 200 is the most: merge some first")]
    ChainTooLong {
        /// The disk.
        disk: String,
        /// How many.
        depth: usize,
    },
    /// The firmware's variables cannot be kept inside their file.
    #[error(
        "the firmware's variables are in a {0} file, which keeps no internal snapshot: a machine put back would find newer ones"
    )]
    NvramKeepsNone(String),
    /// A record of that name is there.
    #[error("a snapshot `{0}` is recorded already; delete it or choose another name")]
    Recorded(String),
    /// The tag of an internal snapshot would be mistaken for an id.
    #[error(
        "an internal snapshot cannot be called `{0}`: QEMU looks for ids before names and could load another \
         one; use a name that is not all digits"
    )]
    AllDigits(String),
    /// The domain has no such disk.
    #[error("no disk `{disk}` in {domain}; its disks are: {}", .known.join(", "))]
    NoSuchDisk {
        /// What was asked for.
        disk: String,
        /// The machine.
        domain: String,
        /// The disks that it has.
        known: Vec<String>,
    },
    /// QEMU has no such device, or nothing is in it.
    #[error("disk `{0}` has no image in the running machine: the device is missing or empty")]
    NoImage(String),
    /// A disk was named twice.
    #[error("disk `{0}` is named twice")]
    DiskTwice(String),
    /// Two disks would share one overlay.
    #[error("disks `{0}` and `{1}` would have the same overlay `{2}`")]
    SameFile(String, String, Utf8PathBuf),
    /// A disk that was named cannot be written.
    #[error(
        "disk `{0}` is read-only: the guest cannot change it, so there is nothing to snapshot; leave it out"
    )]
    ReadOnly(String),
    /// No disk is left to snapshot.
    #[error("no disk to snapshot: the machine has no writable disk, or none was selected")]
    NothingSelected,
    /// A full snapshot must hold every disk that the guest writes.
    #[error(
        "disk `{0}` is writable but not selected: a full snapshot holds all writable disks, or the memory would \
         not fit the disks"
    )]
    MustTakeAll(String),
    /// The format keeps no internal snapshots.
    #[error("disk `{disk}` has the format {format}, which keeps no internal snapshots; only qcow2 does")]
    FormatKeepsNone {
        /// The disk.
        disk: String,
        /// Its format.
        format: String,
    },
    /// The disk for the memory takes no part.
    #[error("disk `{0}` is to hold the memory but is not among the disks of the snapshot")]
    VmstateElsewhere(String),
    /// The name is taken.
    #[error("disk `{disk}` already has an internal snapshot `{name}`; delete it or choose another name")]
    Exists {
        /// The name.
        name: String,
        /// A disk that has it.
        disk: String,
    },
    /// There is no such snapshot.
    #[error("no internal snapshot `{0}` on any disk")]
    NoSuchSnapshot(String),
    /// A disk lacks it.
    #[error(
        "snapshot `{name}` is not on disk `{disk}`: reverting the others alone would tear the disks apart"
    )]
    NotOnDisk {
        /// The name.
        name: String,
        /// The disk without it.
        disk: String,
    },
    /// It has no memory, or memory on two disks.
    #[error(
        "snapshot `{name}` has machine state on {found} disks; exactly one is needed to revert a running machine"
    )]
    MachineState {
        /// The name.
        name: String,
        /// How many disks hold machine state under it.
        found: usize,
    },
    /// This QEMU lacks commands.
    #[error("this QEMU cannot do it: it has no {}", .0.join(", "))]
    Unsupported(Vec<&'static str>),
    /// The human monitor cannot select disks.
    #[error(
        "this QEMU takes internal snapshots only by `savevm`, which puts the memory on disk `{0}`: it cannot be chosen"
    )]
    VmstateNotChoosable(String),
    /// The memory is to go into a file, and none is named.
    #[error("an external snapshot of the memory needs a file for it")]
    MemoryWithoutFile,
    /// Nothing describes the machine whose memory it is.
    #[error(
        "the memory can only be loaded by a machine that is built alike, and nothing describes this one: give its `<domain>`"
    )]
    MemoryWithoutDocument,
    /// The path has no folder or no name.
    #[error("`{0}` cannot be the file of the memory: it must be an absolute path to a file")]
    BadMemoryPath(Utf8PathBuf),
    /// The file holds something.
    #[error(
        "the memory's file `{0}` exists and is not empty: it may be another snapshot's; choose another, or remove it"
    )]
    MemoryFileExists(Utf8PathBuf),
    /// Something else is at that path.
    #[error("`{0}` is no regular file: the memory cannot be saved in it")]
    MemoryNoFile(Utf8PathBuf),
    /// Memory and overlay in one file.
    #[error("`{path}` cannot hold the memory: it is to be the overlay of disk `{disk}`")]
    MemoryFileIsOverlay {
        /// The disk.
        disk: String,
        /// The file.
        path: Utf8PathBuf,
    },
    /// What is to stand before the memory cannot be written.
    #[error("the memory cannot be saved: {0}")]
    SaveImage(BadSaveImage),
    /// The path of an overlay has no folder or no name.
    #[error("`{0}` cannot be the file of an overlay: it must be an absolute path to a file")]
    BadOverlayPath(Utf8PathBuf),
    /// Two flags of a deletion that do not go together.
    #[error("the flags `children` and `children-only` exclude each other")]
    ChildrenTwice,
    /// A flag that is about records, of a snapshot without one.
    #[error("no snapshot `{0}` is recorded, so it has neither children nor a record that could be removed")]
    NotRecorded(String),
    /// A snapshot that is to be deleted together with others is external.
    #[error(
        "snapshot `{0}` is external and cannot be deleted together with others; delete them one by one, the newest first"
    )]
    ExternalAmongMany(String),
    /// An internal snapshot is in an image that lies below the one in use.
    #[error(
        "internal snapshot `{name}` is in `{file}`, which disk `{disk}` does not write to now: QEMU cannot delete it there"
    )]
    InternalBelow {
        /// The snapshot.
        name: String,
        /// The disk.
        disk: String,
        /// The image that holds it.
        file: Utf8PathBuf,
    },
    /// More than one line of snapshots begins at an external one.
    #[error(
        "more than one branch begins at snapshot `{0}`: merging it would change what the others are based on; delete them first"
    )]
    Branches(String),
    /// Another deletion was begun.
    #[error("the deletion of snapshot `{0}` was begun and is not finished; delete that one first")]
    DeletionUnfinished(String),
    /// The running machine does not use the snapshot's overlay.
    #[error(
        "snapshot `{name}` put disk `{disk}` in `{file}`, which is not in its chain now; revert to a snapshot of that \
         branch first, or remove the record alone with `metadata`"
    )]
    NotInChain {
        /// The snapshot.
        name: String,
        /// The disk.
        disk: String,
        /// The overlay.
        file: Utf8PathBuf,
    },
    /// An overlay has nothing below it any more.
    #[error("disk `{disk}` has no image below `{file}` that it could be merged into")]
    NothingBelow {
        /// The disk.
        disk: String,
        /// The overlay.
        file: Utf8PathBuf,
    },
    /// An overlay holds internal snapshots.
    #[error(
        "`{file}` of disk `{disk}` holds the internal snapshot `{held}`, which would be lost with it; delete that one first"
    )]
    HoldsInternal {
        /// The disk.
        disk: String,
        /// The overlay.
        file: Utf8PathBuf,
        /// The internal snapshot.
        held: String,
    },
    /// The snapshot before is inside the image that would be merged into.
    #[error(
        "snapshot `{parent}`, from which `{name}` descends, is inside the image of disk `{disk}` that would be written to; \
         delete `{parent}` first"
    )]
    InternalParent {
        /// The snapshot that is to be deleted.
        name: String,
        /// The one before it.
        parent: String,
        /// A disk of both.
        disk: String,
    },
    /// Another snapshot's overlay is, or may be, based on an image that would change or go.
    #[error(
        "`{file}` of disk `{disk}` is below an overlay of snapshot `{by}` too, which is not in use and would be left with a \
         changed or missing image; delete `{by}` first"
    )]
    OtherBranch {
        /// The disk.
        disk: String,
        /// The image.
        file: Utf8PathBuf,
        /// The other snapshot.
        by: String,
    },
    /// An image belongs to more than one chain, or it is not known by which node it is opened.
    #[error(
        "`{file}` of disk `{disk}` is opened by {nodes} nodes or chains; an image that is merged must be one disk's alone"
    )]
    ImageShared {
        /// The disk.
        disk: String,
        /// The image.
        file: Utf8PathBuf,
        /// How many nodes or chains have it.
        nodes: usize,
    },
    /// A bitmap would be lost.
    #[error(
        "bitmap `{bitmap}` is kept in `{file}` of disk `{disk}` and would be lost with it, and with it the next incremental \
         backup; remove it first"
    )]
    BitmapLost {
        /// The disk.
        disk: String,
        /// The overlay.
        file: Utf8PathBuf,
        /// The bitmap.
        bitmap: String,
    },
    /// It is a revert that cannot be done.
    #[error(transparent)]
    Revert(#[from] RevertRefusal),
}

impl Refusal {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            Refusal::Name(_) => Code::XmlDetail,
            Refusal::FlagsExclude(..)
            | Refusal::FlagNeeds { .. }
            | Refusal::AllDigits(_)
            | Refusal::VmstateElsewhere(_)
            | Refusal::ChildrenTwice => Code::InvalidArg,
            Refusal::MemoryWithoutMachine | Refusal::MemoryWithoutFile | Refusal::BadMemoryPath(_) => {
                Code::XmlError
            }
            Refusal::NoAgent => Code::ArgumentUnsupported,
            Refusal::BadState(_) => Code::InternalError,
            Refusal::BlockJob { filter, .. } if filter == "mirror_top" => Code::BlockCopyActive,
            Refusal::FileMissing { .. } => Code::SystemError,
            Refusal::TooManyDisks { .. }
            | Refusal::MustBeInternal { .. }
            | Refusal::FileUnused { .. }
            | Refusal::OverlayFormat { .. }
            | Refusal::OverlayType { .. }
            | Refusal::NameNotGenerated { .. }
            | Refusal::Mixed { .. }
            | Refusal::InternalDiskOnly(_)
            | Refusal::Shared(_)
            | Refusal::FileExists { .. }
            | Refusal::MemoryFileExists(_)
            | Refusal::MemoryNoFile(_)
            | Refusal::MemoryFileIsOverlay { .. }
            | Refusal::SaveImage(_)
            | Refusal::OtherKind { .. }
            | Refusal::NoSuchDisk { .. }
            | Refusal::DiskTwice(_)
            | Refusal::SameFile(..)
            | Refusal::ReadOnly(_)
            | Refusal::NothingSelected
            | Refusal::MustTakeAll(_)
            | Refusal::FormatKeepsNone { .. }
            | Refusal::BadOverlayPath(_)
            | Refusal::ExternalAmongMany(_) => Code::ConfigUnsupported,
            Refusal::HaltOfTransient
            | Refusal::NoImage(_)
            | Refusal::MemoryWithoutDocument
            | Refusal::NotOnDisk { .. }
            | Refusal::MachineState { .. }
            | Refusal::DeletionUnfinished(_) => Code::OperationInvalid,
            Refusal::Revert(refusal) => refusal.code(),
            Refusal::Exists { .. } | Refusal::Recorded(_) => Code::OperationFailed,
            Refusal::NoSuchSnapshot(_) | Refusal::NotRecorded(_) => Code::NoDomainSnapshot,
            Refusal::LiveWithoutMemory
            | Refusal::GuestSleeps
            | Refusal::InternalWithoutMemory
            | Refusal::BlockJob { .. }
            | Refusal::Passthrough(_)
            | Refusal::DeviceMissing { .. }
            | Refusal::ChainTooLong { .. }
            | Refusal::NvramKeepsNone(_)
            | Refusal::Unsupported(_)
            | Refusal::VmstateNotChoosable(_)
            | Refusal::InternalBelow { .. }
            | Refusal::Branches(_)
            | Refusal::NotInChain { .. }
            | Refusal::NothingBelow { .. }
            | Refusal::HoldsInternal { .. }
            | Refusal::InternalParent { .. }
            | Refusal::OtherBranch { .. }
            | Refusal::ImageShared { .. }
            | Refusal::BitmapLost { .. } => Code::OperationUnsupported,
        }
    }
}
