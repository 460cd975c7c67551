//! `freezeframe snapshot list`: a table, a tree, or names alone.

use std::{borrow::Cow, collections::BTreeMap};

use clap::{ArgGroup, Args};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, State},
    tree::{Filter, Scope, SnapshotTree},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    SnapshotError,
    records::{MachineArgs, Records},
};
use crate::cli::{CliError, told::Told};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("start").args(["from", "current"]))]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct ListArgs {
    #[command(flatten)]
    machine: MachineArgs,
    /// Only those without a parent
    #[arg(long, conflicts_with_all = ["from", "current"])]
    roots: bool,
    /// Only the children of this one
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Only the children of the current one
    #[arg(long, conflicts_with = "from")]
    current: bool,
    /// With --from or --current: all that descend from it
    #[arg(long, requires = "start")]
    descendants: bool,
    /// Only those without children
    #[arg(long)]
    leaves: bool,
    /// Only those with children
    #[arg(long)]
    no_leaves: bool,
    /// Only those taken while the machine was off
    #[arg(long)]
    inactive: bool,
    /// Only those taken while it was on, with its memory
    #[arg(long)]
    active: bool,
    /// Only those of disks alone
    #[arg(long)]
    disk_only: bool,
    /// Only those inside the images
    #[arg(long)]
    internal: bool,
    /// Only those with a part in a file of its own
    #[arg(long)]
    external: bool,
    /// Only those with a record: all of them
    #[arg(long)]
    metadata: bool,
    /// Only those without a record: none of them
    #[arg(long)]
    no_metadata: bool,
    /// Each behind its parent
    #[arg(long)]
    topological: bool,
    /// Show each one's parent too
    #[arg(long)]
    parent: bool,
    /// Print names alone
    #[arg(long, conflicts_with_all = ["tree", "parent"])]
    name: bool,
    /// Draw how they descend from one another
    #[arg(long, conflicts_with_all = ["parent", "roots"])]
    tree: bool,
}

impl ListArgs {
    fn filter(&self) -> Filter {
        Filter {
            leaves: self.leaves,
            no_leaves: self.no_leaves,
            inactive: self.inactive,
            active: self.active,
            disk_only: self.disk_only,
            internal: self.internal,
            external: self.external,
            metadata: self.metadata,
            no_metadata: self.no_metadata,
            topological: self.topological || self.tree,
        }
    }

    fn scope<'a>(&'a self, tree: &'a SnapshotTree) -> Result<Scope<'a>, SnapshotError> {
        let from = match (&self.from, self.current) {
            (None, false) if self.roots => return Ok(Scope::Roots),
            (None, false) => return Ok(Scope::All),
            (Some(name), _) => name,
            (None, true) => tree.current().ok_or(SnapshotError::NoCurrent)?,
        };
        tree.get(from).ok_or_else(|| SnapshotError::NoSuch(from.to_owned()))?;
        Ok(if self.descendants || self.tree { Scope::Descendants(from) } else { Scope::Children(from) })
    }
}

pub(super) fn list(arguments: &ListArgs) -> Result<Told, CliError> {
    let records = Records::read(&arguments.machine)?;
    let tree = &records.tree;
    let names = tree.list(arguments.scope(tree)?, arguments.filter());
    let listed: Vec<&DomainSnapshot> = names.iter().filter_map(|name| tree.get(name)).collect();
    let text = if arguments.tree {
        drawn(&listed)
    } else if arguments.name {
        names.iter().map(|name| format!("{name}\n")).collect()
    } else {
        table(&listed, arguments.parent)
    };
    let snapshots: Vec<Value> = listed.iter().map(|snapshot| object(tree, snapshot)).collect();
    let object =
        json!({ "domain": records.domain.name(), "current": tree.current(), "snapshots": snapshots });
    Ok(Told::new(text, object))
}

fn name(snapshot: &DomainSnapshot) -> &str {
    snapshot.name.as_deref().unwrap_or_default()
}

/// A name as a person reads it. One that a blank begins or ends would be seen as another, or not at all: it is quoted as a shell takes
/// it. `--name` and `--json` have it as it is.
fn shown(name: &str) -> Cow<'_, str> {
    match name.trim() != name || name.starts_with('\'') {
        true => Cow::Owned(format!("'{}'", name.replace('\'', r"'\''"))),
        false => Cow::Borrowed(name),
    }
}

fn state(snapshot: &DomainSnapshot) -> &'static str {
    snapshot.state.map_or("", State::name)
}

fn taken(snapshot: &DomainSnapshot) -> String {
    let time = snapshot.creation_time.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S %z").to_string()).unwrap_or_default()
}

fn object(tree: &SnapshotTree, snapshot: &DomainSnapshot) -> Value {
    json!({
        "name": name(snapshot),
        "parent": snapshot.parent,
        "creation-time": snapshot.creation_time,
        "state": state(snapshot),
        "external": snapshot.is_external(),
        "current": tree.current() == snapshot.name.as_deref(),
    })
}

