//! `freezeframe snapshot` on real QEMUs that somebody else has started, from the first snapshot to the last that is deleted; and on
//! the images of a machine that is off.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs the command as a user does")]

use std::{
    error::Error,
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    process::{Command, ExitCode},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::{
    World as _,
    qemu::{Binary, Launch, QemuWorld},
};
use freezeframe_driver::env::Endpoint;
use freezeframe_sim::Machine;
use freezeframe_tests::{storage::LoopDevice, unharnessed::on_each_qemu};
use serde_json::Value;
use tokio::{runtime::Builder, task::LocalSet};

type Failed = Box<dyn Error>;

/// What a test runner calls this test.
const NAME: &str = "the_command_works_on_any_real_qemu";

fn main() -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    on_each_qemu(NAME, |program| LocalSet::new().block_on(&runtime, on(program)))
}

async fn on(program: &Utf8Path) -> Result<(), Failed> {
    let binary = Binary::ask(program, &Launch::default()).await?;
    let world = QemuWorld::start(&binary, &Machine::new().disk("vda").disk("vdb")).await?;
    let desk = tempfile::tempdir()?;
    let desk = Utf8Path::from_path(desk.path()).ok_or("a folder whose name is no text")?;
    let told = story(&Rig::new(&world, desk, program)?);
    world.kill_qemu().await;
    told?;
    on_a_device(&binary, program).await?;
    off(&binary, program).await?;
    when_off(&binary, program, &Machine::new().disk("vda").disk("vdb"), story_of_a_program).await?;
    when_off(&binary, program, &Machine::new().disk("vda"), story_of_libvirts_own).await
}

/// The same command on a machine that is off, and that the driver may start.
async fn when_off(
    binary: &Binary,
    program: &Utf8Path,
    machine: &Machine,
    story: fn(&Rig<'_>, &Utf8Path) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let world = QemuWorld::start(binary, machine).await?;
    world.kill_qemu().await;
    let desk = tempfile::tempdir()?;
    let desk = Utf8Path::from_path(desk.path()).ok_or("a folder whose name is no text")?;
    let rig = Rig { reached: Vec::new(), ..Rig::new(&world, desk, program)? };
    let told = story(&rig, program);
    // The one that the built-in launcher has started.
    world.kill_qemu().await;
    told
}

/// The same command, whose overlay is a block device of the host.
async fn on_a_device(binary: &Binary, program: &Utf8Path) -> Result<(), Failed> {
    let device = match LoopDevice::new(24) {
        Ok(device) => device,
        Err(why) => {
            println!("\nskipped 1: an overlay on a block device: {why}");
            return Ok(());
        }
    };
    let world = QemuWorld::start(binary, &Machine::new().disk("vda").disk("vdb")).await?;
    let desk = tempfile::tempdir()?;
    let desk = Utf8Path::from_path(desk.path()).ok_or("a folder whose name is no text")?;
    let told = story_of_a_device(&Rig::new(&world, desk, program)?, &device.path);
    world.kill_qemu().await;
    told
}

/// The same command on a machine that is off, and on one that only seems so.
async fn off(binary: &Binary, program: &Utf8Path) -> Result<(), Failed> {
    let world = QemuWorld::start(binary, &Machine::new().disk("vda").disk("vdb")).await?;
    let desk = tempfile::tempdir()?;
    let desk = Utf8Path::from_path(desk.path()).ok_or("a folder whose name is no text")?;
    let rig = Rig { reached: Vec::new(), ..Rig::new(&world, desk, program)? };
    let runs = story_of_one_that_runs(&rig);
    world.kill_qemu().await;
    runs?;
    let told = story_of_one_that_is_off(&rig, program);
    // The one that the driver has started.
    world.kill_qemu().await;
    told
}

/// The command, on one machine.
struct Rig<'a> {
    desk: &'a Utf8Path,
    images: &'a Utf8Path,
    monitor: String,
    /// How it is reached: by its monitor, or not at all.
    reached: Vec<String>,
}

