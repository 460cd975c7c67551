//! Says to the simulator what the recorded client said, byte for byte, and writes down the answers.
//!
//! The client speaks when it spoke in the recording, but never before everything has been heard that it had heard by
//! then: it may have waited for just that. What does not come within [`PATIENCE`] of virtual time is given up and
//! not waited for again; all that follows is then said later by as much as was waited.

use std::time::Duration;

use freezeframe_sim::{
    Machine, Oracle, Port, World,
    host::{Descriptor, Host},
    machine::Unknown,
    world::Connection,
};
use serde::de::IgnoredAny;

use super::{
    files::{put_beforehand, size},
    recording::{Line, Recording, Speaker},
};

/// What the folder of the recorder, `$DIR`, is on the simulated host.
pub const FOLDER: &str = "/recorded";

/// What the recorder calls its folder, where it lay.
const RECORDED: [&str; 2] = ["$DIR", "/vm/vm/q"];

/// How long something is waited for that the recorded client had heard.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What the recorder wrote for the byte that is no text.
const LONE_BYTE: &str = "<byte ff>";

/// What it wrote behind a command with which it passed an open file.
const WITH_DESCRIPTOR: &str = "  <with SCM_RIGHTS>";

/// The file that it passed.
const PASSED: &str = "passed";

/// What the simulator said.
#[derive(Debug)]
pub struct Replayed {
    /// Its lines, without line ends.
    pub said: Vec<String>,
    /// How many of them had come each time that the client spoke.
    pub turns: Vec<usize>,
    /// The files as they were at the end.
    pub host: Host,
}

/// A recorded text with another folder in the place of the recorder's.
pub(super) fn in_folder(text: &str, folder: &str) -> String {
    RECORDED.into_iter().fold(text.to_owned(), |text, recorded| text.replace(recorded, folder))
}

/// The machine that was recorded.
///
/// # Errors
/// [`Unknown`], if the simulator cannot be it.
pub fn machine(recording: &Recording) -> Result<Machine, Unknown> {
    let arguments = in_folder(&recording.arguments, FOLDER);
    let mut machine = Machine::from_arguments(arguments.split_ascii_whitespace())?;
    for disk in &mut machine.disks {
        disk.size = size(recording, &disk.path).unwrap_or(disk.size);
    }
    for chardev in &mut machine.chardevs {
        chardev.connected = is_connected(recording, &chardev.label);
    }
    Ok(Machine { folder: FOLDER.into(), ..machine })
}

/// Whether the recorder was connected to another socket than the monitor's: only `query-chardev` tells.
fn is_connected(recording: &Recording, label: &str) -> bool {
    let told = format!("\"label\": \"{label}\"");
    recording.said().filter(|line| line.contains(&told)).any(|line| {
        let (before, _) = line.split_once(&told).unwrap_or_default();
        before.rsplit_once("\"filename\": \"").is_some_and(|(_, filename)| filename.starts_with("unix:"))
    })
}

/// Replays a recording on a machine; `files` are what an earlier machine left, if there was one.
pub fn replay(recording: &Recording, machine: &Machine, files: Option<&Host>) -> Replayed {
    replay_in_order(recording, machine, files, Oracle::default_order())
}

/// As [`replay`], with whatever varies as an oracle chooses.
pub fn replay_in_order(
    recording: &Recording,
    machine: &Machine,
    files: Option<&Host>,
    oracle: Oracle,
) -> Replayed {
    let mut world = World::new(machine, recording.release, oracle);
    if let Some(files) = files {
        *world.host_mut() = files.clone();
    }
    put_beforehand(recording, machine, world.host_mut());
    let Ok(connection) = world.connect(Duration::ZERO, Port::Monitor(0)) else {
        return Replayed { said: Vec::new(), turns: Vec::new(), host: world.host().clone() };
    };
    let mut client = Client {
        world,
        connection,
        now: Duration::ZERO,
        late: Duration::ZERO,
        heard: Heard::default(),
        given_up: Heard::default(),
        said: Vec::new(),
        turns: Vec::new(),
    };
    let mut recorded = Heard::default();
    for (index, line) in recording.lines.iter().enumerate() {
        match line.speaker {
            Speaker::Server => recorded.count(&line.text),
            Speaker::Client => {
                client.wait_until(line.at);
                client.wait_for(recorded);
                if line.text.ends_with(WITH_DESCRIPTOR) {
                    client.pass_file();
                }
                client.say(&wire(line, recording.lines.get(index + 1), FOLDER));
            }
            Speaker::Host => {
                client.wait_until(line.at);
                client.wait_for(recorded);
                client.world.terminate_qemu(client.now);
            }
        }
    }
    if let Some(last) = recording.lines.last() {
        client.wait_until(last.at);
    }
    client.wait_for(recorded);
    Replayed { said: client.said, turns: client.turns, host: client.world.host().clone() }
}

