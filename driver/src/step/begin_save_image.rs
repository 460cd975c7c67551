//! Writes what stands in a save image before the memory.

use std::{fmt, io};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_error, file_name};
use crate::{
    env::{Access, Env, OpenFile},
    error::StepError,
    live::Live,
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

impl Kind for BeginSaveImage {
    const UNDO: Option<&'static str> = Some("empty it");

    fn lane(&self) -> String {
        "begin".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let env = live.env();
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

    /// What the file holds is its own if it is the beginning of what is written, whole or torn.
    async fn look_back<E: Env>(&self, live: &Live<E>) -> Result<Option<Begun>, Remains> {
        let Ok(written) = self.image.begin() else { return Ok(None) };
        let held = match live.env().open(&self.path, Access::Read).await {
            Ok(file) => file.read_at(0, written.len() + 1).await,
            Err(error) => Err(error),
        };
        match held {
            Ok(held) if !held.is_empty() && written.starts_with(&held) => Ok(Some(Begun::Whole)),
            _ => Ok(None),
        }
    }

    /// Leaves the file empty: it is not for this step to remove it. A failure has left nothing in it.
    async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        if begun != Begun::Whole {
            return Ok(());
        }
        let emptied = match env.open(&self.path, Access::Write).await {
            Ok(file) => file.set_length(0).await,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        emptied.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!("the save image `{}` may be left, and is not complete: remove it", self.path)
    }
}

impl fmt::Display for BeginSaveImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "begin save image {}", file_name(&self.path))
    }
}
