//! Two records of one snapshot: a record that was copied under another name (`snapshot edit --clone`).
//!
//! ```text
//! s1 <- c1        k is a copy of s1: both hold the image that c1's overlay is based on;
//! k               once s1 is forgotten, c1 is k's, for that stands on what k holds
//! ```
//!
//! As long as both are there neither needs an image for itself, and one of them goes without any.

use super::{GoesOn, SnapshotTree, source};
use crate::domain_snapshot::{DomainSnapshot, Location, SnapshotDisk};

impl SnapshotTree {
    /// Another record of the same external snapshot, by what both say: taken at one time behind one parent, of the same images. Never of
    /// one whose deletion was begun.
    pub(crate) fn twin(&self, name: &str) -> Option<&str> {
        let record = self.get(name).filter(|record| is_external(record))?;
        let siblings: Box<dyn Iterator<Item = &str>> = match &record.parent {
            Some(parent) => Box::new(self.children(parent)),
            None => Box::new(self.roots()),
        };
        let mut others = siblings.filter(|other| *other != name);
        others.find(|other| self.get(other).is_some_and(|other| is_one(record, other)))
    }

    /// Has the record that is left of two take the place of both: it gets the children, and where the forgotten one was current it is, and
    /// says where the machine went on.
    pub(super) fn stand_in(&mut self, twin: &str, children: &[String], current: Option<&DomainSnapshot>) {
        for child in children.iter().filter_map(|child| self.get(child).cloned()).collect::<Vec<_>>() {
            self.insert(DomainSnapshot { parent: Some(twin.to_owned()), ..child });
        }
        let Some(current) = current else { return };
        self.set_current(Some(twin));
        let said = |target: &str| {
            let mut parts = current.revert_disks.iter().chain(&current.disks);
            parts.find(|part| part.name == target).and_then(SnapshotDisk::path).map(ToOwned::to_owned)
        };
        self.goes_on(|_, target| said(target).map_or(GoesOn::Unknown, GoesOn::In));
    }
}

/// Whether it is outside of the images, all of it, and a deletion of it was not begun.
fn is_external(record: &DomainSnapshot) -> bool {
    let mut parts = record.disks.iter().chain(&record.revert_disks);
    record.creation_time.is_some()
        && record.memory.location != Some(Location::Internal)
        && record.disks.iter().any(|part| part.location == Some(Location::External))
        && parts.all(|part| part.location != Some(Location::Internal) && !part.delete_in_progress)
}

/// Whether two records are of one snapshot. In which overlays the machine has gone on from each may differ.
fn is_one(one: &DomainSnapshot, other: &DomainSnapshot) -> bool {
    let is_same = |part: &SnapshotDisk| {
        let mut parts = other.disks.iter();
        let same = parts.find(|other| other.name == part.name && other.location == part.location);
        same.is_some_and(|same| match part.location {
            Some(Location::External) => {
                let held = source(one, &part.name);
                held.is_some() && held == source(other, &part.name)
            }
            _ => part == same,
        })
    };
    is_external(other)
        && one.creation_time == other.creation_time
        && one.memory == other.memory
        && one.storage == other.storage
        && one.disks.len() == other.disks.len()
        && one.disks.iter().all(is_same)
}
