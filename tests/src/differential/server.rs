//! A real QEMU or storage daemon of its own, and a plain socket to its monitor.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "speaks to real programs, in real time"
)]

use std::{
    error::Error,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::{
    World as _,
    qemu::{Binary, QemuWorld},
};
use freezeframe_driver::env::Endpoint;
use freezeframe_sim::{Machine, machine::Power};
use tokio::{runtime::Runtime, task::LocalSet};

use super::pair::Peer;

/// Which of QEMU's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `qemu-system-x86_64`
    Machine,
    /// `qemu-storage-daemon`: block nodes and jobs without a machine.
    StorageDaemon,
}

impl Program {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Machine, Self::StorageDaemon];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "qemu-system-x86_64",
            Self::StorageDaemon => "qemu-storage-daemon",
        }
    }
}

/// How often a program is tried to be started: a host that is busy for a while is no finding, nor is a monitor that lost
/// its first client.
const STARTS: usize = 4;

/// How long a program may take to open its monitor.
const START: Duration = Duration::from_secs(10);

/// How long it may take to answer its first client.
const ANSWER: Duration = Duration::from_secs(3);

/// A program that runs. It ends when this is dropped.
pub struct Server {
    stream: UnixStream,
    read: Vec<u8>,
    ended: bool,
    folder: Utf8PathBuf,
    _life: Life,
}

/// What keeps the process and its files.
#[allow(dead_code, reason = "they are held to be dropped")]
enum Life {
    Qemu(QemuWorld),
    Daemon(Daemon, tempfile::TempDir),
}

/// Killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts the program that is, or lies beside, the binary.
    ///
    /// # Errors
    /// When it cannot be started, or opens no monitor.
    pub fn start(
        program: Program,
        binary: &Binary,
        machine: &Machine,
        runtime: &Runtime,
    ) -> Result<Self, Box<dyn Error>> {
        let start = || Self::start_once(program, binary, machine, runtime);
        (1..STARTS).find_map(|_| start().ok()).map_or_else(start, Ok)
    }

    fn start_once(
        program: Program,
        binary: &Binary,
        machine: &Machine,
        runtime: &Runtime,
    ) -> Result<Self, Box<dyn Error>> {
        if program == Program::StorageDaemon {
            return Self::daemon(&binary.program.with_file_name(program.name()));
        }
        debug_assert!(machine.power == Power::Prelaunch, "its firmware would disturb");
        let world = LocalSet::new().block_on(runtime, QemuWorld::start(binary, machine))?;
        let Endpoint::Unix(path) = world.monitor();
        let stream = connect(&path)?;
        let folder = world.folder().to_owned();
        Ok(Self { stream, read: Vec::new(), ended: false, folder, _life: Life::Qemu(world) })
    }

    fn daemon(program: &Utf8Path) -> Result<Self, Box<dyn Error>> {
        let temporary = tempfile::Builder::new().prefix("freezeframe-").tempdir()?;
        let folder = Utf8PathBuf::try_from(temporary.path().to_owned())?;
        let path = folder.join("monitor");
        let child = Command::new(program)
            .arg("--chardev")
            .arg(format!("socket,id=monitor,path={path},server=on,wait=off"))
            .args(["--monitor", "chardev=monitor"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let daemon = Daemon(child);
        set_up(&path)?;
        let stream = connect(&path)?;
        Ok(Self { stream, read: Vec::new(), ended: false, folder, _life: Life::Daemon(daemon, temporary) })
    }
}

impl Peer for Server {
    fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    fn say(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn hear(&mut self, within: Duration) -> Vec<String> {
        let mut buffer = [0; 1 << 16];
        let _ = self.stream.set_read_timeout(Some(within));
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.read.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => self.ended = true,
        }
        let end = self.read.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.read.drain(..end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn may_say_more(&self) -> bool {
        !self.ended
    }
}

/// Waits until a monitor answers, on a connection of its own.
///
/// A program listens before its monitor is set up, which another of its threads does. A client that comes meanwhile may be
/// greeted twice, or never be listened to; who comes after one that was answered meets neither.
fn set_up(path: &Utf8Path) -> io::Result<()> {
    let mut stream = connect(path)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"{\"execute\": \"qmp_capabilities\"}\n")?;
    let said = BufReader::new(stream).lines();
    for line in said {
        if line?.contains("\"return\"") {
            return Ok(());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Connects as soon as somebody listens.
fn connect(path: &Utf8Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + START;
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}
