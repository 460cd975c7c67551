//! The expected transcripts: `<case>.snap` beside `<case>.toml`, and `<case>@<release>.snap` where a release differs.
//!
//! The files have insta's format, so `cargo insta review` shows them; the tests read them through insta, the command
//! through this file.
#![allow(clippy::disallowed_methods, reason = "the one place that reads and writes golden files")]

use std::{collections::BTreeMap, fs, io};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_sim::Release;

/// What stands in front of every transcript.
const HEADER: &str = "---\nsource: tests/tests/suite.rs\n---\n";

/// The name of the golden file, without `.snap`, that holds for a release.
pub fn name(scenario: &Utf8Path, release: Release) -> String {
    let case = scenario.file_stem().unwrap_or_default();
    let own = format!("{case}@{release}");
    if scenario.with_file_name(format!("{own}.snap")).is_file() { own } else { case.to_owned() }
}

/// The expected transcript; none if there is no file.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn read(scenario: &Utf8Path, release: Release) -> io::Result<Option<String>> {
    let path = scenario.with_file_name(format!("{}.snap", name(scenario, release)));
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(content(&text).to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What follows insta's header.
fn content(text: &str) -> &str {
    let after_header = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    after_header.map_or(text, |(_, content)| content)
}

/// Writes the golden files of a scenario anew: the transcript that most releases share, and one more for each release
/// that differs. Returns the files that changed.
///
/// # Errors
/// When a file cannot be written or removed; which.
pub fn write(
    scenario: &Utf8Path,
    transcripts: &BTreeMap<Release, String>,
) -> Result<Vec<Utf8PathBuf>, (Utf8PathBuf, io::Error)> {
    let Some(shared) = most_shared(transcripts) else { return Ok(Vec::new()) };
    let case = scenario.file_stem().unwrap_or_default();
    let mut changed = Vec::new();
    for (name, text) in files(case, shared, transcripts) {
        let path = scenario.with_file_name(format!("{name}.snap"));
        let wanted = text.map(|text| format!("{HEADER}{text}"));
        let found = fs::read_to_string(&path).ok();
        if found.as_deref().map(content) == text.map(String::as_str) {
            continue;
        }
        let done = match wanted {
            Some(wanted) => fs::write(&path, wanted),
            None => fs::remove_file(&path),
        };
        done.map_err(|error| (path.clone(), error))?;
        changed.push(path);
    }
    Ok(changed)
}

/// Every golden file that a case could have, and what is to stand in it; none: it is not to exist.
fn files<'a>(
    case: &str,
    shared: &'a String,
    transcripts: &'a BTreeMap<Release, String>,
) -> Vec<(String, Option<&'a String>)> {
    let mut files = vec![(case.to_owned(), Some(shared))];
    for release in Release::ALL {
        let own = transcripts.get(&release).filter(|text| *text != shared);
        files.push((format!("{case}@{release}"), own));
    }
    files
}

/// The transcript of most releases; of the newest where several are as frequent.
fn most_shared(transcripts: &BTreeMap<Release, String>) -> Option<&String> {
    let count = |text: &String| transcripts.values().filter(|other| *other == text).count();
    transcripts.iter().max_by_key(|(release, text)| (count(text), **release)).map(|(_, text)| text)
}
