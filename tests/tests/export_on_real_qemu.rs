//! `freezeframe disk export` on real QEMUs: what a backup reads is, byte for byte, what the disk held at the moment of the snapshot,
//! while the guest writes on; served by the machine's QEMU, by a storage daemon, and out of an image by `qemu-nbd`.
//!
//! Nothing runs in the machine: a second monitor writes to its disks as the guest's device does.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a program must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs the command as a user does")]

use std::{
    env,
    error::Error,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_tests::unharnessed::on_each_qemu;
use serde_json::{Value, json};

type Failed = Box<dyn Error>;

/// What a test runner calls this test.
const NAME: &str = "what_is_exported_is_the_moment_of_the_snapshot";

/// Bytes of each disk, and of each part that is written.
const DISK: usize = 8 << 20;
const PART: usize = 1 << 20;

fn main() -> ExitCode {
    on_each_qemu(NAME, what_is_exported_is_the_moment_of_the_snapshot)
}

fn what_is_exported_is_the_moment_of_the_snapshot(program: &Utf8Path) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let folder = Utf8Path::from_path(folder.path()).ok_or("a folder whose name is no text")?;
    let mut rig = Rig::start(folder, program)?;
    let told = external(&rig).and_then(|()| internal(&mut rig));
    // It may have ended by then.
    let _ = rig.qemu.kill();
    rig.qemu.wait()?;
    told
}

/// In an overlay: read from below it, whoever serves.
fn external(rig: &Rig<'_>) -> Result<(), Failed> {
    rig.writer()?.write("vda", 0x11, 0)?;
    rig.done(&["snapshot", "s1", "--disk", "vda", "--method", "qemu"])?;
    rig.writer()?.write("vda", 0x22, 0)?;
    let mut held = vec![0x11; PART];
    held.resize(DISK, 0);
    let unused = ["--socket", "nbd.sock", "--storage-daemon", "/nowhere/daemon"];
    let (code, refused) =
        rig.say(&[&["export", "s1", "--disk", "vda", "--method", "qemu"], &unused[..]].concat())?;
    let why = refused["error"]["message"].as_str().unwrap_or_default();
    rig.is(
        "no program is taken for one that serves",
        code == Some(2) && why.contains("QEMU itself serves it"),
    )?;
    for (by, others) in [(&[][..], 1), (&["--by", "daemon"], 0)] {
        let export = [&["export", "s1", "--disk", "vda", "--method", "qemu", "--socket", "nbd.sock"], by];
        let served = rig.serve(&export.concat())?;
        rig.is("QEMU serves only where it is to", rig.writer()?.exports()? == others)?;
        let over = AtomicBool::new(false);
        let read = thread::scope(|scope| {
            let writing = scope.spawn(|| write_until(rig, &over).map_err(|error| error.to_string()));
            let read = rig.read();
            over.store(true, Ordering::Relaxed);
            let wrote = writing.join().map_err(|_| "the writer panicked")??;
            rig.is("it was written to meanwhile", wrote > 0)?;
            read
        })?;
        rig.is("what is read is the moment of the snapshot", read == held)?;
        let (code, _) = rig.say(&["merge", "s1", "--disk", "vda", "--method", "qemu"])?;
        rig.is("nobody merges into it meanwhile", code == Some(75))?;
        rig.ended(served)?;
        rig.is("nothing is left in QEMU", rig.writer()?.exports()? == 0)?;
        let stopped = rig.writer()?.ask("nbd-server-stop", &json!({}))?;
        rig.is("the server is stopped", stopped["error"]["desc"] == "NBD server not running")?;
    }
    killed(rig)
}

/// A program serves no longer than the command that has started it.
fn killed(rig: &Rig<'_>) -> Result<(), Failed> {
    let export =
        ["export", "s1", "--disk", "vda", "--method", "qemu", "--socket", "nbd.sock", "--by", "daemon"];
    let missing = "cannot run `/nowhere/daemon`: No such file or directory";
    let (code, refused) = rig.say(&[&export[..], &["--storage-daemon", "/nowhere/daemon"]].concat())?;
    let why = refused["error"]["message"].as_str().unwrap_or_default();
    rig.is(&format!("one that is not there is told: {why}"), code == Some(1) && why.contains(missing))?;
    let mut served = rig.serve(&export)?;
    served.kill()?;
    served.wait()?;
    let socket = rig.folder.join("nbd.sock");
    wait_for("the program serves on", || UnixStream::connect(&socket).is_err())?;
    // It leaves its socket.
    if socket.exists() {
        fs::remove_file(&socket)?;
    }
    rig.ended(rig.serve(&export)?)
}

