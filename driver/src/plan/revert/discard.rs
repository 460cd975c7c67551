//! Going back for good, as it was first proposed for libvirt: what came after the snapshot goes.
//!
//! ```text
//! base <- s1 <- s2 <- (written since)      revert to s1:                     s2 and its image stay, a new branch begins beside them
//!                                          revert to s1, discard:            refused, s2 stands on what would go
//!                                          revert to s1, discard, children:  s2 goes with its image and its file of memory
//! ```
//!
//! Their records go with the records' writing, before the machine is touched; their files and tags go behind the point of no
//! return. So a revert that fails leaves them as they were, and one that is broken off behind it leaves files of no use.
//!
//! Of a machine that is off an internal snapshot is gone back to so below overlays too, if all of them are of snapshots that go:
//!
//! ```text
//! base (i1) <- e1 (i2) <- (written since)  revert to i1, discard, children:  base is put back to i1, and all above it goes
//! ```
//!
//! Nothing goes that somebody else stands on: the headers of all images that the records name are read for that, and the chains
//! of the machine. One that cannot be read may be one of those.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Way, is_external, location};
use crate::{
    domain_snapshot::{DomainSnapshot, Location},
    domain_xml::DomainXml,
    error::{DeleteRefusal, ImageRefusal, Refusal, RevertRefusal},
    observed::{Observed, ObservedDisk},
    plan::{Facts, branches, delete::check_no_stranger, internal, merge},
    qemu_img::ImageInfo,
    request::{Request, Revert, RevertFlag},
    step::RemoveMemory,
    tree::SnapshotTree,
};

/// The images beside the machine's chains that a revert will want to know about if it discards anything, with their formats.
pub fn images_discarded(
    request: &Request,
    tree: Option<&SnapshotTree>,
    observed: &Observed,
) -> BTreeMap<Utf8PathBuf, String> {
    match (request, tree) {
        (Request::Revert(revert), Some(tree)) if revert.flags.has(RevertFlag::Discard) => {
            branches::recorded_images(tree, observed)
        }
        _ => BTreeMap::new(),
    }
}

/// The names of those that go with it, each in front of what it descends from.
pub(super) fn doomed(revert: &Revert, tree: &SnapshotTree, facts: Facts<'_>) -> Result<Vec<String>, Refusal> {
    if !revert.flags.has(RevertFlag::Discard) {
        return Ok(Vec::new());
    }
    let name = revert.name.as_str();
    let descendants: Vec<String> = tree.descendants(name).into_iter().rev().map(str::to_owned).collect();
    if !descendants.is_empty() && !revert.flags.has(RevertFlag::DeleteChildren) {
        let snapshots = descendants.into_iter().rev().collect();
        return Err(RevertRefusal::StandOnDiscarded { name: name.to_owned(), snapshots }.into());
    }
    merge::check_no_other_begun(name, tree)?;
    for tag in descendants.iter().filter(|name| tree.get(name).is_some_and(DomainSnapshot::has_tag)) {
        if let Some((disk, file)) = internal::below(tag, facts) {
            return Err(DeleteRefusal::InternalBelow { name: tag.clone(), disk, file }.into());
        }
    }
    Ok(descendants)
}

/// The disks of a machine that is off as they are without what goes with it: each in the image that holds the snapshot, if all
/// above that one may be of snapshots that go.
pub(super) fn without_overlays(revert: &Revert, tree: &SnapshotTree, found: &Observed) -> Observed {
    let mut without = found.clone();
    if !revert.flags.has(RevertFlag::DeleteChildren) {
        return without;
    }
    let name = revert.name.as_str();
    let going: Vec<_> = tree.descendants(name).into_iter().filter_map(|name| tree.get(name)).collect();
    for disk in &mut without.disks {
        let is_of_them = |file: &Utf8Path| {
            let grew_in =
                |record: &&DomainSnapshot| merge::source(record, &disk.target).as_deref() == Some(file);
            let mut parts = going.iter().flat_map(|record| record.disks.iter().chain(&record.revert_disks));
            parts.any(|part| part.path() == Some(file)) || going.iter().any(grew_in)
        };
        let holds = disk.chain.iter().position(|image| image.holds(name));
        let above = holds.filter(|above| disk.chain[..*above].iter().all(|image| is_of_them(&image.file)));
        if let Some(below) = above.and_then(|above| disk.without(above)) {
            *disk = below;
        }
    }
    without
}

