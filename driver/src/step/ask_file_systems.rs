//! Asks the guest what a freeze must reach.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{env::Env, error::StepError, live::Live};

/// Asks the guest what it has mounted, while QEMU makes the overlays: a guest takes its time to answer, and one that is frozen does not
/// tell. Nobody has to: [`super::Freeze`] asks by itself where it was not done.
///
/// Source: `guest-get-fsinfo`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AskFileSystems {
    /// A guest that does not answer is no failure: the freeze will tell.
    #[serde(default)]
    pub best_effort: bool,
}

impl Kind for AskFileSystems {
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "mounted".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        match live.rest().ask_file_systems(live.deadline()).await {
            Err(error) if !self.best_effort => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// It does nothing.
    async fn look_back<E: Env>(&self, _live: &Live<E>) -> Option<Begun> {
        None
    }

    async fn probe<E: Env>(&self, _live: &Live<E>) -> Result<Happened, StepError> {
        Ok(Happened::No)
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        "nothing of a question is left".to_owned()
    }
}

impl fmt::Display for AskFileSystems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ask the guest for its file systems")
    }
}