/// Inside the image: locked as long as the machine runs, and read by its name when it is off.
fn internal(rig: &mut Rig<'_>) -> Result<(), Failed> {
    rig.writer()?.write("vdb", 0x44, PART)?;
    rig.done(&["snapshot", "i1", "--internal", "--disk", "vdb", "--method", "qemu"])?;
    rig.writer()?.write("vdb", 0x55, PART)?;
    let listed = rig.done(&["list", "--disk", "vdb", "--method", "qemu"])?;
    rig.is("it is listed", listed["snapshots"][0]["name"] == "i1")?;
    let export = ["export", "i1", "--disk", "vdb", "--method", "qemu", "--socket", "nbd.sock"];
    let (code, refused) = rig.say(&export)?;
    let why = refused["error"]["message"].as_str().unwrap_or_default();
    rig.is("it fails", code == Some(1) && refused["error"]["code"] == "OPERATION_FAILED")?;
    rig.is("it is told who holds it", why.contains("that somebody writes to"))?;
    rig.writer()?.ask("quit", &json!({}))?;
    rig.qemu.wait()?;
    rig.runs = false;
    if Command::new("qemu-nbd").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped reading out of an image: no qemu-nbd");
        return Ok(());
    }
    let mut held = vec![0; DISK];
    held[PART..2 * PART].fill(0x44);
    let served = rig.serve(&export)?;
    let read = rig.read()?;
    rig.ended(served)?;
    rig.is("what is read is the moment of the snapshot", read == held)?;
    rig.done(&["delete", "i1", "--disk", "vdb", "--method", "qemu"])?;
    let listed = rig.done(&["list", "--disk", "vdb", "--method", "qemu"])?;
    rig.is("it is gone", listed["snapshots"] == json!([]))
}

/// Writes all over the disk until it is over. How often.
fn write_until(rig: &Rig<'_>, over: &AtomicBool) -> Result<usize, Failed> {
    let mut writer = rig.writer()?;
    let mut wrote = 0;
    while !over.load(Ordering::Relaxed) {
        writer.write("vda", 0x33, wrote % (DISK / PART) * PART)?;
        wrote += 1;
    }
    Ok(wrote)
}

/// A machine that somebody has started, and the command.
struct Rig<'a> {
    folder: &'a Utf8Path,
    /// Where the programs are that belong to the QEMU, in front of all others.
    path: String,
    qemu: Child,
    runs: bool,
}

impl<'a> Rig<'a> {
    fn start(folder: &'a Utf8Path, program: &Utf8Path) -> Result<Self, Failed> {
        let beside = program.parent().ok_or("a program lies somewhere")?;
        let path = format!("{beside}:{}", env::var("PATH").unwrap_or_default());
        let mut arguments = ["-accel", "tcg", "-nodefaults", "-display", "none", "-S", "-machine", "q35"]
            .map(str::to_owned)
            .to_vec();
        for monitor in ["driver", "writer"] {
            arguments.extend(["-qmp".to_owned(), format!("unix:{folder}/{monitor}.sock,server=on,wait=off")]);
        }
        let mut disks = String::new();
        for target in ["vda", "vdb"] {
            let file = folder.join(format!("{target}.qcow2"));
            let size = DISK.to_string();
            let mut create = Command::new("qemu-img");
            let made = create
                .args(["create", "-q", "-f", "qcow2", file.as_str(), &size])
                .env("PATH", &path)
                .status()?;
            if !made.success() {
                return Err(format!("`qemu-img create` ended with {made}").into());
            }
            let node = format!("driver=qcow2,node-name={target},file.driver=file,file.filename={file}");
            let device = format!("virtio-blk-pci,id={target}-device,drive={target}");
            arguments.extend(["-blockdev".to_owned(), node, "-device".to_owned(), device]);
            disks += &format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{file}'/><target dev='{target}' \
                 bus='virtio'/></disk>"
            );
        }
        let domain = format!("<domain type='qemu'><name>vm</name><devices>{disks}</devices></domain>");
        fs::write(folder.join("vm.xml"), domain)?;
        let qemu =
            Command::new(program).args(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let rig = Self { folder, path, qemu, runs: true };
        let is_open = || UnixStream::connect(rig.folder.join("writer.sock")).is_ok();
        wait_for("QEMU does not open its monitor", is_open)?;
        Ok(rig)
    }

