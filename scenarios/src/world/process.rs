//! A program that never outlives the one who started it.
//!
//! Each has a process group of its own: a wrapper script dies together with what it started, and Ctrl-C on a terminal
//! reaches the command alone, which then ends its programs and clears their files away in that order. What a killed
//! (SIGKILL) command had started lives on: nobody is left to end it.
//!
//! But for the death of what it kills it waits for nothing: how long a program may take is its users' business.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell that starts real programs, and ends them"
)]

use std::{fs::File, io, os::unix::net::UnixStream, process::Stdio, time::Duration};

use rustix::{
    fs::{FlockOperation, fcntl_lock},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, ChildStderr, Command},
};

/// How much is read of what a program says, in bytes. It may be any program.
pub(super) const SAID_MAX: u64 = 64 << 10;

/// How often a process that was killed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A running program. Dropping it kills its process group and waits until it is dead.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Whether its exit code was 0.
    pub(crate) well: bool,
    /// The start of its standard output.
    pub(crate) stdout: String,
    /// The start of its standard error.
    pub(crate) stderr: String,
}

impl Process {
    /// Starts a program; it gets nothing to read.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        Ok(Self { child })
    }

    /// What it says on standard error, if that is piped and nobody has taken it.
    pub(super) fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        // It is only looked at: until it is waited for, its process group's number is nobody else's.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.pid().is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), look), Ok(None)))
    }

    /// Asks it to end, as SIGTERM does.
    pub(crate) fn terminate(&self) {
        if let Some(pid) = self.pid() {
            // It fails only for a process that is not there.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// The id, as long as nobody has waited for the process.
    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(pid) = self.pid() else { return };
        // Both fail only for a process that is not there, and that is what they are for.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let _ = self.child.try_wait();
    }
}

/// Kills a QEMU that has made itself a daemon, and waits until it is dead: `<its monitor's socket>.pid` holds its number. It has a
/// lock on that file as long as it lives: a number without one is of a process that has ended, and may be somebody else's by now.
pub(super) fn kill_daemon(pid_file: &std::path::Path) {
    let Ok(file) = File::options().read(true).write(true).open(pid_file) else { return };
    let number = io::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
    let Some(pid) = number.and_then(Pid::from_raw) else { return };
    while fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        // It fails only for a process that is not there.
        let _ = kill_process(pid, Signal::KILL);
        std::thread::sleep(LOOK_EVERY);
    }
    // What it has open closes in no order that anybody is told.
    while UnixStream::connect(pid_file.with_extension("")).is_ok() {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Runs a program to its end and takes what it says. It is killed if this future is dropped.
pub(crate) async fn run(command: &mut Command) -> io::Result<Ended> {
    let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let (stdout, stderr) = (process.child.stdout.take(), process.child.stderr.take());
    let (stdout, stderr) = tokio::join!(said(stdout), said(stderr));
    let well = process.child.wait().await?.success();
    Ok(Ended { well, stdout, stderr })
}

async fn said(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could be read tells more than why the rest could not.
        let _ = pipe.take(SAID_MAX).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}
