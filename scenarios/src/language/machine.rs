//! The machine of a scenario, before the first step.

use camino::Utf8Path;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Diagnostics, Size, Timespan,
    forms::{DiskTarget, FileName, PortName},
    snapshot::Place,
};

/// How many disks a machine may have: more than a PCI bus has slots for.
pub(super) const DISKS_MAX: usize = 32;

/// The machine before the first step.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Machine {
    /// Its disks, in the order in which QEMU is given them, 32 at most. Default: none.
    #[serde(default)]
    #[schemars(length(max = DISKS_MAX))]
    pub disks: Vec<Disk>,
    /// How it stands when the first client connects. Default: running.
    #[serde(default)]
    pub state: Power,
    /// The guest's memory. Default: "64M".
    #[serde(default = "Machine::default_memory")]
    pub memory: Size,
    /// Its firmware is in flash, in `firmware.raw`, and the firmware's variables are beside it in an image of this format, of 256 KiB:
    /// `nvram.raw` or `nvram.qcow2`. Default: firmware of QEMU's own, without variables.
    #[serde(default)]
    pub nvram: Option<Format>,
    /// Its virtio serial ports, each with a socket on the host. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<PortName>", extend("uniqueItems" = true))]
    pub serial_ports: Vec<String>,
    /// Its PCIe root ports, each with room for one disk that is plugged in while it runs. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<PortName>", extend("uniqueItems" = true))]
    pub root_ports: Vec<String>,
    /// The guest's agent, on a port of its own. Default: the machine has none, nor a port for one.
    #[serde(default)]
    pub agent: Option<Agent>,
    /// What the agent runs before a freeze and after a thaw. Default: scripts that do nothing.
    #[serde(default)]
    pub agent_hook: Option<AgentHook>,
    /// Disks whose file system somebody else in the guest has frozen, past the agent. On the simulator alone. Default: none.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub frozen_before: Vec<String>,
    /// Whether records of its snapshots are kept. Default: false.
    #[serde(default)]
    pub records: bool,
    /// Whether it is forgotten when it stops. Default: false.
    #[serde(default)]
    pub transient: bool,
    /// Whether the driver may start and stop it, by the launcher that is built in. Default: false.
    #[serde(default)]
    pub launcher: bool,
    /// Files that are in its folder beside its images. Default: none.
    #[serde(default)]
    pub files: Vec<HostFile>,
    /// What QEMU does when the guest's kernel panics. Default: nobody is told, the machine has no `pvpanic`.
    #[serde(default)]
    pub panic: Option<OnPanic>,
    /// What QEMU does when the guest's watchdog runs out. Default: the machine has none.
    #[serde(default)]
    pub watchdog: Option<OnWatchdog>,
}

/// What QEMU does when the guest's kernel panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnPanic {
    /// It stops the guest: `guest-panicked`.
    Pause,
    /// It ends.
    Poweroff,
}

/// What QEMU does when the guest's watchdog runs out: QAPI's `WatchdogAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnWatchdog {
    /// It resets the machine.
    Reset,
    /// It asks the guest to shut down.
    Shutdown,
    /// It ends, without a word.
    Poweroff,
    /// It stops the guest: `watchdog`.
    Pause,
    /// It tells of it.
    None,
}

impl OnWatchdog {
    /// QEMU's word for it.
    pub fn name(self) -> &'static str {
        match self {
            OnWatchdog::Reset => "reset",
            OnWatchdog::Shutdown => "shutdown",
            OnWatchdog::Poweroff => "poweroff",
            OnWatchdog::Pause => "pause",
            OnWatchdog::None => "none",
        }
    }
}

/// What QEMU does when the guest's write to a disk fails: its `werror`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnWriteError {
    /// It stops the guest where the host has no space left, else it tells the guest.
    #[default]
    Enospc,
    /// It stops the guest: `io-error`.
    Stop,
    /// It tells the guest.
    Report,
    /// It does as if the write had been done.
    Ignore,
}

/// A file in the machine's folder that is no disk's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostFile {
    /// Its name.
    #[schemars(with = "FileName")]
    pub name: String,
    /// The format of the image in it. Default: raw.
    #[serde(default = "HostFile::default_format")]
    pub format: Format,
    /// The virtual size of the image. Default: the file is empty.
    #[serde(default)]
    pub size: Option<Size>,
    /// The file of the image under it, a qcow2 one. Default: none.
    #[serde(default)]
    #[schemars(with = "Option<FileName>")]
    pub backing: Option<String>,
}

impl HostFile {
    fn default_format() -> Format {
        Format::Raw
    }
}

/// The agent in the guest. With one, the guest has an ext4 file system on each disk that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Agent {
    /// In a Linux guest: freezes until it is told to thaw.
    Linux,
    /// In a Windows guest: VSS ends a freeze after ten seconds.
    Windows,
    /// It has its port open and says nothing.
    Mute,
    /// There is a port, and nobody behind it.
    Absent,
}

/// What the agent runs before a freeze and after a thaw: its `--fsfreeze-hook`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AgentHook {
    /// Before a freeze. Default: it does nothing.
    #[serde(default)]
    pub freeze: HookScript,
    /// After a thaw. Default: it does nothing.
    #[serde(default)]
    pub thaw: HookScript,
}

/// One run of a script. The agent does nothing else meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HookScript {
    /// How long it takes. Default: no time.
    #[serde(default)]
    pub takes: Option<Timespan>,
    /// Its exit status; 0 is good. Default: 0.
    #[serde(default)]
    pub status: u8,
}

