//! So and so many random steps over one program of one release.
//!
//! A campaign is a row of sequences, each with a machine of its own. A sequence that shows a difference is shrunk to the
//! fewest commands that still do. The same seed gives the same sequences.

use std::{cell::RefCell, collections::BTreeMap, fmt, sync::atomic::Ordering};

use freezeframe::{
    fidelity::{known::Known, recording::Recording},
    world::qemu::Binary,
};
use proptest::{
    strategy::{Just, Strategy as _},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use proptest_state_machine::strategy::Sequential;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::{
    command::{self, Command},
    model::{self, Model},
    pair::{Compared, Failure, Pair, Stepped},
    server::{Program, Server},
};

/// How many commands a machine is told before the next is started.
const LENGTH: usize = 50;

/// How many tries are made to find fewer commands that show a difference.
const SHRINKING: u32 = 200;

/// How often a program is tried to be started.
const STARTS: usize = 4;

/// What is played.
#[derive(Debug, Clone)]
pub struct Campaign<'a> {
    /// The program.
    pub program: Program,
    /// Its QEMU.
    pub binary: &'a Binary,
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
    /// The differences.
    pub found: Vec<Finding>,
}

/// One difference.
#[derive(Debug)]
pub struct Finding {
    /// The fewest commands that were found to show it.
    pub commands: Vec<Command>,
    /// Where the two part.
    pub difference: String,
    /// What the real program said to them; none if they did not part again.
    pub recording: Option<Recording>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown: usize = self.not_simulated.values().sum();
        let (same, sequences, found) = (self.same, self.sequences, self.found.len());
        write!(f, "{same} steps the same in {sequences} sequences, {unknown} not simulated, {found} differ")
    }
}

impl Campaign<'_> {
    /// Plays it.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn play(&self, known: &mut Known) -> Outcome {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = RefCell::new(Outcome::default());
        let known = RefCell::new(known);
        while outcome.borrow().same < self.steps && outcome.borrow().found.len() < self.enough {
            let number = outcome.borrow().sequences as u64;
            outcome.borrow_mut().sequences += 1;
            let mut runner = TestRunner::new_with_rng(config(), rng(self.seed, number));
            let played = runner.run(&self.sequences(), |(_, commands, seen)| {
                let mut known = known.borrow_mut();
                let mut counts = seen.is_some().then(|| outcome.borrow_mut());
                let step = |stepped: Stepped| {
                    if let (Some(counts), Some(seen)) = (&mut counts, &seen) {
                        seen.fetch_add(1, Ordering::SeqCst);
                        match stepped {
                            Stepped::Same | Stepped::Ended => counts.same += 1,
                            Stepped::NotSimulated(what) | Stepped::Parted(what) => {
                                *counts.not_simulated.entry(what).or_default() += 1
                            }
                        }
                    }
                };
                let told = self.tell(&commands, &runtime, &mut known, step);
                told.map_err(|parted| TestCaseError::fail(parted.0.to_string()))
            });
            match played {
                Ok(()) => {}
                Err(TestError::Fail(reason, (_, commands, _))) => {
                    let again = self.tell(&commands, &runtime, &mut known.borrow_mut(), |_| ());
                    let recording = again.err().map(|parted| parted.1).map(|recording| Recording {
                        name: format!("{}-{number}", recording.name),
                        ..recording
                    });
                    let difference = reason.to_string();
                    outcome.borrow_mut().found.push(Finding { commands, difference, recording });
                }
                Err(TestError::Abort(reason)) => panic!("no sequence could be made: {reason}"),
            }
        }
        outcome.into_inner()
    }

    /// Sequences of commands.
    fn sequences(
        &self,
    ) -> impl proptest::strategy::Strategy<
        Value = (Model, Vec<Command>, Option<std::sync::Arc<std::sync::atomic::AtomicUsize>>),
    > + use<> {
        let (program, release) = (self.program, self.binary.release);
        Sequential::new(
            (LENGTH..=LENGTH).into(),
            move || Just(Model::new(program, release)).boxed(),
            |_: &Model, _: &Command| true,
            |model: &Model| command::next(model),
            |model: Model, command: &Command| model.after(command),
        )
    }

    /// Tells both a sequence; what the real one said, too, where that is not the same.
    fn tell(
        &self,
        commands: &[Command],
        runtime: &Runtime,
        known: &mut Known,
        mut step: impl FnMut(Stepped),
    ) -> Result<(), Box<(Failure, Recording)>> {
        let machine = model::machine(self.program);
        let start = || Server::start(self.program, self.binary, &machine, runtime);
        // A host that is busy for a while is no finding.
        let real = (1..STARTS).find_map(|_| start().ok()).map_or_else(start, Ok);
        let real =
            real.unwrap_or_else(|error| panic!("{:?} of {}: {error}", self.program, self.binary.program));
        let arguments = self.program.name().to_owned();
        let name = format!("{arguments}-{}", self.seed);
        let recording = Recording { release: self.binary.release, name, arguments, lines: Vec::new() };
        let mut pair = Pair::new(Box::new(real), &machine, recording, Compared::Lanes, known)
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
        told.map_err(|failure| Box::new((failure, pair.into_recording())))
    }
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
