//! Random commands on real QEMUs and on the simulator: the same is said.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`. How much: `FREEZEFRAME_DIFFERENTIAL_STEPS` over each program
//! of each release, 500 unless it is set; `FREEZEFRAME_DIFFERENTIAL_SEED` decides the commands, 1 unless it is set.
//! Each difference is shown with the fewest commands that were found to show it.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must
//! be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, reason = "asks how much is to be done")]

use std::{env, process::ExitCode};

use freezeframe::{
    fidelity::known::Known,
    world::qemu::{Binary, Launch},
};
use freezeframe_tests::{
    differential::{campaign::Campaign, server::Program},
    real,
};
use tokio::runtime::Builder;

/// What a test runner calls these tests.
const TESTS: [(&str, Program); 2] = [
    ("random_commands_say_the_same_on_real_qemu", Program::Machine),
    ("random_commands_say_the_same_on_a_real_storage_daemon", Program::StorageDaemon),
];

/// After so many differences over one program nobody reads on.
const ENOUGH: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let options = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut tests = TESTS.to_vec();
    tests.retain(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(*filter)));
    if options("--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if options("--ignored") || tests.is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    if programs.is_empty() {
        let count = tests.len();
        println!(
            "\nskipped {count}: no real QEMU; `ci/install-qemu.sh` gets them, FREEZEFRAME_QEMU names them\n"
        );
        return ExitCode::SUCCESS;
    }
    let (steps, seed) = (number("STEPS", 500), number("SEED", 1));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut known = Known::parse(include_str!("differential/known.toml")).expect("it is well written");
    let (mut passed, mut failed) = (0, 0);
    for (name, program) in tests {
        println!("\n{name}, {steps} steps with seed {seed}");
        for path in &programs {
            let binary = runtime.block_on(Binary::ask(path, &Launch::default()));
            let binary = binary.unwrap_or_else(|error| panic!("{error}"));
            let steps = usize::try_from(steps).expect("a number of steps");
            let outcome = Campaign { program, binary: &binary, steps, seed, enough: ENOUGH }.play(&mut known);
            println!("{:<6}{outcome}", binary.release.to_string());
            outcome
                .not_simulated
                .iter()
                .for_each(|(what, count)| println!("    not simulated, {count}: {what}"));
            for (commands, difference) in &outcome.found {
                println!("  differs {difference}\n  shown by");
                commands.iter().for_each(|command| println!("    {}", command.line("c")));
            }
            *if outcome.found.is_empty() { &mut passed } else { &mut failed } += 1;
        }
    }
    println!("\ndifferential: {passed} passed, {failed} failed, 0 skipped\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(name: &str, unless_set: u64) -> u64 {
    let name = format!("FREEZEFRAME_DIFFERENTIAL_{name}");
    let set = env::var(&name).ok();
    set.map_or(unless_set, |set| set.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{set}`")))
}
