//! A real program and the simulator, told the same, lane by lane.
//!
//! After each step the simulator is let come to rest in virtual time, and the real one is listened to until it has said
//! as much, at most for [`PATIENCE`]. What either says later is held against the next step, so nothing gets lost.
//!
//! What neither is held to is in [`super::passed_over`].
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "waits for a real program")]

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::{Duration, Instant},
};

use camino::Utf8Path;
use freezeframe::fidelity::{
    compare::Difference,
    known::Known,
    lane::lanes,
    recording::{Line, Recording, Speaker},
};
use freezeframe_sim::{Machine, Oracle, Port, World, qemu::run_state::RunState, world::Connection};

use super::{
    command::{Command, FOLDER},
    passed_over::{is_reset_by_guest, skip_rests, with_write_cache},
    server::Program,
};

/// How long the real program may take to say what the simulator says.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who has said nothing for so long is taken to be done.
const SILENCE: Duration = Duration::from_millis(300);

/// How long the simulator is let run after a step, in virtual time: longer than any job takes that ends by itself.
const REST: Duration = Duration::from_secs(1);

/// How the simulator begins the text of an error for what it does not know.
const NOT_SIMULATED: &str = "not simulated: ";

/// The lines of each lane that the other side has not said yet.
type Pending = BTreeMap<String, VecDeque<String>>;

/// What the simulator is held against: a program that runs, or one that was recorded.
pub trait Peer {
    /// The folder of its files.
    fn folder(&self) -> &Utf8Path;

    /// Tells it something.
    fn say(&mut self, bytes: &[u8]);

    /// The whole lines that come within some time; it does not wait for more than the first bytes.
    fn hear(&mut self, within: Duration) -> Vec<String>;

    /// Whether it has closed the connection.
    fn has_ended(&self) -> bool;

    /// Whether it may say something before it is told more.
    fn may_say_more(&self) -> bool;
}

/// Both of them.
pub struct Pair<'k> {
    real: Box<dyn Peer>,
    world: World,
    connection: Connection,
    folder: String,
    now: Duration,
    heard: Pending,
    simulated: Pending,
    guest_has_run: bool,
    compared: Compared,
    known: &'k mut Known,
    recording: Recording,
    began: Instant,
    asked: usize,
    greeting: Greeting,
}

/// How a connection began.
///
/// A client that connects while the program still sets up its monitor may be greeted twice: the socket tells the monitor of
/// it, and so do the monitor's handlers once they are in place. That is a race between two of its threads and no word of
/// the protocol, so that a second greeting is left out, and counted.
#[derive(Debug, Default)]
struct Greeting {
    line: Option<String>,
    /// Something else was said.
    over: bool,
    again: usize,
}

impl Greeting {
    /// Whether a line is the greeting, once more.
    fn is_said_again_by(&mut self, line: &str) -> bool {
        let again = !self.over && self.line.as_deref() == Some(line);
        self.again += usize::from(again);
        self.over |= self.line.is_some() && !again;
        self.line.get_or_insert_with(|| line.to_owned());
        again
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Each lane, with the placeholders of the recordings.
    Lanes,
    /// Every byte, in one order.
    Bytes,
}

/// How a step went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stepped {
    /// The same was said.
    Same,
    /// The simulator does not know this; the real one was not told.
    NotSimulated(String),
    /// The same was said, and both have closed the connection.
    Ended,
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
    /// Connects to both, without negotiating. What is said from here on is written down in the recording.
    ///
    /// # Errors
    /// If already the greetings differ.
    pub fn new(
        real: Box<dyn Peer>,
        machine: &Machine,
        recording: Recording,
        compared: Compared,
        known: &'k mut Known,
    ) -> Result<Self, Failure> {
        let mut world = World::new(machine, recording.release, Oracle::default_order());
        let connection = world.connect(Duration::ZERO, Port::Monitor(0)).expect("it has just started");
        let mut pair = Self {
            real,
            world,
            connection,
            folder: machine.folder.to_string(),
            now: Duration::ZERO,
            heard: Pending::new(),
            simulated: Pending::new(),
            guest_has_run: false,
            compared,
            known,
            recording,
            began: Instant::now(),
            asked: 0,
            greeting: Greeting::default(),
        };
        pair.listen();
        pair.compare("(the connection)")?;
        Ok(pair)
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
        let line = command.line(format!("c{}", self.asked));
        match self.tell(&line, &line)? {
            Stepped::Same => self.ask("query-jobs", &line),
            unknown => Ok(unknown),
        }
    }

