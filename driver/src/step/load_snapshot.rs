//! Puts machine and disks back to a tag.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, ForgetLoad, Happened, Kind, Naming, Remains, is_open, job_remains, nodes_with_tag};
use crate::{
    capabilities::InternalMethod,
    client::CommandError,
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
    /// The mark that was left in the process before, by its node: while it is there, and no such job, this was never begun. The job stays
    /// until it is forgotten behind the next mark in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

impl LoadSnapshot {
    /// How the job has ended, and whether it never began: the process is the marked one, and has no such job.
    async fn ended<E: Env>(&self, live: &Live<E>) -> Result<(End, bool), StepError> {
        let Some(mark) = self.mark.as_ref().filter(|_| self.method == InternalMethod::Jobs) else {
            return Ok((job::settle(live, &self.job, SnapshotLoad::NAME).await?, false));
        };
        // First of all: it goes before the job.
        let is_marked = is_open(live, mark).await?;
        let ended = job::ended(live, &self.job, SnapshotLoad::NAME).await?;
        let never_began = is_marked && ended == End::Absent;
        Ok((ended, never_began))
    }

    /// What forgets it, if it is to be forgotten apart.
    pub(crate) fn forget(&self) -> Option<ForgetLoad> {
        Some(ForgetLoad { mark: self.mark.clone()?, job: self.job.clone() })
    }

    /// Lets a guest go on that ran before.
    async fn go_on<E: Env>(&self, live: &Live<E>) -> Result<(), CommandError> {
        let status = live.ask(&QueryStatus {}).await?;
        if self.running && !status.running {
            live.ask(&Cont {}).await?;
        }
        Ok(())
    }
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
                let load = SnapshotLoad { job_id: job, tag, vmstate, devices };
                match self.mark {
                    Some(_) => job::run_and_keep(live, job, &load).await,
                    None => job::run(live, job, &load).await,
                }
            }
            InternalMethod::HumanMonitor => human_monitor::run(live, "loadvm", &[tag]).await,
        }
    }

    /// Only the job knows for sure, and the mark that there is none. A load leaves no other trace but the run state: QEMU lets the guest go on only
    /// when it succeeded, so a guest that ran and is stopped now was not loaded whole.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        if self.method == InternalMethod::Jobs {
            match self.ended(live).await? {
                (End::Done, _) => return Ok(Happened::Yes),
                (End::Failed(_), _) | (End::Absent, true) => return Ok(Happened::No),
                (End::Absent, false) => {}
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
        let mut is_missing = why.is_some_and(says_that_the_tag_is_missing);
        if let Some(forget) = self.forget() {
            let (ended, never_began) = self.ended(live).await.map_err(|error| unclear(&error))?;
            if never_began {
                return self.go_on(live).await.map_err(|error| unclear(&error));
            }
            is_missing |= matches!(&ended, End::Failed(reason) if tells_of_a_missing_tag(reason));
            forget.forget(live).await.map_err(|error| unclear(&error))?;
        }
        let devices = self.naming.nodes(live, &self.devices).await.map_err(|error| unclear(&error))?;
        let found = nodes_with_tag(live, &self.tag, &devices).await.map_err(|error| unclear(&error))?;
        if found.len() == self.devices.len() || !is_missing {
            return Err(self.remains());
        }
        self.go_on(live).await.map_err(|error| unclear(&error))
    }

    fn remains(&self) -> Remains {
        let mark = self.mark.as_ref().map(|mark| {
            format!("the node `{mark}`, which holds nothing, may still be open: close it with blockdev-del; ")
        });
        format!(
            "{}{}the machine may be stopped with disks and memory half reverted to `{}`: do not let it run; revert again, \
             or start it anew from its disks",
            job_remains(self.method, &self.job),
            mark.unwrap_or_default(),
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
    match why {
        StepError::JobFailed { reason, .. } => tells_of_a_missing_tag(reason),
        StepError::HumanMonitor { text, .. } => tells_of_a_missing_tag(text),
        _ => false,
    }
}

fn tells_of_a_missing_tag(text: &str) -> bool {
    text.contains("does not exist in one or more devices")
        || text.contains("does not have the requested snapshot")
}
