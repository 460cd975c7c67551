//! Generated machines and operations, perhaps with a fault, in an order that libFuzzer chooses: each byte that is left answers one
//! question of the simulator. What must hold then is what holds after a sweep's fault: nothing that the guest was told is lost, no
//! guest is left frozen, and what is told is so.

#![no_main]

mod topology;

use std::{cell::RefCell, rc::Rc};

use arbitrary::{Arbitrary, Unstructured};
use camino::Utf8Path;
use freezeframe::{
    explore::{self, Subject},
    language::Scenario,
    sweep::{self, Kind},
    world::sim::Simulator,
};
use freezeframe_sim::{Oracle, Release};
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
    let first = survey.violations.first();
    assert!(first.is_none(), "{release}: {}\n{text}", first.map(ToString::to_string).unwrap_or_default());
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
        let fault = fault.map(sweep::toml).unwrap_or_default();
        panic!("{release}: {}\n{text}\n{fault}\n# order: {}", finding.what, played.oracle.trace());
    }
    Corpus::Keep
}
