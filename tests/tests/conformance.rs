//! A few scenarios on real QEMUs and on the simulator: the same is said. `freezeframe conform` does it with all.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must
//! be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]

use std::{error::Error, process::ExitCode};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{
    suite::Case,
    transcript::compare,
    world::{
        qemu::{Binary, Launch},
        sim::Simulator,
    },
};
use freezeframe_sim::{Oracle, Release};
use freezeframe_tests::{
    play, real, suite,
    unharnessed::{asked_for, skipped_without_qemu},
};
use tokio::{runtime::Builder, task::LocalSet};

/// Jobs and run state; several disks and files; a QEMU that dies. Each is for every release.
const SCENARIOS: [&str; 3] =
    ["internal/create-revert-delete", "external/two-disks", "external/qemu-gone-after-switch"];

/// What a test runner calls this test.
const NAME: &str = "scenarios_say_the_same_on_real_qemu";

fn main() -> ExitCode {
    if asked_for(&[NAME]).is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    if programs.is_empty() {
        return if skipped_without_qemu(SCENARIOS.len()) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, conform(&programs))
}

/// Plays each scenario on each program that it is for, and prints how it went.
async fn conform(programs: &[Utf8PathBuf]) -> ExitCode {
    let cases: Vec<_> =
        suite().into_iter().filter(|case| SCENARIOS.contains(&case.scenario.id.as_str())).collect();
    assert_eq!(cases.len(), SCENARIOS.len(), "a scenario of these was renamed");
    assert!(cases.iter().all(|case| Release::ALL.iter().all(|release| case.is_for(*release))));
    let (mut passed, mut failed) = (0, 0);
    println!();
    for (program, case) in programs.iter().flat_map(|program| cases.iter().map(move |case| (program, case))) {
        let findings = differences(program, case).await.unwrap_or_else(|error| vec![error.to_string()]);
        let verdict = if findings.is_empty() { "same" } else { "FAILED" };
        println!("{verdict:<8}{} on {program}", case.scenario.id);
        findings.iter().for_each(|finding| println!("    {finding}"));
        *if findings.is_empty() { &mut passed } else { &mut failed } += 1;
    }
    println!("\nconformance: {passed} passed, {failed} failed, 0 skipped\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// In what a real run is not what the simulator's is.
async fn differences(program: &Utf8Path, case: &Case) -> Result<Vec<String>, Box<dyn Error>> {
    let binary = Binary::ask(program, &Launch::default()).await?;
    let (simulated, _) = play(&mut Simulator::new(), &case.scenario, binary.release, Oracle::default_order());
    let real = real::play(&binary, &case.scenario).await?;
    let differences = compare(&simulated.lines(), &real.lines());
    let mut findings = [simulated.findings, real.findings].concat();
    findings.extend(differences.iter().map(|difference| format!("- simulator, + QEMU, {difference}")));
    Ok(findings)
}
