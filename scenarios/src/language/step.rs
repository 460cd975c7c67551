//! A step: one thing done to the machine, and whether it is to fail.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Timespan,
    forms::{ErrorCode, FileName},
};

/// One thing done to the machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "StepTable")]
#[schemars(with = "StepTable")]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// How it is to fail. Absent: it is to succeed.
    pub fails: Option<Fails>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The driver takes a snapshot.
    Snapshot(Snapshot),
    /// The driver goes back to a snapshot.
    Revert(Revert),
    /// The driver deletes a snapshot.
    Delete(Delete),
    /// The driver asks what this QEMU can do.
    Probe(Probe),
    /// A raw command, past the driver.
    Qmp(Qmp),
    /// A raw request to the guest's agent.
    Agent(AgentRequest),
}

/// A step as it is written: exactly one of the actions.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "Step", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["snapshot"] },
    { "required": ["revert"] },
    { "required": ["delete"] },
    { "required": ["probe"] },
    { "required": ["qmp"] },
    { "required": ["agent"] },
]))]
struct StepTable {
    /// The driver takes a snapshot.
    #[serde(default)]
    snapshot: Option<Snapshot>,
    /// The driver goes back to a snapshot.
    #[serde(default)]
    revert: Option<Revert>,
    /// The driver deletes a snapshot.
    #[serde(default)]
    delete: Option<Delete>,
    /// The driver asks what this QEMU can do: `query-qmp-schema`.
    #[serde(default)]
    probe: Option<Probe>,
    /// A raw command, past the driver: for what this language has no words for.
    #[serde(default)]
    qmp: Option<Qmp>,
    /// A raw request to the guest's agent. Its connection stays open from the first such step to the end.
    #[serde(default)]
    agent: Option<AgentRequest>,
    /// How the action is to fail. Absent: it is to succeed.
    #[serde(default)]
    fails: Option<Fails>,
}

impl TryFrom<StepTable> for Step {
    type Error = &'static str;

    fn try_from(written: StepTable) -> Result<Self, Self::Error> {
        let StepTable { snapshot, revert, delete, probe, qmp, agent, fails } = written;
        let mut actions = [
            snapshot.map(Action::Snapshot),
            revert.map(Action::Revert),
            delete.map(Action::Delete),
            probe.map(Action::Probe),
            qmp.map(Action::Qmp),
            agent.map(Action::Agent),
        ]
        .into_iter()
        .flatten();
        match (actions.next(), actions.next()) {
            (Some(action), None) => Ok(Step { action, fails }),
            _ => Err("a step has exactly one action"),
        }
    }
}

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
    /// Where the memory goes. Default: inside an image, or nowhere with `disk-only`.
    #[serde(default)]
    pub memory: Option<MemoryPlace>,
    /// How the memory is laid out in its file. Default: raw.
    #[serde(default)]
    pub memory_format: MemoryFormat,
    /// The disk whose image holds the memory. Not with `disk-only`. Default: the first.
    #[serde(default)]
    pub vmstate: Option<String>,
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

/// Goes back to a snapshot, disks and memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Revert {
    /// The snapshot's name, given to the driver as it stands.
    pub name: String,
    /// libvirt's flags. Default: none.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub flags: Vec<RevertFlag>,
    /// The storage of disks that the caller took itself has been put back. Default: false.
    #[serde(default)]
    pub storage_is_back: bool,
    /// How long the driver may take. Default: the driver's own bounds.
    #[serde(default)]
    pub within: Option<Timespan>,
    /// Only print the plan. Default: false.
    #[serde(default)]
    pub dry_run: bool,
}

/// A flag of libvirt's `virDomainRevertToSnapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RevertFlag {
    /// The guest runs afterwards.
    Running,
    /// The guest is paused afterwards.
    Paused,
    /// The machine that runs may be ended for it.
    Force,
    /// The firmware's variables are made anew.
    ResetNvram,
}

/// Deletes a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Delete {
    /// The snapshot's name, given to the driver as it stands.
    pub name: String,
    /// libvirt's flags. Default: none.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub flags: Vec<DeleteFlag>,
    /// How long the driver may take. Default: the driver's own bounds.
    #[serde(default)]
    pub within: Option<Timespan>,
    /// Only print the plan. Default: false.
    #[serde(default)]
    pub dry_run: bool,
}

/// A flag of libvirt's `virDomainSnapshotDelete`, as virsh calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteFlag {
    /// Those that descend from it too.
    Children,
    /// The record alone; no disk is touched.
    Metadata,
    /// Those that descend from it, and not itself.
    ChildrenOnly,
}

/// Asks what this QEMU can do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Probe {}

/// A raw QMP command, past the driver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Qmp {
    /// A JSON object: `{"execute": "query-status"}`.
    pub json: String,
}

/// A raw request to the guest's agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AgentRequest {
    /// What is sent, and behind it a newline: `{"execute": "guest-ping"}`.
    pub json: String,
    /// How long the step waits for a line to come back. Default: "5s".
    #[serde(default)]
    pub within: Option<Timespan>,
    /// Nothing is to come back in that time. What comes later is heard by the next step. Default: false.
    #[serde(default)]
    pub silent: bool,
    /// A part of the line that is to come back.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub says: Option<String>,
}

/// How a step is to fail: with `code` where the driver acts, with `class` where the step is `qmp` or
/// `agent`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["code"] }, { "required": ["class"] }]))]
pub struct Fails {
    /// The code of the driver's error.
    #[serde(default)]
    #[schemars(with = "Option<ErrorCode>")]
    pub code: Option<String>,
    /// The class of QEMU's error.
    #[serde(default)]
    pub class: Option<ErrorClass>,
    /// A part of the error's text.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub says: Option<String>,
}

/// The class of an error on the wire: QEMU's `QapiErrorClass` (QAPI `error.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ErrorClass {
    /// Most errors.
    GenericError,
    /// There is no such command, or not now.
    CommandNotFound,
    /// The device is not in the state for it.
    DeviceNotActive,
    /// There is no such device.
    DeviceNotFound,
    /// KVM lacks what it takes.
    #[serde(rename = "KVMMissingCap")]
    KvmMissingCap,
}

impl ErrorClass {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ErrorClass::GenericError => "GenericError",
            ErrorClass::CommandNotFound => "CommandNotFound",
            ErrorClass::DeviceNotActive => "DeviceNotActive",
            ErrorClass::DeviceNotFound => "DeviceNotFound",
            ErrorClass::KvmMissingCap => "KVMMissingCap",
        }
    }
}
