//! Stops the guest's processors.

use serde::{Deserialize, Serialize};

use super::{Happened, Remains};
use crate::{
    commands::{Cont, QueryStatus, Stop},
    env::Env,
    error::StepError,
    live::Live,
};

/// Stops the guest's processors; its disks come to rest with it. For a guest that runs: undoing lets it run again.
///
/// Source: QEMU QAPI `stop`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {}

impl Pause {
    pub(super) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        live.execute(&Stop {}).await?;
        Ok(())
    }

    pub(super) async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let running = live.ask(&QueryStatus {}).await?.running;
        Ok(if running { Happened::No } else { Happened::Yes })
    }

    /// Also where only a part was done: a `stop` whose reply was lost has stopped the guest.
    pub(super) async fn undo<E: Env>(&self, live: &Live<E>) -> Result<(), Remains> {
        match live.ask(&Cont {}).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}: {error}", self.remains())),
        }
    }

    pub(super) fn remains(&self) -> Remains {
        "the guest may still be paused: let it run with cont".into()
    }
}
