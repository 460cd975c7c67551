//! What machine is simulated: the arguments that a real QEMU would be started with, as data.
//!
//! Each disk becomes what `-blockdev driver=file,node-name=<target>-file`, `-blockdev
//! driver=<format>,node-name=<target>` and `-device virtio-blk-pci,id=<target>-device,drive=<target>` make of
//! it; the names of the protocol node and the device can be set apart. The runner starts real QEMU with exactly these,
//! so both worlds hold the same graph. The other way round, [`Machine::from_arguments`] reads a command line.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use crate::storage::Storage;

pub mod agent;

mod actions;
mod arguments;
mod on_error;

pub use actions::{Actions, OnPanic};
pub use agent::Agent;
pub use arguments::Unknown;
pub use on_error::{Errno, OnError};

/// The chipset, by the name of its machine type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chipset {
    /// `pc`: devices come and go on the bus that all are on.
    Pc,
    /// `q35`: devices come and go only behind a `pcie-root-port`.
    Q35,
}

/// A boot sector that does the same once a second, as long as it runs. No operating system need be there to see what QEMU
/// does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// It writes to `pvpanic` that its kernel has panicked.
    Panics,
    /// It starts the watchdog `ib700` with no time left.
    StarvesItsWatchdog,
}

/// The format of a disk's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// qcow2: takes internal snapshots.
    Qcow2,
    /// raw: takes none.
    Raw,
}

impl Format {
    /// The name of QEMU's block driver.
    pub fn driver(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

/// One disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What the guest calls it, `vda`; also the name of its format node.
    pub target: String,
    /// The name of its protocol node: `<target>-file` unless set.
    pub file_node: String,
    /// The id of its device: `<target>-device` unless set; where that has none, its path among QEMU's objects.
    pub device: String,
    /// What the guest sees it as.
    pub model: DiskModel,
    /// The node that its device is on, where that is another than its format node: one of [`Machine::nodes`].
    pub root: Option<String>,
    /// The name of its drive, where it is one of `-drive`; its nodes have none then.
    pub drive: String,
    /// The id of the PCIe root port that its device is plugged into; none for the chipset's own bus.
    pub bus: Option<String>,
    /// The format of its image.
    pub format: Format,
    /// The image's path on the simulated host.
    pub path: Utf8PathBuf,
    /// Virtual size in bytes.
    pub size: u64,
    /// Whether the guest may only read it.
    pub readonly: bool,
    /// Whether the node of its file was opened to write all the same: one that has a name of its own is opened by itself.
    pub writable_file: bool,
    /// Its device's `werror`.
    pub on_write_error: OnError,
    /// The `blkdebug` node between the two, if there is one.
    pub injected: Option<Injected>,
    /// The node that its format node is backed by, one of [`Machine::nodes`]; none if its header's name is not followed.
    pub backing: Option<String>,
    /// The guest was booted from it and writes to it every now and then.
    pub guest_writes: bool,
}

/// What the guest sees a disk as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskModel {
    /// `virtio-blk-pci`
    VirtioBlk,
    /// `scsi-hd`
    ScsiHd,
    /// The board's flash, `pflash0` or `pflash1`: firmware, and its variables.
    Flash,
}

/// A device that holds no disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherDevice {
    /// Its id, or its path among QEMU's objects.
    pub id: String,
    /// Its type: one of [`OtherDevice::MODELS`].
    pub model: &'static str,
}

impl OtherDevice {
    /// The types that are simulated: a controller of SCSI drives, and what tells of a guest's panic.
    pub const MODELS: [&str; 2] = ["virtio-scsi-pci", "pvpanic"];
}

/// A throttle group of the command line: its id and its limits, by QAPI's names.
pub type ThrottleGroup = (String, serde_json::Map<String, serde_json::Value>);

/// A `blkdebug` node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Its `node-name`.
    pub node: String,
    /// Its rules as the command line has them: `inject-error.0.event` and so on.
    pub rules: Vec<(String, serde_json::Value)>,
}

impl Disk {
    /// A writable qcow2 disk of [`Machine::DISK_SIZE`]; its other names are made of the target.
    pub fn new(target: &str, path: Utf8PathBuf) -> Self {
        Self {
            target: target.into(),
            file_node: format!("{target}-file"),
            device: format!("{target}-device"),
            model: DiskModel::VirtioBlk,
            root: None,
            drive: String::new(),
            bus: None,
            format: Format::Qcow2,
            path,
            size: Machine::DISK_SIZE,
            readonly: false,
            writable_file: false,
            on_write_error: OnError::Enospc,
            injected: None,
            backing: None,
            guest_writes: false,
        }
    }
}

impl Disk {
    /// Whether the node of its file is read-only.
    pub(crate) fn file_is_read_only(&self) -> bool {
        self.readonly && !self.writable_file
    }

    /// The board's flash of that number, 0 or 1: a raw image of [`Machine::FLASH_SIZE`]. It comes before any disk.
    pub fn flash(number: usize, path: Utf8PathBuf) -> Self {
        Self {
            device: Self::flash_device(number),
            model: DiskModel::Flash,
            format: Format::Raw,
            size: Machine::FLASH_SIZE,
            ..Self::new(&format!("pflash{number}"), path)
        }
    }

    /// Where that flash is among QEMU's objects.
    fn flash_device(number: usize) -> String {
        format!("/machine/system.flash{number}")
    }
}

/// A drive for media that come and go, empty at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdDrive {
    /// The id of its device.
    pub id: String,
    /// What it is attached to.
    pub model: CdModel,
}

/// How a drive is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CdModel {
    /// `scsi-cd`
    Scsi,
    /// `ide-cd`
    Ide,
}

