//! What a backup reads of a snapshot that a storage has: an image with all that it stands on, none of which anybody writes any more.
//!
//! The header of an image names what is behind it by its path in the live volume:
//!
//! ```text
//! /pool/vm1/vda.s1 -> /pool/vm1/vda.qcow2     a merge writes there
//! /pool/vm1@s1/vda.s1 -> /pool/vm1@s1/vda.qcow2      what was caught with it is read from the snapshot
//! ```
//! What was not caught with it, the file beside a reflink or one on another file system, changes under it when overlays are merged:
//! then no backup reads the snapshot. It can be gone back to all the same, as long as nothing was merged.

use camino::Utf8PathBuf;

use super::{DiskError, document::Described};
use crate::{
    env::Env,
    name::SnapshotName,
    qemu_img::{Backing, QemuImg},
    storage::{BackupSource, InUse, Provider},
};

/// No chain is longer.
const DEEPEST: usize = 200;

/// An image that nobody writes, and all that is behind it, neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) image: BackupSource,
    pub(super) behind: Vec<Backing>,
}

impl Source {
    /// What a snapshot that is there holds of a disk.
    ///
    /// # Errors
    /// [`DiskError::NotRead`].
    pub(super) async fn of<E: Env>(
        tool: &QemuImg<E>,
        provider: &dyn Provider,
        name: &SnapshotName,
        disk: &Described,
    ) -> Result<Self, DiskError> {
        let not_read = |why: String| DiskError::NotRead { target: disk.target.clone(), why };
        let in_use = match &disk.image {
            Some(path) => Some(InUse::ask(&tool.env, path).await),
            None => None,
        };
        let image = provider.backup_source(name, in_use.as_ref());
        let image =
            image.ok_or_else(|| not_read(format!("{} shows no snapshot of it", provider.method())))?;
        let mut behind = Vec::new();
        let (BackupSource::File(file) | BackupSource::Block(file)) = &image else {
            return Ok(Self { image, behind });
        };
        let mut above = Backing { file: file.clone(), format: disk.format.clone() };
        while above.format != "raw" && behind.len() < DEEPEST {
            let info = tool.info(&above.file, &above.format).await;
            let info = info.map_err(|error| not_read(error.to_string()))?;
            let Some(live) = info.full_backing_filename.map(Utf8PathBuf::from) else { break };
            let file = provider.caught(name, &live).ok_or_else(|| {
                not_read(format!("it stands on {live}, which was not caught with it, and may be merged into"))
            })?;
            let format = info.backing_filename_format;
            let format = format
                .ok_or_else(|| not_read(format!("{} does not state the format of {live}", above.file)))?;
            above = Backing { file, format };
            behind.push(above.clone());
        }
        Ok(Self { image, behind })
    }
}
