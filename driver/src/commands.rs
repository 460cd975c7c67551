//! The QMP commands that the driver sends, each as a typed value: its arguments, and what it returns.
//!
//! Written by hand after QEMU's QAPI schema, and held against `query-qmp-schema` of every supported release
//! by a test. Members that the driver does not read are left out of the returned types.

mod exports;
mod images;
mod migration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use exports::*;
pub use images::*;
pub use migration::*;

use crate::words;

/// A QMP command: serializes as its `arguments`.
pub trait Command: Serialize {
    /// The name that QEMU knows it by.
    const NAME: &'static str;
    /// What a successful reply holds.
    type Returns: DeserializeOwned;
}

/// The reply of a command that returns nothing: `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Nothing {}

/// Says that a type is a command, what it is called and what comes back.
macro_rules! commands {
    ($($type:ident $(<$life:lifetime>)? = $name:literal -> $returns:ty;)*) => {
        $(impl $(<$life>)? Command for $type $(<$life>)? {
            const NAME: &'static str = $name;
            type Returns = $returns;
        })*
        /// The names of all commands here.
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

commands! {
    QmpCapabilities<'a> = "qmp_capabilities" -> Nothing;
    QueryQmpSchema = "query-qmp-schema" -> Vec<SchemaEntity>;
    QueryStatus = "query-status" -> Status;
    QueryUuid = "query-uuid" -> UuidInfo;
    QueryMemorySizeSummary = "query-memory-size-summary" -> MemoryInfo;
    QomGet<'a> = "qom-get" -> String;
    QueryBlock = "query-block" -> Vec<BlockDevice>;
    QueryNamedBlockNodes = "query-named-block-nodes" -> Vec<BlockNode>;
    QueryJobs = "query-jobs" -> Vec<JobInfo>;
    QueryBlockJobs = "query-block-jobs" -> Vec<BlockJobInfo>;
    JobDismiss<'a> = "job-dismiss" -> Nothing;
    JobCancel<'a> = "job-cancel" -> Nothing;
    SnapshotSave<'a> = "snapshot-save" -> Nothing;
    SnapshotLoad<'a> = "snapshot-load" -> Nothing;
    SnapshotDelete<'a> = "snapshot-delete" -> Nothing;
    HumanMonitor<'a> = "human-monitor-command" -> String;
    BlockdevAdd<'a> = "blockdev-add" -> Nothing;
    BlockdevDel<'a> = "blockdev-del" -> Nothing;
    BlockdevSetActive = "blockdev-set-active" -> Nothing;
    BlockdevCreate<'a> = "blockdev-create" -> Nothing;
    Transaction<'a> = "transaction" -> Nothing;
    BlockdevSnapshotDeleteInternalSync<'a> = "blockdev-snapshot-delete-internal-sync" -> DeletedSnapshot;
    BlockCommit<'a> = "block-commit" -> Nothing;
    BlockStream<'a> = "block-stream" -> Nothing;
    JobComplete<'a> = "job-complete" -> Nothing;
    JobFinalize<'a> = "job-finalize" -> Nothing;
    QueryBlockExports = "query-block-exports" -> Vec<BlockExport>;
    NbdServerStart<'a> = "nbd-server-start" -> Nothing;
    NbdServerStop = "nbd-server-stop" -> Nothing;
    BlockExportAdd<'a> = "block-export-add" -> Nothing;
    BlockExportDel<'a> = "block-export-del" -> Nothing;
    Cont = "cont" -> Nothing;
    Stop = "stop" -> Nothing;
    Quit = "quit" -> Nothing;
    Getfd<'a> = "getfd" -> Nothing;
    Closefd<'a> = "closefd" -> Nothing;
    Migrate<'a> = "migrate" -> Nothing;
    MigrateIncoming<'a> = "migrate-incoming" -> Nothing;
    MigrateCancel = "migrate_cancel" -> Nothing;
    QueryChardev = "query-chardev" -> Vec<ChardevInfo>;
    QueryMigrate = "query-migrate" -> MigrationInfo;
    QueryMigrateCapabilities = "query-migrate-capabilities" -> Vec<MigrationCapabilityStatus>;
    MigrateSetCapabilities<'a> = "migrate-set-capabilities" -> Nothing;
    QueryMigrateParameters = "query-migrate-parameters" -> MigrationParameters;
    MigrateSetParameters = "migrate-set-parameters" -> Nothing;
}

/// Ends the negotiation.
#[derive(Debug, Serialize)]
pub struct QmpCapabilities<'a> {
    /// What of the greeting's offer to use: `oob`.
    pub enable: &'a [&'a str],
}

