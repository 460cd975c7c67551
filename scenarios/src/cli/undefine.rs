//! `freezeframe undefine`: the records of a machine are forgotten, once it has no snapshots or on request with them.
//!
//! The machine itself is not freezeframe's: neither its description nor its disks are touched.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    CliError,
    snapshot::{
        SnapshotError,
        records::{Locked, MachineArgs},
    },
    told::{Told, tell},
};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit codes: 0 forgotten; 1 refused, since snapshots are recorded; 2 wrong use; 75 somebody else works on them, try again.
JSON: {undefined, records-removed: [name...]}, or {error, exit-code} as `freezeframe snapshot --help` says.")]
pub(super) struct UndefineArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// Forget the records of its snapshots too; disks and memory stay where they are
    #[arg(long)]
    snapshots_metadata: bool,
    /// Say what would be forgotten
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Forgets a machine's snapshots.
///
/// # Errors
/// [`CliError`].
pub(super) fn undefine(arguments: &UndefineArgs) -> Result<ExitCode, CliError> {
    tell(forget(arguments), arguments.json)
}

fn forget(arguments: &UndefineArgs) -> Result<Told, CliError> {
    let mut records = Locked::open(&arguments.machine, arguments.dry_run)?;
    // Even what cannot be read may be the only word of a snapshot that is there.
    let unread = records.passed.len();
    let removed = records.change(arguments.dry_run, |tree| {
        let names: Vec<String> = tree.topological().into_iter().map(str::to_owned).collect();
        let recorded = names.len() + unread;
        if recorded > 0 && !arguments.snapshots_metadata {
            return Err(SnapshotError::HasSnapshots(recorded));
        }
        for name in names.iter().rev() {
            tree.remove(name);
        }
        Ok(names)
    })?;
    let machine = records.domain.name();
    let lines = removed.iter().map(|name| format!("record of snapshot {name} removed\n"));
    let text = format!("{machine} undefined\n{}", lines.collect::<String>());
    Ok(Told::new(text, json!({ "undefined": machine, "records-removed": removed })).tried(arguments.dry_run))
}
