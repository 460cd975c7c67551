//! Makes the empty file that an overlay or a save image will be written to.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Remains};
use crate::{env::Env, error::StepError};

/// Makes the empty file that an overlay or a save image will be written to, and so makes sure that it is nobody else's: QEMU
/// itself would overwrite whatever is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReserveFile {
    /// Which.
    pub path: Utf8PathBuf,
}

impl ReserveFile {
    pub(super) async fn act<E: Env>(&self, env: &E) -> Result<(), StepError> {
        let created = env.create_new(&self.path).await;
        created.map_err(|source| StepError::File { action: "create", path: self.path.clone(), source })
    }

    /// Only what was made is removed: a file that was in the way stays.
    pub(super) async fn undo<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        if begun != Begun::Whole {
            return Ok(());
        }
        env.remove_file(&self.path).await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    pub(super) fn remains(&self) -> Remains {
        format!("the unused file `{}` is left: remove it", self.path)
    }
}
