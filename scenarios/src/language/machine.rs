//! The machine of a scenario, before the first step.

use camino::Utf8Path;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Diagnostics, Size,
    forms::{DiskTarget, FileName, PortName},
    step::Place,
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
    /// Its virtio serial ports, each with a socket on the host. Default: none.
    #[serde(default)]
    #[schemars(with = "Vec<PortName>", extend("uniqueItems" = true))]
    pub serial_ports: Vec<String>,
    /// The guest's agent, on a port of its own. Default: the machine has none, nor a port for one.
    #[serde(default)]
    pub agent: Option<Agent>,
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

    fn default_memory() -> Size {
        Size::mebibytes(64)
    }
}

/// One disk. Its image is `<target>.<format>` in the machine's folder, its format node `<target>`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Disk {
    /// What the guest calls it: `vda`.
    #[schemars(with = "DiskTarget")]
    pub target: String,
    /// The format of its image. Default: qcow2.
    #[serde(default)]
    pub format: Format,
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
}

impl Disk {
    fn default_size() -> Size {
        Size::mebibytes(16)
    }

    /// The name of its image's file.
    pub fn image(&self) -> String {
        let format = match self.format {
            Format::Qcow2 => "qcow2",
            Format::Raw => "raw",
        };
        format!("{}.{format}", self.target)
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

/// How a machine stands when the first client connects.
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
}
