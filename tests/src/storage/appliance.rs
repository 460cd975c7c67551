//! A guest whose kernel has device-mapper, for hosts that have none: LVM's tools run in it, and whoever calls them notices nothing.
//!
//! ```text
//! a driver -- lvcreate --yes ... --> in-guest, called `lvcreate` -- a line --> the guest's shell -- lvm lvcreate ... --> its kernel
//!          <-- output, exit code ---                             <-----------
//! ```
//! The guest is that of `ci/build-guest.sh`, with the LVM that lies beside it; its shell listens on its second serial port.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{fs::symlink, net::UnixStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use super::folder;
use crate::real;

/// Where the guest's shell is, for `in-guest`.
pub const SHELL: &str = "FREEZEFRAME_GUEST_SHELL";

/// From QEMU's first instruction to a shell that answers. It takes 3 s where nothing else runs.
const BOOTS_WITHIN: Duration = Duration::from_secs(120);

/// How long the guest may take for one command.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// What a program in the guest has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// On its standard output.
    pub output: Vec<u8>,
    /// On its standard error.
    pub errors: Vec<u8>,
    /// Its exit code.
    pub code: i32,
}

/// Lets the shell behind this socket do a line of commands.
///
/// # Errors
/// The system's; and an answer that is none.
pub fn says(shell: &Utf8Path, command: &str) -> io::Result<Said> {
    let mut line = BufReader::new(UnixStream::connect(shell)?);
    line.get_ref().set_read_timeout(Some(COMMAND_WITHIN))?;
    let kept = "od -An -v -tx1";
    writeln!(
        line.get_mut(),
        "{{ {command}; }} >/run/out 2>/run/err </dev/null; code=$?; {kept} /run/out; echo -; {kept} /run/err; exit $code"
    )?;
    let (mut output, mut errors, mut is_output) = (Vec::new(), Vec::new(), true);
    loop {
        let mut said = String::new();
        if line.read_line(&mut said)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match said.trim() {
            "-" => is_output = false,
            words => match words.strip_prefix("= ") {
                Some(code) => {
                    return Ok(Said { output, errors, code: code.parse().map_err(io::Error::other)? });
                }
                None => (if is_output { &mut output } else { &mut errors }).extend(bytes(words)?),
            },
        }
    }
}

fn bytes(words: &str) -> io::Result<Vec<u8>> {
    words.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).map_err(io::Error::other)).collect()
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The guest, while it runs.
#[derive(Debug)]
pub struct Appliance {
    qemu: Child,
    /// Where its shell is.
    pub shell: Utf8PathBuf,
    path: Utf8PathBuf,
    _folder: TempDir,
}

impl Appliance {
    /// Starts it with an empty disk of so many MiB, `/dev/vda`, and waits until it has booted.
    ///
    /// # Errors
    /// Why it cannot be here.
    pub fn start(mebibytes: u64) -> Result<Self, String> {
        let guest = real::guest().map_err(|error| error.to_string())?;
        let guest = guest.ok_or("no guest here; `ci/build-guest.sh` builds one")?;
        let initrd = guest.folder().join("initrd-lvm.img");
        if !initrd.exists() {
            return Err(format!("no {initrd}; `ci/build-guest.sh` builds it"));
        }
        let qemu =
            real::programs().into_iter().next().ok_or("no real QEMU; `ci/install-qemu.sh` gets them")?;
        let (keep, path) = folder()?;
        let (disk, shell) = (path.join("disk"), path.join("shell"));
        let file = fs::File::create(&disk).and_then(|file| file.set_len(mebibytes << 20));
        file.map_err(|error| error.to_string())?;
        let started = Command::new(&qemu)
            // One processor looks at what a tool does on the other.
            .args(["-M", "q35", "-accel", "tcg", "-m", "256", "-smp", "2", "-nodefaults", "-display", "none"])
            // Without random numbers of the processor's its tools would wait for others.
            .args(["-cpu", "qemu64,+rdrand", "-append", "console=ttyS0 quiet panic=-1"])
            .args(["-kernel", guest.folder().join("vmlinuz").as_str(), "-initrd", initrd.as_str()])
            .args(["-serial", &format!("file:{}", path.join("console"))])
            .args(["-chardev", &format!("socket,id=shell,server=on,wait=off,path={shell}")])
            .args(["-serial", "chardev:shell"])
            .args(["-drive", &format!("if=none,id=disk,format=raw,file={disk}")])
            .args(["-device", "virtio-blk-pci,drive=disk,serial=raw"])
            .stdin(Stdio::null())
            .spawn();
        let child = started.map_err(|error| format!("{qemu}: {error}"))?;
        let appliance = Self { qemu: child, shell, path, _folder: keep };
        appliance.wait()?;
        Ok(appliance)
    }

    /// Waits for an answer to the newest of some questions: a guest that boots answers several, or loses some.
    fn wait(&self) -> Result<(), String> {
        let begun = Instant::now();
        let mut asked = 0;
        while begun.elapsed() < BOOTS_WITHIN {
            asked += 1;
            if self.answers(asked).unwrap_or(false) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(200));
        }
        let console = fs::read_to_string(self.path.join("console")).unwrap_or_default();
        Err(format!("the guest has not booted; its console says:\n{console}"))
    }

    fn answers(&self, question: u32) -> io::Result<bool> {
        let mut line = BufReader::new(UnixStream::connect(&self.shell)?);
        line.get_ref().set_read_timeout(Some(Duration::from_secs(1)))?;
        writeln!(line.get_mut(), "echo question {question}")?;
        let mut said = String::new();
        loop {
            if line.read_line(&mut said)? == 0 {
                return Ok(false);
            }
            if said.ends_with("= 0\n") && said.contains(&format!("question {question}\n= 0")) {
                return Ok(true);
            }
        }
    }

    /// Lets its shell do a line of commands; what they say.
    ///
    /// # Errors
    /// Their words if they fail.
    pub fn run(&self, command: &str) -> Result<String, String> {
        run_at(&self.shell, command)
    }

    /// A program of the host's that finds these tools, each of which runs in the guest.
    ///
    /// # Errors
    /// The system's words.
    pub fn with_tools(&self, program: &Utf8Path, in_guest: &str, tools: &[&str]) -> Result<Command, String> {
        let folder = self.path.join("tools");
        let linked = fs::create_dir(&folder)
            .and_then(|()| tools.iter().try_for_each(|tool| symlink(in_guest, folder.join(tool))));
        linked.map_err(|error| error.to_string())?;
        let path = env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command.env("PATH", format!("{folder}:{path}")).env(SHELL, &self.shell);
        Ok(command)
    }
}

/// Lets the shell behind this socket do a line of commands; what they say.
///
/// # Errors
/// Their words if they fail.
pub fn run_at(shell: &Utf8Path, command: &str) -> Result<String, String> {
    let said = says(shell, command).map_err(|error| format!("{command}: {error}"))?;
    match said.code {
        0 => Ok(String::from_utf8_lossy(&said.output).into_owned()),
        _ => Err(format!("{command}: {}", String::from_utf8_lossy(&said.errors).trim())),
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
