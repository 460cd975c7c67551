//! Removes the file with the memory of a snapshot that is gone.

use std::{fmt, io};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Happened, Kind, Remains, file_error, file_name, remove_file::remove_if_there};
use crate::{
    env::{Access, Env, FileKind, OpenFile},
    error::StepError,
    live::Live,
    save_image::SaveImage,
};

/// Removes the file with the memory of a snapshot that is gone, if it holds one: a record that was handed in may call any file that.
///
/// A file that is not there is removed already. There is no undo, so it comes when all else is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveMemory {
    /// Which.
    pub path: Utf8PathBuf,
}

impl RemoveMemory {
    /// Whether a save image is there, or what could not be read.
    pub(crate) async fn may_be_there<E: Env>(&self, env: &E) -> bool {
        match self.holds_memory(env).await {
            Ok(holds) => holds,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Whether a save image begins there. What is no plain file is not opened: a pipe would be waited for.
    async fn holds_memory<E: Env>(&self, env: &E) -> Result<bool, io::Error> {
        match env.file_kind(&self.path).await? {
            FileKind::File { .. } => {
                let file = env.open(&self.path, Access::Read).await?;
                Ok(SaveImage::begins(&file.read_at(0, SaveImage::seal().len()).await?))
            }
            FileKind::Absent => Err(io::ErrorKind::NotFound.into()),
            FileKind::Device | FileKind::Folder | FileKind::Other => Ok(false),
        }
    }
}

impl Kind for RemoveMemory {
    const OUTSIDE_QEMU: bool = true;

    fn lane(&self) -> String {
        format!("remove-{}", file_name(&self.path))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        match self.holds_memory(live.env()).await {
            Ok(true) => remove_if_there(live.env(), &self.path).await,
            Ok(false) => Err(StepError::NoMemory(self.path.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(file_error("remove", &self.path)(error)),
        }
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let gone = matches!(live.env().file_kind(&self.path).await, Ok(FileKind::Absent));
        Ok(if gone { Happened::Yes } else { Happened::No })
    }

    fn remains(&self) -> Remains {
        format!("`{}`, which the record called its memory, is kept: if it is of no use, remove it", self.path)
    }
}

impl fmt::Display for RemoveMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", file_name(&self.path))
    }
}