    /// Compares all that can be asked for.
    ///
    /// # Errors
    /// [`Failure`] if that is not the same.
    pub fn look(&mut self, program: Program) -> Result<(), Failure> {
        let of_machines = ["query-block", "query-status"];
        let machine = of_machines.iter().filter(|_| program == Program::Machine);
        for query in machine.chain(&["query-block-jobs", "query-named-block-nodes"]) {
            if self.ask(query, query)? != Stepped::Same {
                break;
            }
        }
        Ok(())
    }

    fn ask(&mut self, query: &str, after: &str) -> Result<Stepped, Failure> {
        match self.tell(&format!("{{\"execute\": \"{query}\"}}"), after)? {
            Stepped::NotSimulated(what) => Ok(Stepped::Parted(what)),
            stepped => Ok(stepped),
        }
    }

    /// Tells both a line, unless the simulator does not know it, and compares what they say; `after` names the step.
    ///
    /// # Errors
    /// [`Failure`] if that is not the same.
    pub fn tell(&mut self, line: &str, after: &str) -> Result<Stepped, Failure> {
        if let Some(what) = self.tell_simulator(line) {
            return Ok(Stepped::NotSimulated(what));
        }
        self.write_down(Speaker::Client, line);
        self.real.say(line.replace(FOLDER, self.real.folder().as_str()).as_bytes());
        self.compare(after)?;
        Ok(if self.real.has_ended() { Stepped::Ended } else { Stepped::Same })
    }

    /// How often the real one has greeted again.
    pub fn greeted_again(&self) -> usize {
        self.greeting.again
    }

    /// All that was said, once the real one says no more.
    pub fn into_recording(mut self) -> Recording {
        while self.listen_to_real(SILENCE) {}
        self.recording
    }

    /// Sorts what the real one says within some time; whether it said something.
    fn listen_to_real(&mut self, within: Duration) -> bool {
        let folder = self.real.folder().to_string();
        let mut lines = self.real.hear(within);
        lines.retain(|line| !self.greeting.is_said_again_by(line));
        let lines: Vec<String> = lines.iter().map(|line| line.replace(&folder, FOLDER)).collect();
        lines.iter().for_each(|line| self.write_down(Speaker::Server, line));
        Self::sort(&lines, self.compared, self.guest_has_run, &mut self.heard);
        if self.real.has_ended() {
            self.heard.entry("connection".to_owned()).or_default().push_back("(ended)".to_owned());
        }
        !lines.is_empty()
    }

    fn write_down(&mut self, speaker: Speaker, text: &str) {
        self.recording.lines.push(Line { at: self.began.elapsed(), speaker, text: text.to_owned() });
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
        self.guest_has_run |= self.world.qemu().run_state() == RunState::Running;
        let output = self.world.output(self.connection);
        let text = String::from_utf8_lossy(output).replace(&self.folder, FOLDER);
        let length = output.len();
        self.world.consume(self.connection, length);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let unknown = lines.iter().find(|line| line.contains("\"not simulated: "));
        if let Some((_, what)) = unknown.and_then(|line| line.split_once(NOT_SIMULATED)) {
            return Some(what.split(['"', '\\']).next().unwrap_or_default().to_owned());
        }
        Self::sort(&lines, self.compared, self.guest_has_run, &mut self.simulated);
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
            if fails || Instant::now() > deadline || !self.real.may_say_more() {
                return Err(Failure { said: said.to_owned(), difference: self.first_difference() });
            }
            self.listen_to_real(Duration::from_millis(5));
        }
    }

    /// Strikes out what both have said, and what is known to differ.
    fn strike_out(&mut self) {
        for (name, heard) in &mut self.heard {
            let simulated = self.simulated.entry(name.clone()).or_default();
            loop {
                skip_rests(heard);
                skip_rests(simulated);
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

    /// Sorts lines into lanes. Where every byte counts all is one lane.
    fn sort(lines: &[String], compared: Compared, guest_has_run: bool, into: &mut Pending) {
        if compared == Compared::Bytes {
            into.entry("replies".to_owned()).or_default().extend(lines.iter().cloned());
            return;
        }
        let by_guest = |line: &&String| guest_has_run && is_reset_by_guest(line);
        for (lane, lines) in lanes(lines.iter().filter(|line| !by_guest(line))) {
            let lines = lines.into_iter();
            let hidden = lines.map(|line| if guest_has_run { with_write_cache(&line) } else { line });
            into.entry(lane).or_default().extend(hidden);
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
