//! What the caller knows of the machine before it is asked: its name, and its disks with what the snapshot of each is to be.

use camino::Utf8PathBuf;

use crate::{
    domain_snapshot::{Location, SourceType},
    domain_xml::DomainXml,
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
    /// What kind of thing its data is in; none if that is one that this driver does not know.
    pub source_type: Option<SourceType>,
    /// Its data, as the description has it; the running machine may be in an overlay by now.
    pub source: Option<Utf8PathBuf>,
    /// Where its part of a snapshot goes if the snapshot does not say.
    pub snapshot: Option<Location>,
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

impl DomainDisk {
    /// A disk of which no more is known than its target and its device.
    pub fn new(target: &str, device: &str) -> Self {
        Self {
            target: target.into(),
            device: Some(device.into()),
            source_type: Some(SourceType::File),
            source: None,
            snapshot: None,
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

impl From<DomainXml> for Domain {
    fn from(document: DomainXml) -> Self {
        let disks = document.disks().map(|disk| DomainDisk {
            target: disk.target.into(),
            device: disk.alias().map(str::to_owned),
            source_type: disk.source_type(),
            source: disk.path().map(ToOwned::to_owned),
            snapshot: disk.snapshot(),
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
