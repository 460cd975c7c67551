//! The sums: how many lines went how, per release and area.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    compare::{Difference, Outcome},
    recording::Recording,
};

/// Which recordings belong to which area, by how their names begin; the first that fits. What none fits is `other`.
const AREAS: [(&str, &[&str]); 8] = [
    ("machine snapshots", &["snap-", "save-", "load-", "quit-during-save", "raw-disk", "partial-"]),
    ("disk snapshots", &["internal-sync", "snapshot-sync", "txn-", "create-", "overlay-"]),
    ("block jobs", &["backup", "commit", "drive-", "mirror", "stream"]),
    ("I/O errors", &["ioerr", "werror"]),
    ("migration", &["migrate", "background-snapshot"]),
    ("wire", &["proto", "oob", "greeting", "two-users"]),
    ("human monitor", &["hmp"]),
    ("power and devices", &["quit", "sigterm", "run-state", "device-del", "serial-port", "vserport"]),
];

/// The area of a recording.
pub fn area(name: &str) -> &'static str {
    let found = AREAS.iter().find(|(_, starts)| starts.iter().any(|start| name.starts_with(start)));
    found.map_or("other", |(area, _)| area)
}

/// How many lines went how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Equal but for placeholders.
    pub equal: usize,
    /// Not equal, for a known reason.
    pub explained: usize,
    /// Not equal.
    pub differ: usize,
    /// Answered with "not simulated", or of a machine that is not.
    pub not_simulated: usize,
}

impl Tally {
    /// All of them.
    pub fn lines(&self) -> usize {
        self.equal + self.explained + self.differ + self.not_simulated
    }

    /// Adds another.
    pub fn add(&mut self, other: Tally) {
        self.equal += other.equal;
        self.explained += other.explained;
        self.differ += other.differ;
        self.not_simulated += other.not_simulated;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { equal, explained, differ, not_simulated } = self;
        let lines = self.lines();
        write!(
            f,
            "{lines} lines, {equal} equal, {explained} explained, {differ} differ, {not_simulated} not simulated"
        )
    }
}

/// One recording's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// The release, `10.0`.
    pub release: String,
    /// The area.
    pub area: &'static str,
    /// The recording.
    pub recording: String,
    /// Its lines.
    pub tally: Tally,
    /// Where it differs.
    pub differences: Vec<Difference>,
    /// What is not simulated, and how many lines that makes.
    pub not_simulated: BTreeMap<String, usize>,
}

/// All results.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each recording.
    pub measured: Vec<Measured>,
    /// Reasons of known differences that no recording shows any more.
    pub stale: Vec<String>,
}

impl Report {
    /// Adds a recording's outcomes.
    pub fn add(&mut self, recording: &Recording, outcomes: Vec<Outcome>) {
        let mut measured = Measured {
            release: recording.release.to_string(),
            area: area(&recording.name),
            recording: recording.name.clone(),
            tally: Tally::default(),
            differences: Vec::new(),
            not_simulated: BTreeMap::new(),
        };
        for outcome in outcomes {
            let tally = &mut measured.tally;
            match outcome {
                Outcome::Equal => tally.equal += 1,
                Outcome::Explained => tally.explained += 1,
                Outcome::Differs(difference) => {
                    tally.differ += 1;
                    measured.differences.push(difference);
                }
                Outcome::NotSimulated { what } => {
                    tally.not_simulated += 1;
                    *measured.not_simulated.entry(what).or_default() += 1;
                }
            }
        }
        self.measured.push(measured);
    }

    /// The sum over all.
    pub fn total(&self) -> Tally {
        sum(self.measured.iter())
    }

    /// Whether nothing differs and every known difference is still real.
    pub fn is_clean(&self) -> bool {
        self.total().differ == 0 && self.stale.is_empty()
    }

    /// The report for people, line by line, without the closing line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for release in self.releases() {
            let of_release = || self.measured.iter().filter(move |measured| measured.release == release);
            lines.push(format!("QEMU {release}: {}", sum(of_release())));
            let areas = AREAS.iter().map(|(area, _)| *area).chain(["other"]);
            for area in areas {
                let of_area: Vec<_> = of_release().filter(|measured| measured.area == area).collect();
                if !of_area.is_empty() {
                    lines.push(format!("  {area:<18} {}", sum(of_area.iter().copied())));
                    of_area.iter().for_each(|measured| measured.show(&mut lines));
                }
            }
        }
        lines.extend(
            self.stale.iter().map(|reason| format!("known difference that is none any more: {reason}")),
        );
        lines
    }

    /// The releases, in the order in which they were measured.
    fn releases(&self) -> Vec<&str> {
        let mut releases: Vec<&str> = Vec::new();
        for measured in &self.measured {
            if !releases.contains(&measured.release.as_str()) {
                releases.push(&measured.release);
            }
        }
        releases
    }
}

impl Measured {
    /// The first difference, and what is not simulated.
    fn show(&self, lines: &mut Vec<String>) {
        if let Some(first) = self.differences.first() {
            let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "(nothing)".to_owned());
            lines.push(format!(
                "    {}: {} differ, the first in {}",
                self.recording, self.tally.differ, first.lane
            ));
            lines.push(format!("      - recorded  {}", side(&first.recorded)));
            lines.push(format!("      + simulated {}", side(&first.simulated)));
        }
        for (what, count) in &self.not_simulated {
            lines.push(format!("    {}: {count} not simulated: {what}", self.recording));
        }
    }
}

fn sum<'a>(measured: impl Iterator<Item = &'a Measured>) -> Tally {
    let mut total = Tally::default();
    measured.for_each(|measured| total.add(measured.tally));
    total
}