/// Asks for all that this QEMU can be told and can say.
#[derive(Debug, Serialize)]
pub struct QueryQmpSchema {}

/// One entity of the schema; commands, events and types alike. A type is named by a number.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SchemaEntity {
    /// A command's or event's own name; a number for a type.
    pub name: String,
    /// `command`, `event`, `object`, `enum` ...
    pub meta_type: String,
    /// Of a command: the type of its arguments.
    pub arg_type: Option<String>,
    /// Of an object: its members, but for those that depend on its kind. Of an enum, since 6.2, its values.
    #[serde(default)]
    pub members: Vec<SchemaMember>,
    /// Of an enum.
    #[serde(default)]
    pub values: Vec<String>,
    /// Of an array: the type of its elements.
    pub element_type: Option<String>,
}

/// One member of an object.
#[derive(Debug, Deserialize)]
pub struct SchemaMember {
    /// Its name; empty for what is one of several types.
    #[serde(default)]
    pub name: String,
    /// Its type; none for the value of an enum.
    #[serde(rename = "type")]
    pub of: Option<String>,
}

/// Asks whether the guest runs.
#[derive(Debug, Serialize)]
pub struct QueryStatus {}

/// The run state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// `running`, `paused`, `prelaunch`, `restore-vm` ...
    pub status: String,
    /// Whether virtual CPUs run.
    pub running: bool,
}

/// Asks which machine it is.
#[derive(Debug, Serialize)]
pub struct QueryUuid {}

/// Which machine it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct UuidInfo {
    /// In lower case; all zeros of one that was given none.
    #[serde(rename = "UUID")]
    pub uuid: String,
}

/// Asks how much memory the machine has.
#[derive(Debug, Serialize)]
pub struct QueryMemorySizeSummary {}

/// How much memory the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryInfo {
    /// What it was started with, in bytes.
    pub base_memory: u64,
}

/// Asks for a property of an object, one that is a text.
#[derive(Debug, Serialize)]
pub struct QomGet<'a> {
    /// Where the object is among all: `/machine`.
    pub path: &'a str,
    /// `type`.
    pub property: &'a str,
}

/// Asks for the jobs, concluded ones included.
#[derive(Debug, Serialize)]
pub struct QueryJobs {}

/// A background job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobInfo {
    /// Its id.
    pub id: String,
    /// `created`, `running`, ..., `concluded`.
    pub status: String,
    /// How far it is, in its own measure.
    #[serde(default)]
    pub current_progress: u64,
    /// How far it has to go; may grow.
    #[serde(default)]
    pub total_progress: u64,
    /// Why it failed; absent while it has not.
    #[serde(default, deserialize_with = "words::maybe")]
    pub error: Option<String>,
}

/// Asks for the jobs that work on disks.
#[derive(Debug, Serialize)]
pub struct QueryBlockJobs {}

/// A job that works on disks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BlockJobInfo {
    /// `mirror`, `commit`, `stream`, `backup`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub device: String,
}

/// Forgets a concluded job.
#[derive(Debug, Serialize)]
pub struct JobDismiss<'a> {
    /// Which.
    pub id: &'a str,
}

/// Asks a job to stop.
#[derive(Debug, Serialize)]
pub struct JobCancel<'a> {
    /// Which.
    pub id: &'a str,
}

