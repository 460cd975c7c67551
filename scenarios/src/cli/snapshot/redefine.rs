//! `redefine`, and `create --redefine`: the record of a snapshot that exists is handed in. No disk is touched.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use freezeframe_driver::domain_snapshot::Purpose;
use serde_json::json;

use super::{
    records::{Locked, MachineArgs},
    validate::ValidateArgs,
    xml::Document,
};
use crate::cli::{CliError, told::Told};

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
    #[command(flatten)]
    validate: ValidateArgs,
    /// Check it and record nothing
    #[arg(long)]
    dry_run: bool,
}

/// A record that is handed in.
pub(super) struct Redefinition<'a> {
    pub(super) machine: &'a MachineArgs,
    pub(super) file: &'a Utf8Path,
    pub(super) current: bool,
    pub(super) disk_only: bool,
    pub(super) validate: &'a ValidateArgs,
    pub(super) dry_run: bool,
}

pub(super) fn redefine(arguments: &RedefineArgs) -> Result<Told, CliError> {
    let RedefineArgs { machine, file, current, disk_only, validate, dry_run } = arguments;
    let (current, disk_only, dry_run) = (*current, *disk_only, *dry_run);
    hand_in(&Redefinition { machine, file, current, disk_only, validate, dry_run })
}

/// Puts it among the records.
pub(super) fn hand_in(redefinition: &Redefinition<'_>) -> Result<Told, CliError> {
    let document = Document::read(redefinition.file)?;
    let record = document.snapshot(Purpose::Redefine)?;
    redefinition.validate.check(&document)?;
    let name = record.name.clone().unwrap_or_default();
    let mut records = Locked::open(redefinition.machine, redefinition.dry_run)?;
    let uuid = records.domain.uuid();
    records.change(redefinition.dry_run, |tree| {
        tree.redefine(record, uuid.as_deref(), redefinition.disk_only)?;
        if redefinition.current {
            tree.set_current(Some(&name));
        }
        Ok(())
    })?;
    let told = Told::new(format!("snapshot {name} recorded\n"), json!({ "recorded": name }));
    Ok(told.tried(redefinition.dry_run))
}
