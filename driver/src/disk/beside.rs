//! What goes back with volumes beside the disks that are meant: a subvolume or a data set goes back with every file in it.
//!
//! ```text
//! the machine's other disks: the volume that each is in, its image, what is behind that -> refused by name
//! each other file there:     has somebody it open?                                       -> refused by name
//! ```
//! Who has a file open is told by the lock that QEMU holds on it, whosever machine it runs.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    DiskError,
    choice::{Wish, volume_of},
};
use crate::{
    domain_xml::{Disk, DomainXml},
    env::{Env, one_name},
    launch::{
        LaunchError,
        chain::{self, Chains},
    },
    mark,
    qemu_img::{QemuImg, ToolError},
    storage::{Storage, Volumes},
};

/// Volumes that are to be put back, and who can tell what else lies there.
pub(super) struct Beside<'a, E: Env> {
    pub(super) volumes: &'a Volumes,
    pub(super) storage: &'a Storage<E>,
    pub(super) tool: &'a QemuImg<E>,
    /// The machine without the disks that are meant.
    pub(super) others: &'a DomainXml,
    /// The images of the disks that are meant.
    pub(super) meant: Vec<&'a Utf8Path>,
}

impl<E: Env> Beside<'_, E> {
    /// Whether nothing but the disks that are meant goes back.
    ///
    /// # Errors
    /// [`DiskError::LiesThereToo`]; [`DiskError::Beside`] where it cannot be told.
    pub(super) async fn check_alone(&self) -> Result<(), DiskError> {
        let files = self.storage.files().await?;
        let chains = match files.is_empty() {
            true => Chains::new(),
            false => chain::read(self.tool, self.others).await.map_err(|error| self.unknown(&error))?,
        };
        let mut others = Vec::new();
        for disk in self.others.disks() {
            let behind = chains.get(disk.target).into_iter().flatten().map(|image| &*image.file);
            let mut lies_there = self.is_in(&disk);
            for file in disk.path().into_iter().chain(behind) {
                lies_there |= self.is_among(&files, file).await;
            }
            others.extend(lies_there.then(|| format!("disk {}", disk.target)));
        }
        for file in files.iter().filter(|file| !self.meant.contains(&&***file)) {
            match self.tool.raw_is_free(file).await {
                Ok(()) => {}
                Err(error) if error.is_locked() => others.push(format!("{file}, which somebody has open")),
                Err(error) => return Err(self.unsure(file, &error)),
            }
        }
        let volume = self.volumes.to_string();
        if others.is_empty() { Ok(()) } else { Err(DiskError::LiesThereToo { volume, others }) }
    }

    /// Whether a file is one of those, by its own name or by the one that it leads to.
    async fn is_among(&self, files: &[Utf8PathBuf], file: &Utf8Path) -> bool {
        let real = one_name(&self.tool.env, file).await;
        files.iter().any(|known| known == file || *known == real)
    }

    /// Whether a disk is in one of the volumes, by its own word or by its source.
    fn is_in(&self, disk: &Disk<'_>) -> bool {
        let Volumes { method, names, .. } = self.volumes;
        let own = Wish::of(disk, None).ok().and_then(|wish| wish.volume_by(*method));
        own.into_iter().chain(volume_of(disk, *method)).any(|volume| names.contains(&volume))
    }

    fn unknown(&self, error: &LaunchError) -> DiskError {
        DiskError::Beside { volume: self.volumes.to_string(), why: mark::told(error) }
    }

    fn unsure(&self, file: &Utf8PathBuf, error: &ToolError) -> DiskError {
        DiskError::Beside { volume: self.volumes.to_string(), why: format!("{file}: {error}") }
    }
}
