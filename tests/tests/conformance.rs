//! A few scenarios on real QEMUs and on the simulator: the same is said. `freezeframe conform` does it with all.
//!
//! Which QEMUs: those in `FREEZEFRAME_QEMU`, binaries separated by `:` (set and empty: none). If it is not set, those
//! that `ci/install-qemu.sh` has put into `${XDG_CACHE_HOME:-~/.cache}/freezeframe/qemu`, and `qemu-system-x86_64` on
//! the path.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must
//! be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, reason = "finds programs in the surroundings")]

use std::{env, error::Error, process::ExitCode, rc::Rc};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{
    machine,
    play::{self, Run},
    suite::Case,
    transcript::compare,
    world::{
        World as _,
        qemu::{Binary, QemuWorld},
        sim::Simulator,
    },
};
use freezeframe_sim::{Oracle, Release};
use freezeframe_tests::{play, suite};
use tokio::{runtime::Builder, task::LocalSet};

/// Jobs and run state; several disks and files; a QEMU that dies. Each is for every release.
const SCENARIOS: [&str; 3] =
    ["internal/create-revert-delete", "external/two-disks", "external/qemu-gone-after-switch"];

/// What a test runner calls this test.
const NAME: &str = "scenarios_say_the_same_on_real_qemu";

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let options = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    if options("--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    if options("--ignored") || filters.peek().is_some() && !filters.any(|filter| NAME.contains(filter)) {
        return ExitCode::SUCCESS;
    }
    let programs = programs();
    if programs.is_empty() {
        let count = SCENARIOS.len();
        println!(
            "\nskipped {count}: no real QEMU; `ci/install-qemu.sh` gets them, FREEZEFRAME_QEMU names them\n"
        );
        return ExitCode::SUCCESS;
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
    let binary = Binary::ask(program, "tcg").await?;
    let (simulated, _) = play(&mut Simulator::new(), &case.scenario, binary.release, Oracle::default_order());
    let real = on_real(&binary, case).await?;
    let differences = compare(&simulated.lines(), &real.lines());
    let mut findings = [simulated.findings, real.findings].concat();
    findings.extend(differences.iter().map(|difference| format!("- simulator, + QEMU, {difference}")));
    Ok(findings)
}

async fn on_real(binary: &Binary, case: &Case) -> Result<Run, Box<dyn Error>> {
    let world = QemuWorld::start(binary, &machine::of(&case.scenario)).await?;
    let capabilities = Rc::new(play::capabilities(&world).await?);
    let run = play::play(&case.scenario, &world, capabilities).await;
    world.kill_qemu().await;
    Ok(run?)
}

/// The QEMUs that there are.
fn programs() -> Vec<Utf8PathBuf> {
    let split = |paths: String| paths.split(':').map(Utf8PathBuf::from).collect::<Vec<_>>();
    if let Ok(named) = env::var("FREEZEFRAME_QEMU") {
        return split(named).into_iter().filter(|program| program != "").collect();
    }
    let cache = env::var("XDG_CACHE_HOME").map(Utf8PathBuf::from);
    let cache = cache.or_else(|_| env::var("HOME").map(|home| Utf8Path::new(&home).join(".cache")));
    let installed = cache.map(|cache| cache.join("freezeframe/qemu")).ok().and_then(|folder| {
        let mut releases: Vec<_> = folder.read_dir_utf8().ok()?.flatten().collect();
        releases.sort_by(|one, other| one.file_name().cmp(other.file_name()));
        Some(releases.into_iter().map(|release| release.path().join("bin")).collect::<Vec<_>>())
    });
    let folders = installed.into_iter().flatten().chain(split(env::var("PATH").unwrap_or_default()));
    folders.map(|folder| folder.join("qemu-system-x86_64")).filter(|program| program.is_file()).collect()
}
