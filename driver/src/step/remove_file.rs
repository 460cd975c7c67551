//! Removes a file that nothing leads to any more.

use std::{fmt, io};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_error, file_name};
use crate::{env::Env, error::StepError, live::Live};

/// Removes a file that nothing leads to any more: an overlay that was left by going back to what is under it. There is no undo,
/// so it comes when all else is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveFile {
    /// Which.
    pub path: Utf8PathBuf,
}

impl Kind for RemoveFile {
    fn lane(&self) -> String {
        format!("remove-{}", file_name(&self.path))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        remove_if_there(live.env(), &self.path).await
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!("`{}` is of no use any more: remove it", self.path)
    }
}

/// Removes a file; one that is not there is none.
pub(super) async fn remove_if_there<E: Env>(env: &E, path: &Utf8Path) -> Result<(), StepError> {
    match env.remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", path)(error)),
        _ => Ok(()),
    }
}

impl fmt::Display for RemoveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", file_name(&self.path))
    }
}
