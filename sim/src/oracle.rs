//! The one question that everything which could have gone otherwise asks.
//!
//! Which of two equal timers fires, how long a command waits, where a burst of bytes is cut: each place that
//! has a choice gives it a label and asks [`Oracle::choose`]. The answer 0 is what usually happens. A run is
//! decided by its inputs and these answers alone, so the [`Trace`] of the answers repeats it bit for bit.
//!
//! Only the strategy differs from mode to mode; counting and recording are done here, once for all of them.
//! The oracle does not know what is asked about, and it keeps no answer that is 0. Who looks for all orders lets it keep every
//! [`Question`].
//!
//! | module | |
//! | --- | --- |
//! | [`trace`] | the answers that were not 0, as text and back |
//! | `priorities` | answers that stand until they change: [`Oracle::prioritised`] |
//! | `split_mix` | the pseudo-random numbers of [`Oracle::seeded`] |

pub mod trace;

mod priorities;
mod split_mix;

use std::{borrow::Cow, collections::BTreeMap};

pub use trace::{BadTrace, Deviation, Trace};

use self::{priorities::Priorities, split_mix::SplitMix64};

/// Answers [`Oracle::choose`], and remembers what it answered.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    strategy: Strategy,
    asked: Vec<Asked>,
    taken: Trace,
    /// Everything that was asked, if somebody wants to know.
    questions: Option<Vec<Question>>,
}

/// Something that could have gone otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// What was asked about.
    pub label: &'static str,
    /// Which time that label was asked for, from 0.
    pub occurrence: u32,
    /// How many ways there were; at least two.
    pub ways: usize,
}

/// How answers are found.
#[derive(Debug, Clone, Default)]
enum Strategy {
    /// Always 0.
    #[default]
    Default,
    /// Every answer as likely as the others.
    Seeded(SplitMix64),
    /// For each label the same, but for a few changes.
    Prioritised(Priorities),
    /// What a trace says; 0 where it is silent.
    Replay(BTreeMap<Cow<'static, str>, BTreeMap<u32, usize>>),
    /// One byte an answer; 0 when they are used up.
    Bytes(std::vec::IntoIter<u8>),
}

/// How often one label was asked for.
#[derive(Debug, Clone)]
struct Asked {
    label: &'static str,
    times: u32,
}

impl Oracle {
    /// What usually happens, always.
    pub fn default_order() -> Self {
        Self::default()
    }

    /// Every answer equally likely, decided by the seed.
    pub fn seeded(seed: u64) -> Self {
        Self::of(Strategy::Seeded(SplitMix64::new(seed)))
    }

    /// For each label an answer that stands, all decided by the seed; at up to `changes` of the first `questions` questions
    /// that of the label that is asked for there changes.
    pub fn prioritised(seed: u64, changes: usize, questions: u64) -> Self {
        Self::of(Strategy::Prioritised(Priorities::new(seed, changes, questions)))
    }

    /// What the trace says, and 0 wherever it says nothing. A value that is out of range by now counts as the
    /// last one there is, so that a trace survives a choice that lost a way.
    pub fn replay(trace: Trace) -> Self {
        let mut answers: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for deviation in trace.deviations() {
            answers.entry(deviation.label.clone()).or_default().insert(deviation.occurrence, deviation.value);
        }
        Self::of(Strategy::Replay(answers))
    }

    /// One byte for each question, as a fuzzer gives them, and 0 when they are used up.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self::of(Strategy::Bytes(bytes.into_iter()))
    }

    /// The same, and it keeps all that it is asked: [`Oracle::questions`].
    #[must_use]
    pub fn keeping_questions(self) -> Self {
        Self { questions: Some(Vec::new()), ..self }
    }

    fn of(strategy: Strategy) -> Self {
        Self { strategy, ..Self::default() }
    }

    /// Which of `n` ways this goes; 0 is what usually happens. With fewer than two ways there is no question:
    /// the answer is 0 and it is neither counted nor recorded.
    pub fn choose(&mut self, label: &'static str, n: usize) -> usize {
        if n < 2 {
            return 0;
        }
        let occurrence = self.count(label);
        let value = match &mut self.strategy {
            Strategy::Default => 0,
            Strategy::Seeded(numbers) => numbers.below(n),
            Strategy::Prioritised(priorities) => priorities.answer(label, n),
            Strategy::Replay(answers) => {
                let answer = answers.get(label).and_then(|answers| answers.get(&occurrence));
                answer.copied().unwrap_or(0).min(n - 1)
            }
            Strategy::Bytes(bytes) => bytes.next().map_or(0, |byte| usize::from(byte) % n),
        };
        if let Some(questions) = &mut self.questions {
            questions.push(Question { label, occurrence, ways: n });
        }
        if value != 0 {
            self.taken.push(Deviation { label: label.into(), occurrence, value });
        }
        value
    }

