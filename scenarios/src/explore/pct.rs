//! Orders by seeds, whose answers stand for a whole run but for a few changes: [`Oracle::prioritised`].
//!
//! The default order comes first: it says among how many questions the changes are.

use freezeframe_sim::Oracle;

use super::{Orders, course::LeftOut, random::Random};

pub(super) struct Pct {
    seeds: Random,
    bound: usize,
    /// How much is asked in the default order, once that has been played.
    questions: Option<u64>,
}

impl Pct {
    pub(super) fn new(seed: u64, runs: Option<u64>, bound: usize) -> Self {
        Self { seeds: Random::new(seed, runs.map(|runs| runs.saturating_sub(1))), bound, questions: None }
    }
}

impl Orders for Pct {
    fn next(&mut self) -> Option<Oracle> {
        let Some(questions) = self.questions else { return Some(Oracle::default_order()) };
        self.seeds.seed().map(|seed| Oracle::prioritised(seed, self.bound, questions))
    }

    fn played(&mut self, oracle: &Oracle, _: LeftOut<'_>) -> u64 {
        self.questions.get_or_insert(oracle.choices());
        0
    }
}