/// The bytes of a client's line. A piece of a command that nothing answered was sent without a line end: the rest of
/// it came next. `folder` stands for the recorder's.
pub(super) fn wire(line: &Line, next: Option<&Line>, folder: &str) -> Vec<u8> {
    let text = in_folder(line.text.trim_end_matches(WITH_DESCRIPTOR), folder);
    let whole = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    let answered = next.is_none_or(|next| next.speaker == Speaker::Server);
    let mut bytes = if text == LONE_BYTE { vec![0xff] } else { text.into_bytes() };
    if whole || answered {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// How much was heard of each kind: events come when they like, all else answers the client.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Heard {
    answers: usize,
    events: usize,
}

impl Heard {
    pub(super) fn count(&mut self, line: &str) {
        if line.starts_with("{\"timestamp\"") {
            self.events += 1;
        } else {
            self.answers += 1;
        }
    }

    /// Whether this is as much as was `recorded`, but for what was given up.
    pub(super) fn reaches(self, recorded: Heard, given_up: Heard) -> bool {
        self.answers + given_up.answers >= recorded.answers
            && self.events + given_up.events >= recorded.events
    }

    /// What this lacks of what was `recorded`.
    pub(super) fn missing(self, recorded: Heard) -> Heard {
        Heard {
            answers: recorded.answers.saturating_sub(self.answers),
            events: recorded.events.saturating_sub(self.events),
        }
    }
}

/// The recorded client, at the simulator.
struct Client {
    world: World,
    connection: Connection,
    now: Duration,
    /// By how much it speaks later than the recorded one.
    late: Duration,
    heard: Heard,
    /// What was waited for in vain.
    given_up: Heard,
    said: Vec<String>,
    turns: Vec<usize>,
}

impl Client {
    /// Lets time pass until what the recording calls `at`.
    fn wait_until(&mut self, at: Duration) {
        let at = at + self.late;
        if at > self.now {
            self.now = at;
            self.hear();
        }
    }

    /// Lets time pass until as much is heard as was in the recording, within [`PATIENCE`].
    fn wait_for(&mut self, recorded: Heard) {
        let until = self.now + PATIENCE;
        let began = self.now;
        while !self.heard.reaches(recorded, self.given_up) {
            match self.world.next_event().filter(|next| *next <= until) {
                Some(next) => self.now = next.max(self.now),
                None => {
                    self.now = until;
                    self.given_up = self.heard.missing(recorded);
                    break;
                }
            }
            self.hear();
        }
        self.hear();
        self.late += self.now - began;
    }

    /// Sends an open file along with what it says next.
    fn pass_file(&mut self) {
        let file = Descriptor::File { path: format!("{FOLDER}/{PASSED}").into(), position: 0 };
        self.world.pass_descriptor(self.connection, file);
    }

    /// Sends bytes. Nobody may be there any more: the recorded client could not know either.
    fn say(&mut self, bytes: &[u8]) {
        self.turns.push(self.said.len());
        let _ = self.world.receive(self.now, self.connection, bytes);
    }

    /// Reads whole lines.
    fn hear(&mut self) {
        self.world.advance(self.now);
        let output = self.world.output(self.connection);
        let Some(end) = memchr::memrchr(b'\n', output) else { return };
        let text = String::from_utf8_lossy(&output[..end]).into_owned();
        self.world.consume(self.connection, end + 1);
        for line in text.lines() {
            self.heard.count(line);
            self.said.push(line.to_owned());
        }
    }
}
