//! Snapshots of disks by the storage below them: a copy of a disk at one point in time, for a backup to read or to go back to.
//!
//! Which storage it is stands in the disk's XML, or is said in the call:
//!
//! ```xml
//! <disk type='file' device='disk'>
//!   <source file='/pool/vm1/vda.raw'/>
//!   <target dev='vda'/>
//!   <diskSnapshot method='btrfs'/>
//! </disk>
//! ```
//!
//! | method | the volume, unless `volume` names it | and |
//! | --- | --- | --- |
//! | `btrfs` | the folder of the disk's file | |
//! | `reflink` | the disk's file | |
//! | `lvm` | `/dev/GROUP/VOLUME` of the disk | `room`: percent, for a thick one |
//! | `zfs` | `/dev/zvol/POOL/...` of the disk | |
//! | `rbd` | `<source protocol='rbd' name='POOL/IMAGE'>` | `group`: for several disks; `settings`: a `ceph.conf` |
//! | `exec` | the disk's file or device | `program`: see `docs/storage-exec.md` |
//! | `qemu` | | none of a storage's: see [`QemuDisks`]; `snapshot='internal'` for one inside the image |
//!
//! With `quiesce='required'`, or `best-effort`, beside it the guest is at rest for each snapshot of the disk, unless the call says more of it.
//!
//! Where neither says so, the disk's type does if it leaves no doubt: an RBD image, a volume of ZFS. What is a file could be caught
//! by its file system, by what lies below that, or by QEMU.
//!
//! ```text
//! ask -> choose the volumes -> list, ask the agent -> plan -> the executor of all plans -> what was taken
//! ```
//!
//! The live disk stays where it is, so the machine's XML does not change, and QEMU is asked for nothing. What is caught is what
//! the guest has written out until then, as after a power cut; of a guest that is brought to rest for it (its file systems frozen
//! by its agent), all that its programs have written. It stands still for the one command that catches the moment. Several disks are
//! caught at one point in time or not at all.
//!
//! Source: the proposal of `virDomainSnapshotCreateXML`'s authors for disk snapshots on libvirt's list, 2011.

mod beside;
pub(crate) mod choice;
mod document;
mod earlier;
mod error;
pub mod export;
mod plan;
mod qemu;
mod source;
mod taker;

use std::time::Duration;

use camino::Utf8PathBuf;

use self::{
    beside::Beside,
    choice::{Wish, together},
    document::Described,
    export::{Cluster, Readable},
    plan::Facts,
    source::{Source, Unseen},
};
pub use self::{
    choice::{By, inside},
    error::DiskError,
    qemu::QemuDisks,
    taker::Taker,
};
use crate::{
    agent::Guard,
    domain_xml::DomainXml,
    env::{Endpoint, Env},
    error::OperationError,
    execute, mark,
    monitor::Monitor,
    name::SnapshotName,
    patience::Patience,
    plan::Plan,
    qemu_img::QemuImg,
    report::Quiesced,
    request::{FrozenBy, Quiesce, WITHIN},
    storage::{self, Method, Snapshot, Storage, Volumes, present},
    xml::Element,
};

/// The element that says who takes a disk's snapshots.
pub const ELEMENT: &str = "diskSnapshot";

/// What is to be done with a snapshot of disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Take one. Of a guest that is to be at rest for it, its file systems are frozen for the moment of it.
    Snapshot {
        /// Its name.
        name: SnapshotName,
        /// Whether the guest is to be at rest.
        quiesce: Quiesce,
    },
    /// Delete one. The live disks stay as they are.
    Delete(SnapshotName),
    /// Let go of one, and keep all that was written since.
    Merge(SnapshotName),
    /// Let the live disks be what one holds; what was written since is lost. The machine must be off: an image that somebody has
    /// open is refused, by the lock that QEMU holds on it.
    Revert(SnapshotName),
}

impl Ask {
    /// The same; of a snapshot of which nothing is said of the guest's rest, that it is needed so much.
    fn at_least(mut self, needed: Quiesce) -> Self {
        if let Ask::Snapshot { quiesce: quiesce @ Quiesce::Off, .. } = &mut self {
            *quiesce = needed;
        }
        self
    }
}

/// Disks of a machine, and the storage that catches them at one point in time: a [`Taker`].
#[derive(Debug)]
pub struct Disks<E: Env> {
    /// Nobody listens there: QEMU has no part in it. It knows the guest's agent.
    monitor: Monitor<E>,
    volumes: Volumes,
    tool: QemuImg<E>,
    disks: Vec<Described>,
    /// The machine without them.
    others: DomainXml,
    /// How much the guest's rest is needed where the call does not say.
    at_least: Quiesce,
    frozen_by: Option<FrozenBy>,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Who took it.
    pub method: By,
    /// Of what.
    pub volume: String,
    /// Each disk, and the `<disk>` from which a backup reads it, or why there is none.
    pub backups: Vec<(String, Result<Element, String>)>,
    /// Each disk that is somewhere else now, and its `<disk>` for the machine's document.
    pub modified: Vec<(String, Element)>,
    /// Whether the guest was at rest.
    pub quiesced: Quiesced,
}

