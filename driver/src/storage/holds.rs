//! Whether what a machine uses lies in the volumes that are caught, and is not only called so.
//!
//! ```text
//! /pool/vm1/vda.raw -> /pool/vm2/vda.raw     a link out of the subvolume: another one holds it
//! /pool/vm1/db/vdb.raw                       in a subvolume of its own: an empty folder in each snapshot of /pool/vm1
//! /pool/vm1/vdc.qcow2 with /data/vdc.raw     a qcow2 image whose data are in another file
//! ```
//! So a file is followed to its one name, and has to lie on the same device as the volume: each subvolume of btrfs, as each file
//! system, has one of its own.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Method, Storage, StorageError, command, text};
use crate::env::Env;

/// A file that a machine uses, and the place in which it lies.
struct Lies<'a> {
    file: &'a Utf8Path,
    real: Utf8PathBuf,
    /// Which of the places.
    place: usize,
}

impl<E: Env> Storage<E> {
    /// Whether a snapshot holds all of these images, and the files in which the data of some of them are. Of a volume that is no
    /// folder the images are taken for it; a program answers for what it is told.
    ///
    /// # Errors
    /// [`StorageError::NotCaught`]; what the tools say.
    pub(crate) async fn check_holds(
        &self,
        images: &[Utf8PathBuf],
        data: &[Utf8PathBuf],
    ) -> Result<(), StorageError> {
        let provider = self.provider();
        let said = self.ask(provider.place()).await?;
        let Some(places) = provider.folders(&said)? else {
            let apart = data.first().filter(|_| provider.method() != Method::Exec);
            return apart.map_or(Ok(()), |file| {
                Err(self.not_caught(file, "it holds an image's data, and is a file beside it"))
            });
        };
        let mut roots = Vec::new();
        for place in &places {
            let root = self.one_name(place).await?;
            // Its snapshots are to lie beside it, and not beside a link to it.
            if provider.shows_files() && self.beside_its_folder(place).await? != root {
                return Err(self.not_caught(place, &format!("that is a link; name {root}")));
            }
            roots.push(root);
        }
        let mut lying = Vec::new();
        for file in images.iter().chain(data) {
            let real = self.one_name(file).await?;
            let around = roots.iter().enumerate().filter(|(_, root)| real.starts_with(root));
            let Some((place, _)) = around.max_by_key(|(_, root)| root.as_str().len()) else {
                return Err(self.not_caught(file, &format!("it is {real}")));
            };
            lying.push(Lies { file, real, place });
        }
        let devices = self.devices(roots.iter().chain(lying.iter().map(|lies| &lies.real))).await?;
        let (of_roots, of_files) = devices.split_at_checked(roots.len()).unwrap_or_default();
        let apart =
            lying.iter().zip(of_files).find(|(lies, device)| of_roots.get(lies.place) != Some(device));
        match apart {
            None => Ok(()),
            Some((lies, _)) => {
                Err(self
                    .not_caught(lies.file, "it lies in a subvolume or a file system of its own within it"))
            }
        }
    }

    /// Whether all that lies within the volume goes back with it.
    ///
    /// # Errors
    /// [`StorageError::StaysBehind`]; what the tools say.
    pub(crate) async fn check_goes_back_whole(&self) -> Result<(), StorageError> {
        let (provider, asked) = (self.provider(), self.provider().within());
        if asked.is_empty() {
            return Ok(());
        }
        let volume = provider.volume();
        let root = self.one_name(Utf8Path::new(&volume)).await?;
        match provider.stays_behind(&root, &self.ask(asked).await?)? {
            Some(what) => Err(StorageError::StaysBehind { volume, what }),
            None => Ok(()),
        }
    }

    /// The one name of what must be there.
    async fn one_name(&self, path: &Utf8Path) -> Result<Utf8PathBuf, StorageError> {
        let found = self.env().canonical(path).await;
        found.map_err(|error| StorageError::Gone { words: format!("{path}: {error}") })
    }

    /// The name of a folder in the one that it lies in.
    async fn beside_its_folder(&self, folder: &Utf8Path) -> Result<Utf8PathBuf, StorageError> {
        let around = self.one_name(folder.parent().unwrap_or(folder)).await?;
        Ok(around.join(folder.file_name().unwrap_or_default()))
    }

    /// The device of each file, as the system numbers them.
    async fn devices(&self, files: impl Iterator<Item = &Utf8PathBuf>) -> Result<Vec<String>, StorageError> {
        let words: Vec<&str> =
            ["--format=%d", "--"].into_iter().chain(files.map(|file| file.as_str())).collect();
        let said = self.ask(vec![command("stat", &words)]).await?.pop().unwrap_or_default();
        let devices: Vec<String> = text("stat", &said)?.lines().map(str::to_owned).collect();
        match devices.len() == words.len() - 2 {
            true => Ok(devices),
            false => Err(StorageError::nonsense("stat", "it does not tell the device of each file")),
        }
    }

    fn not_caught(&self, file: &Utf8Path, why: &str) -> StorageError {
        StorageError::NotCaught {
            file: file.to_owned(),
            volume: self.provider().volume(),
            why: why.to_owned(),
        }
    }
}
