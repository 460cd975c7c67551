//! So and so many random steps over one program of one release.
//!
//! A campaign is a row of sequences, each with a machine of its own. A sequence that shows a difference is told again, and
//! if it is seen again ([`verdict`]) shrunk to the fewest commands that still show it. The same seed gives the same
//! sequences.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use freezeframe::fidelity::{known::Known, recording::Recording};
use freezeframe_sim::Release;
use proptest::{
    strategy::{Just, Strategy as _},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use proptest_state_machine::strategy::Sequential;
use serde_json::json;

use super::{
    command::{self, Command},
    model::{self, Model},
    pair::{Compared, Failure, Pair, Peer, Stepped},
    server::Program,
    verdict::{self, REPETITIONS, Verdict},
};

/// How many commands a machine is told before the next is started.
const LENGTH: usize = 50;

/// How many tries are made to find fewer commands that show a difference.
const SHRINKING: u32 = 200;

/// How the real program is started.
pub type Start<'a> = &'a dyn Fn() -> Result<Box<dyn Peer>, Box<dyn Error>>;

/// What is played.
#[derive(Clone)]
pub struct Campaign<'a> {
    /// The program.
    pub program: Program,
    /// Its release.
    pub release: Release,
    /// Starts one of it.
    pub start: Start<'a>,
    /// How many steps.
    pub steps: usize,
    /// What decides all commands.
    pub seed: u64,
    /// After how many differences it ends early.
    pub enough: usize,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Steps after which the same was said.
    pub same: usize,
    /// Machines that were started.
    pub sequences: usize,
    /// What the simulator does not know, and how often it was asked for.
    pub not_simulated: BTreeMap<String, usize>,
    /// Connections on which the real program greeted a second time.
    pub greeted_again: usize,
    /// The differences that were seen once, with all the commands up to them.
    pub seen_once: Vec<Finding>,
    /// The differences that were seen again.
    pub found: Vec<Finding>,
}

impl Outcome {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        Verdict { differ: self.found.len(), seen_once: self.seen_once.len() }
    }
}

/// One difference.
#[derive(Debug)]
pub struct Finding {
    /// Commands that show it.
    pub commands: Vec<Command>,
    /// Where the two part.
    pub difference: String,
    /// What the real program said to them.
    pub recording: Option<Recording>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown: usize = self.not_simulated.values().sum();
        let Self { same, sequences, greeted_again, .. } = self;
        let Verdict { differ, seen_once } = self.verdict();
        write!(f, "{same} steps the same in {sequences} sequences, {greeted_again} greeted again, ")?;
        write!(f, "{unknown} not simulated, {seen_once} seen once, {differ} differ")
    }
}

