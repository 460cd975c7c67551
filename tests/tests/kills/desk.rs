//! A machine on a real QEMU, and the command's folder beside it.

use std::{
    cell::Cell,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::{
    World as _,
    qemu::{Binary, QemuWorld},
};
use freezeframe_driver::env::Endpoint;
use serde_json::{Value, json};

use super::{Failed, Moment};

/// How long an operation may take.
const WITHIN: Duration = Duration::from_secs(30);

/// A machine, and the command's folder beside it.
pub(crate) struct Desk {
    folder: Utf8PathBuf,
    monitor: Utf8PathBuf,
    control: Utf8PathBuf,
    /// The `qemu-img` beside the QEMU that is held.
    tool: Utf8PathBuf,
    off: Cell<bool>,
}

impl Desk {
    pub(crate) fn new(world: &QemuWorld, binary: &Binary) -> Result<Self, Failed> {
        let (Endpoint::Unix(monitor), Endpoint::Unix(control)) = (world.monitor(), world.control());
        let folder = world.folder().to_owned();
        let domain = format!(
            "<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os><devices>\
             <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{folder}/vda.qcow2'/>\
             <target dev='vda' bus='virtio'/><alias name='vda-device'/></disk></devices></domain>"
        );
        fs::write(folder.join("vm.xml"), domain)?;
        let tool = binary.program.with_file_name("qemu-img");
        Ok(Self { folder, monitor, control, tool, off: Cell::default() })
    }

    /// From now on the machine is off: nothing is said to a monitor.
    pub(crate) fn is_off(&self) {
        self.off.set(true);
    }

    /// Runs a verb, and kills it then. Tells whether it was killed.
    pub(crate) fn kill_driver_at(&self, arguments: &[&str], moment: Moment) -> Result<bool, Failed> {
        let mut child = self.begin(arguments)?;
        if !self.comes(&mut child, moment)? {
            return Ok(false);
        }
        child.kill()?;
        Ok(!child.wait()?.success())
    }

    /// Runs a verb, and kills QEMU then, as `kill` does. Tells whether the verb was still running.
    pub(crate) fn kill_qemu_at(
        &self,
        arguments: &[&str],
        moment: Moment,
        kill: impl Fn(),
    ) -> Result<bool, Failed> {
        let mut child = self.begin(arguments)?;
        if !self.comes(&mut child, moment)? {
            return Ok(false);
        }
        kill();
        let started = Instant::now();
        while child.try_wait()?.is_none() {
            if started.elapsed() > WITHIN {
                child.kill()?;
                child.wait()?;
                return Err("it goes on without QEMU".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }

    fn begin(&self, arguments: &[&str]) -> Result<Child, Failed> {
        Ok(self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Waits for a moment of a verb; false if it has ended before.
    fn comes(&self, child: &mut Child, moment: Moment) -> Result<bool, Failed> {
        let pending = self.folder.join("state/vm/pending");
        let started = Instant::now();
        loop {
            if child.try_wait()?.is_some() {
                return Ok(false);
            }
            let written = fs::read(&pending).unwrap_or_default();
            if written.iter().filter(|byte| **byte == b'\n').count() >= moment.mark {
                thread::sleep(moment.later);
                return Ok(child.try_wait()?.is_none());
            }
            if started.elapsed() > WITHIN {
                child.kill()?;
                child.wait()?;
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
        if arguments[0] != "list" && !self.off.get() {
            command.args(["--qmp", self.monitor.as_str()]);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output, Failed> {
        Ok(self.command(arguments).output()?)
    }

    pub(crate) fn succeeds(&self, arguments: &[&str]) -> Result<(), Failed> {
        let output = self.run(arguments)?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}: {}", arguments[0], String::from_utf8_lossy(&output.stderr)).into()),
        }
    }

    pub(crate) fn snapshots(&self) -> Result<Vec<String>, Failed> {
        let output = self.run(&["list", "--json"])?;
        let listed: Value = serde_json::from_slice(&output.stdout)?;
        let snapshots = listed["snapshots"].as_array().ok_or("no list")?;
        Ok(snapshots.iter().filter_map(|snapshot| Some(snapshot["name"].as_str()?.to_owned())).collect())
    }

    /// The guest runs, and nothing is left in QEMU or beside it.
    pub(crate) fn check_machine(&self) -> Result<(), Failed> {
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

    /// QEMU ends.
    pub(crate) fn quit(&self) -> Result<(), Failed> {
        self.ask("quit", &json!({}))?;
        Ok(())
    }

    /// Looks at every image that the disk stands on, of this one or of the one that the machine's description names, and reads from the disk what was written: for each MiB the bytes
    /// that it may be full of.
    pub(crate) fn check_disk(&self, top: Option<&str>, written: &[(usize, &[u8])]) -> Result<(), Failed> {
        let chain = self.chain(top)?;
        for file in &chain {
            let checked = self.once_unlocked(&["check", "-f", "qcow2", file])?;
            // 3: clusters that nobody uses. They are lost room, and no data.
            if !matches!(checked.status.code(), Some(0 | 3)) {
                let words = [checked.stderr, checked.stdout].concat();
                return Err(format!("{file}: {}", String::from_utf8_lossy(&words)).into());
            }
        }
        let copy = self.folder.join("copy");
        let converted =
            self.once_unlocked(&["convert", "-f", "qcow2", "-O", "raw", &chain[0], copy.as_str()])?;
        if !converted.status.success() {
            return Err(format!("{}: {}", chain[0], String::from_utf8_lossy(&converted.stderr)).into());
        }
        let disk = fs::read(&copy)?;
        for (at, may_be) in written {
            let found = disk.get(at << 20..(at + 1) << 20).ok_or("the disk is too short")?;
            if !may_be.contains(&found[0]) {
                return Err(format!("at {at}M there is {}, not {may_be:?}", found[0]).into());
            }
            if let Some(torn) = found.iter().position(|byte| *byte != found[0]) {
                return Err(format!("what was written to {at}M is torn at byte {torn}").into());
            }
        }
        Ok(())
    }

    /// The files of the disk's chain, top first.
    fn chain(&self, top: Option<&str>) -> Result<Vec<String>, Failed> {
        let domain = fs::read_to_string(self.folder.join("vm.xml"))?;
        let described = domain.split("<source file='").nth(1).and_then(|rest| rest.split('\'').next());
        let top = top.or(described).ok_or("the description names no image")?;
        let told = self.once_unlocked(&["info", "--backing-chain", "--output=json", top])?;
        if !told.status.success() {
            return Err(format!("{top}: {}", String::from_utf8_lossy(&told.stderr)).into());
        }
        let images: Vec<Value> = serde_json::from_slice(&told.stdout)?;
        Ok(images.iter().filter_map(|image| Some(image["filename"].as_str()?.to_owned())).collect())
    }

    /// Runs `qemu-img`, as soon as a QEMU that ends has let go of its images.
    fn once_unlocked(&self, arguments: &[&str]) -> Result<Output, Failed> {
        let started = Instant::now();
        loop {
            let ran = Command::new(&self.tool).args(arguments).output()?;
            let is_locked = String::from_utf8_lossy(&ran.stderr).contains("lock");
            if ran.status.success() || !is_locked || started.elapsed() > WITHIN {
                return Ok(ran);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The guest fills a MiB of its disk with a byte, and flushes it. Whether it could, QEMU tells on its own standard output.
    pub(crate) fn write(&self, byte: u8, at: usize) -> Result<(), Failed> {
        for io in [&format!("write -P {byte} {at}M 1M"), "flush"] {
            let line = format!("qemu-io -d /machine/peripheral/vda-device/virtio-backend \"{io}\"");
            self.ask("human-monitor-command", &json!({ "command-line": line }))?;
        }
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
