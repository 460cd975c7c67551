//! Lets volumes be what a snapshot of their storage holds.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains, provider};
use crate::{
    env::Env,
    error::StepError,
    live::Live,
    name::SnapshotName,
    storage::{Method, Volumes},
};

/// Lets the live volumes be what the snapshot holds; what was written since is lost. Who uses them was asked before. A storage that
/// does it by several commands takes back what was begun of them; once the volumes are the snapshot's there is no way back.
///
/// Whether one that was cut short has happened, no list tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderRevert {
    /// The volumes.
    pub volumes: Volumes,
    /// The snapshot's name.
    pub name: SnapshotName,
    /// A word that nothing else has in its name.
    pub fresh: String,
}

impl Kind for ProviderRevert {
    const OUTSIDE_QEMU: bool = true;

    fn lane(&self) -> String {
        "storage-revert".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let storage = self.volumes.storage(live.env().clone())?;
        // Somebody may have opened them since they were asked for.
        if let Err(mut error) = storage.may_revert(&self.name).await {
            // Who was only asked has done nothing.
            error.doubt().into_iter().for_each(|happened| *happened = Happened::No);
            return Err(error.into());
        }
        provider::done(storage.revert_at_once(&self.name, &self.fresh).await)
    }

    async fn probe<E: Env>(&self, _: &Live<E>) -> Result<Happened, StepError> {
        Ok(Happened::Unknown)
    }

    async fn undo<E: Env>(&self, _: &Live<E>, _: Begun, why: Option<&StepError>) -> Result<(), Remains> {
        provider::left(why, || self.remains())
    }

    fn remains(&self) -> Remains {
        let copy = match self.volumes.method {
            Method::Btrfs | Method::Reflink => {
                format!("; a copy that was made for it may be left as `...freezeframe-{}`", self.fresh)
            }
            _ => String::new(),
        };
        format!(
            "{} may hold what `{}` holds, or not: do not start the machine before it was reverted once more{copy}",
            self.volumes, self.name
        )
    }
}

impl fmt::Display for ProviderRevert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "let {} be what {} holds, by {}", self.volumes, self.name, self.volumes.method)
    }
}
