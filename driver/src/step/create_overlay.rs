//! Writes an overlay on an image of a snapshot, without a machine.

use std::time::Duration;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::Remains;
use crate::{
    env::Env,
    error::StepError,
    live::Live,
    qemu_img::{Backing, NewImage, QemuImg},
};

/// Writes an overlay on an image of a snapshot into a reserved file, by `qemu-img`: a machine that runs is not asked.
///
/// All images behind it are opened, and found to be whole as far as their headers go, before any machine is ended for them.
/// There is no undo: the file is whose that reserved it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateOverlay {
    /// `qemu-img`.
    pub program: Utf8PathBuf,
    /// The disk that it is for.
    pub target: String,
    /// Its file, already reserved.
    pub file: Utf8PathBuf,
    /// The image under it.
    pub backing_file: Utf8PathBuf,
    /// That image's format.
    pub backing_format: String,
}

impl CreateOverlay {
    pub(super) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let (file, format) = (self.backing_file.clone(), self.backing_format.clone());
        let backing = Some(Backing { file, format });
        let new = NewImage { file: self.file.clone(), size: None, backing };
        tool(live, &self.program).create(&new).await.map_err(StepError::Tool)
    }

    pub(super) fn remains(&self) -> Remains {
        format!("`{}` may be half written", self.file)
    }
}

/// `qemu-img` with the time that a step has.
pub(super) fn tool<E: Env>(live: &Live<E>, program: &camino::Utf8Path) -> QemuImg<E> {
    let within = live.deadline().saturating_sub(live.env().now()).max(Duration::from_secs(1));
    QemuImg { program: program.to_owned(), within, ..QemuImg::new(live.env().clone()) }
}
