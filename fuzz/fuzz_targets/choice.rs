//! Generated machines and operations, perhaps with a fault, in an order that libFuzzer chooses: each byte that is left answers one
//! question of the simulator. What must hold then is what holds after a sweep's fault: nothing that the guest was told is lost, no
//! guest is left frozen, and what is told is so.
//!
//! With a folder in `FREEZEFRAME_REGRESSIONS` what is found is shrunk to a scenario and written there, before the target breaks off:
//! `freezeframe run` plays it.

#![no_main]

mod topology;

use std::{cell::RefCell, rc::Rc};

use arbitrary::{Arbitrary, Unstructured};
use camino::Utf8Path;
use freezeframe::{
    explore::{self, Subject},
    language::Scenario,
    shrink::{self, Kept},
    sweep::{self, Kind},
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

thread_local! {
    static SIMULATOR: RefCell<Simulator> = RefCell::new(Simulator::new());
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    match Input::arbitrary_take_rest(Unstructured::new(bytes)) {
        Ok(input) => SIMULATOR.with_borrow_mut(|simulator| play(simulator, &input)),
        Err(_) => Corpus::Reject,
    }
});

fn play(simulator: &mut Simulator, input: &Input<'_>) -> Corpus {
    let text = input.topology.text();
    let Ok(scenario) = Scenario::parse(Utf8Path::new("fuzzed.toml"), &text) else { return Corpus::Reject };
    let release = Release::ALL[usize::from(input.release) % Release::ALL.len()];
    let survey = match sweep::survey(simulator, &scenario, release) {
        Ok(survey) => Rc::new(survey),
        Err(stuck) => panic!("{release}: {stuck}\n{text}"),
    };
    if let Some(violation) = survey.violations.first() {
        let (shows, order) = (violation.invariant.into(), Trace::default());
        let kept = shrink::Found { text: &text, release, faults: &[], order: &order, shows, by: "choice" };
        keep(simulator, &kept);
        panic!("{release}: {violation}\n{text}");
    }
    let kinds = [
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
    let faults: Vec<_> = sweep::single_faults(&scenario, &survey.places, &kinds).collect();
    let fault = input.fault.filter(|_| !faults.is_empty());
    let fault = fault.map(|number| &faults[usize::from(number) % faults.len()]);
    let added = fault.map_or(&[][..], std::slice::from_ref);
    // Nobody has written how its steps are to end.
    let subject = Subject::new(&scenario, release, survey, added).however_steps_end();
    let played = explore::play(simulator, &subject, Oracle::bytes(input.answers.to_vec()));
    if let Some(finding) = played.findings.first() {
        let order = played.oracle.trace();
        let kept =
            shrink::Found { text: &text, release, faults: added, order, shows: finding.shows, by: "choice" };
        keep(simulator, &kept);
        let fault = fault.map(sweep::toml).unwrap_or_default();
        panic!("{release}: {}\n{text}\n{fault}\n# order: {}", finding.what, played.oracle.trace());
    }
    Corpus::Keep
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
