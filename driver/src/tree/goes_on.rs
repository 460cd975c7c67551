//! Where the machine goes on from the current snapshot: what the records say of that when one is forgotten.
//!
//! ```text
//! s1 <- s2              s1 says that the machine went on in the overlay that s2 was taken in; the branch of s3 began in another one,
//!    \\<- s3, current    which s3 knows as the image that it was taken in, and s1 has to say when s3 is forgotten
//! ```
//! Where others descend from the current one it says so in `<revertDisks>`, as libvirt does, and else in its own parts. A machine whose
//! snapshot is forgotten stands as if that one had never been recorded.

use camino::{Utf8Path, Utf8PathBuf};

use super::SnapshotTree;
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType},
    domain_xml::DomainXml,
    xml::Element,
};

impl SnapshotTree {
    /// Takes a record out, and leaves the images as they are. If it was current its parent is, which says in which overlays the
    /// machine went on from it; gives the children's names. Of two records of one snapshot the other one takes its place.
    pub fn forget(&mut self, name: &str) -> Vec<String> {
        let twin = self.twin(name).map(str::to_owned);
        let forgotten = self.get(name).filter(|_| self.current() == Some(name)).cloned();
        let children = self.remove(name);
        match (twin, forgotten) {
            (Some(twin), forgotten) => self.stand_in(&twin, &children, forgotten.as_ref()),
            (None, Some(forgotten)) => {
                self.goes_on(|_, target| file(&forgotten, target).map_or(GoesOn::Unknown, GoesOn::In));
            }
            (None, None) => {}
        }
        children
    }

    /// Has the current snapshot, which has become that because the one that was is gone, say where the machine goes on from it: in
    /// which image each disk is that it has put on an overlay, or has said something of before.
    pub(crate) fn goes_on(&mut self, image: impl Fn(&DomainSnapshot, &str) -> GoesOn) {
        let Some(mut current) = self.current().and_then(|current| self.get(current)).cloned() else { return };
        let image = |target: &str| image(&current, target);
        let external = |part: &&SnapshotDisk| part.location == Some(Location::External);
        let mut said = current.revert_disks.clone();
        let given = current.disks.iter().filter(external).filter_map(|part| {
            let kept = said.iter().position(|said| said.name == part.name).map(|place| said.remove(place));
            let now = match image(&part.name) {
                // Else somebody has put the machine on what the snapshot was taken of.
                GoesOn::In(file) if source(&current, &part.name).as_ref() != Some(&file) => {
                    Some(overlay(&part.name, &file))
                }
                GoesOn::Nowhere => Some(nowhere(&part.name)),
                GoesOn::In(_) | GoesOn::Unknown => None,
            };
            match (kept, now) {
                (Some(kept), Some(now)) if kept.path() == now.path() => Some(kept),
                (kept, now) => now.or(kept),
            }
        });
        let given: Vec<SnapshotDisk> = given.collect();
        said.retain(|part| match image(&part.name) {
            GoesOn::In(file) => part.path() == Some(&*file),
            GoesOn::Nowhere => false,
            GoesOn::Unknown => true,
        });
        current.revert_disks = given.into_iter().chain(said).collect();
        let says = |part: &SnapshotDisk| current.revert_disks.iter().any(|own| own.path() == part.path());
        self.forget_goes_on(current.name.as_deref().unwrap_or_default(), |part| !says(part));
        self.insert(current);
        settle_current(self);
    }

    /// Makes one that was just taken the current one: it knows itself in which images the machine was, and the one that was current says
    /// that no more. But for the disks that it left out, or that the caller takes: of those no other record knows that they are in overlays.
    pub(crate) fn goes_on_from(&mut self, new: &str) {
        let is_left_out = |part: &SnapshotDisk| {
            let mut parts = self.get(new).into_iter().flat_map(|new| &new.disks);
            let taken = parts.find(|taken| taken.name == part.name).and_then(|taken| taken.location);
            matches!(taken, Some(Location::No | Location::Manual))
        };
        if let Some(mut old) = self.current().filter(|old| *old != new).and_then(|old| self.get(old)).cloned()
            && !old.revert_disks.iter().all(is_left_out)
        {
            old.revert_disks.retain(is_left_out);
            self.insert(old);
        }
        self.set_current(Some(new));
    }

    /// Takes an overlay that goes from the records that say that a disk went on in it: it did in the `heir` of that, if there is one, and
    /// else in the image that the next branch of the snapshot began in. Where there is none either the disk is in no image of that snapshot.
    pub(crate) fn lose(&mut self, target: &str, gone: &Utf8Path, heirs: &[&Utf8Path]) {
        let names_it = |part: &SnapshotDisk| {
            let is_overlay = part.location == Some(Location::External) && !part.delete_in_progress;
            is_overlay && part.name == target && part.path() == Some(gone)
        };
        let records = self.topological().into_iter().filter_map(|name| self.get(name));
        let naming = records.filter(|it| it.disks.iter().chain(&it.revert_disks).any(names_it));
        for mut record in naming.cloned().collect::<Vec<_>>() {
            let name = record.name.clone().unwrap_or_default();
            let branches = self.branches_of(&name, target);
            let of_heirs = || heirs.iter().find(|heir| branches.iter().any(|branch| branch == **heir));
            let grown = match heirs {
                [] => branches.iter().find(|file| *file != gone).cloned(),
                _ => of_heirs().map(|heir| (*heir).to_owned()),
            };
            let first = || heirs.first().map(|file| (*file).to_owned());
            for part in record.revert_disks.iter_mut().filter(|part| names_it(part)) {
                goes_on_in_heir(part, first().or_else(|| grown.clone()));
            }
            record.revert_disks.retain(|part| part.name != target || part.path().is_some());
            let reverted = record.revert_disks.iter().find(|part| part.name == target);
            let reverted = reverted.and_then(SnapshotDisk::path).map(ToOwned::to_owned);
            for part in record.disks.iter_mut().filter(|part| names_it(part)) {
                goes_on_in_heir(part, grown.clone().or_else(first).or_else(|| reverted.clone()));
            }
            self.insert(record);
        }
    }

