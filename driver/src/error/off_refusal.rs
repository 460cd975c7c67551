//! Why nothing is begun with a machine that is off.

use camino::Utf8PathBuf;

use super::Code;
use crate::request::CreateFlag;

/// Why nothing is begun with a machine that is off. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OffRefusal {
    /// Somebody has an image open: the machine runs, or another one has its disk.
    #[error(
        "the image of disk `{disk}` is in use: the machine is not off, and is reached through its monitor, or another has its disk: {why}"
    )]
    ImageInUse {
        /// The disk.
        disk: String,
        /// The tool's words.
        why: String,
    },
    /// An image cannot be read.
    #[error("the images of disk `{disk}` cannot be read: {why}")]
    ImageUnreadable {
        /// The disk.
        disk: String,
        /// Why not.
        why: String,
    },
    /// Somebody answers where the machine's monitor is to listen.
    #[error("the machine is not off: something listens at `{0}`")]
    MonitorListens(Utf8PathBuf),
    /// The machine's description cannot be read.
    #[error("the machine's description `{path}` cannot be read: {why}")]
    Document {
        /// Its file.
        path: Utf8PathBuf,
        /// Why not.
        why: String,
    },
    /// The description is older than the records.
    #[error(
        "the machine's description has {}: write that into the description, or what was written since is lost",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; it has ")
    )]
    OtherImage(Vec<OldImage>),
    /// The description is not what the records say, and what they say cannot be so.
    #[error(
        "the machine's description has disk `{disk}` in `{file}`, and by its records it went on in `{recorded}`, which {why}: in which \
         image it went on is not known. Look at what the images hold (qemu-img info --backing-chain, qemu-img compare); if the description \
         is right, have the record of `{current}` say so (snapshot edit {current}: `{file}` in the <source> of disk `{disk}` in its \
         <revertDisks>, or in its <disks> if it has none)"
    )]
    WhereUnknown {
        /// The disk.
        disk: String,
        /// Its image by the description.
        file: Utf8PathBuf,
        /// Its image by the records.
        recorded: Utf8PathBuf,
        /// What is wrong with that one.
        why: String,
        /// The current snapshot.
        current: String,
    },
    /// The description states another format than the records.
    #[error(
        "the machine's description says that `{file}` of disk `{disk}` is {described}, and by its records it is {recorded}: opened as \
         {described} it is another disk; write <driver type='{recorded}'/> into the description"
    )]
    OtherFormat {
        /// The disk.
        disk: String,
        /// Its image.
        file: Utf8PathBuf,
        /// Its format by the description.
        described: String,
        /// Its format by the records.
        recorded: String,
    },
    /// A deletion was broken off while the machine ran, in the moment in which the guest leaves an overlay or before it.
    #[error(
        "disk `{disk}`: `{file}` was being merged into `{into}` while the machine ran, and in which of the two the guest went on is not \
         known: what it wrote last is there alone. Copy each as a whole first (qemu-img convert), and keep both copies. If they read the \
         same (qemu-img compare), write `{into}` into the description. If not, see in the copies which of them the guest's file systems \
         were written to last: if it is `{into}`, write that into the description; if it is `{file}`, start the machine as it is \
         described, and delete the snapshot again while it runs"
    )]
    MayHaveMoved {
        /// The disk.
        disk: String,
        /// The overlay, which the description names.
        file: Utf8PathBuf,
        /// The image below it.
        into: Utf8PathBuf,
    },
    /// The same, and the description names the image below, as it may have done all along.
    #[error(
        "disk `{disk}`: `{file}` was being merged into `{into}` while the machine ran, and in which of the two the guest went on is not \
         known: the description may have named `{into}` then too, and what the guest wrote last is in one of them alone. Copy each as a whole \
         first (qemu-img convert), and keep both copies. See in them which the guest's file systems were written to last, start the machine \
         from that one (if they read the same, by qemu-img compare, from `{into}`), and delete the snapshot again while it runs"
    )]
    MayHaveStayed {
        /// The disk.
        disk: String,
        /// The overlay, which the description names.
        file: Utf8PathBuf,
        /// The image below it.
        into: Utf8PathBuf,
    },
    /// A flag that asks something of a machine that runs.
    #[error("the flag `{0}` is for a machine that runs, and this one is off; leave it out")]
    NotRunning(CreateFlag),
    /// The disk is neither in a file nor on a device of the host.
    #[error(
        "disk `{0}` is neither in a file nor on a device of this host: its images cannot be worked on while the machine is off"
    )]
    NotLocal(String),
    /// A saved state would be loaded over other disks.
    #[error(
        "the machine's memory is saved in `{save}`, and would be loaded over the disks of `{name}` when it is started: remove it, or say \
         `force`"
    )]
    ManagedSave {
        /// The snapshot.
        name: String,
        /// The file.
        save: Utf8PathBuf,
    },
    /// Nothing tells what to go back to.
    #[error(
        "no snapshot `{0}` is recorded, and of a machine that is off nothing else tells what to go back to"
    )]
    NotRecorded(String),
    /// The machine is to be started, and nobody has said where its monitor is to listen.
    #[error(
        "to go back to `{0}` the machine has to be started, and it is not said where its monitor is to listen"
    )]
    NoMonitor(String),
    /// The QEMU that was started to be asked what it can do may still run.
    #[error("the QEMU that was started, without disks, to be asked what it can do was not ended: {0}")]
    QemuNotEnded(String),
    /// What the QEMU that is to be started can do is not known.
    #[error(
        "the memory of `{0}` is loaded by QEMU, and what this one can do is not known while it is off; start the machine, then revert"
    )]
    QemuUnknown(String),
}

/// A disk of which the description names an image that the machine has left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("disk `{disk}` in `{file}`, and by its records it went on in `{recorded}`")]
pub struct OldImage {
    /// The disk.
    pub disk: String,
    /// Its image by the description.
    pub file: Utf8PathBuf,
    /// Its image by the records.
    pub recorded: Utf8PathBuf,
}

impl OffRefusal {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        use OffRefusal::{
            Document, ImageInUse, ImageUnreadable, ManagedSave, MayHaveMoved, MayHaveStayed, MonitorListens,
            NoMonitor, NotLocal, NotRecorded, NotRunning, OtherFormat, OtherImage, QemuNotEnded, QemuUnknown,
            WhereUnknown,
        };
        match self {
            OtherImage(_)
            | WhereUnknown { .. }
            | OtherFormat { .. }
            | MayHaveMoved { .. }
            | MayHaveStayed { .. }
            | ImageInUse { .. }
            | MonitorListens(_)
            | NotRunning(_)
            | NotLocal(_) => Code::OperationInvalid,
            ImageUnreadable { .. } | QemuNotEnded(_) => Code::OperationFailed,
            Document { .. } => Code::SystemError,
            NotRecorded(_) => Code::NoDomainSnapshot,
            ManagedSave { .. } => Code::SnapshotRevertRisky,
            NoMonitor(_) | QemuUnknown(_) => Code::OperationUnsupported,
        }
    }
}
