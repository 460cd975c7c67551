//! Disks whose storage is put back to what it holds of the snapshot, while the machine is off.
//!
//! Whatever else lies on a volume goes back with it. So only what is known to be of these disks alone is put back: no other disk's
//! image, no snapshot that came later, no file of memory and no record may be there.
//!
//! ```text
//! ... make overlays -> end the machine -> let the volumes be what they were: point of no return -> [start ...]
//! ```

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Fresh, Way, has_memory, is_external};
use crate::{
    disk::choice,
    domain_snapshot::{DomainSnapshot, Location, StoragePart},
    error::{Refusal, RevertRefusal, StorageRefusal},
    plan::{merge, storage::parts},
    step::{ProviderDelete, ProviderRevert},
    storage::{Method, Volumes},
    tree::SnapshotTree,
};

impl Way<'_> {
    /// Whether the caller puts back each disk that nobody else does, and gives up what goes with it.
    pub(super) fn check_manual(&self) -> Result<(), RevertRefusal> {
        let left: Vec<&str> = self.left_to_caller().collect();
        // Before anybody is asked to put anything back.
        left.iter().try_for_each(|target| self.check_nothing_later(target))?;
        if !left.is_empty() && !self.revert.storage_is_back {
            return Err(RevertRefusal::ManualDisks(left.into_iter().map(str::to_owned).collect()));
        }
        left.into_iter().try_for_each(|target| {
            let path = self.domain.disk(target).and_then(|disk| disk.path());
            path.map_or(Ok(()), |path| self.check_is_there(target, path))
        })
    }

    /// The disks that the caller has to put back.
    pub(super) fn left_to_caller(&self) -> impl Iterator<Item = &str> {
        let is_manual = |target: &&str| super::location(self.record, target) == Location::Manual;
        let by_storage = |target: &str| {
            let mut parts = self.parts.iter();
            is_external(self.record) && parts.any(|part| part.targets.iter().any(|known| known == target))
        };
        let manual = self.domain.disks().map(|disk| disk.target).filter(is_manual);
        manual.filter(move |target| !by_storage(target))
    }

    /// Whether no snapshot that stays holds a disk in what the caller puts back: in that image itself, or in one that stands on it.
    fn check_nothing_later(&self, target: &str) -> Result<(), RevertRefusal> {
        let Some(file) = self.domain.disk(target).and_then(|disk| Some(disk.path()?.to_owned())) else {
            return Ok(());
        };
        let tree = self.records.tree;
        let below: BTreeSet<&str> = tree.descendants(self.revert.name.as_str()).into_iter().collect();
        let holds_it = |record: &&DomainSnapshot| {
            let grew = record.name.as_deref().is_some_and(|name| below.contains(name));
            let mut parts = record.disks.iter().filter(|part| part.name == target);
            let is_taken = parts.any(|part| by_qemu(part.location));
            is_taken && (grew || merge::source(record, target).as_ref() == Some(&file))
        };
        let snapshots: Vec<String> = self.later().filter(holds_it).filter_map(|it| it.name.clone()).collect();
        match snapshots.is_empty() {
            true => Ok(()),
            false => Err(RevertRefusal::HeldInWhatGoesBack { disk: target.to_owned(), file, snapshots }),
        }
    }

    /// What puts the volumes back.
    pub(super) fn put_back(&self) -> Result<Vec<ProviderRevert>, Refusal> {
        let mut steps = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            self.check_alone(part)?;
            parts::check_is_there(part, self.facts)?;
            parts::check_goes_back_whole(part, self.facts)?;
            let volumes = Volumes { within: self.revert.within, ..part.volumes.clone() };
            let fresh = format!("{}-{index}", self.facts.unique);
            steps.push(ProviderRevert { volumes, name: part.name.clone(), fresh });
        }
        Ok(steps)
    }

    /// What it goes back to, for a title, and of which disks.
    pub(super) fn kind(&self, fresh: &[Fresh]) -> (String, Vec<String>) {
        let in_overlays = if has_memory(self.record) { "memory and overlays" } else { "overlays" };
        let by_storages = parts::by_storages(&self.parts);
        let kind = match fresh.is_empty() && !has_memory(self.record) && !self.parts.is_empty() {
            true => by_storages.trim_start_matches(", ").to_owned(),
            false => format!("{in_overlays}{by_storages}"),
        };
        let targets = fresh.iter().map(|overlay| &overlay.target);
        let targets = targets.chain(self.parts.iter().flat_map(|part| &part.targets)).cloned();
        (kind, targets.chain(self.left_to_caller().map(str::to_owned)).collect())
    }

    /// What storages hold of the snapshots that go with it, to be deleted.
    pub(super) fn discarded_parts(&self, tree: &SnapshotTree) -> Result<Vec<ProviderDelete>, Refusal> {
        let mut going = Vec::new();
        for record in self.going() {
            going.extend(parts::parts(record, &parts::Stated::new(), self.facts.domain)?);
        }
        parts::deletions(going, tree, self.revert.within, self.facts)
    }

    /// Whether nothing but the part's own disks is put back with its volumes.
    fn check_alone(&self, part: &StoragePart) -> Result<(), Refusal> {
        let volume = part.volumes.to_string();
        for target in &part.targets {
            self.check_holds(part, target)?;
        }
        let there = |file: &Utf8Path, what: String| match holds(&part.volumes, file) {
            false => Ok(()),
            true => {
                let (volume, file) = (volume.clone(), file.to_owned());
                Err(Refusal::from(StorageRefusal::LiesThereToo { volume, file, what }))
            }
        };
        let others = self.facts.observed.disks.iter().filter(|disk| !part.targets.contains(&disk.target));
        for disk in others {
            disk.chain
                .iter()
                .try_for_each(|image| there(&image.file, format!("an image of disk {}", disk.target)))?;
        }
        if let Some(memory) = &self.record.memory.file {
            there(memory, "the memory of this snapshot".to_owned())?;
        }
        there(self.records.folder, "the folder of the records".to_owned())?;
        self.later().try_for_each(|record| {
            let what = format!("of snapshot {}", record.name.as_deref().unwrap_or_default());
            of_it(record).iter().try_for_each(|file| there(file, what.clone()))
        })
    }

    /// Whether a disk is, and was, all of a volume of the part, as far as that can be known.
    fn check_holds(&self, part: &StoragePart, target: &str) -> Result<(), Refusal> {
        let (disk, volume) = (target.to_owned(), part.volumes.to_string());
        let recorded = self.domain.disk(target).ok_or_else(|| Refusal::NoImage(target.to_owned()))?;
        let file = recorded.path().map(ToOwned::to_owned);
        let is_it = match part.volumes.method {
            // Its program answers for it.
            Method::Exec => true,
            Method::Btrfs => file.as_ref().is_some_and(|file| holds(&part.volumes, file)),
            method => {
                choice::volume_of(&recorded, method).is_some_and(|own| part.volumes.names.contains(&own))
                    && part.volumes.names.len() <= part.targets.len()
            }
        };
        if !is_it {
            return Err(StorageRefusal::PartOfVolume { disk, volume }.into());
        }
        let now = self.facts.observed.disk(target).map(|disk| disk.file.clone());
        match (now, file) {
            (Some(file), Some(recorded)) if file != recorded => {
                Err(StorageRefusal::OtherImage { disk, file, recorded }.into())
            }
            _ => Ok(()),
        }
    }

    /// The records of the snapshots that stay and that this one does not descend from: what they hold came later, or elsewhere.
    fn later(&self) -> impl Iterator<Item = &DomainSnapshot> {
        let tree = self.records.tree;
        let mut before = vec![self.revert.name.as_str()];
        while let Some(parent) = before.last().and_then(|name| tree.get(name)?.parent.as_deref())
            && !before.contains(&parent)
        {
            before.push(parent);
        }
        let stays = move |name: &&str| !before.contains(name) && !self.doomed.iter().any(|gone| gone == name);
        tree.topological().into_iter().filter(stays).filter_map(|name| tree.get(name))
    }
}

/// Whether QEMU has taken a disk.
fn by_qemu(location: Option<Location>) -> bool {
    matches!(location, Some(Location::External | Location::Internal))
}

/// Whether a file is on volumes that are put back, as far as that can be told by its name.
fn holds(volumes: &Volumes, file: &Utf8Path) -> bool {
    let is_there = |name: &String| match volumes.method {
        Method::Btrfs => file.starts_with(name),
        _ => file == name,
    };
    volumes.names.iter().any(is_there)
}

/// The files that hold something of a snapshot: its memory, and the images that QEMU took it in.
fn of_it(record: &DomainSnapshot) -> Vec<Utf8PathBuf> {
    let disks = record.disks.iter().filter(|disk| by_qemu(disk.location));
    let images = disks.flat_map(|disk| {
        [merge::source(record, &disk.name), disk.path().map(ToOwned::to_owned)].into_iter().flatten()
    });
    images.chain(record.memory.file.clone()).collect()
}