impl<E: Env> Disks<E> {
    /// These disks of a machine. `stated`, a `<diskSnapshot>`, takes the place of what each disk's XML says.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn of(
        env: E,
        domain: &DomainXml,
        targets: &[String],
        stated: Option<&Element>,
    ) -> Result<Self, DiskError> {
        let found = targets.iter().map(|target| {
            domain.disk(target).ok_or_else(|| DiskError::UnknownDisk { target: target.clone() })
        });
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let wishes = found.iter().map(|disk| Wish::of(disk, stated)).collect::<Result<Vec<_>, _>>()?;
        let volumes = together(&wishes, storage::WITHIN)?;
        let disks = found.iter().map(Described::from).collect();
        let tool = QemuImg::new(env.clone());
        let at_least = choice::at_least(domain, targets, stated)?;
        let others = domain.with_disks(|target| targets.iter().all(|meant| meant != target));
        Ok(Self { monitor: Monitor::off(env, None), volumes, tool, disks, others, at_least, frozen_by: None })
    }

    /// The same with another `qemu-img`, which is asked whether a disk is in use.
    #[must_use]
    pub fn with_tool(mut self, program: impl Into<Utf8PathBuf>) -> Self {
        self.tool.program = program.into();
        self
    }

    /// The same of a machine whose guest's agent is reached there: one that is to be at rest for a snapshot.
    #[must_use]
    pub fn with_agent(mut self, socket: Endpoint) -> Self {
        self.monitor = self.monitor.with_agent(socket);
        self
    }

    /// The same of a guest of which somebody has left word that it is frozen for the caller: if it stands frozen, it is neither frozen
    /// nor thawed.
    #[must_use]
    pub fn frozen_by(mut self, by: Option<FrozenBy>) -> Self {
        self.frozen_by = by;
        self
    }

    /// The same with another bound for each command of the storage.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.volumes.within = within;
        self
    }

    /// What holds them.
    pub fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    async fn perform_first(&self, ask: &Ask) -> Result<(), DiskError> {
        let plan = self.planned(ask).await?;
        let frozen_by = self.frozen_by.as_ref();
        let by_the_caller =
            matches!(ask, Ask::Snapshot { quiesce, .. } if quiesce.is_by_the_caller(frozen_by));
        self.monitor.rest().begins(plan.freezes(), by_the_caller).await;
        // One command may take longer than everything else together.
        let deadline = self.monitor.env().now() + WITHIN.max(self.volumes.within);
        execute::carry_out(&self.monitor, &plan, deadline, Patience::default(), None).await?;
        self.monitor.rest().look_again(self.monitor.env().now() + Patience::default().ask).await;
        Ok(())
    }

    async fn planned(&self, ask: &Ask) -> Result<Plan, DiskError> {
        let (env, rest) = (self.monitor.env(), self.monitor.rest());
        let fresh = env.unique_id();
        let targets: Vec<String> = self.disks.iter().map(|disk| disk.target.clone()).collect();
        plan::check_name(ask, &self.volumes, &fresh)?;
        if let Ask::Snapshot { .. } = ask {
            self.check_current().await?;
        }
        // Whether anybody answers is learned before the storage is asked for anything.
        let agent = match ask {
            Ask::Snapshot { quiesce, .. }
                if rest.port().is_some() && (*quiesce != Quiesce::Off || self.frozen_by.is_some()) =>
            {
                Some(rest.status(env.now() + WITHIN).await)
            }
            _ => None,
        };
        if let Ask::Snapshot { quiesce, .. } = ask {
            let wanted = plan::rest(*quiesce, self.frozen_by.as_ref(), agent.as_ref());
            wanted.freeze().map_err(OperationError::from)?;
            rest.expect(wanted.told());
        }
        if let Ask::Revert(_) = ask {
            self.check_unused().await?;
        }
        let (volumes, storage) = (&self.volumes, self.storage()?);
        let found = &storage.list().await?;
        let (agent, frozen_by) = (agent.as_ref(), self.frozen_by.as_ref());
        let facts = Facts { targets: &targets, volumes, found, agent, frozen_by, fresh: &fresh };
        let planned = plan::plan(ask, facts)?;
        if let Ask::Snapshot { .. } | Ask::Revert(_) = ask {
            self.check_holds(&storage).await?;
        }
        if let Ask::Snapshot { .. } = ask {
            storage.check_room().await?;
        }
        if let Ask::Revert(name) = ask {
            self.check_holds_still(name).await?;
            self.beside(&storage).check_alone().await?;
            storage.check_goes_back_whole().await?;
        }
        Ok(planned)
    }

    /// Whether what is caught, or put back, is these disks.
    async fn check_holds(&self, storage: &Storage<E>) -> Result<(), DiskError> {
        let images: Vec<_> = self.disks.iter().filter_map(|disk| disk.image.clone()).collect();
        let mut data = Vec::new();
        for disk in self.disks.iter().filter(|disk| disk.format == "qcow2") {
            let Some(image) = disk.image.as_ref().filter(|_| self.volumes.method != Method::Exec) else {
                continue;
            };
            let unsure = |why| DiskError::Unsure { target: disk.target.clone(), why };
            data.extend(
                self.tool.info_while_open(image, &disk.format).await.map_err(unsure)?.data_file(image),
            );
        }
        Ok(storage.check_holds(&images, &data).await?)
    }

    /// Whether a snapshot whose files are seen holds the images: what has come into the volume since is not in it.
    async fn check_holds_still(&self, name: &SnapshotName) -> Result<(), DiskError> {
        let provider = self.volumes.provider()?;
        for disk in self.disks.iter().filter(|_| provider.shows_files()) {
            let Some(image) = &disk.image else { continue };
            let seen = source::seen(self.monitor.env(), &*provider, name, image).await;
            let not_held =
                |unseen: Unseen| DiskError::NotHeld { target: disk.target.clone(), why: unseen.to_string() };
            seen.map_err(not_held)?;
        }
        Ok(())
    }

    fn beside<'a>(&'a self, storage: &'a Storage<E>) -> Beside<'a, E> {
        let Self { volumes, tool, others, disks, .. } = self;
        let meant = disks.iter().filter_map(|disk| disk.image.as_deref()).collect();
        Beside { volumes, storage, tool, others, meant }
    }

    fn storage(&self) -> Result<Storage<E>, DiskError> {
        Ok(self.volumes.storage(self.monitor.env().clone())?)
    }

    /// Whether nobody has the images of the disks open: not to write, and not to read what stands on them either.
    async fn check_unused(&self) -> Result<(), DiskError> {
        for disk in &self.disks {
            let Some(image) = &disk.image else { continue };
            let target = disk.target.clone();
            self.tool.raw_is_free(image).await.map_err(|why| match why.is_locked() {
                true => DiskError::InUse { target, why: mark::told(&why) },
                false => DiskError::Unsure { target, why },
            })?;
        }
        Ok(())
    }

    /// Whether the disks are still in the images that the machine's document names: one that somebody reads and nobody writes is
    /// below an overlay, and holds nothing of what the guest writes. Of a raw image nobody tells the one from the other.
    async fn check_current(&self) -> Result<(), DiskError> {
        for disk in self.disks.iter().filter(|disk| disk.format == "qcow2" && !disk.read_only) {
            let Some(image) = &disk.image else { continue };
            let unsure = |why| DiskError::Unsure { target: disk.target.clone(), why };
            match self.tool.info(image, &disk.format).await {
                Err(error) if error.is_locked() => continue,
                told => drop(told.map_err(unsure)?),
            }
            match self.tool.raw_is_free(image).await {
                Err(error) if error.is_locked() => {
                    let (target, image) = (disk.target.clone(), image.clone());
                    return Err(DiskError::MovedOn { target, image });
                }
                told => told.map_err(unsure)?,
            }
        }
        Ok(())
    }
}

