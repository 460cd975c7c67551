//! Starting and stopping the machine's QEMU: for what needs a fresh process, and for what is done while the machine is off.
//!
//! ```text
//! check -- pure: does the document ask for anything that cannot be given? --> refused, nothing was touched
//! try   -- does a QEMU without its images take it? --> refused, nothing was touched
//! start -- the chains of the disks are read -- [overlays of `<transient/>` disks] -- QEMU is started --> its monitor answers
//! stop  -- `quit` --> nobody listens any more: the images' locks are free
//! ```
//!
//! A [`Launcher`] is built in, or a program of the user's ([`program`], with its contract in `docs/launcher.md`). The built-in
//! one makes QEMU's arguments from the document ([`arguments`]): whatever is in it must be understood, since a device that the
//! guest sees is never left out. It never goes through a shell and lets QEMU look for no format in any data.
//!
//! It keeps no machine alive and watches none: a machine that is started here lives on without the driver.

pub mod arguments;
mod buses;
pub mod chain;
mod devices;
mod disks;
mod display;
pub mod program;
pub mod transient;
mod trial;

use std::{io, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::{
    client::{ConnectError, Silence, listens},
    commands::Quit,
    domain_xml::DomainXml,
    env::{Ended, Endpoint, Env, FileKind, HostCommand},
    monitor::Monitor,
    qemu_img::{QemuImg, ToolError},
    xml::Position,
};
use arguments::{Accelerator, Power};
use transient::TransientOverlay;

/// What the built-in launcher calls the node of the firmware's variables.
pub(crate) const NVRAM_NODE: &str = "pflash1";

/// How long until a monitor that is to come, or to go, is looked at again.
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// Who starts and stops the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Launcher {
    /// This driver starts QEMU.
    BuiltIn(BuiltIn),
    /// A program of the user's does.
    Program(Utf8PathBuf),
}

/// How this driver starts QEMU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltIn {
    /// The program; the document's `<emulator>` if it is not stated.
    pub binary: Option<Utf8PathBuf>,
    /// What runs the guest's code; the document's type if it is not stated.
    pub accelerator: Option<Accelerator>,
}

/// A machine to be started.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// What machine.
    pub domain: &'a DomainXml,
    /// How it stands when it has been started.
    pub power: Power,
    /// Where its monitor is to listen.
    pub monitor: &'a Utf8Path,
    /// How long all of it may take.
    pub within: Duration,
}

/// A machine to be stopped.
#[derive(Debug, Clone, Copy)]
pub struct Stop<'a> {
    /// What machine.
    pub domain: &'a DomainXml,
    /// Where its monitor listens.
    pub monitor: &'a Utf8Path,
    /// How long all of it may take.
    pub within: Duration,
}

