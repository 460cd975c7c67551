//! A real QEMU, in a temporary folder of its own, with the machine that the scenario describes.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell that starts real programs and reads real folders"
)]

pub(super) mod arguments;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    io::{self, Read as _},
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    agent::{Agent, FreezeStatus},
    client::{Client, ConnectError},
    env::{Endpoint, Env, tokio::TokioEnv},
    launch::{BuiltIn, Launcher, arguments::Accelerator},
    wire::Band,
};
use freezeframe_sim::{
    Release,
    machine::{DiskModel, Format, Machine, Power},
};
use tokio::process::Command;

use super::{
    World,
    guest::{Control, Guest, GuestError},
    process::{self, Ended, Process},
    reader::Reader,
};
use crate::{
    language::{self, GuestAct, HostAct, HostFile},
    play::CannotPlay,
};

/// How long the agent of a guest that boots may take to say whether it has frozen.
const ASK_AGENT: Duration = Duration::from_secs(5);

/// How often a monitor that is not there yet is tried.
const RETRY: Duration = Duration::from_millis(3);

/// What QEMU is never to do here, whatever it is told: start programs, gain rights, or use what is out of date.
const SANDBOX: [&str; 2] =
    ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"];

/// Why a real QEMU cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program cannot be run.
    #[error("cannot run `{program}`: {source}")]
    Program {
        /// Which.
        program: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program is no QEMU.
    #[error("`{0}` is no QEMU: `--version` does not say `QEMU emulator version`")]
    NotQemu(Utf8PathBuf),
    /// A helper failed.
    #[error("`{program}` failed: {stderr}")]
    Helper {
        /// Which.
        program: Utf8PathBuf,
        /// Its words.
        stderr: String,
    },
    /// QEMU ended before its monitor was there.
    #[error("`{program}` ended before its monitor was there{}", words(stderr))]
    Ended {
        /// Which.
        program: Utf8PathBuf,
        /// Its words.
        stderr: String,
    },
    /// QEMU runs and opens no monitor.
    #[error("`{program}` did not open its monitor within {} s{}", within.as_secs(), words(stderr))]
    NoMonitor {
        /// Which.
        program: Utf8PathBuf,
        /// How long it was waited for.
        within: Duration,
        /// Its words.
        stderr: String,
    },
    /// Its monitor does not work.
    #[error("the monitor of `{program}` does not work: {source}")]
    Monitor {
        /// Which.
        program: Utf8PathBuf,
        /// What is wrong.
        source: ConnectError,
    },
    /// No place for its files.
    #[error("no temporary folder: {0}")]
    Folder(io::Error),
    /// Its guest does not boot, or not as it should.
    #[error(transparent)]
    Guest(#[from] GuestError),
}

/// `: Could not open '/images/vda.qcow2'`, or nothing if nothing was said.
fn words(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

/// How a real QEMU is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// `tcg`, unless the user asks for `kvm`: a `/dev/kvm` that opens and then hangs exists.
    pub accel: String,
    /// How long QEMU may take to open its monitors, and a helper program to finish.
    pub within: Duration,
}

impl Default for Launch {
    fn default() -> Self {
        Self { accel: "tcg".to_owned(), within: Duration::from_secs(10) }
    }
}

/// A real QEMU binary and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// The program, as it was named.
    pub program: Utf8PathBuf,
    /// Its version: major, minor, micro.
    pub version: (u32, u32, u32),
    /// The release that the simulator compares it with.
    pub release: Release,
    /// Whether that is its own release.
    pub exact: bool,
    /// How it is started.
    pub launch: Launch,
    /// Whether it was built with seccomp, so that it can be kept from starting programs.
    pub sandbox: bool,
}

impl Binary {
    /// Asks a program for its version.
    ///
    /// # Errors
    /// [`StartError::Program`], [`StartError::NotQemu`].
    pub async fn ask(program: &Utf8Path, launch: &Launch) -> Result<Self, StartError> {
        let version = async |options: &[&str]| {
            let mut command = Command::new(started(program));
            let ended = finish(command.args(options).arg("--version"), program, launch.within).await?;
            Ok::<_, StartError>(version(&ended.stdout).filter(|_| ended.well))
        };
        // QEMU reads its options in order: one without seccomp refuses the first and never comes to the second.
        let sandboxed = version(&SANDBOX).await?;
        let found = if sandboxed.is_some() { sandboxed } else { version(&[]).await? };
        let found = found.ok_or_else(|| StartError::NotQemu(program.into()))?;
        let (release, exact) = Release::nearest(found.0, found.1);
        Ok(Self {
            program: program.into(),
            version: found,
            release,
            exact,
            launch: launch.clone(),
            sandbox: sandboxed.is_some(),
        })
    }

