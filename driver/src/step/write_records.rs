//! Writes what an operation changes among the machine's records.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{
    env::Env,
    error::StepError,
    live::Live,
    mutant::{Mutant, planted},
    name::BadName,
    store::{self, StoreError},
    tree::SnapshotTree,
};

/// Writes what an operation changes among the machine's records; undoing writes back what was there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriteRecords {
    /// What is written, and what is removed.
    pub changes: store::Changes,
    /// The way back.
    pub back: store::Changes,
}

impl WriteRecords {
    /// From what the records in a folder say to what they shall say.
    ///
    /// # Errors
    /// [`BadName`] of a snapshot that no file can be named after.
    pub fn new(folder: &Utf8Path, old: &SnapshotTree, new: &SnapshotTree) -> Result<Self, BadName> {
        Ok(Self {
            changes: store::Changes::between(folder, old, new)?,
            back: store::Changes::between(folder, new, old)?,
        })
    }

    fn files(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        self.changes.files()
    }
}

impl Kind for WriteRecords {
    const UNDO: Option<&'static str> = Some("write back");

    fn lane(&self) -> String {
        "record".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let env = live.env();
        self.changes.write(env).await.map_err(StepError::Records)
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let written = self.changes.are_written(live.env()).await.map_err(StepError::Records)?;
        Ok(if written { Happened::Yes } else { Happened::No })
    }

    /// What could not be written is as it was, and is written once more as it was: that does no harm.
    async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        if begun == Begun::Refused || planted(Mutant::KeepsTheRecord) {
            return Ok(());
        }
        self.back.write(env).await.map_err(|error: StoreError| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        let files: Vec<_> = self.files().map(|file| file.as_str()).collect();
        format!(
            "the records {} may not say what is: see with snapshot list, mend with redefine or delete --metadata",
            files.join(", ")
        )
    }
}

impl fmt::Display for WriteRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write the records")
    }
}
