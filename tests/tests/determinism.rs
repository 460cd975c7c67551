//! A run is decided by scenario, release and seed, and by nothing else: not by the process, its environment, its
//! folder, the time of day or where memory lies.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "starts processes, to compare them")]

use std::{env, fmt::Write as _, fs, path::Path, process::Command};

use freezeframe::{language::Power, world::sim::Simulator};
use freezeframe_sim::Oracle;
use freezeframe_tests::{play, suite, told};

/// Names the file that [`tells_the_suite`] writes.
const TOLD: &str = "FREEZEFRAME_TOLD";

/// The seeds that are told beside the default order.
const SEEDS: [u64; 2] = [1, u64::MAX];

#[test]
fn two_processes_with_different_surroundings_tell_the_same_to_the_byte() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = tell(&folder.path().join("here"), |command| command);
    let elsewhere = tell(&folder.path().join("elsewhere"), |command| {
        command
            .current_dir(folder.path())
            .env_clear()
            .env("TZ", "Pacific/Kiritimati")
            .env("LC_ALL", "tr_TR.UTF-8")
            .env("RUST_MIN_STACK", "16777216")
            .env("FREEZEFRAME_NOISE", "x".repeat(50_000))
    });
    let plays: usize = suite().iter().map(|case| case.releases().count() * (1 + SEEDS.len())).sum();
    assert_eq!(here.lines().filter(|line| line.starts_with("== ")).count(), plays);
    let difference = here.lines().zip(elsewhere.lines()).find(|(here, elsewhere)| here != elsewhere);
    assert_eq!(difference, None);
    assert_eq!(here.len(), elsewhere.len());
}

/// What another process of this program tells, started as it is arranged.
fn tell(file: &Path, arrange: impl FnOnce(&mut Command) -> &mut Command) -> String {
    let mut command = Command::new(env::current_exe().expect("this program has a file"));
    command.args(["--exact", "tells_the_suite", "--ignored"]);
    let output = arrange(&mut command).env(TOLD, file).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    fs::read_to_string(file).expect("it was written")
}

#[test]
#[ignore = "no test of its own: another process of this program is started for it"]
fn tells_the_suite() {
    let Ok(file) = env::var(TOLD) else { return };
    let orders = || SEEDS.map(Some).into_iter().chain([None]);
    let mut simulator = Simulator::new();
    let mut text = String::new();
    for case in suite() {
        for (release, seed) in case.releases().flat_map(|release| orders().map(move |seed| (release, seed))) {
            let oracle = seed.map_or_else(Oracle::default_order, Oracle::seeded);
            let (run, trace) = play(&mut simulator, &case.scenario, release, oracle);
            let _ = write!(text, "== {} {release} {seed:?}\n{}", case.scenario.id, told(&run, &trace));
        }
    }
    fs::write(file, text).expect("the file can be written");
}

#[test]
fn a_seeded_run_repeats_from_the_text_of_its_trace() {
    let mut simulator = Simulator::new();
    for case in suite() {
        for release in case.releases() {
            let (first, trace) = play(&mut simulator, &case.scenario, release, Oracle::seeded(7));
            // Of a machine that is off only programs are run, one after the other: there may be nothing to choose.
            let deviates = !trace.deviations().is_empty() || case.scenario.machine.state == Power::Off;
            assert!(deviates, "{} {release}: a seed deviates somewhere", case.scenario.id);
            let text = trace.to_string().parse().expect("a trace reads its own text");
            let (again, repeated) = play(&mut simulator, &case.scenario, release, Oracle::replay(text));
            assert_eq!(told(&again, &repeated), told(&first, &trace), "{} {release}", case.scenario.id);
        }
    }
}
