//! Ends QEMU.

use serde::{Deserialize, Serialize};

use super::{Happened, Remains};
use crate::{
    client::{CommandError, Silence},
    commands,
    env::Env,
    error::StepError,
    live::Live,
};

/// Ends QEMU, the guest with it, and waits until its monitor closes.
///
/// Source: QEMU QAPI `quit`, which answers before it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quit {}

impl Quit {
    pub(super) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let mut events = live.events();
        match live.execute(&commands::Quit {}).await {
            // It ended with its answer still in its hands.
            Ok(_) | Err(CommandError::Lost { .. }) => {}
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
    pub(super) async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        live.ask(&commands::QueryStatus {}).await?;
        Ok(Happened::No)
    }

    pub(super) fn remains(&self) -> Remains {
        "QEMU may still run: end it with quit".into()
    }
}
