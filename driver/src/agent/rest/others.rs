//! Freezes that are not the operation's own: the one in a memory that was loaded, and the caller's.

use std::time::Duration;

use super::{Rest, RestError, THAW_WITHIN};
use crate::{
    agent::{AgentError, FreezeStatus},
    env::Env,
    mark,
    report::{LoadedFreeze, Quiesced, Verdict},
};

impl<E: Env> Rest<E> {
    /// Lets a guest go that its agent had frozen when the memory was saved that was just loaded.
    ///
    /// # Errors
    /// [`RestError::NotThawed`]: it is frozen.
    pub(crate) async fn thaw_loaded(&self, deadline: Duration) -> Result<(), RestError> {
        // What was said to the agent of before is not this one's.
        self.release();
        let deadline = deadline.min(self.0.env.now() + THAW_WITHIN);
        let found = match self.status(deadline).await {
            Ok(FreezeStatus::Thawed) => LoadedFreeze::None,
            Ok(FreezeStatus::Frozen) => {
                self.suspect();
                self.thaw().await?;
                LoadedFreeze::Thawed
            }
            Err(error) => LoadedFreeze::Unknown(mark::told(&error)),
        };
        self.0.loaded.replace(Some(found));
        Ok(())
    }

    /// Whether the memory that was loaded held a freeze could not be asked.
    pub(crate) fn not_asked(&self, why: &AgentError) {
        self.0.loaded.replace(Some(LoadedFreeze::Unknown(why.to_string())));
    }

    /// What was found of a freeze in the memory that was loaded, told once.
    pub(crate) fn take_loaded(&self) -> Option<LoadedFreeze> {
        self.0.loaded.take()
    }

    /// Whether a freeze of the caller's own still stood when the snapshot was taken, if it stood when it was begun. A guest that stands
    /// still until the end cannot be asked, nor be let go: of one that was looked at right before, more need not be known.
    pub(crate) async fn look_again(&self, deadline: Duration) {
        if !self.0.callers.take() || self.told().verdict != Verdict::Yes {
            return;
        }
        match self.status(deadline).await {
            Ok(FreezeStatus::Frozen) => {}
            Ok(FreezeStatus::Thawed) => {
                self.expect(Quiesced::no("the caller's freeze was over before the snapshot was taken"));
            }
            Err(error) => self.expect(Quiesced::unknown(format!(
                "frozen by the caller; whether it still was at the end could not be asked: {error}"
            ))),
        }
    }
}
