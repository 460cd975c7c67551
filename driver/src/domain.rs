//! What the caller knows of the machine before it is asked: its name and which device is which disk.

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name, for messages.
    pub name: String,
    /// Its disks, in order.
    pub disks: Vec<DomainDisk>,
}

/// One disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDisk {
    /// What the guest and the caller call it: `vda`.
    pub target: String,
    /// The id of its device in QEMU (`-device virtio-blk-pci,id=...`), or the device's whole path.
    pub device: String,
}
