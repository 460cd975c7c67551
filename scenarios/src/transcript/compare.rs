//! Compares two runs as partial orders.
//!
//! A run is cut into **segments**, which follow one another by causality: a scenario's step, and each stage of a plan
//! within it (the stage's number stands in front of its lanes, `2.overlay-vda`; the executor waits for every step of
//! a stage before the next begins). Within a segment each lane must be equal, line by line; how lanes interleave is
//! the worlds' own affair.
//!
//! One step alone in its segment has nobody to interleave with: there the run state's events are part of its lane, so
//! that `created running STOP RESUME return waiting` is held to its exact order.
//!
//! Where steps run side by side, a job that fails at once and the reply to the command that started it race: QEMU 10.0 and
//! 11.1 say either first when another job is at work (2 of 20 and 6 of 60 runs), and never do when it is alone. There the
//! reply counts as if it had come as early as it may: right behind `running`.
//!
//! A commit of an overlay that nothing was written to races its reply also when it is alone: it is ready first in 10 to 45
//! runs of 100 since 7.2. There too the reply counts as early as it may come.
//!
//! What is done to one disk may make the jobs of a plan's other steps rest and go on (`paused running`, `standby ready`), and
//! so does the guest's firmware when it sets the disks up: how often, the host's scheduler has it, and it is not compared
//! ([`rested`]). What a command of the scenario's own makes of jobs before it is answered is.
//!
//! Where a connection broke under a job, QEMU goes on meanwhile: what the job says before the driver asks about it on the
//! new connection is heard or lost as the host's scheduler has it, and is not compared ([`unheard`]). Nor is what a migration
//! says in a step in which a connection broke ([`unheard_migrations`]).
//!
//! A question that is asked until its answer changes counts once, with its last answer ([`asked_once`]): how often is a matter
//! of time.
//!
//! 7.2 lets a guest go on by itself while its memory is written in the background, when it has got so far: that it does counts
//! as said right behind `migrate` ([`goes_on_by_itself`]).
//!
//! How many passes a migration makes over the memory of a guest that runs is a matter of time too, and not compared.
//!
//! What the guest's agent is asked ahead it answers while QEMU is at work: its answer counts as if it came at once.
//!
//! What is done to one file of the host is one lane over the whole run: real files take their time beside the monitor.
//!
//! Events that QEMU sends by a timer or throttled ([`FLOATING`]) may come in any segment: each kind is one lane over
//! the whole run. Times are not compared, nor are durations in texts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Direction, Line, line::stage_of};

/// Lanes of events that are bound to nothing else: throttled, or sent by a timer.
const FLOATING: &[&str] =
    &["vserport_change", "rtc_change", "watchdog", "balloon_change", "nic_rx_filter_changed"];

/// Questions that are asked until the answer is another.
const REPEATED: &[&str] = &["query-migrate", "query-status"];

/// The lane that tells of each pass over a guest's memory.
const PASSES: &str = "migration_pass";

/// What the monitor's lane says when its connection is gone.
const CLOSED: &str = "closed by QEMU";

/// Where two runs part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The lane.
    pub lane: String,
    /// What the left run says there; none if it has ended.
    pub left: Option<String>,
    /// What the right run says there; none if it has ended.
    pub right: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "(nothing more)".into());
        write!(f, "in lane {}:\n    - {}\n    + {}", self.lane, side(&self.left), side(&self.right))
    }
}

/// The first difference of each lane; none if the runs are the same partial order.
pub fn compare(left: &[Line], right: &[Line]) -> Vec<Difference> {
    let (left, right) = (lanes(left), lanes(right));
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    names.into_iter().filter_map(|lane| first_difference(lane, left.get(lane), right.get(lane))).collect()
}

/// What the agent is asked while other things are made ready.
const ASKED_AHEAD: &str = "guest-get-fsinfo";

type Lanes = BTreeMap<(usize, String), Vec<String>>;

fn first_difference(
    (segment, lane): &(usize, String),
    left: Option<&Vec<String>>,
    right: Option<&Vec<String>>,
) -> Option<Difference> {
    let (left, right) = (left.map_or(&[][..], Vec::as_slice), right.map_or(&[][..], Vec::as_slice));
    let longest = left.len().max(right.len());
    let at = (0..longest).find(|&index| left.get(index) != right.get(index))?;
    let name = if *segment == usize::MAX { lane.clone() } else { format!("{lane} (segment {segment})") };
    Some(Difference { lane: name, left: left.get(at).cloned(), right: right.get(at).cloned() })
}

