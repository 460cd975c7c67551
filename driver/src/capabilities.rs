//! What a QEMU can do, read from its own schema and never guessed from its version.
//!
//! The schema has 160 to 260 kB, and one binary always answers the same: ask once for each binary
//! ([`Capabilities::probe`]) and hand the result to every connection, as libvirt does.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    client::{Client, CommandError},
    commands::{
        BlockdevAdd, BlockdevCreate, BlockdevDel, Command, HumanMonitor, JobDismiss, QueryQmpSchema,
        SchemaEntity, SnapshotDelete, SnapshotLoad, SnapshotSave, Transaction,
    },
    env::Env,
};

/// The commands that one QEMU binary knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    commands: BTreeSet<String>,
}

/// How internal snapshots are taken with machine state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InternalMethod {
    /// `snapshot-save`, `snapshot-load`, `snapshot-delete`: since QEMU 6.0.
    Jobs,
    /// `savevm`, `loadvm`, `delvm` of the human monitor: for a QEMU without the jobs.
    HumanMonitor,
}

impl Capabilities {
    /// Asks a QEMU, by `query-qmp-schema`.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is changed by asking.
    pub async fn probe<E: Env>(client: &Client<E>, deadline: Duration) -> Result<Self, CommandError> {
        let schema = client.execute("probe", &QueryQmpSchema {}, deadline).await?;
        Ok(Self::from_schema(&schema))
    }

    /// Reads the answer to `query-qmp-schema`.
    pub fn from_schema(schema: &[SchemaEntity]) -> Self {
        let commands = schema.iter().filter(|entity| entity.meta_type == "command");
        Self { commands: commands.map(|entity| entity.name.clone()).collect() }
    }

    /// Whether a command exists.
    pub fn has(&self, command: &str) -> bool {
        self.commands.contains(command)
    }

    /// How internal snapshots are to be taken; none if this QEMU has no way.
    pub fn internal_method(&self) -> Option<InternalMethod> {
        let jobs = [SnapshotSave::NAME, SnapshotLoad::NAME, SnapshotDelete::NAME, JobDismiss::NAME];
        if jobs.into_iter().all(|command| self.has(command)) {
            Some(InternalMethod::Jobs)
        } else if self.has(HumanMonitor::NAME) {
            Some(InternalMethod::HumanMonitor)
        } else {
            None
        }
    }

    /// Which of the commands that an external snapshot needs are missing.
    pub fn missing_for_external(&self) -> Vec<&'static str> {
        [BlockdevAdd::NAME, BlockdevDel::NAME, BlockdevCreate::NAME, Transaction::NAME, JobDismiss::NAME]
            .into_iter()
            .filter(|command| !self.has(command))
            .collect()
    }
}