/// Why a machine was not started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The document asks for what the launcher cannot give. Nothing was touched.
    #[error("{at}: the built-in launcher cannot give {what}; a launcher program may")]
    CannotGive {
        /// Where in the document.
        at: Position,
        /// What: `<hostdev>`.
        what: String,
    },
    /// A path that has to be one from the root. Nothing was touched.
    #[error("`{0}` does not begin with `/`")]
    Relative(Utf8PathBuf),
    /// What is behind a disk cannot be found out. Nothing was touched.
    #[error("the images of disk {target}: {source}")]
    Images {
        /// Which disk.
        target: String,
        /// Why not.
        source: ToolError,
    },
    /// A disk's image names one behind it, but not its format, which is never guessed. Nothing was touched.
    #[error(
        "{file} does not state the format of its backing file {behind}: `qemu-img rebase -u -F` can write it there"
    )]
    FormatNotStated {
        /// Whose header.
        file: Utf8PathBuf,
        /// What it names.
        behind: String,
    },
    /// The images of a disk never come to an end. Nothing was touched.
    #[error("the chain of images behind {0} has no end")]
    Endless(Utf8PathBuf),
    /// Something is where the overlay of a `<transient/>` disk is to be, and is not removed; or that cannot be found out, or be
    /// done. No machine was started.
    #[error("`{file}` is where the overlay of the <transient/> disk {target} is to be, and stays: {why}")]
    OverlayStays {
        /// Which disk.
        target: String,
        /// What is there.
        file: Utf8PathBuf,
        /// Why it stays.
        why: String,
    },
    /// There is no such program.
    #[error("there is no `{0}`")]
    Missing(Utf8PathBuf),
    /// The program cannot be run.
    #[error("cannot run `{program}`: {source}")]
    CannotRun {
        /// Which.
        program: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program refused; no machine was started, or none stopped.
    #[error("`{program}` failed: {text}")]
    Refused {
        /// Which.
        program: Utf8PathBuf,
        /// Its words.
        text: String,
    },
    /// The program was killed: the machine may have been started, or stopped.
    #[error("`{program}` did not end by itself: {how}")]
    Killed {
        /// Which.
        program: Utf8PathBuf,
        /// By whom.
        how: Ended,
    },
    /// The program succeeded, and says what it should not: the machine may have been started, or stopped.
    #[error("`{program}` does not keep the contract of launchers: {why}")]
    BrokenContract {
        /// Which.
        program: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The machine was started, and its monitor does not answer. It may run.
    #[error(transparent)]
    Monitor(#[from] ConnectError),
    /// The machine did not end in time. It may still run.
    #[error("something still listens at `{monitor}` after {} s", waited.as_secs())]
    StillThere {
        /// Where.
        monitor: Utf8PathBuf,
        /// For how long it was waited.
        waited: Duration,
    },
}

impl LaunchError {
    /// Whether a machine may run that was to be started, or may have ended that was to be stopped.
    pub fn in_doubt(&self) -> bool {
        use LaunchError::{BrokenContract, CannotRun, Killed, Monitor, StillThere};
        matches!(
            self,
            Killed { .. } | BrokenContract { .. } | Monitor(_) | StillThere { .. } | CannotRun { .. }
        )
    }
}

impl Launcher {
    /// Whether a machine can be started at all, as far as its document tells. Touches nothing.
    ///
    /// # Errors
    /// [`LaunchError::CannotGive`], [`LaunchError::Relative`].
    pub fn check(&self, domain: &DomainXml, monitor: &Utf8Path) -> Result<(), LaunchError> {
        absolute(monitor)?;
        match self {
            Launcher::Program(_) => Ok(()),
            Launcher::BuiltIn(built_in) => {
                built_in.binary(domain)?;
                arguments::check(domain, monitor, built_in.accelerator)
            }
        }
    }

    /// Where `qemu-img` of the machine's own release may be: beside its QEMU. None if nobody knows where that is.
    pub fn tool(&self, domain: &DomainXml) -> Option<Utf8PathBuf> {
        match self {
            Launcher::Program(_) => None,
            Launcher::BuiltIn(built_in) => Some(built_in.binary(domain).ok()?.with_file_name("qemu-img")),
        }
    }

    /// Whether QEMU takes a machine's arguments, while another one may run on its images. A program cannot be asked.
    ///
    /// # Errors
    /// [`LaunchError`]. Nothing was touched.
    pub async fn try_out<E: Env>(&self, env: &E, start: &Start<'_>) -> Result<(), LaunchError> {
        self.check(start.domain, start.monitor)?;
        match self {
            Launcher::BuiltIn(built_in) => built_in.try_out(env, start).await,
            Launcher::Program(_) => Ok(()),
        }
    }

    /// Starts a machine; returns its monitor, connected.
    ///
    /// # Errors
    /// [`LaunchError`]. What was started and does not answer is told to end, as far as it can be told.
    pub async fn start<E: Env>(&self, env: &E, start: &Start<'_>) -> Result<Monitor<E>, LaunchError> {
        self.check(start.domain, start.monitor)?;
        let deadline = env.now() + start.within;
        let started = match self {
            Launcher::BuiltIn(built_in) => built_in.start(env, start, deadline).await,
            Launcher::Program(path) => program::start(env, path, start).await,
        };
        let monitor = match started {
            Ok(()) => self.meet(env, start, deadline).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &monitor
            && error.in_doubt()
        {
            // It was never handed out, so nobody else can end it; one that is not there needs no end.
            let ended = quit(env, start.monitor, env.now() + RETRY_EVERY * 10).await;
            if ended.is_ok() {
                let _ = self.clear(env, start.domain, start.within).await;
            }
        }
        monitor
    }

    /// The monitor of what was started. A program may have started anything.
    async fn meet<E: Env>(
        &self,
        env: &E,
        start: &Start<'_>,
        deadline: Duration,
    ) -> Result<Monitor<E>, LaunchError> {
        let monitor = answering(env, start.monitor, deadline).await?;
        if let Launcher::Program(path) = self
            && let Err(error) = program::check(env, path, start, &monitor.client(), deadline).await
        {
            monitor.client().close();
            return Err(error);
        }
        Ok(monitor)
    }

    /// Removes what was made to start a machine that has ended since, or that never came up: the overlays of its `<transient/>`
    /// disks. Whatever else may be where they are stays. A program sees to that itself.
    ///
    /// # Errors
    /// [`LaunchError::OverlayStays`].
    pub async fn clear<E: Env>(
        &self,
        env: &E,
        domain: &DomainXml,
        within: Duration,
    ) -> Result<(), LaunchError> {
        let Launcher::BuiltIn(built_in) = self else { return Ok(()) };
        let overlays = transient::overlays(domain)?;
        if overlays.is_empty() {
            return Ok(());
        }
        let tool = tool(env, &built_in.binary(domain)?, within).await;
        let mut left = Vec::new();
        for overlay in overlays {
            if matches!(transient::is_left(&tool, &overlay).await, Ok(true)) {
                left.push(overlay);
            }
        }
        transient::remove(env, &left).await
    }

    /// Stops a machine, as pulling its plug does, and waits until its images are free. One that is off is no error. The overlays of
    /// its `<transient/>` disks are left to [`Launcher::clear`], or to who has seen which they are.
    ///
    /// # Errors
    /// [`LaunchError`].
    pub async fn stop<E: Env>(&self, env: &E, stop: &Stop<'_>) -> Result<(), LaunchError> {
        let deadline = env.now() + stop.within;
        match self {
            Launcher::BuiltIn(_) => quit(env, absolute(stop.monitor)?, deadline).await?,
            Launcher::Program(path) => program::stop(env, path, stop).await?,
        }
        let endpoint = Endpoint::Unix(stop.monitor.to_owned());
        // QEMU lets go of its images before it lets go of its sockets, and of what listens last.
        env.sleep_until(env.now() + RETRY_EVERY).await;
        match falls_silent(env, &endpoint, deadline).await {
            true => Ok(()),
            false => Err(LaunchError::StillThere { monitor: stop.monitor.to_owned(), waited: stop.within }),
        }
    }
}

/// What is there when QEMU is started.
struct Prepared {
    binary: Utf8PathBuf,
    arguments: Vec<String>,
    overlays: Vec<TransientOverlay>,
}

/// Waits until no process listens there; tells whether that came about by the deadline.
pub(crate) async fn falls_silent<E: Env>(env: &E, endpoint: &Endpoint, deadline: Duration) -> bool {
    while listens(env, endpoint).await {
        if env.now() >= deadline {
            return false;
        }
        env.sleep_until(env.now() + RETRY_EVERY).await;
    }
    true
}

impl BuiltIn {
    /// What QEMU may not do, by its major version: what came of daemons that deny themselves more differs.
    fn sandbox(major: u32) -> &'static str {
        // From 6.0 on, one that may not start programs, or not change its session, cannot become a daemon either.
        if major < 6 {
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
        } else {
            "on,obsolete=deny,resourcecontrol=deny"
        }
    }

    fn binary(&self, domain: &DomainXml) -> Result<Utf8PathBuf, LaunchError> {
        let root = domain.element();
        let emulator =
            || root.child("devices")?.child("emulator").map(|emulator| emulator.text().trim().into());
        let binary: Option<Utf8PathBuf> = self.binary.clone().or_else(emulator);
        binary.filter(|binary| binary != "").ok_or_else(|| LaunchError::CannotGive {
            at: root.at,
            what: "a machine without `<emulator>`, since no QEMU was named".to_owned(),
        })
    }

    async fn start<E: Env>(&self, env: &E, start: &Start<'_>, deadline: Duration) -> Result<(), LaunchError> {
        let Prepared { binary, arguments, overlays } = self.prepare(env, start, deadline).await?;
        let left = deadline.saturating_sub(env.now());
        let started = run(env, HostCommand::new(&*binary, arguments, left)).await.map(drop);
        if let Err(error) = &started
            && !error.in_doubt()
        {
            // One that cannot be removed is found by the next start; why this one has failed is to be told.
            let _ = transient::remove(env, &overlays).await;
        }
        started
    }

    /// All that comes before QEMU: its arguments, and the overlays that it is to find.
    async fn prepare<E: Env>(
        &self,
        env: &E,
        start: &Start<'_>,
        deadline: Duration,
    ) -> Result<Prepared, LaunchError> {
        let binary = self.binary(start.domain)?;
        let left = || deadline.saturating_sub(env.now());
        let mut arguments = self.sandbox_arguments(env, &binary, left()).await?;
        let tool = tool(env, &binary, left()).await;
        let chains = chain::read(&tool, start.domain).await?;
        let machine = arguments::Machine {
            domain: start.domain,
            chains: &chains,
            monitor: start.monitor,
            power: start.power,
            accelerator: self.accelerator,
        };
        arguments.extend(arguments::of(&machine)?);
        let overlays = transient::make(&tool, start.domain, &chains).await?;
        Ok(Prepared { binary, arguments, overlays })
    }

    async fn try_out<E: Env>(&self, env: &E, start: &Start<'_>) -> Result<(), LaunchError> {
        let deadline = env.now() + start.within;
        let left = || deadline.saturating_sub(env.now());
        let binary = self.binary(start.domain)?;
        let machine = arguments::Machine {
            domain: start.domain,
            chains: &chain::Chains::new(),
            monitor: start.monitor,
            power: start.power,
            accelerator: self.accelerator,
        };
        let words = arguments::of(&machine)?;
        for socket in trial::sockets(&words) {
            let folder = Utf8Path::new(&socket).parent().unwrap_or(Utf8Path::new("/"));
            if !matches!(env.file_kind(folder).await, Ok(FileKind::Folder)) {
                let text = format!("there is no folder `{folder}` for the socket `{socket}`");
                return Err(LaunchError::Refused { program: binary, text });
            }
        }
        let sandbox = self.sandbox_arguments(env, &binary, left()).await?;
        let words = [sandbox, trial::of(&words)].concat();
        let input = Some(trial::QUIT.as_bytes().to_vec());
        run(env, HostCommand { input, ..HostCommand::new(&*binary, words, left()) }).await.map(drop)
    }

    /// Asks QEMU for its version, and whether it can be kept from what it is never to do.
    async fn sandbox_arguments<E: Env>(
        &self,
        env: &E,
        binary: &Utf8Path,
        within: Duration,
    ) -> Result<Vec<String>, LaunchError> {
        let said = run(env, HostCommand::new(binary, ["--version"], within)).await?;
        let Some(major) = major(&said) else {
            let text = "`--version` does not say `QEMU emulator version`".to_owned();
            return Err(LaunchError::Refused { program: binary.to_owned(), text });
        };
        let sandbox = ["-sandbox", Self::sandbox(major)].map(str::to_owned).to_vec();
        // One that was built without seccomp refuses the option before it tells its version.
        let asked = [sandbox.clone(), vec!["--version".to_owned()]].concat();
        match run(env, HostCommand::new(binary, asked, within)).await {
            Ok(_) => Ok(sandbox),
            Err(LaunchError::Refused { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// `qemu-img`: that of the same release is beside QEMU, as a rule; where it is not, it is on the path.
async fn tool<E: Env>(env: &E, binary: &Utf8Path, within: Duration) -> QemuImg<E> {
    let on_path = QemuImg { within, ..QemuImg::new(env.clone()) };
    let program = binary.with_file_name("qemu-img");
    match env.file_kind(&program).await {
        Ok(FileKind::File { .. }) => QemuImg { program, ..on_path },
        _ => on_path,
    }
}

/// `QEMU emulator version 7.2.22 (Debian ...)`.
fn major(said: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(said).ok()?.strip_prefix("QEMU emulator version ")?;
    text.split('.').next()?.parse().ok()
}

/// Runs a program that is to succeed; what it said.
async fn run<E: Env>(env: &E, command: HostCommand) -> Result<Vec<u8>, LaunchError> {
    let program = &*command.program;
    let ran = env.run(&command).await.map_err(|source| cannot_run(program, source))?;
    match ran.ended {
        Ended::Exited(0) => Ok(ran.stdout),
        Ended::Exited(_) => Err(LaunchError::Refused { program: program.to_owned(), text: ran.words() }),
        how => Err(LaunchError::Killed { program: program.to_owned(), how }),
    }
}

fn cannot_run(program: &Utf8Path, source: io::Error) -> LaunchError {
    match source.kind() {
        io::ErrorKind::NotFound => LaunchError::Missing(program.to_owned()),
        _ => LaunchError::CannotRun { program: program.to_owned(), source },
    }
}

fn absolute(path: &Utf8Path) -> Result<&Utf8Path, LaunchError> {
    if path.is_absolute() { Ok(path) } else { Err(LaunchError::Relative(path.to_owned())) }
}

/// Connects as soon as somebody listens.
async fn answering<E: Env>(
    env: &E,
    monitor: &Utf8Path,
    deadline: Duration,
) -> Result<Monitor<E>, ConnectError> {
    let endpoint = Endpoint::Unix(monitor.to_owned());
    loop {
        let left = deadline.saturating_sub(env.now());
        match Monitor::connect(env.clone(), endpoint.clone(), left).await {
            Err(ConnectError::Unreachable { .. }) if env.now() < deadline => {
                env.sleep_until(env.now() + RETRY_EVERY).await;
            }
            connected => return connected,
        }
    }
}

/// Tells QEMU to end. One that nobody can connect to has ended.
async fn quit<E: Env>(env: &E, monitor: &Utf8Path, deadline: Duration) -> Result<(), LaunchError> {
    let endpoint = Endpoint::Unix(monitor.to_owned());
    let left = deadline.saturating_sub(env.now());
    let monitor = match Monitor::connect(env.clone(), endpoint, left).await {
        Err(ConnectError::Unreachable { .. }) => return Ok(()),
        connected => connected?,
    };
    let mut events = monitor.client().events();
    // Whether it heard shows in whether it goes: it closes its monitors last.
    let _ = monitor.client().execute("quit", &Quit {}, deadline).await;
    while !matches!(events.next(deadline).await, Err(Silence::Lost(_) | Silence::TimedOut)) {}
    monitor.client().close();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read() {
        assert_eq!(major(b"QEMU emulator version 10.0.13 (Debian 1:10.0.13)\nCopyright"), Some(10));
        assert_eq!(major(b"bash 5.2"), None);
    }

    #[test]
    fn a_machine_needs_a_qemu() {
        let domain = |devices: &str| {
            let text = format!("<domain><name>a</name><devices>{devices}</devices></domain>");
            DomainXml::read(text.as_bytes()).unwrap()
        };
        let built_in = BuiltIn::default();
        assert_eq!(built_in.binary(&domain("<emulator>/q</emulator>")).unwrap(), "/q");
        assert!(matches!(built_in.binary(&domain("")), Err(LaunchError::CannotGive { .. })));
    }
}
