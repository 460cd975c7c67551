//! SIGKILL while something is under way: what was written by then is in the images, and nothing else. On the simulator,
//! and on real QEMUs beside it, whose images `qemu-img` shows.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`. Jobs are throttled so far that they sleep after the first bytes,
//! for minutes; those that keep in step get only as much as they copy at first. A save is killed as soon as the guest is heard to stop: its state is being written then.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must
//! be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "speaks to real programs, in real time"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    io::{Read as _, Write as _},
    ops::Range,
    os::unix::net::UnixStream,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use camino::Utf8Path;
use freezeframe::world::{
    World as _,
    qemu::{Binary, Launch, QemuWorld},
};
use freezeframe_driver::env::Endpoint;
use freezeframe_sim::{
    Machine, Oracle, Port, Release, World,
    machine::{Disk, Format, Power},
};
use freezeframe_tests::{
    real,
    unharnessed::{asked_for, skipped_without_qemu},
};
use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

type Failed = Box<dyn Error>;

/// What a test runner calls this test.
const NAME: &str = "a_killed_qemu_leaves_what_was_written_by_then";

/// A cluster of the images, in bytes.
const CLUSTER: u64 = 65536;

/// How long a real QEMU gets to answer and to copy its first bytes.
const A_WHILE: Duration = Duration::from_millis(150);

/// A job that is killed: what is said before, the last line starts it; and the image that it writes to.
struct Case {
    name: &'static str,
    /// Of the disk.
    format: Format,
    lines: &'static [&'static str],
    image: &'static str,
    /// Clusters of the image itself that hold data, and which byte.
    written: fn(Release) -> Vec<(Range<u64>, u64)>,
}

impl Case {
    fn machine(&self) -> Machine {
        let path = match self.format {
            Format::Raw => "vda.raw",
            Format::Qcow2 => "vda.qcow2",
        };
        let disk = Disk { format: self.format, ..Disk::new("vda", path.into()) };
        Machine::new().with_disk(disk).power(Power::Prelaunch)
    }

    fn to_be(&self, release: Release) -> BTreeMap<u64, u64> {
        let ranges = (self.written)(release).into_iter();
        ranges.flat_map(|(clusters, byte)| clusters.map(move |cluster| (cluster, byte))).collect()
    }
}

const TARGET: &str = r#"{"execute": "blockdev-create", "arguments": {"job-id": "a", "options":
    {"driver": "file", "filename": "$DIR/target", "size": 16777216}}}"#;
const NODE: &str = r#"{"execute": "blockdev-add", "arguments":
    {"driver": "file", "node-name": "target", "filename": "$DIR/target"}}"#;
const OVERLAY: &str = r#"{"execute": "blockdev-snapshot-sync", "arguments":
    {"node-name": "vda", "snapshot-file": "$DIR/overlay", "snapshot-node-name": "overlay"}}"#;
const UPPER: &str = r#"{"execute": "blockdev-snapshot-sync", "arguments":
    {"node-name": "overlay", "snapshot-file": "$DIR/upper", "snapshot-node-name": "upper"}}"#;
const WRITE: &str = r#"{"execute": "human-monitor-command", "arguments": {"command-line":
    "qemu-io -d /machine/peripheral/vda-device/virtio-backend \"write -P 1 0 4M\""}}"#;
const WRITE_LESS: &str = r#"{"execute": "human-monitor-command", "arguments": {"command-line":
    "qemu-io -d /machine/peripheral/vda-device/virtio-backend \"write -P 1 0 1M\""}}"#;
const REWRITE: &str = r#"{"execute": "human-monitor-command", "arguments": {"command-line":
    "qemu-io -d /machine/peripheral/vda-device/virtio-backend \"write -P 2 2M 1M\""}}"#;
const COMMIT: &str =
    r#"{"execute": "block-commit", "arguments": {"job-id": "j", "device": "overlay", "speed": 1}}"#;
const COMMIT_BETWEEN: &str = r#"{"execute": "block-commit", "arguments": {"job-id": "j", "device": "upper",
    "top-node": "overlay", "base-node": "vda", "speed": 1}}"#;
const STREAM: &str =
    r#"{"execute": "block-stream", "arguments": {"job-id": "j", "device": "overlay", "speed": 1}}"#;
