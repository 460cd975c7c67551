//! Removes a file that nothing leads to any more.

use std::io;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Remains, file_error};
use crate::{env::Env, error::StepError};

/// Removes a file that nothing leads to any more: an overlay that was left by going back to what is under it. There is no undo,
/// so it comes when all else is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveFile {
    /// Which.
    pub path: Utf8PathBuf,
}

impl RemoveFile {
    pub(super) async fn act<E: Env>(&self, env: &E) -> Result<(), StepError> {
        match env.remove_file(&self.path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn remains(&self) -> Remains {
        format!("`{}` is of no use any more: remove it", self.path)
    }
}
