//! What the records say when it was gone back, and which overlays nothing leads to any more then.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Fresh, Way, is_external, location};
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType, StoragePart},
    domain_xml::DomainXml,
    error::Refusal,
    plan::{Records, delete::check_no_stranger, merge},
    step::WriteRecords,
    tree::{SnapshotTree, goes_on_in, overlay},
};

impl Way<'_> {
    /// The records afterwards: it is the current one, and says in which overlays the machine goes on. If others descend from it,
    /// what they grew out of stays said beside that.
    pub(super) fn recorded(
        &self,
        fresh: &[Fresh],
        machine: &DomainXml,
    ) -> Result<(WriteRecords, SnapshotTree), Refusal> {
        let Records { folder, tree: old, .. } = self.records;
        let name = self.revert.name.as_str();
        let mut tree = old.clone();
        for doomed in &self.doomed {
            tree.remove(doomed);
        }
        merge::settle(&mut tree, self.found, &self.domain);
        tree.forget_goes_on(name, |part| self.stays_in(part));
        if !fresh.is_empty() {
            let disks: Vec<SnapshotDisk> = fresh.iter().map(|new| overlay(&new.target, &new.file)).collect();
            let mut record = self.record.clone();
            let stays = |old: &SnapshotDisk| disks.iter().any(|new| new.name == old.name);
            record.revert_disks.retain(stays);
            let parts = match tree.children(name).next() {
                Some(_) => &mut record.revert_disks,
                None => {
                    record.revert_disks.clear();
                    &mut record.disks
                }
            };
            disks.into_iter().for_each(|new| goes_on_in(parts, new));
            tree.insert(record);
        }
        self.note_used_up(&mut tree);
        tree.set_current(Some(name));
        self.lose_left(machine, &mut tree);
        Ok((WriteRecords::new(folder, old, &tree)?, tree))
    }

    /// Takes the overlays that go, or of which nothing is known any more, from the records that name them as where a disk went on.
    fn lose_left(&self, machine: &DomainXml, tree: &mut SnapshotTree) {
        if !is_external(self.record) {
            return;
        }
        let mut left = self.left_behind(machine, tree);
        left.extend(self.left_to_be_looked_at(machine, tree));
        let images = self.found.disks.iter().map(|disk| (disk.target.as_str(), &*disk.file));
        for (target, file) in images.chain(self.unread()).filter(|(_, file)| left.contains(*file)) {
            tree.lose(target, file, &[]);
        }
    }

    /// Whether the machine goes on in the overlay of a disk that the snapshot left out. No other record knows that one: unsaid it would
    /// be nobody's as soon as the disk is put on another.
    fn stays_in(&self, part: &SnapshotDisk) -> bool {
        let disk = self.facts.observed.disk(&part.name);
        location(self.record, &part.name) == Location::No
            && disk.is_some_and(|disk| part.path() == Some(&*disk.file))
    }

    /// What a storage uses up by going back to it, the record does not tell of any more.
    fn note_used_up(&self, tree: &mut SnapshotTree) {
        let is_used_up = |part: &StoragePart| {
            let provider = part.volumes.provider();
            let consumes = provider.is_ok_and(|provider| provider.capabilities().revert_consumes);
            consumes && self.parts.iter().any(|other| other == part)
        };
        if let Some(record) =
            tree.get(self.revert.name.as_str()).filter(|it| it.storage.iter().any(is_used_up))
        {
            let mut record = record.clone();
            record.storage.retain(|part| !is_used_up(part));
            tree.insert(record);
        }
    }

    /// The overlays that the guest writes now and that nothing leads to any more then. One that any record's machine is put back to
    /// stays, and so does one of a disk that the machine has got since ([`super::no_part`]).
    pub(super) fn left_behind(&self, machine: &DomainXml, tree: &SnapshotTree) -> BTreeSet<Utf8PathBuf> {
        let observed = self.facts.observed;
        let empty = observed.disks.iter().filter(|disk| disk.snapshots.is_empty());
        self.left(empty.map(|disk| (disk.target.as_str(), &*disk.file)), machine, tree)
    }

    /// Whether nobody here knows of an image that stands on one of those.
    pub(super) fn check_no_stranger_on(&self, left: &BTreeSet<Utf8PathBuf>) -> Result<(), Refusal> {
        let mut disks = self.facts.observed.disks.iter().filter(|disk| left.contains(&disk.file));
        disks.try_for_each(|disk| check_no_stranger(&disk.target, &disk.file, self.facts))
    }

    /// The same of those that hold internal snapshots, which are somebody else's, or may: some could not be read. They are looked at
    /// when all is done.
    pub(super) fn left_to_be_looked_at(
        &self,
        machine: &DomainXml,
        tree: &SnapshotTree,
    ) -> BTreeSet<Utf8PathBuf> {
        let holding = self.facts.observed.disks.iter().filter(|disk| !disk.snapshots.is_empty());
        let holding = holding.map(|disk| (disk.target.as_str(), &*disk.file));
        self.left(holding.chain(self.unread()), machine, tree)
    }

    /// The images that a machine that is off is in, and that could not be read.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&str, &Utf8Path)> {
        let document = self.facts.domain.document.as_ref().filter(|_| self.facts.off.is_some());
        let missing = self.facts.observed.missing.iter();
        missing.filter_map(move |missing| {
            let target = missing.target.as_str();
            Some((target, document?.disk(target)?.path()?))
        })
    }

    /// Those of these images that nothing leads to any more then.
    fn left<'i>(
        &self,
        images: impl Iterator<Item = (&'i str, &'i Utf8Path)>,
        machine: &DomainXml,
        tree: &SnapshotTree,
    ) -> BTreeSet<Utf8PathBuf> {
        let old = self.records.tree;
        // Not only those of the current one: what that has left out is in what another one has given it.
        let records = old.topological().into_iter().filter_map(|name| old.get(name));
        let overlays: Vec<&SnapshotDisk> =
            records.flat_map(|record| record.disks.iter().chain(&record.revert_disks)).collect();
        let is_overlay = |target: &str, file: &Utf8Path| {
            overlays.iter().any(|part| {
                part.name == target
                    && part.location == Some(Location::External)
                    && part.source_type == SourceType::File
                    && part.path() == Some(file)
            })
        };
        let in_use = |path: &Utf8Path| {
            let mut records = tree.topological().into_iter().filter_map(|name| tree.get(name));
            machine.element().names(path.as_str()) || records.any(|record| leads_to(record, path))
        };
        let left = images
            .filter(|(target, file)| self.has_part(target) && is_overlay(target, file) && !in_use(file));
        left.map(|(_, file)| file.to_owned()).collect()
    }
}

/// Whether a record's machine is put back to an image, or whether that is what a deletion that was begun has left. The disks that stay as they are then are in others: nothing leads to those of
/// their images that it names.
fn leads_to(record: &DomainSnapshot, path: &Utf8Path) -> bool {
    let mut notes = record.disks.iter().filter_map(merge::note);
    if notes.any(|note| note.file == path || note.into == path) {
        return true;
    }
    let Some(element) = &record.domain else { return false };
    match DomainXml::of(element.clone()) {
        Ok(machine) => {
            let taken = machine.with_disks(|target| location(record, target) != Location::No);
            taken.element().names(path.as_str())
        }
        Err(_) => element.names(path.as_str()),
    }
}