impl Campaign<'_> {
    /// Plays it.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn play(&self, known: &mut Known) -> Outcome {
        let outcome = RefCell::new(Outcome::default());
        let known = RefCell::new(known);
        while self.goes_on(&outcome.borrow()) {
            let number = outcome.borrow().sequences;
            outcome.borrow_mut().sequences += 1;
            let mut runner = TestRunner::new_with_rng(config(), rng(self.seed, number as u64));
            let played = runner.run(&self.sequences(), |(_, commands, seen)| {
                let (mut outcome, mut known) = (outcome.borrow_mut(), known.borrow_mut());
                let told = match seen {
                    Some(seen) => self.count(&commands, &seen, &mut outcome, &mut known),
                    // Only while it is shrunk.
                    None => self.tell(&commands, &mut known, |_| ()).parted,
                };
                told.map_err(|parted| TestCaseError::fail(parted.0.to_string()))
            });
            match played {
                Ok(()) => {}
                Err(TestError::Fail(reason, (_, commands, _))) => {
                    let again = || self.tell(&commands, &mut known.borrow_mut(), |_| ()).parted.err();
                    let recording = (0..REPETITIONS).find_map(|_| again()).map(|parted| parted.1);
                    let recording =
                        recording.map(|told| Recording { name: format!("{}-{number}", told.name), ..told });
                    let difference = reason.to_string();
                    outcome.borrow_mut().found.push(Finding { commands, difference, recording });
                }
                Err(TestError::Abort(reason)) => panic!("no sequence could be made: {reason}"),
            }
        }
        outcome.into_inner()
    }

    fn goes_on(&self, outcome: &Outcome) -> bool {
        outcome.same < self.steps && outcome.found.len() + outcome.seen_once.len() < self.enough
    }

    /// Tells both a sequence for the first time and counts what comes of it. What is seen once is no error.
    fn count(
        &self,
        commands: &[Command],
        seen: &AtomicUsize,
        outcome: &mut Outcome,
        known: &mut Known,
    ) -> Result<(), Parted> {
        let told = self.tell(commands, known, |stepped| {
            seen.fetch_add(1, Ordering::SeqCst);
            match stepped {
                Stepped::Same | Stepped::Ended => outcome.same += 1,
                Stepped::NotSimulated(what) | Stepped::Parted(what) => {
                    *outcome.not_simulated.entry(what).or_default() += 1
                }
            }
        });
        outcome.greeted_again += told.greeted_again;
        let Err(parted) = told.parted else { return Ok(()) };
        if verdict::is_seen_again(|| self.tell(commands, known, |_| ()).parted) {
            return Err(parted);
        }
        let (failure, recording) = *parted;
        let commands = commands[..seen.load(Ordering::SeqCst)].to_vec();
        let (difference, recording) = (failure.to_string(), Some(recording));
        outcome.seen_once.push(Finding { commands, difference, recording });
        Ok(())
    }

    /// Sequences of commands.
    fn sequences(
        &self,
    ) -> impl proptest::strategy::Strategy<Value = (Model, Vec<Command>, Option<Arc<AtomicUsize>>)> + use<>
    {
        let (program, release) = (self.program, self.release);
        Sequential::new(
            (LENGTH..=LENGTH).into(),
            move || Just(Model::new(program, release)).boxed(),
            |_: &Model, _: &Command| true,
            |model: &Model| command::next(model),
            |model: Model, command: &Command| model.after(command),
        )
    }

    /// Tells both a sequence.
    fn tell(&self, commands: &[Command], known: &mut Known, mut step: impl FnMut(Stepped)) -> Told {
        let real =
            (self.start)().unwrap_or_else(|error| panic!("{:?} of {}: {error}", self.program, self.release));
        let arguments = self.program.name().to_owned();
        let name = format!("{arguments}-{}", self.seed);
        let recording = Recording { release: self.release, name, arguments, lines: Vec::new() };
        let machine = model::machine(self.program);
        let mut pair = Pair::new(real, &machine, recording, Compared::Lanes, known)
            .unwrap_or_else(|failure| panic!("{failure}"));
        let mut steps = || {
            pair.step(&Command { execute: "qmp_capabilities", arguments: json!({}) })?;
            for command in commands {
                let stepped = pair.step(command);
                step(stepped.clone().unwrap_or(Stepped::Same));
                if let Stepped::Parted(_) | Stepped::Ended = stepped? {
                    return Ok(());
                }
            }
            pair.look(self.program)
        };
        let told = steps();
        let greeted_again = pair.greeted_again();
        Told { greeted_again, parted: told.map_err(|failure| Box::new((failure, pair.into_recording()))) }
    }
}

/// Where the two parted, and what the real one said up to there.
type Parted = Box<(Failure, Recording)>;

/// What came of a sequence.
struct Told {
    /// How often the real one greeted again.
    greeted_again: usize,
    parted: Result<(), Parted>,
}

pub(super) fn config() -> Config {
    Config { cases: 1, failure_persistence: None, max_shrink_iters: SHRINKING, ..Config::default() }
}

pub(super) fn rng(seed: u64, sequence: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}
