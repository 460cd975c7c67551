//! Every order that differs from the default in at most so many answers, each exactly once.
//!
//! A run is known by its trace, the answers that were not 0. Behind the last of them all was 0, and each question there has other
//! answers: each is a run to come, whose trace is one longer. The one that was found last is played first, so that little is
//! kept: the other answers of one run for each deviation.
//!
//! This is a delay bound ("Delay-bounded scheduling", Emmi, Qadeer and Rakamaric, POPL 2011), but that any other answer costs
//! one: here they are no turns that are skipped, and the third is no further away than the second.

use freezeframe_sim::{
    Oracle,
    oracle::{Deviation, Question, Trace},
};

use super::{Orders, course::LeftOut};

pub(super) struct Dfs {
    bound: usize,
    /// Somebody wants to know what was asked in the last runs of all too.
    keeps: bool,
    /// The runs to come, the next one last.
    to_come: Vec<Trace>,
}

impl Dfs {
    pub(super) fn new(bound: usize, keeps: bool) -> Self {
        Self { bound, keeps, to_come: vec![Trace::default()] }
    }
}

impl Orders for Dfs {
    fn next(&mut self) -> Option<Oracle> {
        let trace = self.to_come.pop()?;
        // In the last runs of all it is no matter what else there was.
        let deepens = trace.deviations().len() < self.bound;
        let oracle = Oracle::replay(trace);
        Some(if deepens || self.keeps { oracle.keeping_questions() } else { oracle })
    }

    fn played(&mut self, oracle: &Oracle, left_out: LeftOut<'_>) -> u64 {
        let taken = oracle.trace().deviations();
        if taken.len() >= self.bound {
            return 0;
        }
        let mut left = 0;
        let first = behind(oracle.questions(), taken.last());
        for (place, question) in oracle.questions().iter().enumerate().skip(first).rev() {
            for way in (1..question.ways).rev() {
                let Question { label, occurrence, .. } = *question;
                let last = Deviation { label: label.into(), occurrence, value: way };
                let trace: Trace = taken.iter().cloned().chain([last]).collect();
                if left_out.has(place, &trace) {
                    left += 1;
                } else {
                    self.to_come.push(trace);
                }
            }
        }
        left
    }
}

/// Where the questions begin that came behind an answer.
fn behind(questions: &[Question], last: Option<&Deviation>) -> usize {
    let Some(last) = last else { return 0 };
    let is_it = |question: &Question| question.occurrence == last.occurrence && question.label == last.label;
    questions.iter().rposition(is_it).map_or(questions.len(), |place| place + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A world with three questions; the last is asked only where the first was answered so.
    fn run(oracle: &mut Oracle) -> Vec<usize> {
        let first = oracle.choose("task", 2);
        let second = oracle.choose("latency", 3);
        let third = if first == 1 { oracle.choose("task", 2) } else { 0 };
        vec![first, second, third]
    }

    fn orders(bound: usize) -> Vec<Vec<usize>> {
        let mut dfs = Dfs::new(bound, false);
        let mut orders = Vec::new();
        while let Some(mut oracle) = dfs.next() {
            orders.push(run(&mut oracle));
            dfs.played(&oracle, LeftOut::default());
        }
        orders
    }

    #[test]
    fn without_a_bound_every_order_is_played_once() {
        let all = orders(usize::MAX);
        assert_eq!(all.len(), 3 + 2 * 3);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn a_bound_is_how_many_answers_are_not_the_usual_ones() {
        assert_eq!(orders(0), [[0, 0, 0]]);
        assert_eq!(orders(1), [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 2, 0]]);
        let two = [[1, 1, 0], [1, 2, 0], [1, 0, 1]];
        let expected: BTreeSet<_> = orders(1).into_iter().chain(two.map(Vec::from)).collect();
        assert_eq!(orders(2).into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
