//! Answers that stand for a whole run, but for a few changes.
//!
//! After "A randomized scheduler with probabilistic guarantees of finding bugs" (PCT; Burckhardt and others, ASPLOS 2010): each
//! thread has a random priority, and at a few random points of the run one changes; a bug that needs few changes is found with
//! a probability that can be told. Here nobody knows the threads behind a question, so that what has a priority is the label:
//! the newest task always goes first, say, and every reply is late. Random answers never hold such a line for long.

use std::collections::BTreeSet;

use super::split_mix::{SplitMix64, scaled};

/// What stands, and where it changes.
#[derive(Debug, Clone)]
pub(super) struct Priorities {
    numbers: SplitMix64,
    /// Before which questions a change comes, counted from 0.
    changes: BTreeSet<usize>,
    asked: usize,
    /// For each label where among the ways its answer lies, in 1 / 2^64.
    standing: Vec<(&'static str, u64)>,
}

impl Priorities {
    pub(super) fn new(seed: u64, changes: usize, questions: u64) -> Self {
        let mut numbers = SplitMix64::new(seed);
        let among = usize::try_from(questions).unwrap_or(usize::MAX).max(1);
        let changes = (0..changes).map(|_| numbers.below(among)).collect();
        Self { numbers, changes, asked: 0, standing: Vec::new() }
    }

    /// Which of `n` ways; `n` is not 0.
    pub(super) fn answer(&mut self, label: &'static str, n: usize) -> usize {
        let changes = self.changes.contains(&self.asked);
        self.asked += 1;
        let known = self.standing.iter_mut().find(|(known, _)| *known == label);
        let stands = match known {
            Some((_, stands)) if changes => {
                *stands = self.numbers.next();
                *stands
            }
            Some((_, stands)) => *stands,
            None => {
                let stands = self.numbers.next();
                self.standing.push((label, stands));
                stands
            }
        };
        scaled(stands, n)
    }
}
