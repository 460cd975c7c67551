//! Tells of an image that stays, of a disk that is no part of the machine.

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
/// disk is nobody's to give up, who goes back to a machine without it or deletes a snapshot of one with it. One that is not there is not told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeepImage {
    /// The disk.
    pub target: String,
    /// Its image.
    pub file: Utf8PathBuf,
}

impl Kind for KeepImage {
    fn lane(&self) -> String {
        format!("keep-{}", file_name(&self.file))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        if !matches!(live.env().file_kind(&self.file).await, Ok(FileKind::Absent)) {
            live.keep(&self.file, WhyKept::NoPart(self.target.clone()));
        }
        Ok(())
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!("`{}` stays: disk {} is no part of the machine", self.file, self.target)
    }
}

impl fmt::Display for KeepImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keep {} of disk {}, no part of the machine", file_name(&self.file), self.target)
    }
}
