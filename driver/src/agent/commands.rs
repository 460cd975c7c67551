//! The agent's commands that the driver has a use for, typed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Agent, AgentError};
use crate::env::Env;

/// What the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// Its release.
    pub version: String,
    /// Its commands.
    pub supported_commands: Vec<CommandInfo>,
}

/// One command of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CommandInfo {
    /// Its name.
    pub name: String,
    /// Whether it may be used now: not if it is blocked, nor, of most, while the guest is frozen.
    pub enabled: bool,
}

impl Info {
    /// Whether a command is there and may be used now.
    pub fn has(&self, command: &str) -> bool {
        self.supported_commands.iter().any(|known| known.name == command && known.enabled)
    }
}

/// A file system of the guest, in its own words: for people, and never a path on the host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FileSystem {
    /// What the guest calls its device.
    pub name: String,
    /// Where it is mounted.
    pub mountpoint: String,
    /// `ext4`, `NTFS` ...
    #[serde(rename = "type")]
    pub kind: String,
}

/// What the agent believes. It is its bookkeeping, not its kernel's: what others in the guest freeze or thaw it does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FreezeStatus {
    /// It has not frozen, or has thawed.
    Thawed,
    /// It has frozen, and has not thawed.
    Frozen,
}

impl FreezeStatus {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            FreezeStatus::Thawed => "thawed",
            FreezeStatus::Frozen => "frozen",
        }
    }
}

/// The reply of a command that returns nothing: `{}`.
#[derive(Debug, Deserialize)]
struct Nothing {}

impl<E: Env> Agent<E> {
    /// Whether it is there.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn ping(&mut self, deadline: Duration) -> Result<(), AgentError> {
        self.call("guest-ping", None::<&()>, deadline).await.map(|Nothing {}| ())
    }

    /// What it is and can do.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn info(&mut self, deadline: Duration) -> Result<Info, AgentError> {
        self.call("guest-info", None::<&()>, deadline).await
    }

    /// The guest's file systems.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn file_systems(&mut self, deadline: Duration) -> Result<Vec<FileSystem>, AgentError> {
        self.call("guest-get-fsinfo", None::<&()>, deadline).await
    }

    /// Whether it believes that it has frozen.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn freeze_status(&mut self, deadline: Duration) -> Result<FreezeStatus, AgentError> {
        self.call("guest-fsfreeze-status", None::<&()>, deadline).await
    }

    /// Freezes all file systems that can be; returns how many. None at all is a success to it.
    ///
    /// # Errors
    /// [`AgentError`]; one that is doubtful may freeze yet: see [`super::rest`].
    pub async fn freeze(&mut self, deadline: Duration) -> Result<u64, AgentError> {
        self.call("guest-fsfreeze-freeze", None::<&()>, deadline).await
    }

    /// Freezes those of these mount points that are there, and passes over the others without a word: compare the count.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn freeze_list(
        &mut self,
        mountpoints: &[String],
        deadline: Duration,
    ) -> Result<u64, AgentError> {
        #[derive(Serialize)]
        struct List<'a> {
            mountpoints: &'a [String],
        }
        self.call("guest-fsfreeze-freeze-list", Some(&List { mountpoints }), deadline).await
    }

    /// Thaws whatever is frozen, by whomever; returns how many. An error may mean that only its hook failed: ask the status.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn thaw(&mut self, deadline: Duration) -> Result<u64, AgentError> {
        self.call("guest-fsfreeze-thaw", None::<&()>, deadline).await
    }
}
