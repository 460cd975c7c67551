//! A run is decided by scenario, release and seed, and by nothing else: not by the process, its environment, its
//! folder, the time of day or where memory lies.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "starts processes, to compare them")]

use std::process::Command;

use freezeframe::world::sim::Simulator;
use freezeframe_sim::Oracle;
use freezeframe_tests::{play, suite, told};

#[test]
fn two_processes_with_different_surroundings_tell_the_same_to_the_byte() {
    let seeds = ["1", "18446744073709551615"];
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tell-suite"));
        command.args(seeds);
        command
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = output(&mut command());
    let elsewhere = output(
        command()
            .current_dir(folder.path())
            .env_clear()
            .env("TZ", "Pacific/Kiritimati")
            .env("LC_ALL", "tr_TR.UTF-8")
            .env("RUST_MIN_STACK", "16777216")
            .env("FREEZEFRAME_NOISE", "x".repeat(50_000)),
    );
    let plays: usize = suite().iter().map(|case| case.releases().count() * (1 + seeds.len())).sum();
    assert_eq!(here.lines().filter(|line| line.starts_with("== ")).count(), plays);
    let difference = here.lines().zip(elsewhere.lines()).find(|(here, elsewhere)| here != elsewhere);
    assert_eq!(difference, None);
    assert_eq!(here.len(), elsewhere.len());
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("transcripts are UTF-8")
}

#[test]
fn a_seeded_run_repeats_from_the_text_of_its_trace() {
    let mut simulator = Simulator::new();
    for case in suite() {
        for release in case.releases() {
            let (first, trace) = play(&mut simulator, &case.scenario, release, Oracle::seeded(7));
            assert_ne!(trace.deviations(), [], "{} {release}: a seed deviates somewhere", case.scenario.id);
            let text = trace.to_string().parse().expect("a trace reads its own text");
            let (again, repeated) = play(&mut simulator, &case.scenario, release, Oracle::replay(text));
            assert_eq!(told(&again, &repeated), told(&first, &trace), "{} {release}", case.scenario.id);
        }
    }
}
