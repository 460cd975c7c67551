//! `qemu-ga`, the agent in the guest: one process, one port, one request at a time.
//!
//! ```text
//!   bytes -> queue -- its turn --> at work (a hook, a freeze: nothing else is answered) --> effect and reply
//!   frozen or not: the agent's own belief, kept in a file; what the file systems are is in crate::guest
//! ```
//! It reads JSON as QEMU's monitor does, and answers each request on a line of its own that ends with a bare newline.
//! There is no greeting, no event and nothing out of band. Who listens does not matter to it: half a request that one
//! client sent is completed by what the next one sends, and a late reply reaches whoever is there then.
//!
//! Simulated are the commands around a freeze; the others are listed by `guest-info` and say "not simulated". Windows
//! has the Linux list, and its timing and errors by QEMU's source alone: nobody recorded one.
//!
//! | module | |
//! | --- | --- |
//! | `commands` | which there are, and which are refused when |
//! | `freeze` | `guest-fsfreeze-*` |
//! | `differences` | how the releases differ |
//! | [`port`] | the host's side of the port |
//!
//! Source: the agents of QEMU 5.2, 7.2, 10.0 and 11.1 asked without privileges and with simulated file systems, and one
//! in a guest under TCG.

pub mod port;

mod commands;
mod differences;
mod freeze;

use std::{collections::VecDeque, time::Duration};

use serde_json::{Map, Value};

use crate::{
    Release,
    guest::FileSystem,
    machine::{
        self,
        agent::{Hook, Script, System},
    },
    monitor::{
        request::{Command, Request},
        say::{self, Answer},
    },
    qemu::{Context, QmpError},
    qobject::QObject,
    wire::Reader,
};
use freeze::Freezer;

/// The agent's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    release: Release,
    port: String,
    blocked: Vec<String>,
    hook: Option<Hook>,
    freezer: Freezer,
    reader: Reader,
    /// What it was asked and has not answered; it works on the first.
    requests: VecDeque<Waiting>,
    /// When it is done with the first.
    done_at: Option<Duration>,
}

/// A request, and how long the agent takes by itself: an index into [`Agent::TAKES`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    request: Request,
    takes: usize,
}

/// How long commands take: fast, a freeze, a thaw. Measured on an idle guest and a busy one.
struct Takes {
    others: Duration,
    freeze: Duration,
    thaw: Duration,
}

impl Takes {
    const fn milliseconds(others: u64, freeze: u64, thaw: u64) -> Self {
        Self {
            others: Duration::from_millis(others),
            freeze: Duration::from_millis(freeze),
            thaw: Duration::from_millis(thaw),
        }
    }
}

impl Agent {
    /// The first is usual.
    const TAKES: [Takes; 3] =
        [Takes::milliseconds(2, 100, 40), Takes::milliseconds(3, 150, 60), Takes::milliseconds(8, 400, 170)];

    /// How many requests it takes before it has answered: as many buffers as a virtio serial port has.
    const WAITING: usize = 128;

    /// How many ways there are for how long a request takes.
    pub(crate) const PACES: usize = Self::TAKES.len();

    /// An agent as described; of QEMU's release unless it has one of its own.
    pub(crate) fn new(described: &machine::Agent, release: Release) -> Self {
        let release = described.release.unwrap_or(release);
        Self {
            release,
            port: described.port.clone(),
            blocked: described.blocked.clone(),
            hook: described.hook,
            freezer: Freezer::new(described.system == System::Windows),
            reader: Reader::new(release),
            requests: VecDeque::new(),
            done_at: None,
        }
    }

    /// The id of its port.
    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// Forgets all but, with its state file, that it had frozen.
    pub(crate) fn restart(&mut self, with_state_file: bool) {
        self.reader = Reader::new(self.release);
        self.requests.clear();
        self.done_at = None;
        self.freezer.restart(with_state_file);
    }

