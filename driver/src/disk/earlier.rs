//! Snapshots of the images that a disk was in before overlays came on top of them. Where each file is caught by itself, they are of
//! another volume by then than the disk's, and only a look down the chain finds them.
//!
//! Each tells of which volume it is: whoever deletes it, or reads it, names that.

use camino::Utf8PathBuf;

use super::{DiskError, document::Described};
use crate::{
    env::Env,
    qemu_img::{Backing, QemuImg},
    storage::{Method, Reflink, Snapshot, Storage, Volumes},
};

/// No chain is longer.
const DEEPEST: usize = 200;

/// The snapshots of the images behind these disks, where each is a volume of its own.
///
/// # Errors
/// [`DiskError`].
pub(super) async fn list<E: Env>(
    tool: &QemuImg<E>,
    volumes: &Volumes,
    disks: &[Described],
) -> Result<Vec<Snapshot>, DiskError> {
    let mut found = Vec::new();
    for disk in disks {
        let Some(image) = &disk.image else { continue };
        // A volume that was named is the one that is meant.
        if volumes.method != Method::Reflink || !volumes.names.iter().any(|name| name == image) {
            continue;
        }
        let mut above = Backing { file: image.clone(), format: disk.format.clone() };
        for _ in 0..DEEPEST {
            if above.format == "raw" {
                break;
            }
            let info = tool.info_while_open(&above.file, &above.format).await;
            let info = info.map_err(|why| DiskError::Unsure { target: disk.target.clone(), why })?;
            let (Some(file), Some(format)) = (info.full_backing_filename, info.backing_filename_format)
            else {
                break;
            };
            let storage = Storage::new(tool.env.clone(), Reflink::new(&file)?).within(volumes.within);
            let of = |snapshot| Snapshot { of: Some(file.clone()), ..snapshot };
            found.extend(storage.list().await?.into_iter().map(of));
            above = Backing { file: Utf8PathBuf::from(file), format };
        }
    }
    Ok(found)
}
