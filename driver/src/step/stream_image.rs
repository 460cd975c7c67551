//! Copies into an image what the one below it holds, and takes that out of its chain.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, end_commit, file_name};
use crate::{
    commands::{BlockStream, Command},
    env::Env,
    error::StepError,
    job,
    live::Live,
};

/// Copies into an image what the one below it holds, and takes that out of its chain: the image is based on what is below that,
/// or on nothing.
///
/// Nothing but the image is written to, and it reads the same at every moment: what ends this half way has done no harm, and
/// there is nothing to be undone but the job.
///
/// Source: QEMU QAPI `block-stream`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamImage {
    /// The disk.
    pub target: String,
    /// The job's id.
    pub job: String,
    /// The image's node.
    pub node: String,
    /// The file that is taken out.
    pub file: Utf8PathBuf,
    /// The node below that, and its file; none if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<(String, Utf8PathBuf)>,
    /// Whether that file is open in other nodes too, as where two disks stand on one template. Nothing tells which of them is below
    /// this disk: QEMU finds it by the file, in the disk's own chain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_shared: bool,
}

impl Kind for StreamImage {
    const UNDO: Option<&'static str> = Some("end the job");
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        format!("stream-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let file = self.base.as_ref().map(|(_, file)| file.as_str());
        let stream = BlockStream {
            job_id: &self.job,
            device: &self.node,
            base_node: self.base.as_ref().map(|(node, _)| node.as_str()).filter(|_| !self.is_shared),
            base: file.filter(|_| self.is_shared),
            backing_file: file,
            auto_dismiss: false,
        };
        job::run_telling(live, &self.job, &stream).await
    }

    /// It has happened when the disk's chain does not have the file any more.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        if let job::End::Failed(_) = job::settle(live, &self.job, BlockStream::NAME).await? {
            return Ok(Happened::No);
        }
        end_commit::out_of_every_chain(live, &self.file).await
    }

    /// Ends the job if it is still there. What was copied takes room, and nothing else.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        if begun != Begun::Part {
            return Ok(());
        }
        let removed = job::remove(live, &self.job, BlockStream::NAME).await.map(drop);
        removed.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!("the job `{}` may still work on disk {}: end it with job-cancel", self.job, self.target)
    }
}

impl fmt::Display for StreamImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copy {} of {} upwards", file_name(&self.file), self.target)
    }
}
