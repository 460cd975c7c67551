//! Lets the guest run again.

use serde::{Deserialize, Serialize};

use super::{Happened, Remains};
use crate::{
    commands::{Cont, QueryStatus},
    env::Env,
    error::StepError,
    live::Live,
};

/// Lets the guest run again that [`super::Pause`] stopped.
///
/// Source: QEMU QAPI `cont`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resume {}

impl Resume {
    pub(super) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        live.execute(&Cont {}).await?;
        Ok(())
    }

    pub(super) async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let running = live.ask(&QueryStatus {}).await?.running;
        Ok(if running { Happened::Yes } else { Happened::No })
    }

    pub(super) fn remains(&self) -> Remains {
        "the guest is paused: let it run with cont".into()
    }
}
