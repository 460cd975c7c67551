//! Snapshots of disks by QEMU itself: each disk goes on in an overlay, and the image that it was in holds the snapshot; or, inside a
//! qcow2 image, the image holds both.
//!
//! ```text
//! external  vda.qcow2 --snapshot s1--> vda.qcow2 <- vda.s1  --delete or merge s1--> vda.qcow2, with what was written since
//! internal  vda.qcow2 --snapshot s1--> vda.qcow2 with s1    --delete or merge s1--> vda.qcow2, with what was written since
//! ```
//! It is a snapshot of the machine of these disks alone, and stands among the machine's records: all that is said of those is
//! true of it, with the machine running or off. An external one changes where the disk is: the [`Taken`] that comes of
//! it has the modified `<disk>`. An internal one changes nothing of the machine, and while the machine runs nobody else can read it:
//! QEMU holds the lock of its image.
//!
//! Source: the proposal of disk snapshots on libvirt's list, 2011: `qemu` is one of its methods, by an overlay or internal.

use std::time::Duration;

use camino::Utf8PathBuf;

use super::{
    Ask, By, Described, DiskError, Taken, Taker, choice,
    export::{Cluster, Readable},
};
use crate::{
    agent::Guard,
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType, State},
    domain_xml::DomainXml,
    env::Env,
    machine::Machine,
    name::SnapshotName,
    plan::Plan,
    report::{Deed, Overlaid, Quiesced},
    request::{
        Create, CreateFlag, Delete, DeleteFlags, FrozenBy, Quiesce, Request, Revert, RevertFlags, WITHIN,
    },
    storage::{BackupSource, Snapshot, StorageError},
};

/// Disks of a machine whose snapshots QEMU takes: a [`Taker`].
pub struct QemuDisks<'m, E: Env> {
    machine: &'m Machine<E>,
    targets: Vec<String>,
    inside: bool,
    within: Duration,
    at_least: Quiesce,
    frozen_by: Option<FrozenBy>,
}

impl<'m, E: Env> QemuDisks<'m, E> {
    /// These disks of a machine of which records are kept.
    ///
    /// # Errors
    /// [`DiskError::NoDisk`], [`DiskError::UnknownDisk`], [`DiskError::NoRecords`].
    pub fn of(machine: &'m Machine<E>, targets: &[String]) -> Result<Self, DiskError> {
        let domain = machine.domain();
        if targets.is_empty() {
            return Err(DiskError::NoDisk);
        }
        if let Some(target) =
            targets.iter().find(|target| domain.disks.iter().all(|disk| disk.target != **target))
        {
            return Err(DiskError::UnknownDisk { target: target.clone() });
        }
        if machine.tree().is_none() {
            return Err(DiskError::NoRecords);
        }
        let at_least = match &domain.document {
            Some(document) => choice::at_least(document, targets, None)?,
            None => Quiesce::Off,
        };
        let targets = targets.to_vec();
        Ok(Self { machine, targets, inside: false, within: WITHIN, at_least, frozen_by: None })
    }

    /// The same with snapshots that are taken inside the images, if so it is. Those that there are may be either.
    #[must_use]
    pub fn inside(mut self, inside: bool) -> Self {
        self.inside = inside;
        self
    }

    /// The same of a guest of which somebody has left word that it is frozen for the caller: see [`Create::frozen_by`].
    #[must_use]
    pub fn frozen_by(mut self, by: Option<FrozenBy>) -> Self {
        self.frozen_by = by;
        self
    }

    /// The same with another bound for each operation.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Whether it is a snapshot of exactly these disks, all in overlays or all inside their images, and without memory.
    fn holds(&self, snapshot: &DomainSnapshot) -> bool {
        let takes_part = |disk: &&SnapshotDisk| disk.location.is_some_and(|place| place != Location::No);
        let parts: Vec<_> = snapshot.disks.iter().filter(takes_part).collect();
        let has_memory = snapshot.memory.location.is_some_and(|place| place != Location::No);
        let is_ours = |disk: &&SnapshotDisk| self.targets.contains(&disk.name);
        let are = |place| parts.iter().all(|disk| disk.location == Some(place));
        // That of a machine that was off is in all its images, and in that with the firmware's variables.
        let inside = || snapshot.state == Some(State::DiskSnapshot) && are(Location::Internal);
        !has_memory
            && parts.len() == self.targets.len()
            && parts.iter().all(is_ours)
            && (are(Location::External) || inside())
    }

    /// What the machine is asked for.
    fn request(&self, ask: &Ask) -> Result<Request, DiskError> {
        let within = self.within;
        Ok(match &ask.clone().at_least(self.at_least) {
            Ask::Snapshot { name, quiesce } => self.create(name, *quiesce),
            // To delete one is to merge it: the image that holds it takes what was written since.
            Ask::Delete(name) | Ask::Merge(name) => {
                self.check_ours(name)?;
                Request::Delete(Delete::new(name.clone(), DeleteFlags::default(), within))
            }
            Ask::Revert(name) => {
                self.check_ours(name)?;
                let (name, flags) = (name.clone(), RevertFlags::default());
                Request::Revert(Revert::new(name, flags, within))
            }
        })
    }

