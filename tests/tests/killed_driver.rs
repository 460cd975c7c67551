//! SIGKILL to the driver in the middle of an operation, on real QEMU: the command as a user runs it is killed at each mark of its
//! journal, `snapshot recover` puts the machine right, and the same command does it then.
//!
//! What must hold after that: the guest runs, no job and no node is left, `snapshot list` says what is, every image is whole for
//! `qemu-img check`, and what the guest had written is read from its disk.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`; of them 7.2 and 10.0. A test without libtest's harness, which hides what a
//! passing test prints: what is skipped for want of a QEMU must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "speaks to real programs, in real time"
)]

use std::{
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::{Command, ExitCode, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::{
    World as _,
    qemu::{Binary, Launch, QemuWorld},
};
use freezeframe_driver::env::Endpoint;
use freezeframe_sim::{Machine, Release};
use freezeframe_tests::{
    real,
    unharnessed::{asked_for, skipped_without_qemu},
};
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

type Failed = Box<dyn Error>;

/// What a test runner calls this test.
const NAME: &str = "a_killed_driver_is_recovered_from";

/// At how many marks of its journal an operation is killed at most.
const MARKS: usize = 9;

/// How long an operation may take.
const WITHIN: Duration = Duration::from_secs(30);

/// What a user does, and what is done before.
struct Case {
    name: &'static str,
    before: &'static [&'static [&'static str]],
    killed: &'static [&'static str],
    /// The snapshots that there are in the end.
    snapshots: &'static [&'static str],
}

const DISKS: &[&str] = &["create-as", "s1", "--disk-only"];
const MEMORY: &[&str] =
    &["create-as", "s1", "--memspec", "file=$DIR/vm.mem", "--diskspec", "vda,snapshot=external"];
const DELETE: &[&str] = &["delete", "s1"];

const CASES: [Case; 3] = [
    Case { name: "a snapshot of the disk", before: &[], killed: DISKS, snapshots: &["s1"] },
    Case { name: "a snapshot with memory", before: &[], killed: MEMORY, snapshots: &["s1"] },
    Case { name: "a deletion", before: &[DISKS], killed: DELETE, snapshots: &[] },
];

fn main() -> ExitCode {
    for _ in asked_for(&[NAME]) {
        if let Err(error) = on_real_qemus() {
            println!("{NAME}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn on_real_qemus() -> Result<(), Failed> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut held = 0;
    for program in real::programs() {
        let binary = LocalSet::new().block_on(&runtime, Binary::ask(&program, &Launch::default()))?;
        if ![Release::V7_2, Release::V10_0].contains(&binary.release) {
            continue;
        }
        held += 1;
        let mut kills = 0;
        for case in &CASES {
            for mark in 1..=MARKS {
                let killed = one(case, mark, &binary, &runtime)
                    .map_err(|error| format!("{} on {program}, killed at mark {mark}: {error}", case.name))?;
                kills += usize::from(killed);
                // What has come to its end before has no such mark.
                if !killed {
                    break;
                }
            }
        }
        if kills < 2 * CASES.len() {
            return Err(format!("only {kills} operations on {program} could be killed in time").into());
        }
        println!("{NAME}: {kills} kills on {program}");
    }
    match held > 0 || skipped_without_qemu(1) {
        true => Ok(()),
        false => Err("nothing was held against a real one".into()),
    }
}

/// Kills an operation at one mark of its journal, and recovers. Tells whether it could be killed.
fn one(case: &Case, mark: usize, binary: &Binary, runtime: &Runtime) -> Result<bool, Failed> {
    let machine = Machine::new().disk("vda");
    let world = LocalSet::new().block_on(runtime, QemuWorld::start(binary, &machine))?;
    let desk = Desk::new(&world)?;
    let result = desk.play(case, mark, binary);
    LocalSet::new().block_on(runtime, world.kill_qemu());
    result
}

/// A machine, and the command's folder beside it.
struct Desk {
    folder: Utf8PathBuf,
    monitor: Utf8PathBuf,
    control: Utf8PathBuf,
}

impl Desk {
    fn new(world: &QemuWorld) -> Result<Self, Failed> {
        let (Endpoint::Unix(monitor), Endpoint::Unix(control)) = (world.monitor(), world.control());
        let folder = world.folder().to_owned();
        let domain = format!(
            "<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os><devices>\
             <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{folder}/vda.qcow2'/>\
             <target dev='vda' bus='virtio'/><alias name='vda-device'/></disk></devices></domain>"
        );
        fs::write(folder.join("vm.xml"), domain)?;
        Ok(Self { folder, monitor, control })
    }

    fn play(&self, case: &Case, mark: usize, binary: &Binary) -> Result<bool, Failed> {
        self.human("write -P 7 1M 1M")?;
        for before in case.before {
            self.succeeds(before)?;
        }
        self.human("write -P 9 2M 1M")?;
        let killed = self.kill_at(case.killed, mark)?;
        if killed {
            // A deletion that is put back says that it has to be called again.
            let recovered = self.run(&["recover"])?;
            let words = String::from_utf8_lossy(&recovered.stderr).into_owned();
            if !recovered.status.success() && !words.contains("delete it again") {
                return Err(format!("not recovered: {words}").into());
            }
            let again = self.run(&["recover", "--dry-run"])?;
            let is_done = self.snapshots()? == case.snapshots && recovered.status.success();
            if !again.status.success() {
                return Err(String::from_utf8_lossy(&again.stderr).into());
            }
            if !is_done {
                self.succeeds(case.killed)?;
            }
        }
        if self.snapshots()? != case.snapshots {
            return Err(format!("listed are {:?}", self.snapshots()?).into());
        }
        self.check_machine()?;
        self.check_images(binary)?;
        Ok(killed)
    }

    /// Runs a verb, and kills it as soon as its journal has so many lines. Tells whether it was killed.
    fn kill_at(&self, arguments: &[&str], mark: usize) -> Result<bool, Failed> {
        let mut child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let pending = self.folder.join("state/vm/pending");
        let started = Instant::now();
        loop {
            if child.try_wait()?.is_some() {
                return Ok(false);
            }
            let written = fs::read(&pending).unwrap_or_default();
            if written.iter().filter(|byte| **byte == b'\n').count() >= mark {
                child.kill()?;
                let status = child.wait()?;
                return Ok(!status.success());
            }
            if started.elapsed() > WITHIN {
                child.kill()?;
                return Err("it does not come to its end".into());
            }
            thread::sleep(Duration::from_micros(50));
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        let arguments: Vec<_> =
            arguments.iter().map(|argument| argument.replace("$DIR", self.folder.as_str())).collect();
        command.arg0("freezeframe").arg("snapshot").args(&arguments).current_dir(&self.folder);
        command.args(["--domain", "vm.xml", "--state", "state"]).stdin(Stdio::null());
        if arguments[0] != "list" {
            command.args(["--qmp", self.monitor.as_str()]);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<Output, Failed> {
        Ok(self.command(arguments).output()?)
    }

    fn succeeds(&self, arguments: &[&str]) -> Result<(), Failed> {
        let output = self.run(arguments)?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}: {}", arguments[0], String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    fn snapshots(&self) -> Result<Vec<String>, Failed> {
        let output = self.run(&["list", "--json"])?;
        let listed: Value = serde_json::from_slice(&output.stdout)?;
        let snapshots = listed["snapshots"].as_array().ok_or("no list")?;
        Ok(snapshots.iter().filter_map(|snapshot| Some(snapshot["name"].as_str()?.to_owned())).collect())
    }

    /// The guest runs, and nothing is left in QEMU or beside it.
    fn check_machine(&self) -> Result<(), Failed> {
        let status = self.ask("query-status", &json!({}))?;
        if status["status"] != "running" {
            return Err(format!("the guest is {}", status["status"]).into());
        }
        let jobs = self.ask("query-jobs", &json!({}))?;
        if jobs != json!([]) {
            return Err(format!("jobs are left: {jobs}").into());
        }
        let devices = self.ask("query-block", &json!({}))?;
        let chain = files_of(&devices[0]["inserted"]["image"]);
        let nodes = self.ask("query-named-block-nodes", &json!({ "flat": true }))?;
        for node in nodes.as_array().into_iter().flatten() {
            let file = node["image"]["filename"].as_str().unwrap_or_default();
            if !chain.contains(&file.to_owned()) {
                return Err(format!("a node on {file} is left; the disk is in {chain:?}").into());
            }
        }
        for name in self.folder.read_dir_utf8()?.flatten() {
            let path = name.path().as_str();
            if path.contains("/vda.") && !chain.contains(&path.to_owned()) {
                return Err(format!("{path} is left; the disk is in {chain:?}").into());
            }
        }
        Ok(())
    }

    /// Ends QEMU, looks at every image, and reads from the disk what was written.
    fn check_images(&self, binary: &Binary) -> Result<(), Failed> {
        let devices = self.ask("query-block", &json!({}))?;
        let chain = files_of(&devices[0]["inserted"]["image"]);
        self.ask("quit", &json!({}))?;
        let tool = binary.program.with_file_name("qemu-img");
        let started = Instant::now();
        for file in &chain {
            loop {
                let checked = Command::new(&tool).args(["check", "-f", "qcow2", file]).output()?;
                let words = String::from_utf8_lossy(&checked.stderr).into_owned();
                if checked.status.success() {
                    break;
                }
                // It holds its images until it has ended.
                if !words.contains("lock") || started.elapsed() > WITHIN {
                    return Err(format!("{file}: {words}{}", String::from_utf8_lossy(&checked.stdout)).into());
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        let copy = self.folder.join("copy");
        let arguments = ["convert", "-f", "qcow2", "-O", "raw", chain[0].as_str(), copy.as_str()];
        if !Command::new(&tool).args(arguments).status()?.success() {
            return Err(format!("{} cannot be read", chain[0]).into());
        }
        let disk = fs::read(&copy)?;
        for (at, byte) in [(1, 7), (2, 9)] {
            let written = disk.get(at << 20..(at + 1) << 20).ok_or("the disk is too short")?;
            if let Some(lost) = written.iter().position(|found| *found != byte) {
                return Err(format!("what was written to {at}M is lost from byte {lost} on").into());
            }
        }
        Ok(())
    }

    /// What the guest does to its disk. Whether it could, QEMU tells on its own standard output.
    fn human(&self, io: &str) -> Result<(), Failed> {
        let line = format!("qemu-io -d /machine/peripheral/vda-device/virtio-backend \"{io}\"");
        self.ask("human-monitor-command", &json!({ "command-line": line }))?;
        Ok(())
    }

    fn ask(&self, command: &str, arguments: &Value) -> Result<Value, Failed> {
        let mut stream = UnixStream::connect(&self.control)?;
        stream.set_read_timeout(Some(WITHIN))?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        for (execute, arguments) in [("qmp_capabilities", &json!({})), (command, arguments)] {
            let mut line = json!({ "execute": execute, "arguments": arguments, "id": execute }).to_string();
            line.push('\n');
            stream.write_all(line.as_bytes())?;
        }
        loop {
            let line: Value = serde_json::from_str(&lines.next().ok_or("QEMU has closed its monitor")??)?;
            if line["id"] == command {
                return match line.get("return") {
                    Some(value) => Ok(value.clone()),
                    None => Err(format!("{command}: {line}").into()),
                };
            }
        }
    }
}

/// The files of a chain.
fn files_of(image: &Value) -> Vec<String> {
    let mut files = Vec::new();
    let mut next = Some(image);
    while let Some(image) = next {
        files.extend(image["filename"].as_str().map(|file| Utf8Path::new(file).to_string()));
        next = image.get("backing-image");
    }
    files
}