    /// `7.2.22`.
    pub fn version_name(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("{major}.{minor}.{micro}")
    }

    /// The helper of that name beside it (`qemu-img`, `qemu-io`), or the one on the path.
    pub(crate) fn helper(&self, name: &str) -> Utf8PathBuf {
        let beside = self.program.with_file_name(name);
        if beside.is_file() { started(&beside) } else { name.into() }
    }

    /// The program, to be started in any folder.
    pub(crate) fn started(&self) -> Utf8PathBuf {
        started(&self.program)
    }

    /// The arguments that keep it from starting programs, where it can be.
    pub(crate) fn sandbox_arguments(&self) -> impl Iterator<Item = String> {
        SANDBOX.into_iter().filter(|_| self.sandbox).map(str::to_owned)
    }
}

/// The program as it is started: QEMU gets a working directory of its own, so a relative path is made absolute. A name
/// alone is looked for on the path.
fn started(program: &Utf8Path) -> Utf8PathBuf {
    let named = program.as_str().contains('/');
    let absolute = named.then(|| camino::absolute_utf8(program).ok()).flatten();
    absolute.unwrap_or_else(|| program.to_owned())
}

/// Firmware that rests from the first instruction on: `cli`, and `hlt` for ever.
fn firmware(size: u64) -> Vec<u8> {
    const FROM_END: usize = 16;
    let mut code = vec![0; usize::try_from(size).unwrap_or_default().max(FROM_END)];
    let start = code.len() - FROM_END;
    code[start..start + 4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    code
}

/// Runs a helper program to its end.
async fn finish(command: &mut Command, program: &Utf8Path, within: Duration) -> Result<Ended, StartError> {
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {} s", within.as_secs()));
    let ended = tokio::time::timeout(within, process::run(command)).await;
    ended
        .unwrap_or_else(|_| Err(late()))
        .map_err(|source| StartError::Program { program: program.into(), source })
}

/// `QEMU emulator version 7.2.22 (Debian ...)`.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let text = text.strip_prefix("QEMU emulator version ")?;
    let numbers = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    let mut numbers = numbers.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// A real QEMU that runs a machine. The process ends and the folder goes with the last clone.
#[derive(Clone)]
pub struct QemuWorld {
    inner: Rc<Inner>,
}

struct Inner {
    env: TokioEnv,
    binary: Binary,
    /// Dropped before the folder: nobody writes there any more when it is removed.
    process: RefCell<Option<Process>>,
    /// Other programs that have images of it open.
    readers: RefCell<Vec<Reader>>,
    /// The line to a guest that boots.
    control: Option<Control>,
    images: Utf8PathBuf,
    folder: tempfile::TempDir,
}

impl Inner {
    /// Kills the machine that the driver has started in the place of the first one, if there is one.
    fn kill_daemon(&self) {
        process::kill_daemon(&self.folder.path().join("monitor0.pid"));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.kill_daemon();
    }
}

impl QemuWorld {
    /// Makes the images, starts QEMU, and waits until its monitors answer and the machine stands as described.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub async fn start(binary: &Binary, machine: &Machine) -> Result<Self, StartError> {
        Self::start_with(binary, machine, None, None).await
    }

    /// The same with a guest that boots, and waits until its agent stands as described.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub async fn boot(binary: &Binary, machine: &Machine, guest: &Guest) -> Result<Self, StartError> {
        Self::start_with(binary, machine, Some(guest), None).await
    }

    /// The same from copies of the images that a folder holds under the names of the machine's.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub async fn boot_from(
        binary: &Binary,
        machine: &Machine,
        guest: &Guest,
        images: &Utf8Path,
    ) -> Result<Self, StartError> {
        Self::start_with(binary, machine, Some(guest), Some(images)).await
    }

    async fn start_with(
        binary: &Binary,
        machine: &Machine,
        guest: Option<&Guest>,
        copied: Option<&Utf8Path>,
    ) -> Result<Self, StartError> {
        let folder = tempfile::Builder::new().prefix("freezeframe-").tempdir().map_err(StartError::Folder)?;
        let root = Utf8Path::from_path(folder.path()).ok_or_else(|| {
            StartError::Folder(io::Error::new(io::ErrorKind::InvalidInput, "its path is no UTF-8"))
        })?;
        let images = root.join("images");
        fs::create_dir(&images).map_err(StartError::Folder)?;
        for disk in &machine.disks {
            let name = disk.path.file_name().unwrap_or(&disk.target);
            match copied {
                Some(folder) => {
                    fs::copy(folder.join(name), images.join(name)).map(drop).map_err(StartError::Folder)?
                }
                None if disk.model == DiskModel::Flash && disk.readonly => {
                    fs::write(images.join(name), firmware(disk.size)).map_err(StartError::Folder)?;
                }
                None => create_image(binary, disk.format, disk.size, &images.join(name), None).await?,
            }
        }
        let stderr = fs::File::create(root.join("stderr")).map_err(StartError::Folder)?;
        let mut command = Command::new(binary.started());
        command
            .args(arguments::arguments(machine, binary, root, &images, guest))
            .current_dir(&images)
            .stdout(Stdio::null())
            .stderr(stderr);
        let process = Process::start(&mut command)
            .map_err(|source| StartError::Program { program: binary.program.clone(), source })?;
        let process = RefCell::new(Some(process));
        let world = Self {
            inner: Rc::new(Inner {
                // Every scenario's machine has the same UUID.
                env: TokioEnv::new().with_runtime_folder(&[root.join("runtime")]),
                binary: binary.clone(),
                process,
                readers: RefCell::default(),
                control: guest.map(|_| Control::of(root)),
                images,
                folder,
            }),
        };
        world.ready(binary, machine).await?;
        Ok(world)
    }

    /// Waits for the monitor and stops the guest if it is to be paused.
    async fn ready(&self, binary: &Binary, machine: &Machine) -> Result<(), StartError> {
        let (env, within) = (&self.inner.env, binary.launch.within);
        let program = || binary.program.clone();
        let deadline = env.now() + within;
        let control = loop {
            let left = deadline.saturating_sub(env.now());
            let error = match Client::connect(env, &self.control(), false, left).await {
                Ok(client) => break client,
                Err(error) => error,
            };
            if self.has_ended() {
                return Err(StartError::Ended { program: program(), stderr: self.stderr() });
            }
            match error {
                ConnectError::Unreachable { .. } if env.now() < deadline => {
                    env.sleep_until(env.now() + RETRY).await;
                }
                ConnectError::Unreachable { .. } => {
                    return Err(StartError::NoMonitor { program: program(), within, stderr: self.stderr() });
                }
                source => return Err(StartError::Monitor { program: program(), source }),
            }
        };
        if let Some(guest) = &self.inner.control {
            guest.booted(machine, &self.agent()).await?;
        }
        if machine.power == Power::Paused {
            let deadline = env.now() + within;
            let stopped = control.call(Band::In, "start", "stop", None::<&()>, deadline).await;
            stopped.map_err(|error| StartError::Helper { program: program(), stderr: error.to_string() })?;
        }
        Ok(())
    }

    /// Has the shell of a guest that boots run a command, also while its file systems are frozen; gives what it says.
    ///
    /// # Errors
    /// [`GuestError::Disobeyed`]; so it is with a guest that runs nothing.
    pub async fn tell_guest(&self, command: &str) -> Result<String, GuestError> {
        let nobody = || GuestError::Disobeyed { command: command.into(), said: "it runs nothing".into() };
        self.inner.control.as_ref().ok_or_else(nobody)?.command(command).await
    }

    fn has_ended(&self) -> bool {
        self.inner.process.borrow().as_ref().is_none_or(Process::has_ended)
    }

    /// What QEMU has said on standard error; the start of it, should it be long.
    fn stderr(&self) -> String {
        let mut said = Vec::new();
        // Without its words the error is still the same.
        let _ = fs::File::open(self.inner.folder.path().join("stderr"))
            .and_then(|file| file.take(process::SAID_MAX).read_to_end(&mut said));
        String::from_utf8_lossy(&said).trim().to_owned()
    }
}

