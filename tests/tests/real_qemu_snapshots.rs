//! `freezeframe snapshot` on real QEMUs that somebody else has started, from the first snapshot to the last that is deleted.
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
};

use camino::Utf8Path;
use freezeframe::world::{
    World as _,
    qemu::{Binary, Launch, QemuWorld},
};
use freezeframe_driver::env::Endpoint;
use freezeframe_sim::Machine;
use freezeframe_tests::{
    real,
    unharnessed::{asked_for, skipped_without_qemu},
};
use serde_json::Value;
use tokio::{runtime::Builder, task::LocalSet};

type Failed = Box<dyn Error>;

/// What a test runner calls this test.
const NAME: &str = "the_command_works_on_any_real_qemu";

fn main() -> ExitCode {
    if asked_for(&[NAME]).is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    if programs.is_empty() {
        return if skipped_without_qemu(1) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut code = ExitCode::SUCCESS;
    for program in programs {
        match LocalSet::new().block_on(&runtime, on(&program)) {
            Ok(()) => println!("{NAME}: {program}"),
            Err(error) => {
                println!("{NAME}: FAILED on {program}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

async fn on(program: &Utf8Path) -> Result<(), Failed> {
    let binary = Binary::ask(program, &Launch::default()).await?;
    let world = QemuWorld::start(&binary, &Machine::new().disk("vda").disk("vdb")).await?;
    let desk = tempfile::tempdir()?;
    let desk = Utf8Path::from_path(desk.path()).ok_or("a folder whose name is no text")?;
    let told = story(&Rig::new(&world, desk)?);
    world.kill_qemu().await;
    told
}

/// The command, on one machine.
struct Rig<'a> {
    desk: &'a Utf8Path,
    images: &'a Utf8Path,
    monitor: String,
}

impl<'a> Rig<'a> {
    fn new(world: &'a QemuWorld, desk: &'a Utf8Path) -> Result<Self, Failed> {
        let images = world.folder();
        let disk = |target: &str| {
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{images}/{target}.qcow2'/>\
                 <target dev='{target}'/></disk>"
            )
        };
        let text =
            format!("<domain><name>vm</name><devices>{}{}</devices></domain>", disk("vda"), disk("vdb"));
        fs::write(desk.join("vm.xml"), text)?;
        let Endpoint::Unix(monitor) = world.monitor();
        Ok(Self { desk, images, monitor: monitor.into_string() })
    }

    /// What a verb says to programs, whether it was done or not.
    fn say(&self, arguments: &[&str]) -> Result<(Option<i32>, Value), Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        command.current_dir(self.desk).arg("snapshot").args(arguments);
        command.args(["--json", "--domain", "vm.xml", "--state", "state"]);
        if matches!(arguments[0], "create" | "create-as" | "revert" | "delete") {
            command.args(["--qmp", &self.monitor]);
        }
        let said = command.output()?;
        let object = serde_json::from_slice(&said.stdout)
            .map_err(|error| format!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&said.stderr)))?;
        Ok((said.status.code(), object))
    }

    /// What a verb says that is done.
    fn done(&self, arguments: &[&str]) -> Result<Value, Failed> {
        match self.say(arguments)? {
            (Some(0), object) => Ok(object),
            (code, object) => Err(format!("{arguments:?} ended with {code:?}: {object}").into()),
        }
    }

    fn is(&self, what: &str, is: bool) -> Result<(), Failed> {
        if is { Ok(()) } else { Err(format!("not so: {what}").into()) }
    }

    fn has(&self, image: &str) -> bool {
        self.images.join(image).exists()
    }
}

fn story(rig: &Rig<'_>) -> Result<(), Failed> {
    let plan = rig.done(&["create-as", "i1", "--dry-run"])?;
    rig.is("a plan has stages", plan["plan"]["stages"].as_array().is_some_and(|stages| !stages.is_empty()))?;
    let taken = rig.done(&["create-as", "i1", "the first"])?;
    rig.is("the memory is in it", taken["consistency"] == "memory")?;
    rig.done(&["revert", "i1"])?;
    rig.done(&["delete", "i1"])?;
    rig.is("it is gone", rig.say(&["revert", "i1"])?.1["error"]["code"] == "NO_DOMAIN_SNAPSHOT")?;

    let taken = rig.done(&["create-as", "e1", "--disk-only", "--diskspec", "vdb,snapshot=no"])?;
    rig.is("one disk took part", taken["disks"] == serde_json::json!(["vda"]))?;
    rig.is("it has an overlay", rig.has("vda.e1") && !rig.has("vdb.e1"))?;
    let memory = rig.images.join("memory");
    let taken = rig.done(&["create-as", "m1", "--memspec", memory.as_str()])?;
    rig.is("the memory is in a file", taken["consistency"] == "memory" && rig.has("memory"))?;
    rig.is("both go on in overlays", rig.has("vda.m1") && rig.has("vdb.m1"))?;
    rig.is("it is current", rig.done(&["current", "--name"])?["name"] == "m1")?;
    rig.is("it descends from the other", rig.done(&["parent", "m1"])?["parent"] == "e1")?;

    let (code, refused) = rig.say(&["create-as", "m1", "--disk-only"])?;
    rig.is("a name is taken once", code == Some(1) && refused["error"]["outcome"] == "not-begun")?;
    let (code, refused) = rig.say(&["create-as", "e2", "--disk-only", "--diskspec", "vdx"])?;
    rig.is("a disk must be there", code == Some(1) && refused["error"]["code"] == "CONFIG_UNSUPPORTED")?;
    rig.is("nothing was done", !rig.has("vda.e2"))
}
