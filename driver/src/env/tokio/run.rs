//! Runs a program of the real host to its end.
//!
//! It gets a process group of its own, and whatever is left of that group is killed if its time is up, if it says too
//! much, if it is to give way, or if nobody waits for it any more. What it has put into a group or session of its own, as a
//! daemon does, lives on.
//!
//! Nobody kills it if this process is killed. One that acts is given the locks that tell of it then: open files that it inherits, which
//! no program looks at, and which it closes by ending.
#![allow(clippy::disallowed_types, reason = "this is the shell that the rest of the driver is kept from")]

use std::{
    fs::File,
    io,
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    process::{ExitStatus, Stdio},
    rc::Rc,
    time::Duration,
};

use ::tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    time::timeout,
};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process_group},
};

use crate::{
    env::{Ended, HostCommand, Ran},
    race::{First, race},
};

/// How long the outputs of a program that has ended are still read: what it left running may hold them open for ever.
const LEFT_BEHIND: Duration = Duration::from_millis(100);

/// How long a killed program may take to die: one that waits for a device or a frozen file system does not die before that
/// answers.
const DIES_WITHIN: Duration = Duration::from_secs(1);

/// A program that runs. Dropping it kills what is left of its process group.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Group {
    /// Kills the group, unless the program was waited for: its number may be somebody else's then.
    fn kill(&self) {
        if let Some(pid) = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It fails only for a group that is not there.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Starts a program that inherits these files.
fn spawn(program: &mut Command, held: &[Rc<File>]) -> io::Result<Child> {
    let inherit = |flags| held.iter().try_for_each(|file| fcntl_setfd(file, flags));
    inherit(FdFlags::empty())?;
    // What another thread starts in this moment may inherit them too: a recovery would then wait for that as well.
    let started = program.spawn();
    inherit(FdFlags::CLOEXEC)?;
    started
}

/// Runs it to its end, until its time is up, or until it is to give way; while it acts it has these files open.
pub(super) async fn run(
    command: &HostCommand,
    held: Vec<Rc<File>>,
    gives_way: impl Future<Output = ()>,
) -> io::Result<Ran> {
    let mut asked = Command::new(&command.program);
    // What a program says is read: it is said in one language, whatever the surroundings prefer.
    asked.env("LC_ALL", "C");
    // LVM's tools complain of what they inherit.
    asked.env("LVM_SUPPRESS_FD_WARNINGS", "1");
    asked.args(&command.arguments).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    asked.stdin(if command.input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut group = Group(spawn(&mut asked, if command.acts { &held } else { &[] })?);
    drop(held);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let in_time = timeout(command.within, until_it_ends(command, &mut group.0, &mut stdout, &mut stderr));
    let ended = match race(in_time, gives_way).await {
        First::Left(Ok(status)) => ended(status?),
        First::Left(Err(_)) => killed(&mut group, Ended::TooLate).await?,
        First::Right(()) => killed(&mut group, Ended::GaveWay).await?,
    };
    Ok(Ran { ended, stdout, stderr })
}

/// Kills what is left of it: it ended so, if it dies.
async fn killed(group: &mut Group, so: Ended) -> io::Result<Ended> {
    group.kill();
    match timeout(DIES_WITHIN, group.0.wait()).await {
        Ok(died) => died.map(|_| so),
        Err(_) => Ok(Ended::Stuck),
    }
}

/// Gives it its input and takes what it says until it has ended.
async fn until_it_ends(
    command: &HostCommand,
    child: &mut Child,
    stdout: &mut Vec<u8>,
    stderr: &mut Vec<u8>,
) -> io::Result<ExitStatus> {
    let feeding = feed(child.stdin.take(), command.input.as_deref().unwrap_or_default());
    let hearing = hear(child.stdout.take(), stdout);
    let hearing_too = hear(child.stderr.take(), stderr);
    let mut conversation = pin!(async {
        let ((), heard, heard_too) = ::tokio::join!(feeding, hearing, hearing_too);
        heard.and(heard_too)
    });
    match race(&mut conversation, child.wait()).await {
        First::Left(heard) => {
            heard?;
            child.wait().await
        }
        First::Right(status) => {
            timeout(LEFT_BEHIND, conversation).await.unwrap_or(Ok(()))?;
            status
        }
    }
}

/// A program that does not read its input to the end has its reasons.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
}

async fn hear(pipe: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    while pipe.read_buf(said).await? > 0 {
        if said.len() > HostCommand::OUTPUT_MAX {
            let most = HostCommand::OUTPUT_MAX;
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it says more than {most} bytes"),
            ));
        }
    }
    Ok(())
}

fn ended(status: ExitStatus) -> Ended {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, signal) => Ended::Killed(signal.unwrap_or_default()),
    }
}
