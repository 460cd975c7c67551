//! Tells of an image that stays.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_name};
use crate::{
    env::{Env, FileKind},
    error::StepError,
    kept::{KeptFile, WhyKept},
    live::Live,
};

/// Tells of an image that stays, and does nothing to it. What was written to a disk that is no part of the machine when all is done is nobody's
/// to give up, who goes back to a machine without it or deletes a snapshot of one with it; one that the machine has left and of which no record
/// tells may be somebody's; and what one of two records of a snapshot holds is the other one's too. One that is not there is not told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeepImage {
    /// Its file.
    pub file: Utf8PathBuf,
    /// What for.
    pub why: WhyKept,
}

impl Kind for KeepImage {
    fn lane(&self) -> String {
        format!("keep-{}", file_name(&self.file))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        if !matches!(live.env().file_kind(&self.file).await, Ok(FileKind::Absent)) {
            live.keep(&self.file, self.why.clone());
        }
        Ok(())
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        KeptFile { file: self.file.clone(), why: self.why.clone() }.to_string()
    }
}

impl fmt::Display for KeepImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = file_name(&self.file);
        match &self.why {
            WhyKept::NoPart(disk) => write!(f, "keep {file} of disk {disk}, no part of the machine"),
            WhyKept::Unrecorded(disk) => {
                write!(f, "keep {file}, which disk {disk} was in and no record knows")
            }
            WhyKept::Twin(name) => write!(f, "keep {file} for snapshot {name}"),
            _ => write!(f, "keep {file}"),
        }
    }
}
