//! How a run went, step by step, so that the same is not played twice: what has strayed in one step and is back on the usual course
//! behind it goes on as usual, and what happens there then is what happens there without it.
//!
//! ```text
//! usual:            step 1 ------ step 2 ------ step 3 ------
//! a deviation:      step 1 ~d~~~~ step 2 ------ step 3 ------      back on course behind step 1
//! a fault:          step 1 ------ step 2 ~~f~~~ step 3 ------      back on course behind step 2
//! both, d before f: is what f is by itself: left out, for d is back on course before f strikes
//! both, d behind f: is what d is by itself: left out, for f is back on course before d is asked
//! ```
//!
//! A run is back on course behind a step when from there on the same is said and done in the same order as usually, time aside, and
//! the simulator asks the same questions in the same order with as many ways each. The driver's futures cannot be compared, nor can
//! the whole world: but a driver between two operations holds little more than its connection, and whatever the simulated world
//! has kept that makes a difference makes one in what it says and asks. Within one step nothing is left out.

use std::collections::BTreeSet;

use freezeframe_sim::oracle::{Deviation, Question, Trace};

use super::{Mode, Played};
use crate::transcript::Direction;

/// How a run went.
#[derive(Debug, Clone)]
pub(super) struct Course {
    /// How much had been asked when each step was over.
    ends: Vec<usize>,
    /// What was said and done, time aside.
    said: Vec<String>,
    /// Where in that each step begins; more than once if it was tried again.
    begins: Vec<usize>,
    questions: Vec<Question>,
    /// In which step it has strayed last; none if it is the usual one.
    strayed: Option<usize>,
}

impl Course {
    /// Of a run that came to its end, and kept all that was asked.
    pub(super) fn of(played: &Played) -> Option<Self> {
        let lines = played.run.as_ref()?.lines();
        let begins = lines.iter().enumerate().filter(|(_, line)| line.direction == Direction::Step);
        let begins = begins.map(|(place, _)| place).collect();
        let said =
            lines.iter().map(|line| format!("{} {} {}", line.lane, line.direction, line.text)).collect();
        let questions = played.oracle.questions().to_vec();
        let ends: Vec<usize> =
            played.asked.iter().map(|asked| usize::try_from(*asked).unwrap_or(usize::MAX)).collect();
        let step = |place: usize| ends.iter().take_while(|end| **end <= place).count();
        let deviation = played.oracle.trace().deviations().last();
        let deviated = deviation.and_then(|last| place_of(&questions, last)).map(step);
        let strayed = deviated.max(played.struck_in.map(|(_, last)| last));
        Some(Self { ends, said, begins, questions, strayed })
    }

    /// From which question on it goes as usual; none if there is no step behind the last one in which it has strayed, or it does not.
    fn back_from(&self, usual: &Course) -> Option<usize> {
        let steps = usual.ends.len();
        let strayed = self.strayed?;
        let left = steps.checked_sub(strayed + 1).filter(|left| *left > 0)?;
        // What is tried again, or put right by another driver, in the usual course itself, has no steps to be told apart.
        if self.ends.len() != steps || usual.begins.len() != steps {
            return None;
        }
        let behind = |course: &Course| {
            let from = *course.begins.get(course.begins.len().checked_sub(left)?)?;
            Some((course.said[from..].to_vec(), course.ends[strayed]))
        };
        let ((said, asked), (usually_said, usually_asked)) = (behind(self)?, behind(usual)?);
        let same = said == usually_said
            && self.questions.get(asked..).map(ways) == usual.questions.get(usually_asked..).map(ways);
        same.then_some(asked)
    }
}

fn ways(questions: &[Question]) -> Vec<(&'static str, usize)> {
    questions.iter().map(|question| (question.label, question.ways)).collect()
}

fn place_of(questions: &[Question], deviation: &Deviation) -> Option<usize> {
    let is_it = |question: &Question| {
        question.occurrence == deviation.occurrence && question.label == deviation.label
    };
    questions.iter().rposition(is_it)
}

/// What the orders without a fault have shown, for those with one.
#[derive(Debug, Clone, Default)]
pub struct Known {
    usual: Option<Course>,
    /// The orders that are back on course behind the step in which they have strayed, as text, with that step.
    back: BTreeSet<String>,
}

/// Which orders behind a run are left out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LeftOut<'k> {
    /// All that stray at this question, or a later one.
    from: Option<usize>,
    /// Those that are known, if they stray before this question: the fault strikes behind it.
    known: Option<(&'k Known, usize)>,
}

impl Known {
    /// Looks at a run without a fault.
    pub(super) fn learn(&mut self, played: &Played) {
        let Some(course) = Course::of(played) else { return };
        match &self.usual {
            None => self.usual = Some(course),
            Some(usual) => {
                if course.back_from(usual).is_some() {
                    self.back.insert(played.oracle.trace().to_string());
                }
            }
        }
    }

