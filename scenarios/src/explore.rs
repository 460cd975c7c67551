//! Every order: plays a scenario again and again, each time with other answers of the one oracle of choice: which task goes first,
//! how late a reply is, where bytes are cut, what ends before what. What must hold in each is what holds after a fault:
//! [`crate::oracle`], and, where no fault is added, how the scenario says that its steps end.
//!
//! ```text
//! a mode --> an order --> the scenario, and perhaps one more fault --> what does not hold, with its trace
//!    ^                                  |
//!    +--- what was asked in it ---------+     dfs: each answer that was not yet given is an order to come
//! ```
//!
//! | mode | its orders |
//! | --- | --- |
//! | `random` | every answer as likely as the others: a run for each seed |
//! | `pct` | answers that stand for a whole run, but for a few changes: a run for each seed |
//! | `dfs` | all that differ from the default in at most so many answers, each once: it comes to an end |
//!
//! A run is decided by the scenario, the release, the faults and the trace. Nothing here knows a clock: whoever asks for orders
//! says when it is enough.
//!
//! Where all is played with one fault and without, what the fault and a choice are to each other is looked at: in different steps
//! of the scenario, between which all goes as usual, each is what it is by itself, and the two together are left out (`course`).
//! Within a step no order is left out as like another one: what two have in common is known only when both have been played, for
//! the driver's futures cannot be compared.

mod course;
mod dfs;
mod pct;
mod random;
mod shrink;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use freezeframe_sim::{Oracle, Release, oracle::Trace};

pub use self::course::Known;
use self::{course::LeftOut, dfs::Dfs, pct::Pct, random::Random};
use crate::{
    language::{Fault, Invariant, Scenario},
    oracle::Violation,
    play::Run,
    sweep::{self, Outcome, Survey},
    world::sim::Simulator,
};

/// Which orders are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One for each seed, from this one on: every answer as likely as the others.
    Random {
        /// The first seed.
        seed: u64,
        /// How many; without it there is no end.
        runs: Option<u64>,
    },
    /// The default, and then one for each seed, from this one on: answers that stand but for a few changes.
    Pct {
        /// The first seed.
        seed: u64,
        /// How many, the default among them; without it there is no end.
        runs: Option<u64>,
        /// How many changes there are at most.
        bound: usize,
    },
    /// All orders.
    Dfs {
        /// In how many answers they differ from the default at most.
        bound: usize,
    },
}

impl Mode {
    /// `keeps` says whether somebody wants to know all that was asked, in the last runs too.
    fn orders(self, keeps: bool) -> Box<dyn Orders> {
        match self {
            Mode::Random { seed, runs } => Box::new(Random::new(seed, runs)),
            Mode::Pct { seed, runs, bound } => Box::new(Pct::new(seed, runs, bound)),
            Mode::Dfs { bound } => Box::new(Dfs::new(bound, keeps)),
        }
    }
}

/// The orders of a mode, one after the other.
trait Orders {
    /// The next one; none if all have been played.
    fn next(&mut self) -> Option<Oracle>;

    /// That order was played, and this is its oracle now. Returns how many of those behind it are left out.
    fn played(&mut self, _oracle: &Oracle, _left_out: LeftOut<'_>) -> u64 {
        0
    }
}

/// What is played in many orders: a scenario on a release, with these faults beside its own.
#[derive(Debug)]
pub struct Subject {
    scenario: Scenario,
    release: Release,
    usual: Rc<Survey>,
    /// Whether it goes as the scenario says: no fault was added.
    as_written: bool,
}

impl Subject {
    /// For a scenario that goes so where nothing is added, in the default order.
    pub fn new(scenario: &Scenario, release: Release, usual: Rc<Survey>, faults: &[Fault]) -> Self {
        let with = sweep::with_faults(scenario, faults);
        Self { scenario: with, release, usual, as_written: faults.is_empty() }
    }

    /// The same where nobody has written how the steps are to end: only what must hold in any case is looked at.
    #[must_use]
    pub fn however_steps_end(self) -> Self {
        Self { as_written: false, ..self }
    }

    /// The same where how the steps are to end is looked at, whatever was added.
    #[must_use]
    pub fn as_written(self) -> Self {
        Self { as_written: true, ..self }
    }
}

/// How one order went.
#[derive(Debug)]
pub struct Played {
    /// What was said and done; none if the run broke off.
    pub run: Option<Run>,
    /// What did not hold.
    pub findings: Vec<Finding>,
    /// What decided it.
    pub oracle: Oracle,
    /// How many of the faults struck.
    pub struck: usize,
    /// In which step one has struck first, and in which last.
    struck_in: Option<(usize, usize)>,
    /// How much had been asked when each step was over.
    asked: Vec<u64>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which of the things that must hold.
    pub shows: Invariant,
    /// What, in words.
    pub what: String,
    /// What was told of the step, if that is known.
    pub told: Option<String>,
}

