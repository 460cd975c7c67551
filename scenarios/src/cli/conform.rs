//! `freezeframe conform`: every scenario on the simulator's matching release and on real QEMUs, compared.

use std::{collections::BTreeMap, num::NonZeroUsize, rc::Rc};

use freezeframe_driver::capabilities::Capabilities;
use freezeframe_sim::Oracle;
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

use super::{
    CliError, ConformArgs,
    output::{Output, Verdict},
    workers,
};
use crate::{
    language, machine,
    play::{self, Run},
    suite::{self, Case},
    transcript::compare,
    world::{
        World as _,
        qemu::{Binary, QemuWorld},
        sim::Simulator,
    },
};

/// Compares. True if nothing differs.
pub(super) fn conform(arguments: &ConformArgs) -> Result<bool, CliError> {
    let selection = &arguments.selection;
    let cases = suite::load(&selection.paths, selection.filter.as_deref())?;
    let ask = async {
        let mut binaries = Vec::new();
        for program in &arguments.qemu {
            binaries.push(Binary::ask(program, &arguments.accelerator.accel).await?);
        }
        Ok::<_, CliError>(binaries)
    };
    let binaries = block_on(ask)??;
    against(&cases, &binaries, arguments.repeat.get(), selection.jobs, "conform")
}

/// Runs a future of the real world on this thread.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    Ok(LocalSet::new().block_on(&runtime()?, future))
}

fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)
}

/// One play on a real QEMU.
struct Play<'a> {
    case: &'a Case,
    binary: &'a Binary,
}

/// Plays every case on every binary that it is for, `repeat` times, against the simulator.
pub(super) fn against(
    cases: &[Case],
    binaries: &[Binary],
    repeat: u32,
    jobs: Option<NonZeroUsize>,
    command: &str,
) -> Result<bool, CliError> {
    let plays: Vec<_> = (0..repeat)
        .flat_map(|_| cases.iter().flat_map(|case| binaries.iter().map(move |binary| Play { case, binary })))
        .filter(|play| play.case.is_for(play.binary.release))
        .collect();
    let names: Vec<_> = binaries.iter().map(Binary::version_name).collect();
    let mut output = Output::start(&format!("{command} on QEMU {}", names.join(", ")), plays.len());
    for binary in binaries.iter().filter(|binary| !binary.exact) {
        let Binary { program, release, .. } = binary;
        output.line(&format!(
            "{program} is {}, which the simulator does not know: compared with {release}",
            binary.version_name()
        ));
    }
    let mut matrix = Matrix::new(binaries);
    let mut broken = None;
    workers::each(
        &plays,
        jobs,
        Player::new,
        |player, play| {
            player
                .as_mut()
                .map_err(|error| CliError::Runtime(std::io::Error::other(error.to_string())))
                .and_then(|player| player.verdict(play))
        },
        |play, verdict| match verdict {
            Ok(verdict) => {
                output.verdict(
                    &format!("{} on {}", play.case.scenario.id, play.binary.version_name()),
                    &verdict,
                );
                matrix.note(play, &verdict);
            }
            Err(error) => broken = broken.take().or(Some(error)),
        },
    );
    if let Some(error) = broken {
        return Err(error);
    }
    if command == "conform" {
        matrix.lines().iter().for_each(|line| output.line(line));
    }
    Ok(output.close())
}

/// What one thread needs for its plays.
struct Player {
    runtime: Runtime,
    simulator: Simulator,
    /// What each binary can do, asked once.
    capabilities: BTreeMap<camino::Utf8PathBuf, Rc<Capabilities>>,
}

impl Player {
    fn new() -> Result<Self, CliError> {
        Ok(Self { runtime: runtime()?, simulator: Simulator::new(), capabilities: BTreeMap::new() })
    }

    fn verdict(&mut self, play: &Play<'_>) -> Result<Verdict, CliError> {
        if !play.case.scenario.targets.contains(&language::World::Qemu) {
            return Ok(Verdict::Skipped("only for the simulator".to_owned()));
        }
        let simulated =
            self.simulator.play(&play.case.scenario, play.binary.release, Oracle::default_order())?;
        let real = self.real(play)?;
        let mut findings: Vec<_> =
            simulated.findings.iter().map(|found| format!("simulator: {found}")).collect();
        findings.extend(real.findings.iter().map(|found| format!("QEMU: {found}")));
        let differences = compare(&simulated.lines(), &real.lines());
        findings.extend(differences.iter().map(|found| format!("- simulator, + QEMU, {found}")));
        if findings.is_empty() {
            return Ok(Verdict::Passed);
        }
        let repeat = format!("freezeframe conform {} --qemu {}", play.case.path, play.binary.program);
        Ok(Verdict::Failed { findings, repeat })
    }

    fn real(&mut self, play: &Play<'_>) -> Result<Run, CliError> {
        let known = self.capabilities.get(&play.binary.program).cloned();
        let played = async {
            let world = QemuWorld::start(play.binary, &machine::of(&play.case.scenario)).await?;
            let capabilities = match known {
                Some(known) => known,
                None => Rc::new(play::capabilities(&world).await?),
            };
            let run = play::play(&play.case.scenario, &world, capabilities.clone()).await;
            world.kill_qemu().await;
            Ok::<_, CliError>((run?, capabilities))
        };
        let (run, capabilities) = LocalSet::new().block_on(&self.runtime, played)?;
        self.capabilities.insert(play.binary.program.clone(), capabilities);
        Ok(run)
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
