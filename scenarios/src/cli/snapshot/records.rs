//! The records of one machine: opened, and changed as a whole or not at all. No disk is touched.

use std::cell::OnceCell;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use freezeframe_driver::{
    domain_snapshot::DomainSnapshot,
    domain_xml::DomainXml,
    env::tokio::TokioEnv,
    journal::{self, Pending},
    store::{self, Passed, Store, StoreError},
    tree::SnapshotTree,
};
use tokio::runtime::{Builder, Runtime};

use super::{SnapshotError, xml};
use crate::cli::{CliError, output};

/// Which machine.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct MachineArgs {
    /// The machine's <domain> document
    #[arg(long, value_name = "FILE", required = true)]
    domain: Option<Utf8PathBuf>,
    /// Folder of freezeframe's records; each machine has one of its own in it
    #[arg(long, value_name = "DIR", required = true)]
    state: Option<Utf8PathBuf>,
    /// What FILE held when it was first read.
    #[arg(skip)]
    read: OnceCell<DomainXml>,
}

impl MachineArgs {
    /// This one.
    pub(in crate::cli) fn of(domain: Utf8PathBuf, state: Utf8PathBuf) -> Self {
        Self { domain: Some(domain), state: Some(state), read: OnceCell::new() }
    }

    /// Its description. It is read once: what is checked is what is worked with.
    pub(in crate::cli) fn domain(&self) -> Result<DomainXml, CliError> {
        if let Some(read) = self.read.get() {
            return Ok(read.clone());
        }
        let domain = self.domain_by_now()?;
        Ok(self.read.get_or_init(|| domain).clone())
    }

    /// What FILE says by now: an operation may have written it.
    pub(super) fn domain_by_now(&self) -> Result<DomainXml, CliError> {
        let file = self.domain.as_ref();
        xml::domain(file.expect("it is left out where no machine is needed, and not asked for there"))
    }

    /// The file of its description, from the root; behind a symbolic link the one that it leads to, for the link is to stay one.
    pub(super) fn file(&self) -> Utf8PathBuf {
        let file = self.domain.clone().unwrap_or_default();
        file.canonicalize_utf8().or_else(|_| camino::absolute_utf8(&file)).unwrap_or(file)
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
    /// The name that the caller gives, if not the current one is asked for.
    pub(super) fn named(&self) -> Option<&str> {
        self.name.as_deref().or(self.snapshotname.as_deref())
    }

    /// The name of a snapshot that the caller names, known or not; of the current one if it is asked for.
    pub(super) fn name<'t>(&'t self, tree: &'t SnapshotTree) -> Result<&'t str, SnapshotError> {
        match self.named() {
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
        let env = TokioEnv::new();
        let runtime = runtime()?;
        let loaded = runtime.block_on(store::load(&env, machine.state(), &domain.name()));
        let (tree, passed) = loaded.map_err(SnapshotError::from)?;
        warn(&passed);
        if !machine.state().exists() {
            output::complain(&format!(
                "warning: there is no folder `{}`: no snapshot is recorded in it",
                machine.state()
            ));
        }
        let folder = machine.state().join(domain.name());
        match runtime.block_on(journal::read(&env, &folder)) {
            Ok(pending) => tell_pending(pending.as_ref()),
            Err(error) => output::complain(&format!("warning: {error}")),
        }
        Ok(Self { domain, tree })
    }

    /// The snapshot that is asked for.
    pub(super) fn get(&self, which: &WhichArgs) -> Result<&DomainSnapshot, SnapshotError> {
        known(&self.tree, which.name(&self.tree)?)
    }
}

impl Locked {
    /// Opens them, made if there are none; a dry run only looks. What is passed over is told on standard error.
    pub(in crate::cli) fn open(machine: &MachineArgs, dry_run: bool) -> Result<Self, CliError> {
        let domain = machine.domain()?;
        let runtime = runtime()?;
        let opened = async { open(machine.state(), &domain.name(), dry_run).await };
        let (store, passed) = runtime.block_on(opened).map_err(SnapshotError::from)?;
        warn(&passed);
        // What it has left may be among the records, and what is changed there would be changed back.
        let pending = runtime.block_on(journal::read(&TokioEnv::new(), store.folder()));
        match pending.map_err(SnapshotError::from)? {
            Some(pending) if !pending.is_told() => {
                return Err(SnapshotError::Pending(pending.title()).into());
            }
            told => tell_pending(told.as_ref()),
        }
        Ok(Self { runtime, domain, passed, store })
    }

    /// Removes the record of that name if it cannot be read, and says whether it was one; a dry run removes nothing.
    pub(super) fn remove_unread(&mut self, name: &str, dry_run: bool) -> Result<bool, SnapshotError> {
        let is_unread = self.store.unread_of(name).is_some();
        if is_unread && !dry_run {
            self.runtime.block_on(self.store.remove_unread(name))?;
        }
        Ok(is_unread)
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

/// Opens a machine's records; a dry run only looks at them.
pub(super) async fn open(
    state: &Utf8Path,
    machine: &str,
    dry_run: bool,
) -> Result<(Store<TokioEnv>, Vec<Passed>), StoreError> {
    match dry_run {
        true => Store::look(TokioEnv::new(), state, machine).await,
        false => Store::open(TokioEnv::new(), state, machine).await,
    }
}

/// A runtime on this thread.
pub(in crate::cli) fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)
}

/// Tells of an operation that has not come to its end: its driver was killed, or is at work.
pub(super) fn tell_pending(pending: Option<&Pending>) {
    let Some(pending) = pending else { return };
    let title = pending.title();
    output::complain(&match pending.is_told() {
        true => format!(
            "note: something is left of: {title}. `freezeframe snapshot recover` tries to put it right."
        ),
        false => format!(
            "note: this has not come to its end: {title}. Unless it is under way now, put it right with `freezeframe snapshot recover`."
        ),
    });
}

/// Tells of files among the records that are passed over.
pub(super) fn warn(passed: &[Passed]) {
    for passed in passed {
        output::complain(&format!("warning: {passed}"));
    }
}

/// The snapshot of that name.
pub(super) fn known<'t>(tree: &'t SnapshotTree, name: &str) -> Result<&'t DomainSnapshot, SnapshotError> {
    if let Some(record) = tree.get(name) {
        return Ok(record);
    }
    SnapshotError::name(name)?;
    Err(SnapshotError::NoSuch(name.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "links are made in a folder of its own")]

    use super::*;

    /// It is written anew under the name that the link leads to, and the link stays one.
    #[test]
    fn a_description_behind_a_link_is_the_file_that_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap().canonicalize_utf8().unwrap();
        let (file, link) = (folder.join("vm.xml"), folder.join("link.xml"));
        std::os::unix::fs::symlink("vm.xml", &link).unwrap();
        let of = |path: &Utf8Path| MachineArgs::of(path.to_owned(), "state".into()).file();
        assert_eq!(of(&link), link, "it leads nowhere yet");
        std::fs::write(&file, "<domain/>").unwrap();
        assert_eq!((of(&link), of(&file)), (file.clone(), file));
    }
}
