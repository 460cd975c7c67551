//! The records of one machine: opened, and changed as a whole or not at all. No disk is touched.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use freezeframe_driver::{
    domain_snapshot::DomainSnapshot,
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
pub(in crate::cli) struct MachineArgs {
    /// The machine's <domain> document
    #[arg(long, value_name = "FILE", required = true)]
    domain: Option<Utf8PathBuf>,
    /// Folder of freezeframe's records; each machine has one of its own in it
    #[arg(long, value_name = "DIR", required = true)]
    state: Option<Utf8PathBuf>,
}

impl MachineArgs {
    /// Its description.
    pub(super) fn domain(&self) -> Result<DomainXml, CliError> {
        xml::domain(
            self.domain.as_ref().expect("it is left out where no machine is needed, and not asked for there"),
        )
    }

    /// The folder of all records.
    pub(super) fn state(&self) -> &Utf8Path {
        self.state.as_ref().expect("it is left out where no machine is needed, and not asked for there")
    }
}

/// One of its snapshots.
#[derive(Debug, Args)]
pub(super) struct WhichArgs {
    /// The snapshot
    #[arg(value_name = "NAME", required_unless_present_any = ["snapshotname", "current"])]
    name: Option<String>,
    /// The snapshot, as an option
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    snapshotname: Option<String>,
    /// The current snapshot
    #[arg(long, conflicts_with_all = ["name", "snapshotname"])]
    current: bool,
}

impl WhichArgs {
    /// The name of a snapshot that the caller names, known or not; of the current one if it is asked for.
    pub(super) fn name<'t>(&'t self, tree: &'t SnapshotTree) -> Result<&'t str, SnapshotError> {
        match self.name.as_deref().or(self.snapshotname.as_deref()) {
            Some(name) => Ok(name),
            None => tree.current().ok_or(SnapshotError::NoCurrent),
        }
    }
}

/// The records of a machine as they are; somebody may be changing them.
pub(in crate::cli) struct Records {
    /// The machine.
    pub(super) domain: DomainXml,
    /// Its snapshots.
    pub(super) tree: SnapshotTree,
}

/// The records of a machine, for this command alone.
pub(in crate::cli) struct Locked {
    runtime: Runtime,
    /// The machine.
    pub(in crate::cli) domain: DomainXml,
    /// Files among the records that are none, and stay where they are.
    pub(in crate::cli) passed: Vec<Passed>,
    store: Store<TokioEnv>,
}

impl Records {
    /// Reads them; what is passed over is told on standard error.
    pub(super) fn read(machine: &MachineArgs) -> Result<Self, CliError> {
        let domain = machine.domain()?;
        let loaded = async { store::load(&TokioEnv::new(), machine.state(), &domain.name()).await };
        let (tree, passed) = runtime()?.block_on(loaded).map_err(SnapshotError::from)?;
        warn(&passed);
        Ok(Self { domain, tree })
    }

    /// The snapshot that is asked for.
    pub(super) fn get(&self, which: &WhichArgs) -> Result<&DomainSnapshot, SnapshotError> {
        known(&self.tree, which.name(&self.tree)?)
    }
}

impl Locked {
    /// Opens them, made if there are none; what is passed over is told on standard error.
    pub(in crate::cli) fn open(machine: &MachineArgs) -> Result<Self, CliError> {
        let domain = machine.domain()?;
        let runtime = runtime()?;
        let opened = async { Store::open(TokioEnv::new(), machine.state(), &domain.name()).await };
        let (store, passed) = runtime.block_on(opened).map_err(SnapshotError::from)?;
        warn(&passed);
        Ok(Self { runtime, domain, passed, store })
    }

    /// Writes down what `change` makes of the tree; a dry run writes nothing.
    pub(in crate::cli) fn change<T>(
        &mut self,
        dry_run: bool,
        change: impl FnOnce(&mut SnapshotTree) -> Result<T, SnapshotError>,
    ) -> Result<T, SnapshotError> {
        let mut tree = self.store.tree().clone();
        let result = change(&mut tree)?;
        if !dry_run {
            self.runtime.block_on(self.store.save(tree))?;
        }
        Ok(result)
    }
}

/// A runtime on this thread.
pub(super) fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)
}

/// Tells of files among the records that are passed over.
pub(super) fn warn(passed: &[Passed]) {
    for passed in passed {
        output::complain(&format!("warning: {passed}"));
    }
}

/// The snapshot of that name.
pub(super) fn known<'t>(tree: &'t SnapshotTree, name: &str) -> Result<&'t DomainSnapshot, SnapshotError> {
    tree.get(name).ok_or_else(|| SnapshotError::NoSuch(name.to_owned()))
}
