//! What random commands have found, kept: the fewest commands that show it, and what the real program said to them.
//!
//! A file is a recording as those of the fidelity report are, so that it can be read and repeated by the same means.
//! Its first line names the program: `args qemu-system-x86_64` or `args qemu-storage-daemon`; the machine is always the
//! campaign's own ([`model::machine`]). The campaign writes such files; those worth keeping lie in
//! `tests/tests/differential/kept/<release>/`, and whatever they have found stays mended, or stays known.
#![allow(clippy::disallowed_methods, reason = "reads and writes files that are no part of any run")]

use std::{fs, io, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::fidelity::{
    known::Known,
    recording::{Recording, Speaker},
};
use serde_json::json;

use super::{
    model,
    pair::{Compared, Failure, Pair, Peer},
    server::Program,
};

/// The real program of a recording: it says what it said then.
struct Recorded {
    /// What is still to come.
    lines: std::vec::IntoIter<(Speaker, String)>,
    /// It ends on what the client said last: every command is answered by a program that goes on.
    ends: bool,
    /// It has ended, and whoever listens knows.
    ended: bool,
}

impl Recorded {
    fn of(recording: &Recording) -> Self {
        let lines: Vec<_> = recording.lines.iter().map(|line| (line.speaker, line.text.clone())).collect();
        let ends = lines.last().is_some_and(|(speaker, _)| *speaker == Speaker::Client);
        Self { lines: lines.into_iter(), ends, ended: false }
    }

    fn next_speaker(&self) -> Option<Speaker> {
        self.lines.as_slice().first().map(|(speaker, _)| *speaker)
    }
}

impl Peer for Recorded {
    fn folder(&self) -> &Utf8Path {
        Utf8Path::new(super::command::FOLDER)
    }

    fn say(&mut self, _: &[u8]) {
        debug_assert!(self.next_speaker() == Some(Speaker::Client), "all it had said was heard");
        self.lines.next();
    }

    fn hear(&mut self, _: Duration) -> Vec<String> {
        let mut heard = Vec::new();
        while self.next_speaker() == Some(Speaker::Server) {
            heard.extend(self.lines.next().map(|(_, text)| text));
        }
        self.ended = self.ends && self.next_speaker().is_none();
        heard
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn may_say_more(&self) -> bool {
        let ends_now = self.ends && !self.ended && self.next_speaker().is_none();
        ends_now || self.next_speaker() == Some(Speaker::Server)
    }
}

/// Which program a recording is of.
///
/// # Panics
/// If it is of none that campaigns are about.
pub fn program(recording: &Recording) -> Program {
    let named = Program::ALL.into_iter().find(|program| program.name() == recording.arguments);
    named.unwrap_or_else(|| panic!("{}: it is of `{}`", recording.name, recording.arguments))
}

/// Tells the simulator what the client of a recording had said, and compares it with what the real program then said.
///
/// # Errors
/// [`Failure`] if that is not the same.
pub fn replay(recording: &Recording, known: &mut Known) -> Result<(), Failure> {
    tell(recording, Box::new(Recorded::of(recording)), known)
}

/// Tells it to the simulator and to a real program.
///
/// # Errors
/// [`Failure`] if they do not say the same.
pub fn tell(recording: &Recording, real: Box<dyn Peer>, known: &mut Known) -> Result<(), Failure> {
    let machine = model::machine(program(recording));
    let about = Recording { lines: Vec::new(), ..recording.clone() };
    let mut pair = Pair::new(real, &machine, about, Compared::Lanes, known)?;
    let client = recording.lines.iter().filter(|line| line.speaker == Speaker::Client);
    client.into_iter().try_for_each(|line| pair.tell(&line.text, &line.text).map(|_| ()))
}

/// Writes a recording below a folder; the path of the file.
///
/// # Errors
/// What the system says.
pub fn write(recording: &Recording, below: &Utf8Path) -> io::Result<Utf8PathBuf> {
    let folder = below.join(recording.release.name());
    fs::create_dir_all(&folder)?;
    let path = folder.join(&recording.name).with_extension("jsonl");
    let note = json!({ "t": 0, "dir": "note", "line": format!("args {}", recording.arguments) });
    let mut text = format!("{note}\n");
    for line in &recording.lines {
        let dir = if line.speaker == Speaker::Client { "C>S" } else { "S>C" };
        let record = json!({ "t": line.at.as_millis() as u64, "dir": dir, "line": line.text });
        text += &format!("{record}\n");
    }
    fs::write(&path, text)?;
    Ok(path)
}
