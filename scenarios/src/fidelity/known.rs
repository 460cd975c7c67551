//! Differences that are known, each with the reason why it is let pass: `known-differences.toml`.
//!
//! Only what varies between two recordings of the same real QEMU belongs there, as often as it was seen to
//! ([`Entry::at_most`]) and no more. An entry must still be real: one that explains nothing in the very recording that it
//! was seen in is itself a finding. Another recording of the same name may well not show it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_sim::Release;
use serde::Deserialize;

use super::{
    compare::{Difference, Pair},
    guest_time::guest_times,
    recording::Recording,
};

/// What is known, and how often each was met in which recording.
#[derive(Debug, Clone, Default)]
pub struct Known {
    entries: Vec<(Entry, BTreeMap<String, usize>)>,
}

/// One known difference. Every condition that is given must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    /// Why it is let pass.
    reason: String,
    /// The recordings that show it, [`Recording::id`]: where one of them is replayed, it must be met.
    #[serde(default)]
    seen_in: Vec<String>,
    /// Only these releases.
    #[serde(default)]
    releases: Vec<String>,
    /// Only recordings of these names.
    #[serde(default)]
    recordings: Vec<String>,
    /// Only recordings whose arguments contain this.
    #[serde(default)]
    arguments: String,
    /// Only while the guest has run for so long since it began to boot, in milliseconds: at least, and at most.
    guest_ran: Option<[u64; 2]>,
    /// The lane; `job *` is that of any job.
    lane: String,
    /// What the recorded line contains, or several that follow each other, in whatever order; `""` if it does not
    /// matter, absent if there must be none.
    #[serde(default)]
    recorded: Lines,
    /// What the simulated line contains; likewise.
    #[serde(default)]
    simulated: Lines,
    /// Both lines are there and the same, but for the values of this member.
    but_for: Option<String>,
    /// Only where the recording itself has at least so many lines in this lane that are as the simulator's.
    #[serde(default)]
    beside: usize,
    /// How often it may be met in one recording.
    #[serde(default = "once")]
    at_most: usize,
}

fn once() -> usize {
    1
}

/// What lines contain.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
enum Lines {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    difference: Vec<Entry>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// It cannot be read.
    #[error("error: cannot read {path}: {source}")]
    Read {
        /// Which.
        path: Utf8PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not understood.
    #[error("error: {path}: {source}")]
    Syntax {
        /// Which.
        path: Utf8PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
}

impl Known {
    /// Those that are known to freezeframe.
    pub fn own() -> Self {
        Self::parse(include_str!("known-differences.toml")).expect("its test reads it")
    }

    /// Those of a file.
    ///
    /// # Errors
    /// [`KnownError`].
    #[allow(clippy::disallowed_methods, reason = "reads what the user names, which is no part of any run")]
    pub fn read(path: &Utf8Path) -> Result<Self, KnownError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KnownError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
            .map_err(|source| KnownError::Syntax { path: path.to_owned(), source: Box::new(source) })
    }

    /// Those of a text.
    ///
    /// # Errors
    /// Where and why it is not understood.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let file: File = toml::from_str(text)?;
        Ok(Self { entries: file.difference.into_iter().map(|entry| (entry, BTreeMap::new())).collect() })
    }

    /// For each pair of lines of a lane, why it is let pass though its lines differ; notes what was met.
    pub fn explain(&mut self, recording: &Recording, lane: &str, pairs: &[Pair<'_>]) -> Vec<Option<String>> {
        let mut reasons = vec![None; pairs.len()];
        if pairs.iter().all(|(recorded, simulated)| recorded == simulated) {
            return reasons;
        }
        let id = recording.id();
        let ran = ran(recording, lane, pairs);
        for (entry, met) in self.entries.iter_mut().filter(|(entry, _)| entry.is_for(recording, lane)) {
            let times = met.entry(id.clone()).or_default();
            let width = entry.width();
            let mut at = 0;
            while at + width <= pairs.len() && *times < entry.at_most {
                let free = reasons[at..at + width].iter().all(Option::is_none);
                let timely = ran[at..at + width].iter().all(|ran| entry.is_timely(*ran));
                if !free || !timely || !entry.covers(&pairs[at..at + width], pairs) {
                    at += 1;
                    continue;
                }
                reasons[at..at + width].fill(Some(entry.reason.clone()));
                *times += 1;
                at += width;
            }
        }
        reasons
    }

    /// Whether a difference is known by itself: two programs that are held against each other as they speak have no
    /// recording whose lines could be counted, so neither neighbours, times nor bounds are asked for.
    pub fn explains(&self, recording: &Recording, difference: &Difference) -> bool {
        let pair = [(difference.recorded.as_ref(), difference.simulated.as_ref())];
        let lane = &difference.lane;
        self.entries.iter().any(|(entry, _)| entry.is_for(recording, lane) && entry.covers(&pair, &pair))
    }

    /// The reasons of those that were not met in a recording that they were seen in, and that recording.
    pub fn stale(&self, recordings: &[Recording]) -> Vec<String> {
        let replayed: BTreeSet<String> = recordings.iter().map(Recording::id).collect();
        let mut stale = Vec::new();
        for (entry, met) in &self.entries {
            let unmet = |id: &&String| met.get(*id).is_none_or(|times| *times == 0);
            for id in entry.seen_in.iter().filter(|id| replayed.contains(*id)).filter(unmet) {
                stale.push(format!("{} ({id})", entry.reason));
            }
        }
        stale
    }
}

impl Lines {
    fn texts(&self) -> &[String] {
        match self {
            Lines::None => &[],
            Lines::One(text) => std::slice::from_ref(text),
            Lines::Several(texts) => texts,
        }
    }