impl World for QemuWorld {
    type Env = TokioEnv;

    fn env(&self) -> &TokioEnv {
        &self.inner.env
    }

    fn monitor(&self) -> Endpoint {
        Endpoint::Unix(self.inner.images.with_file_name("monitor0"))
    }

    fn control(&self) -> Endpoint {
        Endpoint::Unix(self.inner.images.with_file_name("monitor1"))
    }

    fn agent(&self) -> Endpoint {
        Endpoint::Unix(self.inner.images.with_file_name("port-agent"))
    }

    fn folder(&self) -> &Utf8Path {
        &self.inner.images
    }

    async fn files(&self) -> io::Result<BTreeSet<String>> {
        let entries = fs::read_dir(&self.inner.images)?;
        let mut files = BTreeSet::new();
        for entry in entries {
            let entry = entry?;
            // Records have a folder of their own in it.
            if !entry.file_type()?.is_dir() {
                files.insert(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(files)
    }

    async fn add_file(&self, file: &HostFile) -> Result<(), CannotPlay> {
        let path = self.inner.images.join(&file.name);
        let made = match file.size {
            None => fs::File::create_new(&path).map(drop).map_err(StartError::Folder),
            Some(size) => {
                let format = match file.format {
                    language::Format::Qcow2 => Format::Qcow2,
                    language::Format::Raw => Format::Raw,
                };
                create_image(&self.inner.binary, format, size.bytes(), &path, file.backing.as_deref()).await
            }
        };
        made.map_err(|error| CannotPlay::new(error.to_string()))
    }

    fn launcher(&self) -> Launcher {
        let accelerator =
            if self.inner.binary.launch.accel == "kvm" { Accelerator::Kvm } else { Accelerator::Tcg };
        Launcher::BuiltIn(BuiltIn {
            binary: Some(self.inner.binary.started()),
            accelerator: Some(accelerator),
        })
    }

    fn tool(&self) -> Utf8PathBuf {
        self.inner.binary.helper("qemu-img")
    }

    async fn kill_qemu(&self) {
        // Dropping it kills it.
        drop(self.inner.process.borrow_mut().take());
        self.inner.kill_daemon();
    }

    fn fail_guest_write(&self, _: &str) {}

    fn fill(&self, _: &str) {}

    fn on_host(&self, _act: &HostAct) {}

    async fn hold(&self, file: &str) -> Result<(), CannotPlay> {
        let program = self.inner.binary.helper("qemu-io");
        let opened = Reader::open(&program, &self.inner.images.join(file)).await;
        let reader = opened.map_err(|error| CannotPlay::new(format!("{program}: {error}")))?;
        self.inner.readers.borrow_mut().push(reader);
        Ok(())
    }

    async fn in_guest(&self, act: GuestAct) -> Result<(), CannotPlay> {
        let Some(guest) = &self.inner.control else { return Err(CannotPlay::new("this guest runs nothing")) };
        guest.act(act).await.map_err(|error| CannotPlay::new(error.to_string()))
    }

    /// By the agent's word: its kernel tells nobody.
    async fn is_frozen(&self) -> Result<bool, CannotPlay> {
        if self.inner.control.is_none() || self.has_ended() {
            return Ok(false);
        }
        let deadline = self.inner.env.now() + ASK_AGENT;
        let asked = async {
            Agent::connect(&self.inner.env, &self.agent(), deadline).await?.freeze_status(deadline).await
        };
        match asked.await {
            Ok(status) => Ok(status == FreezeStatus::Frozen),
            Err(error) => {
                Err(CannotPlay::new(format!("the guest does not tell whether it is frozen: {error}")))
            }
        }
    }
}

async fn create_image(
    binary: &Binary,
    format: Format,
    size: u64,
    path: &Utf8Path,
    backing: Option<&str>,
) -> Result<(), StartError> {
    let program = binary.helper("qemu-img");
    let mut command = Command::new(started(&program));
    command
        .args(["create", "-q", "-f", format.driver()])
        .args(backing.iter().flat_map(|backing| ["-F", "qcow2", "-b", backing]))
        .arg(path)
        .arg(size.to_string());
    let Ended { well, stderr, .. } = finish(&mut command, &program, binary.launch.within).await?;
    if well { Ok(()) } else { Err(StartError::Helper { program, stderr }) }
}