impl<E: Env> Taker for Disks<E> {
    fn guard(&self) -> Guard {
        self.monitor.rest().guard()
    }

    async fn plan(&self, ask: &Ask) -> Result<Plan, DiskError> {
        let planned = self.planned(&ask.clone().at_least(self.at_least)).await;
        self.monitor.rest().release();
        planned
    }

    async fn snapshot(&self, name: &SnapshotName, quiesce: Quiesce) -> Result<Taken, DiskError> {
        self.perform(&Ask::Snapshot { name: name.clone(), quiesce }).await?;
        let provider = self.volumes.provider()?;
        let mut backups = Vec::new();
        for disk in &self.disks {
            let source = Source::of(&self.tool, &*provider, name, disk).await;
            let backup = source.map(|Source { image, behind }| disk.backup(&image, &behind));
            let backup = backup.map_err(|error| match error {
                DiskError::NotRead { why, .. } => why,
                error => mark::told(&error),
            });
            backups.push((disk.target.clone(), backup));
        }
        let quiesced = self.monitor.rest().told();
        let (method, volume) = (By::Storage(provider.method()), provider.volume());
        Ok(Taken { method, volume, backups, modified: Vec::new(), quiesced })
    }

    async fn perform(&self, ask: &Ask) -> Result<(), DiskError> {
        let done = self.perform_first(&ask.clone().at_least(self.at_least)).await;
        self.monitor.rest().release();
        done
    }

    async fn list(&self) -> Result<Vec<Snapshot>, DiskError> {
        let mut found = self.storage()?.list().await?;
        found.extend(earlier::list(&self.tool, &self.volumes, &self.disks).await?);
        Ok(found)
    }

    async fn readable(&self, name: &SnapshotName) -> Result<Vec<Readable>, DiskError> {
        let provider = self.volumes.provider()?;
        present(&*provider, name, &self.storage()?.list().await?)?;
        let mut readable = Vec::new();
        for disk in &self.disks {
            let Source { image, behind } = Source::of(&self.tool, &*provider, name, disk).await?;
            let cluster = Cluster::of(&disk.element, self.volumes.settings.as_deref());
            let (target, format) = (disk.target.clone(), disk.format.clone());
            readable.push(Readable {
                target,
                source: image,
                format,
                behind: Some(behind),
                tag: None,
                cluster,
            });
        }
        Ok(readable)
    }
}
