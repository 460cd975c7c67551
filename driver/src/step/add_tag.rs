//! Takes an internal snapshot of one image, without a machine.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{
    Begun, Happened, Kind, Remains,
    create_overlay::{tool, tool_within},
    file_name,
};
use crate::{env::Env, error::StepError, execute::UNDO_WITHIN, live::Live};

/// Takes an internal snapshot of the image of a machine that is off, by `qemu-img`. Undoing deletes it: it was looked before that
/// the image had none of that name.
///
/// Source: libvirt's `qemuSnapshotForEachQcow2`, which does the same disk by disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddTag {
    /// `qemu-img`.
    pub program: Utf8PathBuf,
    /// The disk.
    pub target: String,
    /// Its image.
    pub file: Utf8PathBuf,
    /// The snapshot's name.
    pub tag: String,
}

impl Kind for AddTag {
    const UNDO: Option<&'static str> = Some("delete the snapshot");

    fn lane(&self) -> String {
        format!("add-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        tool(live, &self.program).snapshot_create(&self.file, &self.tag).await.map_err(StepError::Tool)
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let held = tool(live, &self.program).snapshot_list(&self.file).await.map_err(StepError::Tool)?;
        let is_there = held.iter().any(|known| known.name == self.tag);
        Ok(if is_there { Happened::Yes } else { Happened::No })
    }

    /// One that failed may have taken it all the same, if it was killed.
    async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        if begun == Begun::Refused {
            return Ok(());
        }
        let tool = tool_within(env, &self.program, UNDO_WITHIN);
        let undone = async {
            let held = tool.snapshot_list(&self.file).await?;
            match held.iter().any(|known| known.name == self.tag) {
                true => tool.snapshot_delete(&self.file, &self.tag).await,
                false => Ok(()),
            }
        };
        undone.await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!(
            "`{}` may hold the internal snapshot `{}`: delete it by `qemu-img snapshot -d`",
            self.file, self.tag
        )
    }
}

impl fmt::Display for AddTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {} of {}", self.tag, file_name(&self.file))
    }
}