impl<'a> Rig<'a> {
    fn new(world: &'a QemuWorld, desk: &'a Utf8Path, program: &Utf8Path) -> Result<Self, Failed> {
        let images = world.folder();
        let disk = |target: &str| {
            format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{images}/{target}.qcow2'/>\
                 <target dev='{target}' bus='virtio'/></disk>"
            )
        };
        let text = format!(
            "<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os>\
             <devices><emulator>{program}</emulator>{}{}</devices></domain>",
            disk("vda"),
            disk("vdb")
        );
        fs::write(desk.join("vm.xml"), text)?;
        let Endpoint::Unix(monitor) = world.monitor();
        let monitor = monitor.into_string();
        let reached = vec!["--qmp".to_owned(), monitor.clone()];
        Ok(Self { desk, images, monitor, reached })
    }

    /// What a verb says to programs, whether it was done or not.
    fn say(&self, arguments: &[&str]) -> Result<(Option<i32>, Value), Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        command.current_dir(self.desk).arg("snapshot").args(arguments);
        command.args(["--json", "--domain", "vm.xml", "--state", "state"]);
        if matches!(arguments[0], "create" | "create-as" | "revert" | "delete") {
            command.args(&self.reached);
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

fn story_of_a_device(rig: &Rig<'_>, device: &Utf8Path) -> Result<(), Failed> {
    let description = || fs::read_to_string(rig.desk.join("vm.xml"));
    let overlay = format!("vda,stype=block,file={device}");
    let out = ["--diskspec", "vdb,snapshot=no", "--write-domain"];
    let take = ["create-as", "b1", "--disk-only", "--diskspec", overlay.as_str()];
    rig.done(&[&take[..], &out].concat())?;
    let named = format!("<source dev='{device}'/>");
    rig.is("the disk is in the device", description()?.contains(&named))?;
    rig.done(&["delete", "b1", "--write-domain"])?;
    rig.is(
        "it is in its file again",
        description()?.contains("/vda.qcow2'/>") && !description()?.contains(&named),
    )?;
    rig.is("the device is still there", device.exists())
}

fn story_of_one_that_runs(rig: &Rig<'_>) -> Result<(), Failed> {
    for arguments in [&["create-as", "o1"][..], &["create-as", "o1", "--disk-only"]] {
        let (code, refused) = rig.say(arguments)?;
        rig.is("it is found to run", code == Some(1) && refused["error"]["code"] == "OPERATION_INVALID")?;
        rig.is("nothing was begun", refused["error"]["outcome"] == "not-begun" && !rig.has("vda.o1"))?;
    }
    Ok(())
}

fn story_of_one_that_is_off(rig: &Rig<'_>, program: &Utf8Path) -> Result<(), Failed> {
    let description = || fs::read_to_string(rig.desk.join("vm.xml"));
    let plan = rig.done(&["create-as", "i1", "--disk-only", "--dry-run"])?;
    rig.is("a plan tells no description", !plan.to_string().contains("emulator"))?;
    let taken = rig.done(&["create-as", "i1"])?;
    rig.is("it is off", taken["consistency"] == "off" && taken["machine"] == "as-it-was")?;
    rig.is("its record says so", rig.done(&["info", "i1"])?["state"] == "shutoff")?;
    rig.done(&["revert", "i1"])?;
    rig.done(&["delete", "i1"])?;

    for name in ["e1", "e2", "e3"] {
        rig.done(&["create-as", name, "--disk-only"])?;
        rig.is("its description names the overlay", description()?.contains(&format!("vda.{name}'")))?;
    }
    rig.done(&["delete", "e2"])?;
    rig.is("what is above stands on what is below", !rig.has("vda.e2") && rig.has("vda.e3"))?;
    rig.done(&["delete", "e3"])?;
    rig.is("it is in what is below", description()?.contains("vda.e1'") && !rig.has("vda.e3"))?;
    rig.done(&["revert", "e1"])?;
    rig.is("it is in new overlays", !description()?.contains("vda.e1'") && !rig.has("vda.e1"))?;

    let (code, refused) = rig.say(&["revert", "e1", "--running", "--launcher", "built-in"])?;
    rig.is("its monitor is missing", code == Some(1) && refused["error"]["code"] == "OPERATION_UNSUPPORTED")?;
    let start = ["--running", "--launcher", "built-in", "--off", "--qmp", &rig.monitor];
    let reverted = rig.done(&[&["revert", "e1"], &start[..]].concat())?;
    rig.is("it was started", reverted["machine"] == "started-and-runs")?;
    rig.is("what the plan has written is not old", reverted["description-is-old"].is_null())?;
    let (code, refused) = rig.say(&["create-as", "e4", "--disk-only", "--off", "--qmp", &rig.monitor])?;
    rig.is("it is not off any more", code == Some(1) && refused["error"]["code"] == "OPERATION_INVALID")?;
    rig.done(&["create-as", "e4", "--disk-only", "--qmp", &rig.monitor, "--write-domain"])?;
    rig.is("its description names the overlay", description()?.contains("vda.e4'"))?;

    let memory = rig.images.join("memory");
    let running = ["--qmp", &rig.monitor, "--write-domain"];
    let save = ["create-as", "m1", "--memspec", memory.as_str()];
    rig.done(&[&save[..], &running].concat())?;
    let ended = rig.done(&[&["revert", "e1", "--force"], &running[..]].concat())?;
    rig.is("it is off again", ended["machine"] == "off" && !description()?.contains("vda.m1'"))?;
    let start = ["--launcher", "built-in", "--off", "--qmp", &rig.monitor];
    let asked = left_by_a_killed_driver(rig, program)?;
    let reverted = rig.done(&[&["revert", "m1"], &start[..]].concat())?;
    rig.is("the QEMU that was left was asked, and has ended", UnixStream::connect(asked).is_err())?;
    rig.is("it goes on with its memory", reverted["machine"] == "started-and-runs")?;
    cut_memory(rig, &memory)
}

/// A file of memory that has lost its end is found out while the machine runs, which is not touched.
fn cut_memory(rig: &Rig<'_>, memory: &Utf8Path) -> Result<(), Failed> {
    let whole = fs::read(memory)?;
    let back = ["revert", "m1", "--launcher", "built-in", "--qmp", &rig.monitor, "--write-domain"];
    for (length, says) in
        [(whole.len() - 1, "the last byte is missing"), (whole.len() / 2, "its end is missing")]
    {
        fs::write(memory, &whole[..length])?;
        let (code, refused) = rig.say(&back)?;
        let words = refused["error"].to_string();
        rig.is(
            &format!("it is found to be cut off: {words}"),
            code == Some(1) && refused["error"]["outcome"] == "not-begun" && words.contains(says),
        )?;
        let plan = rig.done(&["create-as", "e5", "--disk-only", "--dry-run", "--qmp", &rig.monitor])?;
        rig.is("the machine runs on", plan["plan"]["stages"].is_array())?;
    }
    fs::write(memory, whole)?;
    let reverted = rig.done(&back)?;
    rig.is("it goes on with the whole", reverted["machine"] == "started-and-runs")
}

/// Starts the machine with node names of its own, of which nobody is told.
const LAUNCHER: &str = r##"#!/bin/sh
asked=$(cat)
here=$(dirname "$0")
said() { printf '%s' "$asked" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
if [ "$(said action)" = stop ]; then
  kill "$(cat "$here/pid")"
  echo '{"done": {}}'
  exit
fi
set --
for file in $(printf '%s' "$asked" | sed 's/<disk /\n<disk /g' | sed -n "/^<disk /s/<source file='\([^']*\)'.*/\n\1/p" | grep '^/'); do
  set -- "$@" -blockdev "driver=qcow2,node-name=own-$#,file.driver=file,file.filename=$file" -device "virtio-blk-pci,drive=own-$#"
done
[ "$(said state)" = running ] || set -- "$@" -S
setsid PROGRAM -accel tcg -nodefaults -display none -machine q35 -m 64 \
  -qmp "unix:$(said monitor),server=on,wait=off" "$@" </dev/null >/dev/null 2>&1 &
echo $! >"$here/pid"
echo '{"done": {}}'
"##;

/// The machine that was started last, by the file with its number. Dropped, it is ended.
struct Started(Utf8PathBuf);

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(&self.0) {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
    }
}

/// What makes it another machine, as far as is described.
const MORE: &str = "<features><acpi/></features><devices>";

/// A program of the user's starts and stops the machine. Its disks hold a snapshot with the memory, and the machine that runs is described
/// as another one by then.
fn story_of_a_program(rig: &Rig<'_>, program: &Utf8Path) -> Result<(), Failed> {
    let launcher = rig.desk.join("launcher");
    fs::write(&launcher, LAUNCHER.replace("PROGRAM", program.as_str()))?;
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o700))?;
    let _started = Started(rig.desk.join("pid"));
    let by = ["--launcher", launcher.as_str(), "--qmp", &rig.monitor];
    rig.done(&["create-as", "e1", "--disk-only"])?;
    one_that_starts_another(rig, program, &launcher)?;
    fs::write(&launcher, LAUNCHER.replace("PROGRAM", program.as_str()))?;
    let reverted = rig.done(&[&["revert", "e1", "--running", "--off"], &by[..]].concat())?;
    rig.is("the program has started it", reverted["machine"] == "started-and-runs")?;
    let taken = rig.done(&[&["create-as", "i1"], &by[2..]].concat())?;
    rig.is("the memory is in it", taken["consistency"] == "memory")?;
    rig.done(&[&["create-as", "i2"], &by[2..]].concat())?;

    let vm = rig.desk.join("vm.xml");
    fs::write(&vm, fs::read_to_string(&vm)?.replace("<devices>", MORE))?;
    let reverted = rig.done(&[&["revert", "i1", "--force", "--write-domain"], &by[..]].concat())?;
    rig.is("the program has started another one", reverted["machine"] == "started-and-runs")?;
    rig.is("it is that of the snapshot", !fs::read_to_string(&vm)?.contains("<acpi/>"))?;
    rig.is("it is current", rig.done(&["current", "--name"])?["name"] == "i1")?;

    fs::write(&vm, fs::read_to_string(&vm)?.replace("<devices>", MORE))?;
    let without = ["revert", "i1", "--force", "--discard", "--delete-children", "--write-domain"];
    rig.done(&[&without, &by[..]].concat())?;
    rig.is("what came after it is gone", rig.say(&["info", "i2"])?.0 == Some(1))?;
    rig.done(&[&["delete", "i1"], &by[2..]].concat())?;
    Ok(())
}

