//! A step that plugs a disk in.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Format,
    forms::{DiskTarget, PortName},
};

/// Somebody plugs a disk into the machine that runs, past the driver, which is told nothing of it. Its image is `<target>.<format>`,
/// which is there, its node `<target>`, and its device `<target>-device`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plug {
    /// What the guest calls it: `vdb`.
    #[schemars(with = "DiskTarget")]
    pub target: String,
    /// The root port that it is plugged into.
    #[schemars(with = "PortName")]
    pub root_port: String,
    /// The format of its image. Default: qcow2.
    #[serde(default)]
    pub format: Format,
    /// Whether the guest may only read it. Default: false.
    #[serde(default)]
    pub readonly: bool,
    /// Its image is named as QEMU sees it from the folder that it runs in, and not from the root. Default: false.
    #[serde(default)]
    pub relative: bool,
}
