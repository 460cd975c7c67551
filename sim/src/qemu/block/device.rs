//! A device on top of the block graph: a disk, or a drive for media that come and go.

use crate::machine::OnError;

/// A device that the guest sees a disk in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its qdev id; its path among QEMU's objects if it has none.
    pub id: String,
    /// The name of its drive; empty unless the command line has one for it.
    pub drive: String,
    /// The node that it reads and writes: the top of its chain. Empty for a drive without medium.
    pub node: String,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// What is done when a write of the guest fails.
    pub on_write_error: OnError,
    /// QAPI's `BlockDeviceIoStatus`.
    pub io_status: &'static str,
    /// What it is.
    pub model: Model,
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// virtio-blk: always holds its disk.
    VirtioBlk {
        /// It came after the firmware had looked for devices.
        unseen: bool,
    },
    /// scsi-hd: always holds its disk.
    ScsiHd,
    /// The board's flash: always holds its image, and nobody is asked what to do about a write that fails.
    Flash,
    /// A drive for media that come and go.
    Cd {
        /// Whether the tray is open.
        tray_open: bool,
    },
}

impl Model {
    /// Whether the tray is open; nothing for a device without.
    pub fn tray_open(self) -> Option<bool> {
        match self {
            Model::Cd { tray_open } => Some(tray_open),
            Model::VirtioBlk { .. } | Model::ScsiHd | Model::Flash => None,
        }
    }
}

impl Device {
    /// A device as QEMU makes it when nothing is said of errors.
    pub(crate) fn new(id: String, node: String, model: Model) -> Self {
        Self {
            id,
            drive: String::new(),
            node,
            read_only: false,
            on_write_error: OnError::Enospc,
            io_status: "ok",
            model,
        }
    }

    /// How queries name it.
    pub fn qdev(&self) -> String {
        match self.model {
            Model::VirtioBlk { .. } => match self.id.as_str() {
                path if path.starts_with('/') => format!("{path}/virtio-backend"),
                id => format!("/machine/peripheral/{id}/virtio-backend"),
            },
            Model::ScsiHd | Model::Flash | Model::Cd { .. } => self.id.clone(),
        }
    }

    /// Whether it caches writes: the guest's firmware turns that off on the disks that it sets up, whenever it starts them.
    pub fn write_cache(&self, started: bool) -> bool {
        match self.model {
            Model::VirtioBlk { unseen } => unseen || !started,
            Model::ScsiHd | Model::Flash | Model::Cd { .. } => true,
        }
    }
}
