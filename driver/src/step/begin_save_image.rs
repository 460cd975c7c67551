//! Writes what stands in a save image before the memory.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Remains, file_error};
use crate::{
    env::{Access, Env, OpenFile},
    error::StepError,
    save_image::SaveImage,
};

/// Writes what stands in a save image before the memory: with the magic that says that the rest is missing.
///
/// The file is there: [`super::ReserveFile`] has made it, or it was there and is empty, or it is to be overwritten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BeginSaveImage {
    /// Which file.
    pub path: Utf8PathBuf,
    /// What to write.
    pub image: SaveImage,
    /// Whether what the file holds by now may be lost.
    pub overwrite: bool,
}

impl BeginSaveImage {
    pub(super) async fn act<E: Env>(&self, env: &E) -> Result<(), StepError> {
        let bad = |cause| StepError::SaveImage { path: self.path.clone(), cause };
        let bytes = self.image.begin().map_err(bad)?;
        let failed = |action| file_error(action, &self.path);
        let file = env.open(&self.path, Access::Write).await.map_err(failed("open"))?;
        if file.length().await.map_err(failed("look into"))? > 0 {
            if !self.overwrite {
                return Err(failed("begin a save image in")(std::io::ErrorKind::AlreadyExists.into()));
            }
            file.set_length(0).await.map_err(failed("empty"))?;
        }
        let written = file.write_at(0, &bytes).await;
        if written.is_err() {
            // What could not be written is the error that matters.
            let _ = file.set_length(0).await;
        }
        written.map_err(failed("write"))
    }

    /// Leaves the file empty: it is not for this step to remove it. A failure has left nothing in it.
    pub(super) async fn undo<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        if begun != Begun::Whole {
            return Ok(());
        }
        let emptied = match env.open(&self.path, Access::Write).await {
            Ok(file) => file.set_length(0).await,
            Err(error) => Err(error),
        };
        emptied.map_err(|error| format!("{}: {error}", self.remains()))
    }

    pub(super) fn remains(&self) -> Remains {
        format!("the save image `{}` may be left, and is not complete: remove it", self.path)
    }
}
