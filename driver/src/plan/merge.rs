//! Deleting an external snapshot of a running machine: what its overlays hold goes down into the images below them.
//!
//! ```text
//! base <- overlay            the guest wrote to the overlay: it goes on in the base       (commit until ready, pivot)
//! base <- overlay <- later   a later snapshot is above: that one is based on the base now (commit until pending, finalize)
//!
//! record that it has begun | commit every disk, side by side | disk by disk: take the overlay out, record that
//!                          | write the records without it | remove the overlays and the file of memory, one by one
//! ```
//!
//! Every disk reads the same all the time, and no overlay is taken out before every disk is ready for it. But the images below
//! are written to from the first byte on, so from then on the snapshot is lost: its record says so
//! (`<snapshotDeleteInProgress>`) until it goes. What ends it half way leaves whole chains and such a record, and to delete the
//! snapshot again goes on from there.
//!
//! Nothing that another snapshot is based on is written to or removed: who is above an image is looked up in the running
//! machine and in all records, and where a record does not say, it is taken to be in the way.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, Plan, Planned, Records, Stage};
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType},
    domain_xml::DomainXml,
    error::Refusal,
    observed::{ObservedDisk, ObservedImage, ObservedNode},
    step::{CommitImage, EndCommit, RecordDeletion, RemoveImage, WriteRecords},
    tree::SnapshotTree,
    xml::Element,
};

/// In a record of ours: the merge of an overlay was begun, `into` this image of this `format`.
const BEGUN: &str = "merge";
/// In a record of ours: it is done, and the overlay's `file` is not in use any more.
const DONE: &str = "merged";

/// One disk whose overlay is to be merged.
struct Merge<'a> {
    disk: &'a ObservedDisk,
    overlay: Image<'a>,
    base: Image<'a>,
    /// The image above the overlay; none if the guest writes to the overlay.
    above: Option<&'a Utf8Path>,
    /// Whether the overlay is a block device.
    device: bool,
}

/// An image and the one node that has it open.
#[derive(Clone, Copy)]
struct Image<'a> {
    file: &'a Utf8Path,
    node: &'a ObservedNode,
}

/// What is to be done about a disk of the snapshot.
enum Fate<'a> {
    /// Its overlay is to be merged.
    Merge(Merge<'a>),
    /// It was merged, and that was written down in part or not at all.
    Merged(Merged<'a>),
}

/// An overlay that is merged.
#[derive(Clone, Copy)]
struct Merged<'a> {
    target: &'a str,
    /// The overlay.
    file: &'a Utf8Path,
    /// The image below it.
    into: &'a str,
    /// That image's format.
    format: &'a str,
    /// Whether the overlay is a block device, which is not removed.
    device: bool,
}

/// Plans the deletion of one, or the rest of it, in libvirt's order of checks.
pub(super) fn delete(name: &str, records: Records<'_>, facts: Facts<'_>) -> Result<Planned, Refusal> {
    let missing = facts.capabilities.missing_for_merge();
    if !missing.is_empty() {
        return Err(Refusal::Unsupported(missing));
    }
    let snapshot = records.tree.get(name).expect("the caller has found it");
    check_tree(name, snapshot, records.tree)?;
    let mut fates = Vec::new();
    for disk in &snapshot.disks {
        fates.extend(fate(disk, name, facts)?);
    }
    for fate in &fates {
        if let Fate::Merge(merge) = fate {
            merge.check(name, snapshot, records.tree, facts)?;
        }
    }
    Stages::new(name, records).plan(snapshot, &fates, facts)
}

/// What the records say against it.
fn check_tree(name: &str, snapshot: &DomainSnapshot, tree: &SnapshotTree) -> Result<(), Refusal> {
    let children = tree.children(name).count();
    let is_current = tree.current() == Some(name);
    if children > 1 || !snapshot.revert_disks.is_empty() || (is_current && children > 0) {
        return Err(Refusal::Branches(name.to_owned()));
    }
    let begun = |other: &&str| {
        let mut disks = tree.get(other).into_iter().flat_map(|other| &other.disks);
        *other != name && disks.any(|disk| disk.delete_in_progress)
    };
    match tree.topological().into_iter().find(begun) {
        Some(other) => Err(Refusal::DeletionUnfinished(other.to_owned())),
        None => Ok(()),
    }
}

