//! Disks that the storage below them takes, in the moment in which QEMU takes the others.
//!
//! ```text
//! ... prepare | freeze, or pause -> catch, storage by storage, side by side -> switch -> thaw, or resume | complete what was caught
//! ```
//! The guest stands still from the first of them to the last, so all are of one moment: its file systems are at rest, or it is
//! paused. Where one storage alone takes all, its own moment is enough.

pub(super) mod parts;

use super::Facts;
use crate::{
    align::{self, Aligned, Place},
    disk::{DiskError, choice},
    domain::Domain,
    error::Refusal,
    mark,
    observed::Observed,
    request::{Create, Quiesce, Request},
    step::{ProviderSeal, ProviderSnapshot},
    storage::{self, Snapshot, Volumes, absent},
    tree::SnapshotTree,
};

/// Volumes below disks that their storage is to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The disks.
    pub targets: Vec<String>,
    /// What holds them.
    pub volumes: Volumes,
    /// The snapshots that they have, or why that is not known.
    pub found: Result<Vec<Snapshot>, String>,
    /// Whether all that lies within them goes back with them, where it may have to; or why not.
    pub whole: Result<(), String>,
}

/// The volumes below the disks that their storages are to take, to put back or to let go of, each with its disks; nothing where a
/// plan will be refused.
pub fn volumes(
    request: &Request,
    domain: &Domain,
    observed: &Observed,
    tree: Option<&SnapshotTree>,
) -> Vec<(Vec<String>, Volumes)> {
    let Request::Create(create) = request else {
        let Some(Ok(parts)) = tree.map(|tree| parts::needed(request, tree, domain)) else {
            return Vec::new();
        };
        let mut volumes: Vec<(Vec<String>, Volumes)> = Vec::new();
        for part in parts {
            if volumes.iter().all(|(_, known)| *known != part.volumes) {
                volumes.push((part.targets, part.volumes));
            }
        }
        return volumes;
    };
    let Ok(aligned) = align::align(create, domain, observed.running()) else { return Vec::new() };
    of(&aligned, observed).unwrap_or_default()
}

/// The volumes below the disks that their storages are to take, each with its disks.
pub(super) fn of(aligned: &Aligned, observed: &Observed) -> Result<Vec<(Vec<String>, Volumes)>, Refusal> {
    let mut wishes = Vec::new();
    for disk in &aligned.disks {
        let (Place::Storage(said), Some(image)) = (&disk.place, observed.disk(&disk.target)) else {
            continue;
        };
        wishes.push(
            choice::Wish::at(&disk.target, &image.file, said).map_err(|why| refused(&disk.target, why))?,
        );
    }
    let all = || aligned.targets(|place| matches!(place, Place::Storage(_))).join(" ");
    choice::groups(&wishes, storage::WITHIN).map_err(|why| refused(&all(), why))
}

pub(super) fn refused(disks: &str, why: DiskError) -> Refusal {
    Refusal::StorageRefuses { disks: disks.to_owned(), why: mark::told(&why) }
}

/// What is done below QEMU.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// In the moment of the snapshot.
    pub(super) catch: Vec<ProviderSnapshot>,
    /// When the guest runs again.
    pub(super) seal: Vec<ProviderSeal>,
}

/// Whether the guest is to be at rest where a disk's `<diskSnapshot>` wants it so.
fn check_rest(create: &Create, aligned: &Aligned, targets: &[String]) -> Result<(), Refusal> {
    for disk in aligned.disks.iter().filter(|disk| targets.contains(&disk.target)) {
        let Place::Storage(said) = &disk.place else { continue };
        let needed = choice::said_of_rest(&disk.target, said).map_err(|why| refused(&disk.target, why))?;
        if needed == Quiesce::Required && matches!(create.quiesce(), Quiesce::Off | Quiesce::BestEffort) {
            let why = "its <diskSnapshot> says that the guest must be at rest: ask for a quiesced snapshot"
                .to_owned();
            return Err(Refusal::StorageRefuses { disks: disk.target.clone(), why });
        }
    }
    Ok(())
}

/// Plans what is done below QEMU for a snapshot.
pub(super) fn below(create: &Create, aligned: &Aligned, facts: Facts<'_>) -> Result<Below, Refusal> {
    let mut below = Below::default();
    for (index, (targets, volumes)) in of(aligned, facts.observed)?.into_iter().enumerate() {
        let disks = targets.join(" ");
        check_rest(create, aligned, &targets)?;
        let refuses = |why: String| Refusal::StorageRefuses { disks: disks.clone(), why };
        let name = aligned.name.clone();
        let fresh = format!("{}-{index}", facts.unique);
        let checked = volumes.provider().and_then(|provider| {
            provider.snapshot(&name, &fresh)?;
            Ok(provider)
        });
        let provider = checked.map_err(|error| refuses(mark::told(&error)))?;
        let held = facts.below.iter().find(|held| held.targets == targets);
        match held.map(|held| &held.found) {
            Some(Ok(found)) => {
                absent(&*provider, &name, found).map_err(|error| refuses(mark::told(&error)))?;
            }
            Some(Err(why)) => return Err(refuses(why.clone())),
            None => return Err(refuses("it was not asked".to_owned())),
        }
        let volumes = Volumes { within: create.within, ..volumes };
        let (targets_too, volumes_too) = (targets.clone(), volumes.clone());
        below.catch.push(ProviderSnapshot { targets, volumes, name: name.clone(), fresh: fresh.clone() });
        below.seal.push(ProviderSeal { targets: targets_too, volumes: volumes_too, name, fresh });
    }
    Ok(below)
}
