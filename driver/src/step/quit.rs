//! Ends QEMU.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Happened, Kind, Remains};
use crate::{client::Silence, commands, env::Env, error::StepError, live::Live};

/// Ends QEMU, the guest with it, and waits until its monitor closes.
///
/// Source: QEMU QAPI `quit`, which answers before it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quit {}

impl Kind for Quit {
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "quit".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let mut events = live.events();
        match live.execute(&commands::Quit {}).await {
            Ok(_) => {}
            // It may have ended with its answer still in its hands, or never have heard of it: who connects anew finds out.
            Err(error) => return Err(error.into()),
        }
        loop {
            match events.next(live.deadline()).await {
                Ok(_) => {}
                Err(Silence::Lost(_)) => return Ok(()),
                Err(Silence::Lagged) => {}
                Err(Silence::TimedOut) => return Err(StepError::StillRunning),
            }
        }
    }

    /// Who answers has not ended.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        live.ask(&commands::QueryStatus {}).await?;
        Ok(Happened::No)
    }

    fn remains(&self) -> Remains {
        "QEMU may still run: end it with quit".into()
    }
}

impl fmt::Display for Quit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("end QEMU")
    }
}
