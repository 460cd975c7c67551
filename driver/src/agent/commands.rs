//! The agent's commands that the driver has a use for, typed.
//!
//! Others it has none for. `guest-ping` tells less than the sync that comes before each question. What `guest-info` says is disabled the
//! agent refuses by an error of its own, before it has frozen anything. `guest-fsfreeze-freeze-list` passes over a mount point that it
//! does not know without a word, and which of them lies on which disk the guest alone says: a snapshot of some file systems at rest and
//! others not is none that could be called quiesced.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Agent, AgentError};
use crate::env::Env;

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

/// What the guest's file systems are asked by.
const FILE_SYSTEMS: &str = "guest-get-fsinfo";

impl<E: Env> Agent<E> {
    /// Asks for the guest's file systems, which the next [`Agent::file_systems`] returns.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn ask_file_systems(&mut self, deadline: Duration) -> Result<(), AgentError> {
        self.ask_ahead(FILE_SYSTEMS, deadline).await
    }

    /// Whether they have been asked for, and nobody has waited for the reply yet.
    pub(super) fn file_systems_are_asked(&self) -> bool {
        self.is_asked(FILE_SYSTEMS)
    }

    /// The guest's file systems.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn file_systems(&mut self, deadline: Duration) -> Result<Vec<FileSystem>, AgentError> {
        self.call(FILE_SYSTEMS, None::<&()>, deadline).await
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

    /// Thaws whatever is frozen, by whomever; returns how many. An error may mean that only its hook failed: ask the status.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn thaw(&mut self, deadline: Duration) -> Result<u64, AgentError> {
        self.call("guest-fsfreeze-thaw", None::<&()>, deadline).await
    }
}
