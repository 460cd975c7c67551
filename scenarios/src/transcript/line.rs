//! One line of a transcript, made from one raw entry.
//!
//! Its lane is who it belongs to: the driver's step for a command, its reply and the events of the job that the
//! command started (the step stands in the command's id, `<lane>#<n>`); `run` for the run state; an event's own
//! name for the rest; one lane for each host file.

use std::{collections::BTreeMap, fmt, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::observed::file_of;
use serde_json::Value;

use super::{Entry, reply};

/// What kind of line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To QEMU.
    Command,
    /// From QEMU, as an answer.
    Reply,
    /// From QEMU, unasked.
    Event,
    /// Done to the host.
    Host,
    /// A fault struck.
    Fault,
    /// A step of the scenario begins.
    Step,
    /// A step of the scenario ended well.
    Success,
    /// A step of the scenario failed.
    Failure,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Command => "->",
            Direction::Reply => "<-",
            Direction::Event => "..",
            Direction::Host => "->",
            Direction::Fault => "**",
            Direction::Step => "==",
            Direction::Success => "ok",
            Direction::Failure => "!!",
        })
    }
}

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, since the run began.
    pub at: Duration,
    /// Whose it is.
    pub lane: String,
    /// What kind it is.
    pub direction: Direction,
    /// What it says, with placeholders for what varies.
    pub text: String,
}

/// Makes the lines of a run. `folder` is the machine's own, and is told as `<dir>`.
pub fn lines(record: &[(Duration, Entry)], folder: &Utf8Path) -> Vec<Line> {
    let mut lines = Lines::new(folder);
    record.iter().map(|(at, entry)| lines.line(*at, entry)).collect()
}

/// Makes lines one after the other, and remembers what later ones refer to.
#[derive(Debug)]
pub struct Lines {
    folder: String,
    /// Where the driver finds the monitor.
    monitor: String,
    /// The command behind each id that has no reply yet.
    commands: BTreeMap<String, String>,
    /// The lane that started each job.
    jobs: BTreeMap<String, String>,
}

impl Lines {
    /// For a run whose machine has this folder.
    pub fn new(folder: &Utf8Path) -> Self {
        let monitor = folder.with_file_name("monitor0").into_string();
        Self { folder: folder.to_string(), monitor, commands: BTreeMap::new(), jobs: BTreeMap::new() }
    }

    /// The line of what happened next.
    pub fn line(&mut self, at: Duration, entry: &Entry) -> Line {
        let (lane, direction, text) = match entry {
            Entry::Sent(line) => self.sent(line),
            Entry::Received(line) => self.received(line),
            Entry::AgentSent(line) => ("agent".into(), Direction::Command, readable(line)),
            Entry::AgentReceived(line) => ("agent".into(), Direction::Reply, agent_said(line)),
            Entry::Connection(what) => ("monitor".into(), Direction::Event, (*what).to_owned()),
            Entry::AgentConnection(what) => ("agent".into(), Direction::Event, (*what).to_owned()),
            Entry::Host { action, path, error } => self.host(action, path, error.as_deref()),
            Entry::Change(name) => self.host("change", name, None),
            Entry::Ran { program, arguments, outcome } => ran(program, arguments, outcome),
            Entry::Fault(text) => ("fault".into(), Direction::Fault, text.clone()),
            Entry::Step(text) => ("step".into(), Direction::Step, text.clone()),
            Entry::Outcome(Ok(text)) => ("result".into(), Direction::Success, text.clone()),
            Entry::Outcome(Err(text)) => ("result".into(), Direction::Failure, text.clone()),
        };
        Line { at, lane, direction, text: self.placed(&text) }
    }