/// Every lane of every segment, as comparable texts.
fn lanes(lines: &[Line]) -> Lanes {
    let mut lanes = Lanes::new();
    let mut segments = unheard(segments(&answered_at_once(rested(lines))));
    unheard_migrations(&mut segments);
    for (number, segment) in segments.into_iter().enumerate() {
        let segment = asked_once(segment);
        let mut steps: Vec<_> =
            segment.iter().filter(|line| is_step_lane(line)).map(|line| line.lane.as_str()).collect();
        steps.sort_unstable();
        steps.dedup();
        for line in settled(segment, steps.len() > 1) {
            if line.lane == PASSES {
                continue;
            }
            let key = match steps.as_slice() {
                _ if FLOATING.contains(&line.lane.as_str()) || line.direction == Direction::Host => {
                    (usize::MAX, line.lane.clone())
                }
                [alone] if line.lane == "run" => (number, (*alone).to_owned()),
                _ => (number, line.lane.clone()),
            };
            lanes.entry(key).or_default().push(format!("{} {}", line.direction, timeless(&line.text)));
        }
    }
    lanes
}

/// The lines of a segment, each reply as early in its lane as it may have come.
fn settled(segment: Vec<&Line>, side_by_side: bool) -> Vec<&Line> {
    let mut lines: Vec<&Line> = Vec::with_capacity(segment.len());
    for line in segment {
        let mut place = goes_on_by_itself(line, &lines).map_or(lines.len(), |word| word + 1);
        if line.direction == Direction::Reply {
            // Back over `aborting concluded`, or over `ready` in its two forms, and over other lanes between them.
            let own = (0..lines.len()).rev().filter(|index| lines[*index].lane == line.lane);
            let own: Vec<usize> = own.take(2).collect();
            let status = |nth: usize, wanted: &str| {
                own.get(nth).is_some_and(|index| is_job_event(lines[*index], wanted))
            };
            let told = own.first().is_some_and(|last| lines[*last].text.starts_with("BLOCK_JOB_READY "));
            if (side_by_side && status(0, "concluded") && status(1, "aborting"))
                || (told && status(1, "ready"))
            {
                place = own[1];
            } else if status(0, "ready") {
                place = own[0];
            }
        }
        lines.insert(place, line);
    }
    lines
}

/// Takes out where jobs rest and go on because of what is done beside them: those of a plan's steps at any time, others while
/// no command waits for its reply.
fn rested(lines: &[Line]) -> Vec<&Line> {
    let mut resting: BTreeSet<&str> = BTreeSet::new();
    let mut asked: BTreeSet<&str> = BTreeSet::new();
    let mut kept = Vec::with_capacity(lines.len());
    for line in lines {
        match line.direction {
            Direction::Command => drop(asked.insert(&line.lane)),
            Direction::Reply => drop(asked.remove(line.lane.as_str())),
            _ => {}
        }
        let of_a_plan = line.lane.starts_with(|c: char| c.is_ascii_digit());
        let left_open =
            line.direction == Direction::Event && (of_a_plan || !asked.contains(line.lane.as_str()));
        let status = line.text.strip_prefix("job ").and_then(|rest| rest.split_once(' '));
        let dropped = match status.filter(|_| left_open) {
            None => false,
            Some((job, "paused" | "standby")) => {
                resting.insert(job);
                true
            }
            Some((job, _)) => resting.remove(job),
        };
        if !dropped {
            kept.push(line);
        }
    }
    kept
}

/// Whether a line tells that a job has reached a status.
fn is_job_event(line: &Line, status: &str) -> bool {
    line.direction == Direction::Event && line.text.starts_with("job ") && line.text.ends_with(status)
}

/// Whether a line was said by a step, to it, or by its job.
fn is_step_lane(line: &Line) -> bool {
    matches!(line.direction, Direction::Command | Direction::Reply)
}

/// Takes out every question and its answer that the same lane asks again at once.
fn asked_once(segment: Vec<&Line>) -> Vec<&Line> {
    let mut left: Vec<&Line> = Vec::with_capacity(segment.len());
    for line in segment {
        let is_question = line.direction == Direction::Command && REPEATED.contains(&line.text.as_str());
        let mut own = (0..left.len()).rev().filter(|index| left[*index].lane == line.lane);
        if is_question
            && let (Some(answer), Some(question)) = (own.next(), own.next())
            && left[answer].direction == Direction::Reply
            && left[question].text == line.text
        {
            left.remove(answer);
            left.remove(question);
        }
        left.push(line);
    }
    left
}

