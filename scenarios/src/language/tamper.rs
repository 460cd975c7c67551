//! A step in which somebody changes a file of the host's.

use schemars::JsonSchema;
use serde::Deserialize;

use super::forms::FileName;

/// Somebody changes a file past the driver: one that is broken, that was copied badly, or edited by hand.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tamper {
    /// The file's name.
    #[schemars(with = "FileName")]
    pub file: String,
    /// Where it is. Default: among the machine's images.
    #[serde(default)]
    pub folder: Folder,
    /// What is written there, each character up to U+00FF as one byte. Default: nothing, the file is removed.
    #[serde(default)]
    pub with: Option<String>,
    /// From which byte on it is written over; the rest stays. Default: nothing of what was there stays.
    #[serde(default)]
    pub at: Option<u32>,
}

/// Where a file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Folder {
    /// Among the machine's images.
    #[default]
    Images,
    /// Among its records: `<snapshot>.xml`, `current`, and the driver's journal, `pending`.
    Records,
    /// With the descriptions of machines that are off: `vm.xml`.
    Descriptions,
}
