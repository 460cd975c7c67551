//! Why a deletion is not even begun.

use camino::Utf8PathBuf;

use super::Code;

/// Why a deletion is not even begun. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRefusal {
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
        "internal snapshot `{name}` is in `{file}`, which disk `{disk}` does not write to now: QEMU cannot delete it there; delete it \
         while the machine is off"
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
         delete `{parent}` first, while the machine is off"
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
    /// Another record says of the same overlay that it is its own.
    #[error(
        "the records of `{name}` and `{by}` both name `{file}` as their overlay of disk `{disk}`, and `{by}` would be left \
         without it; remove one of the two records alone first, with `metadata`"
    )]
    NamedTwice {
        /// The snapshot that is to be deleted.
        name: String,
        /// The disk.
        disk: String,
        /// The overlay.
        file: Utf8PathBuf,
        /// The other snapshot.
        by: String,
    },
    /// An image that is in nobody's chain or record is based on one that would be written to or removed.
    #[error(
        "`{above}` stands on `{file}` of disk `{disk}`, and no snapshot is known that it is of: what it holds would be worth nothing then, \
         wherever it is moved. An operation or `recover` may have kept it, and told so. If anybody needs it, as another machine, make it \
         stand by itself first (qemu-img rebase -b '' `{above}`, while nobody has it open); if nobody does, remove it"
    )]
    StrangerAbove {
        /// The disk.
        disk: String,
        /// The image that would be written to or removed.
        file: Utf8PathBuf,
        /// What stands on it.
        above: Utf8PathBuf,
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
         backup ({why}); or remove it first"
    )]
    BitmapLost {
        /// The disk.
        disk: String,
        /// The overlay.
        file: Utf8PathBuf,
        /// The bitmap.
        bitmap: String,
        /// Why the image below cannot go on with it.
        why: &'static str,
    },
    /// A job works on a disk of a snapshot that is to be deleted.
    #[error("a block job ({filter}) works on disk `{disk}`; wait for it or cancel it before you delete")]
    JobOnDelete {
        /// The disk.
        disk: String,
        /// The filter node that the job put in.
        filter: String,
    },
}

impl DeleteRefusal {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            DeleteRefusal::ChildrenTwice => Code::InvalidArg,
            DeleteRefusal::ExternalAmongMany(_) => Code::ConfigUnsupported,
            DeleteRefusal::DeletionUnfinished(_) => Code::OperationInvalid,
            DeleteRefusal::NotRecorded(_) => Code::NoDomainSnapshot,
            DeleteRefusal::JobOnDelete { .. }
            | DeleteRefusal::InternalBelow { .. }
            | DeleteRefusal::Branches(_)
            | DeleteRefusal::NotInChain { .. }
            | DeleteRefusal::NothingBelow { .. }
            | DeleteRefusal::HoldsInternal { .. }
            | DeleteRefusal::InternalParent { .. }
            | DeleteRefusal::OtherBranch { .. }
            | DeleteRefusal::NamedTwice { .. }
            | DeleteRefusal::StrangerAbove { .. }
            | DeleteRefusal::ImageShared { .. }
            | DeleteRefusal::BitmapLost { .. } => Code::OperationUnsupported,
        }
    }
}
