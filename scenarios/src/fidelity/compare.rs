//! Holds the simulator's lines against the recorded ones, lane by lane.
//!
//! Within a lane the longest common sequence is equal. What lies between is paired in order; a line that is left over
//! on either side counts for itself, so that saying too much is as wrong as saying too little.

use std::collections::BTreeSet;

use serde::Serialize;
use similar::{Algorithm, capture_diff_slices};

use super::{
    known::Known,
    lane::Lanes,
    recording::{Recording, Speaker},
};

/// How the simulator begins the text of an error for what it does not know.
const NOT_SIMULATED: &str = "not simulated: ";

/// How it went with one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The same bytes, but for placeholders.
    Equal,
    /// Not the same, for a reason that is known: [`Known`].
    Explained,
    /// Not the same.
    Differs(Difference),
    /// The simulator says that it does not know this.
    NotSimulated {
        /// What.
        what: String,
    },
}

/// A line that is not as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// In which lane.
    pub lane: String,
    /// What QEMU said there; none if nothing.
    pub recorded: Option<String>,
    /// What the simulator says there; none if nothing.
    pub simulated: Option<String>,
}

/// Compares all lanes.
pub fn compare(
    recording: &Recording,
    recorded: &Lanes,
    simulated: &Lanes,
    known: &mut Known,
) -> Vec<Outcome> {
    let unknown = simulated.values().flatten().find_map(|line| not_simulated(line));
    let mut names: Vec<_> = recorded.keys().chain(simulated.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut outcomes = Vec::new();
    for name in names {
        let real = recorded.get(name).map_or(&[][..], Vec::as_slice);
        let ours = simulated.get(name).map_or(&[][..], Vec::as_slice);
        if let Some(what) =
            unknown.as_ref().filter(|_| ours.is_empty() && belongs_to_unknown(recording, name))
        {
            outcomes.extend(real.iter().map(|_| Outcome::NotSimulated { what: what.clone() }));
            continue;
        }
        let pairs = pairs(real, ours);
        let mut let_pass = recorded_rests(&pairs);
        let_pass.extend(resets_of_a_storm(&pairs));
        for (index, (recorded, simulated)) in pairs.into_iter().enumerate() {
            outcomes.push(if let_pass.contains(&index) {
                Outcome::Explained
            } else {
                outcome(recording, name, recorded, simulated, known)
            });
        }
    }
    outcomes
}

/// A lane of which the simulator says nothing at all follows from what it does not know: a job that it did not start,
/// a migration. The run state is always its own.
fn belongs_to_unknown(recording: &Recording, lane: &str) -> bool {
    match lane.strip_prefix("job ") {
        Some(job) => {
            let quoted = format!("\"{job}\"");
            let mut sent = recording.lines.iter().filter(|line| line.speaker == Speaker::Client);
            sent.any(|line| line.text.contains(&quoted))
        }
        None => lane != "replies" && lane != "run state",
    }
}

/// Lines that stand for each other.
fn pairs<'a>(real: &'a [String], ours: &'a [String]) -> Vec<(Option<&'a String>, Option<&'a String>)> {
    let mut pairs = Vec::new();
    for part in capture_diff_slices(Algorithm::Myers, real, ours) {
        let (real, ours) = (&real[part.old_range()], &ours[part.new_range()]);
        for index in 0..real.len().max(ours.len()) {
            pairs.push((real.get(index), ours.get(index)));
        }
    }
    pairs
}

/// Where only the recording says that a job rested and went on at once, or the other way round: the guest's firmware
/// resets its disks in the first second, QEMU then drains their nodes, and when that is varies from run to run.
fn recorded_rests(pairs: &[(Option<&String>, Option<&String>)]) -> BTreeSet<usize> {
    const RESTS: [[&str; 2]; 2] = [["\"paused\"", "\"running\""], ["\"standby\"", "\"ready\""]];
    let says = |at: usize, status: &str| {
        let alone = pairs[at].0.filter(|_| pairs[at].1.is_none());
        alone.is_some_and(|line| line.contains(&format!("\"data\": {{\"status\": {status}, \"id\"")))
    };
    let mut rests = BTreeSet::new();
    let mut at = 1;
    while at < pairs.len() {
        let rested = RESTS.iter().any(|[rests, works]| {
            says(at - 1, rests) && says(at, works) || says(at - 1, works) && says(at, rests)
        });
        if rested {
            rests.extend([at - 1, at]);
        }
        at += if rested { 2 } else { 1 };
    }
    rests
}

