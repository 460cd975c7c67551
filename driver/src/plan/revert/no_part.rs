//! The disks that the machine has got since the snapshot was taken: it is without them when it was gone back.
//!
//! ```text
//! s1 of vda <- vdb is plugged in <- s2 of vda and vdb <- (written since)     revert to s1: vdb stays in the overlay that s2 gave it
//! ```
//! The snapshot never knew them, so that going back to it gives nothing up that is on them, be it for good or not. They are named, with
//! the images that they are in.

use std::collections::BTreeSet;

use camino::Utf8Path;

use super::{Way, location};
use crate::{
    domain_snapshot::Location,
    domain_xml::{Disk, DomainXml},
    kept::WhyKept,
    observed::ObservedDisk,
    plan::merge,
    step::KeepImage,
    tree::SnapshotTree,
};

impl Way<'_> {
    /// Whether the machine of the snapshot has the disk, and not an empty drive.
    pub(super) fn has_part(&self, target: &str) -> bool {
        let is_filled = |disk: &Disk<'_>| disk.element().child("source").is_some();
        self.domain.disk(target).as_ref().is_some_and(is_filled) && !self.is_another(target)
    }

    /// Whether the disk of that name may be another one by now than it was: what it is in has no image in common with what it goes back
    /// to, and does not stand on what it has grown out of. Two branches have no image in common either where the snapshot is deleted that
    /// both stood on.
    fn is_another(&self, target: &str) -> bool {
        let chains = self.facts.aside.and_then(|aside| aside.chains.as_ref().ok());
        let behind = chains.and_then(|chains| chains.get(target));
        let (Some(now), Some(then), Some(behind)) =
            (self.found.disk(target), self.domain.disk(target), behind)
        else {
            return false;
        };
        let has = |file: &Utf8Path| now.chain.iter().any(|image| image.file == file);
        if then.path().into_iter().chain(behind.iter().map(|image| &*image.file)).any(has) {
            return false;
        }
        let tree = self.records.tree;
        let line = tree.line().filter_map(|name| tree.get(name));
        let grew = line.filter(|record| location(record, target) == Location::External);
        grew.filter_map(|record| merge::source(record, target)).any(|held| !has(&held))
    }

    /// Those disks that the guest can write, and the images that they are in.
    pub(super) fn no_part_of(&self) -> impl Iterator<Item = (&str, &Utf8Path)> {
        let written = self.found.disks.iter().filter(|disk| !disk.readonly);
        let images = written.map(|disk| (disk.target.as_str(), &*disk.file)).chain(self.unread());
        images.filter(|(target, _)| !self.has_part(target))
    }

    /// Tells of the images of those disks: those that they are in, and the overlays of snapshots that go, which no record knows then.
    /// `tree` is what the records say then.
    pub(super) fn no_part(&self, tree: &SnapshotTree) -> Vec<KeepImage> {
        let overlays = merge::overlays(self.going())
            .filter(|(target, file)| !self.has_part(target) && !merge::is_named(tree, file));
        let images: BTreeSet<(&str, &Utf8Path)> = self.no_part_of().chain(overlays).collect();
        let keep = |(target, file): (&str, &Utf8Path)| KeepImage {
            file: file.to_owned(),
            why: match self.is_another(target) {
                true if merge::is_named(self.records.tree, file) => WhyKept::Another(target.to_owned()),
                true => WhyKept::Unrecorded(target.to_owned()),
                false => WhyKept::NoPart(target.to_owned()),
            },
        };
        images.into_iter().map(keep).collect()
    }

    /// Tells of the images that the machine leaves and that no record knows, then or before: the snapshot is gone that one of them was an
    /// overlay of. `machine` is the one that it goes on as, `tree` what the records say then.
    pub(super) fn unrecorded(&self, machine: &DomainXml, tree: &SnapshotTree) -> Vec<KeepImage> {
        let is_known = |file: &Utf8Path| {
            let is_named = |tree: &SnapshotTree| merge::is_named(tree, file);
            is_named(tree) || is_named(self.records.tree) || machine.element().names(file.as_str())
        };
        let written = self.found.disks.iter().filter(|disk| !disk.readonly && self.has_part(&disk.target));
        let left = written.filter(|disk| !is_known(&disk.file));
        let keep = |disk: &ObservedDisk| KeepImage {
            file: disk.file.clone(),
            why: WhyKept::Unrecorded(disk.target.clone()),
        };
        left.map(keep).collect()
    }
}