/// A character device that is a listening unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chardev {
    /// Its id.
    pub label: String,
    /// The socket.
    pub path: Utf8PathBuf,
    /// What the machine has at its end; none if nothing.
    pub frontend: Option<Frontend>,
    /// A program that is not simulated is connected to it throughout.
    pub connected: bool,
}

/// What the machine has at its end of a character device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frontend {
    /// The QMP monitor of that number.
    Monitor(usize),
    /// A virtio-serial port.
    SerialPort,
    /// The virtio-serial port of the guest's agent.
    Agent,
}

/// How the machine stands when the first client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The guest runs.
    Running,
    /// Started with `-S`: `prelaunch`.
    Prelaunch,
    /// It ran, then a `stop`.
    Paused,
}

/// A machine to simulate. `Machine::new().disk("vda").disk("vdb")` is a running one with two qcow2 disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name, by `-name`.
    pub name: Option<String>,
    /// Its UUID, by `-uuid`, in lower case.
    pub uuid: Option<String>,
    /// Its chipset.
    pub chipset: Chipset,
    /// The version of its type, `q35-7.2`, if it is not the release's own.
    pub version: Option<String>,
    /// Its disks, in the order of the command line.
    pub disks: Vec<Disk>,
    /// Its drives for media that come and go, behind the disks.
    pub cd_drives: Vec<CdDrive>,
    /// How it stands at the start.
    pub power: Power,
    /// Guest memory in bytes.
    pub memory: u64,
    /// Ids of virtio-serial ports whose host side is a socket: each reports `VSERPORT_CHANGE`.
    pub serial_ports: Vec<String>,
    /// Whether their controller comes before the disks on the command line: it then has the first slot of the bus.
    pub serial_first: bool,
    /// Started with `-incoming defer`: it waits for the state of another machine.
    pub incoming: bool,
    /// What QEMU does about what the guest does.
    pub actions: Actions,
    /// Whether it has the watchdog `ib700`. Nothing shows of it until it runs out.
    pub watchdog: bool,
    /// What it is booted into from a disk with `bootindex`, if that is no operating system.
    pub program: Option<Program>,
    /// The id of the virtio-serial controller that has the ports; empty if it has none.
    pub serial_controller: String,
    /// Ids of PCIe root ports.
    pub root_ports: Vec<String>,
    /// Ids of I/O threads.
    pub iothreads: Vec<String>,
    /// Nodes beside those of the disks: the options of each, as `blockdev-add` has them.
    pub nodes: Vec<serde_json::Map<String, serde_json::Value>>,
    /// The names of nodes in the order in which they were opened. Those that are not named come as their disks do.
    pub node_order: Vec<String>,
    /// Throttle groups.
    pub throttle_groups: Vec<ThrottleGroup>,
    /// Its devices beside disks, drives, serial ports and root ports.
    pub others: Vec<OtherDevice>,
    /// What the command line gave each device beside its id: by the device's id, and by the property's name.
    pub properties: BTreeMap<String, BTreeMap<String, String>>,
    /// The ids of its devices in the order in which they were made. Those that are not named come as they stand above.
    pub order: Vec<String>,
    /// Its sockets, as `query-chardev` lists them.
    pub chardevs: Vec<Chardev>,
    /// The guest's agent, behind a further virtio-serial port; none unless set.
    pub agent: Option<Agent>,
    /// How many QMP monitors listen.
    pub monitors: usize,
    /// How many more listen that nothing in the machine tells of: for whoever plays the host's part. Their numbers follow.
    pub private_monitors: usize,
    /// The folder of the images on the simulated host.
    pub folder: Utf8PathBuf,
    /// What lies below the host's files.
    pub storage: Storage,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            name: None,
            uuid: None,
            chipset: Chipset::Q35,
            version: None,
            disks: Vec::new(),
            cd_drives: Vec::new(),
            power: Power::Running,
            memory: 64 << 20,
            serial_ports: Vec::new(),
            serial_first: false,
            incoming: false,
            actions: Actions::default(),
            watchdog: false,
            program: None,
            serial_controller: String::new(),
            root_ports: Vec::new(),
            iothreads: Vec::new(),
            nodes: Vec::new(),
            node_order: Vec::new(),
            throttle_groups: Vec::new(),
            others: Vec::new(),
            properties: BTreeMap::new(),
            order: Vec::new(),
            chardevs: Vec::new(),
            agent: None,
            monitors: 2,
            private_monitors: 0,
            folder: "/images".into(),
            storage: Storage::new(),
        }
    }
}

impl Machine {
    /// The virtual size of a disk that says none: 16 MiB.
    pub const DISK_SIZE: u64 = 16 << 20;

    /// The size of flash that says none: 256 KiB.
    pub const FLASH_SIZE: u64 = 256 << 10;

    /// A running machine without disks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a writable qcow2 disk of [`Machine::DISK_SIZE`].
    #[must_use]
    pub fn disk(self, target: &str) -> Self {
        let path = self.folder.join(format!("{target}.qcow2"));
        self.with_disk(Disk::new(target, path))
    }

    /// Adds a disk as described.
    #[must_use]
    pub fn with_disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Sets how the machine stands at the start.
    #[must_use]
    pub fn power(mut self, power: Power) -> Self {
        self.power = power;
        self
    }

    /// Gives the guest an agent.
    #[must_use]
    pub fn agent(mut self, agent: Agent) -> Self {
        self.agent = Some(agent);
        self
    }

    /// Where a device stands in the order in which they were made; behind all others if nothing says so.
    pub(crate) fn rank(&self, id: &str) -> usize {
        self.order.iter().position(|known| known == id).unwrap_or(usize::MAX)
    }

    /// Adds a virtio-serial port.
    #[must_use]
    pub fn serial_port(mut self, id: &str) -> Self {
        self.serial_ports.push(id.into());
        self
    }
}
