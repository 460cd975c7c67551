//! Lets a QEMU that waits for it take in the memory of a save image.

use std::{fmt, io};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, file_error, file_name};
use crate::{
    capabilities::MemoryMethod,
    client::CommandError,
    commands::{
        Address, BlockdevSetActive, Getfd, MigrateIncoming, MigrateSetCapabilities, MigrationCapabilityStatus,
    },
    env::{Access, Env, OpenFile},
    error::StepError,
    live::Live,
    migration::{self, End},
    save_image::{
        self, BadSaveImage, Format, SaveImage,
        stream::{self, Ending},
    },
};

/// Lets a QEMU that was started with `-incoming defer` take in the memory and devices of a save image, and waits until it has.
///
/// With `-S` the guest stands still then (`paused`), whatever it did when it was saved; without, it is as it was. Until 7.2 QEMU
/// has the images from then on. Later ones leave them until the guest goes on, or until they are told to take them
/// ([`LoadMemory::takes_images`]): nothing can be merged or saved in them before. One that cannot load it ends, with its words on its standard error; from 9.1 on it can be told to live
/// on ([`LoadMemory::stays`]) and says why, but is of no more use. There is no undo: whoever has started the process ends it.
///
/// Source: QEMU QAPI `migrate-incoming`; the four releases, asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadMemory {
    /// The save image.
    pub path: Utf8PathBuf,
    /// How QEMU gets the file. One whose pages have their own places is always opened by QEMU.
    pub method: MemoryMethod,
    /// What the open file is called in QEMU, if it is handed over; must not begin with a digit.
    pub fdname: String,
    /// Whether this QEMU can be told to live on when it fails.
    pub stays: bool,
    /// Whether it is told to take the images, for the guest is not to go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_images: bool,
}

impl LoadMemory {
    async fn take_images<E: Env>(&self, live: &Live<E>) -> Result<(), CommandError> {
        if self.takes_images {
            live.ask(&BlockdevSetActive { active: true }).await?;
        }
        Ok(())
    }
}

impl Kind for LoadMemory {
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "load-memory".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let mut events = live.events();
        let failed = |action| file_error(action, &self.path);
        let file = live.env().open(&self.path, Access::Read).await.map_err(failed("open"))?;
        let (image, at) = read(&file, &self.path).await?;
        let mapped = image.format == Format::Sparse;
        let mut capabilities = vec![on("events")];
        capabilities.extend(mapped.then(|| on("mapped-ram")));
        live.execute(&MigrateSetCapabilities { capabilities: &capabilities }).await?;
        let from = if mapped || self.method == MemoryMethod::File {
            Address::file(self.path.as_str(), at)
        } else {
            file.seek(at).await.map_err(failed("seek in"))?;
            live.execute_with_file(&Getfd { fdname: &self.fdname }, file).await?;
            Address::descriptor(&self.fdname)
        };
        let exit_on_error = self.stays.then_some(false);
        live.execute(&MigrateIncoming { from, exit_on_error }).await?;
        migration::wait(live, &mut events, "loaded").await?;
        self.take_images(live).await.map_err(StepError::from)
    }

    /// A process that has been started for this has taken in nothing else.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let end = migration::settle(live, "loaded").await?;
        if end != End::Completed {
            return Ok(Happened::No);
        }
        self.take_images(live).await?;
        Ok(Happened::Yes)
    }

    async fn undo<E: Env>(
        &self,
        _live: &Live<E>,
        _begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!(
            "this QEMU may have taken in `{}` in part, and its guest may stand still: end it, and start another",
            self.path
        )
    }
}

impl fmt::Display for LoadMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load memory from {}", file_name(&self.path))
    }
}

/// Opens a save image and reads what stands before its memory. One that is not whole is refused, as far as that can be told without
/// reading all of it.
pub(crate) async fn read_save_image<E: Env>(
    env: &E,
    path: &camino::Utf8Path,
) -> Result<SaveImage, StepError> {
    let file = env.open(path, Access::Read).await.map_err(file_error("open", path))?;
    read(&file, path).await.map(|(image, _)| image)
}

/// Reads what stands before the memory of a save image, and where that begins. One that is not whole is refused.
async fn read(file: &impl OpenFile, path: &camino::Utf8Path) -> Result<(SaveImage, u64), StepError> {
    let failed = |error| file_error("read", path)(error);
    let bad = |cause| StepError::SaveImage { path: path.to_owned(), cause };
    let header = file.read_at(0, save_image::HEADER).await.map_err(failed)?;
    let length = SaveImage::length(&header).map_err(bad)?;
    let bytes = file.read_at(0, length).await.map_err(failed)?;
    let image = SaveImage::read(&bytes).map_err(bad)?;
    if !image.complete {
        return Err(StepError::SaveImageIncomplete(path.to_owned()));
    }
    let at = length as u64;
    match ending(file, at).await.map_err(failed)? {
        Ending::Whole | Ending::Untold => Ok((image, at)),
        Ending::Cut(missing) => Err(bad(BadSaveImage::Cut(missing))),
        Ending::NoStream => Err(bad(BadSaveImage::NoStream)),
    }
}

/// How the stream ends that begins at `at`. A device does not say how long it is.
async fn ending(file: &impl OpenFile, at: u64) -> io::Result<Ending> {
    let length = file.length().await?;
    if length < at {
        return Ok(Ending::Untold);
    }
    let head = file.read_at(at, stream::HEAD).await?;
    let tail = file.read_at(at.max(length.saturating_sub(stream::TAIL as u64)), stream::TAIL).await?;
    Ok(Ending::of(&head, &tail))
}

fn on(capability: &str) -> MigrationCapabilityStatus {
    MigrationCapabilityStatus { capability: capability.to_owned(), state: true }
}
