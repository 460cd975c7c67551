//! Takes an overlay out of its chain once all it holds is in the image below.

use std::{fmt, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, commit_image::merged, file_name, has_open};
use crate::{
    commands::{BlockCommit, Command, JobComplete, JobFinalize, QueryBlock},
    env::Env,
    error::StepError,
    job::{self, End},
    live::Live,
    mutant::{Mutant, planted},
    observed::images,
};

/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Takes an overlay out of its chain once all it holds is in the image below, as [`super::CommitImage`] has left it.
///
/// There is no undo: the disk reads the same, and the overlay is not in use any more. It is more than QEMU's own affair: in which of two
/// images the guest goes on is told by nothing else once QEMU is gone. What is above an image in between says so in its header.
///
/// Source: QEMU QAPI `job-complete` (its reply comes before the pivot, which is waited for), `job-finalize`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndCommit {
    /// The disk.
    pub target: String,
    /// The job's id.
    pub job: String,
    /// Whether the guest wrote to the overlay, and goes on in the image below.
    pub active: bool,
    /// The overlay's file.
    pub file: Utf8PathBuf,
}

impl EndCommit {
    /// What is told of a disk in doubt.
    pub(crate) fn in_doubt(target: &str, file: &Utf8Path) -> String {
        format!(
            "whether the guest of disk {target} is in `{file}` or went on in the image below it is not known"
        )
    }
}

impl Kind for EndCommit {
    fn lane(&self) -> String {
        format!("pivot-{}", self.target)
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let (id, kind) = (self.job.as_str(), BlockCommit::NAME);
        if planted(Mutant::CancelsReadyCommits) {
            job::remove(live, id, kind).await?;
            return Ok(());
        }
        match self.active {
            true => job::release(live, id, kind, &JobComplete { id }).await,
            false => job::release(live, id, kind, &JobFinalize { id }).await,
        }
    }

    /// It has happened when no chain has the overlay. Until the job has heard, or is known not to have, nobody can tell.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let patient_until = live.env().now() + job::HEARD_WITHIN;
        while job::held(live, &self.job).await? == Some(true) {
            if live.env().now() >= patient_until {
                return Ok(Happened::No);
            }
            live.env().sleep_until(live.env().now() + LOOK_EVERY).await;
        }
        if let End::Failed(_) = job::settle(live, &self.job, BlockCommit::NAME).await? {
            return Ok(Happened::No);
        }
        out_of_every_chain(live, &self.file).await
    }

    /// The job tells it that has not been read yet. Without one the QEMU does that has the overlay open still, and in no chain: it was there
    /// itself. One that has the overlay in a chain or not open at all may have been started since, in either.
    async fn look_back<E: Env>(&self, live: &Live<E>) -> Result<Option<Begun>, Remains> {
        let unknown = |_| self.remains();
        let is_listed = job::is_listed(live, &self.job).await.map_err(unknown)?;
        let happened = self.probe(live).await.map_err(|_| self.remains())?;
        let is_here = is_listed || has_open(live, |file| *file == self.file).await.map_err(unknown)?;
        match happened {
            Happened::Yes if is_here || !self.active => Ok(Some(Begun::Whole)),
            Happened::No if is_listed || !self.active => Ok(Some(Begun::Part)),
            _ => Err(self.remains()),
        }
    }

    async fn undo<E: Env>(
        &self,
        _live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        match begun {
            Begun::Whole => Err(merged(&self.target)),
            // A job that has not ended is ended by the step that began it.
            Begun::Part | Begun::Refused => Ok(()),
        }
    }

    async fn undo_outside<E: Env>(&self, _env: &E, begun: Begun) -> Result<(), Remains> {
        match begun {
            Begun::Whole => Err(merged(&self.target)),
            Begun::Part if self.active => Err(self.remains()),
            Begun::Part | Begun::Refused => Ok(()),
        }
    }

    fn remains(&self) -> Remains {
        EndCommit::in_doubt(&self.target, &self.file)
    }
}

/// Whether a file has been taken out: no disk's chain has it.
pub(super) async fn out_of_every_chain<E: Env>(
    live: &Live<E>,
    file: &Utf8Path,
) -> Result<Happened, StepError> {
    let devices = live.ask(&QueryBlock {}).await?;
    let tops = devices.iter().filter_map(|device| device.inserted.as_ref());
    let in_use = tops.flat_map(|top| images(&top.image)).any(|image| image == file);
    Ok(if in_use { Happened::No } else { Happened::Yes })
}

impl fmt::Display for EndCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "take {} out of {}", file_name(&self.file), self.target)
    }
}
