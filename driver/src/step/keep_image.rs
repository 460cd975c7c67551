//! Tells of an image that stays: of a disk that is no part of the machine, or of a snapshot that another record is of too.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_name};
use crate::{
    env::{Env, FileKind},
    error::StepError,
    kept::WhyKept,
    live::Live,
};

/// Tells of an image that stays, of a disk that is no part of the machine when all is done: it does nothing to it. What was written to that
/// disk is nobody's to give up, who goes back to a machine without it or deletes a snapshot of one with it. So it does where one of two
/// records of a snapshot goes. One that is not there is not told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeepImage {
    /// The disk.
    pub target: String,
    /// Its image.
    pub file: Utf8PathBuf,
    /// The snapshot that goes on holding it, where the one that is deleted is another record of that; none where the disk is no part of the
    /// machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

impl Kind for KeepImage {
    fn lane(&self) -> String {
        format!("keep-{}", file_name(&self.file))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        if !matches!(live.env().file_kind(&self.file).await, Ok(FileKind::Absent)) {
            let why = match &self.of {
                Some(twin) => WhyKept::Twin(twin.clone()),
                None => WhyKept::NoPart(self.target.clone()),
            };
            live.keep(&self.file, why);
        }
        Ok(())
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        match &self.of {
            Some(twin) => format!("`{}` stays, for snapshot `{twin}` is of it", self.file),
            None => format!("`{}` stays: disk {} is no part of the machine", self.file, self.target),
        }
    }
}

impl fmt::Display for KeepImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = file_name(&self.file);
        match &self.of {
            Some(twin) => write!(f, "keep {file} of disk {} for snapshot {twin}", self.target),
            None => write!(f, "keep {file} of disk {}, no part of the machine", self.target),
        }
    }
}