impl<'a> Way<'a> {
    /// The records of those that go with it.
    pub(super) fn going(&self) -> impl Iterator<Item = &'a DomainSnapshot> {
        let records = self.records.tree;
        self.doomed.iter().filter_map(|name| records.get(name))
    }

    /// The tags that go with it, and the disks that have them.
    pub(super) fn tags(&self) -> Vec<(&'a str, Vec<&'a ObservedDisk>)> {
        let names =
            self.going().filter(|record| record.has_tag()).filter_map(|record| record.name.as_deref());
        let tagged = names.map(|name| (name, internal::tagged(name, self.facts)));
        tagged.filter(|(_, disks)| !disks.is_empty()).collect()
    }

    /// Whether those that go with one inside the images are inside of them too.
    pub(super) fn check_none_outside(&self) -> Result<(), DeleteRefusal> {
        match self.going().find(|record| record.is_outside()) {
            Some(outside) => Err(DeleteRefusal::ExternalAmongMany(outside.name.clone().unwrap_or_default())),
            None => Ok(()),
        }
    }

    /// Whether nothing stands on the images that are put back but what goes with it.
    pub(super) fn check_all_above_goes(&self, going: &BTreeSet<Utf8PathBuf>) -> Result<(), RevertRefusal> {
        let put_back = |file: &Utf8Path| {
            self.facts
                .observed
                .disks
                .iter()
                .find(|disk| disk.file == file)
                .filter(|disk| disk.snapshot(self.revert.name.as_str()).is_some())
        };
        let chains = self.found.disks.iter().flat_map(|disk| disk.chain.windows(2));
        let chains = chains.map(|pair| (pair[0].file.clone(), Some(pair[1].file.clone())));
        let beside = self
            .beside()
            .map(|(file, found)| (file.to_owned(), found.as_ref().ok().and_then(ImageInfo::backing_file)));
        for (above, below) in chains.chain(beside) {
            let disk = below.as_deref().and_then(put_back).filter(|_| !going.contains(&above));
            if let Some(disk) = disk {
                let (disk, file) = (disk.target.clone(), disk.file.clone());
                return Err(RevertRefusal::OverlayAbove { name: self.name(), disk, file });
            }
        }
        Ok(())
    }

    /// The images that go with it. `machine` is the one that it goes on as, `tree` what the records say then.
    pub(super) fn discarded(
        &self,
        machine: &DomainXml,
        tree: &SnapshotTree,
    ) -> Result<BTreeSet<Utf8PathBuf>, Refusal> {
        if !self.revert.flags.has(RevertFlag::Discard) {
            return Ok(BTreeSet::new());
        }
        let overlays =
            merge::overlays(self.going().chain([self.record])).filter(|(target, _)| self.has_part(target));
        // A disk that goes on as it is goes on in all its images.
        let goes_on = |target: &&ObservedDisk| location(self.record, &target.target) == Location::No;
        let kept = self.found.disks.iter().filter(goes_on).flat_map(|disk| &disk.chain);
        let kept: BTreeSet<&Utf8Path> = kept.map(|image| &*image.file).collect();
        let is_free = |file: &Utf8Path| {
            !kept.contains(file) && !merge::is_named(tree, file) && !machine.element().names(file.as_str())
        };
        let overlays: BTreeMap<Utf8PathBuf, &str> = overlays
            .map(|(disk, file)| (file.to_owned(), disk))
            .chain(self.grown(machine))
            .filter(|(file, _)| is_free(file))
            .collect();
        self.check_nothing_stands_on(&overlays)?;
        self.check_tags(&overlays)?;
        Ok(overlays.into_keys().collect())
    }

    /// The files of memory that go with it. `tree` is what the records say then.
    pub(super) fn discarded_memory(&self, tree: &SnapshotTree) -> impl Iterator<Item = RemoveMemory> {
        let discards = self.revert.flags.has(RevertFlag::Discard);
        let going = self.going().filter(move |_| discards);
        going.filter_map(|record| merge::removed_memory(record, tree))
    }

    /// The images, with their disks, that those that go with it were taken in and that stand on this one's: the machine was given
    /// none of these.
    fn grown(&self, machine: &'a DomainXml) -> impl Iterator<Item = (Utf8PathBuf, &'a str)> {
        let taken = machine
            .disks()
            .filter(|disk| {
                matches!(location(self.record, disk.target), Location::External | Location::Internal)
            })
            .map(|disk| disk.target);
        taken.flat_map(|target| {
            let images: BTreeSet<Utf8PathBuf> =
                self.going().filter_map(|record| merge::source(record, target)).collect();
            let frozen = merge::source(self.record, target);
            let stands = |file: &Utf8PathBuf| {
                let below = self.backing(file);
                below.is_some_and(|below| Some(&below) == frozen.as_ref() || images.contains(&below))
            };
            let grown: Vec<_> = images.iter().filter(|file| stands(file)).cloned().collect();
            grown.into_iter().map(move |file| (file, target))
        })
    }

    /// What an image stands on, as far as that was found.
    fn backing(&self, file: &Utf8Path) -> Option<Utf8PathBuf> {
        let mut chains = self.found.disks.iter().flat_map(|disk| disk.chain.windows(2));
        let open = chains.find(|pair| pair[0].file == file).map(|pair| pair[1].file.clone());
        let aside = || self.facts.beside?.images.get(file)?.as_ref().ok()?.backing_file();
        open.or_else(aside)
    }

    /// What was found of the images beside the machine's chains.
    fn beside(&self) -> impl Iterator<Item = (&'a Utf8Path, &'a Result<ImageInfo, String>)> {
        let images = self.facts.beside.into_iter().flat_map(|beside| &beside.images);
        images.map(|(file, found)| (file.as_path(), found))
    }

    /// Whether no image that stays stands on one that goes, be it of the records, of the machine's chains, or of nobody here.
    fn check_nothing_stands_on(&self, going: &BTreeMap<Utf8PathBuf, &str>) -> Result<(), Refusal> {
        for (file, disk) in going {
            check_no_stranger(disk, file, self.facts)?;
        }
        let stands = |file: &Utf8Path, above: &Utf8Path, disk: &str| {
            let (disk, file, above) = (disk.to_owned(), file.to_owned(), above.to_owned());
            RevertRefusal::ImageOnDiscarded { disk, file, above }.into()
        };
        for chain in self.found.disks.iter().map(|disk| &disk.chain) {
            for pair in chain.windows(2) {
                let [above, file] = [&*pair[0].file, &*pair[1].file];
                if let Some(disk) = going.get(file).filter(|_| !going.contains_key(above)) {
                    return Err(stands(file, above, disk));
                }
            }
        }
        for (above, found) in self.beside() {
            let info = found.as_ref().map_err(|why| {
                let (file, why) = (above.to_owned(), why.clone());
                Refusal::Image(ImageRefusal::Unreadable { file, why })
            })?;
            if let Some(file) = info.backing_file()
                && let Some(disk) = going.get(&*file).filter(|_| !going.contains_key(above))
            {
                return Err(stands(&file, above, disk));
            }
        }
        Ok(())
    }

    /// Whether the tags in what goes are those of the snapshots that go, and nowhere else.
    fn check_tags(&self, going: &BTreeMap<Utf8PathBuf, &str>) -> Result<(), Refusal> {
        let ours: BTreeSet<&str> = self.going().filter_map(|record| record.name.as_deref()).collect();
        // Of one inside the images those of its descendants go from there too.
        let is_cleared = |file: &Utf8Path| {
            !is_external(self.record) && self.facts.observed.disks.iter().any(|disk| disk.file == file)
        };
        let chains = self.found.disks.iter().flat_map(|disk| {
            disk.chain.iter().map(|image| {
                let tags: Vec<&str> = image.snapshots.iter().map(|held| held.name.as_str()).collect();
                (disk.target.as_str(), &*image.file, tags)
            })
        });
        let beside = self.beside().filter_map(|(file, found)| {
            let tags: Vec<&str> =
                found.as_ref().ok()?.snapshots.iter().map(|held| held.name.as_str()).collect();
            Some(("", file, tags))
        });
        for (disk, file, tags) in chains.chain(beside) {
            let disk = going.get(file).copied().unwrap_or(disk).to_owned();
            for tag in tags {
                match (going.contains_key(file), ours.contains(tag)) {
                    (true, false) => {
                        let (file, held) = (file.to_owned(), tag.to_owned());
                        return Err(DeleteRefusal::HoldsInternal { disk, file, held }.into());
                    }
                    (false, true) if !is_cleared(file) => {
                        let (name, file) = (tag.to_owned(), file.to_owned());
                        return Err(DeleteRefusal::InternalBelow { name, disk, file }.into());
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
