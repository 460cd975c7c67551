//! Makes the empty file that an overlay or a save image will be written to.

use std::{fmt, io};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_name};
use crate::{
    env::{Env, FileKind, Ownership},
    error::StepError,
    live::Live,
    mutant::{Mutant, planted},
};

/// Makes the empty file that an overlay or a save image will be written to, and so makes sure that it is nobody else's: QEMU
/// itself would overwrite whatever is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReserveFile {
    /// Which.
    pub path: Utf8PathBuf,
    /// Whose it is: QEMU is to open it.
    #[serde(default, skip_serializing_if = "Ownership::is_own")]
    pub ownership: Ownership,
}

impl Kind for ReserveFile {
    const UNDO: Option<&'static str> = Some("unlink");

    fn lane(&self) -> String {
        format!("reserve-{}", file_name(&self.path))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let env = live.env();
        let created = env.create_new(&self.path, &self.ownership).await;
        if planted(Mutant::TakesOthersFiles) {
            return Ok(());
        }
        created.map_err(|source| StepError::File { action: "create", path: self.path.clone(), source })
    }

    /// That it was made is written down when the next stage begins. Until then an empty file may be the one that was made, or one
    /// that was in the way, or somebody else's since; one that holds something is none of its own.
    async fn look_back<E: Env>(&self, live: &Live<E>) -> Result<Option<Begun>, Remains> {
        match live.env().file_kind(&self.path).await {
            Ok(FileKind::File { bytes: 0 }) => Err(format!(
                "`{}` is there, empty, and nobody knows who made it: remove it unless it is somebody else's",
                self.path
            )),
            _ => Ok(None),
        }
    }

    /// Only what was made is removed: a file that was in the way stays. One that is gone is removed already.
    async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        if begun != Begun::Whole {
            return Ok(());
        }
        match env.remove_file(&self.path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", self.remains()))
            }
            _ => Ok(()),
        }
    }

    fn remains(&self) -> Remains {
        format!("the unused file `{}` is left: remove it", self.path)
    }
}

impl fmt::Display for ReserveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reserve {}", file_name(&self.path))
    }
}
