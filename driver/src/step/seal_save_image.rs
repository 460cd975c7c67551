//! Makes a save image complete.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, file_error, file_name};
use crate::{
    env::{Access, Env, OpenFile},
    error::StepError,
    live::Live,
    save_image::SaveImage,
};

/// Makes a save image complete: waits until all that QEMU has written outlives the host's death, and only then writes the
/// magic that says so. The guest may run meanwhile.
///
/// Undone by the undoing of [`super::BeginSaveImage`], which comes later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SealSaveImage {
    /// Which file.
    pub path: Utf8PathBuf,
}

impl Kind for SealSaveImage {
    fn lane(&self) -> String {
        "seal".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let env = live.env();
        let failed = |action| file_error(action, &self.path);
        let file = env.open(&self.path, Access::Write).await.map_err(failed("open"))?;
        file.sync().await.map_err(failed("sync"))?;
        file.write_at(0, SaveImage::seal()).await.map_err(failed("write"))?;
        file.sync().await.map_err(failed("sync"))
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let env = live.env();
        let failed = |action| file_error(action, &self.path);
        let file = env.open(&self.path, Access::Read).await.map_err(failed("open"))?;
        let magic = file.read_at(0, SaveImage::seal().len()).await.map_err(failed("read"))?;
        Ok(if magic == SaveImage::seal() { Happened::Yes } else { Happened::No })
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!("the save image `{}` may not be complete", self.path)
    }
}

impl fmt::Display for SealSaveImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seal save image {}", file_name(&self.path))
    }
}
