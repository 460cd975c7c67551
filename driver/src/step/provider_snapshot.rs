//! Lets a storage catch volumes: the moment of their snapshot.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{
    env::Env,
    error::StepError,
    live::Live,
    name::SnapshotName,
    storage::{Storage, StorageError, Volumes},
};

/// Catches volumes at one point in time, by the one command that does so: a guest that stands still for it need not wait for more.
/// [`super::ProviderSeal`] follows, and is what gives the snapshot its name where the storage does not do so at once.
///
/// Undoing clears away what was caught. It was looked before that there is no snapshot of the name, and the tools overwrite none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderSnapshot {
    /// The disks that lie in the volumes.
    pub targets: Vec<String>,
    /// The volumes.
    pub volumes: Volumes,
    /// The snapshot's name.
    pub name: SnapshotName,
    /// A word that nothing else has in its name.
    pub fresh: String,
}

impl ProviderSnapshot {
    fn storage<E: Env>(&self, env: &E) -> Result<Storage<E>, StorageError> {
        self.volumes.storage(env.clone())
    }

    /// That something is caught and has no name yet.
    pub(crate) fn caught(&self) -> Remains {
        format!(
            "what was caught of {} may be there without its name `{}`, as `...freezeframe-{}`",
            self.volumes, self.name, self.fresh
        )
    }

    /// What can be said of one that failed: a copy without its name is cleared away, one that has it is told.
    async fn clear<E: Env>(&self, env: &E, begun: Begun, why: Option<&StepError>) -> Result<(), Remains> {
        let Ok(storage) = self.storage(env) else { return Ok(()) };
        let left = storage.let_go(&self.name, &self.fresh, begun == Begun::Whole).await;
        if !left.is_empty() {
            return Err(left.join("; "));
        }
        let of_another = matches!(why, Some(StepError::Storage(StorageError::Exists { .. })));
        if begun == Begun::Whole || of_another {
            return Ok(());
        }
        match storage.list().await {
            Ok(found) if found.iter().all(|snapshot| snapshot.name != self.name) => Ok(()),
            Ok(_) => Err(self.remains()),
            Err(error) => Err(format!("{} ({error})", self.remains())),
        }
    }
}

impl Kind for ProviderSnapshot {
    const UNDO: Option<&'static str> = Some("delete it");

    const OUTSIDE_QEMU: bool = true;

    fn lane(&self) -> String {
        format!("catch-{}", self.targets.join("-"))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        Ok(self.storage(live.env())?.catch(&self.name, &self.fresh).await?)
    }

    /// The storage was asked when it happened, and is asked once more.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let found = self.storage(live.env())?.list().await?;
        let is_it = found.iter().any(|snapshot| snapshot.name == self.name && snapshot.fit);
        Ok(if is_it { Happened::Yes } else { Happened::No })
    }

    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        why: Option<&StepError>,
    ) -> Result<(), Remains> {
        self.clear(live.env(), begun, why).await
    }

    async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        self.clear(env, begun, None).await
    }

    fn remains(&self) -> Remains {
        format!("{} may have the snapshot `{}`: list them, and delete it if so", self.volumes, self.name)
    }
}

impl fmt::Display for ProviderSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { targets, volumes, name, .. } = self;
        write!(f, "catch {} as {name} by {}", targets.join(" "), volumes.method)
    }
}
