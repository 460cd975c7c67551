//! What a QEMU can do, read from its own schema and never guessed from its version.
//!
//! The schema has 160 to 260 kB, and one binary always answers the same: ask once for each binary
//! ([`Capabilities::probe`]) and hand the result to every connection, as libvirt does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    client::{Client, CommandError},
    commands::{
        BlockCommit, BlockStream, BlockdevAdd, BlockdevCreate, BlockdevDel, BlockdevSetActive,
        BlockdevSnapshotDeleteInternalSync, Command, HumanMonitor, JobComplete, JobDismiss, JobFinalize,
        Migrate, MigrateIncoming, MigrateSetCapabilities, QueryQmpSchema, SchemaEntity, SnapshotDelete,
        SnapshotLoad, SnapshotSave, Transaction,
    },
    env::Env,
};

/// What one QEMU binary knows: commands, and what differs in those that migrate.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Capabilities {
    commands: BTreeSet<String>,
    /// What `migrate-set-capabilities` takes.
    migration: BTreeSet<String>,
    /// `migrate` opens files by itself.
    migrates_to_files: bool,
    /// `migrate-incoming` can be told not to end QEMU when it fails.
    failed_loads_can_stay: bool,
}

/// How internal snapshots are taken with machine state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum InternalMethod {
    /// `snapshot-save`, `snapshot-load`, `snapshot-delete`: since QEMU 6.0.
    Jobs,
    /// `savevm`, `loadvm`, `delvm` of the human monitor: for a QEMU without the jobs.
    HumanMonitor,
}

/// How a machine's memory gets into a file, and out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryMethod {
    /// The file is opened here and handed over: until 10.0. From 11.1 on QEMU refuses plain files.
    Descriptor,
    /// QEMU opens it: since 8.2.
    File,
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
        let commands = commands.map(|entity| entity.name.clone()).collect();
        let schema = Schema(schema.iter().map(|entity| (entity.name.as_str(), entity)).collect());
        let migration = schema.enum_at(MigrateSetCapabilities::NAME, &["capabilities", "capability"]);
        let transports = schema.enum_at(Migrate::NAME, &["channels", "addr", "transport"]);
        Self {
            commands,
            migration: migration.iter().cloned().collect(),
            migrates_to_files: transports.iter().any(|transport| transport == "file"),
            failed_loads_can_stay: schema.at(MigrateIncoming::NAME, &["exit-on-error"]).is_some(),
        }
    }

    /// How a machine's memory is to get into a file, and out of it.
    pub fn memory_method(&self) -> MemoryMethod {
        if self.migrates_to_files { MemoryMethod::File } else { MemoryMethod::Descriptor }
    }

    /// Whether a migration can use something: `mapped-ram`, `background-snapshot`.
    pub fn can_migrate_with(&self, capability: &str) -> bool {
        self.migration.contains(capability)
    }

    /// Whether a QEMU that cannot load a machine's state can be told to live on and say why.
    pub fn failed_loads_can_stay(&self) -> bool {
        self.failed_loads_can_stay
    }

    /// Whether images that were given away can be taken back without letting the guest run: since 10.0.
    pub fn can_take_images_back(&self) -> bool {
        self.has(BlockdevSetActive::NAME)
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
        self.missing([
            BlockdevAdd::NAME,
            BlockdevDel::NAME,
            BlockdevCreate::NAME,
            Transaction::NAME,
            JobDismiss::NAME,
        ])
    }

    /// Which of the commands that an internal snapshot of some disks needs are missing.
    pub fn missing_for_tags(&self) -> Vec<&'static str> {
        self.missing([Transaction::NAME, BlockdevSnapshotDeleteInternalSync::NAME])
    }

    /// Which of the commands that merging an overlay needs are missing.
    pub fn missing_for_merge(&self) -> Vec<&'static str> {
        self.missing([
            BlockCommit::NAME,
            JobComplete::NAME,
            JobFinalize::NAME,
            JobDismiss::NAME,
            BlockdevDel::NAME,
        ])
    }

    /// Which of the commands that copying images upwards needs are missing.
    pub fn missing_for_streams(&self) -> Vec<&'static str> {
        self.missing([BlockStream::NAME, JobDismiss::NAME, BlockdevDel::NAME])
    }

    /// Those of a QEMU that has these commands and no more.
    #[cfg(test)]
    pub(crate) fn of_commands(names: &[&str]) -> Self {
        let command = |name: &&str| SchemaEntity {
            name: (*name).into(),
            meta_type: "command".into(),
            ..SchemaEntity::default()
        };
        Self::from_schema(&names.iter().map(command).collect::<Vec<_>>())
    }

    fn missing<const N: usize>(&self, commands: [&'static str; N]) -> Vec<&'static str> {
        commands.into_iter().filter(|command| !self.has(command)).collect()
    }
}

/// The entities of a schema by name.
struct Schema<'s>(BTreeMap<&'s str, &'s SchemaEntity>);

impl<'s> Schema<'s> {
    /// The type that is found below a command's arguments by these members; arrays on the way are passed through.
    fn at(&self, command: &str, members: &[&str]) -> Option<&'s SchemaEntity> {
        let mut here = *self.0.get(self.0.get(command)?.arg_type.as_deref()?)?;
        for name in members {
            let member = here.members.iter().find(|member| member.name == *name)?;
            here = self.0.get(member.of.as_deref()?)?;
            while let Some(element) = &here.element_type {
                here = self.0.get(element.as_str())?;
            }
        }
        Some(here)
    }

    /// The values of the enum that is found there; none if there is none.
    fn enum_at(&self, command: &str, members: &[&str]) -> &'s [String] {
        self.at(command, members).map_or(&[], |found| found.values.as_slice())
    }
}
