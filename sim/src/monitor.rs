//! One QMP monitor: a socket that serves one client at a time.
//!
//! ```text
//!   idle -- accept: greeting --> negotiating -- qmp_capabilities --> ready
//!                                     \------------ close -------------/ --> leaving -> idle
//! ```
//!
//! While negotiating only `qmp_capabilities` is known, and no event is sent: what happens meanwhile is lost to
//! the client. What a client sends waits in a queue and is answered in order, what is malformed included; a
//! command sent with `exec-oob`, once that was agreed on, waits in a queue of its own. Of a client that leaves,
//! a few commands may still be carried out; their replies are lost.
//!
//! It has no time and no socket: the world says when a request is due, and carries its bytes. QEMU stops reading while
//! one request is queued, or eight with `oob`: what is sent behind them, out of band or not, is not looked at before.
//!
//! | module | |
//! | --- | --- |
//! | [`request`] | the envelope of a message: `execute`, `arguments`, `id` |
//! | [`say`] | greeting, replies and events as lines |
//! | [`throttle`] | events that are sent once a second at most |
//!
//! Source: QEMU's QMP specification; recordings `proto-errors` and `oob`.

pub mod request;
pub mod say;
pub mod throttle;

use std::{collections::VecDeque, time::Duration};

use serde_json::{Map, Value};

use crate::{
    connection::Connection,
    host::Descriptor,
    introspection,
    qemu::QmpError,
    qobject::{QObject, qdict},
    release::Release,
    schema::Schema,
    wire::{Incoming, Reader},
};
use request::{Command, Request};
use say::Answer;

/// How many requests are queued at most once `oob` was agreed on.
const QUEUED_WITH_OOB: usize = 8;

/// What a request needs before it can be answered.
pub(crate) enum Step {
    /// Nothing: it has been answered.
    Answered,
    /// QEMU: a command whose arguments are in order.
    Execute { id: Option<Value>, command: String, arguments: Map<String, Value> },
}

/// A request on its way to the dispatcher.
#[derive(Debug)]
pub(crate) struct Queued {
    /// When the dispatcher takes it, at the earliest.
    pub(crate) due: Duration,
    /// Its place among all that happens: lower came first.
    pub(crate) sequence: u64,
    request: Request,
}

/// A message that QEMU has not read yet.
#[derive(Debug)]
struct Unread {
    due: Duration,
    sequence: u64,
    message: Incoming,
}

/// The client that a monitor serves.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    requests: VecDeque<Queued>,
    /// When the last of the requests so far is due.
    last_due: Duration,
    unread: VecDeque<Unread>,
    /// How many bytes have come since all that had come was read.
    held: usize,
    pub(crate) out_of_band: VecDeque<Queued>,
    /// What was said to it and is not on the socket yet.
    pub(crate) said: Vec<u8>,
    /// What is said to it as soon as the main loop goes on.
    withheld: Vec<u8>,
    /// The open file that it sent along, and no command has taken up.
    pub(crate) passed: Option<Descriptor>,
    /// It has closed: what is still queued is carried out for nobody.
    pub(crate) leaving: bool,
    /// It does not read what is said to it: nothing more is taken up until it does.
    pub(crate) behind: bool,
    release: Release,
    reader: Reader,
    negotiated: bool,
    oob: bool,
}

/// A monitor's socket.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    /// Whom it serves.
    pub(crate) client: Option<Client>,
    /// Those who have connected and wait for their turn, since when, and their place among all that happens.
    pub(crate) waiting: VecDeque<(Duration, u64, Connection)>,
}

impl Monitor {
    /// How many bytes of this connection it has taken in and not read.
    pub(crate) fn held(&self, connection: Connection) -> usize {
        let client = self.client.as_ref().filter(|client| client.connection == connection);
        client.map_or(0, |client| client.held)
    }
}

impl Client {
    /// Accepts a client: the greeting is the first thing it hears.
    pub(crate) fn accept(connection: Connection, release: Release) -> Self {
        let mut said = Vec::new();
        say::greeting(&mut said, release);
        Self {
            connection,
            requests: VecDeque::new(),
            last_due: Duration::ZERO,
            unread: VecDeque::new(),
            held: 0,
            out_of_band: VecDeque::new(),
            said,
            withheld: Vec::new(),
            passed: None,
            leaving: false,
            behind: false,
            release,
            reader: Reader::new(release),
            negotiated: false,
            oob: false,
        }
    }

    /// Takes in bytes. `place` gives each message that they complete the time when it is due and its sequence.
    pub(crate) fn receive(&mut self, bytes: &[u8], mut place: impl FnMut() -> (Duration, u64)) {
        let Self { reader, unread, .. } = self;
        reader.receive(bytes, |message| {
            let (due, sequence) = place();
            unread.push_back(Unread { due, sequence, message });
        });
        self.held += bytes.len();
        self.read_on();
    }

