//! A real QEMU, in a temporary folder of its own, with the machine that the scenario describes.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell that starts real programs and reads real folders"
)]

use std::{
    cell::RefCell, collections::BTreeSet, fmt::Write as _, fs, io, process::Stdio, rc::Rc, time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    client::{Client, ConnectError},
    env::{Endpoint, Env, tokio::TokioEnv},
    wire::Band,
};
use freezeframe_sim::{
    Release,
    machine::{Disk, Machine, Power},
};
use tokio::process::{Child, Command};

use super::World;

/// How long QEMU may take to open its monitors, and a helper program to finish.
const START: Duration = Duration::from_secs(20);

/// How often a monitor that is not there yet is tried.
const RETRY: Duration = Duration::from_millis(3);

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
    #[error("`{program}` ended before its monitor was there: {stderr}")]
    Ended {
        /// Which.
        program: Utf8PathBuf,
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
}

/// A real QEMU binary and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// The program.
    pub program: Utf8PathBuf,
    /// Its version: major, minor, micro.
    pub version: (u32, u32, u32),
    /// The release that the simulator compares it with.
    pub release: Release,
    /// Whether that is its own release.
    pub exact: bool,
    /// `tcg`, unless the user asks for `kvm`: a `/dev/kvm` that opens and then hangs exists.
    pub accel: String,
}

impl Binary {
    /// Asks a program for its version.
    ///
    /// # Errors
    /// [`StartError::Program`], [`StartError::NotQemu`].
    pub async fn ask(program: &Utf8Path, accel: &str) -> Result<Self, StartError> {
        let run = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
        let output = match tokio::time::timeout(START, run).await {
            Ok(Ok(output)) => output,
            Ok(Err(source)) => return Err(StartError::Program { program: program.into(), source }),
            Err(_) => return Err(StartError::NotQemu(program.into())),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        let version = said.strip_prefix("QEMU emulator version ").and_then(version);
        let version = version.ok_or_else(|| StartError::NotQemu(program.into()))?;
        let (release, exact) = Release::nearest(version.0, version.1);
        Ok(Self { program: program.into(), version, release, exact, accel: accel.to_owned() })
    }

    /// `7.2.22`.
    pub fn version_name(&self) -> String {
        let (major, minor, micro) = self.version;
        format!("{major}.{minor}.{micro}")
    }

    /// The `qemu-img` beside it, or the one on the path.
    fn qemu_img(&self) -> Utf8PathBuf {
        let beside = self.program.with_file_name("qemu-img");
        if beside.is_file() { beside } else { "qemu-img".into() }
    }
}

/// `7.2.22 (Debian ...)`.
fn version(text: &str) -> Option<(u32, u32, u32)> {
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
    /// Dropped before the folder: its destructor kills the process.
    process: RefCell<Option<Child>>,
    images: Utf8PathBuf,
    folder: tempfile::TempDir,
}

impl QemuWorld {
    /// Makes the images, starts QEMU, and waits until its monitors answer and the machine stands as described.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left behind.
    pub async fn start(binary: &Binary, machine: &Machine) -> Result<Self, StartError> {
        let folder = tempfile::Builder::new().prefix("freezeframe-").tempdir().map_err(StartError::Folder)?;
        let root = Utf8Path::from_path(folder.path()).ok_or_else(|| {
            StartError::Folder(io::Error::new(io::ErrorKind::InvalidInput, "its path is no UTF-8"))
        })?;
        let images = root.join("images");
        fs::create_dir(&images).map_err(StartError::Folder)?;
        for disk in &machine.disks {
            create_image(binary, disk, &images).await?;
        }
        let stderr = fs::File::create(root.join("stderr")).map_err(StartError::Folder)?;
        let process = Command::new(&binary.program)
            .args(arguments(machine, binary, root, &images))
            .current_dir(&images)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| StartError::Program { program: binary.program.clone(), source })?;
        let process = RefCell::new(Some(process));
        let world = Self { inner: Rc::new(Inner { env: TokioEnv::new(), process, images, folder }) };
        world.ready(binary, machine).await?;
        Ok(world)
    }

