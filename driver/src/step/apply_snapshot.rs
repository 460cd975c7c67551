//! Makes an image again what it was when an internal snapshot was taken, without a machine.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, create_overlay::tool, file_name};
use crate::{env::Env, error::StepError, live::Live};

/// Makes an image again what it was when an internal snapshot was taken, by `qemu-img`. What was written since is gone: there is
/// no undo, but it can be done once more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplySnapshot {
    /// `qemu-img`.
    pub program: Utf8PathBuf,
    /// The disk.
    pub target: String,
    /// Its image.
    pub file: Utf8PathBuf,
    /// The snapshot's name.
    pub tag: String,
}

impl Kind for ApplySnapshot {
    fn lane(&self) -> String {
        format!("apply-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        tool(live, &self.program).snapshot_apply(&self.file, &self.tag).await.map_err(StepError::Tool)
    }

    /// An image does not tell what it was put back to. To do it once more would lose what was written since.
    async fn probe<E: Env>(&self, _live: &Live<E>) -> Result<Happened, StepError> {
        Ok(Happened::Unknown)
    }

    async fn undo_outside<E: Env>(&self, _env: &E, begun: Begun) -> Result<(), Remains> {
        match begun {
            Begun::Refused => Ok(()),
            Begun::Part => Err(self.remains()),
            Begun::Whole => Err(format!("disk {} was put back to `{}`, and stays so", self.target, self.tag)),
        }
    }

    fn remains(&self) -> Remains {
        format!("`{}` may not be what it was in `{}`: revert once more", self.file, self.tag)
    }
}

impl fmt::Display for ApplySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put {} back to {}", file_name(&self.file), self.tag)
    }
}
