//! Another program that has an image open, only to read it: `qemu-io`, which sleeps.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell that starts real programs, and ends them"
)]

use std::{io, process::Stdio, time::Duration};

use camino::Utf8Path;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use super::process::Process;

/// How long it may take until it has the image open.
const OPENS_WITHIN: Duration = Duration::from_secs(10);

/// What it is told first. There is no such command, and it says so on standard error, at once: the image is open by then.
const SIGNAL: &str = "is-it-open";

/// What it is told then: to wait for an hour, in milliseconds. No play takes as long.
const WAIT: &str = "sleep 3600000";

/// The program, as long as it has the image open.
#[derive(Debug)]
pub(super) struct Reader {
    _process: Process,
}

impl Reader {
    /// Opens an image and all that it stands on.
    pub(super) async fn open(program: &Utf8Path, image: &Utf8Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.args(["-r", "-c", SIGNAL, "-c", WAIT]).arg(image);
        let mut process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let said = process.stderr().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        tokio::time::timeout(OPENS_WITHIN, BufReader::new(said).read_line(&mut line)).await??;
        match line.contains(SIGNAL) {
            true => Ok(Self { _process: process }),
            false => Err(io::Error::other(line.trim().to_owned())),
        }
    }
}
