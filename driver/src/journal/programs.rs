//! The programs of an operation whose driver was killed: a hook, a storage's tool, `qemu-img`. They live on, and what they were to do
//! they may do yet.
//!
//! ```text
//! driver: begins, and locks its journal -- runs a program, which has the lock too --X killed
//! program:                                        \-- ... takes its snapshot -- ends: the lock is free
//! recovery:                                                        thaw -- waits for the lock ------> asks what there is
//! ```
//! So nobody tells that all is as it was while a program may still change it. The system keeps the lock, not a number of a process that
//! may be another's by now: whatever a program has started in turn holds it as well, and nothing is written while the guest stands still.
//! Each journal is a new file, so that what a program has left in the background of an operation that came to its end is in nobody's way.

use std::{io, time::Duration};

use super::{Journal, JournalError, failed};
use crate::env::Env;

/// How often it is asked whether they have ended.
const ASK_EVERY: Duration = Duration::from_millis(50);

impl<E: Env> Journal<E> {
    /// Lets the programs that are run from now on be seen by whoever finds this journal.
    ///
    /// # Errors
    /// [`JournalError::File`].
    pub(super) async fn lock(&self) -> Result<(), JournalError> {
        let lock = self.env.lock_with_programs(&self.path).await;
        self.lock.replace(Some(lock.map_err(|source| failed("lock", &self.path, source))?));
        Ok(())
    }

    /// Waits until all programs have ended that the killed driver has run.
    ///
    /// # Errors
    /// [`JournalError::StillRuns`]; [`JournalError::File`].
    pub(crate) async fn programs_have_ended(&self, deadline: Duration) -> Result<(), JournalError> {
        loop {
            match self.lock().await {
                Err(JournalError::File { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    if self.env.now() >= deadline {
                        return Err(JournalError::StillRuns { path: self.path.clone() });
                    }
                    self.env.sleep_until(deadline.min(self.env.now() + ASK_EVERY)).await;
                }
                locked => return locked,
            }
        }
    }
}
