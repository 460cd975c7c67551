//! One snapshot: its document, the main things of it, its parent, and which is current.

use clap::Args;
use freezeframe_driver::domain_snapshot::{DomainSnapshot, State};
use serde_json::json;

use super::{
    SnapshotError,
    records::{self, Locked, MachineArgs, Records, WhichArgs},
};
use crate::cli::{CliError, told::Told};

#[derive(Debug, Args)]
pub(super) struct OneArgs {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    which: WhichArgs,
}

#[derive(Debug, Args)]
pub(super) struct DumpxmlArgs {
    #[command(flatten)]
    one: OneArgs,
    /// With the passwords that are in it
    #[arg(long)]
    security_info: bool,
}

#[derive(Debug, Args)]
pub(super) struct CurrentArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// Print its name instead of its document
    #[arg(long, conflicts_with = "set")]
    name: bool,
    /// Print the document with the passwords that are in it
    #[arg(long, conflicts_with_all = ["name", "set"])]
    security_info: bool,
    /// Make this one current; nothing else is changed
    #[arg(long, value_name = "NAME", visible_alias = "snapshotname")]
    set: Option<String>,
    /// With --set: change nothing
    #[arg(long, requires = "set")]
    dry_run: bool,
}

pub(super) fn dumpxml(arguments: &DumpxmlArgs) -> Result<Told, CliError> {
    let records = Records::read(&arguments.one.machine)?;
    Ok(document(records.get(&arguments.one.which)?, arguments.security_info))
}

fn document(snapshot: &DomainSnapshot, with_passwords: bool) -> Told {
    let text = match with_passwords {
        true => snapshot.document(),
        false => snapshot.without_passwords().document(),
    };
    Told::new(text.clone(), json!({ "name": snapshot.name, "xml": text }))
}

pub(super) fn parent(arguments: &OneArgs) -> Result<Told, CliError> {
    let records = Records::read(&arguments.machine)?;
    let snapshot = records.get(&arguments.which)?;
    let no_parent = || SnapshotError::NoParent(snapshot.name.clone().unwrap_or_default());
    let parent = snapshot.parent.as_ref().ok_or_else(no_parent)?;
    Ok(Told::new(format!("{parent}\n"), json!({ "name": snapshot.name, "parent": parent })))
}

pub(super) fn current(arguments: &CurrentArgs) -> Result<Told, CliError> {
    if let Some(name) = &arguments.set {
        return make_current(&arguments.machine, name, arguments.dry_run);
    }
    let records = Records::read(&arguments.machine)?;
    let name = records.tree.current().ok_or(SnapshotError::NoCurrent)?;
    if arguments.name {
        return Ok(Told::new(format!("{name}\n"), json!({ "name": name })));
    }
    Ok(document(records::known(&records.tree, name)?, arguments.security_info))
}

fn make_current(machine: &MachineArgs, name: &str, dry_run: bool) -> Result<Told, CliError> {
    Locked::open(machine, dry_run)?.change(dry_run, |tree| {
        records::known(tree, name)?;
        tree.set_current(Some(name));
        Ok(())
    })?;
    let told = Told::new(format!("snapshot {name} set as current\n"), json!({ "current": name }));
    Ok(told.tried(dry_run))
}

pub(super) fn info(arguments: &OneArgs) -> Result<Told, CliError> {
    let records = Records::read(&arguments.machine)?;
    let (domain, tree) = (records.domain.name(), &records.tree);
    let record = records.get(&arguments.which)?;
    let name = record.name.as_deref().unwrap_or_default();
    let current = tree.current() == Some(name);
    let location = if record.is_external() { "external" } else { "internal" };
    let state = record.state.map_or("", State::name);
    let (children, descendants) = (tree.children(name).count(), tree.descendants(name).len());
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let lines = [
        ("Name", name.to_owned()),
        ("Domain", domain.clone()),
        ("Current", yes(current)),
        ("State", state.to_owned()),
        ("Location", location.to_owned()),
        ("Parent", record.parent.clone().unwrap_or_else(|| "-".into())),
        ("Children", children.to_string()),
        ("Descendants", descendants.to_string()),
        ("Metadata", yes(true)),
    ];
    let rest = record.quiesced.as_ref().map(|quiesced| ("Quiesced", quiesced.to_string()));
    let quiesced = record.quiesced.as_ref().map(|quiesced| quiesced.verdict.name());
    let object = json!({
        "name": name, "quiesced": quiesced, "domain": domain, "current": current, "state": state, "location": location,
        "parent": record.parent, "children": children, "descendants": descendants, "metadata": true,
    });
    let lines = lines.into_iter().chain(rest);
    let line = |(what, text)| format!("{:<16}{text}\n", format!("{what}:"));
    Ok(Told::new(lines.map(line).collect::<String>(), object))
}