    /// Whether these are the lines that one side has.
    fn cover(&self, said: &[Option<&String>]) -> bool {
        let contains = |text: &String| {
            said.iter().any(|line| line.map_or(text.is_empty(), |line| line.contains(text.as_str())))
        };
        match self.texts() {
            [] => said.iter().all(Option::is_none),
            texts => texts.iter().all(contains),
        }
    }
}

impl Entry {
    fn is_for(&self, recording: &Recording, lane: &str) -> bool {
        let release = |name: &String| name.parse() == Ok::<Release, _>(recording.release);
        let lane = match self.lane.strip_suffix('*') {
            Some(start) => lane.starts_with(start),
            None => lane == self.lane,
        };
        lane && (self.releases.is_empty() || self.releases.iter().any(release))
            && (self.recordings.is_empty() || self.recordings.contains(&recording.name))
            && recording.arguments.contains(&self.arguments)
    }

    fn is_timely(&self, ran: Duration) -> bool {
        self.guest_ran.is_none_or(|[least, most]| {
            (Duration::from_millis(least)..=Duration::from_millis(most)).contains(&ran)
        })
    }

    /// How many lines it is about.
    fn width(&self) -> usize {
        self.recorded.texts().len().max(self.simulated.texts().len()).max(1)
    }

    /// Whether it is about these pairs of all that the lane has.
    fn covers(&self, pairs: &[Pair<'_>], all: &[Pair<'_>]) -> bool {
        let (recorded, simulated): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        let like_it = |(recorded, _): &&Pair<'_>| recorded.is_some() && self.simulated.cover(&[*recorded]);
        pairs.iter().all(|(recorded, simulated)| recorded != simulated)
            && self.recorded.cover(&recorded)
            && self.simulated.cover(&simulated)
            && self.but_for.as_ref().is_none_or(|member| pairs.iter().all(|pair| same_but_for(member, *pair)))
            && (self.beside == 0 || all.iter().filter(like_it).count() >= self.beside)
    }
}

/// For each pair of a lane, how long the guest had run when the recorded line came; where there is none, when the one
/// before it came.
fn ran(recording: &Recording, lane: &str, pairs: &[Pair<'_>]) -> Vec<Duration> {
    let mut times = guest_times(recording, lane).into_iter();
    let mut last = Duration::ZERO;
    let of_pair = |(recorded, _): &Pair<'_>| {
        last = recorded.and_then(|_| times.next()).unwrap_or(last);
        last
    };
    pairs.iter().map(of_pair).collect()
}

/// Whether both lines are there and only the values of a member differ, which are neither text nor hold anything.
fn same_but_for(member: &str, (recorded, simulated): Pair<'_>) -> bool {
    let name = format!("\"{member}\": ");
    let without = |line: &String| {
        let mut parts = line.split(&name);
        let first = parts.next().map(str::to_owned);
        let rests = parts.map(|part| part.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric()));
        first.into_iter().chain(rests.map(str::to_owned)).collect::<Vec<_>>()
    };
    recorded.is_some() && recorded.map(without) == simulated.map(without)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fidelity::recording::{Line, Speaker};

    #[test]
    fn the_file_beside_this_is_read() {
        let known = Known::own();
        assert!(!known.entries.is_empty());
        assert!(known.entries.iter().all(|(entry, _)| !entry.seen_in.is_empty()), "each was seen somewhere");
    }