    /// Takes in bytes. `pace` says for each request how long the agent will take, see [`Agent::PACES`].
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Duration, mut pace: impl FnMut() -> usize) {
        let Self { reader, requests, .. } = self;
        reader.receive(bytes, |incoming| {
            let request = Request::read(incoming, false);
            requests.push_back(Waiting { request, takes: pace() });
        });
        self.begin(now);
    }

    /// Whether it takes more than it has.
    pub(crate) fn takes_input(&self) -> bool {
        self.requests.len() < Self::WAITING
    }

    /// When it answers next, if nothing stops it.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        self.done_at
    }

    /// VSS's ten seconds are over, if that freeze still stands.
    pub(crate) fn let_writers_go(&mut self, freeze: u64) -> bool {
        self.freezer.let_writers_go(freeze)
    }

    /// Finishes what it works on: the effect, and the reply behind what is in `said`.
    pub(crate) fn answer(
        &mut self,
        file_systems: &mut [FileSystem],
        said: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) {
        self.done_at = None;
        let Some(Waiting { request: Request { id, command }, .. }) = self.requests.pop_front() else {
            return;
        };
        let delimited = command.as_ref().is_ok_and(|command| command.name == "guest-sync-delimited");
        let answer = command.and_then(|command| self.execute(command, file_systems, cx));
        if delimited && answer.is_ok() {
            said.push(0xFF);
        }
        say::reply_line(said, id.as_ref(), &answer, self.release);
        said.push(b'\n');
        self.begin(cx.now());
    }

    /// Sets to work on the first request.
    fn begin(&mut self, now: Duration) {
        if let (None, Some(first)) = (self.done_at, self.requests.front()) {
            self.done_at = Some(now + self.takes(first));
        }
    }

    fn takes(&self, waiting: &Waiting) -> Duration {
        let takes = &Self::TAKES[waiting.takes];
        let Ok(command) = &waiting.request.command else { return takes.others };
        if self.refusal(&command.name).is_some() {
            return takes.others;
        }
        let script =
            |pick: fn(&Hook) -> Script| self.hook.as_ref().map_or(Duration::ZERO, |hook| pick(hook).takes);
        match command.name.as_str() {
            "guest-fsfreeze-freeze" | "guest-fsfreeze-freeze-list" => {
                takes.freeze + script(|hook| hook.freeze)
            }
            "guest-fsfreeze-thaw" => takes.thaw + script(|hook| hook.thaw),
            _ => takes.others,
        }
    }

    fn execute(
        &mut self,
        command: Command,
        file_systems: &mut [FileSystem],
        cx: &mut Context<'_>,
    ) -> Result<Answer, QmpError> {
        let Command { name, arguments, .. } = command;
        if let Some(refusal) = self.refusal(&name) {
            return Err(refusal);
        }
        commands::check(&name, &arguments)?;
        let hook = self.hook;
        let release = self.release;
        Ok(match name.as_str() {
            "guest-sync" | "guest-sync-delimited" => Answer::Given(arguments["id"].clone()),
            "guest-ping" => Answer::Value(QObject::empty()),
            "guest-info" => Answer::Value(self.info()),
            "guest-fsfreeze-status" => Answer::Value(self.freezer.status().into()),
            "guest-fsfreeze-freeze" | "guest-fsfreeze-freeze-list" => {
                let wanted = wanted(&arguments);
                let freeze = freeze::Freeze { release, hook, wanted };
                Answer::Value(self.freezer.freeze(&freeze, file_systems, cx)?.into())
            }
            "guest-fsfreeze-thaw" => Answer::Value(self.freezer.thaw(release, hook, file_systems)?.into()),
            "guest-get-fsinfo" => Answer::Value(commands::file_systems(file_systems, self.freezer.system())),
            "guest-get-osinfo" => Answer::Value(commands::operating_system()),
            other => return Err(QmpError::generic(format!("not simulated: command `{other}`"))),
        })
    }
}

/// The mount points that a freeze is to be of; none for all.
fn wanted(arguments: &Map<String, Value>) -> Option<Vec<&str>> {
    let list = arguments.get("mountpoints")?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).collect())
}

#[cfg(test)]
mod tests;
