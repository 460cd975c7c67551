//! What storages hold of snapshots that are recorded: found where the record says, gone back to, deleted.
//!
//! A record is a document, and may come from a stranger. So it says which snapshot of which volume it is, and no more than that by
//! its word alone: a program that is to be run, or settings that are to be believed, have to stand in the machine's own document too,
//! or be stated in the call.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    disk::{self, choice},
    domain::Domain,
    domain_snapshot::{DomainSnapshot, StoragePart},
    domain_xml::DomainXml,
    error::{Refusal, StorageRefusal, UnusedRefusal},
    mark,
    name::SnapshotName,
    plan::{Facts, delete, merge},
    request::{Request, RevertFlag},
    step::ProviderDelete,
    storage::{self, Snapshot, StorageError, Volumes, present},
    tree::SnapshotTree,
    xml::Element,
};

/// For a disk, its `<diskSnapshot>` as it was stated.
pub(in crate::plan) type Stated = BTreeMap<String, Element>;

/// What storages hold of the snapshots that a request goes back to or deletes.
pub(super) fn needed(
    request: &Request,
    tree: &SnapshotTree,
    domain: &Domain,
) -> Result<Vec<StoragePart>, Refusal> {
    let none = Stated::new();
    let of = |name: &str, stated: &Stated| match tree.get(name) {
        Some(record) => parts(record, stated, domain),
        None => Ok(Vec::new()),
    };
    let mut needed = Vec::new();
    match request {
        Request::Create(_) => {}
        Request::Revert(revert) => {
            if !revert.storage_is_back {
                needed.extend(of(revert.name.as_str(), &revert.stated)?);
            }
            if revert.flags.has(RevertFlag::DeleteChildren) {
                for name in tree.descendants(revert.name.as_str()) {
                    needed.extend(of(name, &none)?);
                }
            }
        }
        Request::Delete(delete) => {
            for name in delete::touched(delete, tree) {
                let stated = if name == delete.name.as_str() { &delete.stated } else { &none };
                needed.extend(of(&name, stated)?);
            }
        }
    }
    Ok(needed)
}

/// What storages hold of a snapshot: as its record tells, and of disks of which it tells nothing as it is stated.
///
/// # Errors
/// [`UnusedRefusal::Provider`], [`StorageRefusal::Another`], [`StorageRefusal::ByItsWordAlone`], [`Refusal::StorageRefuses`].
pub(in crate::plan) fn parts(
    record: &DomainSnapshot,
    stated: &Stated,
    domain: &Domain,
) -> Result<Vec<StoragePart>, Refusal> {
    check_used(stated, |target| merge::is_manual(record, target))?;
    let machine = record.domain.clone().and_then(|machine| DomainXml::of(machine).ok());
    let mut wishes = Vec::new();
    for (target, said) in stated {
        let disk = machine.as_ref().and_then(|machine| machine.disk(target));
        let disk = disk.ok_or_else(|| Refusal::NoImage(target.clone()))?;
        let refused = |why| super::refused(target, why);
        let wish = choice::Wish::of(&disk, Some(said)).map_err(refused)?;
        match record.storage.iter().find(|part| part.targets.contains(target)) {
            None => wishes.push(wish),
            Some(part) => {
                let (_, stated) = choice::groups(&[wish], storage::WITHIN).map_err(refused)?.remove(0);
                check_is_it(target, &part.volumes, &stated)?;
            }
        }
    }
    let name = SnapshotName::new(record.name.clone().unwrap_or_default())?;
    let groups = choice::groups(&wishes, storage::WITHIN).map_err(|why| super::refused("the disks", why))?;
    let told = record.storage.iter().cloned();
    let of_the_call = |(targets, volumes)| StoragePart { targets, volumes, name: name.clone() };
    let parts: Vec<StoragePart> = told.chain(groups.into_iter().map(of_the_call)).collect();
    parts.iter().try_for_each(|part| check_word(part, stated, domain))?;
    Ok(parts)
}

/// Whether all that is stated is of disks that a storage holds; none is by a snapshot that the images alone know.
pub(in crate::plan) fn check_used(
    stated: &Stated,
    is_held: impl Fn(&str) -> bool,
) -> Result<(), UnusedRefusal> {
    match stated.keys().find(|target| !is_held(target)) {
        Some(target) => Err(UnusedRefusal::Provider(target.clone())),
        None => Ok(()),
    }
}

