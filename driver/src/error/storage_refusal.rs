//! Why nothing is done to what a storage holds of a snapshot.

use camino::Utf8PathBuf;

use super::Code;
use crate::storage::Method;

/// Why nothing is done to what a storage holds of a snapshot. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageRefusal {
    /// The record tells of another storage than the call.
    #[error(
        "the record says that {recorded} holds disk `{disk}`, and the call says {stated}: leave it out, or mend the record \
         (`snapshot edit`)"
    )]
    Another {
        /// The disk.
        disk: String,
        /// What the record says.
        recorded: String,
        /// What was stated.
        stated: String,
    },
    /// Nobody but the record names a program, or settings.
    #[error(
        "the record names `{named}` for {disks}, and a record by itself has nothing run or believed: give the disk a <diskSnapshot \
         method='{method}'> that names it, or state it (`--provider DISK,method={method},...`)"
    )]
    ByItsWordAlone {
        /// The disks.
        disks: String,
        /// The storage.
        method: Method,
        /// The program or the settings.
        named: String,
    },
    /// What lies on a volume is not known.
    #[error(
        "disk `{disk}` is a part of {volume} alone, and what else would be put back with that nobody here knows: put it back \
         (`freezeframe disk revert`) and say so (`storage-is-back`)"
    )]
    PartOfVolume {
        /// The disk.
        disk: String,
        /// The volume.
        volume: String,
    },
    /// The machine has gone on in another image of the disk.
    #[error(
        "disk `{disk}` is in `{file}` by now, and its storage would put back `{recorded}`: merge what is above that first"
    )]
    OtherImage {
        /// The disk.
        disk: String,
        /// What it is in.
        file: Utf8PathBuf,
        /// What it was in.
        recorded: Utf8PathBuf,
    },
    /// Something lies on a volume that is not to be put back.
    #[error(
        "`{file}`, {what}, lies on {volume} too, and would be put back with it: put the storage back by hand and say so \
         (`storage-is-back`), if that is what you want"
    )]
    LiesThereToo {
        /// The volume.
        volume: String,
        /// What.
        file: Utf8PathBuf,
        /// Whose it is.
        what: String,
    },
}

impl StorageRefusal {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            StorageRefusal::PartOfVolume { .. } => Code::OperationUnsupported,
            StorageRefusal::Another { .. }
            | StorageRefusal::ByItsWordAlone { .. }
            | StorageRefusal::OtherImage { .. }
            | StorageRefusal::LiesThereToo { .. } => Code::OperationInvalid,
        }
    }
}
