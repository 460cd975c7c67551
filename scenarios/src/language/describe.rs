//! A step that gives the machine another description.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Disk, Format, Size, forms::CpuModel};

/// From here on the machine is described otherwise, as when somebody has edited it since: a new driver takes over. The QEMU that runs
/// is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Describe {
    /// The guest's memory.
    #[serde(default)]
    pub memory: Option<Size>,
    /// The model of its processor, of which nothing was said before.
    #[serde(default)]
    #[schemars(with = "Option<CpuModel>")]
    pub cpu: Option<String>,
    /// Whether it has a TPM, which keeps its state past the disks. Default: no.
    #[serde(default)]
    pub tpm: bool,
    /// Disks beside those that it was started with. Default: none.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// For a disk, another format of its image. Default: the one that it has.
    #[serde(default)]
    pub formats: BTreeMap<String, Format>,
}
