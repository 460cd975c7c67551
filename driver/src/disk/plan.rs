//! What is done for a snapshot of disks by the storage below them, as a [`Plan`]. Pure: it asks nobody.
//!
//! ```text
//! snapshot:              [freeze] -> catch -> [thaw] -> see that it is there
//!                         the guest stands frozen ^
//! delete, merge, revert: the one step
//! ```
//! The snapshot is taken when it has its name and the storage shows it. Until then what was caught is cleared away if anything
//! fails; but for a thaw, which makes it no worse.

use super::{Ask, DiskError};
use crate::{
    agent::{AgentError, FreezeStatus},
    error::OperationError,
    plan::{Plan, Stage, Wanted},
    request::{FrozenBy, Quiesce},
    step::{ProviderDelete, ProviderMerge, ProviderRevert, ProviderSeal, ProviderSnapshot, Thaw},
    storage::{Snapshot, Volumes, absent, present},
};

/// What the planner may look at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The disks.
    pub(super) targets: &'a [String],
    /// What holds them.
    pub(super) volumes: &'a Volumes,
    /// The snapshots that there are.
    pub(super) found: &'a [Snapshot],
    /// How the guest's agent stands, if it was asked.
    pub(super) agent: Option<&'a Result<FreezeStatus, AgentError>>,
    /// See [`crate::request::Create::frozen_by`].
    pub(super) frozen_by: Option<&'a FrozenBy>,
    /// A word that nothing has in its name.
    pub(super) fresh: &'a str,
}

/// How much the guest's rest is needed. Whether it runs is not known here: one that does not has no agent that answers.
pub(super) fn rest<'a>(
    quiesce: Quiesce,
    frozen_by: Option<&'a FrozenBy>,
    agent: Option<&'a Result<FreezeStatus, AgentError>>,
) -> Wanted<'a> {
    Wanted { quiesce, frozen_by, thaw_hooks: false, agent, runs: true, manual: None }
}

/// Whether the storage can have a snapshot of that name.
pub(super) fn check_name(ask: &Ask, volumes: &Volumes, fresh: &str) -> Result<(), DiskError> {
    let provider = volumes.provider()?;
    match ask {
        Ask::Snapshot { name, .. } => provider.snapshot(name, fresh),
        Ask::Delete(name) => provider.delete(name),
        Ask::Merge(name) => provider.merge(name),
        Ask::Revert(name) => provider.revert(name, fresh),
    }?;
    Ok(())
}

/// Plans it.
pub(super) fn plan(ask: &Ask, facts: Facts<'_>) -> Result<Plan, DiskError> {
    let Facts { targets, volumes, found, agent, frozen_by, fresh } = facts;
    check_name(ask, volumes, fresh)?;
    let provider = volumes.provider()?;
    let (volumes, fresh) = (volumes.clone(), fresh.to_owned());
    let stages = match ask {
        Ask::Snapshot { name, quiesce } => {
            absent(&*provider, name, found)?;
            let freeze = rest(*quiesce, frozen_by, agent).freeze().map_err(OperationError::from)?;
            let (targets, name) = (targets.to_vec(), name.clone());
            let catch = ProviderSnapshot {
                targets: targets.clone(),
                volumes: volumes.clone(),
                name: name.clone(),
                fresh: fresh.clone(),
            };
            let thaw = freeze.is_some().then(|| Stage::one(Thaw {}));
            let stages = freeze.map(Stage::one).into_iter().chain([Stage::one(catch)]).chain(thaw);
            stages.chain([Stage::one(ProviderSeal { targets, volumes, name, fresh })]).collect()
        }
        Ask::Delete(name) => {
            present(&*provider, name, found)?;
            vec![Stage::one(ProviderDelete { volumes, name: name.clone() })]
        }
        Ask::Merge(name) => {
            present(&*provider, name, found)?;
            vec![Stage::one(ProviderMerge { volumes, name: name.clone() })]
        }
        Ask::Revert(name) => {
            present(&*provider, name, found)?;
            vec![Stage::one(ProviderRevert { volumes, name: name.clone(), fresh })]
        }
    };
    let title = title(ask, facts);
    let no_return = stages.len() - 1;
    Ok(Plan { title, disks: targets.to_vec(), manual: Vec::new(), stages, no_return })
}

fn title(ask: &Ask, facts: Facts<'_>) -> String {
    let (disks, method) = (facts.targets.join(" "), facts.volumes.method);
    match ask {
        Ask::Snapshot { name, .. } => format!("snapshot {name} of {disks} by {method}"),
        Ask::Delete(name) => format!("delete snapshot {name} of {disks} by {method}"),
        Ask::Merge(name) => format!("merge snapshot {name} of {disks} by {method}"),
        Ask::Revert(name) => format!("revert {disks} to {name} by {method}"),
    }
}
