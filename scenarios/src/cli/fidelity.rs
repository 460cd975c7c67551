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
        report::{Claim, Report},
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

/// Replays and compares. True if that is as faithful as is asked for.
pub(super) fn fidelity(arguments: &FidelityArgs) -> Result<bool, CliError> {
    let known = match &arguments.known {
        Some(path) => Known::read(path)?,
        None => Known::own(),
    };
    let folder = arguments.recordings.clone().unwrap_or_else(recording::own);
    let recordings = recording::read_all(&folder, arguments.release)?;
    let real = real(arguments, &recordings)?;
    print(&format!(
        "freezeframe {} fidelity of {} recordings\n",
        env!("CARGO_PKG_VERSION"),
        recordings.len()
    ))?;
    let recorded = measure(&recordings, known.clone());
    for line in recorded.lines() {
        print(&format!("{line}\n"))?;
    }
    let live = match real {
        Some((real, binaries)) => live(&real, &binaries, &recordings, &known)?,
        None => Vec::new(),
    };
    if let Some(path) = &arguments.json {
        let written = Written { recorded: &recorded, live: &live };
        let mut json = serde_json::to_string_pretty(&written).expect("a report holds only text and numbers");
        json.push('\n');
        let unwritable = |source| CliError::Write { path: path.clone(), source };
        std::fs::write(path, json).map_err(unwritable)?;
    }
    let claim = Claim { least_equal: arguments.least_equal, least_explained: arguments.least_explained };
    let mut total = recorded.total();
    let mut findings = recorded.findings(claim);
    for live in &live {
        total.add(live.simulated.total());
        findings.extend(live.simulated.findings(claim).into_iter().map(|found| format!("live: {found}")));
    }
    for found in &findings {
        print(&format!("{found}\n"))?;
    }
    print(&format!("{total}\n"))?;
    Ok(findings.is_empty())
}

/// The real QEMUs that were named, each of a release that was recorded: whoever named a wrong one is told at once.
fn real(arguments: &FidelityArgs, recordings: &[Recording]) -> Result<Option<(Real, Vec<Binary>)>, CliError> {
    if arguments.qemu.is_empty() {
        return Ok(None);
    }
    let real = Real::new(&Interrupt::listen().map_err(CliError::Runtime)?)?;
    let mut binaries = Vec::new();
    for program in &arguments.qemu {
        let binary = real.ask(program, &arguments.launch)?;
        if !recordings.iter().any(|recording| recording.release == binary.release) {
            let release = binary.release;
            return Err(CliError::Usage(format!(
                "{program} is QEMU {release}, of which no recording is here"
            )));
        }
        binaries.push(binary);
    }
    Ok(Some((real, binaries)))
}

/// Plays the recordings on real QEMUs.
fn live(
    real: &Real,
    binaries: &[Binary],
    recordings: &[Recording],
    known: &Known,
) -> Result<Vec<Live>, CliError> {
    let played = binaries.iter().map(|binary| {
        let live = play(real, binary, recordings, known)?;
        live.show()?;
        Ok(live)
    });
    played.collect()
}

/// Plays the recordings of a release on a real QEMU.
fn play(real: &Real, binary: &Binary, recordings: &[Recording], known: &Known) -> Result<Live, CliError> {
    let (mut anew, mut repetitions, mut not_played) = (Vec::new(), Report::default(), Vec::new());
    for recording in recordings.iter().filter(|recording| recording.release == binary.release) {
        if let Some(source) = recording.source_among(recordings) {
            not_played.push((recording.name.clone(), format!("it needs the files of `{}`", source.name)));
            continue;
        }
        match real.record(recording, binary)? {
            Ok(again) => {
                repetitions.add(recording, repeated(recording, &again), Vec::new());
                anew.push(again);
            }
            Err(why) => not_played.push((recording.name.clone(), why.to_string())),
        }
    }
    let simulated = measure(&anew, known.clone());
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
