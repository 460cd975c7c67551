//! `freezeframe sweep`: every fault at every point of the driver's operations.

#![allow(clippy::disallowed_methods, reason = "what is kept is written on this machine")]

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum as _};
use freezeframe_sim::Release;

use super::{
    CliError, Selection,
    output::{Output, quoted},
    workers,
};
use crate::{
    language::{Fault, World},
    oracle::{Invariant, Violation},
    play::CannotPlay,
    suite::{self, Case, SuiteError},
    sweep::{self, Kind, Survey},
    world::sim::Simulator,
};

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    #[command(flatten)]
    selection: Selection,
    /// Only this release of the simulator
    #[arg(long, value_name = "R")]
    release: Option<Release>,
    /// Only these kinds of faults
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',', num_args = 1..)]
    kinds: Vec<Kind>,
    /// Let up to so many pairs of faults strike in each scenario and release, the second behind the first
    #[arg(long, value_name = "N", default_value = "0")]
    pairs: usize,
    /// How many scenarios are played at the same time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Only print the points, and how many faults can strike there
    #[arg(long)]
    list: bool,
    /// Write a scenario for each finding into this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<Utf8PathBuf>,
}

/// What was found in one scenario on one release.
#[derive(Default)]
struct Swept {
    points: usize,
    runs: usize,
    /// By invariant, step and words.
    findings: BTreeMap<(Invariant, usize, String), Found>,
    /// What could not be played.
    failed: Vec<String>,
    listed: Vec<String>,
}

/// One finding: how it looked in the first run that showed it, and in how many it was found.
struct Found {
    violation: Violation,
    faults: Vec<Fault>,
    runs: usize,
}

impl Swept {
    fn add(&mut self, violations: Vec<Violation>, faults: &[Fault]) {
        for violation in violations {
            let key = (violation.invariant, violation.step, violation.what.clone());
            let first = || Found { violation, faults: faults.to_vec(), runs: 0 };
            self.findings.entry(key).or_insert_with(first).runs += 1;
        }
    }
}

/// Sweeps. True if everything held.
pub(super) fn sweep(arguments: &SweepArgs) -> Result<bool, CliError> {
    let selection = &arguments.selection;
    let cases = suite::load(&selection.paths, selection.filter.as_deref())?;
    let plays: Vec<_> = cases
        .iter()
        .filter(|case| case.is_played_on(World::Sim))
        .flat_map(|case| case.releases().map(move |release| (case, release)))
        .filter(|(_, known)| arguments.release.is_none_or(|wanted| wanted == *known))
        .collect();
    if let (true, Some(release)) = (plays.is_empty(), arguments.release) {
        return Err(SuiteError::NoneFor(release).into());
    }
    let kinds = match arguments.kinds.is_empty() {
        true => Kind::value_variants(),
        false => &arguments.kinds,
    };
    let mut output = Output::start(&title(arguments, kinds), plays.len());
    let mut total = Total::default();
    workers::each(
        &plays,
        arguments.jobs,
        Simulator::new,
        |simulator, (case, release)| one(simulator, case, *release, kinds, arguments),
        |(case, release), swept| {
            total.runs += swept.runs;
            output.advance(&format!("{} {release}, {} runs", case.scenario.id, total.runs), swept.runs);
            total.add(&mut output, case, *release, swept, arguments.keep.as_deref())
        },
    )?;
    total.close(output)
}

fn title(arguments: &SweepArgs, kinds: &[Kind]) -> String {
    let names = kinds.iter().filter_map(|kind| kind.to_possible_value());
    let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
    let pairs = if arguments.pairs > 0 { format!(", {} pairs each", arguments.pairs) } else { String::new() };
    format!("sweep on the simulator, default order, {}{pairs}", names.join(" "))
}

/// One scenario on one release.
fn one(
    simulator: &mut Simulator,
    case: &Case,
    release: Release,
    kinds: &[Kind],
    arguments: &SweepArgs,
) -> Swept {
    let mut swept = Swept::default();
    let survey = match sweep::survey(simulator, &case.scenario, release) {
        Ok(survey) => Rc::new(survey),
        Err(error) => {
            swept.failed.push(error.to_string());
            return swept;
        }
    };
    swept.runs = 1;
    swept.points = survey.places.len();
    if arguments.list {
        swept.listed = survey.places.iter().map(|place| listed(case, place, kinds)).collect();
        return swept;
    }
    swept.add(survey.violations.clone(), &[]);
    let singles: Vec<_> = sweep::single_faults(&case.scenario, &survey.places, kinds).collect();
    let mut pairs_left = arguments.pairs;
    let share = arguments.pairs.div_ceil(singles.len().max(1));
    for fault in singles {
        let first = [fault];
        let Some(behind) = played(simulator, case, release, &survey, &first, &mut swept) else { continue };
        if pairs_left == 0 {
            continue;
        }
        let seconds = sweep::single_faults(&case.scenario, &behind, kinds).collect::<Vec<_>>();
        // Spread over all that comes behind the first.
        let share = share.min(pairs_left).min(seconds.len());
        pairs_left -= share;
        for index in 0..share {
            let second = seconds[index * seconds.len() / share].clone();
            let [first] = first.clone();
            played(simulator, case, release, &survey, &[first, second], &mut swept);
        }
    }
    swept
}

