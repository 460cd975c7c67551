//! The command line as a clumsy or an unlucky user meets it: what is said, with which exit code, and what is left
//! behind. Nothing ever is: each test has a temporary folder of its own that must be empty afterwards.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "starts the command as a user does, and makes the files that it reads"
)]

mod disk;
mod exploring;
mod fidelity;
mod freezing;
mod generated;
mod real_qemu;
mod running;
#[path = "../served/mod.rs"]
mod served;
mod snapshot_edit;
mod snapshot_hand_over;
mod snapshot_killed;
mod snapshot_operations;
mod snapshot_records;
mod snapshot_validate;
mod snapshot_wrong;
mod snapshot_xml;
mod undefine;
mod unused_options;
mod usage;

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};

/// A scenario that needs no disk, so that anything can pass for QEMU until it is asked something.
const PROBE: &str =
    "id = 'probe'\ntitle = 't'\nwhy = 'w'\nreleases = ['10.0']\n[machine]\n[[step]]\nprobe = {}\n";

/// A user's folder, and the folder for temporary files of all that is started there.
struct Desk {
    _folder: tempfile::TempDir,
    path: Utf8PathBuf,
    temporary: Utf8PathBuf,
}

/// What a command said, and its exit code.
struct Said {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

impl Said {
    /// All of it as one text, without what changes from release to release.
    fn whole(&self) -> String {
        let Self { stdout, stderr, code } = self;
        let text = format!("{stdout}--- standard error\n{stderr}--- exit code {}\n", code.unwrap_or(-1));
        text.replace(env!("CARGO_PKG_VERSION"), "<version>")
    }

    #[track_caller]
    fn assert(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{}", self.whole());
        assert!(self.stdout.contains(words) || self.stderr.contains(words), "{}", self.whole());
    }
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().canonicalize().unwrap()).unwrap();
        let temporary = path.join("tmp");
        fs::create_dir(&temporary).unwrap();
        Self { _folder: folder, path, temporary }
    }

    fn with(self, name: &str, text: &str) -> Self {
        fs::create_dir_all(self.path.join(name).parent().unwrap()).unwrap();
        fs::write(self.path.join(name), text).unwrap();
        self
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap()
    }

    /// A program `bin/qemu` that behaves in this manner, with a `qemu-img` beside it.
    fn with_fake(self, manner: &str) -> Self {
        let fake = env!("CARGO_BIN_EXE_fake-qemu");
        self.with_program("bin/qemu", &format!("exec {fake} {manner} \"$@\""))
            .with_program("bin/qemu-img", "exit 0")
    }

    fn with_program(self, name: &str, script: &str) -> Self {
        let desk = self.with(name, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(desk.path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        desk
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        command
            .arg0("freezeframe")
            .args(arguments)
            .current_dir(&self.path)
            .env("TMPDIR", &self.temporary)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end; nothing of it is left.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Said {
        let said = said(self.command(arguments).output().unwrap());
        self.assert_nothing_left();
        said
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert_eq!(names(&self.temporary), Vec::<String>::new(), "temporary files");
        // What was killed may take its time to die on a loaded machine.
        let dying = Instant::now();
        while !self.processes().is_empty() && dying.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(self.processes(), Vec::<String>::new(), "processes");
    }

    /// Whatever runs with this desk's temporary folder in its environment.
    fn processes(&self) -> Vec<String> {
        let here = format!("TMPDIR={}", self.temporary);
        let running = names(Utf8Path::new("/proc")).into_iter().filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == here.as_bytes())
        });
        running.map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or(pid)).collect()
    }
}

fn names(folder: &Utf8Path) -> Vec<String> {
    let entries = folder.read_dir_utf8().unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_owned()).collect()
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
}

/// A scenario of the suite.
fn suite(name: &str) -> String {
    fs::read_to_string(format!("{}/../scenarios/suite/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}