    fn create(&self, name: &SnapshotName, quiesce: Quiesce) -> Request {
        let domain = self.machine.domain();
        let disks = domain.disks.iter().map(|disk| SnapshotDisk {
            location: Some(match self.targets.contains(&disk.target) {
                true if self.inside => Location::Internal,
                true => Location::External,
                false => Location::No,
            }),
            ..SnapshotDisk::new(&disk.target)
        });
        let wish = DomainSnapshot {
            name: Some(name.to_string()),
            disks: disks.collect(),
            ..DomainSnapshot::default()
        };
        Request::Create(Box::new(Create {
            quiesce,
            frozen_by: self.frozen_by.clone(),
            inside: self.inside,
            of_named_disks: true,
            within: self.within,
            ..Create::new(wish, [CreateFlag::DiskOnly])
        }))
    }

    /// Whether a snapshot that is recorded is one of exactly these disks: of one that holds more, more would be deleted.
    fn check_ours(&self, name: &SnapshotName) -> Result<(), DiskError> {
        let tree = self.machine.tree().unwrap_or_default();
        match tree.get(name.as_str()) {
            Some(snapshot) if !self.holds(snapshot) => {
                Err(DiskError::OfOthers { name: name.clone(), targets: self.targets.clone() })
            }
            // One that is not there is refused by whoever looks for it.
            _ => Ok(()),
        }
    }
}

impl<E: Env> Taker for QemuDisks<'_, E> {
    async fn plan(&self, ask: &Ask) -> Result<Plan, DiskError> {
        Ok(self.machine.plan(&self.request(ask)?).await?)
    }

    async fn snapshot(&self, name: &SnapshotName, quiesce: Quiesce) -> Result<Taken, DiskError> {
        let before = self.machine.domain();
        let ask = Ask::Snapshot { name: name.clone(), quiesce };
        let report = self.machine.perform(&self.request(&ask)?).await?;
        let quiesced = match report.deed {
            Deed::Taken { quiesced, .. } => quiesced,
            Deed::Reverted(_) | Deed::Deleted(_) => Quiesced::no("not asked for"),
        };
        let (mut backups, mut modified) = (Vec::new(), Vec::new());
        for overlaid in &report.overlaid {
            let Overlaid { target, image, format, overlay } = overlaid;
            let Some(document) = &before.document else { continue };
            let Some(disk) = document.disk(target) else { continue };
            let described = Described { format: format.clone(), ..Described::from(&disk) };
            backups.push((target.clone(), Ok(described.backup(&held(image.clone()), &[]))));
            let now = document.without_chains().with_sources([(target.as_str(), &**overlay, "qcow2")]);
            modified.extend(now.disk(target).map(|disk| (target.clone(), disk.element().clone())));
        }
        if self.inside {
            let why = format!("the image that it goes on in holds {name} inside, and no <disk> shows that");
            backups.extend(self.targets.iter().map(|target| (target.clone(), Err(why.clone()))));
        }
        let volume = self.targets.join(" ");
        Ok(Taken { method: By::Qemu, volume, backups, modified, quiesced })
    }

    async fn list(&self) -> Result<Vec<Snapshot>, DiskError> {
        let tree = self.machine.tree().unwrap_or_default();
        let names = tree.topological().into_iter();
        let ours = names.filter(|name| tree.get(name).is_some_and(|snapshot| self.holds(snapshot)));
        Ok(ours
            .filter_map(|name| Some(Snapshot { name: SnapshotName::new(name).ok()?, fit: true, of: None }))
            .collect())
    }

    async fn readable(&self, name: &SnapshotName) -> Result<Vec<Readable>, DiskError> {
        self.check_ours(name)?;
        let tree = self.machine.tree().unwrap_or_default();
        let gone = || StorageError::Gone { words: format!("no record of a snapshot `{name}`") };
        let snapshot = tree.get(name.as_str()).ok_or_else(gone)?;
        let is_inside = snapshot.disks.iter().any(|disk| disk.location == Some(Location::Internal));
        let domain = snapshot.domain.clone().and_then(|domain| DomainXml::of(domain).ok());
        let of = |target: &String| {
            let disk = domain.as_ref()?.disk(target)?;
            let source = held(disk.path()?.to_owned());
            let (target, format) = (target.clone(), disk.format().to_owned());
            let tag = is_inside.then(|| name.clone());
            Some(Readable { target, source, format, behind: None, tag, cluster: Cluster::default() })
        };
        let found = self.targets.iter().map(of).collect::<Option<_>>();
        Ok(found.ok_or_else(gone)?)
    }

    async fn perform(&self, ask: &Ask) -> Result<(), DiskError> {
        self.machine.perform(&self.request(ask)?).await?;
        Ok(())
    }

    fn guard(&self) -> Guard {
        self.machine.guard()
    }
}

/// An image that holds a snapshot.
fn held(image: Utf8PathBuf) -> BackupSource {
    match SourceType::of_path(&image) {
        SourceType::Block => BackupSource::Block(image),
        _ => BackupSource::File(image),
    }
}