/// Columns as wide as their widest text, as virsh prints them.
fn table(snapshots: &[&DomainSnapshot], with_parent: bool) -> String {
    let mut rows = vec![vec!["Name".to_owned(), "Creation Time".into(), "State".into()]];
    rows.extend(
        snapshots
            .iter()
            .map(|snapshot| vec![shown(name(snapshot)).into(), taken(snapshot), state(snapshot).into()]),
    );
    if with_parent {
        rows[0].push("Parent".into());
        for (row, snapshot) in rows[1..].iter_mut().zip(snapshots) {
            row.push(shown(snapshot.parent.as_deref().unwrap_or_default()).into());
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:<width$}  "));
        format!("{}\n", cells.collect::<String>().trim_end())
    });
    let head = lines.next().unwrap_or_default();
    let rule = "-".repeat(widths.iter().map(|width| width + 3).sum());
    std::iter::once(format!("{head}{rule}\n")).chain(lines).collect()
}

/// The deepest level that is drawn at a place of its own: what is below stands there too, and says its level in words. A line as
/// long as its level would make a chain of 10,000 a picture of 400 MB.
const DEEPEST: usize = 40;

/// Roots at the margin, each other one under its parent. `snapshots` come each behind its parent; one whose parent is not among
/// them stands as a root.
fn drawn(snapshots: &[&DomainSnapshot]) -> String {
    let mut levels: BTreeMap<&str, usize> = BTreeMap::new();
    for snapshot in snapshots {
        let parent = snapshot.parent.as_deref().and_then(|parent| levels.get(parent));
        let level = parent.map_or(0, |level| level + 1);
        levels.insert(name(snapshot), level);
    }
    // From the end: at each depth, whether a sibling follows, to which a line must lead.
    let mut follows: Vec<bool> = Vec::new();
    let mut lines = Vec::new();
    for (index, snapshot) in snapshots.iter().enumerate().rev() {
        let level = levels[name(snapshot)];
        let depth = level.min(DEEPEST);
        follows.resize(depth + 1, false);
        let bars: String = (1..depth).map(|level| if follows[level] { "  | " } else { "    " }).collect();
        let number = if level > DEEPEST { format!("(level {level}) ") } else { String::new() };
        lines.push(match depth {
            0 => format!("{}{}\n", if index == 0 { "" } else { "\n" }, shown(name(snapshot))),
            _ => format!("{bars}  |\n{bars}  +- {number}{}\n", shown(name(snapshot))),
        });
        follows[depth] = true;
    }
    lines.iter().rev().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: usize) -> Vec<DomainSnapshot> {
        let snapshot = |index: usize| DomainSnapshot {
            name: Some(format!("s{index}")),
            parent: index.checked_sub(1).map(|parent| format!("s{parent}")),
            ..DomainSnapshot::default()
        };
        (0..length).map(snapshot).collect()
    }

    #[test]
    fn a_deep_chain_is_drawn_in_lines_that_do_not_grow_with_it() {
        let snapshots = chain(10_000);
        let text = drawn(&snapshots.iter().collect::<Vec<_>>());
        assert_eq!(text.lines().count(), 2 * 10_000 - 1);
        assert!(text.lines().all(|line| line.len() < 200), "no line is longer");
        assert!(text.ends_with("  +- (level 9999) s9999\n"));
    }

    #[test]
    fn a_name_that_blanks_begin_or_end_is_seen() {
        let named = |name: &str, parent: Option<&str>| DomainSnapshot {
            name: Some(name.into()),
            parent: parent.map(str::to_owned),
            ..DomainSnapshot::default()
        };
        let snapshots = [named(" ", None), named("a b", Some(" ")), named("it's ", Some("a b"))];
        let snapshots: Vec<_> = snapshots.iter().collect();
        assert_eq!(drawn(&snapshots), "' '\n  |\n  +- a b\n      |\n      +- 'it'\\''s '\n");
        let table = table(&snapshots, true);
        let cells = |row: &str| {
            row.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let rows: Vec<_> = table.lines().skip(2).map(cells).collect();
        assert_eq!(rows, [vec!["' '"], vec!["a b", "' '"], vec![r"'it'\''s '", "a b"]]);
    }

    #[test]
    fn a_tree_is_drawn_as_virsh_draws_it() {
        let mut snapshots = chain(3);
        snapshots.push(DomainSnapshot {
            name: Some("b".into()),
            parent: Some("s0".into()),
            ..DomainSnapshot::default()
        });
        let text = drawn(&snapshots.iter().collect::<Vec<_>>());
        assert_eq!(text, "s0\n  |\n  +- s1\n  |   |\n  |   +- s2\n  |\n  +- b\n");
    }
}
