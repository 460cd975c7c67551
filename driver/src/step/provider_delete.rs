//! Lets a storage delete a snapshot.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, provider};
use crate::{env::Env, error::StepError, live::Live, name::SnapshotName, storage::Volumes};

/// Deletes a storage's snapshot. The live volumes stay as they are. It cannot be undone: what was deleted is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderDelete {
    /// The volumes.
    pub volumes: Volumes,
    /// The snapshot's name.
    pub name: SnapshotName,
}

impl Kind for ProviderDelete {
    const OUTSIDE_QEMU: bool = true;

    fn lane(&self) -> String {
        "storage-delete".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        provider::done(self.volumes.storage(live.env().clone())?.delete(&self.name).await)
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

impl fmt::Display for ProviderDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delete {} of {} by {}", self.name, self.volumes, self.volumes.method)
    }
}
