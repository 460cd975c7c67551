//! Random commands on real QEMUs and on the simulator: the same is said.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`. How much: `FREEZEFRAME_DIFFERENTIAL_STEPS` over each program
//! of each release, 100 unless it is set; `FREEZEFRAME_DIFFERENTIAL_SEED` decides the commands, 1 unless it is set.
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
    differential::{breakage, campaign::Campaign, server::Program},
    real,
};
use tokio::runtime::Builder;

/// What a test runner calls these tests.
const TESTS: [(&str, Said); 3] = [
    ("random_commands_say_the_same_on_real_qemu", Said::Commands(Program::Machine)),
    ("random_commands_say_the_same_on_a_real_storage_daemon", Said::Commands(Program::StorageDaemon)),
    ("a_client_that_keeps_no_rule_gets_the_same_bytes_from_real_qemu", Said::Bytes),
];

/// What is said to both.
#[derive(Debug, Clone, Copy)]
enum Said {
    /// Commands, to one of QEMU's programs.
    Commands(Program),
    /// Whatever bytes.
    Bytes,
}

/// After so many differences over one program nobody reads on.
const ENOUGH: usize = 5;

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
    let (steps, seed) = (number("STEPS", 100), number("SEED", 1));
    let steps = usize::try_from(steps).expect("a number of steps");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut known = Known::parse(include_str!("differential/known.toml")).expect("it is well written");
    let (mut passed, mut failed) = (0, 0);
    for (name, said) in tests {
        println!("\n{name}, {steps} steps with seed {seed}");
        for path in &programs {
            let binary = runtime.block_on(Binary::ask(path, &Launch::default()));
            let binary = binary.unwrap_or_else(|error| panic!("{error}"));
            let same = match said {
                Said::Commands(program) => commands(program, &binary, (steps, seed), &mut known),
                Said::Bytes => bytes(&binary, (steps, seed)),
            };
            *if same { &mut passed } else { &mut failed } += 1;
        }
    }
    println!("\ndifferential: {passed} passed, {failed} failed, 0 skipped\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells random commands; whether the same was said.
fn commands(program: Program, binary: &Binary, (steps, seed): (usize, u64), known: &mut Known) -> bool {
    let outcome = Campaign { program, binary, steps, seed, enough: ENOUGH }.play(known);
    println!("{:<6}{outcome}", binary.release.to_string());
    outcome.not_simulated.iter().for_each(|(what, count)| println!("    not simulated, {count}: {what}"));
    for (commands, difference) in &outcome.found {
        println!("  differs {difference}\n  shown by");
        commands.iter().for_each(|command| println!("    {}", command.line("c")));
    }
    outcome.found.is_empty()
}

/// Says random bytes; whether the same was said.
fn bytes(binary: &Binary, (pieces, seed): (usize, u64)) -> bool {
    let (connections, found) = breakage::play(binary, pieces, seed).unwrap_or_else(|error| panic!("{error}"));
    println!(
        "{:<6}{pieces} pieces on {connections} connections, {} differ",
        binary.release.to_string(),
        found.len()
    );
    found.iter().for_each(|difference| println!("  differs {difference}"));
    found.is_empty()
}

fn number(name: &str, unless_set: u64) -> u64 {
    let name = format!("FREEZEFRAME_DIFFERENTIAL_{name}");
    let set = env::var(&name).ok();
    set.map_or(unless_set, |set| set.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{set}`")))
}
