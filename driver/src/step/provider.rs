//! What the steps have in common that let a storage do something with a snapshot that there is.

use super::{Happened, Remains};
use crate::{
    env::Env,
    error::StepError,
    live::Live,
    name::SnapshotName,
    storage::{StorageError, Volumes},
};

/// How a storage's operation has ended, for a step.
pub(super) fn done(result: Result<(), StorageError>) -> Result<(), StepError> {
    match result {
        Err(StorageError::Unfinished { failed }) => Err(StepError::DoneButFor { failed }),
        result => Ok(result?),
    }
}

/// Whether the storage has it no more.
pub(super) async fn is_gone<E: Env>(
    volumes: &Volumes,
    name: &SnapshotName,
    live: &Live<E>,
) -> Result<Happened, StepError> {
    let found = volumes.storage(live.env().clone())?.list().await?;
    let is_there = found.iter().any(|snapshot| snapshot.name == *name);
    Ok(if is_there { Happened::No } else { Happened::Yes })
}

/// What is left of one that failed: nothing, where its tool refused, and was not cut short.
pub(super) fn left(why: Option<&StepError>, remains: impl Fn() -> Remains) -> Result<(), Remains> {
    match why {
        Some(StepError::Storage(StorageError::Left { left, .. })) => Err(left.join("; ")),
        Some(StepError::Storage(error)) if error.changes_nothing() => Ok(()),
        _ => Err(remains()),
    }
}

/// What can be said where nobody knows.
pub(super) fn in_doubt(volumes: &Volumes, name: &SnapshotName) -> Remains {
    format!("{volumes} may still have the snapshot `{name}`: list them, and delete it once more if so")
}
