//! Tests that cross the crates, and what they share: the suite, and every way to play it.

pub mod bench;
pub mod differential;
pub mod libvirt;
pub mod memory;
pub mod qemu_img;
pub mod real;
pub mod storage;
pub mod unharnessed;
pub mod words;

use camino::Utf8Path;
use freezeframe::{
    language::Scenario,
    play::Run,
    suite::{self, Case},
    transcript::render,
    world::sim::Simulator,
};
use freezeframe_sim::{Oracle, Release, oracle::Trace};

/// The folder of the scenarios that freezeframe comes with.
pub fn suite_folder() -> &'static Utf8Path {
    Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/suite"))
}

/// All scenarios that freezeframe comes with, in the order of their paths.
///
/// # Panics
/// If one of them cannot be read.
pub fn suite() -> Vec<Case> {
    suite::load(&[suite_folder().to_owned()], None).unwrap_or_else(|error| panic!("{error}"))
}

/// Plays a scenario on the simulator.
///
/// # Panics
/// If the runner itself cannot play it: it waits for what will never happen.
pub fn play(
    simulator: &mut Simulator,
    scenario: &Scenario,
    release: Release,
    oracle: Oracle,
) -> (Run, Trace) {
    let repeat = oracle.clone();
    simulator
        .play_traced(scenario, release, oracle)
        .unwrap_or_else(|error| panic!("{} on {release}, {repeat:?}: {error}", scenario.id))
}

/// Everything of a run that is to be the same when it is repeated, as text.
pub fn told(run: &Run, trace: &Trace) -> String {
    let findings: String = run.findings.iter().map(|finding| format!("finding: {finding}\n")).collect();
    format!("{}{findings}trace: {trace}\n", render(&run.lines()))
}
