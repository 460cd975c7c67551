//! The record of a snapshot that is about to be taken, and what it changes among the machine's records.

use super::{Facts, storage};
use crate::{
    align::{Aligned, AlignedDisk, MemoryPlace, Place},
    domain_snapshot::{
        DomainSnapshot, Location, Memory, SnapshotDisk, SourceType, StoragePart, without_storage_parts,
    },
    domain_xml::{DomainXml, uuid_of},
    error::{ImageRefusal, Refusal},
    request::{Create, CreateFlag, DeleteFlag, Request},
    step::WriteRecords,
    tree::SnapshotTree,
    xml::Element,
};

/// The step that records a snapshot as the current one, and the tree with it; none if no records are kept.
pub(super) fn of(
    create: &Create,
    aligned: &Aligned,
    facts: Facts<'_>,
) -> Result<Option<(WriteRecords, SnapshotTree)>, Refusal> {
    let Some(records) = facts.records.filter(|_| !create.flags.has(CreateFlag::NoMetadata)) else {
        return Ok(None);
    };
    let name = aligned.name.as_str();
    if records.tree.get(name).is_some() {
        return Err(Refusal::Recorded(name.to_owned()));
    }
    let mut tree = records.tree.clone();
    let parent = tree.current().map(str::to_owned);
    tree.insert(DomainSnapshot { parent, ..record(create, aligned, facts)? });
    // From now on this one says what its parent's latest branch grew in.
    tree.goes_on_from(name);
    Ok(Some((WriteRecords::new(records.folder, records.tree, &tree)?, tree)))
}

fn record(create: &Create, aligned: &Aligned, facts: Facts<'_>) -> Result<DomainSnapshot, Refusal> {
    let (location, file) = match &aligned.memory {
        MemoryPlace::No => (Location::No, None),
        MemoryPlace::Internal => (Location::Internal, None),
        MemoryPlace::External(file) => (Location::External, Some(file.clone())),
    };
    let disks = aligned.disks.iter().map(|disk| {
        let is_it = |wished: &&SnapshotDisk| {
            facts.domain.disk(&wished.name).is_some_and(|known| known.target == disk.target)
        };
        part(disk, create.wish.disks.iter().find(is_it))
    });
    let now = facts.observed.sources();
    let document = facts.domain.document.as_ref();
    let storage = match document {
        Some(_) => storage::of(aligned, facts.observed)?,
        None => Vec::new(),
    };
    let storage = storage.into_iter().map(|(targets, volumes)| StoragePart {
        targets,
        volumes,
        name: aligned.name.clone(),
    });
    Ok(DomainSnapshot {
        name: Some(aligned.name.to_string()),
        description: create.wish.description.clone(),
        state: Some(aligned.state),
        parent: None,
        creation_time: create.wish.creation_time.or(Some(facts.seconds)),
        memory: Memory { location: Some(location), file },
        disks: disks.collect(),
        revert_disks: Vec::new(),
        storage: storage.collect(),
        quiesced: None,
        domain: document.map(|document| without_storage_parts(document.with_sources(now).element())),
        inactive_domain: None,
        cookie: None,
        active: None,
        unknown: create.wish.unknown.clone(),
    })
}

/// A disk's part: as it was wished, with what was left open.
fn part(disk: &AlignedDisk, wished: Option<&SnapshotDisk>) -> SnapshotDisk {
    let mut part = SnapshotDisk {
        name: disk.target.clone(),
        location: Some(Location::of_place(&disk.place)),
        delete_in_progress: false,
        gone: false,
        ..wished.cloned().unwrap_or_else(|| SnapshotDisk::new(&disk.target))
    };
    if let Place::External(overlay) = &disk.place {
        part.source_type = overlay.source_type;
        part.driver.get_or_insert_with(|| Element::new("driver")).set("type", "qcow2");
        let path = if overlay.source_type == SourceType::Block { "dev" } else { "file" };
        part.source.get_or_insert_with(|| Element::new("source")).set(path, overlay.path.as_str());
    }
    part
}

/// Whether the records are of the machine that is described, as far as both say who they are: they are found by its name, and
/// another machine may have had that.
pub(super) fn check_are_its_own(facts: Facts<'_>) -> Result<(), Refusal> {
    let (Some(records), Some(described)) =
        (facts.records, facts.domain.document.as_ref().and_then(DomainXml::uuid))
    else {
        return Ok(());
    };
    for name in records.tree.topological() {
        let domain = records.tree.get(name).and_then(|record| record.domain.as_ref());
        if let Some(recorded) = domain.and_then(uuid_of).filter(|recorded| *recorded != described) {
            return Err(Refusal::RecordsOfAnother { name: name.to_owned(), recorded, described });
        }
    }
    Ok(())
}

/// Whether the records can all be read, where that matters: what one that cannot be read stands on may be what is merged, removed or
/// put back. Who takes a snapshot, or forgets one, changes no image that was there.
pub(super) fn check_are_read(request: &Request, facts: Facts<'_>) -> Result<(), Refusal> {
    let mut unread = facts.records.into_iter().flat_map(|records| records.unread);
    match request {
        Request::Create(create) => {
            let name = create.wish.name.as_deref();
            match unread.find(|path| path.file_stem() == name) {
                Some(_) => Err(Refusal::Recorded(name.unwrap_or_default().to_owned())),
                None => Ok(()),
            }
        }
        Request::Delete(delete) if delete.flags.has(DeleteFlag::MetadataOnly) => Ok(()),
        Request::Delete(_) | Request::Revert(_) => match unread.next() {
            Some(file) => Err(ImageRefusal::of_record(file).into()),
            None => Ok(()),
        },
    }
}
