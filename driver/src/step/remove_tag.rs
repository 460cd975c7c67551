//! Deletes an internal snapshot from one image, without a machine.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, create_overlay::tool, file_name};
use crate::{env::Env, error::StepError, live::Live};

/// Deletes an internal snapshot from an image that no machine has open, by `qemu-img`. An image that does not have it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveTag {
    /// `qemu-img`.
    pub program: Utf8PathBuf,
    /// The disk.
    pub target: String,
    /// Its image.
    pub file: Utf8PathBuf,
    /// The snapshot's name.
    pub tag: String,
}

impl Kind for RemoveTag {
    fn lane(&self) -> String {
        format!("drop-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let tool = tool(live, &self.program);
        let held = tool.snapshot_list(&self.file).await.map_err(StepError::Tool)?;
        if held.iter().any(|known| known.name == self.tag) {
            tool.snapshot_delete(&self.file, &self.tag).await.map_err(StepError::Tool)?;
        }
        Ok(())
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let held = tool(live, &self.program).snapshot_list(&self.file).await.map_err(StepError::Tool)?;
        let is_there = held.iter().any(|known| known.name == self.tag);
        Ok(if is_there { Happened::No } else { Happened::Yes })
    }

    async fn undo_outside<E: Env>(&self, _env: &E, begun: Begun) -> Result<(), Remains> {
        match begun {
            Begun::Refused => Ok(()),
            Begun::Part => Err(self.remains()),
            Begun::Whole => Err(format!("`{}` is gone from `{}`", self.tag, self.file)),
        }
    }

    fn remains(&self) -> Remains {
        format!(
            "`{}` may still hold the internal snapshot `{}`: delete it by its name once more",
            self.file, self.tag
        )
    }
}

impl fmt::Display for RemoveTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delete {} from {}", self.tag, file_name(&self.file))
    }
}
