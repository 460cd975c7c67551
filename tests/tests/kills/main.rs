//! SIGKILL in the middle of an operation, on real QEMU: to the driver, the command as a user runs it, and to QEMU itself, at each
//! mark of the operation's journal and between two of them. `snapshot recover` puts right what is left.
//!
//! What must hold after that: of a killed driver the guest runs, no job and no node is left, and the same command is carried out then;
//! of a killed QEMU the machine's description names the images to start from. In both `snapshot list` says what is, every image is
//! whole for `qemu-img check`, and what the guest had written and flushed is read from its disk.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`; of them 7.2 and 10.0. A test without libtest's harness, which hides what a
//! passing test prints: how often was killed, and what is skipped for want of a QEMU, must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "speaks to real programs, in real time"
)]

mod desk;

use std::{error::Error, process::ExitCode, time::Duration};

use freezeframe::world::{
    World as _,
    qemu::{Binary, Launch, QemuWorld},
};
use freezeframe_sim::{Machine, Release};
use freezeframe_tests::{
    real,
    unharnessed::{asked_for, skipped_without_qemu},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

use self::desk::Desk;

type Failed = Box<dyn Error>;

/// One of these tests.
struct Test {
    /// What a test runner calls it.
    name: &'static str,
    victim: Victim,
    /// In how many moments behind each mark.
    moments: u32,
    /// How many kills there are on two releases, at least.
    at_least: usize,
}

const TESTS: [Test; 2] = [
    Test { name: "a_killed_driver_is_recovered_from", victim: Victim::Driver, moments: 3, at_least: 100 },
    Test {
        name: "what_a_killed_qemu_leaves_of_an_operation_is_recovered",
        victim: Victim::Qemu,
        moments: 1,
        at_least: 30,
    },
];

/// At how many marks of its journal an operation is killed at most.
const MARKS: usize = 12;

/// How much later each further moment behind a mark is.
const LATER: Duration = Duration::from_micros(1500);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Driver,
    Qemu,
}

/// When: as soon as the journal has so many lines, and that much later.
#[derive(Debug, Clone, Copy)]
struct Moment {
    mark: usize,
    later: Duration,
}

/// What a user does, and what is done before.
struct Case {
    name: &'static str,
    before: &'static [&'static [&'static str]],
    killed: &'static [&'static str],
    /// The snapshots that there are in the end.
    snapshots: &'static [&'static str],
    /// It takes the disk back to before the second thing that was written.
    goes_back: bool,
}

// The description follows: it is what says in which image the disk is, once QEMU is killed.
const DISKS: &[&str] = &["create-as", "s1", "--disk-only", "--write-domain"];
const MEMORY: &[&str] = &[
    "create-as",
    "s1",
    "--memspec",
    "file=$DIR/vm.mem",
    "--diskspec",
    "vda,snapshot=external",
    "--write-domain",
];
const INSIDE: &[&str] = &["create-as", "s1"];
const DELETE: &[&str] = &["delete", "s1", "--write-domain"];
const REVERT: &[&str] = &["revert", "s1"];

const CASES: [Case; 6] = [
    Case { name: "a snapshot of the disk", before: &[], killed: DISKS, snapshots: &["s1"], goes_back: false },
    Case {
        name: "a snapshot with memory",
        before: &[],
        killed: MEMORY,
        snapshots: &["s1"],
        goes_back: false,
    },
    Case { name: "a snapshot inside", before: &[], killed: INSIDE, snapshots: &["s1"], goes_back: false },
    Case { name: "a merge", before: &[DISKS], killed: DELETE, snapshots: &[], goes_back: false },
    Case { name: "a deletion inside", before: &[INSIDE], killed: DELETE, snapshots: &[], goes_back: false },
    Case { name: "going back", before: &[INSIDE], killed: REVERT, snapshots: &["s1"], goes_back: true },
];

