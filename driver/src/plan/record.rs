//! The record of a snapshot that is about to be taken, and what it changes among the machine's records.

use super::{Facts, storage};
use crate::{
    align::{Aligned, MemoryPlace, Place},
    domain_snapshot::{
        DomainSnapshot, Location, Memory, SnapshotDisk, SourceType, StoragePart, without_storage_parts,
    },
    domain_xml::{DomainXml, uuid_of},
    error::Refusal,
    request::{Create, CreateFlag},
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
    // From now on this one says what its parent's latest branch grew in.
    if let Some(old) = parent.as_deref().and_then(|parent| tree.get(parent))
        && !old.revert_disks.is_empty()
    {
        let old = DomainSnapshot { revert_disks: Vec::new(), ..old.clone() };
        tree.insert(old);
    }
    tree.insert(DomainSnapshot { parent, ..record(create, aligned, facts)? });
    tree.set_current(Some(name));
    Ok(Some((WriteRecords::new(records.folder, records.tree, &tree)?, tree)))
}

fn record(create: &Create, aligned: &Aligned, facts: Facts<'_>) -> Result<DomainSnapshot, Refusal> {
    let (location, file) = match &aligned.memory {
        MemoryPlace::No => (Location::No, None),
        MemoryPlace::Internal => (Location::Internal, None),
        MemoryPlace::External(file) => (Location::External, Some(file.clone())),
    };
    let disks = aligned.disks.iter().map(|disk| SnapshotDisk {
        location: Some(Location::of_place(&disk.place)),
        ..match &disk.place {
            Place::External(overlay) => SnapshotDisk {
                source_type: overlay.source_type,
                driver: Some(Element::new("driver").with("type", "qcow2")),
                source: Some(source(overlay.source_type, overlay.path.as_str())),
                ..SnapshotDisk::new(&disk.target)
            },
            _ => SnapshotDisk::new(&disk.target),
        }
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
        domain: document.map(|document| without_storage_parts(document.with_sources(now).element())),
        inactive_domain: None,
        cookie: None,
        active: None,
    })
}

fn source(source_type: SourceType, path: &str) -> Element {
    Element::new("source").with(if source_type == SourceType::Block { "dev" } else { "file" }, path)
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
