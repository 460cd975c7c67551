//! Lets a storage let go of a snapshot.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, provider};
use crate::{env::Env, error::StepError, live::Live, name::SnapshotName, storage::Volumes};

/// Lets go of a storage's snapshot, and keeps all that was written since. It cannot be undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderMerge {
    /// The volumes.
    pub volumes: Volumes,
    /// The snapshot's name.
    pub name: SnapshotName,
}

impl Kind for ProviderMerge {
    const OUTSIDE_QEMU: bool = true;

    fn lane(&self) -> String {
        "storage-merge".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        provider::done(self.volumes.storage(live.env().clone())?.merge(&self.name).await)
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        provider::is_gone(&self.volumes, &self.name, live).await
    }

    async fn undo<E: Env>(&self, _: &Live<E>, _: Begun, why: Option<&StepError>) -> Result<(), Remains> {
        provider::left(why, || self.remains())
    }

    fn remains(&self) -> Remains {
        provider::in_doubt(&self.volumes, &self.name)
    }
}

impl fmt::Display for ProviderMerge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "merge {} of {} by {}", self.name, self.volumes, self.volumes.method)
    }
}
