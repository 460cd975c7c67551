//! A few scenarios on real QEMUs and on the simulator: the same is said. `freezeframe conform` does it with all.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must
//! be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "plays the command on a program of its own"
)]

use std::{
    error::Error,
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, ExitCode},
};

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

/// What a test runner calls these tests.
const NAME: &str = "scenarios_say_the_same_on_real_qemu";
const AGAIN: &str = "what_differs_once_is_tried_again_on_request_and_named";

fn main() -> ExitCode {
    let asked = asked_for(&[NAME, AGAIN]);
    if asked.is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    let Some(program) = programs.last() else {
        return if skipped_without_qemu(SCENARIOS.len() + 1) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    if asked.contains(&AGAIN) {
        what_differs_once_is_tried_again_on_request_and_named(program);
        println!("{AGAIN}: passed");
    }
    if !asked.contains(&NAME) {
        return ExitCode::SUCCESS;
    }
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, conform(&programs))
}

/// A QEMU whose first machine waits for a migration, and whose second one is as all are.
fn what_differs_once_is_tried_again_on_request_and_named(program: &Utf8Path) {
    let folder = tempfile::tempdir().expect("a folder of its own");
    let scenario = "id = 'probe'\ntitle = 'It runs'\nwhy = 'To see it.'\nmachine.disks = []\n\
                    [[step]]\nqmp = { json = '{\"execute\":\"query-status\"}' }\n";
    fs::write(folder.path().join("probe.toml"), scenario).expect("a folder of its own");
    let (wrapper, seen) = (folder.path().join("qemu"), folder.path().join("seen"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-qmp*|*-mon*) [ -e '{seen}' ] || {{ : >'{seen}'; set -- \"$@\" -incoming defer; }} ;; esac\n\
         exec {program} \"$@\"\n",
        seen = seen.display()
    );
    fs::write(&wrapper, script).expect("a folder of its own");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("our file");
    let conform = |tries: &str| {
        let _ = fs::remove_file(&seen);
        let output = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"))
            .args(["conform", "probe.toml", "--qemu", "./qemu", "--tries", tries])
            .current_dir(folder.path())
            .output()
            .expect("the command runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = conform("1");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.ends_with("0 passed, 1 failed, 0 skipped\n"), "{said}");
    let (code, said) = conform("2");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("again   probe on ") && said.contains("inmigrate"), "{said}");
    assert!(
        said.ends_with("1 passed, 0 failed, 0 skipped; 1 of the passed had to be tried again\n"),
        "{said}"
    );
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