/// Where only the simulator says that the guest has reset the machine, in a storm of resets without end that the
/// recording has too: how many there are until the guest is stopped depends on the host's speed. The real 5.2, told to
/// do the same five times, said 11 to 39.
fn resets_of_a_storm(pairs: &[(Option<&String>, Option<&String>)]) -> Vec<usize> {
    /// More than a firmware that finds an end does.
    const STORM: usize = 10;
    let is_reset = |line: &String| line.contains(r#""event": "RESET", "data": {"guest": true"#);
    let recorded = pairs.iter().filter_map(|(real, _)| *real).filter(|line| is_reset(line)).count();
    if recorded < STORM {
        return Vec::new();
    }
    let only_simulated = |at: &usize| pairs[*at].0.is_none() && pairs[*at].1.is_some_and(is_reset);
    (0..pairs.len()).filter(only_simulated).collect()
}

fn outcome(
    recording: &Recording,
    lane: &str,
    recorded: Option<&String>,
    simulated: Option<&String>,
    known: &mut Known,
) -> Outcome {
    if recorded == simulated {
        return Outcome::Equal;
    }
    if let Some(what) = simulated.and_then(|line| not_simulated(line)) {
        return Outcome::NotSimulated { what };
    }
    let difference =
        Difference { lane: lane.to_owned(), recorded: recorded.cloned(), simulated: simulated.cloned() };
    if known.explains(recording, &difference) { Outcome::Explained } else { Outcome::Differs(difference) }
}

/// What a reply says is not simulated.
fn not_simulated(line: &str) -> Option<String> {
    let (_, what) = line.split_once(NOT_SIMULATED)?;
    Some(what.trim_end_matches(['"', '}', '\r']).replace("\\\"", "\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_line_too_many_is_no_line_the_others_are_shifted_by() {
        let (real, ours) = (lines(&["a", "b", "c"]), lines(&["a", "x", "b", "c"]));
        let differ = pairs(&real, &ours).into_iter().filter(|(real, ours)| real != ours).collect::<Vec<_>>();
        assert_eq!(differ, [(None, Some(&"x".to_owned()))]);
    }

    #[test]
    fn a_moments_rest_that_only_the_recording_has_is_known_and_half_of_one_is_not() {
        let event = |status: &str| {
            format!(r#"{{"event": "JOB_STATUS_CHANGE", "data": {{"status": "{status}", "id": "j"}}}}"#)
        };
        let events = |said: &[&str]| said.iter().map(|status| event(status)).collect::<Vec<_>>();
        let ours = events(&["running", "waiting"]);
        let rests = |real: &[&str]| recorded_rests(&pairs(&events(real), &ours)).len();
        assert_eq!(rests(&["running", "paused", "running", "waiting"]), 2);
        assert_eq!(rests(&["running", "paused", "running", "paused", "running", "waiting"]), 4);
        assert_eq!(rests(&["running", "paused", "waiting"]), 0);
    }

    #[test]
    fn more_resets_are_known_in_a_storm_alone() {
        let reset = r#"{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}}"#;
        let resets = |count| lines(&vec![reset; count]);
        let known = |real, ours| resets_of_a_storm(&pairs(&resets(real), &resets(ours))).len();
        assert_eq!(known(30, 35), 5);
        assert_eq!(known(1, 35), 0, "the recorded firmware found an end");
    }

    #[test]
    fn the_simulator_says_what_it_does_not_know() {
        let reply =
            r#"{"id": "c1", "error": {"class": "GenericError", "desc": "not simulated: command `x`"}}"#;
        assert_eq!(not_simulated(reply).as_deref(), Some("command `x`"));
    }
}