const STREAM_ALL: &str = r#"{"execute": "block-stream", "arguments": {"job-id": "j", "device": "overlay", "auto-finalize": false}}"#;
const STREAM_BELOW: &str =
    r#"{"execute": "block-stream", "arguments": {"job-id": "below", "device": "overlay"}}"#;
const TOP: &str = r#"{"execute": "blockdev-snapshot-sync", "arguments":
    {"node-name": "upper", "snapshot-file": "$DIR/top", "snapshot-node-name": "top"}}"#;
const COMMIT_ALL: &str = r#"{"execute": "block-commit", "arguments": {"job-id": "j", "device": "top",
    "top-node": "upper", "base-node": "overlay", "auto-finalize": false}}"#;
const FLUSH: &str =
    r#"{"execute": "human-monitor-command", "arguments": {"command-line": "qemu-io overlay flush"}}"#;
const FINALIZE: &str = r#"{"execute": "job-finalize", "arguments": {"id": "j"}}"#;
const MIRROR: &str = r#"{"execute": "blockdev-mirror", "arguments": {"job-id": "j", "device": "vda",
    "target": "target", "sync": "full", "speed": 1}}"#;
const BACKUP: &str = r#"{"execute": "blockdev-backup", "arguments": {"job-id": "j", "device": "vda",
    "target": "target", "sync": "full", "speed": 1}}"#;

const CASES: [Case; 11] = [
    Case {
        name: "a commit into a raw disk",
        format: Format::Raw,
        lines: &[OVERLAY, WRITE_LESS, COMMIT],
        image: "vda.raw",
        written: |_| [(0..16, 1)].into(),
    },
    Case {
        name: "a commit into a qcow2 disk without data, whose tables were not written yet",
        format: Format::Qcow2,
        lines: &[OVERLAY, WRITE_LESS, COMMIT],
        image: "vda.qcow2",
        written: |_| Vec::new(),
    },
    Case {
        name: "a commit into a qcow2 disk with data, which is overwritten in place",
        format: Format::Qcow2,
        lines: &[WRITE, OVERLAY, REWRITE, COMMIT],
        image: "vda.qcow2",
        written: |_| [(0..32, 1), (32..48, 2), (48..64, 1)].into(),
    },
    Case {
        name: "a commit of a layer in between",
        format: Format::Raw,
        lines: &[OVERLAY, WRITE, UPPER, COMMIT_BETWEEN],
        image: "vda.raw",
        written: |_| [(0..8, 1)].into(),
    },
    Case {
        name: "a stream",
        format: Format::Qcow2,
        lines: &[WRITE, OVERLAY, STREAM],
        image: "overlay",
        written: |_| Vec::new(),
    },
    Case {
        name: "a stream that has ended",
        format: Format::Qcow2,
        lines: &[WRITE, OVERLAY, STREAM_ALL, FINALIZE],
        image: "overlay",
        written: |release| if release <= Release::V7_2 { Vec::new() } else { [(0..64, 1)].into() },
    },
    Case {
        name: "a stream that has ended, and what it has copied was flushed before",
        format: Format::Qcow2,
        lines: &[WRITE, OVERLAY, STREAM_ALL, FLUSH, FINALIZE],
        image: "overlay",
        written: |_| [(0..64, 1)].into(),
    },
    Case {
        name: "a commit in between that has ended, into an image that was streamed into",
        format: Format::Qcow2,
        lines: &[WRITE_LESS, OVERLAY, UPPER, STREAM_BELOW, REWRITE, TOP, COMMIT_ALL, FINALIZE],
        image: "overlay",
        written: |release| match release {
            Release::V5_2 | Release::V7_2 => [(0..16, 1), (32..48, 2)].into(),
            _ => [(0..16, 1)].into(),
        },
    },
    Case {
        name: "a commit in between that has ended, into an image that was streamed into, and was flushed before",
        format: Format::Qcow2,
        lines: &[WRITE_LESS, OVERLAY, UPPER, STREAM_BELOW, REWRITE, TOP, COMMIT_ALL, FLUSH, FINALIZE],
        image: "overlay",
        written: |_| [(0..16, 1), (32..48, 2)].into(),
    },
    Case {
        name: "a mirror",
        format: Format::Qcow2,
        lines: &[WRITE_LESS, TARGET, NODE, MIRROR],
        image: "target",
        written: |_| [(0..16, 1)].into(),
    },
    Case {
        name: "a backup",
        format: Format::Qcow2,
        lines: &[WRITE, TARGET, NODE, BACKUP],
        image: "target",
        written: |release| if release == Release::V5_2 { [(0..1, 1)].into() } else { [(0..16, 1)].into() },
    },
];

