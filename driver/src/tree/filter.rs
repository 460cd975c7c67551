//! Which snapshots a list holds: libvirt's flags in groups. A group of which nothing, or everything, is asked for lets all
//! pass.

use super::SnapshotTree;
use crate::domain_snapshot::{DomainSnapshot, Location, State};

/// Where a list begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope<'a> {
    /// All snapshots of the machine.
    #[default]
    All,
    /// Those without a parent.
    Roots,
    /// The children of one.
    Children(&'a str),
    /// All that descend from one.
    Descendants(&'a str),
}

/// What is asked for, group by group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filter {
    /// Those without children.
    pub leaves: bool,
    /// Those with children.
    pub no_leaves: bool,
    /// Taken while the machine was off.
    pub inactive: bool,
    /// Taken while it was on, with its memory.
    pub active: bool,
    /// Taken while it was on, of its disks alone.
    pub disk_only: bool,
    /// Kept inside the images, or nowhere.
    pub internal: bool,
    /// With a part in a file of its own.
    pub external: bool,
    /// Recorded. All are, in a tree of records.
    pub metadata: bool,
    /// Not recorded. None are.
    pub no_metadata: bool,
    /// Each behind its parent; otherwise in the order of their names.
    pub topological: bool,
}

impl SnapshotTree {
    /// The names that a list holds.
    pub fn list(&self, scope: Scope<'_>, filter: Filter) -> Vec<&str> {
        let mut names: Vec<&str> = match scope {
            Scope::All if filter.topological => self.topological(),
            Scope::All => self.snapshots.keys().map(String::as_str).collect(),
            Scope::Roots => self.roots().collect(),
            Scope::Children(name) => self.children(name).collect(),
            Scope::Descendants(name) => self.descendants(name),
        };
        if !filter.topological {
            names.sort_unstable();
        }
        names.retain(|name| self.passes(name, filter));
        names
    }

    fn passes(&self, name: &str, filter: Filter) -> bool {
        let Some(entry) = self.snapshots.get(name) else { return false };
        let leaf = entry.children.is_empty();
        let state = entry.snapshot.state;
        let inactive = state == Some(State::Shutoff);
        let disk_only = state == Some(State::DiskSnapshot);
        let external = entry.snapshot.is_external();
        group(&[(filter.leaves, leaf), (filter.no_leaves, !leaf)])
            && group(&[
                (filter.inactive, inactive),
                (filter.active, !inactive && !disk_only),
                (filter.disk_only, disk_only),
            ])
            && group(&[(filter.internal, !external), (filter.external, external)])
            && group(&[(filter.metadata, true), (filter.no_metadata, false)])
    }
}

/// Whether one of those asked for is so, or nothing is asked for.
fn group(pairs: &[(bool, bool)]) -> bool {
    pairs.iter().all(|(asked, _)| !asked) || pairs.iter().any(|(asked, so)| *asked && *so)
}

impl DomainSnapshot {
    /// Whether its memory or one of its disks is in a file of its own.
    pub fn is_external(&self) -> bool {
        let external = |location| location == Some(Location::External);
        external(self.memory.location) || self.disks.iter().any(|disk| external(disk.location))
    }
}
