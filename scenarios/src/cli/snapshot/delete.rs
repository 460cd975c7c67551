//! `delete`: a snapshot is removed, or its record alone.

use clap::Args;
use freezeframe_driver::request::{Delete, DeleteFlag, Request};
use serde_json::json;

use super::{
    SnapshotError,
    operate::OperateArgs,
    records::{self, Locked, Records, WhichArgs},
    spec::{self, ProviderSpec},
};
use crate::cli::{CliError, told::Told};

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    operate: OperateArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Remove the record alone; disks and memory stay where they are
    #[arg(long)]
    metadata: bool,
    /// Remove those that descend from it too
    #[arg(long, conflicts_with = "children_only")]
    children: bool,
    /// Remove those that descend from it, and keep it
    #[arg(long)]
    children_only: bool,
    /// What the storage below disks holds of it stays there: `freezeframe disk` deletes that
    #[arg(long, conflicts_with = "metadata")]
    storage_stays: bool,
    /// Which storage holds a disk's part of it, where the record does not say so: vdb,method=btrfs (as of create-as)
    #[arg(long = "provider", value_name = "DISK,method=METHOD", conflicts_with_all = ["metadata", "storage_stays", "children_only"])]
    providers: Vec<ProviderSpec>,
}

pub(super) fn delete(arguments: &DeleteArgs) -> Result<Told, CliError> {
    if arguments.metadata {
        return delete_records(arguments);
    }
    let records = Records::read(&arguments.operate.machine)?;
    let name = SnapshotError::name(arguments.which.name(&records.tree)?)?;
    let within = arguments.operate.within();
    let flags =
        [(DeleteFlag::Children, arguments.children), (DeleteFlag::ChildrenOnly, arguments.children_only)];
    let flags = flags.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect();
    let (storage_stays, stated) = (arguments.storage_stays, spec::stated(&arguments.providers)?);
    arguments.operate.operate(&Request::Delete(Delete { name, flags, storage_stays, stated, within }))
}

fn delete_records(arguments: &DeleteArgs) -> Result<Told, CliError> {
    let DeleteArgs { operate, which, children, children_only, .. } = arguments;
    let mut records = Locked::open(&operate.machine, operate.dry_run)?;
    if let Some(name) = which.named().filter(|_| !children && !children_only)
        && records.remove_unread(name, operate.dry_run)?
    {
        let text = format!("record of snapshot {name}, which could not be read, removed\n");
        return Ok(Told::new(text, json!({ "records-removed": [name] })).tried(operate.dry_run));
    }
    let removed = records.change(operate.dry_run, |tree| {
        let name = which.name(tree)?.to_owned();
        records::known(tree, &name)?;
        let mut removed: Vec<String> = Vec::new();
        if *children || *children_only {
            removed.extend(tree.descendants(&name).into_iter().map(str::to_owned));
        }
        if !children_only {
            removed.insert(0, name);
        }
        // Leaves first: what moves up in between would be written for nothing.
        for name in removed.iter().rev() {
            tree.forget(name);
        }
        Ok(removed)
    })?;
    let text: String = removed.iter().map(|name| format!("record of snapshot {name} removed\n")).collect();
    Ok(Told::new(text, json!({ "records-removed": removed })).tried(operate.dry_run))
}
