//! Orders by seeds: every answer as likely as the others.

use freezeframe_sim::Oracle;

use super::Orders;

pub(super) struct Random {
    /// Of the next one; none behind the last that there is.
    seed: Option<u64>,
    left: u64,
}

impl Random {
    pub(super) fn new(seed: u64, runs: Option<u64>) -> Self {
        Self { seed: Some(seed), left: runs.unwrap_or(u64::MAX) }
    }

    /// The next seed.
    pub(super) fn seed(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let seed = self.seed?;
        self.seed = seed.checked_add(1);
        Some(seed)
    }
}

impl Orders for Random {
    fn next(&mut self) -> Option<Oracle> {
        self.seed().map(Oracle::seeded)
    }
}
