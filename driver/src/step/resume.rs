//! Lets the guest go on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{
    commands::{Cont, QueryStatus},
    env::Env,
    error::StepError,
    live::Live,
};

/// Lets the guest go on, after [`super::Pause`] or after a migration that has stopped it.
///
/// A guest that was to be stopped for a moment may have come to stand still of its own meanwhile: it has panicked, say. Then
/// it stays so for whoever looks into it, unless it is another that goes on: one that was just loaded.
///
/// There is no undo: a guest that runs is what was there before it was stopped.
///
/// A completed migration has given the images away; this takes them back first, and fails if somebody else has them.
///
/// Source: QEMU QAPI `cont`; the four releases, asked: overlays that were switched while the images were given away are in
/// use afterwards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resume {
    /// Not a guest that stands still of its own.
    #[serde(default)]
    pub unless_of_its_own: bool,
}

impl Kind for Resume {
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "resume".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        if !self.unless_of_its_own || live.own_stop().is_none() {
            live.execute(&Cont {}).await?;
        }
        Ok(())
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let status = live.ask(&QueryStatus {}).await?;
        Ok(if status.running { Happened::Yes } else { Happened::No })
    }

    async fn undo<E: Env>(
        &self,
        _live: &Live<E>,
        _begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        "the guest may run, or stand still: see with query-status, and let it go on with cont".to_owned()
    }
}

impl fmt::Display for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("let the guest go on")
    }
}
