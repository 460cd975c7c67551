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
    /// machine went on from it; gives the children's names.
    pub fn forget(&mut self, name: &str) -> Vec<String> {
        let forgotten = self.get(name).filter(|_| self.current() == Some(name)).cloned();
        let children = self.remove(name);
        let parent = self.current().and_then(|parent| self.get(parent)).cloned();
        if let (Some(forgotten), Some(mut parent)) = (forgotten, parent) {
            let external = parent.disks.iter().filter(|part| part.location == Some(Location::External));
            let grown = external.filter_map(|part| {
                // Else somebody has put the machine on what the parent was taken of.
                let is_overlay = |file: &Utf8PathBuf| source(&parent, &part.name).as_ref() != Some(file);
                Some(overlay(&part.name, &file(&forgotten, &part.name).filter(is_overlay)?))
            });
            parent.revert_disks = grown.collect();
            self.insert(parent);
            settle_current(self);
        }
        children
    }
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
        Some(part) => {
            let rest = std::mem::take(&mut part.rest);
            *part = SnapshotDisk { rest, ..new };
        }
        None => parts.push(new),
    }
}

/// A part of a record: the overlay in which a disk goes on.
pub(crate) fn overlay(target: &str, file: &Utf8Path) -> SnapshotDisk {
    SnapshotDisk {
        location: Some(Location::External),
        driver: Some(Element::new("driver").with("type", "qcow2")),
        source: Some(Element::new("source").with("file", file.as_str())),
        ..SnapshotDisk::new(target)
    }
}
