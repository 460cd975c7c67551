//! A real program and the simulator, told the same, lane by lane.
//!
//! After each step the simulator is let come to rest in virtual time, and the real one is listened to until it has said
//! as much, at most for [`PATIENCE`]. What either says later is held against the next step, so nothing gets lost.
//!
//! Once the guest has run, its firmware may reset the devices at any time and thereby drain their nodes: jobs that rest
//! for a moment (`paused running`, `standby ready`) are then passed over on both sides, and so are the guest's own
//! resets.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "waits for a real program")]

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::{Duration, Instant},
};

use freezeframe::fidelity::{compare::Difference, known::Known, lane::lanes, recording::Recording};
use freezeframe_sim::{Machine, Oracle, Port, Release, World, world::Connection};

use super::{
    command::{Command, FOLDER},
    server::Server,
};

/// How long the real program may take to say what the simulator says.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the simulator is let run after a step, in virtual time: longer than any job takes that ends by itself.
const REST: Duration = Duration::from_secs(1);

/// How the simulator begins the text of an error for what it does not know.
const NOT_SIMULATED: &str = "not simulated: ";

/// What is not simulated while there is a block job, or the record of one.
const FILTERS: &str = "the filter nodes of block jobs";

/// The lines of each lane that the other side has not said yet.
type Pending = BTreeMap<String, VecDeque<String>>;

/// Both of them.
pub struct Pair<'k> {
    real: Server,
    world: World,
    connection: Connection,
    folder: String,
    now: Duration,
    heard: Pending,
    simulated: Pending,
    guest_has_run: bool,
    exact: bool,
    known: &'k mut Known,
    recording: Recording,
    asked: usize,
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stepped {
    /// The same was said.
    Same,
    /// The simulator does not know this; the real one was not told.
    NotSimulated(String),
    /// The simulator found out only later that it does not know this: from here on they are no longer the same machine.
    Parted(String),
}

/// A step after which not the same was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was said to both, last.
    pub said: String,
    /// Where they part.
    pub difference: Difference,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { lane, recorded, simulated } = &self.difference;
        let (real, ours) = (recorded.as_deref(), simulated.as_deref());
        let common = real.zip(ours).map_or(0, |(real, ours)| {
            real.bytes().zip(ours.bytes()).take_while(|(real, ours)| real == ours).count()
        });
        let (real, ours) = (excerpt(real, common), excerpt(ours, common));
        write!(f, "after {}, in lane {lane}:\n    QEMU      {real}\n    simulator {ours}", self.said)
    }
}

/// The part of a long line around the place where it parts from the other.
fn excerpt(line: Option<&str>, at: usize) -> String {
    const BEFORE: usize = 150;
    const AFTER: usize = 350;
    let Some(line) = line else { return "(nothing)".to_owned() };
    if line.len() <= BEFORE + AFTER {
        return line.to_owned();
    }
    let bytes = &line.as_bytes()[at.saturating_sub(BEFORE)..line.len().min(at + AFTER)];
    format!("... {} ...", String::from_utf8_lossy(bytes))
}

impl<'k> Pair<'k> {
    /// Connects to both and negotiates.
    ///
    /// # Errors
    /// If already that goes another way.
    pub fn new(
        real: Server,
        machine: &Machine,
        release: Release,
        known: &'k mut Known,
    ) -> Result<Self, Failure> {
        let mut pair = Self::connected(real, machine, release, known);
        pair.compare("(the connection)")?;
        pair.step(&Command { execute: "qmp_capabilities", arguments: serde_json::json!({}) })?;
        Ok(pair)
    }

    /// Connects to both, without negotiating; every byte will be compared.
    ///
    /// # Errors
    /// If already the greetings differ.
    pub fn exact(
        real: Server,
        machine: &Machine,
        release: Release,
        known: &'k mut Known,
    ) -> Result<Self, Failure> {
        let mut pair = Self::connected(real, machine, release, known);
        pair.exact = true;
        pair.compare("(the connection)")?;
        Ok(pair)
    }