/// Whether what is stated is the storage that the record tells of.
fn check_is_it(target: &str, recorded: &Volumes, stated: &Volumes) -> Result<(), StorageRefusal> {
    let is_it = recorded.method == stated.method
        && stated.names.iter().all(|name| recorded.names.contains(name))
        && (&recorded.group, &recorded.settings, &recorded.program)
            == (&stated.group, &stated.settings, &stated.program);
    let in_words = |volumes: &Volumes| format!("{volumes} of {}", volumes.method);
    match is_it {
        true => Ok(()),
        false => Err(StorageRefusal::Another {
            disk: target.to_owned(),
            recorded: in_words(recorded),
            stated: in_words(stated),
        }),
    }
}

/// Whether somebody but the record says what is to be run, and with which settings.
fn check_word(part: &StoragePart, stated: &Stated, domain: &Domain) -> Result<(), StorageRefusal> {
    let Volumes { program, settings, .. } = &part.volumes;
    let document = domain.document.as_ref();
    let says_so = |target: &String| {
        let disk = || document?.disk(target)?.element().child(disk::ELEMENT);
        let said = stated.get(target).or_else(disk);
        said.is_some_and(|said| {
            said.attribute("program") == program.as_deref()
                && said.attribute("settings") == settings.as_deref()
        })
    };
    let named = program.as_ref().or(settings.as_ref());
    match named.filter(|_| !part.targets.iter().any(says_so)) {
        None => Ok(()),
        Some(named) => Err(StorageRefusal::ByItsWordAlone {
            disks: part.targets.join(" "),
            method: part.volumes.method,
            named: named.clone(),
        }),
    }
}

/// The snapshots that the volumes of a part have.
pub(in crate::plan) fn found<'a>(part: &StoragePart, facts: Facts<'a>) -> Result<&'a [Snapshot], Refusal> {
    let disks = || part.targets.join(" ");
    let held = facts.below.iter().find(|held| held.volumes == part.volumes);
    match held.map(|held| &held.found) {
        Some(Ok(found)) => Ok(found),
        Some(Err(why)) => Err(Refusal::StorageRefuses { disks: disks(), why: why.clone() }),
        None => Err(Refusal::StorageRefuses { disks: disks(), why: "it was not asked".to_owned() }),
    }
}

/// Whether the storage still has a part, as it was taken.
pub(in crate::plan) fn check_is_there(part: &StoragePart, facts: Facts<'_>) -> Result<(), Refusal> {
    let refused = |error: StorageError| Refusal::StorageRefuses {
        disks: part.targets.join(" "),
        why: mark::told(&error),
    };
    let provider = part.volumes.provider().map_err(refused)?;
    let snapshot = present(&*provider, &part.name, found(part, facts)?).map_err(refused)?;
    let words = || format!("the snapshot `{}` of {} holds nothing any more", part.name, part.volumes);
    match snapshot.fit {
        true => Ok(()),
        false => Err(refused(StorageError::Gone { words: words() })),
    }
}

/// Whether all that lies within a part's volumes goes back with them.
pub(in crate::plan) fn check_goes_back_whole(part: &StoragePart, facts: Facts<'_>) -> Result<(), Refusal> {
    let held = facts.below.iter().find(|held| held.volumes == part.volumes);
    match held.map(|held| &held.whole) {
        Some(Err(why)) => Err(Refusal::StorageRefuses { disks: part.targets.join(" "), why: why.clone() }),
        _ => Ok(()),
    }
}

/// Deletes parts, but for those that are gone already and those that a record which is left tells of too.
pub(in crate::plan) fn deletions(
    parts: Vec<StoragePart>,
    left: &SnapshotTree,
    within: Duration,
    facts: Facts<'_>,
) -> Result<Vec<ProviderDelete>, Refusal> {
    let mut deletions = Vec::new();
    for part in parts {
        let found = found(&part, facts)?;
        let is_there = found.iter().any(|snapshot| snapshot.name == part.name);
        let mut records = left.topological().into_iter().filter_map(|name| left.get(name));
        let is_it = |other: &StoragePart| {
            let (ours, theirs) = (&part.volumes, &other.volumes);
            other.name == part.name
                && ours.method == theirs.method
                && ours.names.iter().any(|name| theirs.names.contains(name))
        };
        if is_there && !records.any(|record| record.storage.iter().any(is_it)) {
            let volumes = Volumes { within, ..part.volumes };
            deletions.push(ProviderDelete { volumes, name: part.name });
        }
    }
    Ok(deletions)
}

/// The end of a title that says which storages have a part in it.
pub(in crate::plan) fn by_storages(parts: &[StoragePart]) -> String {
    parts.iter().map(|part| format!(", {} by {}", part.targets.join(" "), part.volumes.method)).collect()
}