/// Finds the overlay that a snapshot gave a disk in the disk's chain.
fn fate<'a>(part: &'a SnapshotDisk, name: &str, facts: Facts<'a>) -> Result<Option<Fate<'a>>, Refusal> {
    let device = part.source_type != SourceType::File;
    let merged = |note: &'a Element, file: &'a Utf8Path| {
        let (into, format) = (note.attribute("into")?, note.attribute("format")?);
        Some(Merged { target: &part.name, file, into, format, device })
    };
    if let Some(done) = own(part, DONE) {
        let file = done.attribute("file").map(Utf8Path::new);
        return Ok(file.and_then(|file| merged(done, file)).map(Fate::Merged));
    }
    if part.location != Some(Location::External) {
        return Ok(None);
    }
    let target = || part.name.clone();
    let disk = facts.observed.disk(&part.name).ok_or_else(|| Refusal::NoImage(target()))?;
    if let Some(filter) = &disk.busy {
        return Err(Refusal::BlockJob { disk: target(), filter: filter.clone() });
    }
    let file = part.path().unwrap_or(Utf8Path::new(""));
    let Some(place) = disk.chain.iter().position(|image| image.file == file) else {
        let begun = own(part, BEGUN).and_then(|begun| merged(begun, file));
        let begun = begun.filter(|begun| disk.chain.iter().any(|image| image.file == begun.into));
        let lost = || Refusal::NotInChain { name: name.to_owned(), disk: target(), file: file.to_owned() };
        return Ok(Some(Fate::Merged(begun.ok_or_else(lost)?)));
    };
    let nothing = || Refusal::NothingBelow { disk: target(), file: file.to_owned() };
    let base = disk.chain.get(place + 1).ok_or_else(nothing)?;
    let overlay = &disk.chain[place];
    if let Some(held) = overlay.snapshots.first() {
        let held = held.name.clone();
        return Err(Refusal::HoldsInternal { disk: target(), file: file.to_owned(), held });
    }
    Ok(Some(Fate::Merge(Merge {
        disk,
        overlay: alone(overlay, disk, facts)?,
        base: alone(base, disk, facts)?,
        above: place.checked_sub(1).map(|above| &*disk.chain[above].file),
        device,
    })))
}

/// The image with its node, if it is one disk's alone.
fn alone<'a>(image: &'a ObservedImage, disk: &ObservedDisk, facts: Facts<'_>) -> Result<Image<'a>, Refusal> {
    let has = |disk: &&ObservedDisk| disk.chain.iter().any(|other| other.file == image.file);
    let chains = facts.observed.disks.iter().filter(has).count();
    match image.nodes.as_slice() {
        [node] if chains == 1 => Ok(Image { file: &image.file, node }),
        nodes => Err(Refusal::ImageShared {
            disk: disk.target.clone(),
            file: image.file.clone(),
            nodes: nodes.len().max(chains),
        }),
    }
}

impl Merge<'_> {
    /// Whether anything else depends on the two images.
    fn check(
        &self,
        name: &str,
        snapshot: &DomainSnapshot,
        tree: &SnapshotTree,
        facts: Facts<'_>,
    ) -> Result<(), Refusal> {
        let disk = || self.disk.target.clone();
        if let Some(bitmap) = self.overlay.node.bitmaps.first() {
            let file = self.overlay.file.to_owned();
            return Err(Refusal::BitmapLost { disk: disk(), file, bitmap: bitmap.clone() });
        }
        let parent = snapshot.parent.as_deref().and_then(|parent| tree.get(parent));
        let is_internal =
            |part: &&SnapshotDisk| part.name == self.disk.target && part.location == Some(Location::Internal);
        if let Some(parent) = parent.filter(|parent| parent.disks.iter().any(|part| is_internal(&part))) {
            let parent = parent.name.clone().unwrap_or_default();
            return Err(Refusal::InternalParent { name: name.to_owned(), parent, disk: disk() });
        }
        let others = tree.topological().into_iter().filter_map(|other| tree.get(other));
        for other in others {
            if let Some(file) = self.is_below(other, facts) {
                let by = other.name.clone().unwrap_or_default();
                return Err(Refusal::OtherBranch { disk: disk(), file: file.to_owned(), by });
            }
        }
        Ok(())
    }

    /// Which of the two images is, or may be, below an overlay of this snapshot that the running machine does not use.
    fn is_below(&self, other: &DomainSnapshot, facts: Facts<'_>) -> Option<&Utf8Path> {
        let parts = other.disks.iter().chain(&other.revert_disks);
        let unused = |part: &&SnapshotDisk| {
            let mut used = facts.observed.disks.iter().flat_map(|disk| &disk.chain);
            part.location == Some(Location::External)
                && !used.any(|image| part.path() == Some(image.file.as_path()))
        };
        parts.filter(unused).find_map(|part| match source(other, &part.name) {
            Some(backing) => [self.base.file, self.overlay.file].into_iter().find(|file| *file == backing),
            // It may be any of this disk's.
            None => (part.name == self.disk.target).then_some(self.base.file),
        })
    }

    /// What is so when it is done.
    fn merged(&self) -> Merged<'_> {
        let Image { file: into, node } = self.base;
        Merged {
            target: &self.disk.target,
            file: self.overlay.file,
            into: into.as_str(),
            format: &node.format,
            device: self.device,
        }
    }

    fn steps(&self, number: usize, unique: &str) -> (CommitImage, EndCommit) {
        let job = format!("ff-{unique}-commit-{number}");
        let target = self.disk.target.clone();
        let commit = CommitImage {
            target: target.clone(),
            job: job.clone(),
            device: self.disk.node.clone(),
            top: self.overlay.node.name.clone(),
            base: self.base.node.name.clone(),
            backing_file: self.above.map(|_| self.base.file.to_string()),
        };
        let file = self.overlay.file.to_owned();
        (commit, EndCommit { target, job, active: self.above.is_none(), file })
    }
}