    /// A second client, who writes.
    fn writer(&self) -> Result<Writer, Failed> {
        Writer::connect(&self.folder.join("writer.sock"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        command.current_dir(self.folder).env("PATH", &self.path).arg("disk").args(arguments);
        command.args(["--json", "--domain", "vm.xml", "--state", "state"]);
        if self.runs {
            command.arg("--qmp").arg(self.folder.join("driver.sock"));
        }
        command
    }

    fn say(&self, arguments: &[&str]) -> Result<(Option<i32>, Value), Failed> {
        let said = self.command(arguments).output()?;
        let words = String::from_utf8_lossy(&said.stderr);
        let object = serde_json::from_slice(&said.stdout)
            .map_err(|error| format!("{arguments:?}: {error}: {words}"))?;
        if let Some(disk) = modified(&object) {
            let domain = fs::read_to_string(self.folder.join("vm.xml"))?;
            let (start, end) =
                (domain.find("<disk").ok_or("a disk")?, domain.find("</disk>").ok_or("its end")?);
            fs::write(
                self.folder.join("vm.xml"),
                format!("{}{disk}{}", &domain[..start], &domain[end + 7..]),
            )?;
        }
        Ok((said.status.code(), object))
    }

    fn done(&self, arguments: &[&str]) -> Result<Value, Failed> {
        match self.say(arguments)? {
            (Some(0), object) => Ok(object),
            (code, object) => Err(format!("{arguments:?} ended with {code:?}: {object}").into()),
        }
    }

    /// The command that serves, as soon as it says that it does.
    fn serve(&self, arguments: &[&str]) -> Result<Child, Failed> {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn()?;
        let (mut told, mut lines) =
            (String::new(), BufReader::new(child.stdout.as_mut().ok_or("its output")?));
        // The end of the one object that it says.
        while !told.ends_with("\n}\n") && lines.read_line(&mut told)? > 0 {}
        if told.contains("nbd+unix:") && self.folder.join("nbd.sock").exists() {
            return Ok(child);
        }
        child.kill()?;
        child.wait()?;
        Err(format!("it does not serve: {told}").into())
    }

    /// What a backup program reads.
    fn read(&self) -> Result<Vec<u8>, Failed> {
        let target = if self.runs { "vda" } else { "vdb" };
        let uri = format!("nbd+unix:///{target}?socket={}/nbd.sock", self.folder);
        let (copy, mut convert) = (self.folder.join("copy.raw"), Command::new("qemu-img"));
        let arguments = ["convert", "-f", "raw", "-O", "raw", &uri, copy.as_str()];
        let ended = convert.args(arguments).env("PATH", &self.path).status()?;
        if ended.success() {
            Ok(fs::read(copy)?)
        } else {
            Err(format!("`qemu-img convert` ended with {ended}").into())
        }
    }

    /// Ends what serves as its user does, and sees that it goes.
    fn ended(&self, mut served: Child) -> Result<(), Failed> {
        Command::new("kill").args(["-TERM", &served.id().to_string()]).status()?;
        self.is("a signal ends it", served.wait()?.code() == Some(143))?;
        self.is("its socket is gone", !self.folder.join("nbd.sock").exists())
    }

    fn is(&self, what: &str, is: bool) -> Result<(), Failed> {
        if is { Ok(()) } else { Err(format!("not so: {what}").into()) }
    }
}

/// The `<disk>` that goes into the machine's document.
fn modified(told: &Value) -> Option<String> {
    let disks = told["modified"].as_object()?;
    Some(disks.values().next()?.as_str()?.trim().to_owned())
}

/// Writes to a machine's disks through its device.
struct Writer {
    stream: BufReader<UnixStream>,
    devices: Vec<(String, String)>,
}

impl Writer {
    fn connect(socket: &Utf8PathBuf) -> Result<Self, Failed> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut writer = Self { stream: BufReader::new(stream), devices: Vec::new() };
        writer.stream.read_line(&mut String::new())?;
        writer.ask("qmp_capabilities", &json!({}))?;
        let devices = writer.ask("query-block", &json!({}))?;
        let path = |device: &Value| {
            let path = device["qdev"].as_str()?;
            let target = path.rsplit('/').find_map(|part| part.strip_suffix("-device"))?;
            Some((target.to_owned(), path.to_owned()))
        };
        writer.devices = devices["return"].as_array().into_iter().flatten().filter_map(path).collect();
        Ok(writer)
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value, Failed> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(format!("QEMU has ended at `{command}`").into());
            }
            let message: Value = serde_json::from_str(&line)?;
            if message.get("event").is_none() {
                return Ok(message);
            }
        }
    }

    fn write(&mut self, target: &str, pattern: u8, at: usize) -> Result<(), Failed> {
        let device = self.devices.iter().find(|(known, _)| known == target).map(|(_, path)| path.clone());
        let device = device.ok_or("no such device")?;
        let line = format!("qemu-io -d {device} \"write -P {pattern} {at} {PART}\"");
        let said = self.ask("human-monitor-command", &json!({ "command-line": line }))?;
        // It says how much it wrote on its own output, and what it could not to whoever asks.
        if said["return"] == "" { Ok(()) } else { Err(format!("{line}: {said}").into()) }
    }

    fn exports(&mut self) -> Result<usize, Failed> {
        let told = self.ask("query-block-exports", &json!({}))?;
        Ok(told["return"].as_array().ok_or("a list")?.len())
    }
}

fn wait_for(otherwise: &str, is_so: impl Fn() -> bool) -> Result<(), Failed> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(otherwise.into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
