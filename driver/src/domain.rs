//! What the caller knows of the machine before it is asked: its name, and its disks with what the snapshot of each is to be.

use camino::Utf8PathBuf;

use crate::{
    disk::{self, By},
    domain_snapshot::{Location, SourceType},
    domain_xml::{Disk, DomainXml},
    storage::Method,
    xml::Element,
};

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name, for messages and for the folder of its records.
    pub name: String,
    /// Its disks, in order.
    pub disks: Vec<DomainDisk>,
    /// The variables of its firmware, if they are in a file.
    pub nvram: Option<Nvram>,
    /// Whether it is forgotten when it stops.
    pub transient: bool,
    /// Its description, which goes into records.
    pub document: Option<DomainXml>,
}

/// One disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDisk {
    /// What the guest and the caller call it: `vda`.
    pub target: String,
    /// The id of its device in QEMU (`-device virtio-blk-pci,id=...`), or the device's whole path; none if only the disk's
    /// source tells which it is.
    pub device: Option<String>,
    /// What its device is called as a rule, for a disk whose device is not stated and whose source no device has.
    pub usual_device: Option<String>,
    /// What kind of thing its data is in; none if that is one that this driver does not know.
    pub source_type: Option<SourceType>,
    /// Its data, as the description has it; the running machine may be in an overlay by now.
    pub source: Option<Utf8PathBuf>,
    /// The format of that, by the description; none if nobody has said.
    pub format: Option<String>,
    /// Where its part of a snapshot goes if the snapshot does not say.
    pub snapshot: Option<Location>,
    /// Who takes its part of a snapshot below QEMU: the `<diskSnapshot>` of its description, if that names a storage.
    pub storage: Option<Element>,
    /// Whether the guest has the host's SCSI device itself.
    pub lun: bool,
    /// Whether other machines write it too.
    pub shareable: bool,
    /// Whether what the guest writes is thrown away when the machine stops.
    pub transient: bool,
}

/// The variables of a machine's firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nvram {
    /// Their file.
    pub file: Utf8PathBuf,
    /// Its format.
    pub format: String,
}

impl Nvram {
    /// Whether an internal snapshot can hold them: in the one format that keeps such.
    pub fn keeps_snapshots(&self) -> bool {
        self.format == "qcow2"
    }
}

impl DomainDisk {
    /// Whether its data is in a file or a device of the host's.
    pub(crate) fn is_on_the_host(&self) -> bool {
        self.source_type.is_some_and(SourceType::is_on_the_host)
    }

    /// A disk of which no more is known than its target and its device.
    pub fn new(target: &str, device: &str) -> Self {
        Self {
            target: target.into(),
            device: Some(device.into()),
            usual_device: None,
            source_type: Some(SourceType::File),
            source: None,
            format: None,
            snapshot: None,
            storage: None,
            lun: false,
            shareable: false,
            transient: false,
        }
    }
}

impl Domain {
    /// A machine of which no more is known than its name and its disks.
    pub fn new(name: &str, disks: Vec<DomainDisk>) -> Self {
        Self { name: name.into(), disks, nvram: None, transient: false, document: None }
    }

    /// The disk of that target, or with that source; in that order, for a file may be called as a disk is.
    pub fn disk(&self, name: &str) -> Option<&DomainDisk> {
        let by_source =
            || self.disks.iter().find(|disk| disk.source.as_ref().is_some_and(|path| path == name));
        self.disks.iter().find(|disk| disk.target == name).or_else(by_source)
    }
}

/// What its description says of the storage that takes its snapshots, with the volume where only the source names it.
fn storage_of(disk: &Disk<'_>) -> Option<Element> {
    let mut said = disk.element().child(disk::ELEMENT)?.clone();
    if said.attribute("method") == Some(By::Qemu.name()) {
        return None;
    }
    if said.attribute("volume").is_none()
        && let Some(image) = disk::choice::volume_of(disk, Method::Rbd)
    {
        said.set("volume", &image);
    }
    Some(said)
}

impl From<DomainXml> for Domain {
    fn from(document: DomainXml) -> Self {
        let disks = document.disks().map(|disk| DomainDisk {
            target: disk.target.into(),
            device: disk.alias().map(str::to_owned),
            usual_device: disk.usual_alias(),
            source_type: disk.source_type(),
            source: disk.path().map(ToOwned::to_owned),
            format: Some(disk.format().to_owned()),
            // What a storage takes QEMU need not take.
            snapshot: disk.snapshot().or_else(|| storage_of(&disk).map(|_| Location::Manual)),
            storage: storage_of(&disk),
            lun: disk.device() == "lun",
            shareable: disk.shareable(),
            transient: disk.transient(),
        });
        Self {
            name: document.name(),
            disks: disks.collect(),
            nvram: document.nvram(),
            transient: false,
            document: Some(document),
        }
    }
}
