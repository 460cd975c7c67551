//! A step: one thing done to the machine, and whether it is to fail.

use std::{collections::BTreeMap, fmt, num::NonZeroU32};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Describe, Plug, Snapshot, Tamper, Timespan,
    forms::{ErrorCode, FileName, Size},
    machine::DiskStorage,
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
    Snapshot(Box<Snapshot>),
    /// The driver goes back to a snapshot.
    Revert(Revert),
    /// The driver deletes a snapshot.
    Delete(Delete),
    /// The driver puts right what an operation has left that did not come to its end.
    Recover(Recover),
    /// The driver asks what this QEMU can do.
    Probe(Probe),
    /// A raw command, past the driver.
    Qmp(Qmp),
    /// A raw request to the guest's agent.
    Agent(AgentRequest),
    /// The storage below disks takes a snapshot, or does something with one.
    Storage(StorageStep),
    /// Something happens inside of the guest.
    Guest(GuestAct),
    /// Something happens on the host.
    Host(HostAct),
    /// A file of the host's loses its end.
    Shorten(Shorten),
    /// Somebody changes a file of the host's.
    Tamper(Tamper),
    /// Another program opens an image.
    Hold(Hold),
    /// Somebody plugs a disk in.
    Plug(Plug),
    /// The machine gets another description.
    Describe(Describe),
}

/// A step as it is written: exactly one of the actions.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "Step", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["snapshot"] },
    { "required": ["revert"] },
    { "required": ["delete"] },
    { "required": ["recover"] },
    { "required": ["probe"] },
    { "required": ["qmp"] },
    { "required": ["agent"] },
    { "required": ["storage"] },
    { "required": ["guest"] },
    { "required": ["host"] },
    { "required": ["shorten"] },
    { "required": ["tamper"] },
    { "required": ["hold"] },
    { "required": ["plug"] },
    { "required": ["describe"] },
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
    /// The driver puts right what an operation has left that did not come to its end.
    #[serde(default)]
    recover: Option<Recover>,
    /// The driver asks what this QEMU can do: `query-qmp-schema`.
    #[serde(default)]
    probe: Option<Probe>,
    /// A raw command, past the driver: for what this language has no words for.
    #[serde(default)]
    qmp: Option<Qmp>,
    /// A raw request to the guest's agent. Its connection stays open from the first such step to the end, or to `close`.
    #[serde(default)]
    agent: Option<AgentRequest>,
    /// The storage below disks takes a snapshot, or does something with one.
    #[serde(default)]
    storage: Option<StorageStep>,
    /// Something happens inside of the guest.
    #[serde(default)]
    guest: Option<GuestAct>,
    /// Something happens on the host, past the driver. On the simulator alone.
    #[serde(default)]
    host: Option<HostAct>,
    /// A file of the host's loses its end, past the driver.
    #[serde(default)]
    shorten: Option<Shorten>,
    /// Somebody changes a file of the host's, past the driver.
    #[serde(default)]
    tamper: Option<Tamper>,
    /// Another program opens an image, only to read it, and has it open to the end.
    #[serde(default)]
    hold: Option<Hold>,
    /// Somebody plugs a disk into the machine that runs, past the driver.
    #[serde(default)]
    plug: Option<Plug>,
    /// The machine gets another description, and a driver that knows it by that. For a running machine with records.
    #[serde(default)]
    describe: Option<Describe>,
    /// How the action is to fail. Absent: it is to succeed.
    #[serde(default)]
    fails: Option<Fails>,
}

impl TryFrom<StepTable> for Step {
    type Error = &'static str;

    fn try_from(written: StepTable) -> Result<Self, Self::Error> {
        let StepTable {
            snapshot,
            revert,
            delete,
            recover,
            probe,
            qmp,
            agent,
            storage,
            guest,
            host,
            shorten,
            tamper,
            hold,
            plug,
            describe,
            fails,
        } = written;
        let mut actions = [
            snapshot.map(Box::new).map(Action::Snapshot),
            revert.map(Action::Revert),
            delete.map(Action::Delete),
            recover.map(Action::Recover),
            probe.map(Action::Probe),
            qmp.map(Action::Qmp),
            agent.map(Action::Agent),
            storage.map(Action::Storage),
            guest.map(Action::Guest),
            host.map(Action::Host),
            shorten.map(Action::Shorten),
            tamper.map(Action::Tamper),
            hold.map(Action::Hold),
            plug.map(Action::Plug),
            describe.map(Action::Describe),
        ]
        .into_iter()
        .flatten();
        match (actions.next(), actions.next()) {
            (Some(action), None) => Ok(Step { action, fails }),
            _ => Err("a step has exactly one action"),
        }
    }
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
    /// For a disk, who is said to hold its part of the snapshot. Default: what the record says.
    #[serde(default)]
    pub providers: BTreeMap<String, DiskStorage>,
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
    /// What was written since goes for good.
    Discard,
    /// What descends from it goes too.
    DeleteChildren,
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
    /// What storages hold of it stays there. Default: false.
    #[serde(default)]
    pub storage_stays: bool,
    /// For a disk, who is said to hold its part of the snapshot. Default: what the record says.
    #[serde(default)]
    pub providers: BTreeMap<String, DiskStorage>,
    /// How long the driver may take. Default: the driver's own bounds.
    #[serde(default)]
    pub within: Option<Timespan>,
    /// Only print the plan. Default: false.
    #[serde(default)]
    pub dry_run: bool,
}

