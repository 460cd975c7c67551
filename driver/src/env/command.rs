//! A program of the host's that is run to its end, and what came of it.

use std::{fmt, time::Duration};

use camino::Utf8PathBuf;

use crate::words;

/// A program to be run, and never through a shell: each argument arrives as it stands here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommand {
    /// The program. A name without `/` is looked for where the system looks for programs.
    pub program: Utf8PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// What it can read; nothing otherwise.
    pub input: Option<Vec<u8>>,
    /// How long it may take. After that it is asked to end (SIGTERM), together with what it has started in its process group; whatever is
    /// left of that after [`HostCommand::ENDS_WITHIN`] is killed, and waited for no longer than [`HostCommand::DIES_WITHIN`].
    pub within: Duration,
    /// Whether it may change what an operation is about: see [`Env::lock_with_programs`](super::Env::lock_with_programs).
    pub acts: bool,
    /// Whether it is ended likewise as soon as the operation is wanted no more: [`super::Env::run`].
    pub gives_way: bool,
}

/// What a program said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// Its standard output, as far as it was said before the end.
    pub stdout: Vec<u8>,
    /// Its standard error, likewise.
    pub stderr: Vec<u8>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal that somebody sent it.
    Killed(i32),
    /// Its time was up: it was asked to end for that, or killed, and is dead. What it did until then is done.
    TooLate,
    /// The operation is wanted no more: it was asked to end for that, or killed, and is dead. What it did until then is done.
    GaveWay,
    /// Its time was up, or it was to give way, and it was killed, but the system has not let it die: it waits for a device or a file
    /// system, and may still do what it was to do.
    Stuck,
}

impl HostCommand {
    /// How much of each of its two outputs is taken, in bytes: one that says more is ended.
    pub const OUTPUT_MAX: usize = 1 << 20;

    /// How long one may take to end once it is asked to, before it is killed. `lvcreate` takes a tenth of a second when its storage
    /// does, and longer when the volume has much to write out; a guest that is frozen for it stands still for as long.
    pub const ENDS_WITHIN: Duration = Duration::from_secs(5);

    /// How long a killed one may take to die: one that waits for a device or a frozen file system does not die before that answers.
    pub const DIES_WITHIN: Duration = Duration::from_secs(1);

    /// A program with arguments, and nothing to read.
    pub fn new<T: Into<String>>(
        program: impl Into<Utf8PathBuf>,
        arguments: impl IntoIterator<Item = T>,
        within: Duration,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program: program.into(), arguments, input: None, within, acts: false, gives_way: false }
    }
}

impl Ran {
    /// Whether its exit code was 0.
    pub fn well(&self) -> bool {
        self.ended == Ended::Exited(0)
    }

    /// Its standard error as text that may be shown, without the white space around it.
    pub fn words(&self) -> String {
        words::plain(String::from_utf8_lossy(&self.stderr).trim())
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(code) => write!(f, "exit code {code}"),
            Ended::Killed(signal) => write!(f, "killed by signal {signal}"),
            Ended::TooLate => write!(f, "killed, since its time was up"),
            Ended::GaveWay => write!(f, "killed, since it was wanted no more"),
            Ended::Stuck => write!(f, "killed, and not dead yet"),
        }
    }
}
