//! A step that takes a snapshot.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Timespan, forms::FileName};

/// Takes a snapshot: of disks and memory inside the images, of disks alone in overlay files, or of disks in overlay files
/// and the memory in a file. Without a word about a disk it does what the machine and the kind of snapshot say.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Snapshot {
    /// Its name, given to the driver as it stands.
    pub name: String,
    /// What a person says of it.
    #[serde(default)]
    pub description: Option<String>,
    /// An external snapshot of the disks without memory, instead of an internal one. Default: false.
    #[serde(default)]
    pub disk_only: bool,
    /// libvirt's other flags. Default: none.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub flags: Vec<Flag>,
    /// The disks. Default: all that can be written to.
    #[serde(default)]
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub disks: Option<Vec<String>>,
    /// For a disk, where its part goes. Default: what the machine and the kind of snapshot say.
    #[serde(default)]
    pub places: BTreeMap<String, Place>,
    /// For a disk, the name of its overlay's file. Default: the driver's choice.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, FileName>")]
    pub files: BTreeMap<String, String>,
    /// For a disk, the format of its overlay. Default: qcow2.
    #[serde(default)]
    pub formats: BTreeMap<String, String>,
    /// For a disk, how much memory its overlay's tables may take: "4 MiB", as `<metadata_cache>` has it. Default: QEMU's choice.
    #[serde(default)]
    pub metadata_caches: BTreeMap<String, String>,
    /// Where the memory goes. Default: inside an image, or nowhere with `disk-only`.
    #[serde(default)]
    pub memory: Option<MemoryPlace>,
    /// How the memory is laid out in its file. Default: raw.
    #[serde(default)]
    pub memory_format: MemoryFormat,
    /// Whether the memory of a guest that runs is written in the background, where QEMU can. Default: false.
    #[serde(default)]
    pub in_background: bool,
    /// The disk whose image holds the memory. Not with `disk-only`. Default: the first.
    #[serde(default)]
    pub vmstate: Option<String>,
    /// Whether the guest's file systems are brought to rest for it. Default: they are not.
    #[serde(default)]
    pub quiesce: Option<Quiesce>,
    /// A freeze that the agent refuses is followed by a thaw, for the agent's hook. Default: false.
    #[serde(default)]
    pub thaw_hooks: bool,
    /// The guest's file systems are frozen, by whoever wants the snapshot. Not with `quiesce`. Default: false.
    #[serde(default)]
    pub already_frozen: bool,
    /// Who has left word that the guest is frozen for whoever wants the snapshot. Default: nobody.
    #[serde(default)]
    pub frozen_by: Option<String>,
    /// With `frozen-by`: why the guest may be at rest in part only, as that word has it. Default: it is at rest as a whole.
    #[serde(default)]
    pub frozen_in_part: Option<String>,
    /// The program of a disk whose storage is `exec` takes all disks whose place is `manual`. Default: false.
    #[serde(default)]
    pub hook: bool,
    /// How long the driver may take. Default: the driver's own bounds.
    #[serde(default)]
    pub within: Option<Timespan>,
    /// Only print the plan. Default: false.
    #[serde(default)]
    pub dry_run: bool,
}

/// A flag of libvirt's `virDomainSnapshotCreateXML`, beside `disk-only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// Hand in the record of one that exists.
    Redefine,
    /// The record becomes the current one.
    Current,
    /// Keep no record.
    NoMetadata,
    /// Stop the machine when it is taken.
    Halt,
    /// The overlays' files are there already.
    ReuseExternal,
    /// Bring the guest's file systems to rest first.
    Quiesce,
    /// All disks or none.
    Atomic,
    /// Save the memory while the guest runs.
    Live,
    /// Hold the document against libvirt's schema.
    Validate,
}

/// How much a snapshot needs the guest at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quiesce {
    /// Without that it is not taken.
    Required,
    /// It is taken in any case.
    BestEffort,
}

/// Where a disk's part of a snapshot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// It takes no part.
    No,
    /// Into its image.
    Internal,
    /// The image stays as it is, and the guest goes on in an overlay.
    External,
    /// The caller takes it.
    Manual,
}

/// Where the memory goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryPlace {
    /// It is not kept.
    No,
    /// Into an image.
    Internal,
    /// Into a file of this name.
    File(#[schemars(with = "FileName")] String),
}

/// How memory is laid out in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryFormat {
    /// As it comes.
    #[default]
    Raw,
    /// Each page has its own place (`mapped-ram`).
    Sparse,
}
