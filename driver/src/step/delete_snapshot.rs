//! Deletes a tag from the images.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Naming, Remains, job_remains, nodes_with_tag};
use crate::{
    capabilities::InternalMethod,
    commands::{Command, SnapshotDelete},
    env::Env,
    error::StepError,
    human_monitor,
    job::{self, End},
    live::Live,
    mutant::{Mutant, planted},
};

/// Deletes a tag from the images. It cannot be undone; doing it again finishes what was left.
///
/// Source: QEMU QAPI `snapshot-delete`, which succeeds where there is nothing to delete; recordings `snap-*`, `hmp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeleteSnapshot {
    /// By job or by the human monitor.
    pub method: InternalMethod,
    /// The job's id.
    pub job: String,
    /// The snapshot's name.
    pub tag: String,
    /// The nodes that have it.
    pub devices: Vec<String>,
    /// What the nodes are called here.
    #[serde(default, skip_serializing_if = "Naming::is_qemus")]
    pub naming: Naming,
}

impl DeleteSnapshot {
    /// The nodes that have it still.
    async fn still_on<E: Env>(&self, live: &Live<E>) -> Result<Vec<String>, StepError> {
        let devices = self.naming.nodes(live, &self.devices).await?;
        Ok(nodes_with_tag(live, &self.tag, &devices).await?)
    }
}

impl Kind for DeleteSnapshot {
    const STOPS_THE_GUEST: bool = true;

    fn lane(&self) -> String {
        "delete".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let Self { job, tag, .. } = self;
        match self.method {
            InternalMethod::Jobs => {
                let mut devices = self.naming.nodes(live, &self.devices).await?;
                if planted(Mutant::DeletesFromOneDisk) {
                    devices.truncate(1);
                }
                let devices = &devices;
                job::run(live, job, &SnapshotDelete { job_id: job, tag, devices }).await
            }
            InternalMethod::HumanMonitor => human_monitor::run(live, "delvm", &[tag]).await,
        }
    }

    /// It has happened when the tag is nowhere.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        if self.method == InternalMethod::Jobs
            && let End::Failed(_) = job::settle(live, &self.job, SnapshotDelete::NAME).await?
        {
            return Ok(Happened::No);
        }
        let found = self.still_on(live).await?;
        Ok(if found.is_empty() { Happened::Yes } else { Happened::No })
    }

    /// A deletion that failed before it began needs no undo; one that got half way is reported.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        if begun == Begun::Refused {
            return Ok(());
        }
        match self.still_on(live).await {
            Ok(found) if found.len() == self.devices.len() => Ok(()),
            Ok(found) if found.is_empty() => Err(format!("snapshot `{}` is deleted all the same", self.tag)),
            Ok(found) => Err(format!(
                "snapshot `{}` is deleted from some disks, and still on {}: delete it again",
                self.tag,
                found.join(", ")
            )),
            Err(error) => Err(format!("{}: {error}", self.remains())),
        }
    }

    fn remains(&self) -> Remains {
        let job = job_remains(self.method, &self.job);
        format!("{job}snapshot `{}` may be deleted from some disks or all: delete it again", self.tag)
    }
}

impl fmt::Display for DeleteSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delete {} from its disks", self.tag)
    }
}
