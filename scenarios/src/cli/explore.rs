//! `freezeframe explore`: every order of scenarios, with and without a fault. The only thing here that knows a clock.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "how long it may take is told by a clock on the wall"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    rc::Rc,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use freezeframe_sim::{Oracle, Release, oracle::Trace};

use super::{
    CliError, Selection,
    output::{Output, quoted},
    shrunk::Shrunk,
    workers,
};
use crate::{
    explore::{self, Beside, Explored, Found, Known, Mode, Subject},
    language::{Fault, World},
    play::CannotPlay,
    suite::{self, Case, SuiteError},
    sweep::{self, Kind, Survey},
    transcript::render,
    world::sim::Simulator,
};

/// Runs by seeds, where neither their number nor the time is given.
const RUNS: u64 = 100;

#[derive(Debug, Args)]
pub(super) struct ExploreArgs {
    #[command(flatten)]
    selection: Selection,
    /// Only this release of the simulator
    #[arg(long, value_name = "R")]
    release: Option<Release>,
    /// Which orders are played
    #[arg(long, value_enum, default_value = "dfs")]
    mode: Orders,
    /// In how many answers an order differs from the usual one at most (dfs); how often what stands changes (pct) [default: 1]
    #[arg(long, value_name = "N")]
    bound: Option<usize>,
    /// The first seed (random, pct) [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// In how many orders each scenario is played (random, pct) [default: 100, or as many as there is time for]
    #[arg(long, value_name = "N")]
    runs: Option<NonZeroU64>,
    /// How many faults are added: with 1, the orders are played without a fault and with each that `sweep` knows
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u8).range(..=1))]
    faults: u8,
    /// Add this fault, by the number that a finding tells
    #[arg(long, value_name = "NUMBER", conflicts_with = "faults")]
    fault: Option<NonZeroUsize>,
    /// End after so many seconds, shared out among the scenarios
    #[arg(long, value_name = "N")]
    seconds: Option<NonZeroU32>,
    /// Play the order of this trace, which a finding tells, and print what was said; of one scenario on one release
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["mode", "bound", "seed", "runs", "faults", "seconds"])]
    replay: Option<Trace>,
    /// Write the smallest scenario of each finding into this folder; `freezeframe run` plays it
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    regressions: Option<Utf8PathBuf>,
    /// How many are played at the same time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

/// Which orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Orders {
    /// Every answer as likely as the others: a run for each seed
    Random,
    /// Answers that stand for a whole run, but for a few changes: a run for each seed
    Pct,
    /// All that differ from the usual one in at most so many answers, each once: it comes to an end
    Dfs,
}

/// Explores. True if everything held.
pub(super) fn explore(arguments: &ExploreArgs) -> Result<bool, CliError> {
    let mode = mode(arguments)?;
    let selection = &arguments.selection;
    let cases = suite::load(&selection.paths, selection.filter.as_deref())?;
    let plays: Vec<_> = cases
        .iter()
        .filter(|case| case.is_played_on(World::Sim))
        .flat_map(|case| case.releases().map(move |release| Play { case, release }))
        .filter(|play| arguments.release.is_none_or(|wanted| wanted == play.release))
        .collect();
    if let (true, Some(release)) = (plays.is_empty(), arguments.release) {
        return Err(SuiteError::NoneFor(release).into());
    }
    match &arguments.replay {
        Some(trace) => replay(&plays, arguments.fault, trace),
        None => all(&plays, mode, arguments),
    }
}

