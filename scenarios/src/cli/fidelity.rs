//! `freezeframe fidelity`: how faithful the simulator is to recordings of real QEMU, and to real QEMUs as they speak now.
#![allow(clippy::disallowed_methods, reason = "writes the report where the user wants it")]

use serde::Serialize;

use super::{CliError, FidelityArgs, interrupt::Interrupt, output::print, real::Real};
use crate::{
    fidelity::{
        known::Known,
        measure,
        recording::{self, Recording},
        repeated,
        report::{Report, Tally},
    },
    world::qemu::Binary,
};

/// What `--json` writes.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    recorded: &'a Report,
    live: &'a [Live],
}

/// What a real QEMU said when the recorded clients spoke to it.
#[derive(Serialize)]
struct Live {
    /// The program.
    program: String,
    /// Its version, `10.0.13`.
    version: String,
    /// The simulator held against it.
    simulated: Report,
    /// It held against the recordings of its release: how much of them a real QEMU repeats.
    repeated: Report,
    /// The recordings that were not played on it, and why.
    not_played: Vec<(String, String)>,
}

/// Replays and compares. True if nothing differs but what is known to.
pub(super) fn fidelity(arguments: &FidelityArgs) -> Result<bool, CliError> {
    let known = match &arguments.known {
        Some(path) => Known::read(path)?,
        None => Known::own(),
    };
    let recordings = recording::read_all(&arguments.recordings, arguments.release)?;
    print(&format!(
        "freezeframe {} fidelity of {} recordings\n",
        env!("CARGO_PKG_VERSION"),
        recordings.len()
    ))?;
    let recorded = measure(&recordings, known.clone());
    for line in recorded.lines() {
        print(&format!("{line}\n"))?;
    }
    let live = live(arguments, &recordings, &known)?;
    if let Some(path) = &arguments.json {
        let written = Written { recorded: &recorded, live: &live };
        let mut json = serde_json::to_string_pretty(&written).expect("a report holds only text and numbers");
        json.push('\n');
        let unwritable = |source| CliError::Write { path: path.clone(), source };
        std::fs::write(path, json).map_err(unwritable)?;
    }
    let total = live.iter().fold(recorded.total(), |mut total: Tally, live| {
        total.add(live.simulated.total());
        total
    });
    print(&format!("{total}\n"))?;
    Ok(recorded.is_clean() && live.iter().all(|live| live.simulated.is_clean()))
}

/// Plays the recordings on the real QEMUs that were named.
fn live(arguments: &FidelityArgs, recordings: &[Recording], known: &Known) -> Result<Vec<Live>, CliError> {
    if arguments.qemu.is_empty() {
        return Ok(Vec::new());
    }
    let real = Real::new(&Interrupt::listen().map_err(CliError::Runtime)?)?;
    let played = arguments.qemu.iter().map(|program| {
        let binary = real.ask(program, &arguments.launch)?;
        let live = play(&real, &binary, recordings, known)?;
        live.show()?;
        Ok(live)
    });
    played.collect()
}

/// Plays the recordings of a release on a real QEMU.
fn play(real: &Real, binary: &Binary, recordings: &[Recording], known: &Known) -> Result<Live, CliError> {
    let (mut anew, mut repetitions, mut not_played) = (Vec::new(), Report::default(), Vec::new());
    for recording in recordings.iter().filter(|recording| recording.release == binary.release) {
        match real.record(recording, binary)? {
            Ok(again) => {
                repetitions.add(recording, repeated(recording, &again));
                anew.push(again);
            }
            Err(why) => not_played.push((recording.name.clone(), why.to_string())),
        }
    }
    let simulated = Report { stale: Vec::new(), ..measure(&anew, known.clone()) };
    let (program, version) = (binary.program.to_string(), binary.version_name());
    Ok(Live { program, version, simulated, repeated: repetitions, not_played })
}

impl Live {
    /// The report for people.
    fn show(&self) -> Result<(), CliError> {
        let Self { program, version, simulated, repeated, not_played } = self;
        print(&format!("live on {program}, {version}\n"))?;
        for line in simulated.lines() {
            print(&format!("{line}\n"))?;
        }
        for (recording, why) in not_played {
            print(&format!("  not played: {recording}: {why}\n"))?;
        }
        print(&format!("  it repeats of its recordings: {}\n", repeated.total()))
    }
}
