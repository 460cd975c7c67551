//! The records of one machine: opened, handed in and removed. No disk is touched.

use camino::Utf8PathBuf;
use clap::Args;
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    domain_xml::DomainXml,
    env::tokio::TokioEnv,
    store::{self, Passed, Store},
    tree::SnapshotTree,
};
use tokio::runtime::{Builder, Runtime};

use super::{SnapshotError, xml};
use crate::cli::{CliError, output};

/// Which machine.
#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    /// The machine's <domain> document
    #[arg(long, value_name = "FILE")]
    domain: Utf8PathBuf,
    /// Folder of freezeframe's records; each machine has one of its own in it
    #[arg(long, value_name = "DIR")]
    state: Utf8PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RedefineArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// The snapshot's <domainsnapshot> document; - is standard input
    #[arg(value_name = "FILE")]
    file: Utf8PathBuf,
    /// Make it the current snapshot
    #[arg(long)]
    current: bool,
    /// It must be one of disks alone
    #[arg(long)]
    disk_only: bool,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// The snapshot
    #[arg(value_name = "NAME")]
    name: String,
    /// Remove the record alone; disks and memory stay where they are
    #[arg(long, required = true)]
    metadata: bool,
    /// Remove those that descend from it too
    #[arg(long, conflicts_with = "children_only")]
    children: bool,
    /// Remove those that descend from it, and keep it
    #[arg(long)]
    children_only: bool,
}

/// The records of a machine as they are; somebody may be changing them.
pub(super) struct Records {
    /// The machine.
    pub(super) domain: DomainXml,
    /// Its snapshots.
    pub(super) tree: SnapshotTree,
}

/// The records of a machine, for this command alone.
struct Locked {
    runtime: Runtime,
    domain: DomainXml,
    store: Store<TokioEnv>,
}

impl Records {
    /// Reads them; what is passed over is told on standard error.
    pub(super) fn read(machine: &MachineArgs) -> Result<Self, CliError> {
        let domain = xml::domain(&machine.domain)?;
        let loaded = async { store::load(&TokioEnv::new(), &machine.state, &domain.name()).await };
        let (tree, passed) = runtime()?.block_on(loaded).map_err(SnapshotError::from)?;
        warn(&passed);
        Ok(Self { domain, tree })
    }

    /// The snapshot of that name.
    pub(super) fn get(&self, name: &str) -> Result<&DomainSnapshot, SnapshotError> {
        known(&self.tree, name)
    }
}

impl Locked {
    fn open(machine: &MachineArgs) -> Result<Self, CliError> {
        let domain = xml::domain(&machine.domain)?;
        let runtime = runtime()?;
        let opened = async { Store::open(TokioEnv::new(), &machine.state, &domain.name()).await };
        let (store, passed) = runtime.block_on(opened).map_err(SnapshotError::from)?;
        warn(&passed);
        Ok(Self { runtime, domain, store })
    }

    /// Writes down what `change` makes of the tree.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut SnapshotTree) -> Result<T, SnapshotError>,
    ) -> Result<T, SnapshotError> {
        let mut tree = self.store.tree().clone();
        let result = change(&mut tree)?;
        self.runtime.block_on(self.store.save(tree))?;
        Ok(result)
    }
}

fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)
}

fn warn(passed: &[Passed]) {
    for passed in passed {
        output::complain(&format!("warning: {passed}"));
    }
}

fn known<'t>(tree: &'t SnapshotTree, name: &str) -> Result<&'t DomainSnapshot, SnapshotError> {
    tree.get(name).ok_or_else(|| SnapshotError::NoSuch(name.to_owned()))
}

pub(super) fn redefine(arguments: &RedefineArgs) -> Result<(), CliError> {
    let record = xml::snapshot(&arguments.file, Purpose::Redefine)?;
    let name = record.name.clone().unwrap_or_default();
    let mut records = Locked::open(&arguments.machine)?;
    let uuid = records.domain.uuid();
    records.change(|tree| {
        tree.redefine(record, uuid.as_deref(), arguments.disk_only)?;
        if arguments.current {
            tree.set_current(Some(&name));
        }
        Ok(())
    })?;
    output::print(&format!("snapshot {name} recorded\n"))
}

pub(super) fn make_current(machine: &MachineArgs, name: &str) -> Result<(), CliError> {
    Locked::open(machine)?.change(|tree| {
        known(tree, name)?;
        tree.set_current(Some(name));
        Ok(())
    })?;
    Ok(())
}

pub(super) fn delete(arguments: &DeleteArgs) -> Result<(), CliError> {
    let name = &arguments.name;
    let removed = Locked::open(&arguments.machine)?.change(|tree| {
        known(tree, name)?;
        let mut removed: Vec<String> = Vec::new();
        if arguments.children || arguments.children_only {
            removed.extend(tree.descendants(name).into_iter().map(str::to_owned));
        }
        if !arguments.children_only {
            removed.insert(0, name.clone());
        }
        // Leaves first: what moves up in between would be written for nothing.
        for name in removed.iter().rev() {
            tree.remove(name);
        }
        Ok(removed)
    })?;
    output::print(
        &removed.iter().map(|name| format!("record of snapshot {name} removed\n")).collect::<String>(),
    )
}