fn main() -> ExitCode {
    let asked = asked_for(&TESTS.each_ref().map(|test| test.name));
    for test in TESTS.iter().filter(|test| asked.contains(&test.name)) {
        if let Err(error) = on_real_qemus(test) {
            println!("{}: {error}", test.name);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn on_real_qemus(test: &Test) -> Result<(), Failed> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let name = test.name;
    let (mut held, mut kills) = (Vec::new(), 0);
    for program in real::programs() {
        let binary = LocalSet::new().block_on(&runtime, Binary::ask(&program, &Launch::default()))?;
        if ![Release::V7_2, Release::V10_0].contains(&binary.release) || held.contains(&binary.release) {
            continue;
        }
        held.push(binary.release);
        for case in &CASES {
            let killed = at_every_moment(case, test, &binary, &runtime)
                .map_err(|error| format!("{} on {program}, {error}", case.name))?;
            println!("{name}: {}: {killed} kills on {}", case.name, binary.release);
            kills += killed;
        }
    }
    println!("{name}: {kills} kills");
    if held.len() == 2 && kills < test.at_least {
        return Err(format!("only {kills} operations could be killed in time").into());
    }
    match !held.is_empty() || skipped_without_qemu(1) {
        true => Ok(()),
        false => Err("nothing was held against a real one".into()),
    }
}

/// Kills an operation at each mark of its journal, in turn. Tells how often that was in time: always at the first mark.
fn at_every_moment(case: &Case, test: &Test, binary: &Binary, runtime: &Runtime) -> Result<usize, Failed> {
    let Test { victim, moments, .. } = *test;
    let mut kills = 0;
    for mark in 1..=MARKS {
        let mut in_time = 0;
        for moment in 0..moments {
            let moment = Moment { mark, later: LATER * moment };
            let killed = one(case, victim, moment, binary, runtime).map_err(|error| {
                format!("{victim:?} killed {:?} behind mark {mark}: {error}", moment.later)
            })?;
            in_time += usize::from(killed);
            // What has come to its end before has no later moment.
            if !killed {
                break;
            }
        }
        kills += in_time;
        if in_time == 0 {
            break;
        }
    }
    if kills == 0 {
        return Err("no operation could be killed in time".into());
    }
    Ok(kills)
}

/// Kills once, and recovers. Tells whether there was still something to kill.
fn one(
    case: &Case,
    victim: Victim,
    moment: Moment,
    binary: &Binary,
    runtime: &Runtime,
) -> Result<bool, Failed> {
    let machine = Machine::new().disk("vda");
    let world = LocalSet::new().block_on(runtime, QemuWorld::start(binary, &machine))?;
    let desk = Desk::new(&world, binary)?;
    let kill_qemu = || LocalSet::new().block_on(runtime, world.kill_qemu());
    let result = match victim {
        Victim::Driver => a_driver(&desk, case, moment),
        Victim::Qemu => a_qemu(&desk, case, moment, kill_qemu),
    };
    kill_qemu();
    result
}

/// What the guest has written and flushed before the operation, by MiB of its disk.
fn written(case: &Case) -> Vec<(usize, &'static [u8])> {
    match case.goes_back {
        // What was written behind the snapshot is there, or what was there before it.
        true => vec![(1, &[7]), (2, &[9, 0])],
        false => vec![(1, &[7]), (2, &[9])],
    }
}

fn prepare(desk: &Desk, case: &Case) -> Result<(), Failed> {
    desk.write(7, 1)?;
    for before in case.before {
        desk.succeeds(before)?;
    }
    desk.write(9, 2)
}

/// What a recovery has made of what was left.
struct Recovered {
    /// Nothing is to be done once more.
    wholly: bool,
    /// The overlay that is kept because nobody knows whether the disk was in it already.
    kept: Option<String>,
}

/// Puts right what is left.
fn recover(desk: &Desk) -> Result<Recovered, Failed> {
    let recovered = desk.run(&["recover", "--write-domain"])?;
    let words = String::from_utf8_lossy(&recovered.stderr).into_owned();
    let kept = words.split_once("the overlays ").and_then(|(_, rest)| rest.split_once(" are kept"));
    let kept = kept.map(|(kept, _)| kept.to_owned());
    if !recovered.status.success() {
        // What could not be put right, or of what nobody knows whether it has happened, is named; then it is the user's.
        if !words.contains("\n  left: ") {
            return Err(format!("not recovered: {words}").into());
        }
        desk.succeeds(&["recover", "--forget"])?;
    }
    desk.succeeds(&["recover", "--dry-run"])?;
    Ok(Recovered { wholly: recovered.status.success(), kept })
}

fn a_driver(desk: &Desk, case: &Case, moment: Moment) -> Result<bool, Failed> {
    prepare(desk, case)?;
    let killed = desk.kill_driver_at(case.killed, moment)?;
    if killed {
        let recovered = recover(desk)?;
        let is_done = desk.snapshots()? == case.snapshots && recovered.wholly;
        if !is_done || case.goes_back {
            desk.succeeds(case.killed)?;
        }
    }
    if desk.snapshots()? != case.snapshots {
        return Err(format!("listed are {:?}", desk.snapshots()?).into());
    }
    desk.check_machine()?;
    desk.quit()?;
    desk.check_disk(None, &written(case))?;
    Ok(killed)
}

fn a_qemu(desk: &Desk, case: &Case, moment: Moment, kill: impl Fn()) -> Result<bool, Failed> {
    prepare(desk, case)?;
    let killed = desk.kill_qemu_at(case.killed, moment, kill)?;
    if !killed {
        return Ok(false);
    }
    desk.is_off();
    let recovered = recover(desk)?;
    // Done or not done: nothing in between is listed, and of what is listed every image is there.
    let listed = desk.snapshots()?;
    if listed.len() > 1 || listed.iter().any(|name| name != "s1") {
        return Err(format!("listed are {listed:?}").into());
    }
    // Through an overlay that is kept everything is read, whether the disk was in it or not.
    desk.check_disk(recovered.kept.as_deref(), &written(case))?;
    Ok(true)
}
