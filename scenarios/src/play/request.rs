//! What a step asks the driver for.

use std::{collections::BTreeMap, time::Duration};

use camino::Utf8Path;
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Location, Memory, SnapshotDisk},
    name::{BadName, SnapshotName},
    request::{
        ByStorage, Create, CreateFlag, CreateFlags, Delete, DeleteFlag, DeleteFlags, FrozenBy, Quiesce,
        Request, Revert, RevertFlag, RevertFlags, WITHIN,
    },
    save_image::Format,
    xml::Element,
};

use crate::{
    language::{self, DiskStorage, Flag, MemoryFormat, MemoryPlace, Snapshot, Timespan},
    machine,
};

/// Takes one of a machine with these disks, whose files are in this folder.
pub(super) fn create(snapshot: &Snapshot, targets: &[String], folder: &Utf8Path) -> Request {
    Request::Create(Box::new(Create {
        vmstate: snapshot.vmstate.clone(),
        memory_format: match snapshot.memory_format {
            MemoryFormat::Raw => Format::Raw,
            MemoryFormat::Sparse => Format::Sparse,
        },
        quiesce: quiesce(snapshot),
        frozen_by: frozen_by(snapshot),
        thaw_hooks: snapshot.thaw_hooks,
        in_background: snapshot.in_background,
        by_storage: ByStorage {
            hook: snapshot.hook.then(|| DiskStorage::PROGRAM.into()),
            ..ByStorage::default()
        },
        within: within(snapshot.within.as_ref()),
        ..Create::new(wish(snapshot, targets, folder), flags(snapshot).iter())
    }))
}

/// Goes back to one.
pub(super) fn revert(revert: &language::Revert, folder: &Utf8Path) -> Result<Request, BadName> {
    Ok(Request::Revert(Revert {
        name: SnapshotName::new(&*revert.name)?,
        flags: revert_flags(revert),
        storage_is_back: revert.storage_is_back,
        stated: stated(&revert.providers, folder),
        within: within(revert.within.as_ref()),
    }))
}

/// Deletes one.
pub(super) fn delete(delete: &language::Delete, folder: &Utf8Path) -> Result<Request, BadName> {
    Ok(Request::Delete(Delete {
        name: SnapshotName::new(&*delete.name)?,
        flags: delete_flags(delete),
        storage_stays: delete.storage_stays,
        stated: stated(&delete.providers, folder),
        within: within(delete.within.as_ref()),
    }))
}

/// Who is said to hold disks' parts.
fn stated(providers: &BTreeMap<String, DiskStorage>, folder: &Utf8Path) -> BTreeMap<String, Element> {
    let said = |(target, storage): (&String, &DiskStorage)| {
        (target.clone(), machine::disk_snapshot(*storage, folder))
    };
    providers.iter().map(said).collect()
}

/// What the driver is asked for, as `<domainsnapshot>` says it.
fn wish(snapshot: &Snapshot, targets: &[String], folder: &Utf8Path) -> DomainSnapshot {
    let memory = match &snapshot.memory {
        None => Memory::default(),
        Some(MemoryPlace::No) => Memory { location: Some(Location::No), file: None },
        Some(MemoryPlace::Internal) => Memory { location: Some(Location::Internal), file: None },
        Some(MemoryPlace::File(name)) => {
            Memory { location: Some(Location::External), file: Some(folder.join(name)) }
        }
    };
    let disks = targets.iter().filter_map(|target| {
        let Snapshot { disks, places, files, formats, .. } = snapshot;
        let left_out = disks.as_ref().is_some_and(|disks| !disks.contains(target));
        let (place, file, format) = (places.get(target), files.get(target), formats.get(target));
        let named = disks.as_ref().is_some_and(|disks| disks.contains(target));
        let driver = driver(format, snapshot.metadata_caches.get(target));
        if !left_out && !named && place.is_none() && file.is_none() && driver.is_none() {
            return None;
        }
        let left_out = left_out.then_some(Location::No);
        let path = file.map(|file| folder.join(file));
        Some(SnapshotDisk {
            location: place.copied().map(machine::location).or(left_out),
            driver,
            source: path.map(|path| Element::new("source").with("file", path.as_str())),
            ..SnapshotDisk::new(target)
        })
    });
    DomainSnapshot {
        name: Some(snapshot.name.clone()),
        description: snapshot.description.clone(),
        memory,
        disks: disks.collect(),
        ..DomainSnapshot::default()
    }
}

pub(super) fn flags(snapshot: &Snapshot) -> CreateFlags {
    let others = snapshot.flags.iter().map(|flag| match flag {
        Flag::Redefine => CreateFlag::Redefine,
        Flag::Current => CreateFlag::Current,
        Flag::NoMetadata => CreateFlag::NoMetadata,
        Flag::Halt => CreateFlag::Halt,
        Flag::ReuseExternal => CreateFlag::ReuseExternal,
        Flag::Quiesce => CreateFlag::Quiesce,
        Flag::Atomic => CreateFlag::Atomic,
        Flag::Live => CreateFlag::Live,
        Flag::Validate => CreateFlag::Validate,
    });
    others.chain(snapshot.disk_only.then_some(CreateFlag::DiskOnly)).collect()
}

pub(super) fn quiesce(snapshot: &Snapshot) -> Quiesce {
    match (snapshot.already_frozen, snapshot.quiesce) {
        (true, _) => Quiesce::AlreadyFrozen,
        (false, Some(language::Quiesce::Required)) => Quiesce::Required,
        (false, Some(language::Quiesce::BestEffort)) => Quiesce::BestEffort,
        (false, None) => Quiesce::Off,
    }
}

/// What word was left of a freeze for the caller.
fn frozen_by(snapshot: &Snapshot) -> Option<FrozenBy> {
    let by = snapshot.frozen_by.clone()?;
    Some(FrozenBy { by, in_part: snapshot.frozen_in_part.clone() })
}

pub(super) fn delete_flags(delete: &language::Delete) -> DeleteFlags {
    let flags = delete.flags.iter().map(|flag| match flag {
        language::DeleteFlag::Children => DeleteFlag::Children,
        language::DeleteFlag::Metadata => DeleteFlag::MetadataOnly,
        language::DeleteFlag::ChildrenOnly => DeleteFlag::ChildrenOnly,
    });
    flags.collect()
}

pub(super) fn revert_flags(revert: &language::Revert) -> RevertFlags {
    let flags = revert.flags.iter().map(|flag| match flag {
        language::RevertFlag::Running => RevertFlag::Running,
        language::RevertFlag::Paused => RevertFlag::Paused,
        language::RevertFlag::Force => RevertFlag::Force,
        language::RevertFlag::ResetNvram => RevertFlag::ResetNvram,
        language::RevertFlag::Discard => RevertFlag::Discard,
        language::RevertFlag::DeleteChildren => RevertFlag::DeleteChildren,
    });
    flags.collect()
}

/// What a wish says of an overlay's image, if it says anything.
fn driver(format: Option<&String>, cache: Option<&String>) -> Option<Element> {
    if format.is_none() && cache.is_none() {
        return None;
    }
    let mut driver = Element::new("driver").with("type", format.map_or("qcow2", String::as_str));
    if let Some(cache) = cache {
        let (number, unit) = cache.split_once(' ').unwrap_or((cache, "bytes"));
        let mut element = Element::new("metadata_cache");
        let mut size = Element::of_text("max_size", number);
        size.set("unit", unit);
        element.push(size);
        driver.push(element);
    }
    Some(driver)
}

fn within(wanted: Option<&Timespan>) -> Duration {
    wanted.map_or(WITHIN, |wanted| wanted.duration())
}
