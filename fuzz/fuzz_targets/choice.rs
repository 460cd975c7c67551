//! Generated machines and operations, perhaps with a fault, in an order that libFuzzer chooses: each byte that is left answers one
//! question of the simulator. What must hold then is what holds after a sweep's fault: nothing that the guest was told is lost, no
//! guest is left frozen, and what is told is so.
//!
//! With a folder in `FREEZEFRAME_REGRESSIONS` what is found is shrunk to a scenario and written there, before the target breaks off:
//! `freezeframe run` plays it.

#![no_main]

mod topology;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use arbitrary::{Arbitrary, Unstructured};
use camino::Utf8Path;
use freezeframe::{
    explore::{self, Subject},
    language::{Fault, Scenario},
    shrink::{self, Kept},
    sweep::{self, Kind, Survey},
    world::sim::Simulator,
};
use freezeframe_sim::{Oracle, Release, oracle::Trace};
use libfuzzer_sys::{Corpus, fuzz_target};
use topology::Topology;

/// How a fuzzer says it: the machine, a release, which fault, and the answers.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    topology: Topology,
    release: u8,
    fault: Option<u16>,
    answers: &'a [u8],
}

/// As in the command: a run is short, and makes and drops a great many small things.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What can go wrong. The driver is not killed here: that is for the sweep.
const KINDS: [Kind; 9] = [
    Kind::LoseReply,
    Kind::Disconnect,
    Kind::KillQemu,
    Kind::Silence,
    Kind::Duplicate,
    Kind::Delay,
    Kind::Error,
    Kind::Garbage,
    Kind::Split,
];

/// How many machines are remembered, at some 30 kB each. An input that differs in its fault or its order alone, and most do once a
/// corpus has grown, need not play its machine as it stands once more.
const REMEMBERED: usize = 4096;

/// A machine's life as it goes where nothing is added.
struct Life {
    scenario: Scenario,
    survey: Rc<Survey>,
    faults: Vec<Fault>,
}

/// What is known from earlier inputs. It decides nothing: a run is the same without.
struct Known {
    simulator: Simulator,
    lives: BTreeMap<(String, Release), Rc<Life>>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::new(Known { simulator: Simulator::new(), lives: BTreeMap::new() });
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match Input::arbitrary_take_rest(Unstructured::new(bytes)) {
        Ok(input) => KNOWN.with_borrow_mut(|known| play(known, &input)),
        Err(_) => Corpus::Reject,
    }
});

fn play(known: &mut Known, input: &Input<'_>) -> Corpus {
    let text = input.topology.text();
    let release = Release::ALL[usize::from(input.release) % Release::ALL.len()];
    let Some(life) = known.life(&text, release) else { return Corpus::Reject };
    let fault = input.fault.filter(|_| !life.faults.is_empty());
    let fault = fault.map(|number| &life.faults[usize::from(number) % life.faults.len()]);
    let added = fault.map_or(&[][..], std::slice::from_ref);
    // Nobody has written how its steps are to end.
    let subject = Subject::new(&life.scenario, release, life.survey.clone(), added).however_steps_end();
    let played = explore::play(&mut known.simulator, &subject, Oracle::bytes(input.answers.to_vec()));
    if let Some(finding) = played.findings.first() {
        let order = played.oracle.trace();
        let found =
            shrink::Found { text: &text, release, faults: added, order, shows: finding.shows, by: "choice" };
        keep(&mut known.simulator, &found);
        let fault = fault.map(sweep::toml).unwrap_or_default();
        panic!("{release}: {}\n{text}\n{fault}\n# order: {}", finding.what, played.oracle.trace());
    }
    Corpus::Keep
}

impl Known {
    /// The life of a machine on a release, which holds by itself; none if it is no scenario.
    fn life(&mut self, text: &str, release: Release) -> Option<Rc<Life>> {
        let key = (text.to_owned(), release);
        if let Some(life) = self.lives.get(&key) {
            return Some(life.clone());
        }
        let scenario = Scenario::parse(Utf8Path::new("fuzzed.toml"), text).ok()?;
        let survey = sweep::survey(&mut self.simulator, &scenario, release)
            .unwrap_or_else(|stuck| panic!("{release}: {stuck}\n{text}"));
        if let Some(first) = survey.violations.first() {
            let (shows, order) = (first.invariant, Trace::default());
            let found = shrink::Found { text, release, faults: &[], order: &order, shows, by: "choice" };
            keep(&mut self.simulator, &found);
            panic!("{release}: {first}\n{text}");
        }
        let faults = sweep::single_faults(&scenario, &survey.places, &KINDS).collect();
        let life = Rc::new(Life { scenario, survey: Rc::new(survey), faults });
        if self.lives.len() >= REMEMBERED {
            self.lives.clear();
        }
        self.lives.insert(key, life.clone());
        Some(life)
    }
}

/// Writes it as a scenario, if somebody wants that.
fn keep(simulator: &mut Simulator, found: &shrink::Found<'_>) {
    let Ok(folder) = std::env::var("FREEZEFRAME_REGRESSIONS") else { return };
    let Some(small) = shrink::shrink(simulator, found) else { return };
    match shrink::keep(Utf8Path::new(&folder), &small) {
        Ok(Kept::Written(path) | Kept::Before(path)) => eprintln!("kept: {path}"),
        Err((path, error)) => eprintln!("not kept: {path}: {error}"),
    }
}
