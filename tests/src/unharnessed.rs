//! Tests that do without libtest, which hides what a passing test prints: what a test runner asks of them, and whether they may
//! skip.
#![allow(clippy::disallowed_methods, reason = "reads the arguments and the surroundings of a test")]
#![allow(clippy::print_stdout, reason = "a test runner reads the list of tests there")]

use std::{env, error::Error, process::ExitCode};

use camino::Utf8Path;

use crate::real;

/// Those of a binary's tests that the runner wants run now. A list, if it wants one, is printed and nothing is run; nor is
/// anything where it wants ignored tests, for there are none.
pub fn asked_for(tests: &[&'static str]) -> Vec<&'static str> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    // nextest asks for the list by `--format terse`.
    let is_filter = |argument: &&String| !argument.starts_with('-') && *argument != "terse";
    let filters: Vec<_> = arguments.iter().filter(is_filter).collect();
    let matches =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let asked: Vec<_> = tests.iter().copied().filter(|name| matches(name)).collect();
    if has("--list") {
        asked.iter().for_each(|name| println!("{name}: test"));
    }
    if has("--list") || has("--ignored") { Vec::new() } else { asked }
}

/// Whether what the machine lacks is a failure and no skip: with `CI=true`.
pub fn may_not_skip() -> bool {
    env::var("CI").is_ok_and(|ci| ci == "true")
}

/// Says that so many tests are skipped for want of a real QEMU; whether they may be.
pub fn skipped_without_qemu(count: usize) -> bool {
    skipped(count, "real QEMU; `ci/install-qemu.sh` gets them, FREEZEFRAME_QEMU names them")
}

/// Says that so many tests are skipped for want of root, which is no failure anywhere: only root can give files away.
pub fn skipped_without_root(count: usize) {
    println!("\nskipped {count}: it needs root");
}

/// The same for want of a guest that boots.
pub fn skipped_without_guest(count: usize) -> bool {
    skipped(count, "guest; `ci/build-guest.sh` builds it, FREEZEFRAME_GUEST names its folder")
}

fn skipped(count: usize, for_want_of: &str) -> bool {
    let may = !may_not_skip();
    println!("\nskipped {count}: no {for_want_of}");
    if !may {
        println!("CI=true: it must be there");
    }
    may
}

/// Runs the one test of a binary on every real QEMU that is here, if it is asked for, and says how it went on each.
pub fn on_each_qemu(name: &'static str, test: impl Fn(&Utf8Path) -> Result<(), Box<dyn Error>>) -> ExitCode {
    if asked_for(&[name]).is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    if programs.is_empty() {
        return if skipped_without_qemu(1) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut code = ExitCode::SUCCESS;
    for program in programs {
        match test(&program) {
            Ok(()) => println!("{name}: {program}"),
            Err(error) => {
                println!("{name}: FAILED on {program}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