/// A QEMU without disks, which a driver has started to ask it what it can do, and was killed.
fn left_by_a_killed_driver(rig: &Rig<'_>, program: &Utf8Path) -> Result<String, Failed> {
    let asked = format!("{}.asked", rig.monitor);
    let words = ["-accel", "tcg", "-nodefaults", "-display", "none", "-S", "-daemonize", "-qmp"];
    let started =
        Command::new(program).args(words).arg(format!("unix:{asked},server=on,wait=off")).status()?;
    rig.is("it is there", started.success() && UnixStream::connect(&asked).is_ok())?;
    Ok(asked)
}

/// What a program has started is believed only when it has been seen: the guest would write to what is removed behind it.
fn one_that_starts_another(rig: &Rig<'_>, program: &Utf8Path, launcher: &Utf8Path) -> Result<(), Failed> {
    let by = ["--launcher", launcher.as_str(), "--qmp", &rig.monitor];
    let vm = rig.desk.join("vm.xml");
    let before = (fs::read_to_string(&vm)?, fs::read_dir(rig.images)?.count());
    let lies = [
        ("| grep '^/'", "| grep '^/' | head -n 1", "disk vdb was to be in"),
        ("[ \"$(said state)\" = running ] ||", "true;", "the guest was to be `running`, and is `prelaunch`"),
    ];
    for (does, lies, words) in lies {
        fs::write(launcher, LAUNCHER.replace(does, lies).replace("PROGRAM", program.as_str()))?;
        let (code, told) = rig.say(&[&["revert", "e1", "--running", "--off"], &by[..]].concat())?;
        let told = told.to_string();
        rig.is(&format!("it is told that {words}: {told}"), code == Some(1) && told.contains(words))?;
        let after = (fs::read_to_string(&vm)?, fs::read_dir(rig.images)?.count());
        rig.is("the description and the images are as they were", before == after)?;
        let listens = UnixStream::connect(&rig.monitor).is_ok();
        rig.is("what was started has ended", !listens)?;
    }
    Ok(())
}

