//! `freezeframe sweep`: every fault at every point of the driver's operations.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    str::FromStr,
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum as _};
use freezeframe_sim::{Release, oracle::Trace};

use super::{CliError, Selection, output::Output, shrunk::Shrunk, workers};
use crate::{
    language::{Fault, Moment, World},
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
    /// Let up to so many pairs of faults strike in each scenario and release, the second behind the first; or `all` that there are
    #[arg(long, value_name = "N|all", default_value = "0")]
    pairs: Pairs,
    /// Only scenarios whose operations send at most so many commands where nothing goes wrong
    #[arg(long, value_name = "N")]
    commands: Option<usize>,
    /// How many scenarios are played at the same time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Only print the points, and how many faults can strike there
    #[arg(long)]
    list: bool,
    /// Write the smallest scenario of each finding into this folder; `freezeframe run` plays it
    #[arg(long, value_name = "DIR")]
    regressions: Option<Utf8PathBuf>,
}

/// How many pairs of faults strike in a scenario on a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pairs {
    Most(usize),
    All,
}

impl FromStr for Pairs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Pairs::All),
            number => number.parse().map(Pairs::Most).map_err(|_| "a whole number, or `all`".to_owned()),
        }
    }
}

/// What was found in one scenario on one release.
#[derive(Default)]
struct Swept {
    points: usize,
    runs: usize,
    /// How many of the runs were with two faults.
    pairs: usize,
    /// It sends more commands than were asked for, and was not swept.
    too_long: bool,
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
    /// The smallest scenario that shows it, if that was looked for.
    small: Option<Shrunk>,
}

impl Swept {
    fn add(&mut self, violations: Vec<Violation>, faults: &[Fault]) {
        for violation in violations {
            let key = (violation.invariant, violation.step, violation.what.clone());
            let first = || Found { violation, faults: faults.to_vec(), runs: 0, small: None };
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
            total.add(&mut output, case, *release, swept, arguments.regressions.as_deref())
        },
    )?;
    total.close(output, arguments)
}

fn title(arguments: &SweepArgs, kinds: &[Kind]) -> String {
    let names = kinds.iter().filter_map(|kind| kind.to_possible_value());
    let names: Vec<_> = names.map(|value| value.get_name().to_owned()).collect();
    let pairs = match arguments.pairs {
        Pairs::Most(0) => String::new(),
        Pairs::Most(pairs) => format!(", {pairs} pairs each"),
        Pairs::All => ", all pairs".to_owned(),
    };
    let commands = arguments.commands.map(|most| format!(", up to {most} commands")).unwrap_or_default();
    format!("sweep on the simulator, default order, {}{pairs}{commands}", names.join(" "))
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
    let commands = survey.places.iter().filter(|place| matches!(place.moment, Moment::Command(_))).count();
    if arguments.commands.is_some_and(|most| commands > most) {
        swept.too_long = true;
        return swept;
    }
    swept.points = survey.places.len();
    if arguments.list {
        swept.listed = survey.places.iter().map(|place| listed(case, place, kinds)).collect();
        return swept;
    }
    swept.add(survey.violations.clone(), &[]);
    with_faults(simulator, case, release, &survey, (kinds, arguments.pairs), &mut swept);
    if arguments.regressions.is_some() {
        shrink(simulator, case, release, &mut swept);
    }
    swept
}

/// Every single fault, and as many pairs as were asked for.
fn with_faults(
    simulator: &mut Simulator,
    case: &Case,
    release: Release,
    survey: &Rc<Survey>,
    (kinds, pairs): (&[Kind], Pairs),
    swept: &mut Swept,
) {
    let singles: Vec<_> = sweep::single_faults(&case.scenario, &survey.places, kinds).collect();
    let (mut pairs_left, share) = match pairs {
        Pairs::Most(most) => (most, most.div_ceil(singles.len().max(1))),
        Pairs::All => (usize::MAX, usize::MAX),
    };
    for fault in singles {
        let first = [fault];
        let Some(behind) = played(simulator, case, release, survey, &first, swept) else { continue };
        if pairs_left == 0 {
            continue;
        }
        let seconds = sweep::single_faults(&case.scenario, &behind, kinds).collect::<Vec<_>>();
        // Spread over all that comes behind the first.
        let share = share.min(pairs_left).min(seconds.len());
        pairs_left -= share;
        swept.pairs += share;
        for index in 0..share {
            let second = seconds[index * seconds.len() / share].clone();
            let [first] = first.clone();
            played(simulator, case, release, survey, &[first, second], swept);
        }
    }
}

/// Looks for the smallest scenario of the first finding of each kind: the others are most often the same, elsewhere.
fn shrink(simulator: &mut Simulator, case: &Case, release: Release, swept: &mut Swept) {
    let mut done = BTreeSet::new();
    for ((invariant, ..), found) in &mut swept.findings {
        if done.insert(*invariant) {
            let sought = (*invariant, found.faults.as_slice(), &Trace::default());
            found.small = Some(Shrunk::of(simulator, case, release, sought, "sweep"));
        }
    }
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
    /// How many of the runs were with two faults.
    pairs: usize,
    /// How many send more commands than were asked for.
    too_long: usize,
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
        regressions: Option<&Utf8Path>,
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
        self.pairs += swept.pairs;
        self.too_long += usize::from(swept.too_long);
        for found in swept.findings.into_values() {
            let Found { violation, faults, runs, small } = found;
            self.violations += runs;
            *self.by_invariant.entry(violation.invariant).or_default() += runs;
            output.line(&format!("FOUND   {name}: {violation}"));
            output.line(&format!("  told: {}", violation.told));
            let written: String = faults.iter().map(sweep::toml).collect();
            let written = if faults.is_empty() { "without a fault added" } else { written.trim_end() };
            let more = if runs > 1 { format!("\n(and in {} other runs)", runs - 1) } else { String::new() };
            output.line(&format!("  {}", format!("{written}{more}").replace('\n', "\n  ")));
            if let (Some(folder), Some(small)) = (regressions, small) {
                small.keep(output, folder)?;
            }
        }
        Ok(())
    }

    /// The summary and the closing line. True if all held.
    fn close(self, mut output: Output, arguments: &SweepArgs) -> Result<bool, CliError> {
        for (invariant, runs) in &self.by_invariant {
            output.line(&format!("{invariant}: {runs} violations"));
        }
        if self.failed > 0 {
            output.line(&format!("{} runs could not be played to their end", self.failed));
        }
        let Total { points, runs, pairs, too_long, violations, failed, .. } = self;
        if let Some(most) = arguments.commands {
            output.line(&format!("not swept, for they send more than {most} commands: {too_long}"));
        }
        let pairs = match arguments.pairs {
            Pairs::Most(0) => String::new(),
            Pairs::Most(_) => format!(", {pairs} of them with two faults"),
            Pairs::All => format!(", {pairs} of them with two faults: all pairs"),
        };
        output.end(&format!("{points} points, {runs} runs{pairs}, {violations} violations"))?;
        Ok(violations + failed == 0)
    }
}
