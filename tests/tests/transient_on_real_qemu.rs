//! A disk whose changes go when its machine ends, on real QEMUs: the guest's writes are in an overlay that nobody finds again, and
//! the image is never written to.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs the command as a user does")]

use std::{
    error::Error,
    fs,
    process::{Command, ExitCode},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::{
    World as _,
    qemu::{Binary, Launch, QemuWorld},
};
use freezeframe_driver::{
    client::Client,
    env::{Endpoint, Env as _},
    wire::Band,
};
use freezeframe_sim::Machine;
use freezeframe_tests::unharnessed::on_each_qemu;
use serde_json::{Value, json};
use tokio::{runtime::Builder, task::LocalSet};

type Failed = Box<dyn Error>;

/// What a test runner calls this test.
const NAME: &str = "what_a_guest_writes_to_a_transient_disk_goes_with_its_machine";

/// How long QEMU may take for a command.
const WITHIN: Duration = Duration::from_secs(20);

/// What the guest writes at the disk's beginning, and how much of it.
const WRITTEN: (u8, usize) = (7, 64 << 10);

fn main() -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    on_each_qemu(NAME, |program| LocalSet::new().block_on(&runtime, on(program)))
}

async fn on(program: &Utf8Path) -> Result<(), Failed> {
    let binary = Binary::ask(program, &Launch::default()).await?;
    let world = QemuWorld::start(&binary, &Machine::new().disk("vda").disk("vdb")).await?;
    // Its images are all that is wanted of it.
    world.kill_qemu().await;
    let desk = tempfile::tempdir()?;
    let desk = Utf8Path::from_path(desk.path()).ok_or("a folder whose name is no text")?;
    let told = story(&Rig::new(&world, desk, program)?).await;
    world.kill_qemu().await;
    told
}

async fn story(rig: &Rig<'_>) -> Result<(), Failed> {
    let image = fs::read(rig.image())?;
    let start = ["revert", "e1", "--running", "--launcher", "built-in", "--off"];
    let stop = ["revert", "e1", "--force", "--launcher", "built-in"];
    rig.done(&["create-as", "e1", "--disk-only", "--diskspec", "vdb,snapshot=no", "--off"])?;

    rig.done(&start)?;
    rig.is("the guest's writes go into the overlay", rig.written().await? == WRITTEN.0)?;
    rig.is("the image is as it was", fs::read(rig.image())? == image)?;
    rig.refused(&["create-as", "e2", "--disk-only", "--write-domain"])?;
    rig.done(&["create-as", "e2", "--disk-only", "--diskspec", "vdb,snapshot=no", "--write-domain"])?;
    rig.is("nobody is told of the overlay", !rig.description()?.contains("TRANSIENT"))?;
    rig.done(&stop)?;
    rig.is("it goes with the machine", !rig.overlay().exists() && fs::read(rig.image())? == image)?;

    rig.done(&start)?;
    rig.is("the next has one of its own", rig.overlay().exists() && rig.first_byte()? == 0)?;
    rig.written().await?;
    rig.world.kill_qemu().await;
    rig.is("a machine that dies leaves it", rig.overlay().exists() && rig.first_byte()? == WRITTEN.0)?;
    rig.done(&start)?;
    rig.is("the next start makes it anew", rig.overlay().exists() && rig.first_byte()? == 0)?;
    rig.done(&stop)?;

    fs::write(rig.overlay(), "somebody's")?;
    rig.refused(&start)?;
    rig.is("what is none stays as it was", fs::read(rig.overlay())? == b"somebody's")?;
    rig.is("the image was never written to", fs::read(rig.image())? == image)
}

/// The command, on one machine.
struct Rig<'a> {
    world: &'a QemuWorld,
    desk: &'a Utf8Path,
    tool: Utf8PathBuf,
    monitor: String,
}