    /// Which of the orders behind a run are left out: all that stray where it goes as usual, and, if this is the last time that they
    /// may, those that are back on course before the fault strikes.
    pub(super) fn left_out(&self, played: &Played, mode: Mode) -> LeftOut<'_> {
        let Mode::Dfs { bound } = mode else { return LeftOut::default() };
        let strayed = played.oracle.trace().deviations().len();
        // Behind the last runs of all there are none.
        let course = (strayed < bound).then(|| Course::of(played)).flatten();
        let (Some(usual), Some(course)) = (&self.usual, course) else { return LeftOut::default() };
        let fault_in = played.struck_in.map(|(first, _)| first).filter(|_| strayed + 1 == bound);
        let before = fault_in.and_then(|step| usual.ends.get(step.checked_sub(1)?).copied());
        LeftOut { from: course.back_from(usual), known: before.map(|before| (self, before)) }
    }
}

impl LeftOut<'_> {
    /// Whether an order is left out that strays last at this question.
    pub(super) fn has(&self, place: usize, trace: &Trace) -> bool {
        self.from.is_some_and(|from| place >= from)
            || self
                .known
                .is_some_and(|(known, before)| place < before && known.back.contains(&trace.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use freezeframe_sim::Release;

    use super::*;
    use crate::{
        explore::{Beside, Orders as _, Subject, dfs::Dfs, explore_beside, play},
        language::{Fault, Scenario},
        sweep::{self, Kind, Place},
        world::sim::Simulator,
    };

    const SCENARIO: &str = "id = 'a'\ntitle = 't'\nwhy = 'w'\n\
        [machine]\ndisks = [{ target = 'vda' }]\nrecords = true\n\
        [[step]]\nsnapshot = { name = 's1', disk-only = true }\n\
        [[step]]\nsnapshot = { name = 's2', disk-only = true, dry-run = true }\n";

    const ALL: Mode = Mode::Dfs { bound: 1 };

    /// What was said and done in each step, in all orders that were played. A step that was tried again is more than one.
    type Said = BTreeSet<String>;

    fn steps(played: &Played) -> Said {
        let course = Course::of(played).expect("it came to its end");
        let ends = course.begins.iter().skip(1).copied().chain([course.said.len()]);
        let steps = course.begins.iter().zip(ends).map(|(from, to)| course.said[*from..to].join("\n"));
        steps.collect()
    }

    /// Plays all that there are, and says how many, how many were left out, and what was said.
    fn all(simulator: &mut Simulator, subject: &Subject, known: Option<&Known>) -> (u64, u64, Said) {
        let (mut runs, mut left_out, mut said) = (0, 0, Said::new());
        let mut orders = Dfs::new(1, true);
        while let Some(order) = orders.next() {
            let played = play(simulator, subject, order);
            runs += 1;
            said.extend(steps(&played));
            let less = known.map(|known| known.left_out(&played, ALL)).unwrap_or_default();
            left_out += orders.played(&played.oracle, less);
        }
        (runs, left_out, said)
    }

    #[test]
    fn what_is_left_out_is_said_and_done_in_what_is_played() {
        let scenario = Scenario::parse("a.toml".into(), SCENARIO).expect("it is a scenario");
        let (mut simulator, release) = (Simulator::new(), Release::V10_0);
        let usual = Rc::new(sweep::survey(&mut simulator, &scenario, release).expect("it is played"));
        let subject = |faults: &[Fault]| Subject::new(&scenario, release, usual.clone(), faults);
        let alone = explore_beside(&mut simulator, &subject(&[]), ALL, Beside::TheUsual, || true);
        assert_eq!((alone.is_exhausted, alone.left_out), (true, 0));
        let (runs, _, usually_said) = all(&mut simulator, &subject(&[]), None);
        assert_eq!(runs, alone.runs);

        let kinds = [Kind::Duplicate, Kind::Split, Kind::Error, Kind::KillDriver];
        let faults: Vec<_> = sweep::single_faults(&scenario, &usual.places, &kinds).collect();
        let is_in = |fault: &Fault, step| {
            let is_it = |place: &&Place| place.moment == fault.at.moment && place.nth == fault.at.nth;
            usual.places.iter().find(is_it).is_some_and(|place| place.step == step)
        };
        for step in [0, 1] {
            let mut all_left_out = 0;
            for fault in faults.iter().filter(|fault| is_in(fault, step)).step_by(25) {
                let subject = subject(std::slice::from_ref(fault));
                let (whole, _, said) = all(&mut simulator, &subject, None);
                let (runs, left_out, mut said_in_less) = all(&mut simulator, &subject, Some(&alone.known));
                assert_eq!(runs + left_out, whole, "{}", sweep::toml(fault));
                said_in_less.extend(usually_said.iter().cloned());
                let unheard: Vec<_> = said.difference(&said_in_less).collect();
                assert!(unheard.is_empty(), "{}: {unheard:#?}", sweep::toml(fault));
                all_left_out += left_out;
            }
            assert!(all_left_out > 20, "{all_left_out} left out, with faults in step {step}");
        }
    }
}