    /// A recording that began in this second.
    fn recording(release: Release, second: u32) -> Recording {
        let text = format!(r#"{{"timestamp": {{"seconds": {second}, "microseconds": 1}}, "event": "STOP"}}"#);
        let line = Line { at: Duration::ZERO, speaker: Speaker::Server, text };
        Recording { release, name: "a".into(), arguments: String::new(), lines: vec![line] }
    }

    fn known(more: &str) -> Known {
        let entry = "[[difference]]\nreason = \"r\"\nseen-in = [\"5.2/a@7\"]\nlane = \"job *\"\n";
        Known::parse(&format!("{entry}{more}")).unwrap()
    }

    /// How many lines of a lane are let pass that only the recording has, and only the simulator.
    fn passed(known: &mut Known, of: &Recording, lane: &str, recorded: &[&str], simulated: &[&str]) -> usize {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let (recorded, simulated) = (own(recorded), own(simulated));
        let only_recorded = recorded.iter().map(|line| (Some(line), None));
        let pairs: Vec<_> = only_recorded.chain(simulated.iter().map(|line| (None, Some(line)))).collect();
        known.explain(of, lane, &pairs).into_iter().flatten().count()
    }

    #[test]
    fn a_known_difference_that_is_not_met_where_it_was_seen_is_told() {
        let mut known = known("recorded = \"RESET\"");
        let (seen, again) = (recording(Release::V5_2, 7), recording(Release::V5_2, 8));
        assert_eq!(known.stale(std::slice::from_ref(&seen)), ["r (5.2/a@7)"]);
        assert!(known.stale(&[again]).is_empty(), "another recording need not show it");
        assert_eq!(passed(&mut known, &seen, "job j", &["RESET"], &[]), 1);
        assert!(known.stale(&[seen]).is_empty());
    }

    #[test]
    fn it_explains_nothing_of_another_release_or_lane_and_no_more_than_it_may() {
        let more = "recorded = \"RESET\"\nreleases = [\"5.2\"]\nat-most = 2";
        let passed = |release, lane, recorded: &[&str], simulated: &[&str]| {
            passed(&mut known(more), &recording(release, 7), lane, recorded, simulated)
        };
        assert_eq!(passed(Release::V7_2, "job j", &["RESET"], &[]), 0);
        assert_eq!(passed(Release::V5_2, "replies", &["RESET"], &[]), 0);
        assert_eq!(passed(Release::V5_2, "job j", &[], &["RESET"]), 0);
        assert_eq!(passed(Release::V5_2, "job j", &["RESET", "STOP", "RESET", "RESET"], &[]), 2);
    }

    #[test]
    fn what_varies_while_the_firmware_is_at_work_does_not_later_nor_on_other_machines() {
        let more = "guest-ran = [0, 1000]\narguments = \"q35\"\nrecorded = \"STOP\"";
        let passed = |at: u64, arguments: &str| {
            let mut of = recording(Release::V5_2, 7);
            of.lines[0].at = Duration::from_millis(at);
            of.arguments = arguments.to_owned();
            let mut known = known(more);
            known.entries[0].0.lane = "run state".to_owned();
            passed(&mut known, &of, "run state", &["STOP"], &[])
        };
        assert_eq!(passed(1000, "-machine q35"), 1);
        assert_eq!(passed(1001, "-machine q35"), 0);
        assert_eq!(passed(1000, "-machine pc"), 0);
        assert_eq!(passed(1001, "-machine q35 -S"), 1, "the guest had not run at all");
    }

    #[test]
    fn a_moments_rest_is_two_lines_and_half_of_one_is_not_let_pass() {
        let mut known = known("recorded = [\"paused\", \"running\"]\nat-most = 9");
        let mut rests =
            |recorded: &[&str]| passed(&mut known, &recording(Release::V5_2, 7), "job j", recorded, &[]);
        assert_eq!(rests(&["paused", "running"]), 2);
        assert_eq!(rests(&["running", "paused", "running", "paused", "waiting"]), 4);
        assert_eq!(rests(&["paused", "waiting"]), 0);
    }

    #[test]
    fn a_line_may_be_the_same_but_for_one_member() {
        let mut known = known("recorded = \"\"\nsimulated = \"\"\nbut-for = \"on\"\nat-most = 9");
        let mut passed = |recorded: &str, simulated: &str| {
            let (recorded, simulated) = (recorded.to_owned(), simulated.to_owned());
            let pair = (Some(&recorded), Some(&simulated));
            known.explain(&recording(Release::V5_2, 7), "job j", &[pair])[0].is_some()
        };
        assert!(passed(r#"{"on": true, "a": 1}"#, r#"{"on": false, "a": 1}"#));
        assert!(!passed(r#"{"on": true, "a": 1}"#, r#"{"on": false, "a": 2}"#));
        assert!(!passed(r#"{"on": true, "a": 1}"#, r#"{"a": 1}"#));
    }

    #[test]
    fn more_resets_are_let_pass_in_a_storm_alone() {
        let mut known = known("simulated = \"RESET\"\nbeside = 3\nat-most = 9");
        let mut more = |recorded: &[&str]| {
            passed(&mut known, &recording(Release::V5_2, 7), "job j", recorded, &["RESET", "RESET"])
        };
        assert_eq!(more(&["RESET"; 3]), 2);
        assert_eq!(more(&["RESET"; 2]), 0, "the recorded firmware found an end");
    }
}
