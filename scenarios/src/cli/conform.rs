//! `freezeframe conform`: every scenario on the simulator's matching release and on real QEMUs, compared.

use std::{collections::BTreeMap, num::NonZeroUsize};

use camino::Utf8PathBuf;

use super::{
    CliError, ConformArgs, Launch,
    interrupt::Interrupt,
    output::{Output, Verdict, quoted},
    real::Real,
    workers,
};
use crate::{
    language::World,
    suite::{self, Case, SuiteError},
    transcript::compare,
    world::{
        guest::Guest,
        qemu::{Binary, StartError},
        sim::Simulator,
    },
};

/// Compares. True if nothing differs.
pub(super) fn conform(arguments: &ConformArgs) -> Result<bool, CliError> {
    let selection = &arguments.selection;
    let cases = suite::load(&selection.paths, selection.filter.as_deref())?;
    let guest = arguments.guest.as_deref().map(Guest::open).transpose().map_err(StartError::from)?;
    let campaign = Campaign {
        guest,
        tries: arguments.tries.get(),
        ..Campaign::new(&arguments.qemu, &arguments.launch, "conform")?
    };
    campaign.play(&cases, arguments.repeat.get(), arguments.jobs)
}

/// Plays on the simulator and on these binaries, to be compared.
pub(super) struct Campaign<'a> {
    binaries: Vec<Binary>,
    launch: &'a Launch,
    /// What boots on them, if scenarios with a guest that does are to be played, and no others.
    guest: Option<Guest>,
    /// How often a play that differs is played at most.
    tries: u32,
    /// `conform`, or `run` which shows no matrix.
    command: &'static str,
    interrupt: Interrupt,
}

/// One play on a real QEMU.
struct Play<'a> {
    case: &'a Case,
    binary: &'a Binary,
}

impl<'a> Campaign<'a> {
    /// Asks every program what QEMU it is.
    pub(super) fn new(
        programs: &[Utf8PathBuf],
        launch: &'a Launch,
        command: &'static str,
    ) -> Result<Self, CliError> {
        let interrupt = Interrupt::listen().map_err(CliError::Runtime)?;
        let real = Real::new(&interrupt)?;
        let asked = programs.iter().map(|program| real.ask(program, launch));
        let binaries = asked.collect::<Result<_, _>>()?;
        Ok(Self { binaries, launch, guest: None, tries: 1, command, interrupt })
    }

    /// Plays every case on every binary that it is for, `repeat` times. True if nothing differs.
    pub(super) fn play(
        &self,
        cases: &[Case],
        repeat: u32,
        jobs: Option<NonZeroUsize>,
    ) -> Result<bool, CliError> {
        let plays: Vec<_> = (0..repeat)
            .flat_map(|_| {
                cases.iter().flat_map(|case| self.binaries.iter().map(move |binary| Play { case, binary }))
            })
            .filter(|play| play.case.is_for(play.binary.release))
            .filter(|play| self.guest.is_none() || play.case.is_played_on(World::Guest))
            .collect();
        if plays.is_empty() {
            return Err(SuiteError::NoneFor(self.binaries[0].release).into());
        }
        let names: Vec<_> = self.binaries.iter().map(Binary::version_name).collect();
        let mut output =
            Output::start(&format!("{} on QEMU {}", self.command, names.join(", ")), plays.len());
        for binary in self.binaries.iter().filter(|binary| !binary.exact) {
            let Binary { program, release, .. } = binary;
            let version = binary.version_name();
            output.line(&format!(
                "{program} is {version}, which the simulator does not know: compared with {release}"
            ));
        }
        let mut matrix = Matrix::new(&self.binaries);
        workers::each(
            &plays,
            jobs,
            || Real::new(&self.interrupt).map(|real| (self.simulator(), real)),
            |start, play| match start {
                Ok((simulator, real)) => self.tried(simulator, real, play),
                Err(error) => Err(CliError::Runtime(std::io::Error::other(error.to_string()))),
            },
            |play, verdict| {
                let verdict = verdict?;
                let name = format!("{} on {}", play.case.scenario.id, play.binary.version_name());
                output.verdict(&name, &verdict);
                matrix.note(play, &verdict);
                Ok::<_, CliError>(())
            },
        )?;
        if self.command == "conform" {
            matrix.lines().iter().for_each(|line| output.line(line));
        }
        output.close()
    }

