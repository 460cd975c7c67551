//! Holds the simulator's lines against the recorded ones, lane by lane.
//!
//! Within a lane the longest common sequence is equal. What lies between is paired in order; a line that is left over
//! on either side counts for itself, so that saying too much is as wrong as saying too little.

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
    Explained(Explained),
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

/// A line that is not as it was recorded, and need not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Why.
    pub reason: String,
    /// What is let pass.
    #[serde(flatten)]
    pub difference: Difference,
}

/// Lines that stand for each other, the recorded one first; none where one side has nothing more to say.
pub type Pair<'a> = (Option<&'a String>, Option<&'a String>);

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
        let reasons = known.explain(recording, name, &pairs);
        for ((recorded, simulated), reason) in pairs.into_iter().zip(reasons) {
            outcomes.push(outcome(name, recorded, simulated, reason));
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

fn pairs<'a>(real: &'a [String], ours: &'a [String]) -> Vec<Pair<'a>> {
    let mut pairs = Vec::new();
    for part in capture_diff_slices(Algorithm::Myers, real, ours) {
        let (real, ours) = (&real[part.old_range()], &ours[part.new_range()]);
        for index in 0..real.len().max(ours.len()) {
            pairs.push((real.get(index), ours.get(index)));
        }
    }
    pairs
}

fn outcome(
    lane: &str,
    recorded: Option<&String>,
    simulated: Option<&String>,
    reason: Option<String>,
) -> Outcome {
    if recorded == simulated {
        return Outcome::Equal;
    }
    if let Some(what) = simulated.and_then(|line| not_simulated(line)) {
        return Outcome::NotSimulated { what };
    }
    let difference =
        Difference { lane: lane.to_owned(), recorded: recorded.cloned(), simulated: simulated.cloned() };
    match reason {
        Some(reason) => Outcome::Explained(Explained { reason, difference }),
        None => Outcome::Differs(difference),
    }
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
    fn the_simulator_says_what_it_does_not_know() {
        let reply =
            r#"{"id": "c1", "error": {"class": "GenericError", "desc": "not simulated: command `x`"}}"#;
        assert_eq!(not_simulated(reply).as_deref(), Some("command `x`"));
    }
}