/// Starts a job that saves machine and disks under a tag inside the images.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotSave<'a> {
    /// The id of the job.
    pub job_id: &'a str,
    /// The snapshot's name.
    pub tag: &'a str,
    /// The node that takes the machine state; must be among `devices`.
    pub vmstate: &'a str,
    /// The nodes to snapshot.
    pub devices: &'a [String],
}

/// Starts a job that puts machine and disks back to a tag.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotLoad<'a> {
    /// The id of the job.
    pub job_id: &'a str,
    /// The snapshot's name.
    pub tag: &'a str,
    /// The node that holds the machine state.
    pub vmstate: &'a str,
    /// The nodes to put back.
    pub devices: &'a [String],
}

/// Starts a job that deletes a tag; succeeds where there is none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotDelete<'a> {
    /// The id of the job.
    pub job_id: &'a str,
    /// The snapshot's name.
    pub tag: &'a str,
    /// The nodes to delete it from.
    pub devices: &'a [String],
}

/// Runs a line of the human monitor. Its errors come as text in a success reply.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HumanMonitor<'a> {
    /// The line.
    pub command_line: &'a str,
}

/// Opens a node.
#[derive(Debug, Serialize)]
#[serde(tag = "driver", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum BlockdevAdd<'a> {
    /// The protocol node of a local file.
    File {
        /// The new node's name.
        node_name: &'a str,
        /// The file.
        filename: &'a str,
    },
    /// The protocol node of a host's block device. QEMU's drivers of devices have names with underscores.
    #[serde(rename = "host_device")]
    HostDevice {
        /// The new node's name.
        node_name: &'a str,
        /// The device.
        filename: &'a str,
    },
    /// A node that holds nothing.
    #[serde(rename = "null-co")]
    Null {
        /// The new node's name.
        node_name: &'a str,
        /// Whether nobody may write to it: what is written is lost.
        read_only: bool,
    },
    /// A qcow2 format node.
    Qcow2 {
        /// The new node's name.
        node_name: &'a str,
        /// The protocol node under it.
        file: &'a str,
        /// None is sent as `null`: open no backing file, whatever the image says.
        backing: Option<&'a str>,
        /// How much memory QEMU may take for the image's tables, in bytes; none is QEMU's own choice.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_size: Option<u64>,
    },
}

/// Closes a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevDel<'a> {
    /// Which.
    pub node_name: &'a str,
}

/// Takes images back that were given away to another machine, or gives them away: all of them. Since 10.0.
#[derive(Debug, Serialize)]
pub struct BlockdevSetActive {
    /// Whether they are this machine's from now on.
    pub active: bool,
}

/// Starts a job that writes a new image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockdevCreate<'a> {
    /// The id of the job.
    pub job_id: &'a str,
    /// What image.
    pub options: CreateOptions<'a>,
}

/// The image that [`BlockdevCreate`] writes.
#[derive(Debug, Serialize)]
#[serde(tag = "driver", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum CreateOptions<'a> {
    /// A qcow2 image with a backing file.
    Qcow2 {
        /// The protocol node that it is written to.
        file: &'a str,
        /// What the guest sees, in bytes.
        size: u64,
        /// The backing file as the image will name it.
        backing_file: &'a str,
        /// The backing file's format: never left to probing.
        backing_fmt: &'a str,
        /// Bytes of a cluster; QEMU's own number if it is not stated.
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster_size: Option<u64>,
        /// Whether parts of a cluster are kept account of.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        extended_l2: bool,
    },
}

/// Several actions, all or none.
#[derive(Debug, Serialize)]
pub struct Transaction<'a> {
    /// The actions, in order.
    pub actions: Vec<Action<'a>>,
}

