//! What machine is simulated: the arguments that a real QEMU would be started with, as data.
//!
//! Each disk becomes what `-blockdev driver=file,node-name=<target>-file`, `-blockdev
//! driver=<format>,node-name=<target>` and `-device virtio-blk-pci,id=<target>-device,drive=<target>` make of
//! it; the names of the protocol node and the device can be set apart. The runner starts real QEMU with exactly these, so both worlds hold the same graph.

use camino::Utf8PathBuf;

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
    /// The id of its device: `<target>-device` unless set.
    pub device: String,
    /// The format of its image.
    pub format: Format,
    /// The image's path on the simulated host.
    pub path: Utf8PathBuf,
    /// Virtual size in bytes.
    pub size: u64,
    /// Whether the guest may only read it.
    pub readonly: bool,
}

impl Disk {
    /// A writable qcow2 disk of [`Machine::DISK_SIZE`]; its other names are made of the target.
    pub fn new(target: &str, path: Utf8PathBuf) -> Self {
        Self {
            target: target.into(),
            file_node: format!("{target}-file"),
            device: format!("{target}-device"),
            format: Format::Qcow2,
            path,
            size: Machine::DISK_SIZE,
            readonly: false,
        }
    }
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
    /// Its disks, in the order of the command line.
    pub disks: Vec<Disk>,
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
    /// Started with `-no-shutdown`: QEMU stays when the guest has shut down.
    pub no_shutdown: bool,
    /// How many QMP monitors listen.
    pub monitors: usize,
    /// The folder of the images on the simulated host.
    pub folder: Utf8PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            disks: Vec::new(),
            power: Power::Running,
            memory: 64 << 20,
            serial_ports: Vec::new(),
            serial_first: false,
            incoming: false,
            no_shutdown: false,
            monitors: 2,
            folder: "/images".into(),
        }
    }
}

impl Machine {
    /// The virtual size of a disk that says none: 16 MiB.
    pub const DISK_SIZE: u64 = 16 << 20;

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

    /// Adds a virtio-serial port.
    #[must_use]
    pub fn serial_port(mut self, id: &str) -> Self {
        self.serial_ports.push(id.into());
        self
    }
}
