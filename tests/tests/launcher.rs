//! A launcher that is a program of the user's: what it is told, and what its answers mean. No QEMU is needed.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it makes a real program, and looks at what that has written"
)]

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    domain_xml::DomainXml,
    env::tokio::TokioEnv,
    launch::{LaunchError, Launcher, Start, Stop, arguments::Power},
};
use serde_json::{Value, json};
use tokio::{runtime::Builder, task::LocalSet};

const DOMAIN: &str = "<domain type='qemu'><name>web1</name></domain>";

/// A program that writes down what it is told, and then does this.
struct Program {
    folder: tempfile::TempDir,
}

impl Program {
    fn that_does(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("launcher");
        fs::write(&path, format!("#!/bin/sh\ncat > \"$0.told\"\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    fn launcher(&self) -> Launcher {
        Launcher::Program(self.path("launcher"))
    }

    /// Starts a machine that is to wait for its memory.
    fn start(&self) -> LaunchError {
        let (domain, monitor) = (DomainXml::read(DOMAIN.as_bytes()).unwrap(), self.path("monitor"));
        let within = Duration::from_secs(1);
        let start = Start { domain: &domain, power: Power::Incoming, monitor: &monitor, within };
        match run(self.launcher().start(&TokioEnv::new(), &start)) {
            Err(error) => error,
            Ok(_) => panic!("no program here starts a QEMU"),
        }
    }

    fn stop(&self) -> Result<(), LaunchError> {
        let (domain, monitor) = (DomainXml::read(DOMAIN.as_bytes()).unwrap(), self.path("monitor"));
        let stop = Stop { domain: &domain, monitor: &monitor, within: Duration::from_secs(1) };
        run(self.launcher().stop(&TokioEnv::new(), &stop))
    }

    fn told(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("launcher.told")).unwrap()).unwrap()
    }
}

fn run<R>(work: impl Future<Output = R>) -> R {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}

#[test]
fn it_is_told_what_to_start_and_what_to_stop() {
    let program = Program::that_does("echo '{\"refused\": {\"why\": \"drained\"}}'");
    let monitor = program.path("monitor");
    let refused = program.start();
    assert!(matches!(&refused, LaunchError::Refused { text, .. } if text == "drained"), "{refused}");
    assert!(!refused.in_doubt());
    let domain = program.told()["domain"].as_str().unwrap().to_owned();
    assert_eq!(DomainXml::read(domain.as_bytes()).unwrap().name(), "web1");
    let start = json!({
        "action": "start",
        "name": "web1",
        "domain": domain,
        "state": "incoming",
        "monitor": monitor,
    });
    assert_eq!(program.told(), start);
    program.stop().unwrap_err();
    let stop = json!({ "action": "stop", "name": "web1", "domain": domain, "monitor": monitor });
    assert_eq!(program.told(), stop);
}

#[test]
fn what_it_says_when_it_fails_is_handed_on() {
    let refused = Program::that_does("echo 'no such host' >&2; exit 3").start();
    assert!(matches!(&refused, LaunchError::Refused { text, .. } if text == "no such host"), "{refused}");
}

#[test]
fn one_that_fails_and_says_nothing_leaves_a_doubt_and_its_exit_code_is_told() {
    let error = Program::that_does("exit 3").start();
    assert!(error.in_doubt() && error.to_string().contains("exit code 3"), "{error}");
}

#[test]
fn an_answer_that_is_none_leaves_a_doubt() {
    for script in ["echo started", "echo '{\"done\": {}, \"id\": 7}'", "kill -9 $$"] {
        let error = Program::that_does(script).start();
        assert!(error.in_doubt(), "{script}: {error}");
    }
}

#[test]
fn a_machine_that_was_started_and_never_answers_is_none() {
    let error = Program::that_does("echo '{\"done\": {}}'").start();
    assert!(matches!(error, LaunchError::Monitor(_)) && error.in_doubt(), "{error}");
}

#[test]
fn a_machine_that_nobody_listens_for_has_ended() {
    Program::that_does("echo '{\"done\": {}}'").stop().unwrap();
}

#[test]
fn a_program_that_is_not_there_did_nothing() {
    let program = Program::that_does("");
    fs::remove_file(program.path("launcher")).unwrap();
    let error = program.start();
    assert!(matches!(error, LaunchError::Missing(_)) && !error.in_doubt(), "{error}");
}
