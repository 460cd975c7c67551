//! One snapshot: its document, the main things of it, its parent, and which is current.

use clap::Args;
use freezeframe_driver::domain_snapshot::State;

use super::{
    SnapshotError,
    records::{self, MachineArgs, Records},
};
use crate::cli::{CliError, output};

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// The snapshot
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct CurrentArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// Make this one current; nothing else is changed
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub(super) fn dumpxml(arguments: &OneArgs) -> Result<(), CliError> {
    let records = Records::read(&arguments.machine)?;
    output::print(&records.get(&arguments.name)?.document())
}

pub(super) fn parent(arguments: &OneArgs) -> Result<(), CliError> {
    let records = Records::read(&arguments.machine)?;
    let parent = records.get(&arguments.name)?.parent.as_ref();
    let parent = parent.ok_or_else(|| SnapshotError::NoParent(arguments.name.clone()))?;
    output::print(&format!("{parent}\n"))
}

pub(super) fn current(arguments: &CurrentArgs) -> Result<(), CliError> {
    if let Some(name) = &arguments.name {
        return records::make_current(&arguments.machine, name);
    }
    let records = Records::read(&arguments.machine)?;
    let current = records.tree.current().ok_or(SnapshotError::NoCurrent)?;
    output::print(&format!("{current}\n"))
}

pub(super) fn info(arguments: &OneArgs) -> Result<(), CliError> {
    let records = Records::read(&arguments.machine)?;
    let (name, tree) = (arguments.name.as_str(), &records.tree);
    let record = records.get(name)?;
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let location = if record.is_external() { "external" } else { "internal" };
    let lines = [
        ("Name", name.to_owned()),
        ("Domain", records.domain.name()),
        ("Current", yes(tree.current() == Some(name))),
        ("State", record.state.map_or("", State::name).to_owned()),
        ("Location", location.to_owned()),
        ("Parent", record.parent.clone().unwrap_or_else(|| "-".into())),
        ("Children", tree.children(name).count().to_string()),
        ("Descendants", tree.descendants(name).len().to_string()),
        ("Metadata", yes(true)),
    ];
    output::print(&lines.map(|(what, text)| format!("{:<15}{text}\n", format!("{what}:"))).concat())
}
