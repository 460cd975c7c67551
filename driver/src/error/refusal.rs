//! Why a request is not even begun.

use camino::Utf8PathBuf;

use super::{Code, DeleteRefusal, ImageRefusal, OffRefusal, QuiesceRefusal, RevertRefusal, StorageRefusal};
use crate::{name::BadName, request::CreateFlag, save_image::BadSaveImage};

/// Why a request is not even begun. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is not allowed.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Another machine answers than the one that is described.
    #[error(
        "the machine that answers has the UUID {answers}, and the one that is described {described}: this is another machine's \
         description, or another machine's monitor"
    )]
    AnotherMachine {
        /// What QEMU says.
        answers: String,
        /// What the description says.
        described: String,
    },
    /// The machine that answers is not as it is described.
    #[error(
        "the machine that answers is of the {what} {answers}, and the one that is described of the {what} {described}: this is another \
         machine's description, or it is out of date, and what would be kept could not be started from it"
    )]
    AnotherDescription {
        /// `kind`, `memory`.
        what: &'static str,
        /// What QEMU says.
        answers: String,
        /// What the description says.
        described: String,
    },
    /// Another machine of the same name has left its records.
    #[error(
        "snapshot `{name}` is recorded of a machine with the UUID {recorded}, and this one has {described}: another machine of the same \
         name has its records here; keep this one's in another folder, or forget the other's first"
    )]
    RecordsOfAnother {
        /// A snapshot of it.
        name: String,
        /// Its UUID.
        recorded: String,
        /// The one that the description says.
        described: String,
    },
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
        "the overlay's file `{path}` for disk `{disk}` exists and is not empty: it may be another snapshot's, or in use; choose another, or say \
         `reuse-external`"
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
    /// The firmware's variables belong to the snapshot, and are not found.
    #[error(
        "the firmware's variables belong to an internal snapshot, and `{0}` cannot be read or is not what the machine has them in; use \
         `disk-only`"
    )]
    NvramUnknown(Utf8PathBuf),
    /// A record of that name is there.
    #[error("a snapshot `{0}` is recorded already; delete it or choose another name")]
    Recorded(String),
    /// The tag of an internal snapshot would be mistaken for an id.
    #[error(
        "an internal snapshot cannot be called `{0}`: QEMU looks for ids before names and could load another \
         one; use a name with a letter in it, or of ten digits and more"
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
    #[error(
        "disk `{0}` has no image in the machine: its device is missing or empty; plug it in again or put its image in, or leave it out of a \
         snapshot that is taken (snapshot='no')"
    )]
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
    /// There is no such snapshot, neither in the records nor in the images.
    #[error("no snapshot `{0}`: it is not recorded, and no disk holds an internal one of that name")]
    Unknown(String),
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
    /// QEMU says that it will not let go of the memory.
    #[error("QEMU cannot save the memory of this machine now: {0}; leave the memory out, or what hinders it")]
    MemoryBlocked(String),
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
    /// An overlay that is to be used as it stands is another disk's, or none.
    #[error("`{path}` is there, and is no overlay for disk `{disk}`: {why}")]
    OverlayOfOther {
        /// The disk.
        disk: String,
        /// The overlay.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A disk inside its image, and the memory in a file of its own.
    #[error("disk `{0}` cannot be internal where the memory goes into a file; make it external")]
    InternalBesideMemory(String),
    /// Nothing is taken where a record is handed in.
    #[error("`redefine` hands in a record and takes nothing: it is for the records alone")]
    RecordHandedIn,
    /// libvirt reaches such a disk through another process, which knows nothing of snapshots.
    #[error(
        "disk `{0}` is served by another process (vhost-user), where QEMU takes no snapshot: leave it out"
    )]
    VhostUser(String),
    /// What a wish says of the memory for an overlay's tables is no size.
    #[error("the overlay of disk `{disk}` is to have a metadata cache of `{said}`, which is no size")]
    MetadataCache {
        /// The disk.
        disk: String,
        /// What is said.
        said: String,
    },
    /// What the guest writes to this disk is thrown away when the machine stops, and with it what a snapshot would stand on.
    #[error(
        "what the guest has written to disk `{0}` is thrown away when the machine stops (<transient/>), and a snapshot would \
         stand on it: leave the disk out, or take the snapshot while the machine is off"
    )]
    TransientDisk(String),
    /// The storage below disks that is to take them cannot, or says so.
    #[error("the storage below {disks} cannot take its part of the snapshot: {why}")]
    StorageRefuses {
        /// The disks.
        disks: String,
        /// Why not.
        why: String,
    },
    /// What is asked for would do nothing.
    #[error(transparent)]
    Unused(#[from] super::UnusedRefusal),
    /// It is a revert that cannot be done.
    #[error(transparent)]
    Revert(#[from] RevertRefusal),
    /// It is a deletion that cannot be done.
    #[error(transparent)]
    Delete(#[from] DeleteRefusal),
    /// The machine is off, and it cannot be done with one that is.
    #[error(transparent)]
    Off(#[from] OffRefusal),
    /// Images cannot be worked on.
    #[error(transparent)]
    Image(#[from] ImageRefusal),
    /// Nothing is done to what a storage holds.
    #[error(transparent)]
    Storage(#[from] StorageRefusal),
    /// The guest cannot be brought to rest.
    #[error(transparent)]
    Quiesce(#[from] QuiesceRefusal),
}

impl Refusal {
    /// libvirt's name for it.
    #[allow(clippy::too_many_lines, reason = "a list: a line for each refusal")]
    pub fn code(&self) -> Code {
        match self {
            Refusal::Name(_) => Code::XmlDetail,
            Refusal::FlagsExclude(..)
            | Refusal::FlagNeeds { .. }
            | Refusal::AllDigits(_)
            | Refusal::VmstateElsewhere(_) => Code::InvalidArg,
            Refusal::MemoryWithoutMachine
            | Refusal::MemoryWithoutFile
            | Refusal::MetadataCache { .. }
            | Refusal::BadMemoryPath(_) => Code::XmlError,
            Refusal::NoAgent | Refusal::RecordHandedIn => Code::ArgumentUnsupported,
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
            | Refusal::InternalBesideMemory(_)
            | Refusal::VhostUser(_)
            | Refusal::TransientDisk(_)
            | Refusal::OverlayOfOther { .. } => Code::ConfigUnsupported,
            Refusal::HaltOfTransient
            | Refusal::NoImage(_)
            | Refusal::MemoryWithoutDocument
            | Refusal::MemoryBlocked(_)
            | Refusal::NotOnDisk { .. }
            | Refusal::MachineState { .. }
            | Refusal::StorageRefuses { .. }
            | Refusal::AnotherMachine { .. }
            | Refusal::AnotherDescription { .. }
            | Refusal::RecordsOfAnother { .. } => Code::OperationInvalid,
            Refusal::Revert(refusal) => refusal.code(),
            Refusal::Delete(refusal) => refusal.code(),
            Refusal::Off(refusal) => refusal.code(),
            Refusal::Image(refusal) => refusal.code(),
            Refusal::Quiesce(refusal) => refusal.code(),
            Refusal::Storage(refusal) => refusal.code(),
            Refusal::Unused(refusal) => refusal.code(),
            Refusal::Exists { .. } | Refusal::Recorded(_) => Code::OperationFailed,
            Refusal::NoSuchSnapshot(_) | Refusal::Unknown(_) => Code::NoDomainSnapshot,
            Refusal::LiveWithoutMemory
            | Refusal::GuestSleeps
            | Refusal::InternalWithoutMemory
            | Refusal::BlockJob { .. }
            | Refusal::Passthrough(_)
            | Refusal::DeviceMissing { .. }
            | Refusal::ChainTooLong { .. }
            | Refusal::NvramKeepsNone(_)
            | Refusal::NvramUnknown(_)
            | Refusal::Unsupported(_)
            | Refusal::VmstateNotChoosable(_) => Code::OperationUnsupported,
        }
    }
}
