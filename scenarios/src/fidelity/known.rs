//! Differences that are known, each with the reason why it is let pass: `known-differences.toml`.
//!
//! Only what varies between two recordings of the same real QEMU belongs there. An entry must still be real: one that
//! explains nothing, though recordings that it is for were replayed, is itself a finding.

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_sim::Release;
use serde::Deserialize;

use super::{compare::Difference, recording::Recording};

/// What is known, and how often each was met.
#[derive(Debug, Clone, Default)]
pub struct Known {
    entries: Vec<(Entry, usize)>,
}

/// One known difference. Every condition that is given must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    /// Why it is let pass.
    reason: String,
    /// Only these releases.
    #[serde(default)]
    releases: Vec<String>,
    /// Only recordings of these names.
    #[serde(default)]
    recordings: Vec<String>,
    /// The lane.
    lane: String,
    /// What the recorded line contains; `""` if it does not matter, absent if there must be none.
    recorded: Option<String>,
    /// What the simulated line contains; `""` if it does not matter, absent if there must be none.
    simulated: Option<String>,
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
        Ok(Self { entries: file.difference.into_iter().map(|entry| (entry, 0)).collect() })
    }

    /// Whether a difference is known; notes that it was met.
    pub fn explains(&mut self, recording: &Recording, difference: &Difference) -> bool {
        let found = self.entries.iter_mut().find(|(entry, _)| entry.covers(recording, difference));
        found.map(|(_, met)| *met += 1).is_some()
    }

    /// The reasons of those that were not met in these recordings, though they are for one of them.
    pub fn stale(&self, recordings: &[Recording]) -> Vec<String> {
        let unmet = self.entries.iter().filter(|(_, met)| *met == 0).map(|(entry, _)| entry);
        unmet
            .filter(|entry| recordings.iter().any(|recording| entry.is_for(recording)))
            .map(|entry| entry.reason.clone())
            .collect()
    }
}

impl Entry {
    fn is_for(&self, recording: &Recording) -> bool {
        let release = |name: &String| name.parse() == Ok::<Release, _>(recording.release);
        (self.releases.is_empty() || self.releases.iter().any(release))
            && (self.recordings.is_empty() || self.recordings.contains(&recording.name))
    }

    fn covers(&self, recording: &Recording, difference: &Difference) -> bool {
        let side = |wanted: &Option<String>, found: &Option<String>| match (wanted, found) {
            (None, None) => true,
            (Some(wanted), Some(found)) => found.contains(wanted.as_str()),
            (Some(wanted), None) => wanted.is_empty(),
            (None, Some(_)) => false,
        };
        self.is_for(recording)
            && self.lane == difference.lane
            && side(&self.recorded, &difference.recorded)
            && side(&self.simulated, &difference.simulated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_beside_this_is_read() {
        assert!(!Known::own().entries.is_empty());
    }

    fn recording(release: Release) -> Recording {
        Recording { release, name: "a".into(), arguments: String::new(), lines: Vec::new() }
    }

    const ENTRY: &str =
        "[[difference]]\nreason = \"r\"\nreleases = [\"5.2\"]\nlane = \"run state\"\nrecorded = \"RESET\"";

    #[test]
    fn a_known_difference_that_is_not_met_is_told() {
        let mut known = Known::parse(ENTRY).unwrap();
        let recordings = [recording(Release::V5_2)];
        assert_eq!(known.stale(&recordings), ["r"]);
        let reset = Difference { lane: "run state".into(), recorded: Some("RESET".into()), simulated: None };
        assert!(known.explains(&recordings[0], &reset));
        assert!(known.stale(&recordings).is_empty());
    }

    #[test]
    fn a_known_difference_of_another_release_explains_nothing() {
        let mut known = Known::parse(ENTRY).unwrap();
        let reset = Difference { lane: "run state".into(), recorded: Some("RESET".into()), simulated: None };
        assert!(!known.explains(&recording(Release::V7_2), &reset));
        assert!(known.stale(&[recording(Release::V7_2)]).is_empty());
    }
}