    /// The images of a disk that the branches of a snapshot began in: as the next snapshots knew them that took the disk.
    fn branches_of(&self, name: &str, target: &str) -> Vec<Utf8PathBuf> {
        let takes = |child: &DomainSnapshot| {
            let part = child.disks.iter().find(|part| part.name == target);
            part.is_none_or(|part| part.location != Some(Location::No))
        };
        let of = |name: &str| match self.get(name) {
            Some(child) if takes(child) => source(child, target).into_iter().collect(),
            _ => self.branches_of(name, target),
        };
        self.children(name).flat_map(of).collect()
    }

    /// Leaves of what the records say of where the machine went on, all but `but`, what `stays`. Beside the one that is current others
    /// may say it, where somebody has made another one current by hand.
    pub(crate) fn forget_goes_on(&mut self, but: &str, stays: impl Fn(&SnapshotDisk) -> bool) {
        let records = self.topological().into_iter().filter(|name| *name != but);
        let records = records.filter_map(|name| self.get(name));
        let stale = records.filter(|record| !record.revert_disks.iter().all(&stays));
        for mut record in stale.cloned().collect::<Vec<_>>() {
            record.revert_disks.retain(&stays);
            self.insert(record);
        }
    }
}

/// Where a disk of a machine goes on from a snapshot.
pub(crate) enum GoesOn {
    /// In this image.
    In(Utf8PathBuf),
    /// In an image that does not stand on the snapshot's: it has come from another branch.
    Nowhere,
    /// That is not known.
    Unknown,
}

/// The file that a disk was in when the snapshot was taken; none if it was in something else.
fn file(snapshot: &DomainSnapshot, target: &str) -> Option<Utf8PathBuf> {
    let document = DomainXml::of(snapshot.domain.clone()?).ok()?;
    let disk = document.disk(target).filter(|disk| disk.source_type() == Some(SourceType::File))?;
    Some(disk.path()?.to_owned())
}

/// The image that a disk was in when the snapshot was taken: what the snapshot's overlay is based on.
pub(crate) fn source(snapshot: &DomainSnapshot, target: &str) -> Option<Utf8PathBuf> {
    let document = DomainXml::of(snapshot.domain.clone()?).ok()?;
    Some(document.disk(target)?.path()?.to_owned())
}

/// A current snapshot from which none descends says in its own parts in which overlays the machine goes on.
pub(crate) fn settle_current(tree: &mut SnapshotTree) {
    let Some(current) = tree.current().map(str::to_owned) else { return };
    let Some(mut record) = tree.get(&current).filter(|record| !record.revert_disks.is_empty()).cloned()
    else {
        return;
    };
    if tree.children(&current).next().is_some() {
        return;
    }
    for new in std::mem::take(&mut record.revert_disks) {
        goes_on_in(&mut record.disks, new);
    }
    tree.insert(record);
}

/// Says among a record's parts in which overlay a disk goes on: in the place that the disk had, with all that is not understood
/// there.
pub(crate) fn goes_on_in(parts: &mut Vec<SnapshotDisk>, new: SnapshotDisk) {
    match parts.iter_mut().find(|part| part.name == new.name) {
        Some(part) if part.path() == new.path() => {}
        Some(part) if new.gone => part.gone = true,
        Some(part) => {
            let rest = std::mem::take(&mut part.rest);
            *part = SnapshotDisk { rest, ..new };
        }
        None => parts.push(new),
    }
}

/// A part of a record: the overlay in which a disk goes on.
pub(crate) fn overlay(target: &str, file: &Utf8Path) -> SnapshotDisk {
    SnapshotDisk { source: Some(source_of(file)), gone: false, ..nowhere(target) }
}

/// The same of a disk that goes on in no overlay of that snapshot's.
fn nowhere(target: &str) -> SnapshotDisk {
    SnapshotDisk {
        location: Some(Location::External),
        driver: Some(Element::new("driver").with("type", "qcow2")),
        gone: true,
        ..SnapshotDisk::new(target)
    }
}

/// Has a part whose overlay goes name its heir, if there is one.
fn goes_on_in_heir(part: &mut SnapshotDisk, heir: Option<Utf8PathBuf>) {
    match heir {
        Some(heir) => part.source = Some(source_of(&heir)),
        None => part.gone = true,
    }
}

fn source_of(file: &Utf8Path) -> Element {
    Element::new("source").with("file", file.as_str())
}
