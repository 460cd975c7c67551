//! Saves machine and disks under a tag inside the images.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, DeleteSnapshot, Happened, Kind, Naming, Remains, job_remains, nodes_with_tag};
use crate::{
    capabilities::InternalMethod,
    commands::{Command, SnapshotSave},
    env::Env,
    error::StepError,
    human_monitor,
    job::{self, End},
    live::Live,
};

/// Saves machine and disks under a tag inside the images. QEMU stops the guest meanwhile and lets it go on, also
/// when it fails; a failed job leaves no snapshot.
///
/// Source: QEMU QAPI `snapshot-save`; recordings `snap-save-*`, `hmp`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaveSnapshot {
    /// By job or by the human monitor.
    pub method: InternalMethod,
    /// The job's id.
    pub job: String,
    /// The snapshot's name.
    pub tag: String,
    /// The node that takes the memory.
    pub vmstate: String,
    /// All nodes that take part.
    pub devices: Vec<String>,
}

impl SaveSnapshot {
    fn opposite(&self) -> DeleteSnapshot {
        DeleteSnapshot {
            method: self.method,
            job: format!("{}-undo", self.job),
            tag: self.tag.clone(),
            devices: self.devices.clone(),
            naming: Naming::Nodes,
        }
    }
}

impl Kind for SaveSnapshot {
    const UNDO: Option<&'static str> = Some("delete the snapshot");
    const STOPS_THE_GUEST: bool = true;

    fn lane(&self) -> String {
        "save".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let Self { job, tag, vmstate, devices, .. } = self;
        match self.method {
            InternalMethod::Jobs => {
                job::run(live, job, &SnapshotSave { job_id: job, tag, vmstate, devices }).await
            }
            InternalMethod::HumanMonitor => human_monitor::run(live, "savevm", &[tag]).await,
        }
    }

    /// The job tells if it is still known; the images tell in any case. A tag on some disks only is no snapshot.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        if self.method == InternalMethod::Jobs {
            match job::settle(live, &self.job, SnapshotSave::NAME).await? {
                End::Done => return Ok(Happened::Yes),
                End::Failed(_) => return Ok(Happened::No),
                End::Absent => {}
            }
        }
        let found = nodes_with_tag(live, &self.tag, &self.devices).await?;
        Ok(if found.len() == self.devices.len() { Happened::Yes } else { Happened::No })
    }

    /// A whole snapshot is deleted again. After a failure there is nothing to delete; a tag that is there all the
    /// same was not there when the plan was made, may be somebody else's, and is reported.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        match begun {
            Begun::Whole => {
                let deleted = self.opposite().act(live).await;
                return deleted.map_err(|error| format!("{}: {error}", self.remains()));
            }
            Begun::Refused => return Ok(()),
            Begun::Part => {}
        }
        match nodes_with_tag(live, &self.tag, &self.devices).await {
            Ok(found) if found.is_empty() => Ok(()),
            Ok(found) => Err(format!(
                "a snapshot `{}` is on {}, made by somebody else meanwhile or left by QEMU: look before you delete it",
                self.tag,
                found.join(", ")
            )),
            Err(error) => Err(format!("{}: {error}", self.remains())),
        }
    }

    fn remains(&self) -> Remains {
        format!(
            "{}snapshot `{}` may or may not be in the images: look for it with query-named-block-nodes, or `qemu-img snapshot -U -l` where QEMU is gone",
            job_remains(self.method, &self.job),
            self.tag
        )
    }
}

impl fmt::Display for SaveSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "save machine and disks as {}", self.tag)
    }
}
