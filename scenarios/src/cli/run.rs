//! `freezeframe run`: plays scenarios and compares them with their expected transcripts.

use std::{collections::BTreeMap, fmt::Write as _};

use freezeframe_sim::{Oracle, Release};
use similar::TextDiff;

use super::{
    CliError, RunArgs, Target,
    conform::Campaign,
    output::{Output, Verdict, quoted},
    workers,
};
use crate::{
    golden,
    language::World,
    regression::{self, Played},
    suite::{self, Case, SuiteError},
    transcript::{compare, render},
    world::sim::Simulator,
};

/// Plays. True if all was as expected.
pub(super) fn run(arguments: &RunArgs) -> Result<bool, CliError> {
    let selection = &arguments.selection;
    if arguments.target == Target::Sim && arguments.qemu.is_some() {
        return Err(CliError::QemuForSimulator);
    }
    let cases = suite::load(&selection.paths, selection.filter.as_deref())?;
    if let Some(program) = &arguments.qemu {
        let campaign = Campaign::new(std::slice::from_ref(program), &arguments.launch, "run")?;
        return campaign.play(&cases, 1, arguments.jobs);
    }
    if arguments.update {
        return update(arguments, &cases);
    }
    let plays = plays(&cases, arguments.release);
    if let (true, Some(release)) = (plays.is_empty(), arguments.release) {
        return Err(SuiteError::NoneFor(release).into());
    }
    let seed = arguments.seed.map_or("default order".to_owned(), |seed| format!("seed {seed}"));
    let mut output = Output::start(&format!("run on the simulator, {seed}"), plays.len());
    workers::each(
        &plays,
        arguments.jobs,
        Simulator::new,
        |simulator, (case, release)| verdict(simulator, case, *release, arguments.seed),
        |(case, release), verdict| {
            output.verdict(&format!("{} {release}", case.scenario.id), &verdict);
            Ok::<_, CliError>(())
        },
    )?;
    output.close()
}

/// Every case with each release that it is for.
fn plays(cases: &[Case], release: Option<Release>) -> Vec<(&Case, Release)> {
    let all = cases.iter().flat_map(|case| case.releases().map(move |release| (case, release)));
    all.filter(|(_, known)| release.is_none_or(|wanted| wanted == *known)).collect()
}

fn verdict(simulator: &mut Simulator, case: &Case, release: Release, seed: Option<u64>) -> Verdict {
    if !case.is_played_on(World::Sim) {
        return Verdict::Skipped("only for a real QEMU".to_owned());
    }
    let played = match seed {
        _ if case.scenario.regression.is_some() => Ok(regression(simulator, case, release, seed)),
        None => own_order(simulator, case, release),
        Some(seed) => seeded(simulator, case, release, seed),
    };
    match played {
        Ok(findings) if findings.is_empty() => Verdict::Passed,
        Ok(findings) => Verdict::Failed { findings, repeat: repeat(case, release, seed) },
        Err(error) => {
            Verdict::Failed { findings: vec![error.to_string()], repeat: repeat(case, release, seed) }
        }
    }
}

fn repeat(case: &Case, release: Release, seed: Option<u64>) -> String {
    let seed = seed.map(|seed| format!(" --seed {seed}")).unwrap_or_default();
    format!("freezeframe run {} --release {release}{seed}", quoted(&case.path))
}

/// Held against what must hold in any case, and against how it goes without what was added.
fn regression(simulator: &mut Simulator, case: &Case, release: Release, seed: Option<u64>) -> Vec<String> {
    let Played { findings, stale } =
        regression::play(simulator, &case.scenario, release, seed.map(Oracle::seeded));
    let mut words: Vec<_> = findings.into_iter().map(|finding| finding.to_string()).collect();
    // In the order of a seed other things may come up, or nothing of it.
    words.extend(stale.into_iter().filter(|_| seed.is_none()));
    words
}

/// Held against the golden file, byte for byte.
fn own_order(simulator: &mut Simulator, case: &Case, release: Release) -> Result<Vec<String>, CliError> {
    let run = simulator.play(&case.scenario, release, case.scenario.order())?;
    let transcript = render(&run.lines());
    let mut findings = run.findings;
    match golden::read(&case.path, release) {
        Ok(Some(expected)) if expected == transcript => {}
        Ok(Some(expected)) => findings.push(difference(&expected, &transcript)),
        Ok(None) => findings.push("there is no expected transcript; `--update` writes it".to_owned()),
        Err(error) => findings.push(format!("the expected transcript cannot be read: {error}")),
    }
    Ok(findings)
}

/// Held against the usual order, as a partial order. Where the driver is killed all lanes are cut at one moment, and how far each
/// has come by then is a matter of the order: only what must hold in the end is held there.
fn seeded(
    simulator: &mut Simulator,
    case: &Case,
    release: Release,
    seed: u64,
) -> Result<Vec<String>, CliError> {
    let run = simulator.play(&case.scenario, release, Oracle::seeded(seed))?;
    if case.scenario.kills_the_driver() {
        return Ok(run.findings);
    }
    let usual = simulator.play(&case.scenario, release, case.scenario.order())?;
    let differences = compare(&usual.lines(), &run.lines());
    let mut findings = run.findings;
    findings.extend(differences.iter().map(ToString::to_string));
    Ok(findings)
}

/// The lines that differ, with some around them.
fn difference(expected: &str, found: &str) -> String {
    let mut text = "the transcript differs (- expected, + found):\n".to_owned();
    let diff = TextDiff::from_lines(expected, found);
    let _ = write!(text, "{}", diff.unified_diff().context_radius(2).missing_newline_hint(false));
    text.trim_end().to_owned()
}

/// Writes the golden files anew. What is not as it should be still fails.
fn update(arguments: &RunArgs, cases: &[Case]) -> Result<bool, CliError> {
    let has_transcript = |case: &&Case| case.is_played_on(World::Sim) && case.scenario.regression.is_none();
    let cases: Vec<_> = cases.iter().filter(has_transcript).collect();
    let mut output = Output::start("run --update on the simulator", cases.len());
    workers::each(
        &cases,
        arguments.jobs,
        Simulator::new,
        |simulator, case| {
            let mut transcripts = BTreeMap::new();
            let mut findings = Vec::new();
            for release in case.releases() {
                let run = simulator.play(&case.scenario, release, case.scenario.order())?;
                findings.extend(run.findings.iter().map(|finding| format!("{release}: {finding}")));
                transcripts.insert(release, render(&run.lines()));
            }
            Ok((findings, transcripts))
        },
        |case, played: Result<_, CliError>| {
            let (findings, transcripts) = played?;
            let written = golden::write(&case.path, &transcripts);
            let changed = written.map_err(|(path, source)| CliError::Write { path, source })?;
            changed.iter().for_each(|path| output.line(&format!("wrote   {path}")));
            let repeat = format!("freezeframe run {}", quoted(&case.path));
            let verdict =
                if findings.is_empty() { Verdict::Passed } else { Verdict::Failed { repeat, findings } };
            output.verdict(&case.scenario.id, &verdict);
            Ok::<_, CliError>(())
        },
    )?;
    output.close()
}
