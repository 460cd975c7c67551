//! Runs a program of the real host to its end.
//!
//! It gets a process group of its own. If its time is up, if it says too much, or if it is to give way, the group is asked to end
//! (SIGTERM), and whatever is left of it is killed a moment later. What it has put into a group or session of its own, as a daemon
//! does, lives on.
//!
//! ```text
//! runs -- its time is up, or ... --> SIGTERM -- nobody is left, or ENDS_WITHIN --> SIGKILL -- DIES_WITHIN --> stuck
//! ```
//! Who puts something out of the way while it acts has that moment to put it back: LVM holds signals off while a volume stands still,
//! and one that is killed there leaves it so.
//!
//! Nobody kills it if this process is killed. One that acts is given the locks that tell of it then: open files that it inherits, which
//! no program looks at, and which it closes by ending.
#![allow(clippy::disallowed_types, reason = "this is the shell that the rest of the driver is kept from")]

use std::{
    convert::Infallible,
    fs::File,
    future::pending,
    io,
    os::unix::process::ExitStatusExt as _,
    pin::Pin,
    process::{ExitStatus, Stdio},
    rc::Rc,
    time::Duration,
};

use ::tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::Signal,
};

use super::group::Group;
use crate::{
    env::{Ended, HostCommand, Ran},
    race::{First, race},
};

/// How long the outputs of a program that has ended are still read: what it left running may hold them open for ever.
const LEFT_BEHIND: Duration = Duration::from_millis(100);

/// How often it is looked whether anybody is left of a program that was asked to end.
const LOOK: Duration = Duration::from_millis(10);

/// Starts a program that inherits these files.
fn spawn(program: &mut Command, held: &[Rc<File>]) -> io::Result<Child> {
    let inherit = |flags| held.iter().try_for_each(|file| fcntl_setfd(file, flags));
    inherit(FdFlags::empty())?;
    // What another thread starts in this moment may inherit them too: a recovery would then wait for that as well.
    let started = program.spawn();
    inherit(FdFlags::CLOEXEC)?;
    started
}

/// Runs it to its end, until its time is up, or until it is to give way; one that acts has these files open.
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
    let leader = spawn(&mut asked, if command.acts { &held } else { &[] })?;
    drop(held);
    let mut group = Group { leader, acts: command.acts };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut conversation = Conversation::begin(command, &mut group.leader, &mut stdout, &mut stderr);
    let in_time = timeout(command.within, until_it_ends(&mut group.leader, &mut conversation));
    let ended = match race(in_time, gives_way).await {
        First::Left(Ok(Ok(status))) => ended(status),
        First::Left(Ok(Err(error))) => {
            end(&mut group, &mut conversation, Ended::TooLate).await?;
            return Err(error);
        }
        First::Left(Err(_)) => end(&mut group, &mut conversation, Ended::TooLate).await?,
        First::Right(()) => end(&mut group, &mut conversation, Ended::GaveWay).await?,
    };
    drop(conversation);
    Ok(Ran { ended, stdout, stderr })
}

/// Asks it to end, and kills what is left of it then: it ended so, if it dies.
async fn end(group: &mut Group, conversation: &mut Conversation<'_>, so: Ended) -> io::Result<Ended> {
    group.signal(Signal::TERM);
    let hearing = async {
        // Nobody who cleans up is to wait for a reader.
        let _ = conversation.go_on().await;
        pending::<Infallible>().await
    };
    let ending = async {
        while group.lives() {
            sleep(LOOK).await;
        }
    };
    let _ = timeout(HostCommand::ENDS_WITHIN, race(hearing, ending)).await;
    group.signal(Signal::KILL);
    match timeout(HostCommand::DIES_WITHIN, group.leader.wait()).await {
        Ok(died) => died.map(|_| so),
        Err(_) => Ok(Ended::Stuck),
    }
}

/// What passes between a program and whoever runs it.
struct Conversation<'a>(Option<Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>>);

impl<'a> Conversation<'a> {
    /// Gives it its input and takes what it says.
    fn begin(
        command: &'a HostCommand,
        child: &mut Child,
        stdout: &'a mut Vec<u8>,
        stderr: &'a mut Vec<u8>,
    ) -> Self {
        let feeding = feed(child.stdin.take(), command.input.as_deref().unwrap_or_default());
        let hearing = hear(child.stdout.take(), stdout);
        let hearing_too = hear(child.stderr.take(), stderr);
        Self(Some(Box::pin(async {
            let ((), heard, heard_too) = ::tokio::join!(feeding, hearing, hearing_too);
            heard.and(heard_too)
        })))
    }

    /// Goes on with it until all is said, which may be so already.
    async fn go_on(&mut self) -> io::Result<()> {
        let Some(conversation) = &mut self.0 else { return Ok(()) };
        let heard = conversation.as_mut().await;
        self.0 = None;
        heard
    }
}

/// Takes what it says until it has ended.
async fn until_it_ends(child: &mut Child, conversation: &mut Conversation<'_>) -> io::Result<ExitStatus> {
    match race(conversation.go_on(), child.wait()).await {
        First::Left(heard) => {
            heard?;
            child.wait().await
        }
        First::Right(status) => {
            timeout(LEFT_BEHIND, conversation.go_on()).await.unwrap_or(Ok(()))?;
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
