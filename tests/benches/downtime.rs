//! How long a guest stands still for a snapshot, and how long the whole takes: this driver's command and `virsh`, turn by
//! turn in the same run, on the same machine.
//!
//! A libvirt of the benchmark's own defines an idle machine of 128 MiB with two disks and starts it anew for every snapshot,
//! for both. The guest's pause is read by a bystander on a monitor of its own, from QEMU's own times of `STOP` and `RESUME`;
//! the whole is the wall clock of the command, from its start to its end. Medians of [`ROUNDS`], by turns, so that what else
//! the host does strikes both. Either knows from earlier rounds what this QEMU can do. Without libvirt or QEMU it says so and
//! measures nothing.
//!
//! It fails if a guest whose memory is saved stands still for more than half as long as with `virsh`, or if a snapshot of disks
//! alone takes more than half as long.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures real programs in real time, and says so"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use camino::Utf8Path;
use freezeframe_tests::{
    bench::{self, Failed, Who},
    libvirt::Libvirt,
};

/// How often each is done by each.
const ROUNDS: usize = 11;

/// How many times as long as `virsh` it may take at most.
const AT_MOST: f64 = 0.5;

const MEMORY: [&str; 6] =
    ["--memspec", "file=DIR/vm.mem", "--diskspec", "vda,file=DIR/a.s1", "--diskspec", "vdb,file=DIR/b.s1"];

/// What is compared: a name, the options of `snapshot-create-as` that both commands take, `DIR` being a new folder, and which of
/// the two times must be short.
const KINDS: [(&str, &[&str], &[&str], Limited); 3] = [
    ("memory and disks", &[], &MEMORY, Limited::Pause),
    ("memory and disks, live", &["--live"], &MEMORY, Limited::Nothing),
    (
        "disks alone",
        &["--disk-only", "--atomic"],
        &["--diskspec", "vda,file=DIR/a.s1", "--diskspec", "vdb,file=DIR/b.s1"],
        Limited::Whole,
    ),
];

/// Which of the times has a limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limited {
    Pause,
    Whole,
    Nothing,
}

/// One snapshot: what the guest stood still for, if it did, and the whole.
#[derive(Clone, Copy)]
struct Took {
    paused: Option<Duration>,
    whole: Duration,
}

fn main() -> ExitCode {
    // A test runner that looks for tests finds none.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let libvirt = match Libvirt::start() {
        Ok(libvirt) => libvirt,
        Err(why) => {
            println!("skipped: no real libvirt here: {why}");
            return ExitCode::SUCCESS;
        }
    };
    println!("QEMU: {}", libvirt.qemu);
    let mut too_long = Vec::new();
    for (kind, flags, parts, limited) in KINDS {
        let options = [flags, parts].concat();
        let turns = match bench::by_turns(ROUNDS, |who| snapshot(&libvirt, who, &options)) {
            Ok(turns) => turns,
            Err(error) => {
                println!("{kind}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let whole = turns.tell(&format!("{kind}: whole"), |took| Some(took.whole));
        let paused = turns.tell(&format!("{kind}: guest stands still"), |took| took.paused);
        let ratio = match limited {
            Limited::Pause => paused,
            Limited::Whole => whole,
            Limited::Nothing => continue,
        };
        // What was not measured holds no limit either.
        if ratio.is_none_or(|ratio| ratio > AT_MOST) {
            too_long.push(kind);
        }
    }
    if too_long.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("more than {AT_MOST} times as long as virsh: {}", too_long.join("; "));
    ExitCode::FAILURE
}

/// A machine that has just been started, one snapshot of it, and the machine's end.
fn snapshot(libvirt: &Libvirt, who: Who, options: &[&str]) -> Result<Took, Failed> {
    let folder = bench::folder(libvirt)?;
    let result = start(libvirt, &folder).and_then(|()| taken(libvirt, &folder, who, options));
    bench::end(libvirt)?;
    result
}

fn start(libvirt: &Libvirt, folder: &Utf8Path) -> Result<(), Failed> {
    bench::start(libvirt, &machine(libvirt.qemu.as_str(), folder))?;
    // Its firmware sets up the disks and finds nothing to boot.
    thread::sleep(Duration::from_millis(1500));
    Ok(())
}

fn taken(libvirt: &Libvirt, folder: &Utf8Path, who: Who, options: &[&str]) -> Result<Took, Failed> {
    let mut bystander = Bystander::join(&folder.join("bystander"))?;
    let options = bench::options(options, folder);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let begun = Instant::now();
    match who {
        Who::Virsh => {
            libvirt.virsh(&[&["snapshot-create-as", "vm", "s1"], &options[..]].concat())?;
        }
        Who::Driver => {
            let domain = libvirt.file("live.xml", &libvirt.virsh(&["dumpxml", "vm"])?)?;
            return driver(&mut bystander, folder, &bench::state(libvirt), &domain, &options);
        }
    }
    let whole = begun.elapsed();
    Ok(Took { paused: bystander.pause()?, whole })
}

fn driver(
    bystander: &mut Bystander,
    folder: &Utf8Path,
    state: &Utf8Path,
    domain: &Utf8Path,
    options: &[&str],
) -> Result<Took, Failed> {
    let socket = folder.join("driver");
    let begun = Instant::now();
    let ran = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"))
        .args(["snapshot", "create-as", "--name", "s1", "--domain", domain.as_str()])
        .args(["--qmp", socket.as_str(), "--state", state.as_str()])
        .args(options)
        .output()?;
    let whole = begun.elapsed();
    if !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).into());
    }
    Ok(Took { paused: bystander.pause()?, whole })
}

/// A client that only listens.
struct Bystander {
    lines: BufReader<UnixStream>,
}

impl Bystander {
    fn join(path: &Utf8Path) -> Result<Self, Failed> {
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        let mut lines = BufReader::new(socket);
        for _ in 0..2 {
            lines.read_line(&mut String::new())?;
        }
        Ok(Self { lines })
    }

    /// From the first `STOP` to the last `RESUME`, by QEMU's clock; none if the guest was never stopped.
    fn pause(&mut self) -> Result<Option<Duration>, Failed> {
        let (mut stop, mut resume) = (None, None);
        let mut line = String::new();
        // Silence is the end.
        while self.lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            let event: serde_json::Value = serde_json::from_str(&line)?;
            line.clear();
            let time = &event["timestamp"];
            let Some((seconds, micros)) = time["seconds"].as_u64().zip(time["microseconds"].as_u64()) else {
                continue;
            };
            let at = Duration::from_secs(seconds) + Duration::from_micros(micros);
            match event["event"].as_str() {
                Some("STOP") => stop = stop.or(Some(at)),
                Some("RESUME") => resume = Some(at),
                _ => {}
            }
        }
        Ok(stop.zip(resume).map(|(stop, resume)| resume.saturating_sub(stop)))
    }
}

fn machine(qemu: &str, folder: &Utf8Path) -> String {
    let disk = |name, target| bench::disk(folder, name, target);
    let monitor = |name| bench::monitor(folder, name);
    format!(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>vm</name>\
         <memory unit='MiB'>128</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <devices><emulator>{qemu}</emulator>{}{}</devices>\
         <qemu:commandline>{}{}</qemu:commandline></domain>\n",
        disk("a", "vda"),
        disk("b", "vdb"),
        monitor("driver"),
        monitor("bystander"),
    )
}
