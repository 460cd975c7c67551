//! How long a guest stands still for a snapshot, and how long the whole takes: this driver's command and `virsh`, turn by
//! turn in the same run, on the same machine.
//!
//! A libvirt of the benchmark's own defines an idle machine of 128 MiB with two disks and starts it anew for every snapshot,
//! for both. The guest's pause is read by a bystander on a monitor of its own, from QEMU's own times of `STOP` and `RESUME`;
//! the whole is the wall clock of the command, from its start to its end. Medians of [`ROUNDS`], by turns, so that what else
//! the host does strikes both. Without libvirt or QEMU it says so and measures nothing.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures real programs in real time, and says so"
)]

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use camino::Utf8Path;
use freezeframe_tests::libvirt::Libvirt;

type Failed = Box<dyn Error>;

/// How often each is done by each.
const ROUNDS: usize = 11;

/// What is compared: a name, and the options of `snapshot-create-as` that both commands take, `DIR` being a new folder.
const KINDS: [(&str, &[&str]); 3] = [
    (
        "memory and disks",
        &[
            "--memspec",
            "file=DIR/vm.mem",
            "--diskspec",
            "vda,file=DIR/a.s1",
            "--diskspec",
            "vdb,file=DIR/b.s1",
        ],
    ),
    (
        "memory and disks, live",
        &[
            "--live",
            "--memspec",
            "file=DIR/vm.mem",
            "--diskspec",
            "vda,file=DIR/a.s1",
            "--diskspec",
            "vdb,file=DIR/b.s1",
        ],
    ),
    (
        "disks alone",
        &["--disk-only", "--atomic", "--diskspec", "vda,file=DIR/a.s1", "--diskspec", "vdb,file=DIR/b.s1"],
    ),
];

/// One snapshot: what the guest stood still for, if it did, and the whole.
#[derive(Clone, Copy)]
struct Took {
    paused: Option<Duration>,
    whole: Duration,
}

fn main() {
    // A test runner that looks for tests finds none.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let libvirt = match Libvirt::start() {
        Ok(libvirt) => libvirt,
        Err(why) => return println!("skipped: no real libvirt here: {why}"),
    };
    println!("QEMU: {}", libvirt.qemu);
    for (kind, options) in KINDS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for (who, all) in [(Who::Driver, &mut ours), (Who::Virsh, &mut theirs)] {
                match snapshot(&libvirt, who, options) {
                    Ok(took) => all.push(took),
                    Err(error) => panic!("{kind}, round {round}: {error}"),
                }
            }
        }
        tell(kind, "whole", &ours, &theirs, |took| Some(took.whole));
        tell(kind, "guest stands still", &ours, &theirs, |took| took.paused);
    }
}

fn tell(kind: &str, what: &str, ours: &[Took], theirs: &[Took], value: fn(&Took) -> Option<Duration>) {
    let median = |all: &[Took]| {
        let mut values: Vec<_> = all.iter().filter_map(value).collect();
        values.sort();
        values.get(values.len() / 2).copied()
    };
    match (median(ours), median(theirs)) {
        (Some(ours), Some(theirs)) => {
            let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
            println!("{kind:<24} {what:<20} driver {ours:>9.1?}   virsh {theirs:>9.1?}   ratio {ratio:.2}");
        }
        (ours, theirs) => println!("{kind:<24} {what:<20} driver {ours:?}   virsh {theirs:?}"),
    }
}

#[derive(Clone, Copy)]
enum Who {
    Driver,
    Virsh,
}

/// A machine that has just been started, one snapshot of it, and the machine's end.
fn snapshot(libvirt: &Libvirt, who: Who, options: &[&str]) -> Result<Took, Failed> {
    let folder = libvirt.path("play");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder)?;
    let folder = folder.as_path();
    let result = start(libvirt, folder).and_then(|()| taken(libvirt, folder, who, options));
    // Whatever became of it.
    let ended = libvirt.virsh(&["destroy", "vm"]);
    let _ = libvirt.virsh(&["undefine", "vm", "--snapshots-metadata"]);
    ended?;
    result
}

fn start(libvirt: &Libvirt, folder: &Utf8Path) -> Result<(), Failed> {
    for disk in ["a", "b"] {
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", folder.join(disk).as_str(), "64M"])
            .status()?;
        if !made.success() {
            return Err("qemu-img makes no image".into());
        }
    }
    let machine = libvirt.file("machine.xml", &machine(libvirt.qemu.as_str(), folder))?;
    libvirt.virsh(&["define", machine.as_str()])?;
    libvirt.virsh(&["start", "vm"])?;
    // Its firmware sets up the disks and finds nothing to boot.
    thread::sleep(Duration::from_millis(1500));
    Ok(())
}

fn taken(libvirt: &Libvirt, folder: &Utf8Path, who: Who, options: &[&str]) -> Result<Took, Failed> {
    let mut bystander = Bystander::join(&folder.join("bystander"))?;
    let options: Vec<_> = options.iter().map(|option| option.replace("DIR", folder.as_str())).collect();
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let begun = Instant::now();
    match who {
        Who::Virsh => {
            libvirt.virsh(&[&["snapshot-create-as", "vm", "s1"], &options[..]].concat())?;
        }
        Who::Driver => {
            let domain = libvirt.file("live.xml", &libvirt.virsh(&["dumpxml", "vm"])?)?;
            return driver(&mut bystander, folder, &domain, &options);
        }
    }
    let whole = begun.elapsed();
    Ok(Took { paused: bystander.pause()?, whole })
}

fn driver(
    bystander: &mut Bystander,
    folder: &Utf8Path,
    domain: &Utf8Path,
    options: &[&str],
) -> Result<Took, Failed> {
    let (socket, state) = (folder.join("driver"), folder.join("state"));
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
    let disk = |name: &str, target: &str| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{folder}/{name}'/>\
             <target dev='{target}' bus='virtio'/></disk>"
        )
    };
    let monitor = |name: &str| {
        format!(
            "<qemu:arg value='-chardev'/><qemu:arg value='socket,id=ff-{name},path={folder}/{name},server=on,wait=off'/>\
             <qemu:arg value='-mon'/><qemu:arg value='chardev=ff-{name},mode=control'/>"
        )
    };
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
