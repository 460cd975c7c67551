//! Copies into an image what the one below it holds, and takes that out of its chain.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, end_commit, file_name};
use crate::{
    commands::{BlockStream, Command, JobFinalize},
    env::{Access, Env, OpenFile as _},
    error::StepError,
    human_monitor, job,
    live::Live,
    mutant::{Mutant, planted},
};

/// Copies into an image what the one below it holds, and takes that out of its chain: the image is based on what is below that,
/// or on nothing.
///
/// Nothing but the image is written to, and it reads the same at every moment: what ends this half way has done no harm, and
/// there is nothing to be undone but the job.
///
/// **The chain changes only behind a flush.** QEMU names the new base in the image's header at once, but keeps in memory where in the
/// image it has put what it copied: 5.2 and 7.2 that were killed then had lost all of it, although the guest had flushed it long
/// before, into the image that is taken out. So the job holds still before it changes the chain, the image is flushed, and then
/// the job gets its word. QAPI has no flush of a node; the human monitor has. Most of the data is on its way to the disk before
/// that: QEMU answers nobody while it flushes.
///
/// Source: QEMU QAPI `block-stream`, `job-finalize`; QEMU 5.2, 7.2, 10.0 and 11.1 killed behind it, with a flush and without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamImage {
    /// The disk.
    pub target: String,
    /// The job's id.
    pub job: String,
    /// The image's node.
    pub node: String,
    /// The image.
    pub image: Utf8PathBuf,
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
            auto_finalize: false,
            auto_dismiss: false,
        };
        job::run_until_held(live, &self.job, &stream).await?;
        self.write_back(live).await;
        if !planted(Mutant::LeavesCopiesUnflushed) {
            human_monitor::flush(live, &self.node).await?;
        }
        job::release(live, &self.job, BlockStream::NAME, &JobFinalize { id: &self.job }).await
    }

    /// It has happened when the disk's chain does not have the file any more. A job that holds still has not changed it.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        match job::settle_unless_pending(live, &self.job, BlockStream::NAME).await? {
            None | Some(job::End::Failed(_)) => Ok(Happened::No),
            Some(_) => end_commit::out_of_every_chain(live, &self.file).await,
        }
    }

    /// Ends the job if it is still there, also where QEMU has refused what it was told behind the job's start. What was copied takes room,
    /// and nothing else.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        if begun == Begun::Whole {
            return Ok(());
        }
        let removed = job::remove(live, &self.job, BlockStream::NAME).await.map(drop);
        removed.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        format!("the job `{}` may still work on disk {}: end it with job-cancel", self.job, self.target)
    }
}

impl StreamImage {
    /// Lets the host write what was copied, beside QEMU. What does not come of it the flush does.
    async fn write_back<E: Env>(&self, live: &Live<E>) {
        if let Ok(file) = live.env().open(&self.image, Access::Read).await {
            let _ = file.sync().await;
        }
    }
}

impl fmt::Display for StreamImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "copy {} of {} upwards", file_name(&self.file), self.target)
    }
}
