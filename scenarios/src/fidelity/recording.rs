//! A recording of real QEMU: what one client and one monitor said to each other.
//!
//! A file holds one JSON object a line, `{"t": ms, "dir": "C>S" | "S>C" | "note", "line": text}`; the first is a note
//! with QEMU's arguments. The files lie in `DIR/<release>/<name>.jsonl`; large ones may be compressed, `.jsonl.gz`.
//!
//! What it does not do: understand the lines. They are kept as they went over the wire, without their line ends.
#![allow(clippy::disallowed_methods, reason = "reads the recordings, which are no part of any run")]

use std::{
    io::{self, Read as _},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use flate2::read::GzDecoder;
use freezeframe_sim::Release;
use serde::Deserialize;

/// One recording.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The release that was recorded: the name of the folder.
    pub release: Release,
    /// The name of the file without `.jsonl`: what was shown.
    pub name: String,
    /// QEMU's arguments, separated by blanks.
    pub arguments: String,
    /// What was said, in the order in which the client sent and received it.
    pub lines: Vec<Line>,
}

/// One line of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Since the recorder started QEMU.
    pub at: Duration,
    /// Who said it.
    pub speaker: Speaker,
    /// What, without the line end.
    pub text: String,
}

/// Who said a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The client.
    Client,
    /// QEMU.
    Server,
    /// The recorder, who sent QEMU a signal: [`SIGTERM`].
    Host,
}

/// What the recorder noted when it sent that signal.
pub const SIGTERM: &str = "SIGTERM sent";

/// Why recordings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A folder or file cannot be read.
    #[error("error: cannot read {path}: {source}")]
    Read {
        /// Which.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is none of a recording.
    #[error("error: {path}:{line}: {reason}")]
    Line {
        /// Of which file.
        path: Utf8PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to replay.
    #[error("error: no recordings in {folder}: expected {release}/<name>.jsonl")]
    None {
        /// Where they were looked for.
        folder: Utf8PathBuf,
        /// The release that was asked for, or `<release>`.
        release: String,
    },
}

/// A line as it is written in the file.
#[derive(Debug, Deserialize)]
struct Record {
    t: f64,
    dir: String,
    line: String,
}

/// Reads the recordings below a folder, of one release or of all, in the order of release and name.
///
/// # Errors
/// [`RecordingError`].
pub fn read_all(folder: &Utf8Path, release: Option<Release>) -> Result<Vec<Recording>, RecordingError> {
    let mut recordings = Vec::new();
    for known in Release::ALL.into_iter().filter(|known| release.is_none_or(|wanted| wanted == *known)) {
        let folder = folder.join(known.name());
        if !folder.is_dir() {
            continue;
        }
        let unreadable = |source| RecordingError::Read { path: folder.clone(), source };
        let mut paths = Vec::new();
        for entry in folder.read_dir_utf8().map_err(unreadable)? {
            paths.push(entry.map_err(unreadable)?.into_path());
        }
        paths.retain(|path| name(path).is_some());
        paths.sort();
        for path in paths {
            recordings.push(Recording::read(&path, known)?);
        }
    }
    if recordings.is_empty() {
        let release = release.map_or("<release>".to_owned(), |release| release.to_string());
        return Err(RecordingError::None { folder: folder.to_owned(), release });
    }
    Ok(recordings)
}

/// The folder of those that freezeframe comes with.
pub fn own() -> Utf8PathBuf {
    let here = Utf8Path::new("sim/tests/recordings");
    let built = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(here);
    if here.is_dir() { here.to_owned() } else { built }
}

/// The name of the recording in a file; none if it holds none.
fn name(path: &Utf8Path) -> Option<&str> {
    let name = path.file_name()?;
    name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".jsonl")
}

fn text(path: &Utf8Path) -> io::Result<String> {
    if path.extension() != Some("gz") {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    GzDecoder::new(std::fs::read(path)?.as_slice()).read_to_string(&mut text)?;
    Ok(text)
}

impl Recording {
    fn read(path: &Utf8Path, release: Release) -> Result<Self, RecordingError> {
        let text = text(path).map_err(|source| RecordingError::Read { path: path.to_owned(), source })?;
        Self::parse(release, name(path).unwrap_or_default(), &text)
            .map_err(|(line, reason)| RecordingError::Line { path: path.to_owned(), line, reason })
    }

    /// Reads the text of a recording.
    ///
    /// # Errors
    /// The number of the line that is none, and why.
    pub fn parse(release: Release, name: &str, text: &str) -> Result<Self, (usize, String)> {
        let mut recording =
            Self { release, name: name.to_owned(), arguments: String::new(), lines: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let wrong = |reason: String| (index + 1, reason);
            let record: Record = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            let at =
                Duration::try_from_secs_f64(record.t / 1000.0).map_err(|error| wrong(error.to_string()))?;
            let speaker = match record.dir.as_str() {
                "C>S" => Speaker::Client,
                "S>C" => Speaker::Server,
                "note" if record.line == SIGTERM => Speaker::Host,
                "note" => {
                    if let Some(arguments) = record.line.strip_prefix("args ") {
                        recording.arguments = arguments.to_owned();
                    }
                    if record.line != SIGTERM {
                        continue;
                    }
                    Speaker::Host
                }
                other => return Err(wrong(format!("no direction `{other}`: C>S, S>C and note are"))),
            };
            recording.lines.push(Line { at, speaker, text: record.line });
        }
        if recording.arguments.is_empty() {
            return Err((1, "no note with QEMU's arguments".to_owned()));
        }
        Ok(recording)
    }

    /// What stands before the first point of the name: those of one family used the same files.
    pub fn family(&self) -> &str {
        self.name.split_once('.').map_or(self.name.as_str(), |(family, _)| family)
    }

    /// Whether it was the machine that made the snapshot which the rest of its family loads: `X.src`.
    pub fn is_source(&self) -> bool {
        self.name.ends_with(".src")
    }

    /// The recording whose files it began with, if that is one of these.
    pub fn source_among<'a>(&self, recordings: &'a [Recording]) -> Option<&'a Recording> {
        let of_family = |other: &&Recording| other.release == self.release && other.family() == self.family();
        recordings.iter().filter(of_family).find(|other| other.is_source() && !self.is_source())
    }

    /// Which recording of all that were ever made of this release and name: `5.2/quit@1795212598`, by the second of its
    /// first event; without that where it has none.
    pub fn id(&self) -> String {
        let seconds = |line: &String| {
            let (_, rest) = line.split_once(r#""timestamp": {"seconds": "#)?;
            rest.split(',').next().map(|seconds| format!("@{seconds}"))
        };
        let began = self.said().find_map(seconds).unwrap_or_default();
        format!("{}/{}{began}", self.release, self.name)
    }

    /// What QEMU said.
    pub fn said(&self) -> impl Iterator<Item = &String> {
        self.lines.iter().filter(|line| line.speaker == Speaker::Server).map(|line| &line.text)
    }
}