    fn connected(real: Server, machine: &Machine, release: Release, known: &'k mut Known) -> Self {
        let mut world = World::new(machine, release, Oracle::default_order());
        let connection = world.connect(Duration::ZERO, Port::Monitor(0)).expect("it has just started");
        let name = "differential".to_owned();
        let mut pair = Self {
            real,
            world,
            connection,
            folder: machine.folder.to_string(),
            now: Duration::ZERO,
            heard: Pending::new(),
            simulated: Pending::new(),
            guest_has_run: false,
            exact: false,
            known,
            recording: Recording { release, name, arguments: String::new(), lines: Vec::new() },
            asked: 0,
        };
        pair.listen();
        pair
    }

    /// Says some bytes to both and compares what they say.
    ///
    /// # Errors
    /// [`Failure`] if that is not the same.
    pub fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // Nobody there any more shows when it is listened to.
        let _ = self.world.receive(self.now, self.connection, bytes);
        self.listen();
        self.real.say(bytes);
        self.compare(&bytes.escape_ascii().to_string())
    }

    /// Tells both a command and then asks for the jobs, and compares what they say.
    ///
    /// # Errors
    /// [`Failure`] if that is not the same.
    pub fn step(&mut self, command: &Command) -> Result<Stepped, Failure> {
        self.asked += 1;
        if touches_nodes(command.execute) && self.has_block_jobs() {
            return Ok(Stepped::NotSimulated(FILTERS.to_owned()));
        }
        let line = command.line(format!("c{}", self.asked));
        self.guest_has_run |= line.contains("cont");
        if let Some(what) = self.tell_simulator(&line) {
            return Ok(Stepped::NotSimulated(what));
        }
        self.real.say(line.replace(FOLDER, self.real.folder().as_str()).as_bytes());
        self.compare(&line)?;
        self.ask_both("query-jobs", &line)
    }

    /// Compares all that can be asked for.
    ///
    /// # Errors
    /// [`Failure`] if that is not the same.
    pub fn look(&mut self) -> Result<(), Failure> {
        for query in ["query-block", "query-status", "query-block-jobs", "query-named-block-nodes"] {
            if !touches_nodes(query) || !self.has_block_jobs() {
                self.ask_both(query, query)?;
            }
        }
        Ok(())
    }

    fn has_block_jobs(&self) -> bool {
        let mut jobs = self.world.qemu().jobs();
        jobs.any(|job| matches!(job.kind, "commit" | "stream" | "mirror" | "backup"))
    }

    fn ask_both(&mut self, query: &str, after: &str) -> Result<Stepped, Failure> {
        let line = format!("{{\"execute\": \"{query}\"}}");
        if let Some(what) = self.tell_simulator(&line) {
            return Ok(Stepped::Parted(what));
        }
        self.real.say(line.as_bytes());
        self.compare(after)?;
        Ok(Stepped::Same)
    }

    /// Says a line to the simulator; what it does not know of it, if that is so.
    fn tell_simulator(&mut self, line: &str) -> Option<String> {
        // Nobody there any more shows when it is listened to.
        let _ = self.world.receive(self.now, self.connection, line.replace(FOLDER, &self.folder).as_bytes());
        self.listen()
    }

    /// Lets the simulator come to rest and sorts what it says; what it does not know, if it says so in a reply.
    fn listen(&mut self) -> Option<String> {
        let until = self.now + REST;
        self.world.advance(self.now);
        while let Some(next) = self.world.next_event().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            self.world.advance(self.now);
        }
        self.now = until;
        self.world.advance(until);
        let output = self.world.output(self.connection);
        let text = String::from_utf8_lossy(output).replace(&self.folder, FOLDER);
        let length = output.len();
        self.world.consume(self.connection, length);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let unknown = lines.iter().find(|line| line.contains("\"not simulated: "));
        if let Some((_, what)) = unknown.and_then(|line| line.split_once(NOT_SIMULATED)) {
            return Some(what.split(['"', '\\']).next().unwrap_or_default().to_owned());
        }
        Self::sort(&lines, self.exact, self.guest_has_run, &mut self.simulated);
        if self.world.at_end(self.connection) {
            self.simulated.entry("connection".to_owned()).or_default().push_back("(ended)".to_owned());
        }
        None
    }

    /// Waits until both have said the same, or for the first line in which they differ.
    fn compare(&mut self, said: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.strike_out();
            let waits = self.simulated.values().any(|lane| !lane.is_empty());
            let differs = self.heard.iter().find(|(_, lane)| !lane.is_empty());
            if !waits && differs.is_none() {
                return Ok(());
            }
            let fails = differs.is_some_and(|(lane, _)| {
                self.simulated.get(lane).is_some_and(|lane| !lane.is_empty()) && !lane.starts_with("job ")
            });
            if fails || Instant::now() > deadline || self.real.has_ended() {
                return Err(Failure { said: said.to_owned(), difference: self.first_difference() });
            }
            let folder = self.real.folder().to_string();
            let lines: Vec<String> = self.real.hear(Duration::from_millis(5));
            let lines: Vec<String> = lines.iter().map(|line| line.replace(&folder, FOLDER)).collect();
            Self::sort(&lines, self.exact, self.guest_has_run, &mut self.heard);
            if self.real.has_ended() {
                self.heard.entry("connection".to_owned()).or_default().push_back("(ended)".to_owned());
            }
        }
    }

    /// Strikes out what both have said, and what is known to differ.
    fn strike_out(&mut self) {
        for (name, heard) in &mut self.heard {
            let simulated = self.simulated.entry(name.clone()).or_default();
            loop {
                if self.guest_has_run {
                    skip_rests(heard);
                    skip_rests(simulated);
                }
                let Some(real) = heard.front() else { break };
                if simulated.front() != Some(real) {
                    let ours = simulated.front().cloned();
                    let difference = |simulated| Difference {
                        lane: name.clone(),
                        recorded: Some(real.clone()),
                        simulated,
                    };
                    if ours.is_some() && self.known.explains(&self.recording, &difference(ours)) {
                        simulated.pop_front();
                    } else if !self.known.explains(&self.recording, &difference(None)) {
                        break;
                    }
                    heard.pop_front();
                    continue;
                }
                heard.pop_front();
                simulated.pop_front();
            }
        }
    }

    /// Sorts lines into lanes. Some time after the guest began to run its firmware has set up the disks, and turns their
    /// write cache off. Where every byte counts all is one lane.
    fn sort(lines: &[String], exact: bool, guest_has_run: bool, into: &mut Pending) {
        if exact {
            into.entry("replies".to_owned()).or_default().extend(lines.iter().cloned());
            return;
        }
        let by_guest = |line: &&String| guest_has_run && line.contains("\"reason\": \"guest-reset\"");
        for (lane, lines) in lanes(lines.iter().filter(|line| !by_guest(line))) {
            let hidden = |line: String| {
                if !guest_has_run {
                    return line;
                }
                let line = line.replace("\"writeback\": false", "\"writeback\": true");
                line.replace("Cache mode:       writethrough", "Cache mode:       writeback")
            };
            into.entry(lane).or_default().extend(lines.into_iter().map(hidden));
        }
    }

    fn first_difference(&self) -> Difference {
        let names = self.heard.iter().chain(&self.simulated).filter(|(_, lane)| !lane.is_empty());
        // A refusal tells more than the events that it spares.
        let lane = names.map(|(name, _)| name.clone()).min_by_key(|name| (name != "replies", name.clone()));
        let lane = lane.unwrap_or_default();
        let front = |side: &Pending| side.get(&lane).and_then(|lane| lane.front().cloned());
        Difference { recorded: front(&self.heard), simulated: front(&self.simulated), lane }
    }
}

/// Whether a command shows or changes what nodes there are, or goes by it.
fn touches_nodes(command: &str) -> bool {
    const QUERIES: [&str; 4] =
        ["query-block", "query-named-block-nodes", "transaction", "human-monitor-command"];
    const JOBS: [&str; 2] = ["block-commit", "block-stream"];
    QUERIES.contains(&command)
        || JOBS.contains(&command)
        || command.starts_with("blockdev-") && command != "blockdev-create"
}

/// Passes over a job's rests at the front of its lane.
fn skip_rests(lane: &mut VecDeque<String>) {
    let says = |line: Option<&String>, status: &str| {
        line.is_some_and(|line| line.contains(&format!("{{\"status\": \"{status}\"")))
    };
    let rests = |lane: &VecDeque<String>| {
        let (first, second) = (lane.front(), lane.get(1));
        says(first, "paused") && says(second, "running") || says(first, "standby") && says(second, "ready")
    };
    while rests(lane) {
        lane.drain(..2);
    }
}