/// Behind which line of a segment a line belongs that says that the guest has gone on since a migration was begun, and not
/// because it was told to.
fn goes_on_by_itself(line: &Line, before: &[&Line]) -> Option<usize> {
    if line.lane != "run" || line.text != "RESUME" {
        return None;
    }
    let is_word = |line: &&Line| {
        line.direction == Direction::Command && (line.text == "cont" || line.text.starts_with("migrate "))
    };
    let word = before.iter().rposition(is_word)?;
    (before[word].text != "cont").then_some(word)
}

/// Every answer to what the agent is asked ahead right behind its question, and between them the fault that names it.
fn answered_at_once(mut lines: Vec<&Line>) -> Vec<&Line> {
    let is_agents = |line: &&Line| line.lane == "agent";
    for question in 0..lines.len() {
        let line = lines[question];
        if !is_agents(&line) || line.direction != Direction::Command || !line.text.contains(ASKED_AHEAD) {
            continue;
        }
        let next = lines[question + 1..].iter().position(is_agents);
        let Some(answer) = next.map(|next| question + 1 + next) else { continue };
        if lines[answer].direction == Direction::Reply {
            let is_early = |line: &Line| {
                is_agents(&line) || (line.direction == Direction::Fault && line.text.contains(ASKED_AHEAD))
            };
            lines[question + 1..=answer].sort_by_key(|line| !is_early(line));
        }
    }
    lines
}

/// Cuts a run where causality does: at every step of the scenario, and where another stage's lanes begin.
fn segments<'l>(lines: &[&'l Line]) -> Vec<Vec<&'l Line>> {
    let mut segments: Vec<Vec<&Line>> = vec![Vec::new()];
    let mut current: Option<&str> = None;
    for line in lines {
        let stage = (line.direction == Direction::Command).then(|| stage_of(&line.lane));
        let new = line.direction == Direction::Step || stage.is_some_and(|stage| current != Some(stage));
        if new {
            segments.push(Vec::new());
        }
        if let Some(stage) = stage {
            current = Some(stage);
        }
        segments.last_mut().expect("there is always one").push(line);
    }
    segments
}

/// Takes out what a job may say, or not, to a connection that stands again after one that broke: all its events from the
/// break to the first question about it. (10.0 under load: `waiting` in 1 run of some thousand.)
fn unheard(mut segments: Vec<Vec<&Line>>) -> Vec<Vec<&Line>> {
    let mut broken = false;
    for segment in &mut segments {
        segment.retain(|line| {
            broken = match line.direction {
                Direction::Event if line.lane == "monitor" => broken || line.text == CLOSED,
                Direction::Command if line.lane != "connect" => false,
                _ => broken,
            };
            !(broken && line.direction == Direction::Event && line.text.starts_with("job "))
        });
    }
    segments
}

/// Takes out what a migration says in a step of the scenario in which a connection breaks: how much of it was said before is
/// a matter of time, and so is what is asked about it afterwards.
fn unheard_migrations(segments: &mut [Vec<&Line>]) {
    let begins = |segment: &Vec<&Line>| segment.first().is_some_and(|line| line.direction == Direction::Step);
    let breaks = |line: &&Line| line.lane == "monitor" && line.text == CLOSED;
    let mut from = 0;
    while from < segments.len() {
        let length =
            segments[from + 1..].iter().position(begins).map_or(segments.len() - from, |next| next + 1);
        let step = &mut segments[from..from + length];
        if step.iter().flatten().any(breaks) {
            step.iter_mut().for_each(|segment| segment.retain(|line| !line.lane.starts_with("migration")));
        }
        from += length;
    }
}

/// A text with every duration in seconds told as `<time>`: `within 5.001 s`.
fn timeless(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let is_number =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let is_unit = |word: Option<&&str>| {
        word.is_some_and(|word| matches!(word.trim_end_matches([':', ';', ',', '.', ')']), "s"))
    };
    let told = words
        .iter()
        .enumerate()
        .map(|(index, word)| if is_number(word) && is_unit(words.get(index + 1)) { "<time>" } else { word });
    told.collect::<Vec<_>>().join(" ")
}