/// What was found in many orders.
#[derive(Debug, Default)]
pub struct Explored {
    /// How many runs there were.
    pub runs: u64,
    /// How often it could have gone otherwise, in all of them.
    pub choices: u64,
    /// How many orders were not played, with all behind them, for they are what was played by itself.
    pub left_out: u64,
    /// What is known of the orders without a fault, if that was to be learned.
    pub known: Known,
    /// No order of the mode is left.
    pub is_exhausted: bool,
    /// What did not hold, in words.
    pub found: BTreeMap<String, Found>,
}

/// In which orders something did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which of the things that must hold.
    pub shows: Invariant,
    /// One of them, of which no deviation can be left out.
    pub trace: Trace,
    /// What was told in that one, if that is known.
    pub told: Option<String>,
    /// How many there were.
    pub runs: u64,
}

/// What orders are compared with, so that those that show nothing of their own are left out.
#[derive(Debug, Clone, Copy)]
pub enum Beside<'k> {
    /// Nothing: all are played.
    Nothing,
    /// The usual one, where no fault is added: what they show is learned.
    TheUsual,
    /// What was learned of them without a fault: that was played, or is.
    Without(&'k Known),
}

/// Plays a subject in all orders of a mode, for as long as there is one and `goes_on` says so, which is asked before each.
pub fn explore(
    simulator: &mut Simulator,
    subject: &Subject,
    mode: Mode,
    goes_on: impl FnMut() -> bool,
) -> Explored {
    explore_beside(simulator, subject, mode, Beside::Nothing, goes_on)
}

/// The same without those that show nothing of their own.
pub fn explore_beside(
    simulator: &mut Simulator,
    subject: &Subject,
    mode: Mode,
    beside: Beside<'_>,
    mut goes_on: impl FnMut() -> bool,
) -> Explored {
    let mut explored = Explored::default();
    let mut orders = mode.orders(matches!(beside, Beside::TheUsual));
    loop {
        let Some(order) = orders.next() else {
            explored.is_exhausted = true;
            break;
        };
        if !goes_on() {
            break;
        }
        let played = play(simulator, subject, order);
        explored.runs += 1;
        explored.choices += played.oracle.choices();
        for finding in played.findings.iter().cloned() {
            explored.add(finding, played.oracle.trace());
        }
        let oracle = &played.oracle;
        explored.left_out += match beside {
            Beside::Nothing => orders.played(oracle, LeftOut::default()),
            Beside::TheUsual => {
                explored.known.learn(&played);
                orders.played(oracle, explored.known.left_out(&played, mode))
            }
            Beside::Without(known) => orders.played(oracle, known.left_out(&played, mode)),
        };
    }
    for (what, found) in &mut explored.found {
        let Found { trace, told, .. } = found;
        *trace = shrink::shrink(trace, |trace| {
            let played = play(simulator, subject, Oracle::replay(trace));
            let shown = played.findings.into_iter().find(|finding| finding.what == *what);
            shown.map(|finding| *told = finding.told).is_some()
        });
    }
    explored
}

impl Explored {
    fn add(&mut self, finding: Finding, trace: &Trace) {
        let Finding { shows, what, told } = finding;
        let new = || Found { shows, trace: trace.clone(), told, runs: 0 };
        self.found.entry(what).or_insert_with(new).runs += 1;
    }
}

/// Plays a subject in one order.
pub fn play(simulator: &mut Simulator, subject: &Subject, order: Oracle) -> Played {
    let mut watcher = None;
    let Subject { scenario, release, usual, as_written } = subject;
    let run = || sweep::watched(simulator, scenario, *release, Some(usual.clone()), order, &mut watcher);
    // Each run has a world of its own, and what a run has broken off in is not used any more.
    let (run, broke_off) = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(run)) => (Some(run), None),
        Ok(Err(stuck)) => (None, Some((Invariant::Bound, stuck.to_string()))),
        Err(_) => (None, Some((Invariant::Panic, "the run has broken off with a panic".to_owned()))),
    };
    let outcome = watcher.as_ref().map(|watcher| watcher.outcome()).unwrap_or_default();
    let Outcome { violations, struck, struck_in, asked, .. } = outcome;
    let mut findings: Vec<_> = violations.into_iter().map(Finding::from).collect();
    let unlike_written = run.iter().filter(|_| *as_written).flat_map(|run| &run.findings).cloned();
    let unlike_written = unlike_written.map(|what| (Invariant::Written, what));
    let in_words = unlike_written.chain(broke_off);
    findings.extend(in_words.map(|(shows, what)| Finding { shows, what, told: None }));
    let oracle = watcher.map(|watcher| watcher.take_oracle()).unwrap_or_default();
    Played { run, findings, oracle, struck, struck_in, asked }
}

impl From<Violation> for Finding {
    fn from(violation: Violation) -> Self {
        let (shows, what) = (violation.invariant, violation.to_string());
        Self { shows, what, told: Some(violation.told) }
    }
}
