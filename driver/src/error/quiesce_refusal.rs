//! Why a snapshot of a guest at rest is not even begun.

use super::Code;
use crate::agent::AgentError;

/// Why a snapshot of a guest at rest is not even begun. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuiesceRefusal {
    /// Its agent is not there, or says nothing.
    #[error("nobody can bring the guest to rest: {0}; leave `quiesce` out, or make it `best-effort`")]
    AgentSilent(AgentError),
    /// Its agent cannot even say how the guest stands.
    #[error("the guest cannot be brought to rest: {0}; leave `quiesce` out, or make it `best-effort`")]
    AgentUnfit(AgentError),
    /// Somebody else has frozen it.
    #[error(
        "somebody else has frozen the guest, and thaws it when it suits them; if that was you, say so with `already-frozen`"
    )]
    FrozenBefore,
    /// Nobody in it can answer.
    #[error("the guest does not run, so nobody in it can bring its file systems to rest")]
    GuestStopped,
    /// It would stand still frozen, until the caller lets it go on.
    #[error(
        "disk `{0}` is taken by the caller while the guest stands still, and nobody could thaw it then; freeze it yourself, \
         say so with `already-frozen`, and thaw it when it runs again"
    )]
    ManualDisk(String),
    /// The caller has not frozen it.
    #[error("the guest is said to be frozen already, and its agent says that it is not")]
    NotFrozen,
}

impl From<AgentError> for QuiesceRefusal {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Failed { .. } | AgentError::Unsynchronised(_) => QuiesceRefusal::AgentUnfit(error),
            AgentError::NotConfigured | AgentError::NotConnected(_) | AgentError::Unresponsive { .. } => {
                QuiesceRefusal::AgentSilent(error)
            }
        }
    }
}

impl QuiesceRefusal {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            QuiesceRefusal::AgentSilent(_) => Code::AgentUnresponsive,
            QuiesceRefusal::AgentUnfit(_) => Code::AgentCommandFailed,
            QuiesceRefusal::FrozenBefore | QuiesceRefusal::GuestStopped | QuiesceRefusal::NotFrozen => {
                Code::OperationInvalid
            }
            QuiesceRefusal::ManualDisk(_) => Code::OperationUnsupported,
        }
    }
}
