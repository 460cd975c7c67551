//! What the records say while snapshots are merged, and which images they name.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, Merge, Merged};
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType},
    domain_xml::DomainXml,
    error::DeleteRefusal,
    observed::Observed,
    tree::SnapshotTree,
    xml::Element,
};

/// In a record of ours: the merge of an overlay was begun, `into` this image of this `format`.
const BEGUN: &str = "merge";
/// In a record of ours: it is done, and the overlay's `file` is not in use any more.
const DONE: &str = "merged";
/// Of both: the guest wrote to the overlay meanwhile, and goes on in the image below from one moment to the next.
const RUNNING: &str = "running";
/// Of the first: the guest's turn to leave the overlay has come. As long as it has not, the guest is in it.
const LEAVES: &str = "leaves";
/// Of the first: the file with the machine's description named the overlay.
const DESCRIBED: &str = "described";

/// What the record of a disk says of a deletion that was not finished.
#[derive(Clone, Copy)]
pub(in crate::plan) struct Note<'a> {
    /// The overlay.
    pub(in crate::plan) file: &'a Utf8Path,
    /// The image below it.
    pub(in crate::plan) into: &'a str,
    /// That image's format.
    pub(in crate::plan) format: &'a str,
    /// Whether the overlay is surely merged; else that was begun, and it may be.
    pub(in crate::plan) done: bool,
    /// Whether the guest wrote to the overlay meanwhile.
    pub(in crate::plan) ran: bool,
    /// Whether the guest may have left the overlay.
    pub(in crate::plan) leaves: bool,
    /// Whether the machine's description named the overlay then: if it names the image below now, somebody says so.
    pub(in crate::plan) described: bool,
}

/// Reads what the record of a disk says of a deletion that was not finished.
pub(in crate::plan) fn note(part: &SnapshotDisk) -> Option<Note<'_>> {
    let own = |name: &str| part.rest.child(name);
    let (note, done) = own(DONE).map(|note| (note, true)).or(own(BEGUN).map(|note| (note, false)))?;
    let file = if done { note.attribute("file").map(Utf8Path::new) } else { part.path() };
    Some(Note {
        file: file.filter(|_| part.delete_in_progress)?,
        into: note.attribute("into")?,
        format: note.attribute("format")?,
        done,
        ran: note.attribute(RUNNING).is_some(),
        leaves: done || note.attribute(LEAVES).is_some(),
        described: note.attribute(DESCRIBED).is_some(),
    })
}

/// Marks a disk of the snapshot as being merged.
pub(super) fn begin(tree: &mut SnapshotTree, name: &str, merge: &Merge<'_>, facts: Facts<'_>) {
    change_part(tree, name, &merge.disk.target, |part| {
        part.delete_in_progress = true;
        part.rest.remove(BEGUN);
        let Merged { into, format, .. } = merge.merged();
        let mut note = Element::new(BEGUN).with("into", into).with("format", format);
        if facts.off.is_none() && merge.above.is_none() {
            note.set(RUNNING, "yes");
            let named = facts.described.and_then(|document| document.disk(&merge.disk.target));
            if named.is_some_and(|disk| disk.path() == Some(merge.overlay.file)) {
                note.set(DESCRIBED, "yes");
            }
        }
        part.rest.push(note);
    });
}

/// Says of the first of these disks whose overlay the guest writes to that it may leave it from now on.
pub(super) fn leaves<'a>(
    tree: &mut SnapshotTree,
    name: &str,
    mut merges: impl Iterator<Item = &'a Merge<'a>>,
) {
    let Some(merge) = merges.find(|merge| merge.above.is_none()) else { return };
    change_part(tree, name, &merge.disk.target, |part| {
        let note = part.rest.child(BEGUN).filter(|note| note.attribute(RUNNING).is_some());
        if let Some(mut note) = note.cloned() {
            note.set(LEAVES, "yes");
            part.rest.remove(BEGUN);
            part.rest.push(note);
        }
    });
}