    /// Every answer so far that was not 0. [`Oracle::replay`] of it gives the same run.
    pub fn trace(&self) -> &Trace {
        &self.taken
    }

    /// How many questions were asked so far.
    pub fn choices(&self) -> u64 {
        self.asked.iter().map(|asked| u64::from(asked.times)).sum()
    }

    /// Every question so far, in order; none unless it keeps them.
    pub fn questions(&self) -> &[Question] {
        self.questions.as_deref().unwrap_or_default()
    }

    /// Which time this is that the label is asked for, from 0. There are a few dozen labels, and nearly always
    /// a label is the same text at the same address: looking from front to back beats any map.
    fn count(&mut self, label: &'static str) -> u32 {
        let known =
            self.asked.iter_mut().find(|asked| std::ptr::eq(asked.label, label) || asked.label == label);
        match known {
            Some(asked) => {
                asked.times += 1;
                asked.times - 1
            }
            None => {
                self.asked.push(Asked { label, times: 1 });
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(oracle: &mut Oracle) -> Vec<usize> {
        (0..20)
            .map(|i| if i % 3 == 0 { oracle.choose("latency", 3) } else { oracle.choose("task", 5) })
            .collect()
    }

    #[test]
    fn the_default_order_never_deviates() {
        let mut oracle = Oracle::default_order();
        assert_eq!(ask(&mut oracle), vec![0; 20]);
        assert_eq!(oracle.trace().to_string(), "");
    }

    #[test]
    fn the_same_seed_gives_the_same_answers_and_another_seed_others() {
        assert_eq!(ask(&mut Oracle::seeded(7)), ask(&mut Oracle::seeded(7)));
        assert_ne!(ask(&mut Oracle::seeded(7)), ask(&mut Oracle::seeded(8)));
    }

    #[test]
    fn what_stands_is_answered_until_it_changes() {
        let unlike_their_first = |changes| {
            let mut oracle = Oracle::prioritised(3, changes, 20);
            let answers = ask(&mut oracle);
            (0..20).filter(|&i| answers[i] != answers[usize::from(i % 3 != 0)]).count()
        };
        assert_eq!(unlike_their_first(0), 0);
        assert!(unlike_their_first(4) > 0);
        assert_eq!(
            ask(&mut Oracle::prioritised(3, 4, 20)),
            ask(&mut Oracle::prioritised(3, 4, 20)),
            "the seed decides"
        );
    }

    #[test]
    fn every_question_is_kept_where_somebody_wants_to_know() {
        let mut oracle = Oracle::bytes(vec![1, 0]).keeping_questions();
        oracle.choose("latency", 3);
        oracle.choose("task", 1);
        oracle.choose("latency", 2);
        let latency = |occurrence, ways| Question { label: "latency", occurrence, ways };
        assert_eq!(oracle.questions(), [latency(0, 3), latency(1, 2)]);
        assert_eq!(oracle.choices(), 2);
        assert_eq!(Oracle::default_order().questions(), []);
    }

    #[test]
    fn replaying_a_trace_through_its_text_repeats_the_run() {
        let mut first = Oracle::seeded(3);
        let answers = ask(&mut first);
        let text = first.trace().to_string();
        let mut again = Oracle::replay(text.parse().unwrap());
        assert_eq!(ask(&mut again), answers);
        assert_eq!(again.trace().to_string(), text);
    }

    #[test]
    fn a_trace_names_only_what_deviates() {
        let mut oracle = Oracle::bytes(vec![0, 1, 0, 2]);
        for _ in 0..6 {
            oracle.choose("latency", 3);
        }
        assert_eq!(oracle.trace().to_string(), "latency#1=1 latency#3=2");
    }

    #[test]
    fn bytes_that_are_used_up_leave_the_default() {
        let mut oracle = Oracle::bytes(vec![5, 255]);
        let answers: Vec<_> = (0..4).map(|_| oracle.choose("task", 4)).collect();
        assert_eq!(answers, [1, 3, 0, 0]);
    }

    #[test]
    fn where_there_is_one_way_nothing_is_asked_or_counted() {
        let mut oracle = Oracle::bytes(vec![1]);
        assert_eq!(oracle.choose("task", 0), 0);
        assert_eq!(oracle.choose("task", 1), 0);
        assert_eq!(oracle.choose("task", 2), 1);
        assert_eq!(oracle.trace().to_string(), "task#0=1");
    }

    #[test]
    fn a_replayed_value_that_is_out_of_range_is_the_last_way() {
        let mut oracle = Oracle::replay("task#0=9".parse().unwrap());
        assert_eq!(oracle.choose("task", 3), 2);
    }
}
