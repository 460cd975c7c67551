//! Removes what goes with a machine: the overlay of a `<transient/>` disk.

use std::{fmt, time::Duration};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_name, remove_file::remove_image};
use crate::{
    env::{Endpoint, Env},
    error::StepError,
    launch::falls_silent,
    live::Live,
};

/// How long a machine that was told to end may take until nobody listens at its monitor.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// Removes the overlay of a `<transient/>` disk when its machine has ended. What ends the machine may have failed where nothing is
/// undone any more: as long as anybody listens at the monitor, the guest may write to it, and it stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveTransient {
    /// The overlay.
    pub path: Utf8PathBuf,
    /// Where the machine's monitor listens as long as it runs.
    pub monitor: Utf8PathBuf,
}

impl Kind for RemoveTransient {
    fn lane(&self) -> String {
        format!("remove-{}", file_name(&self.path))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let (env, monitor) = (live.env(), Endpoint::Unix(self.monitor.clone()));
        let deadline = env.now() + ENDS_WITHIN;
        match falls_silent(env, &monitor, deadline).await {
            true => remove_image(live, &self.path).await,
            false => Err(StepError::StillRunning),
        }
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!("`{}` goes with the machine: remove it when that has ended, or start it anew", self.path)
    }
}

impl fmt::Display for RemoveTransient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", file_name(&self.path))
    }
}
