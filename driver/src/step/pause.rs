//! Stops the guest.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{
    commands::{Cont, QueryStatus, Stop},
    env::Env,
    error::StepError,
    live::Live,
    mutant::{Mutant, planted},
};

/// How often a run state that passes is asked for.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// Stops the guest, which runs.
///
/// Source: QEMU QAPI `stop`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pause {}

impl Kind for Pause {
    const UNDO: Option<&'static str> = Some("let it go on");
    const STOPS_THE_GUEST: bool = true;
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "pause".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        live.execute(&Stop {}).await?;
        Ok(())
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        let status = live.ask(&QueryStatus {}).await?;
        Ok(if status.running { Happened::No } else { Happened::Yes })
    }

    /// Lets the guest go on.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        _begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        if planted(Mutant::LeavesTheGuestPaused) {
            return Ok(());
        }
        go_on(live).await.map_err(|error| format!("{}: {error}", self.remains()))
    }

    fn remains(&self) -> Remains {
        "the guest may stand still: see with query-status, and let it go on with cont".to_owned()
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pause the guest")
    }
}

/// Lets a guest go on that was stopped here, or by the migration of its memory: `cont` also takes the images back that a
/// completed migration has given away. One that stands still for a reason of its own is left alone.
pub(super) async fn go_on<E: Env>(live: &Live<E>) -> Result<(), StepError> {
    if matches!(status(live).await?.as_str(), "paused" | "postmigrate") && live.own_stop().is_none() {
        live.ask(&Cont {}).await?;
    }
    Ok(())
}

/// The run state. `finish-migrate` is waited for: a migration that is over leaves it at once, but not in the moment in which
/// it says that it is over, and `cont` is refused until then.
pub(super) async fn status<E: Env>(live: &Live<E>) -> Result<String, StepError> {
    loop {
        let status = live.ask(&QueryStatus {}).await?.status;
        let now = live.env().now();
        if status != "finish-migrate" || now >= live.deadline() {
            return Ok(status);
        }
        live.env().sleep_until(now + ASK_EVERY).await;
    }
}
