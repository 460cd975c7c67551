//! What a campaign has found, as a file: shrunk where it was played, written where it is told.

#![allow(clippy::disallowed_methods, reason = "the scenario that was played is read once more")]

use camino::Utf8Path;
use freezeframe_sim::{Release, oracle::Trace};

use super::{
    CliError,
    output::{Output, quoted},
};
use crate::{
    language::{Fault, Invariant},
    shrink::{self, Kept, Small},
    suite::Case,
    world::sim::Simulator,
};

/// The smallest scenario of a finding, or why there is none.
pub(super) struct Shrunk(Result<Small, String>);

impl Shrunk {
    /// Of what does not hold when a scenario is played with these faults in this order.
    pub(super) fn of(
        simulator: &mut Simulator,
        case: &Case,
        release: Release,
        (shows, faults, order): (Invariant, &[Fault], &Trace),
        by: &str,
    ) -> Self {
        let text = match std::fs::read_to_string(&case.path) {
            Ok(text) => text,
            Err(error) => return Self(Err(format!("{} cannot be read: {error}", case.path))),
        };
        let found = shrink::Found { text: &text, release, faults, order, shows, by };
        let none = || "as a scenario of its own it does not show".to_owned();
        Self(shrink::shrink(simulator, &found).ok_or_else(none))
    }

    /// Writes it, and says where.
    ///
    /// # Errors
    /// [`CliError::Write`].
    pub(super) fn keep(self, output: &mut Output, folder: &Utf8Path) -> Result<(), CliError> {
        let told = match self.0 {
            Err(why) => format!("not kept: {why}"),
            Ok(small) => {
                let kept = shrink::keep(folder, &small);
                match kept.map_err(|(path, source)| CliError::Write { path, source })? {
                    Kept::Written(path) => format!("kept: {}", quoted(&path)),
                    Kept::Before(path) => format!("kept before: {}", quoted(&path)),
                }
            }
        };
        output.line(&format!("  {told}"));
        Ok(())
    }
}
