//! Makes a save image complete.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Happened, Remains, file_error};
use crate::{
    env::{Access, Env, OpenFile},
    error::StepError,
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

impl SealSaveImage {
    pub(super) async fn act<E: Env>(&self, env: &E) -> Result<(), StepError> {
        let failed = |action| file_error(action, &self.path);
        let file = env.open(&self.path, Access::Write).await.map_err(failed("open"))?;
        file.sync().await.map_err(failed("sync"))?;
        file.write_at(0, SaveImage::seal()).await.map_err(failed("write"))?;
        file.sync().await.map_err(failed("sync"))
    }

    pub(super) async fn probe<E: Env>(&self, env: &E) -> Result<Happened, StepError> {
        let failed = |action| file_error(action, &self.path);
        let file = env.open(&self.path, Access::Read).await.map_err(failed("open"))?;
        let magic = file.read_at(0, SaveImage::seal().len()).await.map_err(failed("read"))?;
        Ok(if magic == SaveImage::seal() { Happened::Yes } else { Happened::No })
    }

    pub(super) fn remains(&self) -> Remains {
        format!("the save image `{}` may not be complete", self.path)
    }
}