/// On a machine as libvirt describes one that runs, with all that virt-install gives it.
fn story_of_libvirts_own(rig: &Rig<'_>, program: &Utf8Path) -> Result<(), Failed> {
    let vm = rig.desk.join("vm.xml");
    let document = include_str!("../../driver/tests/libvirt-9.0-running/dumpxml-start-1.xml")
        .replace("/usr/bin/qemu-system-x86_64", program.as_str())
        .replace("pc-q35-7.2", "q35")
        .replace("/vm/img/", &format!("{}/", rig.images))
        .replace("/var/lib/libvirt/qemu/channel/target/domain-1-web1/", &format!("{}/", rig.desk));
    fs::write(&vm, document.replace(">qemu64<", ">of-nobody<"))?;
    rig.done(&["create-as", "bad", "--disk-only"])?;
    fs::write(&vm, fs::read_to_string(&vm)?.replace(">of-nobody<", ">qemu64<"))?;
    rig.done(&["create-as", "e1", "--disk-only"])?;
    let launch = ["--running", "--launcher", "built-in", "--qmp", &rig.monitor];
    let reverted = rig.done(&[&["revert", "e1", "--off"], &launch[..]].concat())?;
    rig.is("it was started", reverted["machine"] == "started-and-runs")?;

    let running = ["--qmp", &rig.monitor, "--write-domain"];
    let reverted = rig.done(&[&["revert", "e1", "--force", "--write-domain"], &launch[..]].concat())?;
    rig.is("it was started in the place of the other", reverted["machine"] == "started-and-runs")?;
    let (code, refused) = rig.say(&[&["revert", "bad", "--force"], &launch[..]].concat())?;
    let words = refused["error"].to_string();
    rig.is(
        &format!("QEMU knows no such processor: {words}"),
        code == Some(1) && words.contains("of-nobody"),
    )?;
    rig.done(&[&["create-as", "e2", "--disk-only"], &running[..]].concat())?;
    rig.is("the machine runs on, and is in its overlay", rig.has("vda.e2"))
}