/// One action of a [`Transaction`].
#[derive(Debug, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub enum Action<'a> {
    /// Puts an overlay over a node.
    BlockdevSnapshot {
        /// The node that becomes the backing one.
        node: &'a str,
        /// The prepared overlay, without a backing node.
        overlay: &'a str,
    },
    /// Takes an internal snapshot of one disk, without memory.
    BlockdevSnapshotInternalSync {
        /// The node on top of the disk.
        device: &'a str,
        /// The snapshot's name.
        name: &'a str,
    },
    /// Begins to keep account of the writes to a node.
    BlockDirtyBitmapAdd {
        /// The node.
        node: &'a str,
        /// The bitmap's name.
        name: &'a str,
        /// How many bytes one bit stands for.
        granularity: u32,
        /// Whether it is kept in the image when QEMU ends.
        persistent: bool,
        /// Whether it takes no account yet.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        disabled: bool,
    },
    /// Lets a bitmap take account of writes again.
    BlockDirtyBitmapEnable {
        /// The node.
        node: &'a str,
        /// The bitmap's name.
        name: &'a str,
    },
    /// Adds to a bitmap what others tell of.
    BlockDirtyBitmapMerge {
        /// Its node.
        node: &'a str,
        /// Its name.
        target: &'a str,
        /// The others.
        bitmaps: Vec<BitmapOf<'a>>,
    },
}

/// Deletes an internal snapshot of one disk.
#[derive(Debug, Serialize)]
pub struct BlockdevSnapshotDeleteInternalSync<'a> {
    /// The node on top of the disk.
    pub device: &'a str,
    /// The snapshot's name.
    pub name: &'a str,
}

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DeletedSnapshot {
    /// The snapshot's name.
    pub name: String,
}

/// A bitmap of a node.
#[derive(Debug, Serialize)]
pub struct BitmapOf<'a> {
    /// The node.
    pub node: &'a str,
    /// The bitmap's name.
    pub name: &'a str,
}

/// Starts a job that moves what an image holds into the one below it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockCommit<'a> {
    /// The id of the job.
    pub job_id: &'a str,
    /// The node on top of the chain.
    pub device: &'a str,
    /// The image whose content moves; the one on top is kept in step until the job is completed.
    pub top_node: &'a str,
    /// Where it moves to.
    pub base_node: &'a str,
    /// What the image above `top_node` is to name as its backing file; none if there is no image above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_file: Option<&'a str>,
    /// Whether the chain changes as soon as the job's work is done, or at [`JobFinalize`].
    pub auto_finalize: bool,
    /// Whether the job is forgotten as soon as it has ended.
    pub auto_dismiss: bool,
}

/// Starts a job that moves what is below an image into it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockStream<'a> {
    /// The id of the job.
    pub job_id: &'a str,
    /// The image's node.
    pub device: &'a str,
    /// What it stands on afterwards; none if on nothing, or if `base` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_node: Option<&'a str>,
    /// The same, by its file: QEMU looks for it in the image's own chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<&'a str>,
    /// What it is to name as its backing file then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backing_file: Option<&'a str>,
    /// Whether the chain changes as soon as the job's work is done, or at [`JobFinalize`].
    pub auto_finalize: bool,
    /// Whether the job is forgotten as soon as it has ended.
    pub auto_dismiss: bool,
}

/// Ends a job that is ready: the disk goes on in what it has copied to.
#[derive(Debug, Serialize)]
pub struct JobComplete<'a> {
    /// Which.
    pub id: &'a str,
}

/// Lets a job that is pending change the chain.
#[derive(Debug, Serialize)]
pub struct JobFinalize<'a> {
    /// Which.
    pub id: &'a str,
}

/// Lets the guest run.
#[derive(Debug, Serialize)]
pub struct Cont {}

/// Stops the guest.
#[derive(Debug, Serialize)]
pub struct Stop {}

/// Ends QEMU.
#[derive(Debug, Serialize)]
pub struct Quit {}

/// Asks for the character devices: sockets of monitors, serial ports and the like.
#[derive(Debug, Serialize)]
pub struct QueryChardev {}

/// A character device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChardevInfo {
    /// What it is: `unix:/run/vm.qga,server=on`, with `disconnected:` before it while nobody is connected.
    pub filename: String,
    /// Whether its other side is in use: of a port, whether somebody in the guest has it open.
    pub frontend_open: bool,
}
