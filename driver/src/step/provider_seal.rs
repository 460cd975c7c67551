//! Gives volumes that are caught the name of their snapshot, and sees that it is there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{
    env::Env,
    error::StepError,
    live::Live,
    name::SnapshotName,
    storage::{StorageError, Volumes},
};

/// Does what a snapshot still needs that [`super::ProviderSnapshot`] has caught, and asks the storage whether it has it: a tool's
/// word alone is not believed. What was caught is cleared away by undoing that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderSeal {
    /// The disks that lie in the volumes.
    pub targets: Vec<String>,
    /// The volumes.
    pub volumes: Volumes,
    /// The snapshot's name.
    pub name: SnapshotName,
    /// The word by which they were caught.
    pub fresh: String,
}

impl Kind for ProviderSeal {
    const OUTSIDE_QEMU: bool = true;

    fn lane(&self) -> String {
        format!("seal-{}", self.targets.join("-"))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let storage = self.volumes.storage(live.env().clone())?;
        match storage.seal(&self.name, &self.fresh).await {
            Err(StorageError::Unfinished { failed }) => Err(StepError::DoneButFor { failed }),
            sealed => Ok(sealed?),
        }
    }

    /// Of one that is there it does what comes behind its name: whoever gave it that may not have come to it.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let storage = self.volumes.storage(live.env().clone())?;
        let found = storage.list().await?;
        if !found.iter().any(|snapshot| snapshot.name == self.name && snapshot.fit) {
            return Ok(Happened::No);
        }
        match storage.tidy_up(&self.name, &self.fresh).await {
            Err(StorageError::Unfinished { failed }) => Err(StepError::DoneButFor { failed }),
            tidied => Ok(tidied.map(|()| Happened::Yes)?),
        }
    }

    /// It has nothing of its own: what it names was caught before.
    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!(
            "what was caught of {} may be there without its name `{}`, as `...freezeframe-{}`",
            self.volumes, self.name, self.fresh
        )
    }
}

impl fmt::Display for ProviderSeal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { targets, volumes, name, .. } = self;
        write!(f, "complete {name} of {} by {}", targets.join(" "), volumes.method)
    }
}