/// The stages of a plan as they come, and what the records say after them.
struct Stages<'a> {
    name: &'a str,
    folder: &'a Utf8Path,
    tree: SnapshotTree,
    stages: Vec<Stage>,
}

impl<'a> Stages<'a> {
    fn new(name: &'a str, records: Records<'a>) -> Self {
        Self { name, folder: records.folder, tree: records.tree.clone(), stages: Vec::new() }
    }

    fn plan(
        mut self,
        snapshot: &DomainSnapshot,
        fates: &[Fate<'_>],
        facts: Facts<'_>,
    ) -> Result<Planned, Refusal> {
        let merges = || {
            fates.iter().filter_map(|fate| match fate {
                Fate::Merge(merge) => Some(merge),
                _ => None,
            })
        };
        self.record(None, |tree, name| merges().for_each(|merge| begin(tree, name, merge)))?;
        let steps = merges().enumerate().map(|(number, merge)| merge.steps(number, facts.unique));
        let (commits, ends): (Vec<_>, Vec<_>) = steps.unzip();
        if !commits.is_empty() {
            self.stages.push(Stage::all(commits));
        }
        let last = ends.len();
        for (number, (end, merge)) in ends.into_iter().zip(merges()).enumerate() {
            self.stages.push(Stage::one(end));
            let change = |tree: &mut SnapshotTree, name: &str| done(tree, name, merge.merged());
            if number + 1 < last {
                self.record(Some(&merge.disk.target), change)?;
            } else {
                // The records without the snapshot are written next.
                let mut tree = self.tree.clone();
                change(&mut tree, self.name);
                self.finish(tree, fates)?;
            }
        }
        if last == 0 {
            self.finish(self.tree.clone(), fates)?;
        }
        let no_return = self.stages.len() - 1;
        self.stages.extend(removals(snapshot, fates, &self.tree).into_iter().map(Stage::one));
        let disks: Vec<_> = merges().map(|merge| merge.disk.target.clone()).collect();
        let on = if disks.is_empty() { String::new() } else { format!(", disks {}", disks.join(" ")) };
        let title = format!("delete snapshot {} of {}: external{on}", self.name, facts.domain.name);
        let plan = Plan { title, disks, manual: Vec::new(), stages: self.stages, no_return };
        Ok(Planned { plan, tree: Some(self.tree), domain: None })
    }

    /// Writes down how far it has come, if that changes anything.
    fn record(
        &mut self,
        done: Option<&str>,
        change: impl FnOnce(&mut SnapshotTree, &str),
    ) -> Result<(), Refusal> {
        let mut tree = self.tree.clone();
        change(&mut tree, self.name);
        if tree != self.tree {
            let old = Records { folder: self.folder, tree: &self.tree };
            self.stages.push(Stage::one(RecordDeletion::new(self.name, done, old, &tree)?));
            self.tree = tree;
        }
        Ok(())
    }

    /// Writes the records without the snapshot.
    fn finish(&mut self, mut tree: SnapshotTree, fates: &[Fate<'_>]) -> Result<(), Refusal> {
        for fate in fates {
            if let Fate::Merged(merged) = fate {
                done(&mut tree, self.name, *merged);
            }
        }
        tree.remove(self.name);
        self.stages.push(Stage::one(WriteRecords::new(self.folder, &self.tree, &tree)?));
        self.tree = tree;
        Ok(())
    }
}

/// Marks a disk of the snapshot as being merged.
fn begin(tree: &mut SnapshotTree, name: &str, merge: &Merge<'_>) {
    change_part(tree, name, &merge.disk.target, |part| {
        part.delete_in_progress = true;
        part.others.retain(|element| element.name != BEGUN);
        let Merged { into, format, .. } = merge.merged();
        part.others.push(Element::new(BEGUN).with("into", into).with("format", format));
    });
}

/// Says that a disk of the snapshot is merged, and that whoever was taken of the overlay is of the image below now.
fn done(tree: &mut SnapshotTree, name: &str, merged: Merged<'_>) {
    let Merged { target, file, into, format, .. } = merged;
    change_part(tree, name, target, |part| {
        let note = Element::new(DONE).with("file", file.as_str()).with("into", into);
        *part = SnapshotDisk {
            location: Some(Location::No),
            delete_in_progress: true,
            others: vec![note.with("format", format)],
            source_type: part.source_type,
            ..SnapshotDisk::new(target)
        };
    });
    let names: Vec<String> = tree.topological().into_iter().map(str::to_owned).collect();
    for snapshot in names.iter().filter_map(|name| tree.get(name)).cloned().collect::<Vec<_>>() {
        let moved = |domain: &Option<Element>| {
            let domain = domain.as_ref()?;
            let document = DomainXml::of(domain.clone()).ok()?;
            let disk = document.disk(target).filter(|disk| disk.path() == Some(file))?;
            Some(document.with_sources([(disk.target, Utf8Path::new(into), format)]).element().clone())
        };
        let [live, next] = [&snapshot.domain, &snapshot.inactive_domain].map(moved);
        if live.is_some() || next.is_some() {
            let domain = live.or_else(|| snapshot.domain.clone());
            let inactive_domain = next.or_else(|| snapshot.inactive_domain.clone());
            tree.insert(DomainSnapshot { domain, inactive_domain, ..snapshot });
        }
    }
}

fn change_part(tree: &mut SnapshotTree, name: &str, target: &str, change: impl FnOnce(&mut SnapshotDisk)) {
    let Some(mut snapshot) = tree.get(name).cloned() else { return };
    if let Some(part) = snapshot.disks.iter_mut().find(|part| part.name == target) {
        change(part);
        tree.insert(snapshot);
    }
}

/// What is to be removed: overlays and the file of memory, unless a record still names them.
fn removals(snapshot: &DomainSnapshot, fates: &[Fate<'_>], left: &SnapshotTree) -> Vec<RemoveImage> {
    let images = fates.iter().map(|fate| match fate {
        Fate::Merge(merge) => merge.merged(),
        Fate::Merged(merged) => *merged,
    });
    let images = images.map(|merged| (merged.file.to_owned(), merged.device));
    let memory =
        snapshot.memory.file.clone().filter(|_| snapshot.memory.location == Some(Location::External));
    let all = images.chain(memory.map(|file| (file, false)));
    let free = all.filter(|(file, _)| !is_named(left, file));
    free.map(|(file, device)| RemoveImage { file, device }).collect()
}

/// Whether any snapshot's record names the file.
fn is_named(tree: &SnapshotTree, file: &Utf8Path) -> bool {
    tree.topological().into_iter().filter_map(|name| tree.get(name)).any(|snapshot| {
        let mut parts = snapshot.disks.iter().chain(&snapshot.revert_disks);
        let domain = snapshot.domain.clone().and_then(|domain| DomainXml::of(domain).ok());
        let domain = domain.as_ref();
        snapshot.memory.file.as_deref() == Some(file)
            || parts.any(|part| part.path() == Some(file))
            || domain.is_some_and(|domain| domain.disks().any(|disk| disk.path() == Some(file)))
    })
}

/// The image that a disk was in when the snapshot was taken: what the snapshot's overlay is based on.
fn source(snapshot: &DomainSnapshot, target: &str) -> Option<Utf8PathBuf> {
    let document = DomainXml::of(snapshot.domain.clone()?).ok()?;
    Some(document.disk(target)?.path()?.to_owned())
}

/// An element of our own in a disk's record.
fn own<'e>(part: &'e SnapshotDisk, name: &str) -> Option<&'e Element> {
    part.others.iter().find(|element| element.name == name).filter(|_| part.delete_in_progress)
}

#[cfg(test)]
mod tests;
