//! The machine of a scenario, before the first step.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Size,
    forms::{DiskTarget, PortName},
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
}

impl Machine {
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
