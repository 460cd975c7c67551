//! Puts machine and disks back to a tag.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Naming, Remains, job_remains, nodes_with_tag};
use crate::{
    capabilities::InternalMethod,
    commands::{Command, Cont, QueryStatus, SnapshotLoad, Stop},
    env::Env,
    error::StepError,
    human_monitor,
    job::{self, End},
    live::Live,
};

/// Puts machine and disks back to a tag. What the guest has done since is gone: the point of no return.
///
/// QEMU stops the guest before it checks anything, and a load that fails leaves it stopped in `restore-vm`. If it
/// failed because the tag is missing, nothing was reverted yet and the guest can go on; after any other failure disks
/// and memory may be half reverted, and letting the guest run would destroy data.
///
/// Source: QEMU QAPI `snapshot-load`; recordings `snap-load-*`, `snap-errors`, `load-incompat`, `hmp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSnapshot {
    /// By job or by the human monitor.
    pub method: InternalMethod,
    /// The job's id.
    pub job: String,
    /// The snapshot's name.
    pub tag: String,
    /// The node that holds the memory.
    pub vmstate: String,
    /// All nodes that take part.
    pub devices: Vec<String>,
    /// What the nodes are called here.
    #[serde(default, skip_serializing_if = "Naming::is_qemus")]
    pub naming: Naming,
    /// Whether the guest runs. It runs again afterwards, unless it is to be paused.
    pub running: bool,
    /// Whether the guest, which runs, is to stand still afterwards: it is stopped first, so that it never runs on from there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pauses: bool,
}

impl Kind for LoadSnapshot {
    const STOPS_THE_GUEST: bool = true;

    fn lane(&self) -> String {
        "load".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let Self { job, tag, .. } = self;
        if self.pauses {
            live.execute(&Stop {}).await?;
        }
        match self.method {
            InternalMethod::Jobs => {
                let vmstate = &self.naming.nodes(live, std::slice::from_ref(&self.vmstate)).await?[0];
                let devices = &self.naming.nodes(live, &self.devices).await?;
                job::run(live, job, &SnapshotLoad { job_id: job, tag, vmstate, devices }).await
            }
            InternalMethod::HumanMonitor => human_monitor::run(live, "loadvm", tag).await,
        }
    }

    /// Only the job knows for sure. A load leaves no other trace but the run state: QEMU lets the guest go on only
    /// when it succeeded, so a guest that ran and is stopped now was not loaded whole.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        if self.method == InternalMethod::Jobs {
            match job::settle(live, &self.job, SnapshotLoad::NAME).await? {
                End::Done => return Ok(Happened::Yes),
                End::Failed(_) => return Ok(Happened::No),
                End::Absent => {}
            }
        }
        let status = live.ask(&QueryStatus {}).await?;
        let would_run = self.running && !self.pauses;
        Ok(if would_run && !status.running { Happened::No } else { Happened::Unknown })
    }

    /// There is no way back from a load. What can be mended: a guest stopped by a load that was refused before it
    /// reverted anything.
    ///
    /// Two things must agree before the guest goes on: QEMU said that the tag is missing, and it is.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        why: Option<&StepError>,
    ) -> Result<(), Remains> {
        match begun {
            Begun::Whole => return Err(self.remains()),
            Begun::Refused => return Ok(()),
            Begun::Part => {}
        }
        let unclear = |error: &dyn std::fmt::Display| format!("{}: {error}", self.remains());
        let devices = self.naming.nodes(live, &self.devices).await.map_err(|error| unclear(&error))?;
        let found = nodes_with_tag(live, &self.tag, &devices).await.map_err(|error| unclear(&error))?;
        if found.len() == self.devices.len() || !why.is_some_and(says_that_the_tag_is_missing) {
            return Err(self.remains());
        }
        let status = live.ask(&QueryStatus {}).await.map_err(|error| unclear(&error))?;
        if self.running && !status.running {
            live.ask(&Cont {}).await.map_err(|error| unclear(&error))?;
        }
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!(
            "{}the machine may be stopped with disks and memory half reverted to `{}`: do not let it run; revert again, \
             or start it anew from its disks",
            job_remains(self.method, &self.job),
            self.tag
        )
    }
}

impl fmt::Display for LoadSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put machine and disks back to {}", self.tag)
    }
}

/// Whether a load failed because a disk lacks the tag: the one failure that comes before anything is reverted.
/// The texts are those of 6.0 and later, and of 5.2's human monitor.
fn says_that_the_tag_is_missing(why: &StepError) -> bool {
    let text = match why {
        StepError::JobFailed { reason, .. } => reason,
        StepError::HumanMonitor { text, .. } => text,
        _ => return false,
    };
    text.contains("does not exist in one or more devices")
        || text.contains("does not have the requested snapshot")
}
