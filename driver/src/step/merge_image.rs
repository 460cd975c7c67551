//! Writes what an overlay holds into the image below it, without a machine.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, create_overlay::tool, file_name};
use crate::{env::Env, error::StepError, live::Live};

/// Writes what an overlay holds into the image right below it, by `qemu-img`. The overlay keeps what it has, so that every disk
/// reads the same before, meanwhile and after: it may be done again, and there is nothing to undo.
///
/// Source: QEMU's documentation of `qemu-img commit`: with a base that is stated the overlay is not emptied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeImage {
    /// `qemu-img`.
    pub program: Utf8PathBuf,
    /// The disk.
    pub target: String,
    /// The overlay.
    pub file: Utf8PathBuf,
    /// The image below it.
    pub base: Utf8PathBuf,
}

impl Kind for MergeImage {
    fn lane(&self) -> String {
        format!("merge-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        tool(live, &self.program).commit(&self.file, Some(&self.base)).await.map_err(StepError::Tool)
    }

    async fn undo_outside<E: Env>(&self, _env: &E, begun: Begun) -> Result<(), Remains> {
        match begun {
            Begun::Refused => Ok(()),
            Begun::Part | Begun::Whole => Err(self.remains()),
        }
    }

    fn remains(&self) -> Remains {
        format!(
            "`{}` has in it what is in `{}`, or a part of it; disk {} reads as before",
            self.base, self.file, self.target
        )
    }
}

impl fmt::Display for MergeImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "merge {}: {} -> {}", self.target, file_name(&self.file), file_name(&self.base))
    }
}