fn main() -> ExitCode {
    if asked_for(&[NAME]).is_empty() {
        return ExitCode::SUCCESS;
    }
    match on_the_simulator().and_then(|()| on_real_qemus()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn lines(lines: &[&str], folder: &Utf8Path) -> Vec<String> {
    let greeting = r#"{"execute": "qmp_capabilities"}"#;
    [greeting].iter().chain(lines).map(|line| line.replace("$DIR", folder.as_str())).collect()
}

/// Fails unless both are the same.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, to_be: &T) -> Result<(), Failed> {
    if is == to_be { Ok(()) } else { Err(format!("{what}: {is:?}, not {to_be:?}").into()) }
}

fn on_the_simulator() -> Result<(), Failed> {
    for release in Release::ALL {
        for case in &CASES {
            let mut world = World::new(&case.machine(), release, Oracle::default_order());
            let monitor = world.connect(Duration::ZERO, Port::Monitor(0))?;
            let mut now = Duration::ZERO;
            for line in lines(case.lines, "/images".into()) {
                world.receive(now, monitor, line.as_bytes())?;
                now += Duration::from_millis(200);
                world.advance(now);
            }
            world.kill_qemu();
            let image = world.host().image(case.image.into()).ok_or("no image")?;
            same(&format!("{} on {release}", case.name), image.blocks(), &case.to_be(release))?;
        }
        save_on_the_simulator(release)?;
    }
    println!("{NAME}: {} cases on the simulator, of 4 releases", CASES.len() + 1);
    Ok(())
}

/// Killed at every millisecond of a save of two disks, with many seeds: the snapshot is on none, on the first, on both.
fn save_on_the_simulator(release: Release) -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let machine = Machine::new().disk("vda").disk("vdb");
        let mut world = World::new(&machine, release, Oracle::seeded(seed));
        let monitor = world.connect(Duration::ZERO, Port::Monitor(0))?;
        let savevm = r#"{"execute": "human-monitor-command", "arguments": {"command-line": "savevm s"}}"#;
        for (second, line) in (1..).zip(lines(&[savevm], "/images".into())) {
            world.advance(Duration::from_secs(second));
            world.receive(Duration::from_secs(second), monitor, line.as_bytes())?;
        }
        let killed_at = Duration::from_secs(2) + Duration::from_millis(seed % 20);
        world.advance(killed_at);
        let said = String::from_utf8_lossy(world.output(monitor)).into_owned();
        world.kill_qemu();
        let saved = ["vda.qcow2", "vdb.qcow2"].map(|image| {
            let image = world.host().image(image.into()).and_then(|image| image.as_qcow2());
            image.is_some_and(|image| image.find("s").is_some())
        });
        let when = (said.contains("STOP"), said.contains("RESUME"));
        seen.insert((when, saved));
    }
    let [before, within, after] = [(false, false), (true, false), (true, true)];
    let all =
        [(before, [false, false]), (within, [false, false]), (within, [true, false]), (after, [true, true])];
    same(&format!("a save on {release}"), &seen, &all.into_iter().collect())
}