    /// The simulator of what is played on the real ones.
    fn simulator(&self) -> Simulator {
        match &self.guest {
            Some(guest) => Simulator::new().with_agent(guest.agent),
            None => Simulator::new(),
        }
    }

    /// Plays again what differs, and says so of what is the same then.
    fn tried(
        &self,
        simulator: &mut Simulator,
        real: &mut Real,
        play: &Play<'_>,
    ) -> Result<Verdict, CliError> {
        let first = self.verdict(simulator, real, play)?;
        for _ in 1..self.tries {
            let Verdict::Failed { findings, repeat } = &first else { break };
            if self.verdict(simulator, real, play)? == Verdict::Passed {
                return Ok(Verdict::Unsteady { findings: findings.clone(), repeat: repeat.clone() });
            }
        }
        Ok(first)
    }

    fn verdict(
        &self,
        simulator: &mut Simulator,
        real: &mut Real,
        play: &Play<'_>,
    ) -> Result<Verdict, CliError> {
        let Play { case, binary } = play;
        if self.guest.is_none() && !case.is_played_on(World::Qemu) {
            let boots = case.is_played_on(World::Guest);
            let only = if boots { "a guest that boots: conform --guest" } else { "the simulator" };
            return Ok(Verdict::Skipped(format!("only for {only}")));
        }
        let on_qemu = real.play(case, binary, self.guest.as_ref())?;
        let mut findings: Vec<_> = on_qemu.findings.iter().map(|found| format!("QEMU: {found}")).collect();
        if case.is_played_on(World::Sim) {
            let simulated = simulator.play(&case.scenario, binary.release, case.scenario.order())?;
            findings.extend(simulated.findings.iter().map(|found| format!("simulator: {found}")));
            // How far each lane has come when the driver is killed is a matter of time.
            if !case.scenario.kills_the_driver() {
                let differences = compare(&simulated.lines(), &on_qemu.lines());
                findings.extend(differences.iter().map(|found| format!("- simulator, + QEMU, {found}")));
            }
        }
        if findings.is_empty() {
            return Ok(Verdict::Passed);
        }
        Ok(Verdict::Failed { findings, repeat: self.repeat(play) })
    }

    /// The command line that plays this once more.
    fn repeat(&self, play: &Play<'_>) -> String {
        let target = if self.command == "run" { " --target qemu" } else { "" };
        let (path, program) = (quoted(&play.case.path), quoted(&play.binary.program));
        let guest = self.guest.iter().map(|guest| format!(" --guest {}", quoted(guest.folder())));
        let guest: String = guest.collect();
        format!(
            "freezeframe {} {path}{target} --qemu {program}{guest}{}",
            self.command,
            self.launch.repeated()
        )
    }
}

/// Scenarios down, binaries across.
struct Matrix {
    columns: Vec<String>,
    rows: BTreeMap<String, BTreeMap<String, &'static str>>,
}

impl Matrix {
    fn new(binaries: &[Binary]) -> Self {
        Self { columns: binaries.iter().map(Binary::version_name).collect(), rows: BTreeMap::new() }
    }

    /// A failure in any repetition is what the cell shows.
    fn note(&mut self, play: &Play<'_>, verdict: &Verdict) {
        let cell = match verdict {
            Verdict::Passed => "same",
            Verdict::Unsteady { .. } => "again",
            Verdict::Failed { .. } => "DIFFERS",
            Verdict::Skipped(_) => "skipped",
        };
        let row = self.rows.entry(play.case.scenario.id.clone()).or_default();
        let before = row.entry(play.binary.version_name()).or_insert(cell);
        if *before != "DIFFERS" {
            *before = cell;
        }
    }

    fn lines(&self) -> Vec<String> {
        let width = self.rows.keys().map(String::len).max().unwrap_or(0);
        let row = |name: &str, cells: Vec<&str>| {
            let cells: Vec<_> = cells.into_iter().map(|cell| format!("{cell:<8}")).collect();
            format!("{name:<width$}  {}", cells.join(" ")).trim_end().to_owned()
        };
        let head = row("", self.columns.iter().map(String::as_str).collect());
        let rows = self.rows.iter().map(|(id, cells)| {
            let cell = |column| cells.get(column).copied().unwrap_or("-");
            row(id, self.columns.iter().map(cell).collect())
        });
        std::iter::once(head).chain(rows).collect()
    }
}
