//! Puts an image on another one, without a machine.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{
    Begun, Kind, Remains,
    create_overlay::{tool, tool_within},
    file_name,
};
use crate::{
    env::Env,
    error::StepError,
    execute::UNDO_WITHIN,
    live::Live,
    mutant::{Mutant, planted},
    qemu_img::Backing,
};

/// Writes into the header of an image that it is on top of another one, by `qemu-img`. Neither is looked at: the disk reads the
/// same on both, for what was between them has been merged. Undoing writes back what was there.
///
/// Source: QEMU's documentation of `qemu-img rebase -u`; libvirt's `qemuSnapshotDeleteUpdateDisks` does the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeBacking {
    /// `qemu-img`.
    pub program: Utf8PathBuf,
    /// The disk.
    pub target: String,
    /// The image.
    pub file: Utf8PathBuf,
    /// What it is put on.
    pub onto: Utf8PathBuf,
    /// That one's format.
    pub onto_format: String,
    /// What it was on before.
    pub from: Utf8PathBuf,
    /// That one's format.
    pub from_format: String,
}

impl Kind for ChangeBacking {
    const UNDO: Option<&'static str> = Some("write back");

    fn lane(&self) -> String {
        format!("rebase-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        if planted(Mutant::LeavesBranchesBehind) {
            return Ok(());
        }
        let onto = Backing { file: self.onto.clone(), format: self.onto_format.clone() };
        tool(live, &self.program).rebase_unsafe(&self.file, Some(&onto)).await.map_err(StepError::Tool)
    }

    async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        if begun == Begun::Refused {
            return Ok(());
        }
        let from = Backing { file: self.from.clone(), format: self.from_format.clone() };
        let tool = tool_within(env, &self.program, UNDO_WITHIN);
        let undone = tool.rebase_unsafe(&self.file, Some(&from)).await;
        undone.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!(
            "`{}` may be on `{}` or on `{}`, and reads the same on both: keep both",
            self.file, self.from, self.onto
        )
    }
}

impl fmt::Display for ChangeBacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put {} on {}", file_name(&self.file), file_name(&self.onto))
    }
}
