//! Makes an image again what it was when an internal snapshot was taken, without a machine.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Remains, create_overlay::tool};
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

impl ApplySnapshot {
    pub(super) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        tool(live, &self.program).snapshot_apply(&self.file, &self.tag).await.map_err(StepError::Tool)
    }

    pub(super) fn undo(&self, begun: Begun) -> Result<(), Remains> {
        match begun {
            Begun::Refused => Ok(()),
            Begun::Part => Err(self.remains()),
            Begun::Whole => Err(format!("disk {} was put back to `{}`, and stays so", self.target, self.tag)),
        }
    }

    pub(super) fn remains(&self) -> Remains {
        format!("`{}` may not be what it was in `{}`: revert once more", self.file, self.tag)
    }
}
