//! Commands that send a machine's state away or take one in, and that hand open files over for it.

use serde::{Deserialize, Serialize};

use crate::words;

/// Keeps the open file that was sent along under a name, until something uses it up.
#[derive(Debug, Serialize)]
pub struct Getfd<'a> {
    /// The name; it must not begin with a digit.
    pub fdname: &'a str,
}

/// Closes a file that nothing has used.
#[derive(Debug, Serialize)]
pub struct Closefd<'a> {
    /// Its name.
    pub fdname: &'a str,
}

/// Sends the machine's state away. The reply comes as soon as that has begun.
#[derive(Debug, Serialize)]
pub struct Migrate<'a> {
    /// Where to.
    #[serde(flatten)]
    pub to: Address<'a>,
}

/// Takes a machine's state in, on a QEMU that was started to wait for one. The reply comes as soon as that has begun.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrateIncoming<'a> {
    /// Where from.
    #[serde(flatten)]
    pub from: Address<'a>,
    /// Whether QEMU ends when it cannot be loaded. None leaves it out, for releases before 9.1: those end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_on_error: Option<bool>,
}

/// Where a machine's state goes to or comes from.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Address<'a> {
    /// An open file.
    Descriptor {
        /// `fd:NAME`.
        uri: String,
    },
    /// A file that QEMU opens by itself: since 8.2.
    File {
        /// One, called `main`.
        channels: [MigrationChannel<'a>; 1],
    },
}

impl<'a> Address<'a> {
    /// The open file that [`Getfd`] has given this name.
    pub fn descriptor(fdname: &str) -> Self {
        Address::Descriptor { uri: format!("fd:{fdname}") }
    }

    /// A file, from that byte on. As an URI a path with a comma would be ambiguous.
    pub fn file(filename: &'a str, offset: u64) -> Self {
        let addr = MigrationAddress::File { filename, offset };
        Address::File { channels: [MigrationChannel { channel_type: "main", addr }] }
    }
}

/// One of the channels that a machine's state takes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationChannel<'a> {
    /// `main`.
    pub channel_type: &'static str,
    /// Its other end.
    pub addr: MigrationAddress<'a>,
}

/// The other end of a channel.
#[derive(Debug, Serialize)]
#[serde(tag = "transport", rename_all = "kebab-case")]
pub enum MigrationAddress<'a> {
    /// A file of the host.
    File {
        /// Which.
        filename: &'a str,
        /// The byte in it at which the state begins.
        offset: u64,
    },
}

/// Asks a migration that leaves to stop. It is over only when [`QueryMigrate`] says so.
#[derive(Debug, Serialize)]
pub struct MigrateCancel {}

/// Asks how far the last migration is.
#[derive(Debug, Serialize)]
pub struct QueryMigrate {}

/// How far a migration is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationInfo {
    /// `setup`, `active`, `completed` ...; none before the first.
    pub status: Option<String>,
    /// Why it failed. Some releases leave it out.
    #[serde(default, deserialize_with = "words::maybe")]
    pub error_desc: Option<String>,
    /// What became of the memory; none before the first page.
    pub ram: Option<MigrationStats>,
    /// Why this machine cannot be migrated now; absent if it can.
    #[serde(default)]
    pub blocked_reasons: Vec<String>,
}

/// What became of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MigrationStats {
    /// All of it, in bytes.
    pub total: u64,
    /// What is still to be sent, in bytes.
    pub remaining: u64,
    /// Pages of one byte's repetition that were sent.
    pub duplicate: u64,
    /// Other pages that were sent.
    pub normal: u64,
}

/// Asks what a migration may use.
#[derive(Debug, Serialize)]
pub struct QueryMigrateCapabilities {}

/// Lets a migration use something, or not: all that are named, or none.
#[derive(Debug, Serialize)]
pub struct MigrateSetCapabilities<'a> {
    /// What to change.
    pub capabilities: &'a [MigrationCapabilityStatus],
}

/// Whether a migration may use something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationCapabilityStatus {
    /// `events`, `mapped-ram` ...
    pub capability: String,
    /// Whether it is on.
    pub state: bool,
}

/// Asks how a migration behaves.
#[derive(Debug, Serialize)]
pub struct QueryMigrateParameters {}

/// How a migration behaves: as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationParameters {
    /// Bytes a second at most.
    pub max_bandwidth: u64,
}

/// Sets how a migration behaves, from now on.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct MigrateSetParameters {
    /// What to change.
    pub parameters: MigrationParameters,
}