/// The mode, if the options go together.
fn mode(arguments: &ExploreArgs) -> Result<Mode, CliError> {
    let ExploreArgs { bound, seed, runs, .. } = *arguments;
    let without = |option: &str, is_given: bool, modes: &str| match is_given {
        true => Err(CliError::Usage(format!("`{option}` goes with {modes}"))),
        false => Ok(()),
    };
    if arguments.mode == Orders::Dfs {
        without(
            "--seed",
            seed.is_some(),
            "`--mode random` and `--mode pct`: depth-first nothing is left to chance",
        )?;
        without("--runs", runs.is_some(), "`--mode random` and `--mode pct`: depth-first it is `--bound`")?;
    }
    if arguments.mode == Orders::Random {
        without("--bound", bound.is_some(), "`--mode dfs` and `--mode pct`: random orders have none")?;
    }
    let (bound, seed) = (bound.unwrap_or(1), seed.unwrap_or(0));
    let runs = runs.map(NonZeroU64::get).or(arguments.seconds.is_none().then_some(RUNS));
    Ok(match arguments.mode {
        Orders::Random => Mode::Random { seed, runs },
        Orders::Pct => Mode::Pct { seed, runs, bound },
        Orders::Dfs => Mode::Dfs { bound },
    })
}

/// A scenario on a release.
#[derive(Debug, Clone, Copy)]
struct Play<'a> {
    case: &'a Case,
    release: Release,
}

impl Play<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.case.scenario.id, self.release)
    }

    /// How it usually goes, and the faults that can be added.
    fn surveyed(&self, simulator: &mut Simulator) -> Result<(Rc<Survey>, Vec<Fault>), String> {
        let survey = sweep::survey(simulator, &self.case.scenario, self.release);
        let survey = survey.map_err(|error| error.to_string())?;
        let faults = sweep::single_faults(&self.case.scenario, &survey.places, Kind::value_variants());
        let faults = faults.collect();
        Ok((Rc::new(survey), faults))
    }
}

