//! Decides which fault strikes at which line. Pure: it is shown the lines and counts them.

use std::collections::BTreeMap;

use memchr::memmem;
use serde_json::Value;

use super::message::Message;
use crate::language::{Fault, FaultKind, Moment, Point};

/// At what a fault strikes, once it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// At a command that QEMU has not read.
    Command,
    /// At a reply or an event that the driver has not read.
    Message,
    /// At nothing: the event has passed.
    After,
}

/// One fault and how often its moment has come.
#[derive(Debug, Clone)]
struct Armed {
    fault: Fault,
    seen: u32,
    struck: u32,
}

/// All faults of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aim {
    armed: Vec<Armed>,
    /// The faults that wait for the reply to an id, by its JSON: programs that are not ours use numbers, or none.
    waiting: BTreeMap<String, FaultKind>,
}

impl Aim {
    /// Arms the faults of a scenario.
    pub(crate) fn new(faults: &[Fault]) -> Self {
        let armed = faults.iter().map(|fault| Armed { fault: fault.clone(), seen: 0, struck: 0 });
        Self { armed: armed.collect(), waiting: BTreeMap::new() }
    }

    /// Shows a command. A fault at `applied` is kept until its reply comes.
    pub(crate) fn command(&mut self, line: &[u8]) -> Option<(FaultKind, Point)> {
        // Most lines are nobody's business, and are not read.
        if !self.waits_for(|at| matches!(at, Moment::Command(name) if has(line, name))) {
            return None;
        }
        let message: Value = serde_json::from_slice(line).ok()?;
        let name = message["execute"].as_str().or(message["exec-oob"].as_str())?;
        let text = String::from_utf8_lossy(line);
        let (kind, point) =
            self.first(|at| matches!(at, Moment::Command(command) if command == name), &text)?;
        if point != Point::Before {
            self.waiting.insert(message["id"].to_string(), kind.clone());
        }
        Some((kind, point))
    }

    /// Shows a request to the guest's agent, by its name and its line.
    pub(crate) fn request(&mut self, name: &str, line: &[u8]) -> Option<(FaultKind, Point)> {
        let text = String::from_utf8_lossy(line);
        self.first(|at| matches!(at, Moment::Agent(request) if request == name), &text)
    }

    /// Shows a program that is about to be run, by its name and its arguments.
    pub(crate) fn program(&mut self, name: &str, arguments: &str) -> Option<(FaultKind, Point)> {
        self.first(|at| matches!(at, Moment::Program(program) if program == name), arguments)
    }

    /// Shows a file that is about to be made, written or removed, by its name.
    pub(crate) fn file(&mut self, name: &str, action: &str) -> Option<(FaultKind, Point)> {
        self.first(|at| matches!(at, Moment::File(file) if file == name), action)
    }

    /// Shows a line from QEMU.
    pub(crate) fn message(&mut self, line: &[u8]) -> Option<(FaultKind, Point)> {
        let may_be_an_event =
            self.waits_for(|at| matches!(at, Moment::Event(_) | Moment::Job(_))) && has(line, "\"event\"");
        if self.waiting.is_empty() && !may_be_an_event {
            return None;
        }
        let message = Message::read(line)?;
        if let Some(event) = &message.event {
            let text = String::from_utf8_lossy(line);
            return self.first(
                |at| match at {
                    Moment::Event(name) => name == event,
                    Moment::Job(wanted) => Some(wanted.name()) == message.status.as_deref(),
                    Moment::Command(_) | Moment::Program(_) | Moment::Agent(_) | Moment::File(_) => false,
                },
                &text,
            );
        }
        let kind = self.waiting.remove(&message.id.to_string())?;
        Some((kind, Point::Applied))
    }

    /// Whether any fault is for such a moment.
    fn waits_for(&self, is: impl Fn(&Moment) -> bool) -> bool {
        self.armed.iter().any(|armed| is(&armed.fault.at.moment))
    }