/// Puts right what an operation has left whose driver was killed, or that could not put back all: it is rolled back or carried to
/// its end. To succeed nothing may be left.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recover {
    /// What is to become of the operation. Default: anything.
    #[serde(default)]
    pub becomes: Option<Becomes>,
    /// Give the operation up instead. Default: false.
    #[serde(default)]
    pub forget: bool,
}

/// What becomes of an operation that had not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Becomes {
    /// There is none.
    Nothing,
    /// None of its steps had begun.
    NotBegun,
    /// It is put back.
    RolledBack,
    /// It is carried to its end.
    Finished,
    /// Nobody knows whether it was decided: everything is kept.
    Unknown,
    /// It was given up, and the records say that it was begun.
    Forgotten,
}

impl Becomes {
    /// The word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Becomes::Nothing => "nothing",
            Becomes::NotBegun => "not-begun",
            Becomes::RolledBack => "rolled-back",
            Becomes::Finished => "finished",
            Becomes::Unknown => "unknown",
            Becomes::Forgotten => "forgotten",
        }
    }
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
    /// The connection is closed afterwards: the port serves one at a time. Default: false.
    #[serde(default)]
    pub close: bool,
}

/// What happens inside of the guest, to its agent or its file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestAct {
    /// It is killed, as by SIGKILL. What it has frozen stays frozen.
    KillAgent,
    /// It is killed, and the file in which it kept that it had frozen is gone: the next one says that nothing is frozen.
    LoseAgent,
    /// It is started, or goes on.
    StartAgent,
    /// It is stopped, as by SIGSTOP, with its port open.
    MuteAgent,
    /// Whoever else has frozen file systems, as `frozen-before` says, thaws them again. The agent does not know.
    LetGo,
    /// It writes to each of its disks, if it runs and their file systems are not frozen.
    Write,
}

impl GuestAct {
    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            GuestAct::KillAgent => "kill-agent",
            GuestAct::LoseAgent => "lose-agent",
            GuestAct::StartAgent => "start-agent",
            GuestAct::MuteAgent => "mute-agent",
            GuestAct::LetGo => "let-go",
            GuestAct::Write => "write",
        }
    }
}

/// What happens on the host, to the storages below the disks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostAct {
    /// No storage has room left.
    FillStorages,
    /// The volume group `vg` has so much left, for snapshots of thick volumes.
    LeaveRoom(Size),
    /// This snapshot of a thick logical volume runs out of its room, and holds nothing any more: `vg/vda.s1`.
    Overflow(String),
    /// Somebody removes this logical volume or image of Ceph: `vg/vda`, `rbd/vda`.
    Remove(String),
}

impl fmt::Display for HostAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostAct::FillStorages => f.write_str("fill-storages"),
            HostAct::LeaveRoom(room) => write!(f, "leave-room {} MiB", room.bytes() >> 20),
            HostAct::Overflow(volume) => write!(f, "overflow {volume}"),
            HostAct::Remove(volume) => write!(f, "remove {volume}"),
        }
    }
}

/// Bytes that a file loses at its end, as when a copy of it was broken off.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Shorten {
    /// The file's name, in the machine's folder.
    #[schemars(with = "FileName")]
    pub file: String,
    /// How many bytes are lost.
    pub by: NonZeroU32,
}

/// An image that another program reads: what stands on it lies somewhere else.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hold {
    /// The image's file, in the machine's folder.
    #[schemars(with = "FileName")]
    pub file: String,
}

/// Something that the storage below disks does, as each disk's `storage` says. The machine and its XML stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StorageStep {
    /// What it does.
    #[serde(rename = "do")]
    pub verb: StorageVerb,
    /// The disks, caught at one point in time.
    pub disks: Vec<String>,
    /// The snapshot's name, given to the driver as it stands. Left out to list.
    #[serde(default)]
    pub name: Option<String>,
    /// A snapshot only: the guest's file systems are frozen for it, or there is none. Default: false.
    #[serde(default)]
    pub quiesce: bool,
    /// Who does it. Default: what each disk's `storage` says.
    #[serde(default)]
    pub method: Option<StorageMethod>,
    /// A snapshot by `qemu` only: it is inside the disks' images, and not below overlays. Default: false.
    #[serde(default)]
    pub internal: bool,
    /// Only print the plan. Not to list, nor to export. Default: false.
    #[serde(default)]
    pub dry_run: bool,
}

/// Who takes snapshots of disks where it is not the storage that each is said to lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StorageMethod {
    /// QEMU itself, by overlays or inside the images. The machine's records are needed; with overlays its XML changes.
    Qemu,
}

/// What a storage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StorageVerb {
    /// It takes a snapshot.
    Snapshot,
    /// It tells which there are.
    List,
    /// It deletes one.
    Delete,
    /// It lets go of one and keeps what was written since.
    Merge,
    /// It lets the disks be what one holds.
    Revert,
    /// By `qemu` only: the machine's QEMU serves one as NBD, and ends that at once.
    Export,
}

impl StorageVerb {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            StorageVerb::Snapshot => "snapshot",
            StorageVerb::List => "list",
            StorageVerb::Delete => "delete",
            StorageVerb::Merge => "merge",
            StorageVerb::Revert => "revert",
            StorageVerb::Export => "export",
        }
    }
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