/// Says of a disk that the guest has not left its overlay: its turn had come, and nothing was begun about it.
pub fn stayed(tree: &mut SnapshotTree, target: &str, file: &Utf8Path) {
    let records = tree.topological().into_iter().filter_map(|name| tree.get(name));
    let says_so = |record: &&DomainSnapshot| {
        let mut notes = record.disks.iter().filter(|part| part.name == target).filter_map(note);
        notes.any(|note| note.file == file && note.leaves && !note.done)
    };
    let names: Vec<_> = records.filter(says_so).filter_map(|record| record.name.clone()).collect();
    for name in names {
        change_part(tree, &name, target, |part| {
            if let Some(mut note) = part.rest.child(BEGUN).cloned() {
                note.unset(LEAVES);
                part.rest.remove(BEGUN);
                part.rest.push(note);
            }
        });
    }
}

/// Says that a disk of the snapshot is merged, and that whoever was taken of the overlay is of the image below now.
pub(super) fn done(tree: &mut SnapshotTree, name: &str, merged: Merged<'_>) {
    let Merged { target, file, into, format, .. } = merged;
    change_part(tree, name, target, |part| {
        let mut done = Element::new(DONE).with("file", file.as_str()).with("into", into);
        if note(part).is_some_and(|note| note.ran) {
            done.set(RUNNING, "yes");
        }
        let mut rest = std::mem::take(&mut part.rest);
        rest.remove(BEGUN);
        rest.push(done.with("format", format));
        *part = SnapshotDisk {
            location: Some(Location::No),
            delete_in_progress: true,
            rest,
            source_type: part.source_type,
            ..SnapshotDisk::new(target)
        };
    });
    let names: Vec<String> = tree.topological().into_iter().map(str::to_owned).collect();
    for name in &names {
        went_on_below(tree, name, merged);
    }
    let records = names.iter().filter_map(|name| tree.get(name));
    // What the caller keeps of a disk is of the images as they were.
    let records = records.filter(|record| !is_manual(record, target));
    for snapshot in records.cloned().collect::<Vec<_>>() {
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

/// Has a record that says that a disk goes on in an overlay that is merged say that it does in the image below: the snapshot that was given that
/// overlay is another one.
fn went_on_below(tree: &mut SnapshotTree, name: &str, merged: Merged<'_>) {
    let is_it = |part: &SnapshotDisk| part.name == merged.target && part.path() == Some(merged.file);
    let Some(mut record) = tree.get(name).filter(|it| it.revert_disks.iter().any(is_it)).cloned() else {
        return;
    };
    for part in record.revert_disks.iter_mut().filter(|part| is_it(part)) {
        part.source = Some(Element::new("source").with("file", merged.into));
    }
    tree.insert(record);
}

/// The description of a machine that has ended, with each disk in the image that a deletion had taken it to by then, if it names the
/// overlay still. Of one that the records do not know as done nobody can say.
pub fn taken_out(document: &DomainXml, tree: &SnapshotTree) -> DomainXml {
    let snapshots = tree.topological().into_iter().filter_map(|name| tree.get(name));
    let parts = snapshots.flat_map(|snapshot| &snapshot.disks);
    let taken = parts.filter_map(|part| {
        let note = note(part).filter(|note| note.done && note.ran)?;
        let named = document.disk(&part.name).is_some_and(|disk| disk.path() == Some(note.file));
        named.then_some((part.name.as_str(), Utf8Path::new(note.into), note.format))
    });
    let taken: Vec<_> = taken.collect();
    match taken.is_empty() {
        true => document.clone(),
        false => document.without_chains().with_sources(taken),
    }
}

/// Says of each disk that is found merged, and whose record does not know, that it is: once the machine is on another branch nobody can
/// find that out any more. But for one that `machine`, in which it goes on, is put back to: that reads as before, and is in use.
pub(in crate::plan) fn settle(tree: &mut SnapshotTree, observed: &Observed, machine: &DomainXml) {
    let names: Vec<String> = tree.topological().into_iter().map(str::to_owned).collect();
    for name in names {
        let Some(snapshot) = tree.get(&name).cloned() else { continue };
        for part in &snapshot.disks {
            let begun = note(part).filter(|note| !note.done);
            let (Some(Note { file, into, format, .. }), Some(disk)) = (begun, observed.disk(&part.name))
            else {
                continue;
            };
            let has = |file: &Utf8Path| disk.chain.iter().any(|image| image.file == file);
            if !has(file) && has(Utf8Path::new(into)) && !machine.element().names(file.as_str()) {
                let device = part.source_type != SourceType::File;
                done(tree, &name, Merged { target: &part.name, file, into, format, device, before: true });
            }
        }
    }
}

/// Says once more of each disk that is merged what other records say of it then: whoever wrote that may have been killed behind the first
/// of them.
pub(in crate::plan) fn done_again(tree: &mut SnapshotTree, name: &str) {
    let Some(snapshot) = tree.get(name).cloned() else { return };
    for part in &snapshot.disks {
        if let Some(Note { file, into, format, .. }) = note(part).filter(|note| note.done) {
            let device = part.source_type != SourceType::File;
            done(tree, name, Merged { target: &part.name, file, into, format, device, before: true });
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

/// Refuses what would take the overlay of a part of a snapshot from another record that names it as its own. One that says that the machine went
/// on in it from there, past this snapshot with another disk alone, has not made it its own, and says where that goes on then.
pub(in crate::plan) fn check_named_once(
    part: &SnapshotDisk,
    name: &str,
    tree: &SnapshotTree,
) -> Result<(), DeleteRefusal> {
    let overlay = |part: &SnapshotDisk| {
        part.path().filter(|_| part.location == Some(Location::External)).map(ToOwned::to_owned)
    };
    let Some(file) = overlay(part) else { return Ok(()) };
    let names_it = |other: &&str| {
        let other = tree.get(other).into_iter();
        let mut parts = other.flat_map(|other| &other.disks);
        parts.any(|part| overlay(part).as_ref() == Some(&file))
    };
    match tree.topological().into_iter().filter(|other| *other != name).find(names_it) {
        None => Ok(()),
        Some(by) => {
            let (name, disk) = (name.to_owned(), part.name.clone());
            Err(DeleteRefusal::NamedTwice { name, disk, file, by: by.to_owned() })
        }
    }
}

/// Whether the caller keeps a disk's part of a snapshot: its images go and come with what the caller does.
pub(in crate::plan) fn is_manual(snapshot: &DomainSnapshot, target: &str) -> bool {
    snapshot.disks.iter().any(|part| part.name == target && part.location == Some(Location::Manual))
}

/// The overlays in files that these records tell of, with their disks.
pub(in crate::plan) fn overlays<'r>(
    records: impl Iterator<Item = &'r DomainSnapshot>,
) -> impl Iterator<Item = (&'r str, &'r Utf8Path)> {
    let parts = records.flat_map(|record| record.disks.iter().chain(&record.revert_disks));
    parts.filter(|part| part.location == Some(Location::External)).filter_map(|part| {
        Some((part.name.as_str(), part.path().filter(|_| part.source_type == SourceType::File)?))
    })
}

/// Whether any snapshot's record names the file, other than as the image of a disk that the caller keeps or that was left out: to that
/// nobody goes back.
pub(crate) fn is_named(tree: &SnapshotTree, file: &Utf8Path) -> bool {
    tree.topological().into_iter().filter_map(|name| tree.get(name)).any(|snapshot| {
        let mut parts = snapshot.disks.iter().chain(&snapshot.revert_disks);
        let is_its =
            snapshot.memory.file.as_deref() == Some(file) || parts.any(|part| part.path() == Some(file));
        is_its || sources(snapshot).iter().any(|source| source == file)
    })
}

/// All files that are named so.
pub(in crate::plan) fn named(tree: &SnapshotTree) -> BTreeSet<Utf8PathBuf> {
    let mut named = BTreeSet::new();
    for snapshot in tree.topological().into_iter().filter_map(|name| tree.get(name)) {
        let parts = snapshot.disks.iter().chain(&snapshot.revert_disks);
        named.extend(parts.filter_map(SnapshotDisk::path).map(ToOwned::to_owned));
        named.extend(snapshot.memory.file.clone());
        named.extend(sources(snapshot));
    }
    named
}

/// The images that a snapshot's machine is put back to: not those of disks that the caller keeps, or that were left out.
fn sources(snapshot: &DomainSnapshot) -> Vec<Utf8PathBuf> {
    let Some(domain) = snapshot.domain.clone().and_then(|domain| DomainXml::of(domain).ok()) else {
        return Vec::new();
    };
    let is_left_out = |target: &str| {
        let mut parts = snapshot.disks.iter().filter(|part| part.name == target);
        parts.any(|part| part.location == Some(Location::No) && !part.delete_in_progress)
    };
    let taken = domain.disks().filter(|disk| !is_manual(snapshot, disk.target) && !is_left_out(disk.target));
    taken.filter_map(|disk| Some(disk.path()?.to_owned())).collect()
}