/// Plays with these faults, and returns the places that came behind.
fn played(
    simulator: &mut Simulator,
    case: &Case,
    release: Release,
    survey: &Rc<Survey>,
    faults: &[Fault],
    swept: &mut Swept,
) -> Option<Vec<sweep::Place>> {
    swept.runs += 1;
    let run = || sweep::run(simulator, &case.scenario, release, survey, faults);
    // Each run has a world of its own, and what a run has broken off in is not used any more.
    let outcome = catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(CannotPlay::new("the run has broken off with a panic")));
    match outcome {
        Ok(outcome) => {
            swept.add(outcome.violations, faults);
            Some(outcome.behind)
        }
        Err(error) => {
            let written: String = faults.iter().map(sweep::toml).collect();
            swept.failed.push(format!("{error}, with\n{}", written.trim_end()));
            None
        }
    }
}

fn listed(case: &Case, place: &sweep::Place, kinds: &[Kind]) -> String {
    let faults = sweep::single_faults(&case.scenario, std::slice::from_ref(place), kinds).count();
    format!("  step {}: {} {}: {faults} faults", place.step + 1, place.moment, place.nth)
}

/// What was found in all.
#[derive(Default)]
struct Total {
    points: usize,
    runs: usize,
    violations: usize,
    failed: usize,
    by_invariant: BTreeMap<Invariant, usize>,
}

impl Total {
    /// Tells of what was found in one scenario.
    fn add(
        &mut self,
        output: &mut Output,
        case: &Case,
        release: Release,
        swept: Swept,
        keep: Option<&Utf8Path>,
    ) -> Result<(), CliError> {
        self.points += swept.points;
        let name = format!("{} {release}", case.scenario.id);
        if !swept.listed.is_empty() {
            output.line(&name);
            swept.listed.iter().for_each(|line| output.line(line));
        }
        for why in &swept.failed {
            self.failed += 1;
            output.line(&format!("FAILED  {name}: {why}"));
        }
        for (number, found) in swept.findings.into_values().enumerate() {
            let Found { violation, faults, runs } = found;
            self.violations += runs;
            *self.by_invariant.entry(violation.invariant).or_default() += runs;
            output.line(&format!("FOUND   {name}: {violation}"));
            output.line(&format!("  told: {}", violation.told));
            let written: String = faults.iter().map(sweep::toml).collect();
            let written = if faults.is_empty() { "without a fault added" } else { written.trim_end() };
            let more = if runs > 1 { format!("\n(and in {} other runs)", runs - 1) } else { String::new() };
            output.line(&format!("  {}", format!("{written}{more}").replace('\n', "\n  ")));
            if let Some(folder) = keep {
                let file = format!("{}-{release}-{}.toml", case.scenario.id.replace('/', "-"), number + 1);
                let path = folder.join(file);
                kept(case, &violation, &faults, &path)?;
                output.line(&format!("  kept: {}", quoted(&path)));
            }
        }
        Ok(())
    }

    /// The summary and the closing line. True if all held.
    fn close(self, mut output: Output) -> Result<bool, CliError> {
        for (invariant, runs) in &self.by_invariant {
            output.line(&format!("{invariant}: {runs} violations"));
        }
        if self.failed > 0 {
            output.line(&format!("{} runs could not be played to their end", self.failed));
        }
        let Total { points, runs, violations, failed, .. } = self;
        output.end(&format!("{points} points, {runs} runs, {violations} violations"))?;
        Ok(violations + failed == 0)
    }
}

/// Writes the smallest scenario that shows a finding.
fn kept(case: &Case, violation: &Violation, faults: &[Fault], path: &Utf8Path) -> Result<(), CliError> {
    let text = std::fs::read_to_string(&case.path)
        .map_err(|source| CliError::Unreadable { path: case.path.clone(), source })?;
    let small = sweep::reproducer(&text, faults, violation.step, &violation.to_string());
    let folder = path.parent().unwrap_or(Utf8Path::new("."));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, small));
    written.map_err(|source| CliError::Write { path: path.to_owned(), source })
}
