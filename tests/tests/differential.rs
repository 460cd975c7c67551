//! Random commands on real QEMUs and on the simulator: the same is said.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`. How much: `FREEZEFRAME_DIFFERENTIAL_STEPS` over each program
//! of each release, 100 unless it is set; `FREEZEFRAME_DIFFERENTIAL_SEED` decides the commands, 1 unless it is set.
//! A difference fails the run if it is seen again (`differential::verdict`). Each is shown with the fewest commands that were found to show it, and kept as a recording in the build
//! folder: moved to `tests/tests/differential/kept/<release>/` it is repeated from then on ([`kept`]), without a QEMU
//! against what the real one said, and on each QEMU of its release. There every known difference
//! (`differential/known.toml`) must still be met.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must
//! be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, reason = "asks how much is to be done")]

use std::{env, error::Error, process::ExitCode};

use camino::Utf8Path;
use freezeframe::{
    fidelity::{
        known::Known,
        recording::{self, Recording},
    },
    world::qemu::{Binary, Launch},
};
use freezeframe_tests::{
    differential::{
        breakage,
        campaign::{Campaign, Finding},
        kept, model,
        pair::Peer,
        server::{Program, Server},
        verdict::{self, Verdict},
    },
    real,
    unharnessed::{asked_for, may_not_skip},
};
use tokio::runtime::{Builder, Runtime};

/// What a test runner calls these tests.
const TESTS: [(&str, Said); 4] = [
    ("what_was_found_before_is_said_again_by_real_qemu", Said::Kept),
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
    /// What was kept of earlier runs.
    Kept,
}

/// Where recordings are that were worth keeping.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/kept");

/// Where those go that are found.
const FOUND: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/differential");

/// After so many differences over one program nobody reads on.
const ENOUGH: usize = 5;

