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
//! It has no time and no socket: the world says when a request is due, and carries its bytes. QEMU stops
//! reading while too much is queued (one request, or eight with `oob`); that is not modelled, since no client
//! can tell.
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
    wire::Reader,
};
use request::{Command, Request};
use say::Answer;

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

/// The client that a monitor serves.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) requests: VecDeque<Queued>,
    pub(crate) out_of_band: VecDeque<Queued>,
    /// What was said to it and is not on the socket yet.
    pub(crate) said: Vec<u8>,
    /// The open file that it sent along, and no command has taken up.
    pub(crate) passed: Option<Descriptor>,
    /// It has closed: what is still queued is carried out for nobody.
    pub(crate) leaving: bool,
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

impl Client {
    /// Accepts a client: the greeting is the first thing it hears.
    pub(crate) fn accept(connection: Connection, release: Release) -> Self {
        let mut said = Vec::new();
        say::greeting(&mut said, release);
        Self {
            connection,
            requests: VecDeque::new(),
            out_of_band: VecDeque::new(),
            said,
            passed: None,
            leaving: false,
            release,
            reader: Reader::new(release),
            negotiated: false,
            oob: false,
        }
    }

    /// Takes in bytes. `place` gives each request that they complete the time when it is due and its sequence.
    pub(crate) fn receive(&mut self, bytes: &[u8], mut place: impl FnMut() -> (Duration, u64)) {
        let Self { reader, requests, out_of_band, oob, .. } = self;
        reader.receive(bytes, |incoming| {
            let request = Request::read(incoming, *oob);
            let (due, sequence) = place();
            let queue = if request.is_out_of_band() { &mut *out_of_band } else { &mut *requests };
            // The queue keeps its order, whatever the latency of each.
            let due = queue.back().map_or(due, |last| last.due.max(due));
            queue.push_back(Queued { due, sequence, request });
        });
    }

    /// Says an event, if this client is to hear of events.
    pub(crate) fn hear(&mut self, line: &[u8]) {
        if self.negotiated {
            self.said.extend_from_slice(line);
        }
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
                None => return Step::Execute { id, command, arguments },
            },
            Err(error) => Err(error),
        };
        self.reply(id.as_ref(), answer);
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
        introspection::answer(self.release, command, arguments).map(|answer| answer.map(Answer::Stored))
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
