//! When a difference counts: the simulator's own is there each time, a race of the real program's once in a while.
//!
//! Whatever is said not to be the same is told again, up to [`REPETITIONS`] times, before anything else is done with it.
//!
//! | seen again | it is | the run |
//! | --- | --- | --- |
//! | yes | a finding | fails |
//! | no | seen once: told as it was | passes, if it is the only one |
//!
//! One alone passes so that a gate that passed passes again; a second in the same run is a habit and no race.

use std::ops::AddAssign;

/// How often it is tried to see a difference again.
pub const REPETITIONS: usize = 3;

/// How many differences may be seen once in a run that passes.
const RACES: usize = 1;

/// What a run, or a part of it, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Differences that were seen again, and whatever else fails for certain.
    pub differ: usize,
    /// Differences that were not.
    pub seen_once: usize,
}

impl Verdict {
    /// Whether a run that came to this is in order.
    pub fn passes(self) -> bool {
        self.differ == 0 && self.seen_once <= RACES
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.differ += other.differ;
        self.seen_once += other.seen_once;
    }
}

/// Whether what was said not to be the same is so again; `tell` tells it once more.
pub fn is_seen_again<E>(mut tell: impl FnMut() -> Result<(), E>) -> bool {
    (0..REPETITIONS).any(|_| tell().is_err())
}