fn main() -> ExitCode {
    let asked = asked_for(&TESTS.map(|(name, _)| name));
    let tests: Vec<_> = TESTS.into_iter().filter(|(name, _)| asked.contains(name)).collect();
    if tests.is_empty() {
        return ExitCode::SUCCESS;
    }
    let mut known = Known::parse(include_str!("differential/known.toml")).expect("it is well written");
    let recordings = recording::read_all(Utf8Path::new(KEPT), None).unwrap_or_else(|error| panic!("{error}"));
    let held = replay(&recordings, &mut known);
    let programs = real::programs();
    if programs.is_empty() {
        return without_qemu(tests.len(), held);
    }
    let (steps, seed) = (number("STEPS", 100), number("SEED", 1));
    let steps = usize::try_from(steps).expect("a number of steps");
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut verdict = Verdict { differ: usize::from(!held), seen_once: 0 };
    let mut passed = usize::from(held);
    for (name, said) in tests {
        println!("\n{name}, {steps} steps with seed {seed}");
        for path in &programs {
            let binary = runtime.block_on(Binary::ask(path, &Launch::default()));
            let binary = binary.unwrap_or_else(|error| panic!("{error}"));
            let came_to = match said {
                Said::Commands(program) => commands(program, &binary, &runtime, (steps, seed), &mut known),
                Said::Bytes => bytes(&binary, &runtime, (steps, seed)),
                Said::Kept => repeat(&recordings, &binary, &runtime),
            };
            passed += usize::from(came_to == Verdict::default());
            verdict += came_to;
        }
    }
    let Verdict { differ, seen_once } = verdict;
    println!("\ndifferential: {passed} passed, {differ} differ, {seen_once} seen once, 0 skipped\n");
    if verdict.passes() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where there must be a QEMU it is a failure that there is none.
fn without_qemu(skipped: usize, held: bool) -> ExitCode {
    let needed = may_not_skip();
    let (passed, failed) = (u8::from(held), u8::from(!held));
    println!(
        "\nskipped {skipped}: no real QEMU; `ci/install-qemu.sh` gets them, FREEZEFRAME_QEMU names them"
    );
    println!("\ndifferential: {passed} passed, {failed} failed, {skipped} skipped\n");
    if needed {
        println!("CI=true: there must be real QEMUs\n");
    }
    if held && !needed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Holds the simulator to all that was kept; whether it says what the real ones had said, and each known difference is
/// still met by some of it.
fn replay(recordings: &[Recording], known: &mut Known) -> bool {
    println!("\nwhat_was_found_before_is_said_as_real_qemu_said_it, {} recordings", recordings.len());
    let mut same = true;
    for recording in recordings {
        if let Err(failure) = kept::replay(recording, known) {
            same = false;
            println!("  {}/{} differs {failure}", recording.release, recording.name);
        }
    }
    let stale = known.stale(recordings);
    stale.iter().for_each(|reason| println!("  known, but met by nothing that was kept: {reason}"));
    same && stale.is_empty()
}

/// Tells all that was kept of a release to a real QEMU of it, and holds what is known to that it still differs.
fn repeat(recordings: &[Recording], binary: &Binary, runtime: &Runtime) -> Verdict {
    let mut known = Known::parse(include_str!("differential/known.toml")).expect("it is well written");
    let own: Vec<_> =
        recordings.iter().filter(|recording| recording.release == binary.release).cloned().collect();
    let mut verdict = Verdict::default();
    for recording in &own {
        let program = kept::program(recording);
        let mut tell = || {
            let real = start(program, binary, runtime).unwrap_or_else(|error| panic!("{error}"));
            kept::tell(recording, real, &mut known)
        };
        let Err(failure) = tell() else { continue };
        let again = verdict::is_seen_again(tell);
        *if again { &mut verdict.differ } else { &mut verdict.seen_once } += 1;
        println!("  {} {} {failure}", recording.name, if again { "differs" } else { "differed once" });
    }
    let stale = known.stale(&own);
    stale.iter().for_each(|reason| println!("  known, but no longer so: {reason}"));
    let Verdict { differ, seen_once } = verdict;
    println!(
        "{:<6}{} recordings repeated, {seen_once} seen once, {differ} differ",
        binary.release.to_string(),
        own.len()
    );
    verdict.differ += stale.len();
    verdict
}

/// Tells random commands.
fn commands(
    program: Program,
    binary: &Binary,
    runtime: &Runtime,
    (steps, seed): (usize, u64),
    known: &mut Known,
) -> Verdict {
    let start = || start(program, binary, runtime);
    let campaign = Campaign { program, release: binary.release, start: &start, steps, seed, enough: ENOUGH };
    let outcome = campaign.play(known);
    println!("{:<6}{outcome}", binary.release.to_string());
    outcome.not_simulated.iter().for_each(|(what, count)| println!("    not simulated, {count}: {what}"));
    let once = outcome.seen_once.iter().map(|finding| ("differed once", finding));
    for (how, finding) in once.chain(outcome.found.iter().map(|finding| ("differs", finding))) {
        let Finding { commands, difference, recording } = finding;
        println!("  {how} {difference}\n  shown by");
        commands.iter().for_each(|command| println!("    {}", command.line("c")));
        match recording.as_ref().map(|recording| kept::write(recording, Utf8Path::new(FOUND))) {
            Some(path) => println!("  kept as {}", path.expect("the build folder can be written")),
            None => println!("  and not by these few alone"),
        }
    }
    outcome.verdict()
}

/// Says random bytes.
fn bytes(binary: &Binary, runtime: &Runtime, (pieces, seed): (usize, u64)) -> Verdict {
    let start = || start(Program::Machine, binary, runtime);
    let outcome = breakage::play(binary.release, &start, pieces, seed);
    let outcome = outcome.unwrap_or_else(|error| panic!("{error}"));
    let Verdict { differ, seen_once } = outcome.verdict();
    println!(
        "{:<6}{pieces} pieces on {} connections, {seen_once} seen once, {differ} differ",
        binary.release.to_string(),
        outcome.connections,
    );
    outcome.seen_once.iter().for_each(|difference| println!("  differed once {difference}"));
    outcome.found.iter().for_each(|difference| println!("  differs {difference}"));
    outcome.verdict()
}

fn start(program: Program, binary: &Binary, runtime: &Runtime) -> Result<Box<dyn Peer>, Box<dyn Error>> {
    Ok(Box::new(Server::start(program, binary, &model::machine(program), runtime)?))
}

fn number(name: &str, unless_set: u64) -> u64 {
    let name = format!("FREEZEFRAME_DIFFERENTIAL_{name}");
    let set = env::var(&name).ok();
    set.map_or(unless_set, |set| set.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{set}`")))
}
