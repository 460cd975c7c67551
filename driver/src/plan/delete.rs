//! Deleting snapshots: which of them, in which order, and whether by their records, inside the images or by merging overlays.
//!
//! ```text
//! internal   write the records | delete the tag of the deepest | ... | of the topmost
//! external   see merge
//! metadata   write the records
//! ```
//!
//! Of an internal snapshot the record goes first. Whatever ends this half way then leaves a tag without a record, which takes
//! room and can be deleted by its name, and never a record that promises what is gone.

use super::{Facts, Plan, Planned, Records, Stage, internal, merge};
use crate::{
    domain_snapshot::{DomainSnapshot, Location},
    error::Refusal,
    request::{Delete, DeleteFlag, Request},
    step::{DeleteSnapshot, Step, WriteRecords},
    tree::SnapshotTree,
};

/// Whether a snapshot is whole: one whose deletion was begun may not hold what its record says.
pub(super) fn check_whole(name: &str, facts: Facts<'_>) -> Result<(), Refusal> {
    let record = facts.records.and_then(|records| records.tree.get(name));
    match record.is_some_and(|record| record.disks.iter().any(|disk| disk.delete_in_progress)) {
        true => Err(Refusal::DeletionUnfinished(name.to_owned())),
        false => Ok(()),
    }
}

/// Whether a plan for the request must know by which nodes QEMU has the images open.
pub fn needs_nodes(request: &Request, tree: Option<&SnapshotTree>) -> bool {
    let (Request::Delete(delete), Some(tree)) = (request, tree) else { return false };
    let touches_disks = !delete.flags.has(DeleteFlag::MetadataOnly);
    touches_disks && tree.get(delete.name.as_str()).is_some_and(DomainSnapshot::is_outside)
}

/// In libvirt's order of checks: the flags, the name, and unless the record alone is to go, whether it can be done.
pub(super) fn delete(delete: &Delete, facts: Facts<'_>) -> Result<Planned, Refusal> {
    let name = delete.name.as_str();
    let Some(records) = facts.records.filter(|records| records.tree.get(name).is_some()) else {
        // Nobody has recorded it: it may be in the images all the same.
        return match delete.flags.iter().next() {
            Some(_) => Err(Refusal::NotRecorded(name.to_owned())),
            None => Ok(Planned { plan: internal::delete(&delete.name, facts)?, tree: None, domain: None }),
        };
    };
    let names = doomed(delete, records.tree);
    let mut tree = records.tree.clone();
    for name in &names {
        tree.remove(name);
    }
    if delete.flags.has(DeleteFlag::MetadataOnly) {
        let title = format!("forget {} of {}", list(&names), facts.domain.name);
        return finished(title, Vec::new(), Vec::new(), tree, records);
    }
    let of = |name: &&String| records.tree.get(name).is_some_and(DomainSnapshot::is_outside);
    match names.iter().find(of) {
        None => tags(&names, tree, records, facts),
        Some(_) if delete.flags.iter().next().is_none() => merge::delete(name, records, facts),
        Some(external) => Err(Refusal::ExternalAmongMany(external.clone())),
    }
}

/// The names of all that are to go, each in front of what it descends from.
fn doomed(delete: &Delete, tree: &SnapshotTree) -> Vec<String> {
    let name = delete.name.as_str();
    let below = delete.flags.has(DeleteFlag::Children) || delete.flags.has(DeleteFlag::ChildrenOnly);
    let descendants = if below { tree.descendants(name) } else { Vec::new() };
    let itself = (!delete.flags.has(DeleteFlag::ChildrenOnly)).then_some(name);
    descendants.into_iter().rev().chain(itself).map(str::to_owned).collect()
}

/// Deletes the tags of recorded internal snapshots. One that no disk has needs none of it.
fn tags(
    names: &[String],
    tree: SnapshotTree,
    records: Records<'_>,
    facts: Facts<'_>,
) -> Result<Planned, Refusal> {
    let mut steps: Vec<DeleteSnapshot> = Vec::new();
    for name in names.iter().filter(|name| records.tree.get(name).is_some_and(DomainSnapshot::has_tag)) {
        if let Some((disk, image)) = internal::below(name, facts) {
            return Err(Refusal::InternalBelow { name: name.clone(), disk, file: image });
        }
        steps.extend(internal::delete_tag(name, steps.len(), facts)?);
    }
    let tagged = |target: &str| {
        let disk = facts.observed.disk(target);
        disk.is_some_and(|disk| steps.iter().any(|step| step.devices.contains(&disk.node)))
    };
    let targets = facts.observed.disks.iter().map(|disk| disk.target.clone());
    let disks: Vec<_> = targets.filter(|target| tagged(target)).collect();
    let on = if disks.is_empty() { String::new() } else { format!(", disks {}", disks.join(" ")) };
    let title = format!("delete {} of {}: internal{on}", list(names), facts.domain.name);
    let steps = steps.into_iter().map(Step::from).collect();
    finished(title, disks, steps, tree, records)
}

/// The records first, and then one step after the other. If the first fails the records are written back; if a later one
/// does, the rest is done all the same.
fn finished(
    title: String,
    disks: Vec<String>,
    steps: Vec<Step>,
    tree: SnapshotTree,
    records: Records<'_>,
) -> Result<Planned, Refusal> {
    let mut stages = Vec::new();
    if tree != *records.tree {
        stages.push(Stage::one(WriteRecords::new(records.folder, records.tree, &tree)?));
    }
    let no_return = if steps.is_empty() { 0 } else { stages.len() };
    stages.extend(steps.into_iter().map(|step| Stage { steps: vec![step] }));
    let plan = Plan { title, disks, manual: Vec::new(), stages, no_return };
    Ok(Planned { plan, tree: Some(tree), domain: None })
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no snapshots".into(),
        [one] => format!("snapshot {one}"),
        all => format!("snapshots {}", all.join(" ")),
    }
}

impl DomainSnapshot {
    /// Whether deleting it is more than deleting a tag: a part of it is in files of its own, or its deletion was begun.
    pub(super) fn is_outside(&self) -> bool {
        let mut disks = self.disks.iter().chain(&self.revert_disks);
        self.memory.location == Some(Location::External)
            || disks.any(|disk| disk.location == Some(Location::External) || disk.delete_in_progress)
    }

    /// Whether a part of it is inside an image.
    fn has_tag(&self) -> bool {
        let disk = |disk: &crate::domain_snapshot::SnapshotDisk| disk.location == Some(Location::Internal);
        self.memory.location == Some(Location::Internal) || self.disks.iter().any(disk)
    }
}
