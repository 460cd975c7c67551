//! Writes an overlay on an image of a snapshot, without a machine.

use std::{fmt, time::Duration};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_name};
use crate::{
    env::Env,
    error::StepError,
    live::Live,
    qemu_img::{Backing, Clusters, NewImage, QemuImg},
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
    /// How it is laid out: as that image.
    #[serde(default, skip_serializing_if = "Clusters::are_qemus_own")]
    pub clusters: Clusters,
}

impl Kind for CreateOverlay {
    fn lane(&self) -> String {
        format!("image-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let (file, format) = (self.backing_file.clone(), self.backing_format.clone());
        let backing = Some(Backing { file, format });
        let new = NewImage { file: self.file.clone(), size: None, clusters: self.clusters, backing };
        tool(live, &self.program).create(&new).await.map_err(StepError::Tool)
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!("`{}` may be half written", self.file)
    }
}

impl fmt::Display for CreateOverlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "make overlay {} -> {} on {}",
            self.target,
            file_name(&self.file),
            file_name(&self.backing_file)
        )
    }
}

/// `qemu-img` with the time that a step has.
pub(super) fn tool<E: Env>(live: &Live<E>, program: &camino::Utf8Path) -> QemuImg<E> {
    let within = live.deadline().saturating_sub(live.env().now()).max(Duration::from_secs(1));
    tool_within(live.env(), program, within)
}

/// `qemu-img` with this time for each run.
pub(super) fn tool_within<E: Env>(env: &E, program: &camino::Utf8Path, within: Duration) -> QemuImg<E> {
    QemuImg { program: program.to_owned(), within, ..QemuImg::new(env.clone()) }
}
