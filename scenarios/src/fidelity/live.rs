//! A recording made anew: the recorded client's lines, said to a real QEMU that was started as the recorded one was.
//!
//! ```text
//! recording --> may it be played here? --> folder of its own, images made new --> QEMU --> the same client --> recording
//!                       \--no--> why not
//! ```
//! Recordings come from anywhere, and may do no more than a stranger's scenario may: every command that QEMU would find
//! in the client's bytes passes [`beyond`], every argument is one that the simulator knows, and neither names a file
//! outside of the folder. The client waits as it does at the simulator: [`replay`](super::replay).
//!
//! What it does not do: play what needs another recording's files, or a program of the guest.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell that starts real programs, and keeps their time"
)]

use std::{io, process::Stdio, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_sim::{
    Machine, Oracle, World,
    host::{Host, Image, Qcow2},
    wire::{Incoming, Reader},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::Command,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    files::put_beforehand,
    recording::{Line, Recording, Speaker},
    replay::{self, FOLDER, Heard, PATIENCE},
};
use crate::{
    language::beyond,
    world::{
        process::{self, Process},
        qemu::{Binary, StartError},
    },
};

/// What the recorder calls the folder.
const DIR: &str = "$DIR";

/// How often a monitor that is not there yet is tried.
const RETRY: Duration = Duration::from_millis(3);

/// Why a recording is not made anew.
#[derive(Debug, thiserror::Error)]
pub enum Unplayable {
    /// It could reach what is not its own, or needs what is not there.
    #[error("{0}")]
    Refused(String),
    /// The real QEMU cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The folder, or the socket in it, cannot be used.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Plays a recording's client on a real QEMU and writes down both sides.
///
/// # Errors
/// [`Unplayable`]; nothing is left behind.
pub async fn record(recording: &Recording, binary: &Binary) -> Result<Recording, Unplayable> {
    let host = host(recording)?;
    let folder = tempfile::Builder::new().prefix("freezeframe-").tempdir()?;
    let root = Utf8Path::from_path(folder.path()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the temporary folder's path is no UTF-8")
    })?;
    for (path, image) in host.files() {
        make_image(binary, &root.join(path.file_name().unwrap_or_default()), image).await?;
    }
    let began = Instant::now();
    let mut command = Command::new(binary.started());
    command.args(arguments(recording, binary, root)).current_dir(root);
    let process = Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
        .map_err(|source| StartError::Program { program: binary.program.clone(), source })?;
    let stream = connect(&monitor(recording, root)?, &process, binary, began).await?;
    let mut client = Client {
        stream,
        root: root.to_owned(),
        process,
        began,
        late: Duration::ZERO,
        heard: Heard::default(),
        given_up: Heard::default(),
        unfinished: Vec::new(),
        ended: false,
        lines: Vec::new(),
    };
    client.play(recording).await;
    Ok(Recording { lines: client.lines, ..recording.clone() })
}

/// The files that have to be there, for a recording that may be played.
fn host(recording: &Recording) -> Result<Host, Unplayable> {
    let machine = replay::machine(recording).map_err(|unknown| Unplayable::Refused(unknown.to_string()))?;
    if machine.program.is_some() || machine.disks.iter().any(|disk| disk.guest_writes) {
        return Err(Unplayable::Refused("its guest runs a program of its own".to_owned()));
    }
    let own = |text: &str| replay::in_folder(text, DIR).replace(&format!("{DIR}/"), "");
    let reaches_out =
        |word: &&str| own(word).contains(['/', ':']) || word.contains("..") || *word == "-sandbox";
    if let Some(word) = recording.arguments.split_ascii_whitespace().find(reaches_out) {
        return Err(Unplayable::Refused(format!("`{word}` is not in a folder of its own")));
    }
    let mut refused = None;
    let mut reader = Reader::new(recording.release);
    for (index, line) in recording.lines.iter().enumerate() {
        if line.speaker != Speaker::Client {
            continue;
        }
        let bytes = replay::wire(line, recording.lines.get(index + 1), DIR);
        reader.receive(own(&String::from_utf8_lossy(&bytes)).as_bytes(), |incoming| {
            if let Incoming::Message(message) = incoming
                && let Some(found) = beyond(&message)
            {
                refused.get_or_insert(found.message);
            }
        });
    }
    if let Some(message) = refused {
        return Err(Unplayable::Refused(message));
    }
    let mut world =
        World::new(&Machine { monitors: 0, ..machine.clone() }, recording.release, Oracle::default_order());
    put_beforehand(recording, &machine, world.host_mut());
    let outside = |path: &Utf8Path| path.parent() != Some(Utf8Path::new(FOLDER));
    if let Some((path, _)) = world.host().files().find(|(path, _)| outside(path)) {
        return Err(Unplayable::Refused(format!("`{path}` is not in a folder of its own")));
    }
    Ok(world.host().clone())
}

/// QEMU's arguments: the recorded ones, in this folder, with the accelerator that was asked for.
fn arguments(recording: &Recording, binary: &Binary, root: &Utf8Path) -> Vec<String> {
    let mut arguments: Vec<String> = recording
        .arguments
        .split_ascii_whitespace()
        .map(|word| replay::in_folder(word, root.as_str()))
        .collect();
    if let Some(at) = arguments.iter().position(|word| word == "-accel") {
        arguments[at + 1].clone_from(&binary.launch.accel);
    }
    arguments.extend(binary.sandbox_arguments());
    arguments
}

/// The socket of the first monitor.
fn monitor(recording: &Recording, root: &Utf8Path) -> Result<Utf8PathBuf, Unplayable> {
    let machine = replay::machine(recording).map_err(|unknown| Unplayable::Refused(unknown.to_string()))?;
    let socket = machine.chardevs.iter().find(|chardev| chardev.frontend.is_some());
    let name = socket.and_then(|socket| socket.path.file_name());
    name.map(|name| root.join(name)).ok_or_else(|| Unplayable::Refused("it has no monitor".to_owned()))
}

/// Makes an image as the recorder had made it: new, and filled from the start as far as it held something.
async fn make_image(binary: &Binary, path: &Utf8Path, image: &Image) -> Result<(), Unplayable> {
    let format = if image.as_qcow2().is_some() { "qcow2" } else { "raw" };
    let size = image.virtual_size().to_string();
    let mut create = Command::new(binary.helper("qemu-img"));
    run(binary, create.args(["create", "-q", "-f", format]).arg(path).arg(size)).await?;
    let held = image.blocks().len() as u64 * Qcow2::CLUSTER;
    if held > 0 {
        let mut fill = Command::new(binary.helper("qemu-io"));
        run(binary, fill.args(["-f", format, "-c"]).arg(format!("write -P 1 0 {held}")).arg(path)).await?;
    }
    Ok(())
}

async fn run(binary: &Binary, command: &mut Command) -> Result<(), Unplayable> {
    let program = Utf8PathBuf::from(command.as_std().get_program().to_string_lossy().into_owned());
    let ended = tokio::time::timeout(binary.launch.within, process::run(command)).await;
    let ended = ended.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let ended = ended.map_err(|source| StartError::Program { program: program.clone(), source })?;
    if ended.well { Ok(()) } else { Err(StartError::Helper { program, stderr: ended.stderr }.into()) }
}

/// Connects as soon as QEMU listens.
async fn connect(
    socket: &Utf8Path,
    process: &Process,
    binary: &Binary,
    began: Instant,
) -> Result<UnixStream, Unplayable> {
    let program = binary.program.clone();
    loop {
        match UnixStream::connect(socket.as_std_path()).await {
            Ok(stream) => return Ok(stream),
            Err(_) if process.has_ended() => {
                return Err(StartError::Ended { program, stderr: String::new() }.into());
            }
            Err(_) if began.elapsed() >= binary.launch.within => {
                let within = binary.launch.within;
                return Err(StartError::NoMonitor { program, within, stderr: String::new() }.into());
            }
            Err(_) => sleep_until(Instant::now() + RETRY).await,
        }
    }
}

/// The recorded client, at a real QEMU.
struct Client {
    stream: UnixStream,
    root: Utf8PathBuf,
    process: Process,
    began: Instant,
    /// By how much it speaks later than the recorded one.
    late: Duration,
    heard: Heard,
    /// What was waited for in vain.
    given_up: Heard,
    /// The start of a line.
    unfinished: Vec<u8>,
    /// QEMU has closed the connection.
    ended: bool,
    lines: Vec<Line>,
}

impl Client {
    async fn play(&mut self, recording: &Recording) {
        let mut recorded = Heard::default();
        for (index, line) in recording.lines.iter().enumerate() {
            match line.speaker {
                Speaker::Server => recorded.count(&line.text),
                Speaker::Client => {
                    self.wait(line.at, recorded).await;
                    self.note(Speaker::Client, line.text.clone());
                    let bytes = replay::wire(line, recording.lines.get(index + 1), self.root.as_str());
                    // Nobody may be there any more: the recorded client could not know either.
                    let _ = self.stream.write_all(&bytes).await;
                }
                Speaker::Host => {
                    self.wait(line.at, recorded).await;
                    self.note(Speaker::Host, line.text.clone());
                    self.process.terminate();
                }
            }
        }
        let last = recording.lines.last().map(|line| line.at).unwrap_or_default();
        self.wait(last, recorded).await;
    }

    /// Waits until what the recording calls `at`, and until as much is heard as was there.
    async fn wait(&mut self, at: Duration, recorded: Heard) {
        let due = self.began + at + self.late;
        while !self.ended && self.hear(due).await {}
        let patience = due.max(Instant::now()) + PATIENCE;
        while !self.ended && !self.heard.reaches(recorded, self.given_up) {
            if !self.hear(patience).await {
                self.given_up = self.heard.missing(recorded);
                break;
            }
        }
        self.late += Instant::now().saturating_duration_since(due);
    }

    /// Reads what comes until a time. False if nothing more came.
    async fn hear(&mut self, until: Instant) -> bool {
        let mut bytes = [0; 64 << 10];
        let Ok(read) = timeout_at(until, self.stream.read(&mut bytes)).await else { return false };
        let count = read.unwrap_or(0);
        self.ended = count == 0;
        self.unfinished.extend_from_slice(&bytes[..count]);
        while let Some(end) = memchr::memchr(b'\n', &self.unfinished) {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().replace(self.root.as_str(), DIR);
            self.heard.count(&line);
            self.note(Speaker::Server, line);
        }
        true
    }

    fn note(&mut self, speaker: Speaker, text: String) {
        self.lines.push(Line { at: self.began.elapsed(), speaker, text });
    }
}

#[cfg(test)]
mod tests {
    use freezeframe_sim::Release;

    use super::*;

    fn refusal(arguments: &str, sent: &str) -> Option<String> {
        let line = Line { at: Duration::ZERO, speaker: Speaker::Client, text: sent.to_owned() };
        let recording = Recording {
            release: Release::V10_0,
            name: "a".to_owned(),
            arguments: format!(
                "-machine q35 -chardev socket,id=mon0,path=$DIR/qmp,server=on,wait=off -mon chardev=mon0 {arguments}"
            ),
            lines: vec![line],
        };
        host(&recording).err().map(|refused| refused.to_string())
    }

    #[test]
    fn what_a_scenario_may_not_do_a_recording_may_not() {
        let disk = |file: &str| {
            format!(
                "-blockdev driver=file,node-name=f,filename={file} -blockdev driver=qcow2,node-name=d,file=f \
                 -device virtio-blk-pci,id=v,drive=d"
            )
        };
        assert_eq!(refusal(&disk("$DIR/disk0"), r#"{"execute": "quit"}"#), None);
        let outside = refusal(&disk("/etc/passwd"), "").unwrap();
        assert!(outside.contains("/etc/passwd"), "{outside}");
        assert!(refusal("-serial tcp:host:1", "").is_some());
        let migrate = r#"garbage{"execute": "migrate", "arguments": {"uri": "exec:true"}}"#;
        assert_eq!(refusal("", migrate).unwrap(), "`migrate` may not be sent to a real QEMU");
        let escaped = r#"{'execute': 'migr\u0061te', 'arguments': {'uri': 'exec:true'}}"#;
        assert_eq!(refusal("", escaped).unwrap(), "`migrate` may not be sent to a real QEMU");
        let up = r#"{"execute": "blockdev-add", "arguments": {"driver": "file", "filename": "$DIR/../x"}}"#;
        assert!(refusal("", up).is_some());
    }
}
