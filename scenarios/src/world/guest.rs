//! A guest that boots on a real QEMU: Linux with QEMU's guest agent, and a program that writes to every disk.
//!
//! ```text
//!   QEMU is started -- the agent answers a sync --> booted -- hooks are set, the agent killed or stopped if it is to be,
//!   and a second passes --> as described: the first client may come
//! ```
//! `ci/build-guest.sh` builds it, and `ci/guest` says what is in it. The host tells it what to do over its second serial port:
//! a line is a command of its shell, which answers with what the command says and `= <exit code>`. That works while its file
//! systems are frozen, too: its root is in memory.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell that reads the guest's folder and speaks to it"
)]

use std::{cell::RefCell, fs, io, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::env::Endpoint;
use freezeframe_sim::{
    Machine, Release,
    machine::{
        Agent,
        agent::{Presence, Script},
    },
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::{sleep, timeout},
};

use super::qemu::arguments::escaped;
use crate::language::GuestAct;

/// With less, in bytes, its kernel finds no room for itself.
pub(super) const MEMORY_MIN: u64 = 96 << 20;

/// What the agent knows its port by.
pub(super) const AGENT: &str = "org.qemu.guest_agent.0";

/// From QEMU's first instruction to an agent that answers. It takes 3 s under TCG where nothing else runs.
const BOOTS_WITHIN: Duration = Duration::from_secs(120);

/// How long the guest may take for one command.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);

/// QEMU tells of a port once a second at most: what happens in the first play is to be told at once.
const PORT_NEWS: Duration = Duration::from_secs(1);

/// Why a guest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Its folder is not what `ci/build-guest.sh` makes.
    #[error("no guest in {folder}: {source}; `ci/build-guest.sh` builds one")]
    Missing {
        /// The folder.
        folder: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its agent's release is not told.
    #[error(
        "the guest in {0} does not say which release its agent is of; `ci/build-guest.sh` builds one that does"
    )]
    NoRelease(Utf8PathBuf),
    /// Its agent never answered.
    #[error("the guest's agent did not answer within {} s; its console says:\n{console}", BOOTS_WITHIN.as_secs())]
    NotBooted {
        /// The end of what it said.
        console: String,
    },
    /// It does not do what it is told.
    #[error("the guest was told `{command}`: {said}")]
    Disobeyed {
        /// What it was told.
        command: String,
        /// What it says, or the system of the host.
        said: String,
    },
}

/// A guest that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The folder with its kernel and its first file system.
    folder: Utf8PathBuf,
    /// The release of its agent, or the one that is nearest to it.
    pub agent: Release,
}

impl Guest {
    /// The guest in a folder.
    ///
    /// # Errors
    /// [`GuestError::Missing`], [`GuestError::NoRelease`].
    pub fn open(folder: &Utf8Path) -> Result<Self, GuestError> {
        let missing = |source| GuestError::Missing { folder: folder.into(), source };
        // QEMU is started in another folder.
        let folder = folder.canonicalize_utf8().map_err(missing)?;
        for file in ["vmlinuz", "initrd.img"] {
            fs::metadata(folder.join(file)).map_err(missing)?;
        }
        let release = fs::read_to_string(folder.join("agent")).map_err(missing)?;
        let mut numbers = release.trim().split('.').map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Err(GuestError::NoRelease(folder));
        };
        Ok(Self { folder, agent: Release::nearest(major, minor).0 })
    }

    /// Where it is.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// QEMU's arguments for it; its console and the host's line to it are in this folder.
    pub(super) fn arguments(&self, root: &Utf8Path) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).into_string();
        let socket = escaped(&control(root));
        let pairs = [
            // Without random numbers of the processor's, file systems would wait some ten seconds for others.
            ("-cpu", "qemu64,+rdrand".to_owned()),
            ("-kernel", file("vmlinuz")),
            ("-initrd", file("initrd.img")),
            ("-append", "console=ttyS0 quiet panic=-1".to_owned()),
            ("-serial", format!("file:{}", console(root))),
            ("-chardev", format!("socket,id=control,server=on,wait=off,path={socket}")),
            ("-serial", "chardev:control".to_owned()),
        ];
        pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect()
    }
}

/// What the guest's kernel says.
fn console(root: &Utf8Path) -> Utf8PathBuf {
    root.join("console")
}