    /// Reads messages until as many requests are queued as may be.
    fn read_on(&mut self) {
        while self.requests.len() < if self.oob { QUEUED_WITH_OOB } else { 1 } {
            let Some(Unread { due, sequence, message }) = self.unread.pop_front() else {
                self.held = 0;
                return;
            };
            let request = Request::read(message, self.oob);
            if request.is_out_of_band() {
                self.out_of_band.push_back(Queued { due, sequence, request });
            } else {
                // They keep their order, whatever the latency of each.
                self.last_due = self.last_due.max(due);
                self.requests.push_back(Queued { due: self.last_due, sequence, request });
            }
        }
    }

    /// The request that is next in order.
    pub(crate) fn next_request(&self) -> Option<&Queued> {
        self.requests.front().filter(|_| !self.behind)
    }

    /// The next of those that overtake the others.
    pub(crate) fn next_out_of_band(&self) -> Option<&Queued> {
        self.out_of_band.front().filter(|_| !self.behind)
    }

    /// Takes the request that is next in order, to be taken up.
    pub(crate) fn take_request(&mut self) -> Option<Queued> {
        self.requests.pop_front()
    }

    /// How many messages have not been taken up, but for those out of band.
    pub(crate) fn pending(&self) -> usize {
        self.requests.len() + self.unread.len()
    }

    /// Forgets messages behind the first `kept`, and those out of band.
    pub(crate) fn forget(&mut self, kept: usize) {
        self.unread.truncate(kept.saturating_sub(self.requests.len()));
        self.requests.truncate(kept);
        self.out_of_band.clear();
    }

    /// Says an event, if this client is to hear of events.
    pub(crate) fn hear(&mut self, line: &[u8]) {
        if self.negotiated {
            self.said.extend_from_slice(line);
        }
    }

    /// What was said last is said at the end of a stall; what is said meanwhile goes before it.
    pub(crate) fn stall(&mut self) {
        self.withheld = std::mem::take(&mut self.said);
    }

    /// The stall is over.
    pub(crate) fn end_stall(&mut self) {
        self.said.append(&mut self.withheld);
    }

    /// Says the reply to a command.
    pub(crate) fn reply(&mut self, id: Option<&Value>, answer: Result<Answer, QmpError>) {
        say::reply(&mut self.said, id, &answer, self.release);
    }

    /// Takes up a request: answers it, or says what QEMU has to do for it.
    pub(crate) fn take_up(&mut self, queued: Queued) -> Step {
        let Request { id, command } = queued.request;
        let answer = match command.and_then(|command| self.check(command)) {
            Ok((command, arguments)) => match self.answer(&command, &arguments) {
                Some(answer) => answer,
                None => {
                    self.read_on();
                    return Step::Execute { id, command, arguments };
                }
            },
            Err(error) => Err(error),
        };
        self.reply(id.as_ref(), answer);
        self.read_on();
        Step::Answered
    }

    /// Whether there is such a command, whether it may be sent this way, and with these arguments.
    fn check(&self, command: Command) -> Result<(String, Map<String, Value>), QmpError> {
        const NOT_FOUND: &str = "CommandNotFound";
        let Command { name, arguments, out_of_band } = command;
        if !self.negotiated && name != "qmp_capabilities" {
            let desc = "Expecting capabilities negotiation with 'qmp_capabilities'".into();
            return Err(QmpError { class: NOT_FOUND, desc });
        }
        let schema = Schema::of(self.release);
        let Some(known) = schema.command(&name) else {
            return Err(QmpError {
                class: NOT_FOUND,
                desc: format!("The command {name} has not been found"),
            });
        };
        if out_of_band && !known.allow_oob {
            return Err(QmpError::generic(format!("The command {name} does not support OOB")));
        }
        schema.check(known, &arguments)?;
        if self.negotiated && name == "qmp_capabilities" {
            let desc = "Capabilities negotiation is already complete, command ignored".into();
            return Err(QmpError { class: NOT_FOUND, desc });
        }
        Ok((name, arguments))
    }

    /// What the release always answers.
    fn stored(&self, command: &str, arguments: &Map<String, Value>) -> Option<Result<Answer, QmpError>> {
        introspection::answer(self.release, command, arguments).map(|said| said.map(Answer::Stored))
    }

    /// What the monitor itself can answer.
    fn answer(&mut self, command: &str, arguments: &Map<String, Value>) -> Option<Result<Answer, QmpError>> {
        let schema = Schema::of(self.release);
        Some(Ok(match command {
            "qmp_capabilities" => {
                let enable = arguments.get("enable").and_then(Value::as_array);
                self.oob = enable.is_some_and(|enable| enable.iter().any(|capability| capability == "oob"));
                self.negotiated = true;
                Answer::Value(QObject::empty())
            }
            "query-version" => Answer::Value(say::version(self.release).into()),
            "query-qmp-schema" => Answer::Stored(schema.text()),
            "query-commands" => {
                let named = |name: &str| QObject::from(qdict! { "name": name.to_owned() });
                Answer::Value(schema.commands().map(named).collect())
            }
            _ => return self.stored(command, arguments),
        }))
    }
}

#[cfg(test)]
mod tests;