impl<'a> Rig<'a> {
    fn new(world: &'a QemuWorld, desk: &'a Utf8Path, program: &Utf8Path) -> Result<Self, Failed> {
        let disk = |target: &str, more: &str| {
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}/{target}.qcow2'/>\
                 <target dev='{target}' bus='virtio'/>{more}</disk>",
                world.folder()
            )
        };
        let text = format!(
            "<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os>\
             <devices><emulator>{program}</emulator>{}{}</devices></domain>",
            disk("vda", ""),
            disk("vdb", "<transient/>")
        );
        fs::write(desk.join("vm.xml"), text)?;
        let Endpoint::Unix(monitor) = world.monitor();
        let beside = program.with_file_name("qemu-img");
        let tool = if beside.exists() { beside } else { "qemu-img".into() };
        Ok(Self { world, desk, tool, monitor: monitor.into_string() })
    }

    fn image(&self) -> Utf8PathBuf {
        self.world.folder().join("vdb.qcow2")
    }

    fn overlay(&self) -> Utf8PathBuf {
        self.world.folder().join("vdb.qcow2.TRANSIENT-vm")
    }

    fn description(&self) -> Result<String, Failed> {
        Ok(fs::read_to_string(self.desk.join("vm.xml"))?)
    }

    /// What a verb says to programs, whether it was done or not.
    fn say(&self, arguments: &[&str]) -> Result<(Option<i32>, Value), Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        command.current_dir(self.desk).arg("snapshot").args(arguments);
        command.args(["--json", "--domain", "vm.xml", "--state", "state", "--qmp", &self.monitor]);
        let said = command.output()?;
        let object = serde_json::from_slice(&said.stdout)
            .map_err(|error| format!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&said.stderr)))?;
        Ok((said.status.code(), object))
    }

    fn done(&self, arguments: &[&str]) -> Result<Value, Failed> {
        match self.say(arguments)? {
            (Some(0), object) => Ok(object),
            (code, object) => Err(format!("{arguments:?} ended with {code:?}: {object}").into()),
        }
    }

    fn refused(&self, arguments: &[&str]) -> Result<(), Failed> {
        match self.say(arguments)? {
            (Some(1), object) if object["error"]["code"] == "CONFIG_UNSUPPORTED" => Ok(()),
            (code, object) => Err(format!("{arguments:?} ended with {code:?}: {object}").into()),
        }
    }

    fn is(&self, what: &str, is: bool) -> Result<(), Failed> {
        if is { Ok(()) } else { Err(format!("not so: {what}").into()) }
    }

    /// Writes as the guest does; what the overlay begins with then.
    async fn written(&self) -> Result<u8, Failed> {
        let env = self.world.env();
        let client = Client::connect(env, &self.world.monitor(), false, WITHIN).await?;
        let (byte, length) = WRITTEN;
        for io in [format!("write -P {byte} 0 {length}"), "flush".to_owned()] {
            let line = format!("qemu-io -d /machine/peripheral/virtio-disk1/virtio-backend \"{io}\"");
            let (arguments, deadline) = (json!({ "command-line": line }), env.now() + WITHIN);
            client.call(Band::In, "guest", "human-monitor-command", Some(&arguments), deadline).await?;
        }
        // A monitor serves one at a time: the next is the command's.
        let mut events = client.events();
        client.close();
        while events.next(env.now() + WITHIN).await.is_ok() {}
        self.first_byte()
    }

    /// What the overlay begins with, whoever has it open.
    fn first_byte(&self) -> Result<u8, Failed> {
        let copy = self.desk.join("copy");
        let mut command = Command::new(&self.tool);
        command.args(["convert", "-U", "-f", "qcow2", "-O", "raw", self.overlay().as_str(), copy.as_str()]);
        if !command.status()?.success() {
            return Err(format!("{} cannot be read", self.overlay()).into());
        }
        Ok(*fs::read(&copy)?.first().ok_or("an empty disk")?)
    }
}
