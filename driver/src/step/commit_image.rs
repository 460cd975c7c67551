//! Copies what an overlay holds into the image below it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, end_commit::out_of_every_chain};
use crate::{
    commands::{BlockCommit, Command, QueryNamedBlockNodes},
    env::Env,
    error::StepError,
    human_monitor,
    job::{self, End},
    live::Live,
    mutant::{Mutant, planted},
    observed::file_of,
};

/// Copies what an overlay holds into the image below it, and holds there: the chain is as it was until [`super::EndCommit`].
///
/// The image below is not what it was from the first byte on, though the disk reads the same: undoing ends the job and leaves
/// a whole chain, and cannot bring back what the image below held.
///
/// **What is in between changes its chain only behind a flush**, as in [`super::StreamImage`]: QEMU 10.0 and 11.1 keep an image open to be
/// written that was streamed into before, do not flush it when the job ends, and had lost what was merged into it when they were killed
/// then, although the guest had flushed it long before. The image that the guest writes to is flushed by the job itself.
///
/// Source: QEMU QAPI `block-commit`; QEMU 10.0 and 11.1 killed behind it; recordings of active commits (held when `ready`) and of those in
/// between (when `pending`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitImage {
    /// The disk.
    pub target: String,
    /// The job's id.
    pub job: String,
    /// The node on top of the chain.
    pub device: String,
    /// The overlay's node.
    pub top: String,
    /// The node below it.
    pub base: String,
    /// Of an overlay that has one above it: what that one is to name as its backing file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing_file: Option<String>,
}

impl CommitImage {
    /// Whether no disk stands on the overlay any more. A job that has done its work may have been let go of without that.
    async fn is_merged<E: Env>(&self, live: &Live<E>) -> Result<bool, StepError> {
        let nodes = live.ask(&QueryNamedBlockNodes { flat: true }).await?;
        let top = nodes.iter().find(|node| node.node_name.as_deref() == Some(self.top.as_str()));
        match top {
            None => Ok(true),
            Some(top) => Ok(out_of_every_chain(live, &file_of(&top.image.filename)).await? == Happened::Yes),
        }
    }
}

/// That a disk has been merged by an operation that is put back.
pub(super) fn merged(target: &str) -> Remains {
    format!("disk {target} is merged, and stays so; it reads as before: delete the snapshot again")
}

impl Kind for CommitImage {
    const UNDO: Option<&'static str> = Some("end the job");
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        format!("commit-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let commit = BlockCommit {
            job_id: &self.job,
            device: &self.device,
            top_node: &self.top,
            base_node: &self.base,
            backing_file: self.backing_file.as_deref(),
            // The top layer is held by being ready; the others must be told to hold.
            auto_finalize: self.backing_file.is_none(),
            auto_dismiss: false,
        };
        job::run_until_held(live, &self.job, &commit).await?;
        if self.backing_file.is_some() && !planted(Mutant::LeavesMergesUnflushed) {
            human_monitor::flush(live, &self.base).await?;
        }
        Ok(())
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let held = job::held(live, &self.job).await?;
        Ok(if held == Some(true) { Happened::Yes } else { Happened::No })
    }

    /// Ends the job if it is still there, also where QEMU has refused what it was told behind the job's start; one that has changed the chain
    /// is not.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        _begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        let failed = |error: StepError| format!("{}: {error}", self.remains());
        let ended = job::remove(live, &self.job, BlockCommit::NAME).await.map_err(failed)?;
        match ended == End::Done && self.is_merged(live).await.map_err(failed)? {
            true => Err(merged(&self.target)),
            false => Ok(()),
        }
    }

    fn remains(&self) -> Remains {
        format!("the job `{}` may still work on disk {}: end it with job-cancel", self.job, self.target)
    }
}

impl fmt::Display for CommitImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit {}: {} -> {}", self.target, self.top, self.base)
    }
}