    fn sent(&mut self, line: &[u8]) -> (String, Direction, String) {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return ("unreadable".into(), Direction::Command, String::from_utf8_lossy(line).into_owned());
        };
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        let lane = lane_of(&id).to_owned();
        let (command, band) = match (message["execute"].as_str(), message["exec-oob"].as_str()) {
            (Some(command), _) => (command, ""),
            (None, Some(command)) => (command, " (out of band)"),
            (None, None) => ("", ""),
        };
        let arguments = message.get("arguments");
        if let Some(job) = arguments.and_then(|arguments| arguments["job-id"].as_str()) {
            self.jobs.insert(job.to_owned(), lane.clone());
        }
        self.commands.insert(id, command.to_owned());
        let arguments = match arguments {
            Some(Value::Object(members)) if members.is_empty() => String::new(),
            Some(arguments) => format!(" {arguments}"),
            None => String::new(),
        };
        (lane, Direction::Command, format!("{command}{band}{arguments}"))
    }

    fn received(&mut self, line: &[u8]) -> (String, Direction, String) {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            let text = String::from_utf8_lossy(line).escape_debug().to_string();
            return ("monitor".into(), Direction::Event, format!("no QMP: {text}"));
        };
        if let Some(event) = message["event"].as_str() {
            return self.event(event, message.get("data"));
        }
        if let Some(greeting) = message.get("QMP") {
            return ("monitor".into(), Direction::Event, format!("greeting {}", greeting["capabilities"]));
        }
        let id = message["id"].as_str().unwrap_or_default();
        let command = self.commands.remove(id).unwrap_or_default();
        let text = match (&message["error"], message.get("return")) {
            (Value::Object(error), _) => {
                let part =
                    |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                format!("error {}: {}", part("class"), part("desc"))
            }
            (_, Some(value)) => {
                let lane = lane_of(id);
                let beside = |starter: &str| starter != lane && stage_of(starter) == stage_of(lane);
                let others = |job: &str| self.jobs.get(job).is_some_and(|starter| beside(starter));
                format!("return {}", reply::told(&command, value, others))
            }
            _ => format!("neither return nor error: {message}"),
        };
        (lane_of(id).to_owned(), Direction::Reply, text)
    }

    fn event(&self, name: &str, data: Option<&Value>) -> (String, Direction, String) {
        let member = |name: &str| data.and_then(|data| data[name].as_str());
        match (name, member("id"), member("status")) {
            ("JOB_STATUS_CHANGE", Some(job), Some(status)) => {
                let lane = self.jobs.get(job).cloned().unwrap_or_else(|| "job".into());
                (lane, Direction::Event, format!("job {job} {status}"))
            }
            // Said of a job together with its status, by its id under either name.
            (name, ..) if name.starts_with("BLOCK_JOB_") => {
                let lane = member("id").or_else(|| member("device")).and_then(|job| self.jobs.get(job));
                let lane = lane.cloned().unwrap_or_else(|| "job".into());
                (lane, Direction::Event, with_data(name, data))
            }
            ("STOP" | "RESUME" | "RESET" | "POWERDOWN" | "SHUTDOWN" | "SUSPEND" | "WAKEUP", ..) => {
                ("run".into(), Direction::Event, with_data(name, data))
            }
            _ => (name.to_lowercase(), Direction::Event, with_data(name, data)),
        }
    }

    fn host(&self, action: &str, path: &str, error: Option<&str>) -> (String, Direction, String) {
        let lane = format!("host {}", Utf8Path::new(path).file_name().unwrap_or_default());
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        (lane, Direction::Host, format!("{action} {path}{error}"))
    }

    /// With the machine's folder as `<dir>`, its monitor beside that as `<monitor>`, and the program that runs it as `<qemu>`.
    fn placed(&self, text: &str) -> String {
        let is_qemu = |word: &str| word.starts_with('/') && word.ends_with("/qemu-system-x86_64");
        let quoted = text.split('`').map(|word| if is_qemu(word) { "<qemu>" } else { word });
        let text = quoted.collect::<Vec<_>>().join("`");
        text.replace(&self.monitor, "<monitor>").replace(&self.folder, "<dir>")
    }
}

/// The logical volume that a tool of LVM's is about, itself or by its snapshot: `vda` of `vg/vda` and of `vg/vda.s1`.
fn volume<'a>(program: &str, arguments: &'a [String]) -> Option<&'a str> {
    let (_, volume) = arguments.last().filter(|_| program.starts_with("lv"))?.split_once('/')?;
    volume.split('.').next()
}

/// It belongs to the file or the volume that it is about, as far as that can be told: the last of its arguments that is a path.
fn ran(program: &str, arguments: &[String], outcome: &str) -> (String, Direction, String) {
    if program.starts_with("qemu-system-") {
        let told = ran_qemu(arguments);
        return (format!("host {program}"), Direction::Host, format!("{program}{told}: {outcome}"));
    }
    let path = arguments.iter().rev().find_map(|argument| named_file(argument));
    let file = path.as_ref().and_then(|path| path.file_name()).or_else(|| volume(program, arguments));
    let file = file.unwrap_or(program);
    (format!("host {file}"), Direction::Host, format!("{program} {}: {outcome}", arguments.join(" ")))
}

/// The file that an argument is the name of, or describes: those that work on different ones have lanes of their own.
fn named_file(argument: &str) -> Option<Utf8PathBuf> {
    match argument.strip_prefix("json:") {
        Some(_) => Some(file_of(argument)),
        None => argument.starts_with('/').then(|| argument.into()),
    }
}

/// Of a machine that is started, how it is to stand and what images it has; sockets and accelerators differ between worlds.
fn ran_qemu(arguments: &[String]) -> String {
    let mut told = String::new();
    for (index, word) in arguments.iter().enumerate() {
        match (word.as_str(), arguments.get(index + 1)) {
            ("-S" | "--version", _) => told += &format!(" {word}"),
            ("-incoming", Some(from)) => told += &format!(" -incoming {from}"),
            ("-blockdev", Some(node)) => {
                let node: Value = serde_json::from_str(node).unwrap_or_default();
                told += &node["filename"].as_str().map(|file| format!(" {file}")).unwrap_or_default();
            }
            _ => {}
        }
    }
    told
}

/// What an agent says, whole but for its file systems: how large and how full these are, and where on the bus, is the guest's.
fn agent_said(line: &[u8]) -> String {
    let value = || serde_json::from_slice::<Value>(line).ok();
    let is_of_file_systems = line.windows(12).any(|part| part == b"\"mountpoint\"");
    match value().filter(|_| is_of_file_systems).as_ref().map(|value| &value["return"]) {
        Some(Value::Array(file_systems)) => {
            let known = file_systems.iter().map(|known| {
                let word = |name| known[name].as_str().unwrap_or("?");
                format!("{} {} {}", word("mountpoint"), word("name"), word("type"))
            });
            format!("return [{}]", known.collect::<Vec<_>>().join(", "))
        }
        _ => readable(line),
    }
}

/// Bytes as text: those that are no ASCII, and the agent's 0xFF among them, as `\xff`.
fn readable(line: &[u8]) -> String {
    line.escape_ascii().to_string().replace("\\\"", "\"")
}

/// What stands before the first dot of a lane: the stage. A lane without one is a stage of its own.
pub(super) fn stage_of(lane: &str) -> &str {
    lane.split_once('.').map_or(lane, |(stage, _)| stage)
}

/// The lane in a command's id.
fn lane_of(id: &str) -> &str {
    id.rsplit_once('#').map_or("raw", |(lane, _)| lane)
}

fn with_data(name: &str, data: Option<&Value>) -> String {
    data.map_or_else(|| name.to_owned(), |data| format!("{name} {data}"))
}