/// Plays one order and prints what was said in it. True if everything held.
fn replay(plays: &[Play<'_>], fault: Option<NonZeroUsize>, trace: &Trace) -> Result<bool, CliError> {
    let &[play] = plays else {
        let many = format!("`--replay` is for one scenario and `--release`, and these are {}", plays.len());
        return Err(CliError::Usage(many));
    };
    let mut simulator = Simulator::new();
    let (survey, faults) = play.surveyed(&mut simulator).map_err(CannotPlay::new)?;
    let added = match fault {
        None => None,
        Some(number) => {
            let none = || no_such_fault(&play.name(), faults.len(), number);
            Some(faults.get(number.get() - 1).ok_or_else(none)?)
        }
    };
    let subject =
        Subject::new(&play.case.scenario, play.release, survey, added.map_or(&[], std::slice::from_ref));
    let played = explore::play(&mut simulator, &subject, Oracle::replay(trace.clone()));
    let mut output = Output::start(&format!("explore on the simulator, {}, order `{trace}`", play.name()), 1);
    added.into_iter().for_each(|fault| output.line(sweep::toml(fault).trim_end()));
    played.run.iter().for_each(|run| output.line(render(&run.lines()).trim_end()));
    let follows = played.oracle.trace() == trace;
    if !follows {
        output.line(&format!("FAILED  it is another order: only `{}` was asked for", played.oracle.trace()));
    }
    for finding in &played.findings {
        output.line(&format!("FOUND   {}: {}", play.name(), finding.what));
        finding.told.iter().for_each(|told| output.line(&format!("  told: {told}")));
    }
    let (choices, violations) = (played.oracle.choices(), played.findings.len());
    output.end(&format!("{choices} choices, 1 runs, {violations} violations"))?;
    Ok(follows && violations == 0)
}

/// A part of the work: a scenario on a release, with a fault or without, in all orders of the mode.
struct Part {
    play: usize,
    fault: Option<NonZeroUsize>,
}

/// What one thread has at hand: a simulator, and what it knows of the play that it has last worked at.
#[derive(Default)]
struct Hands {
    simulator: Simulator,
    known: Option<(usize, Rc<Survey>, Vec<Fault>)>,
}

/// What was found in a part.
struct Done {
    explored: Explored,
    /// The fault that was added, as it stands in a scenario.
    fault: Option<String>,
}

/// Plays in many orders. True if everything held.
fn all(plays: &[Play<'_>], mode: Mode, arguments: &ExploreArgs) -> Result<bool, CliError> {
    let limit = arguments.seconds.map(|seconds| Duration::from_secs(seconds.get().into()));
    let began = Instant::now();
    let mut total = Total::default();
    let parts = parts(plays, arguments, &mut total)?;
    // Where a play has many parts they go on side by side, and else the plays do.
    let abreast =
        if parts.len() > plays.len() { 1 } else { workers::threads(arguments.jobs, parts.len()).max(1) };
    let until = plays.iter().map(|_| OnceLock::new()).collect();
    let time = Time { began, limit, abreast, until, begun: AtomicUsize::new(0) };
    let mut output = Output::start(&title(mode, arguments), parts.len());
    total.tell_failed(&mut output);
    // First without a fault: with one, what was learned then is left out. A fault that was asked for by its number comes alone.
    let (without, with): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.fault.is_none());
    let known: Vec<OnceLock<Known>> = plays.iter().map(|_| OnceLock::new()).collect();
    let learns = matches!(mode, Mode::Dfs { .. }) && !with.is_empty() && arguments.fault.is_none();
    for parts in [without, with] {
        let beside = |part: &Part| match known[part.play].get() {
            Some(known) => Beside::Without(known),
            None if learns => Beside::TheUsual,
            None => Beside::Nothing,
        };
        workers::each(
            &parts,
            arguments.jobs,
            Hands::default,
            |hands, part| one(hands, plays[part.play], part, (mode, beside(part)), &time),
            |part, mut done| {
                // What has come to no end has played less than is to be known.
                if learns && part.fault.is_none() {
                    let learned = std::mem::take(&mut done.explored.known);
                    _ = known[part.play].set(if done.explored.is_exhausted {
                        learned
                    } else {
                        Known::default()
                    });
                }
                let name = plays[part.play].name();
                let runs = done.explored.runs;
                let sum = total.add(part, done);
                if sum.left == 0 {
                    sum.tell(&mut output, plays[part.play], mode);
                    if let Some(folder) = &arguments.regressions {
                        sum.keep(&mut output, plays[part.play], folder)?;
                    }
                }
                output.advance(
                    &format!("{name}, {} runs", total.runs),
                    usize::try_from(runs).unwrap_or(usize::MAX),
                );
                Ok::<_, CliError>(())
            },
        )?;
    }
    total.close(output)
}

fn title(mode: Mode, arguments: &ExploreArgs) -> String {
    let runs = |runs: Option<u64>| runs.map_or(String::new(), |runs| format!(", {runs} runs each"));
    let orders = match mode {
        Mode::Random { seed, runs: many } => format!("random orders from seed {seed} on{}", runs(many)),
        Mode::Pct { seed, runs: many, bound } => {
            format!("orders with at most {} from seed {seed} on{}", counted(bound, "change"), runs(many))
        }
        Mode::Dfs { bound } => format!("every order with at most {}", counted(bound, "deviation")),
    };
    let faults = match (arguments.faults, arguments.fault) {
        (_, Some(number)) => format!("fault {number}"),
        (0, None) => "no fault".to_owned(),
        (_, None) => "at most one fault".to_owned(),
    };
    let seconds = arguments.seconds.map(|seconds| format!(", {seconds} seconds")).unwrap_or_default();
    format!("explore on the simulator, {orders}, {faults}{seconds}")
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// All parts, play after play. What cannot be played at all has none.
fn parts(plays: &[Play<'_>], arguments: &ExploreArgs, total: &mut Total) -> Result<Vec<Part>, CliError> {
    let mut parts = Vec::new();
    let numbers: Vec<usize> = (0..plays.len()).collect();
    let known = |simulator: &mut Simulator, number: &usize| {
        let (_, faults) = plays[*number].surveyed(simulator)?;
        Ok::<_, String>(faults.len())
    };
    workers::each(&numbers, arguments.jobs, Simulator::new, known, |number, known| {
        let (play, name) = (*number, plays[*number].name());
        let before = parts.len();
        match (known, arguments.fault) {
            (Err(why), _) => total.failed.push(format!("{name}: {why}")),
            (Ok(known), Some(number)) if number.get() > known => {
                return Err(no_such_fault(&name, known, number));
            }
            (Ok(_), Some(number)) => parts.push(Part { play, fault: Some(number) }),
            (Ok(known), None) => {
                let faults = (1..=known).filter(|_| arguments.faults > 0).map(NonZeroUsize::new);
                parts.extend([None].into_iter().chain(faults).map(|fault| Part { play, fault }));
            }
        }
        total.sums.push(Sum { left: parts.len() - before, ..Sum::default() });
        Ok(())
    })?;
    Ok(parts)
}

fn no_such_fault(name: &str, known: usize, number: NonZeroUsize) -> CliError {
    CliError::Usage(format!("{name} has {known} faults that can be added, and none has the number {number}"))
}

/// One part.
fn one(
    hands: &mut Hands,
    play: Play<'_>,
    part: &Part,
    (mode, beside): (Mode, Beside<'_>),
    time: &Time,
) -> Done {
    let Hands { simulator, known } = hands;
    let (_, survey, faults) = match known {
        Some(known) if known.0 == part.play => known,
        _ => {
            // It was played before, to find out what parts there are.
            let (survey, faults) = play.surveyed(simulator).unwrap_or_default();
            known.insert((part.play, survey, faults))
        }
    };
    let added = part.fault.and_then(|number| faults.get(number.get() - 1));
    let subject = Subject::new(
        &play.case.scenario,
        play.release,
        survey.clone(),
        added.map_or(&[], std::slice::from_ref),
    );
    let until = time.until(part.play);
    let goes_on = || until.is_none_or(|until| Instant::now() < until);
    let explored = explore::explore_beside(simulator, &subject, mode, beside, goes_on);
    Done { explored, fault: added.map(sweep::toml) }
}

/// The time that there is, if it is bounded.
struct Time {
    began: Instant,
    limit: Option<Duration>,
    /// How many plays go on at the same time.
    abreast: usize,
    /// For each play until when it may go on, once it has begun.
    until: Vec<OnceLock<Instant>>,
    begun: AtomicUsize,
}

impl Time {
    /// Until when a play may go on, in all its parts: when it begins, those that have not begun share the time that is left.
    fn until(&self, play: usize) -> Option<Instant> {
        let left = self.limit?.saturating_sub(self.began.elapsed());
        let until = self.until[play].get_or_init(|| {
            let others = self.until.len() - self.begun.fetch_add(1, Ordering::Relaxed);
            let turns = u32::try_from(others.div_ceil(self.abreast)).unwrap_or(u32::MAX);
            Instant::now() + left / turns.max(1)
        });
        Some(*until)
    }
}

/// What was found in one scenario on one release.
#[derive(Default)]
struct Sum {
    /// How many of its parts are not done.
    left: usize,
    faults: usize,
    runs: u64,
    choices: u64,
    /// How many orders were left out, for they are what was played by itself.
    left_out: u64,
    /// How many of its parts have come to no end.
    open: usize,
    /// What did not hold, in words.
    found: BTreeMap<String, Seen>,
}

/// How something that did not hold looked in the first part that showed it.
struct Seen {
    number: Option<NonZeroUsize>,
    fault: Option<String>,
    found: Found,
}

impl Sum {
    fn tell(&self, output: &mut Output, play: Play<'_>, mode: Mode) {
        let Sum { faults, runs, choices, open, .. } = self;
        let with = if *faults > 0 { format!(", with {}", counted(*faults, "fault")) } else { String::new() };
        let ended = match mode {
            _ if *open > 0 => format!("NOT exhausted, the time is up{with}"),
            Mode::Dfs { bound } => {
                format!("exhausted: every order with at most {}{with}", counted(bound, "deviation"))
            }
            Mode::Random { .. } | Mode::Pct { .. } => format!("done{with}"),
        };
        let left_out = match self.left_out {
            0 => String::new(),
            left_out => format!(", {left_out} more left out as played by themselves"),
        };
        output.line(&format!("{}: {ended}, {runs} runs{left_out}, {choices} choices", play.name()));
        for (what, Seen { number, fault, found }) in &self.found {
            output.line(&format!("FOUND   {}: {what}", play.name()));
            found.told.iter().for_each(|told| output.line(&format!("  told: {told}")));
            let fault = fault.as_deref().unwrap_or("without a fault added").trim_end();
            let more = if found.runs > 1 {
                format!("\n(and in {} other runs)", found.runs - 1)
            } else {
                String::new()
            };
            output.line(&format!("  {}", format!("{fault}{more}").replace('\n', "\n  ")));
            let number = number.map(|number| format!(" --fault {number}")).unwrap_or_default();
            let (path, release, trace) = (quoted(&play.case.path), play.release, &found.trace);
            output.line(&format!(
                "  repeat: freezeframe explore {path} --release {release}{number} --replay '{trace}'"
            ));
        }
    }
}

impl Sum {
    /// Writes the smallest scenario of the first finding of each kind: the others are most often the same, elsewhere.
    fn keep(&self, output: &mut Output, play: Play<'_>, folder: &Utf8Path) -> Result<(), CliError> {
        let mut simulator = Simulator::new();
        let mut done = BTreeSet::new();
        for seen in self.found.values().filter(|seen| done.insert(seen.found.shows)) {
            // A fault is known by its number among those that can be added.
            let faults = play.surveyed(&mut simulator).unwrap_or_default().1;
            let fault = seen.number.and_then(|number| faults.get(number.get() - 1));
            let fault = fault.map_or(&[][..], std::slice::from_ref);
            let sought = (seen.found.shows, fault, &seen.found.trace);
            let shrunk = Shrunk::of(&mut simulator, play.case, play.release, sought, "explore");
            shrunk.keep(output, folder)?;
        }
        Ok(())
    }
}

/// What was found in all.
#[derive(Default)]
struct Total {
    sums: Vec<Sum>,
    runs: u64,
    choices: u64,
    violations: u64,
    /// What could not be played at all.
    failed: Vec<String>,
}

impl Total {
    fn tell_failed(&self, output: &mut Output) {
        self.failed.iter().for_each(|failed| output.line(&format!("FAILED  {failed}")));
    }

    /// Adds a part to what was found in its play.
    fn add(&mut self, part: &Part, done: Done) -> &Sum {
        let Done { explored, fault } = done;
        self.runs += explored.runs;
        self.choices += explored.choices;
        let sum = &mut self.sums[part.play];
        sum.left -= 1;
        sum.faults += usize::from(part.fault.is_some());
        sum.runs += explored.runs;
        sum.choices += explored.choices;
        sum.left_out += explored.left_out;
        sum.open += usize::from(!explored.is_exhausted);
        for (what, found) in explored.found {
            self.violations += found.runs;
            match sum.found.get_mut(&what) {
                Some(seen) => seen.found.runs += found.runs,
                None => {
                    sum.found.insert(what, Seen { number: part.fault, fault: fault.clone(), found });
                }
            }
        }
        sum
    }

    /// The closing line. True if all held.
    fn close(self, output: Output) -> Result<bool, CliError> {
        let Total { runs, choices, violations, failed, .. } = self;
        output.end(&format!("{choices} choices, {runs} runs, {violations} violations"))?;
        Ok(violations == 0 && failed.is_empty())
    }
}