/// The host's line to the guest.
fn control(root: &Utf8Path) -> Utf8PathBuf {
    root.join("control")
}

/// The host's line to a guest.
#[derive(Debug)]
pub(super) struct Control {
    root: Utf8PathBuf,
    line: RefCell<Option<BufReader<UnixStream>>>,
}

impl Control {
    /// To the guest whose QEMU has its sockets in this folder.
    pub(super) fn of(root: &Utf8Path) -> Self {
        Self { root: root.into(), line: RefCell::default() }
    }

    /// Waits until it has booted, and sets up what the machine says of its agent.
    pub(super) async fn booted(&self, machine: &Machine, agent: &Endpoint) -> Result<(), GuestError> {
        let Some(described) = &machine.agent else { return Ok(()) };
        let Endpoint::Unix(port) = agent;
        if !matches!(timeout(BOOTS_WITHIN, answers(port)).await, Ok(Ok(length)) if length > 0) {
            return Err(GuestError::NotBooted { console: self.console() });
        }
        self.set_hook(described).await?;
        match described.presence {
            Presence::Answers => {}
            Presence::Mute => self.act(GuestAct::MuteAgent).await?,
            Presence::Absent => self.act(GuestAct::KillAgent).await?,
        }
        sleep(PORT_NEWS).await;
        Ok(())
    }

    async fn set_hook(&self, agent: &Agent) -> Result<(), GuestError> {
        for (name, script) in
            agent.hook.iter().flat_map(|hook| [("freeze", hook.freeze), ("thaw", hook.thaw)])
        {
            let Script { takes, status } = script;
            self.command(&format!("echo {} {status} >/run/hook-{name}", takes.as_secs_f64())).await?;
        }
        Ok(())
    }

    /// Lets something happen inside of the guest.
    pub(super) async fn act(&self, act: GuestAct) -> Result<(), GuestError> {
        let command = match act {
            GuestAct::KillAgent => "agent kill",
            GuestAct::LoseAgent => "agent kill && rm -f /run/qga.state.isfrozen",
            GuestAct::StartAgent => "agent start",
            GuestAct::MuteAgent => "agent mute",
            // Nobody else freezes there.
            GuestAct::LetGo => "true",
            GuestAct::Write => "for disk in /mnt/*; do echo written >$disk/written; done; sync",
        };
        self.command(command).await.map(drop)
    }

    /// Has the guest's shell run a command; gives what it says.
    pub(super) async fn command(&self, command: &str) -> Result<String, GuestError> {
        let disobeyed = |said: String| GuestError::Disobeyed { command: command.to_owned(), said };
        let answered = timeout(COMMAND_WITHIN, self.exchange(command)).await;
        let answered = answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match answered.map_err(|error| disobeyed(error.to_string()))? {
            (said, code) if code == "0" => Ok(said),
            (said, code) => Err(disobeyed(format!("exit code {code}: {}", said.trim_end()))),
        }
    }

    async fn exchange(&self, command: &str) -> io::Result<(String, String)> {
        // One that is given up in the middle is not used again: its answer would be taken for the next one's.
        let taken = self.line.take();
        let mut line = match taken {
            Some(line) => line,
            None => BufReader::new(UnixStream::connect(control(&self.root)).await?),
        };
        line.write_all(format!("{command}\n").as_bytes()).await?;
        let mut said = String::new();
        loop {
            let from = said.len();
            if line.read_line(&mut said).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(code) = said[from..].strip_prefix("= ") {
                let code = code.trim_end().to_owned();
                said.truncate(from);
                self.line.replace(Some(line));
                return Ok((said, code));
            }
        }
    }

    /// The end of what the guest's kernel has said.
    fn console(&self) -> String {
        let said = fs::read(console(&self.root)).unwrap_or_default();
        let start = said.len().saturating_sub(2000);
        String::from_utf8_lossy(&said[start..]).into_owned()
    }
}

/// Asks the agent and waits for its answer; how many bytes it has. QEMU keeps what is asked until there is an agent.
async fn answers(port: &Utf8Path) -> io::Result<usize> {
    let mut stream = BufReader::new(UnixStream::connect(port).await?);
    stream.write_all(b"{\"execute\":\"guest-ping\"}\n").await?;
    stream.read_line(&mut String::new()).await
}
