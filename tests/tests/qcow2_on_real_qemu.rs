//! What only a real qcow2 image has, on real QEMUs, whether the machine runs or not: the firmware's variables in one belong to internal
//! snapshots, and an overlay is laid out as its image. The simulator's machines have no flash, and its images one layout.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of a QEMU must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs the command as a user does")]

use std::{
    error::Error,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Command, ExitCode},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_tests::{
    real,
    unharnessed::{asked_for, skipped_without_qemu},
};
use serde_json::{Value, json};

type Failed = Box<dyn Error>;

/// What a test runner calls each, and what it is.
const TESTS: [(&str, Story); 3] = [
    ("real_variables_of_the_firmware_go_with_an_internal_snapshot", firmware),
    ("real_variables_of_the_firmware_are_made_anew_from_their_template", anew),
    ("a_real_overlay_has_the_clusters_of_its_image", clusters),
];

type Story = fn(&Rig<'_>) -> Result<(), Failed>;

const IMAGES: [&str; 2] = ["vda.qcow2", "vars.qcow2"];
const TEMPLATE: &str = "template.qcow2";

fn main() -> ExitCode {
    let asked = asked_for(&TESTS.map(|(name, _)| name));
    if asked.is_empty() {
        return ExitCode::SUCCESS;
    }
    let programs = real::programs();
    if programs.is_empty() {
        return if skipped_without_qemu(asked.len()) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut code = ExitCode::SUCCESS;
    for (name, story) in TESTS.into_iter().filter(|(name, _)| asked.contains(name)) {
        for program in &programs {
            match on(program, story) {
                Ok(()) => println!("{name}: {program}"),
                Err(error) => {
                    println!("{name}: FAILED on {program}: {error}");
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    code
}

fn on(program: &Utf8Path, story: Story) -> Result<(), Failed> {
    let desk = tempfile::tempdir()?;
    let desk = Utf8Path::from_path(desk.path()).ok_or("a folder whose name is no text")?;
    let (tool, monitor) = (program.with_file_name("qemu-img"), desk.join("qmp").into_string());
    let rig = Rig { desk, tool, monitor };
    rig.prepare(program)?;
    let told = story(&rig);
    // It may not run any more: then there is nobody to be ended.
    drop(rig.quit());
    told
}

fn firmware(rig: &Rig<'_>) -> Result<(), Failed> {
    let taken = rig.done(&["create-as", "off"])?;
    rig.is("both images took part", &taken["disks"], &json!(["vda", "nvram"]))?;
    rig.hold(&["off"])?;
    let start = ["--running", "--launcher", "built-in", "--off", "--qmp", &rig.monitor];
    let reverted = rig.done(&[&["revert", "off"], &start[..]].concat())?;
    rig.is("both were put back", &reverted["disks"], &json!(["vda", "nvram"]))?;
    rig.is("it was started", &reverted["machine"], &json!("started-and-runs"))?;

    let taken = rig.done(&["create-as", "on", "--qmp", &rig.monitor])?;
    rig.is("both images took part", &taken["disks"], &json!(["vda", "nvram"]))?;
    rig.hold(&["off", "on"])?;
    let loaded = rig.done(&["revert", "on", "--qmp", &rig.monitor])?;
    rig.is("both were put back", &loaded["disks"], &json!(["vda", "nvram"]))?;
    rig.done(&["delete", "off", "--qmp", &rig.monitor])?;
    rig.hold(&["on"])?;

    let halted = rig.done(&["create-as", "last", "--halt", "--qmp", &rig.monitor])?;
    rig.is("it is off", &halted["machine"], &json!("off"))?;
    let start = ["--launcher", "built-in", "--off", "--qmp", &rig.monitor];
    let reverted = rig.done(&[&["revert", "on"], &start[..]].concat())?;
    rig.is("its memory is loaded in a new one", &reverted["machine"], &json!("started-and-runs"))?;
    for name in ["last", "on"] {
        rig.done(&["delete", name, "--qmp", &rig.monitor])?;
    }
    rig.hold(&[])
}

fn anew(rig: &Rig<'_>) -> Result<(), Failed> {
    let content = |image: &str| Ok::<_, Failed>(fs::read(rig.desk.join(image))?);
    rig.done(&["create-as", "e1", "--disk-only"])?;
    let old = content("vars.qcow2")?;
    rig.done(&["revert", "e1"])?;
    rig.is("nobody has asked for it", &json!(content("vars.qcow2")? == old), &json!(true))?;
    rig.done(&["revert", "e1", "--reset-nvram"])?;
    rig.is("they are made anew", &json!(content("vars.qcow2")? == content(TEMPLATE)?), &json!(true))?;
    let start = ["--running", "--reset-nvram", "--launcher", "built-in", "--qmp", &rig.monitor];
    let reverted = rig.done(&[&["revert", "e1", "--off"], &start[..]].concat())?;
    rig.is("it is started with them", &reverted["machine"], &json!("started-and-runs"))?;
    // The machine that runs is ended before they are touched.
    let reverted = rig.done(&[&["revert", "e1", "--force"], &start[..]].concat())?;
    rig.is("it is started anew with them", &reverted["machine"], &json!("started-and-runs"))?;
    let mut names = rig.desk.read_dir_utf8()?.flatten().map(|entry| entry.file_name().to_owned());
    rig.is("none are kept", &json!(names.any(|name| name.starts_with("vars.qcow2."))), &json!(false))
}

fn clusters(rig: &Rig<'_>) -> Result<(), Failed> {
    let laid_out = |image: &str| -> Result<(), Failed> {
        let info = rig.info(image)?;
        rig.is(image, &info["cluster-size"], &json!(32_768))?;
        rig.is(image, &info["format-specific"]["data"]["extended-l2"], &json!(true))
    };
    laid_out("vda.qcow2")?;
    rig.done(&["create-as", "off", "--disk-only"])?;
    laid_out("vda.off")?;
    let start = ["--running", "--launcher", "built-in", "--off", "--qmp", &rig.monitor];
    rig.done(&[&["revert", "off"], &start[..]].concat())?;
    let listed = rig.desk.read_dir_utf8()?.flatten();
    let reverted = listed.map(|entry| entry.file_name().to_owned()).find(|name| name.starts_with("vda.off-"));
    laid_out(&reverted.ok_or("there is no new overlay")?)?;
    rig.done(&["create-as", "on", "--disk-only", "--qmp", &rig.monitor])?;
    laid_out("vda.on")
}

/// The command, on one machine.
struct Rig<'a> {
    desk: &'a Utf8Path,
    tool: Utf8PathBuf,
    monitor: String,
}

impl Rig<'_> {
    fn prepare(&self, program: &Utf8Path) -> Result<(), Failed> {
        let layouts = ["cluster_size=32k,extended_l2=on", "compat=1.1"];
        let images = IMAGES.into_iter().zip(["16M", "256K"]).zip(layouts);
        for ((image, size), layout) in images.chain([((TEMPLATE, "256K"), "compat=0.10")]) {
            let mut make = Command::new(&self.tool);
            make.args(["create", "-q", "-f", "qcow2", "-o", layout]).arg(self.desk.join(image)).arg(size);
            if !make.status()?.success() {
                return Err(format!("{image} was not made").into());
            }
        }
        fs::write(self.desk.join("code.raw"), vec![0; 1 << 20])?;
        let desk = self.desk;
        let text = format!(
            "<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type>\
             <loader readonly='yes' type='pflash'>{desk}/code.raw</loader><nvram format='qcow2' template='{desk}/{TEMPLATE}' templateFormat='qcow2'>{desk}/vars.qcow2</nvram></os>\
             <devices><emulator>{program}</emulator><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
             <source file='{desk}/vda.qcow2'/><target dev='vda' bus='virtio'/></disk></devices></domain>"
        );
        Ok(fs::write(self.desk.join("vm.xml"), text)?)
    }

    /// Ends the QEMU that the command has started, which outlives it, however the story has left it.
    fn quit(&self) -> io::Result<()> {
        let mut monitor = UnixStream::connect(&self.monitor)?;
        monitor.set_read_timeout(Some(Duration::from_secs(10)))?;
        monitor.write_all(b"{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"quit\"}\n")?;
        monitor.read_to_end(&mut Vec::new()).map(drop)
    }

    /// What a verb says to programs, whether it was done or not.
    fn say(&self, arguments: &[&str]) -> Result<(Option<i32>, Value), Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        command.current_dir(self.desk).arg("snapshot").args(arguments);
        let said = command.args(["--json", "--domain", "vm.xml", "--state", "state"]).output()?;
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

    fn is(&self, what: &str, found: &Value, expected: &Value) -> Result<(), Failed> {
        if found == expected { Ok(()) } else { Err(format!("{what}: not {expected}, but {found}").into()) }
    }

    fn info(&self, image: &str) -> Result<Value, Failed> {
        let mut info = Command::new(&self.tool);
        info.args(["info", "-U", "--output=json", "-f", "qcow2"]).arg(self.desk.join(image));
        Ok(serde_json::from_slice(&info.output()?.stdout)?)
    }

    /// Whether these are the snapshots in both images.
    fn hold(&self, names: &[&str]) -> Result<(), Failed> {
        for image in IMAGES {
            let info = self.info(image)?;
            let held: Vec<_> =
                info["snapshots"].as_array().into_iter().flatten().map(|held| &held["name"]).collect();
            if held != names {
                return Err(format!("{image} holds {held:?}, and not {names:?}").into());
            }
        }
        Ok(())
    }
}
