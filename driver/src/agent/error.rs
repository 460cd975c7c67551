//! Why an agent has not done what it was asked: five things that are not the same.

use std::time::Duration;

use crate::{client::seconds, error::Code, wire::QmpError};

/// Why an agent has not done what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// The machine has no port for one, as far as is known.
    #[error("no guest agent is configured")]
    NotConfigured,
    /// The port is there, and nobody in the guest has it open; or its socket is closed.
    #[error("the guest agent is not connected: {0}")]
    NotConnected(String),
    /// It said nothing in time. A request may still be carried out, whenever the agent gets to it.
    #[error("the guest agent did not answer `{command}` within {}", seconds(*waited))]
    Unresponsive {
        /// Which request.
        command: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It said what is no answer. Whether the request was carried out is not known.
    #[error("the guest agent is out of step: {0}")]
    Unsynchronised(String),
    /// It has refused the request, or could not do it.
    #[error("the guest agent failed `{command}`: {error} ({})", .error.class)]
    Failed {
        /// Which request.
        command: String,
        /// Its words.
        error: QmpError,
    },
}

impl AgentError {
    /// Whether the request may have been carried out, or may yet be.
    pub fn is_doubtful(&self) -> bool {
        !matches!(self, AgentError::NotConfigured | AgentError::Failed { .. })
    }

    /// Whether, of a thaw, it tells that all is thawed: it is of the hook that runs behind it, or of Windows, which had let go before.
    pub fn comes_behind_the_thaw(&self) -> bool {
        let AgentError::Failed { error, .. } = self else { return false };
        error.desc.contains("hook") || error.desc.contains("10 seconds")
    }

    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            AgentError::NotConfigured => Code::ArgumentUnsupported,
            AgentError::NotConnected(_) => Code::AgentUnresponsive,
            AgentError::Unresponsive { command, .. } if command == super::SYNC => Code::AgentUnresponsive,
            AgentError::Unresponsive { .. } => Code::AgentCommandTimeout,
            AgentError::Unsynchronised(_) => Code::AgentUnsynced,
            AgentError::Failed { .. } => Code::AgentCommandFailed,
        }
    }
}
