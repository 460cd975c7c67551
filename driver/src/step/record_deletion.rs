//! Writes down how far the deletion of an external snapshot has come.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains};
use crate::{
    env::Env, error::StepError, live::Live, name::BadName, plan::Records, store::Changes, tree::SnapshotTree,
};

/// Writes down how far the deletion of an external snapshot has come: that it has begun, or that a disk is done.
///
/// It is never taken back, unlike [`super::WriteRecords`]: once a commit has written its first byte, the snapshot's images are
/// not what they were, and who finds the record must know. A deletion that is asked for again goes on from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordDeletion {
    /// What is written.
    pub changes: Changes,
    /// The snapshot that is being deleted.
    pub snapshot: String,
    /// The disk that is done; none at the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
}

impl RecordDeletion {
    /// From what the records say to what they shall say.
    ///
    /// # Errors
    /// [`BadName`] of a snapshot that no file can be named after.
    pub fn new(
        snapshot: &str,
        done: Option<&str>,
        records: Records<'_>,
        new: &SnapshotTree,
    ) -> Result<Self, BadName> {
        let changes = Changes::between(records.folder, records.tree, new)?;
        Ok(Self { changes, snapshot: snapshot.to_owned(), done: done.map(str::to_owned) })
    }
}

impl Kind for RecordDeletion {
    fn lane(&self) -> String {
        "record".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let env = live.env();
        self.changes.write(env).await.map_err(StepError::Records)
    }

    /// What it says stays true. Where it could not be said that the deletion has begun, it has not: that comes before any disk. That a
    /// disk is done is said once more: once QEMU is gone nothing else tells in which image the guest went on.
    async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        match (&self.done, begun) {
            (_, Begun::Refused) => Ok(()),
            (None, Begun::Part) if self.changes.are_unwritten(env).await => Ok(()),
            // That it stays so the pivot tells.
            (Some(_), begun) if begun == Begun::Whole || self.changes.write(env).await.is_ok() => Ok(()),
            _ => Err(self.remains()),
        }
    }

    fn remains(&self) -> Remains {
        let name = &self.snapshot;
        match &self.done {
            None => format!(
                "nothing of the disks is lost, but the images of snapshot `{name}` may not hold it any more: do not revert to it, \
                 delete it again"
            ),
            Some(disk) => format!(
                "the record of snapshot `{name}` may not say that disk {disk} is done with: delete it again"
            ),
        }
    }
}

impl fmt::Display for RecordDeletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.done {
            None => write!(f, "record that {} is being deleted", self.snapshot),
            Some(disk) => write!(f, "record that {disk} is done"),
        }
    }
}
