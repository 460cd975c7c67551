//! Brings the guest to rest.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains};
use crate::{env::Env, error::StepError, live::Live, mark, report::Quiesced};

/// What may be left of a freeze or a thaw that nobody could finish.
pub(super) const REMAINS: &str = "the guest's file systems may still be frozen, and its programs with them: once its agent \
                                  answers, thaw them with `freezeframe fs thaw`";

/// Freezes the guest's file systems, which are thawed: it writes what it has not written yet, and then nothing more.
///
/// It is undone by thawing, and before anything else: what was frozen here, and nothing else. The executor does so, through
/// [`crate::agent::rest`], for it has to be done without QEMU's monitor too.
///
/// Source: `guest-fsfreeze-freeze`; the agents of four releases, asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Freeze {
    /// A guest that cannot be brought to rest is no failure.
    #[serde(default)]
    pub best_effort: bool,
    /// A freeze that was refused is followed by a thaw, for its hook alone.
    #[serde(default)]
    pub thaw_hooks: bool,
}

impl Kind for Freeze {
    const UNDO: Option<&'static str> = Some("thaw");

    const ONLY_IN_QEMU: bool = true;

    fn lane(&self) -> String {
        "freeze".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let Err(error) = live.rest().freeze(live.deadline(), self.thaw_hooks).await else { return Ok(()) };
        if !self.best_effort {
            return Err(error.into());
        }
        // The snapshot is taken of a guest that writes; one that may be half frozen is let go first.
        live.rest().thaw().await?;
        live.rest().expect(Quiesced::no(mark::told(&error)));
        Ok(())
    }

    /// It is undone already.
    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        REMAINS.to_owned()
    }
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("freeze the guest's file systems")?;
        if self.best_effort { f.write_str(", if it can be") } else { Ok(()) }
    }
}