fn on_real_qemus() -> Result<(), Failed> {
    let programs = real::programs();
    if programs.is_empty() {
        let may_be = skipped_without_qemu(CASES.len() + 1);
        return if may_be { Ok(()) } else { Err("nothing was held against a real one".into()) };
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    for program in programs {
        let binary = LocalSet::new().block_on(&runtime, Binary::ask(&program, &Launch::default()))?;
        for case in &CASES {
            let mut real = Real::start(&binary, &case.machine(), &runtime)?;
            for line in lines(case.lines, real.world.folder()) {
                real.say(&line)?;
                thread::sleep(A_WHILE);
            }
            let answers = real.kill(&runtime)?;
            if let Some(error) = answers.lines().find(|line| line.contains("\"error\": {")) {
                return Err(format!("{} on {program}: {error}", case.name).into());
            }
            let written = clusters(&binary, &real.world.folder().join(case.image))?;
            same(&format!("{} on {program}", case.name), &written, &case.to_be(binary.release))?;
        }
        save_on_a_real_one(&binary, &runtime)?;
        println!("{NAME}: {} cases on {program}", CASES.len() + 1);
    }
    Ok(())
}

/// One that was over before it could be killed shows nothing, and is done again.
fn save_on_a_real_one(binary: &Binary, runtime: &Runtime) -> Result<(), Failed> {
    let savevm = r#"{"execute": "human-monitor-command", "arguments": {"command-line": "savevm s"}}"#;
    for _ in 0..20 {
        let mut real = Real::start(binary, &Machine::new().disk("vda"), runtime)?;
        for line in lines(&[savevm], real.world.folder()) {
            real.say(&line)?;
            thread::sleep(Duration::from_millis(if line.contains("savevm") { 0 } else { 100 }));
        }
        real.hear_until("STOP")?;
        if real.kill(runtime)?.contains("RESUME") {
            continue;
        }
        let image = real.world.folder().join("vda.qcow2");
        let info = qemu_img(binary, &["info", "--output=json", "-f", "qcow2", image.as_str()])?;
        let info: Value = serde_json::from_slice(&info)?;
        return same("snapshots", &info.get("snapshots"), &None);
    }
    Err(format!("no save on {} could be killed in time", binary.program).into())
}

/// A real QEMU and a plain socket to its monitor.
struct Real {
    world: QemuWorld,
    stream: UnixStream,
    heard: String,
}

impl Real {
    fn start(binary: &Binary, machine: &Machine, runtime: &Runtime) -> Result<Self, Failed> {
        let world = LocalSet::new().block_on(runtime, QemuWorld::start(binary, machine))?;
        let Endpoint::Unix(path) = world.monitor();
        let stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { world, stream, heard: String::new() })
    }

    fn say(&mut self, line: &str) -> Result<(), Failed> {
        Ok(self.stream.write_all(line.as_bytes())?)
    }

    fn hear_until(&mut self, word: &str) -> Result<(), Failed> {
        let mut buffer = [0; 4096];
        while !self.heard.contains(word) {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err(format!("no {word}: {}", self.heard).into());
            }
            self.heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        Ok(())
    }

    /// Kills it, and tells all that it has said.
    fn kill(&mut self, runtime: &Runtime) -> Result<String, Failed> {
        LocalSet::new().block_on(runtime, self.world.kill_qemu());
        let mut rest = Vec::new();
        // A connection that is reset has nothing more to tell.
        let _ = self.stream.read_to_end(&mut rest);
        self.heard.push_str(&String::from_utf8_lossy(&rest));
        Ok(self.heard.clone())
    }
}

/// The clusters that hold data in an image itself, and their first byte.
fn clusters(binary: &Binary, image: &Utf8Path) -> Result<BTreeMap<u64, u64>, Failed> {
    let raw = image.as_str().ends_with("target") || image.as_str().ends_with("raw");
    let format = if raw { "raw" } else { "qcow2" };
    let copy = format!("{image}.copy");
    let map = qemu_img(binary, &["map", "--output=json", "-f", format, image.as_str()])?;
    let map: Value = serde_json::from_slice(&map)?;
    qemu_img(binary, &["convert", "-f", format, "-O", "raw", image.as_str(), &copy])?;
    let bytes = std::fs::read(copy)?;
    let mut clusters = BTreeMap::new();
    for extent in map.as_array().ok_or("no map")? {
        let [start, length] = ["start", "length"].map(|name| extent[name].as_u64().unwrap_or_default());
        if extent["depth"] == 0 && extent["data"] == true {
            for cluster in start / CLUSTER..(start + length).div_ceil(CLUSTER) {
                let at = usize::try_from(cluster * CLUSTER)?;
                clusters.insert(cluster, u64::from(bytes[at]));
            }
        }
    }
    // A file system may show more of a raw file as data than was written.
    clusters.retain(|_, byte| *byte != 0);
    Ok(clusters)
}

fn qemu_img(binary: &Binary, arguments: &[&str]) -> Result<Vec<u8>, Failed> {
    let output = Command::new(binary.program.with_file_name("qemu-img")).args(arguments).output()?;
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8(output.stderr)?.into()) }
}
