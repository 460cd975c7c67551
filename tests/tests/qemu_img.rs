//! The simulated `qemu-img` beside the real one of every release: what is said, the exit code, the files and what they hold.
//!
//! Which: those beside the QEMUs of `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must
//! be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]

use std::{error::Error, process::ExitCode, time::Duration};

use camino::Utf8Path;
use freezeframe::world::{
    World as _,
    qemu::{Binary, Launch, QemuWorld},
};
use freezeframe_driver::{env::tokio::TokioEnv, qemu_img::QemuImg};
use freezeframe_sim::{
    Machine, Oracle, World,
    machine::{Disk, Format},
};
use freezeframe_tests::{
    qemu_img::{
        Outcome, Pair,
        grammar::{Grammar, Step},
        story,
    },
    real,
    unharnessed::{asked_for, may_not_skip},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

type Failed = Box<dyn Error>;

const TESTS: [(&str, Test); 4] = [
    ("the_driver_gets_on_with_the_real_one_as_with_the_simulated", drivers),
    ("each_command_says_and_does_what_the_real_one_does", fixed),
    ("random_commands_say_and_do_what_the_real_ones_do", random),
    ("what_a_running_machine_has_open_is_refused_as_by_the_real_lock", locked),
];

/// Runs on one real release and tells how many commands were compared.
type Test = fn(&Binary, &Runtime) -> Result<usize, Failed>;

const SEQUENCES: u64 = 12;
const STEPS: usize = 25;

/// One command a line; `write FILE FIRST COUNT BYTE` writes blocks.
const FIXED: &str = include_str!("qemu_img/fixed.txt");
const LOCKED: &str = include_str!("qemu_img/locked.txt");

fn main() -> ExitCode {
    let asked = asked_for(&TESTS.map(|(name, _)| name));
    if asked.is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    if programs.is_empty() {
        println!(
            "skipped {}: no real QEMU; `ci/install-qemu.sh` gets them, FREEZEFRAME_QEMU names them",
            asked.len()
        );
        return if may_not_skip() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut failed = false;
    for (name, test) in TESTS.into_iter().filter(|(name, _)| asked.contains(name)) {
        for program in &programs {
            match on_one(program, test) {
                Ok(count) => println!("{name}: {count} commands on {program}"),
                Err(error) => {
                    println!("{name} on {program}: {error}");
                    failed = true;
                }
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn on_one(program: &Utf8Path, test: Test) -> Result<usize, Failed> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let binary = LocalSet::new().block_on(&runtime, Binary::ask(program, &Launch::default()))?;
    test(&binary, &runtime)
}

/// An empty folder in both, and no machine that has anything open.
fn empty(binary: &Binary, folder: &Utf8Path) -> Pair {
    let mut world = World::new(&Machine::new(), binary.release, Oracle::default_order());
    world.kill_qemu();
    Pair::new(&binary.program.with_file_name("qemu-img"), folder, world)
}

fn fixed(binary: &Binary, _: &Runtime) -> Result<usize, Failed> {
    let folder = tempfile::tempdir()?;
    let folder = Utf8Path::from_path(folder.path()).ok_or("a path that is no text")?;
    let mut pair = empty(binary, folder);
    script(&mut pair, FIXED)
}

/// What the driver does with images ends in the same way.
fn drivers(binary: &Binary, runtime: &Runtime) -> Result<usize, Failed> {
    let folder = tempfile::tempdir()?;
    let folder = Utf8Path::from_path(folder.path()).ok_or("a path that is no text")?;
    let program = binary.program.with_file_name("qemu-img");
    let tool = QemuImg { program, ..QemuImg::new(TokioEnv::new()) };
    let real = LocalSet::new().block_on(runtime, story::of_images(&tool, folder));
    let simulated = story::simulated(binary.release);
    if real != simulated {
        return Err(format!("simulated: {simulated:#?}\nreal: {real:#?}").into());
    }
    Ok(real.len())
}

/// The machine has `vda.qcow2` and `vdb.raw` to write, and `vdc.qcow2` to read.
fn locked(binary: &Binary, runtime: &Runtime) -> Result<usize, Failed> {
    let disk = |name: &str, path: &str| Disk::new(name, format!("/images/{path}").into());
    let mut machine = Machine::new();
    machine.disks = vec![
        disk("vda", "vda.qcow2"),
        Disk { format: Format::Raw, ..disk("vdb", "vdb.raw") },
        Disk { readonly: true, ..disk("vdc", "vdc.qcow2") },
    ];
    let real = LocalSet::new().block_on(runtime, QemuWorld::start(binary, &machine))?;
    let mut world = World::new(&machine, binary.release, Oracle::default_order());
    world.advance(Duration::from_millis(500));
    let mut pair = Pair::new(&binary.program.with_file_name("qemu-img"), real.folder(), world);
    let count = script(&mut pair, LOCKED);
    LocalSet::new().block_on(runtime, real.kill_qemu());
    count
}

/// Runs what must be simulated, line by line.
fn script(pair: &mut Pair, text: &str) -> Result<usize, Failed> {
    let mut count = 0;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<_> = line.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        if let ["write", name, first, blocks, byte] = words[..] {
            let first: u64 = first.parse()?;
            pair.write(name, first..first + blocks.parse::<u64>()?, byte.parse()?)?;
            continue;
        }
        match pair.run(&words)? {
            Outcome::Same => count += 1,
            Outcome::NotSimulated => return Err(format!("`{line}` is not simulated").into()),
            Outcome::Different(how) => return Err(format!("`{line}`\n{how}").into()),
        }
    }
    Ok(count)
}

fn random(binary: &Binary, _: &Runtime) -> Result<usize, Failed> {
    let mut count = 0;
    for seed in 0..SEQUENCES {
        let folder = tempfile::tempdir()?;
        let folder = Utf8Path::from_path(folder.path()).ok_or("a path that is no text")?;
        let mut pair = empty(binary, folder);
        let mut grammar = Grammar::new(seed);
        let mut done = Vec::new();
        let mut check = |pair: &mut Pair, step: Step| -> Result<(), Failed> {
            done.push(format!("{step:?}"));
            let outcome = match step {
                Step::Write(name, first, blocks, byte) => {
                    pair.write(&name, first..first + blocks, byte)?;
                    Outcome::Same
                }
                Step::Run(words) => {
                    count += 1;
                    pair.run(&words.iter().map(String::as_str).collect::<Vec<_>>())?
                }
            };
            match outcome {
                Outcome::Different(how) => Err(format!("seed {seed}\n{}\n{how}", done.join("\n")).into()),
                Outcome::NotSimulated => {
                    count -= 1;
                    Ok(())
                }
                Outcome::Same => Ok(()),
            }
        };
        let first = Grammar::first().into_iter();
        for step in first.chain(std::iter::repeat_with(|| grammar.step()).take(STEPS)) {
            check(&mut pair, step)?;
        }
        for question in Grammar::images().iter().flat_map(|image| Grammar::questions(image)) {
            check(&mut pair, Step::Run(question))?;
        }
        if let Outcome::Different(how) = pair.contents()? {
            return Err(format!("seed {seed}\n{}\n{how}", done.join("\n")).into());
        }
    }
    Ok(count)
}
