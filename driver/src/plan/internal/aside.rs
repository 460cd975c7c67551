//! Internal snapshots in images that the machine is not in now and does not stand on: those of a branch that it has left.
//!
//! ```text
//! base <- s1 (i1)           taken in the overlay of s1
//!     \\- s1-2             gone back to s1: the machine is here, and its chain tells nothing of i1
//! ```
//! The record says in which image it was taken. QEMU has that one not open, so that `qemu-img` deletes it there, whether the machine
//! runs or not; and it is not gone back to from here.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    domain::Nvram,
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType},
    domain_xml::DomainXml,
    error::{ImageRefusal, Refusal, RevertRefusal},
    observed::{NVRAM, Observed},
    plan::{Facts, branches, delete, merge},
    request::{DeleteFlag, Request},
    step::{RemoveFile, RemoveTag},
    tree::{SnapshotTree, settle_current},
    xml::Element,
};

/// An image that a snapshot was taken in, and that no disk of the machine has by now.
struct Left {
    target: String,
    file: Utf8PathBuf,
    format: String,
}

/// The images beside the machine's chains that may hold what is to be deleted or gone back to, with their formats.
pub fn images_of_other_branches(
    request: &Request,
    tree: Option<&SnapshotTree>,
    observed: &Observed,
) -> BTreeMap<Utf8PathBuf, String> {
    let Some(tree) = tree else { return BTreeMap::new() };
    let names = match request {
        Request::Delete(delete) if !delete.flags.has(DeleteFlag::MetadataOnly) => {
            delete::doomed(delete, tree)
        }
        Request::Revert(revert) => vec![revert.name.to_string()],
        Request::Delete(_) | Request::Create(_) => Vec::new(),
    };
    let records = names.iter().filter_map(|name| tree.get(name));
    records.flat_map(|record| left(record, observed)).map(|left| (left.file, left.format)).collect()
}

/// Those of one snapshot.
fn left(record: &DomainSnapshot, observed: &Observed) -> Vec<Left> {
    let Some(domain) = record.domain.clone().and_then(|domain| DomainXml::of(domain).ok()) else {
        return Vec::new();
    };
    let parts = record.disks.iter().filter(|part| part.location == Some(Location::Internal));
    let disks = parts.filter_map(|part| {
        let disk = domain.disk(&part.name)?;
        Some(Left {
            target: part.name.clone(),
            file: disk.path()?.to_owned(),
            format: disk.format().to_owned(),
        })
    });
    let nvram = domain.nvram().filter(Nvram::keeps_snapshots).filter(|_| record.has_tag());
    let nvram = nvram.map(|nvram| Left { target: NVRAM.to_owned(), file: nvram.file, format: nvram.format });
    let has = |file: &Utf8Path| {
        let mut images = observed.images().flat_map(|disk| &disk.chain);
        images.any(|image| image.file == file)
    };
    disks.chain(nvram).filter(|left| !has(&left.file)).collect()
}

/// Those that hold the snapshot still.
fn holders(record: &DomainSnapshot, facts: Facts<'_>) -> Result<Vec<Left>, Refusal> {
    let (name, mut holders) = (record.name.as_deref().unwrap_or_default(), Vec::new());
    for left in left(record, facts.observed) {
        match facts.beside.and_then(|beside| beside.images.get(&left.file)) {
            Some(Ok(info)) if info.snapshots.iter().any(|held| held.name == name) => holders.push(left),
            Some(Err(why)) => {
                return Err(ImageRefusal::Unreadable { file: left.file, why: why.clone() }.into());
            }
            // It is gone with its image, or was deleted there.
            Some(Ok(_)) | None => {}
        }
    }
    Ok(holders)
}

/// Deletes a recorded snapshot from the images that the machine has left.
pub(in crate::plan) fn delete_tag(
    record: &DomainSnapshot,
    facts: Facts<'_>,
) -> Result<Vec<RemoveTag>, Refusal> {
    let program = facts.beside.map_or("qemu-img".into(), |beside| beside.tool.clone());
    let remove = holders(record, facts)?.into_iter().map(|left| RemoveTag {
        program: program.clone(),
        target: left.target,
        file: left.file,
        tag: record.name.clone().unwrap_or_default(),
    });
    Ok(remove.collect())
}

/// The overlays among those images that are of no use once these tags are gone: nothing else is in them, and nobody stands on one or
/// was taken of it. The machine has left them, and they stayed for the tags alone. `tree` is what the records say then.
pub(in crate::plan) fn abandoned(
    tags: &[RemoveTag],
    tree: &mut SnapshotTree,
    facts: Facts<'_>,
) -> Vec<RemoveFile> {
    let is_emptied = |file: &Utf8Path| {
        let found =
            facts.beside.and_then(|beside| beside.images.get(file)).and_then(|found| found.as_ref().ok());
        let goes = |tag: &str| tags.iter().any(|step| step.file == file && step.tag == tag);
        found.is_some_and(|info| info.snapshots.iter().all(|held| goes(&held.name)))
    };
    let mut files: Vec<(&str, &Utf8Path)> = Vec::new();
    for tag in tags.iter().filter(|tag| is_emptied(&tag.file)) {
        let is_free = delete::check_no_stranger(&tag.target, &tag.file, facts).is_ok();
        if is_free && files.iter().all(|(_, file)| *file != tag.file) && leave(&tag.file, &tag.target, tree) {
            files.push((&tag.target, &tag.file));
        }
    }
    settle_current(tree);
    let free = files.into_iter().filter(|(_, file)| !merge::is_named(tree, file));
    free.map(|(_, file)| RemoveFile { path: file.to_owned() }).collect()
}

/// Where a record says that a disk went on in this image, it says in which other one then: that of the branch that is left. Whether
/// it was an overlay of a snapshot's at all.
fn leave(file: &Utf8Path, target: &str, tree: &mut SnapshotTree) -> bool {
    let is_it = |part: &SnapshotDisk| {
        let is_overlay = part.location == Some(Location::External) && part.source_type == SourceType::File;
        is_overlay && part.name == target && part.path() == Some(file)
    };
    let records = tree.topological().into_iter().filter_map(|name| tree.get(name));
    let givers: Vec<DomainSnapshot> = records.filter(|it| it.disks.iter().any(is_it)).cloned().collect();
    let was_overlay = !givers.is_empty();
    for mut record in givers {
        let heir = branches::branch_of(&record, target, tree);
        if let (Some(part), Some(heir)) = (record.disks.iter_mut().find(|part| is_it(part)), heir) {
            part.source = Some(Element::new("source").with("file", heir.as_str()));
            tree.insert(record);
        }
    }
    was_overlay
}

/// Whether a snapshot that is to be gone back to is in the images that the machine is in.
pub(in crate::plan) fn check_is_not_left(record: &DomainSnapshot, facts: Facts<'_>) -> Result<(), Refusal> {
    match holders(record, facts)?.into_iter().next() {
        None => Ok(()),
        Some(left) => {
            let name = record.name.clone().unwrap_or_default();
            Err(RevertRefusal::OnAnotherBranch { name, disk: left.target, file: left.file }.into())
        }
    }
}
