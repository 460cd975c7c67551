//! The sums: how many lines went how, per release and area.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    compare::{Difference, Explained, Outcome},
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

/// What part of each release's lines there must be, in whole percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Equal.
    pub least_equal: u8,
    /// Equal, or different for a known reason. The rest differs or is not simulated.
    pub least_explained: u8,
}

impl Default for Claim {
    /// Nothing differs but what is known to, and that is little.
    fn default() -> Self {
        Self { least_equal: 97, least_explained: 100 }
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
    /// Where it may, and why.
    pub explained: Vec<Explained>,
    /// What is not simulated, and how many lines that makes.
    pub not_simulated: BTreeMap<String, usize>,
    /// What the replay took for given that the recorded arguments do not tell.
    pub assumed: Vec<String>,
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
    /// Adds a recording's outcomes, and what was taken for given about it.
    pub fn add(&mut self, recording: &Recording, outcomes: Vec<Outcome>, assumed: Vec<String>) {
        let mut measured = Measured {
            release: recording.release.to_string(),
            area: area(&recording.name),
            recording: recording.name.clone(),
            tally: Tally::default(),
            differences: Vec::new(),
            explained: Vec::new(),
            not_simulated: BTreeMap::new(),
            assumed,
        };
        for outcome in outcomes {
            let tally = &mut measured.tally;
            match outcome {
                Outcome::Equal => tally.equal += 1,
                Outcome::Explained(explained) => {
                    tally.explained += 1;
                    measured.explained.push(explained);
                }
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

    /// Where it falls short of a claim, release by release, and the known differences that are none any more; nothing if
    /// all is well.
    pub fn findings(&self, claim: Claim) -> Vec<String> {
        let mut findings = Vec::new();
        for release in self.releases() {
            let tally = self.of_release(release);
            let asked = [
                ("equal", tally.equal, claim.least_equal),
                ("equal or explained", tally.equal + tally.explained, claim.least_explained),
            ];
            for (what, lines, least) in asked {
                if !reaches(lines, tally.lines(), least) {
                    let share = percent(lines, tally.lines());
                    findings.push(format!(
                        "QEMU {release}: {share} of the lines are {what}, {least} % are to be"
                    ));
                }
            }
        }
        findings.extend(
            self.stale.iter().map(|reason| format!("known difference that is none any more: {reason}")),
        );
        findings
    }

    /// The sum over a release.
    fn of_release(&self, release: &str) -> Tally {
        sum(self.measured.iter().filter(|measured| measured.release == release))
    }

    /// The report for people, line by line, without the closing line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for release in self.releases() {
            let of_release = || self.measured.iter().filter(move |measured| measured.release == release);
            let tally = self.of_release(release);
            let share = |lines| percent(lines, tally.lines());
            let (equal, explained) = (share(tally.equal), share(tally.equal + tally.explained));
            lines.push(format!("QEMU {release}: {tally}: {equal} equal, {explained} equal or explained"));
            let areas = AREAS.iter().map(|(area, _)| *area).chain(["other"]);
            for area in areas {
                let of_area: Vec<_> = of_release().filter(|measured| measured.area == area).collect();
                if !of_area.is_empty() {
                    lines.push(format!("  {area:<18} {}", sum(of_area.iter().copied())));
                    of_area.iter().for_each(|measured| measured.show(&mut lines));
                }
            }
            let mut assumed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for measured in of_release() {
                let of_it = measured.assumed.iter();
                of_it.for_each(|what| assumed.entry(what).or_default().push(&measured.recording));
            }
            lines.extend(
                assumed.into_iter().map(|(what, of)| format!("  assumed: {what}: {}", of.join(", "))),
            );
        }
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
    /// The first difference, what is not simulated, and why other lines may differ.
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
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        self.explained.iter().for_each(|explained| *reasons.entry(&explained.reason).or_default() += 1);
        for (reason, count) in reasons {
            lines.push(format!("    {}: {count} explained: {reason}", self.recording));
        }
    }
}

/// Whether so many lines of all are at least so many percent of them.
fn reaches(lines: usize, all: usize, percent: u8) -> bool {
    lines * 100 >= all * usize::from(percent)
}

/// A part in percent, never rounded up: `99.87 %`.
fn percent(lines: usize, all: usize) -> String {
    let hundredths = (lines * 10_000).checked_div(all).unwrap_or(10_000);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

fn sum<'a>(measured: impl Iterator<Item = &'a Measured>) -> Tally {
    let mut total = Tally::default();
    measured.for_each(|measured| total.add(measured.tally));
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tally: Tally) -> Report {
        let measured = Measured {
            release: "5.2".into(),
            area: "other",
            recording: "a".into(),
            tally,
            differences: Vec::new(),
            explained: Vec::new(),
            not_simulated: BTreeMap::new(),
            assumed: Vec::new(),
        };
        Report { measured: vec![measured], stale: Vec::new() }
    }

    #[test]
    fn a_share_that_is_too_small_is_a_finding_of_its_release() {
        let claim = Claim { least_equal: 97, least_explained: 99 };
        let found = |equal, explained, differ| {
            report(Tally { equal, explained, differ, not_simulated: 0 }).findings(claim)
        };
        assert!(found(970, 20, 10).is_empty());
        assert_eq!(found(969, 21, 10), ["QEMU 5.2: 96.90 % of the lines are equal, 97 % are to be"]);
        let short = "QEMU 5.2: 98.90 % of the lines are equal or explained, 99 % are to be";
        assert_eq!(found(980, 9, 11), [short]);
    }

    #[test]
    fn what_is_not_simulated_is_a_finding_unless_less_is_asked_for() {
        let report = report(Tally { equal: 999, not_simulated: 1, ..Tally::default() });
        assert_eq!(report.findings(Claim::default()).len(), 1);
        assert!(report.findings(Claim { least_explained: 99, ..Claim::default() }).is_empty());
    }
}
