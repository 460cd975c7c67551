//! `record-again FOLDER TIMES QEMU [NAME...]`: repeats recordings on a real QEMU, into `FOLDER/<release>/<name>-<n>.jsonl`.
//!
//! What differs between them in order is what the test `walk` holds the simulator's seeds to. Several at once
//! make more of it, since the QEMUs then take turns.
#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "a command that reads and writes files")]

use std::{env, error::Error, fs};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{
    fidelity::{
        live,
        recording::{self, Recording, Speaker},
    },
    world::qemu::{Binary, Launch},
};
use serde_json::json;
use tokio::{runtime::Builder, task::LocalSet};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: record-again FOLDER TIMES QEMU [NAME...]");
    let (folder, times, program) = (Utf8PathBuf::from(next()?), next()?.parse::<u32>()?, next()?);
    let names: Vec<String> = arguments.collect();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let binary = tasks.block_on(&runtime, Binary::ask(Utf8Path::new(&program), &Launch::default()))?;
    let folder = folder.join(binary.release.name());
    fs::create_dir_all(&folder)?;
    for time in 1..=times {
        for recording in recording::read_all(&recording::own(), Some(binary.release))? {
            if !names.is_empty() && !names.contains(&recording.name) {
                continue;
            }
            match tasks.block_on(&runtime, live::record(&recording, &binary)) {
                Ok(again) => fs::write(folder.join(format!("{}-{time}.jsonl", again.name)), text(&again))?,
                Err(why) => eprintln!("{}: {why}", recording.id()),
            }
        }
    }
    Ok(())
}

/// A recording as it lies in a file.
fn text(recording: &Recording) -> String {
    let mut text =
        json!({"t": 0, "dir": "note", "line": format!("args {}", recording.arguments)}).to_string();
    for line in &recording.lines {
        let dir = match line.speaker {
            Speaker::Client => "C>S",
            Speaker::Server => "S>C",
            Speaker::Host => "note",
        };
        let line = json!({"t": line.at.as_secs_f64() * 1000.0, "dir": dir, "line": line.text});
        text += &format!("\n{line}");
    }
    text + "\n"
}
