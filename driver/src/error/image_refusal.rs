//! Why images cannot be worked on: they are not this machine's for now, or it is not known how they stand.

use camino::{Utf8Path, Utf8PathBuf};

use super::Code;

/// Why images cannot be worked on. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefusal {
    /// The images are another machine's for now.
    #[error(
        "the images, among them that of disk `{0}`, are given away: the machine's state has been saved or sent, and its guest has \
         not gone on since; unless another machine has them by now, let it go on (`cont`) and it has them back"
    )]
    GivenAway(String),
    /// The machine's state has left already.
    #[error(
        "the machine's memory has been saved or sent already and its guest has not gone on since: QEMU saves it once; let it go \
         on (`cont`) first, unless another machine has it"
    )]
    StateHasLeft,
    /// The description names an image that the running machine does not have.
    #[error(
        "the description says that disk `{disk}` is in `{file}`, and no device of the running machine is{}: the description is old; \
         write there what the disk is in now, or the id of its device (`<alias name='...'/>`)",
        instead(.others)
    )]
    NotOpen {
        /// The disk.
        disk: String,
        /// What the description says.
        file: Utf8PathBuf,
        /// The images of devices that are no disk of the description's.
        others: Vec<Utf8PathBuf>,
    },
    /// The machine that runs lacks a device that is described.
    #[error(
        "disk `{disk}` is described, and the running machine has no device `{device}`: plug it in, or take the disk out of the \
         description"
    )]
    NotPlugged {
        /// The disk.
        disk: String,
        /// The id of its device.
        device: String,
    },
    /// The machine that runs has a device that is not described.
    #[error(
        "the running machine has a disk that is not described: its device `{device}` is in `{file}`; describe it, with snapshot='no' where \
         it is to be left out, or unplug it"
    )]
    Undescribed {
        /// What QEMU calls the device.
        device: String,
        /// Its image.
        file: Utf8PathBuf,
    },
    /// The format of an image is described otherwise than QEMU has it open.
    #[error(
        "the description says that `{file}` of disk `{disk}` is {described}, and QEMU has it open as {open}: the machine would be started \
         anew with another disk; write {open} into the description (<driver type='{open}'/>)"
    )]
    OtherFormat {
        /// The disk.
        disk: String,
        /// The image.
        file: Utf8PathBuf,
        /// The format that is described.
        described: String,
        /// The format that QEMU has it open as.
        open: String,
    },
    /// The machine that runs is in another image than the records say.
    #[error(
        "QEMU has disk `{disk}` in `{file}`, and by its records it went on in `{recorded}`{}, have the record of `{current}` say so \
         (snapshot edit {current}: `{file}` in the <source> of disk `{disk}` in its <revertDisks>, or in its <disks> if it has none); if another \
         disk was put in its place, forget the snapshots of that one (snapshot delete --metadata)",
        elsewhere(.recorded, .why.as_deref())
    )]
    WentOnElsewhere {
        /// The disk.
        disk: String,
        /// Its image.
        file: Utf8PathBuf,
        /// Its image by the records.
        recorded: Utf8PathBuf,
        /// Why that one cannot be what it went on in, if it cannot.
        why: Option<String>,
        /// The current snapshot.
        current: String,
    },
    /// The machine that runs is in an overlay out of which a deletion has taken it.
    #[error(
        "QEMU has disk `{disk}` in `{file}`, which was merged into `{into}` before the deletion of `{snapshot}` was broken off: the machine \
         was started from an old description, and what was written in `{into}` meanwhile lies under what it sees: end it and start it from \
         one that names `{into}`; to keep it as it is, forget the snapshot (delete {snapshot} --metadata)"
    )]
    WasMerged {
        /// The disk.
        disk: String,
        /// The overlay.
        file: Utf8PathBuf,
        /// The image below it.
        into: Utf8PathBuf,
        /// The snapshot that is being deleted.
        snapshot: String,
    },
    /// An image is named by a path that leads elsewhere from elsewhere.
    #[error(
        "the image `{file}` of disk `{disk}` is named by a path that does not begin at the root, and from where it leads is not known: \
         an overlay on it, or a machine that is started anew, would not find it; give QEMU, and the description, its whole path"
    )]
    NotAbsolute {
        /// The disk.
        disk: String,
        /// The image.
        file: Utf8PathBuf,
    },
    /// It is not known in which image a disk was.
    #[error(
        "the record of snapshot `{name}` does not say in which image disk `{disk}` was when it was taken"
    )]
    Unknown {
        /// The snapshot.
        name: String,
        /// The disk.
        disk: String,
    },
    /// A record says nothing, and its snapshot may be on any image.
    #[error(
        "the record `{file}` cannot be read, and what its snapshot stands on is not known: no image is merged, removed or put back \
         until it is mended, handed in anew (`create --redefine`), or moved away"
    )]
    RecordUnread {
        /// The file of the record.
        file: Utf8PathBuf,
    },
    /// An image beside the machine's chains may stand on one that is to go.
    #[error("it cannot be told what stands on the images of the snapshot: of `{file}`, {why}")]
    Unreadable {
        /// The image.
        file: Utf8PathBuf,
        /// Why not.
        why: String,
    },
}

impl ImageRefusal {
    /// Of a record that cannot be read.
    pub(crate) fn of_record(file: &Utf8Path) -> Self {
        Self::RecordUnread { file: file.to_owned() }
    }

    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            ImageRefusal::GivenAway(_)
            | ImageRefusal::StateHasLeft
            | ImageRefusal::RecordUnread { .. }
            | ImageRefusal::OtherFormat { .. }
            | ImageRefusal::NotPlugged { .. }
            | ImageRefusal::WentOnElsewhere { .. }
            | ImageRefusal::WasMerged { .. }
            | ImageRefusal::Undescribed { .. }
            | ImageRefusal::NotOpen { .. } => Code::OperationInvalid,
            ImageRefusal::NotAbsolute { .. } => Code::ConfigUnsupported,
            ImageRefusal::Unknown { .. } | ImageRefusal::Unreadable { .. } => Code::OperationUnsupported,
        }
    }
}

/// What is in their place.
fn instead(files: &[Utf8PathBuf]) -> String {
    let files: Vec<_> = files.iter().map(|file| format!("`{file}`")).collect();
    if files.is_empty() {
        String::new()
    } else {
        format!(" (those that it does not tell of are in {})", files.join(", "))
    }
}

/// What is to be done about an image that the machine did not go on in: one that cannot be what it went on in is never advised.
fn elsewhere(recorded: &Utf8Path, why: Option<&str>) -> String {
    match why {
        None => format!(
            ": if it was started from an old description, end it and start it from one that names `{recorded}`, or what was written \
             there is lost; if somebody has moved the disk since"
        ),
        Some(why) => format!(
            ", which {why}: look at what the images hold (qemu-img info --backing-chain, qemu-img compare); if what it is in is right"
        ),
    }
}