    /// Waits for both monitors and stops the guest if it is to be paused.
    async fn ready(&self, binary: &Binary, machine: &Machine) -> Result<(), StartError> {
        let deadline = self.inner.env.now() + START;
        let broken = |source| StartError::Monitor { program: binary.program.clone(), source };
        let control = loop {
            match Client::connect(&self.inner.env, &self.control(), false, START).await {
                Ok(client) => break client,
                Err(ConnectError::Unreachable { .. }) if self.inner.env.now() < deadline => {
                    self.still_running(binary)?;
                    self.inner.env.sleep_until(self.inner.env.now() + RETRY).await;
                }
                Err(error) => {
                    self.still_running(binary)?;
                    return Err(broken(error));
                }
            }
        };
        if machine.power == Power::Paused {
            let stopped = control.call(Band::In, "start", "stop", None::<&()>, deadline).await;
            stopped.map_err(|error| StartError::Helper {
                program: binary.program.clone(),
                stderr: error.to_string(),
            })?;
        }
        Ok(())
    }

    fn still_running(&self, binary: &Binary) -> Result<(), StartError> {
        let mut process = self.inner.process.borrow_mut();
        let ended = process.as_mut().is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
        if !ended {
            return Ok(());
        }
        let stderr = fs::read_to_string(self.inner.folder.path().join("stderr")).unwrap_or_default();
        Err(StartError::Ended { program: binary.program.clone(), stderr: stderr.trim().to_owned() })
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

    fn folder(&self) -> &Utf8Path {
        &self.inner.images
    }

    async fn files(&self) -> io::Result<BTreeSet<String>> {
        let entries = fs::read_dir(&self.inner.images)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    async fn kill_qemu(&self) {
        let process = self.inner.process.borrow_mut().take();
        if let Some(mut process) = process {
            // It may have ended by itself; then there is nothing to kill.
            let _ = process.kill().await;
        }
    }
}

async fn create_image(binary: &Binary, disk: &Disk, images: &Utf8Path) -> Result<(), StartError> {
    let program = binary.qemu_img();
    let output = Command::new(&program)
        .args(["create", "-q", "-f", disk.format.driver()])
        .arg(images.join(disk.path.file_name().unwrap_or(&disk.target)))
        .arg(disk.size.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| StartError::Program { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(StartError::Helper { program, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// The command line that makes of QEMU the machine that the simulator would simulate.
fn arguments(machine: &Machine, binary: &Binary, root: &Utf8Path, images: &Utf8Path) -> Vec<String> {
    let mut line = format!(
        "-nodefaults -no-user-config -display none -machine q35 -accel {} -m {}",
        binary.accel,
        machine.memory >> 20
    );
    if machine.power == Power::Prelaunch {
        line += " -S";
    }
    let mut arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let mut push = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    for number in 0..machine.monitors {
        let mut socket = format!("socket,id=monitor{number},server=on,wait=off,path=");
        let _ = write!(socket, "{}", escaped(&root.join(format!("monitor{number}"))));
        push("-chardev", socket);
        push("-mon", format!("chardev=monitor{number},mode=control"));
    }
    for disk in &machine.disks {
        let Disk { target, format, readonly, path, .. } = disk;
        let file = images.join(path.file_name().unwrap_or(target));
        let readonly = if *readonly { "on" } else { "off" };
        let filename = escaped(&file);
        push(
            "-blockdev",
            format!("driver=file,node-name={target}-file,read-only={readonly},filename={filename}"),
        );
        let format = format.driver();
        push(
            "-blockdev",
            format!("driver={format},node-name={target},read-only={readonly},file={target}-file"),
        );
        push("-device", format!("virtio-blk-pci,id={target}-device,drive={target}"));
    }
    for (number, port) in machine.serial_ports.iter().enumerate() {
        if number == 0 {
            push("-device", "virtio-serial-pci".to_owned());
        }
        let path = escaped(&root.join(format!("port-{port}")));
        push("-chardev", format!("socket,id=chardev-{port},server=on,wait=off,path={path}"));
        push(
            "-device",
            format!("virtserialport,chardev=chardev-{port},id={port},name=org.freezeframe.{number}"),
        );
    }
    arguments
}

/// A path inside a comma-separated option: QEMU reads two commas as one.
fn escaped(path: &Utf8Path) -> String {
    path.as_str().replace(',', ",,")
}