    /// The first fault whose moment this is and whose turn has come.
    fn first(&mut self, is: impl Fn(&Moment) -> bool, line: &str) -> Option<(FaultKind, Point)> {
        let mut found = None;
        for armed in &mut self.armed {
            let at = &armed.fault.at;
            let holds = |with: &String| match at.moment {
                Moment::Program(_) => with.split(' ').all(|word| line.contains(word)),
                _ => line.contains(with),
            };
            let here = is(&at.moment) && at.with.as_ref().is_none_or(holds);
            if !here {
                continue;
            }
            armed.seen += 1;
            let turn = armed.seen >= at.nth.get() && armed.struck < armed.fault.times.get();
            if turn && found.is_none() {
                armed.struck += 1;
                found = Some((armed.fault.kind.clone(), at.point));
            }
        }
        found
    }

    /// What never struck as often as it should, in words.
    pub(crate) fn missed(&self) -> Vec<String> {
        let missed = self.armed.iter().filter(|armed| armed.struck < armed.fault.times.get());
        missed
            .map(|armed| {
                let Armed { fault, struck, .. } = armed;
                format!("the fault at {} struck {struck} times of {}", fault.at.moment, fault.times)
            })
            .collect()
    }
}

/// Whether this word is in a line.
fn has(line: &[u8], word: &str) -> bool {
    memmem::find(line, word.as_bytes()).is_some()
}

/// The id of a command or reply, as it was given.
pub(crate) fn id_of(line: &[u8]) -> Value {
    serde_json::from_slice::<Value>(line).map_or(Value::Null, |message| message["id"].clone())
}

/// Whether a command takes an open file that is sent along.
pub(crate) fn takes_a_file(line: &[u8]) -> bool {
    has(line, "\"getfd\"")
}

/// A fault in the words of the transcript.
pub(crate) fn told(kind: &FaultKind, side: Side) -> String {
    let what = match side {
        Side::Command => "command",
        Side::Message => "message",
        Side::After => "moment",
    };
    match kind {
        FaultKind::LoseReply => format!("lose-reply: this {what} is lost on the way"),
        FaultKind::Disconnect => format!("disconnect: the connection breaks at this {what}"),
        FaultKind::KillQemu => format!("kill-qemu: QEMU dies at this {what}"),
        FaultKind::KillDriver => format!("kill-driver: the driver dies at this {what}"),
        FaultKind::Silence => "silence: from now on the monitor says nothing".to_owned(),
        FaultKind::Duplicate => format!("duplicate: this {what} comes twice"),
        FaultKind::Delay(time) => format!("delay: this {what} comes {time} later"),
        FaultKind::Error(error) => format!("error: answered with {}: {}", error.class.name(), error.desc),
        FaultKind::Garbage(text) => format!("garbage: `{}` comes before this {what}", text.escape_debug()),
        FaultKind::Split(at) => format!("split: this {what} is cut after {at} bytes"),
        FaultKind::Qmp(json) => format!("meanwhile another client: {json}"),
        FaultKind::GuestPanics => "meanwhile the guest's kernel panics".to_owned(),
        FaultKind::WatchdogFires => "meanwhile the guest's watchdog runs out".to_owned(),
        FaultKind::GuestWriteFails(disk) => format!("meanwhile the guest's write to `{disk}` fails"),
        FaultKind::NoSpace(file) => format!("from now on the host has no space left for `{file}`"),
        FaultKind::Guest(act) => format!("meanwhile in the guest: {}", act.name()),
        FaultKind::Fail(text) => format!("fail: it does nothing and says: {text}"),
        FaultKind::MissingProgram => "missing-program: it is not installed".to_owned(),
        FaultKind::KillProgram => "kill-program: it is killed".to_owned(),
        FaultKind::HangProgram => "hang-program: it does not end".to_owned(),
        FaultKind::Refuse(error) => format!("refuse: the host says {} to this", error.name()),
    }
}
