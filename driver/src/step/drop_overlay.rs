//! Removes an overlay that nothing leads to any more, unless it holds an internal snapshot.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, create_overlay::tool, file_name, remove_file::remove_image};
use crate::{
    env::{Env, FileKind},
    error::StepError,
    kept::WhyKept,
    live::Live,
};

/// Removes an overlay that was left by going back to what is under it, and that held an internal snapshot when that was planned, or could
/// not be read: whether it holds one is looked at now, and if it does it stays, and is told. One that is not there is removed already.
///
/// There is no undo, so it comes when all else is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DropOverlay {
    /// `qemu-img`.
    pub program: Utf8PathBuf,
    /// The overlay.
    pub file: Utf8PathBuf,
    /// What stood on it and goes before: where one of those has stayed, it stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<Utf8PathBuf>,
}

impl Kind for DropOverlay {
    fn lane(&self) -> String {
        format!("drop-{}", file_name(&self.file))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let env = live.env();
        if matches!(env.file_kind(&self.file).await, Ok(FileKind::Absent)) {
            return Ok(());
        }
        for above in &self.above {
            if !matches!(env.file_kind(above).await, Ok(FileKind::Absent)) {
                live.keep(&self.file, WhyKept::Below(above.clone()));
                return Ok(());
            }
        }
        let held = tool(live, &self.program).snapshot_list(&self.file).await.map_err(StepError::Tool)?;
        if held.is_empty() {
            return remove_image(live, &self.file).await;
        }
        live.keep(&self.file, WhyKept::Holds(held.into_iter().map(|held| held.name).collect()));
        Ok(())
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!(
            "`{}` is of no use any more, unless it holds an internal snapshot: look, and remove it",
            self.file
        )
    }
}

impl fmt::Display for DropOverlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}, unless it holds an internal snapshot", file_name(&self.file))
    }
}
