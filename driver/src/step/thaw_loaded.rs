//! Lets a guest go that was loaded frozen.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Kind, Remains, freeze};
use crate::{
    agent::{AgentError, Presence},
    commands::QueryChardev,
    env::Env,
    error::StepError,
    live::Live,
};

/// Thaws the guest's file systems, if its agent had frozen them when its memory was saved.
///
/// Such a freeze is in the memory and comes back with it; whoever asked for it does not, and nobody else would thaw it. What
/// somebody in the guest has frozen past the agent is left alone: they are back as well, and know when to let go.
///
/// An agent that does not answer fails nothing: of most snapshots there is nothing to thaw. That nobody knows is told.
///
/// Source: the agent of 7.2 in a guest that was loaded: its status is `frozen`, and its writers wait.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ThawLoaded {}

impl Kind for ThawLoaded {
    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "thaw".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let Some(port) = live.rest().port().cloned() else { return Ok(()) };
        // Of a port that QEMU does not tell of, a sync tells.
        let chardevs = live.execute(&QueryChardev {}).await.unwrap_or_default();
        if Presence::at(&port, &chardevs) == Presence::Closed {
            live.rest()
                .not_asked(&AgentError::NotConnected("nobody in the guest has its port open".to_owned()));
            return Ok(());
        }
        Ok(live.rest().thaw_loaded(live.deadline()).await?)
    }

    fn remains(&self) -> Remains {
        freeze::REMAINS.to_owned()
    }
}

impl fmt::Display for ThawLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("thaw the guest's file systems, if they are loaded frozen")
    }
}