impl Machine {
    /// The machine of a file that holds nothing else; nothing if there is more in it, or no machine.
    ///
    /// # Errors
    /// When it is no TOML, or has mistakes.
    pub fn alone(file: &Utf8Path, text: &str) -> Result<Option<Machine>, Diagnostics> {
        #[derive(Deserialize)]
        struct Alone {
            machine: Machine,
        }
        let wrong = |error: toml::de::Error| Diagnostics::new(file, text, vec![(&error).into()]);
        let whole: toml::Table = toml::from_str(text).map_err(wrong)?;
        if whole.len() != 1 || !whole.contains_key("machine") {
            return Ok(None);
        }
        let Alone { machine } = toml::from_str(text).map_err(wrong)?;
        Ok(Some(machine))
    }

    /// The file of its firmware, and that of the firmware's variables, if they are in flash.
    pub fn flash(&self) -> Option<[String; 2]> {
        Some(["firmware.raw".to_owned(), format!("nvram.{}", self.nvram?.name())])
    }

    fn default_memory() -> Size {
        Size::mebibytes(64)
    }
}

/// One disk. Its image is `<target>.<format>` in the machine's folder, or the volume that its storage says; its format node `<target>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Disk {
    /// What the guest calls it: `vda`.
    #[schemars(with = "DiskTarget")]
    pub target: String,
    /// The format of its image. Default: qcow2.
    #[serde(default)]
    pub format: Format,
    /// The root port that it is plugged into. Default: none, it is on the chipset's own bus.
    #[serde(default)]
    #[schemars(with = "Option<PortName>")]
    pub root_port: Option<String>,
    /// Its virtual size. Default: "16M".
    #[serde(default = "Disk::default_size")]
    pub size: Size,
    /// Whether the guest may only read it. Default: false.
    #[serde(default)]
    pub readonly: bool,
    /// Where its part of a snapshot goes if the snapshot does not say. Default: where the kind of snapshot says.
    #[serde(default)]
    pub snapshot: Option<Place>,
    /// Whether other machines write it too. Default: false.
    #[serde(default)]
    pub shareable: bool,
    /// Whether what the guest writes to it is thrown away when the machine stops: libvirt's `<transient/>`. Default: false.
    #[serde(default)]
    pub transient: bool,
    /// What is done when the guest's write to it fails. Default: enospc.
    #[serde(default)]
    pub werror: OnWriteError,
    /// What lies below its image and takes snapshots of it. On the simulator alone. Default: nothing that could.
    #[serde(default)]
    pub storage: Option<DiskStorage>,
    /// What its `<diskSnapshot>` says of the guest's rest, given to the driver as it stands. With `storage` alone. Default: nothing.
    #[serde(default)]
    pub quiesce: Option<String>,
}

/// What lies below a disk's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskStorage {
    /// The machine's folder is a subvolume of btrfs.
    Btrfs,
    /// Files in the machine's folder can share blocks.
    Reflink,
    /// The machine's folder is a data set of ZFS.
    Zfs,
    /// The disk is a logical volume, `/dev/vg/<target>`. Its snapshots have a fifth of its room.
    Lvm,
    /// The disk is a logical volume in a thin pool, `/dev/vg/<target>`.
    LvmThin,
    /// The disk is an image of Ceph, `rbd/<target>`.
    Rbd,
    /// The same, and all such disks are in the group `rbd/vm`.
    RbdGroup,
    /// A program takes care of the machine's folder: `/usr/bin/storage`.
    Exec,
}

impl DiskStorage {
    /// Where the program is.
    pub const PROGRAM: &str = "/usr/bin/storage";

    /// The group of Ceph's images.
    pub const GROUP: &str = "rbd/vm";

    /// How many percent of a volume the snapshots of a thick one may take.
    pub const ROOM: &str = "20";

    /// The volume that a disk is itself, in the words of its storage; none where its image is a file.
    pub fn volume(self, target: &str) -> Option<String> {
        match self {
            DiskStorage::Lvm | DiskStorage::LvmThin => Some(format!("vg/{target}")),
            DiskStorage::Rbd | DiskStorage::RbdGroup => Some(format!("rbd/{target}")),
            DiskStorage::Btrfs | DiskStorage::Reflink | DiskStorage::Zfs | DiskStorage::Exec => None,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            DiskStorage::Btrfs => "btrfs",
            DiskStorage::Reflink => "reflink",
            DiskStorage::Zfs => "zfs",
            DiskStorage::Lvm | DiskStorage::LvmThin => "lvm",
            DiskStorage::Rbd | DiskStorage::RbdGroup => "rbd",
            DiskStorage::Exec => "exec",
        }
    }
}

impl Disk {
    fn default_size() -> Size {
        Size::mebibytes(16)
    }

    /// Its image, from the machine's folder: the name of its file, or where the host has the volume that it is. An image of Ceph has no
    /// path; to the simulated QEMU it has one.
    pub fn image(&self) -> String {
        let volume = self.storage.and_then(|storage| Some((storage, storage.volume(&self.target)?)));
        match volume {
            Some((DiskStorage::Rbd | DiskStorage::RbdGroup, volume)) => format!("/rbd/{volume}"),
            Some((_, volume)) => format!("/dev/{volume}"),
            None => format!("{}.{}", self.target, self.format.name()),
        }
    }
}

/// The format of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// qcow2: takes internal snapshots.
    #[default]
    Qcow2,
    /// raw: takes none.
    Raw,
}

impl Format {
    /// QEMU's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        }
    }
}

/// How a machine stands when the first client connects, or that there is none to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// The guest runs.
    #[default]
    Running,
    /// The guest ran and was stopped.
    Paused,
    /// Started with `-S`: the guest has not run yet.
    Prelaunch,
    /// There is no QEMU: the driver has the images and the machine's description alone.
    Off,
}
