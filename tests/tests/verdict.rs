//! Which differences fail a campaign: those that are seen again. The program that is no simulator is one here, too, with a
//! habit of its own.

use std::{cell::Cell, error::Error, time::Duration};

use camino::Utf8Path;
use freezeframe::fidelity::known::Known;
use freezeframe_sim::{Oracle, Port, Release, World, world::Connection};
use freezeframe_tests::differential::{
    breakage,
    campaign::{Campaign, Outcome, Start},
    command::FOLDER,
    model,
    pair::Peer,
    server::Program,
    verdict::{REPETITIONS, Verdict, is_seen_again},
};

const RELEASE: Release = Release::V5_2;

/// What the real program does that the simulator does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    None,
    /// It greets twice, as a client may see who connects early.
    GreetsTwice,
    /// It greets once more when it was greeted back.
    GreetsLate,
    /// It stops once it was told two things.
    Stops,
}

/// A real program that answers as the simulator does.
struct Twin {
    world: World,
    connection: Connection,
    now: Duration,
    folder: String,
    habit: Habit,
    told: usize,
    /// It has said all there was to say.
    done: bool,
    greeting: Option<String>,
}

impl Twin {
    fn new(program: Program, habit: Habit) -> Self {
        let machine = model::machine(program);
        let mut world = World::new(&machine, RELEASE, Oracle::default_order());
        let connection = world.connect(Duration::ZERO, Port::Monitor(0)).unwrap();
        let (now, folder) = (Duration::ZERO, machine.folder.to_string());
        Self { world, connection, now, folder, habit, told: 0, done: false, greeting: None }
    }
}

impl Peer for Twin {
    fn folder(&self) -> &Utf8Path {
        Utf8Path::new(FOLDER)
    }

    fn say(&mut self, bytes: &[u8]) {
        self.told += 1;
        self.done = false;
        let text = str::from_utf8(bytes).map(|text| text.replace(FOLDER, &self.folder));
        let bytes = text.as_ref().map_or(bytes, |text| text.as_bytes());
        let _ = self.world.receive(self.now, self.connection, bytes);
    }

    fn hear(&mut self, _: Duration) -> Vec<String> {
        self.done = true;
        let until = self.now + Duration::from_secs(1);
        while let Some(next) = self.world.next_event().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            self.world.advance(self.now);
        }
        self.now = until;
        self.world.advance(until);
        let output = self.world.output(self.connection);
        let (text, length) = (String::from_utf8_lossy(output).replace(&self.folder, FOLDER), output.len());
        self.world.consume(self.connection, length);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        match self.habit {
            Habit::GreetsTwice if self.greeting.is_none() => lines.extend(lines.first().cloned()),
            Habit::GreetsLate if self.told > 0 => {
                lines.extend(self.greeting.clone());
                self.habit = Habit::None;
            }
            Habit::Stops if self.told > 1 => {
                let timestamp = r#"{"seconds": 1, "microseconds": 2}"#;
                lines.push(format!(r#"{{"timestamp": {timestamp}, "event": "STOP"}}"#));
                self.habit = Habit::None;
            }
            _ => {}
        }
        self.greeting.get_or_insert_with(|| lines.first().cloned().unwrap_or_default());
        lines
    }

    fn has_ended(&self) -> bool {
        self.world.at_end(self.connection)
    }

    fn may_say_more(&self) -> bool {
        !self.done
    }
}

/// Starts programs of which the first so many have a habit.
fn starts(
    program: Program,
    habit: Habit,
    first: usize,
) -> impl Fn() -> Result<Box<dyn Peer>, Box<dyn Error>> {
    let started = Cell::new(0);
    move || {
        let habit = if started.replace(started.get() + 1) < first { habit } else { Habit::None };
        Ok(Box::new(Twin::new(program, habit)))
    }
}

fn campaign(start: Start<'_>) -> Outcome {
    let (program, release) = (Program::StorageDaemon, RELEASE);
    Campaign { program, release, start, steps: 40, seed: 1, enough: 5 }.play(&mut Known::default())
}

#[test]
fn a_program_that_does_as_the_simulator_does_differs_nowhere() {
    let outcome = campaign(&starts(Program::StorageDaemon, Habit::None, 0));
    assert_eq!((outcome.verdict(), outcome.greeted_again), (Verdict::default(), 0));
    assert!(outcome.same >= 40, "{outcome}");
}

#[test]
fn a_difference_that_is_seen_again_is_a_finding_and_is_shrunk() {
    let outcome = campaign(&starts(Program::StorageDaemon, Habit::Stops, usize::MAX));
    assert_eq!(outcome.verdict(), Verdict { differ: 5, seen_once: 0 });
    assert!(!outcome.verdict().passes());
    let finding = &outcome.found[0];
    assert!(finding.difference.contains("STOP"), "{}", finding.difference);
    assert_eq!(finding.commands.len(), 0, "it needs none: {:?}", finding.commands);
    assert!(finding.recording.is_some());
}

#[test]
fn a_difference_that_is_seen_once_is_counted_and_told_whole() {
    let outcome = campaign(&starts(Program::StorageDaemon, Habit::Stops, 1));
    assert_eq!(outcome.verdict(), Verdict { differ: 0, seen_once: 1 });
    assert!(outcome.verdict().passes(), "one alone may be a race");
    assert!(outcome.to_string().ends_with("1 seen once, 0 differ"), "{outcome}");
    let recording = outcome.seen_once[0].recording.as_ref().unwrap();
    assert!(recording.lines.iter().any(|line| line.text.contains("STOP")));
}

#[test]
fn a_second_difference_that_is_seen_once_fails_the_run() {
    let mut verdict = Verdict::default();
    for passes in [true, true, false] {
        assert_eq!(verdict.passes(), passes, "{verdict:?}");
        verdict += Verdict { differ: 0, seen_once: 1 };
    }
    assert!(!Verdict { differ: 1, seen_once: 0 }.passes());
}

#[test]
fn a_difference_is_looked_for_again_as_often_as_is_said() {
    for (met_at, seen) in [(1, true), (REPETITIONS, true), (REPETITIONS + 1, false)] {
        let mut told = 0;
        let tell = || {
            told += 1;
            if told == met_at { Err(()) } else { Ok(()) }
        };
        assert_eq!(is_seen_again(tell), seen, "met at the {met_at}. time");
    }
}

#[test]
fn bytes_that_are_answered_differently_once_are_no_finding() {
    let play = |first| {
        let start = starts(Program::Machine, Habit::Stops, first);
        breakage::play(RELEASE, &start, 40, 1).unwrap().verdict()
    };
    assert_eq!(play(1), Verdict { differ: 0, seen_once: 1 });
    assert_eq!(play(usize::MAX), Verdict { differ: 1, seen_once: 0 });
}

#[test]
fn a_greeting_that_is_said_twice_at_once_is_left_out_and_counted() {
    let outcome = campaign(&starts(Program::StorageDaemon, Habit::GreetsTwice, 1));
    assert_eq!((outcome.verdict(), outcome.greeted_again), (Verdict::default(), 1));
}

#[test]
fn a_greeting_that_is_said_later_is_a_difference() {
    let outcome = campaign(&starts(Program::StorageDaemon, Habit::GreetsLate, usize::MAX));
    assert_eq!((outcome.verdict().differ, outcome.greeted_again), (5, 0));
}
