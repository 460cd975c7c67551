//! Lets the guest go on.

use serde::{Deserialize, Serialize};

use super::{Happened, Remains};
use crate::{
    commands::{Cont, QueryStatus},
    env::Env,
    error::StepError,
    live::Live,
};

/// Lets the guest go on, after [`super::Pause`] or after a migration that has stopped it.
///
/// There is no undo: a guest that runs is what was there before it was stopped.
///
/// A completed migration has given the images away; this takes them back first, and fails if somebody else has them.
///
/// Source: QEMU QAPI `cont`; the four releases, asked: overlays that were switched while the images were given away are in
/// use afterwards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resume {}

impl Resume {
    pub(super) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        live.execute(&Cont {}).await?;
        Ok(())
    }

    pub(super) async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let status = live.ask(&QueryStatus {}).await?;
        Ok(if status.running { Happened::Yes } else { Happened::No })
    }

    pub(super) fn remains(&self) -> Remains {
        "the guest may run: see with query-status".to_owned()
    }
}
