//! Playing scenarios in the simulated world, one after the other.

use std::{collections::BTreeMap, rc::Rc};

use freezeframe_driver::capabilities::Capabilities;
use freezeframe_sim::{Machine, Oracle, Release, Simulation, exec::Spawner, oracle::Trace};

use super::SimWorld;
use crate::{
    language::Scenario,
    machine,
    play::{self, CannotPlay, Run, Watch},
};

/// Plays scenarios on the simulator, one after the other. It remembers what each release can do, as it remembers it of
/// a real binary.
#[derive(Debug, Default)]
pub struct Simulator {
    capabilities: BTreeMap<Release, Rc<Capabilities>>,
    /// The release of every guest's agent, where it is not QEMU's own.
    agent: Option<Release>,
}

impl Simulator {
    /// A simulator that has asked nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives every guest an agent of this release instead of QEMU's own.
    #[must_use]
    pub fn with_agent(mut self, release: Release) -> Self {
        self.agent = Some(release);
        self
    }

    /// Plays a scenario on a release.
    ///
    /// # Errors
    /// [`CannotPlay`].
    pub fn play(&mut self, scenario: &Scenario, release: Release, oracle: Oracle) -> Result<Run, CannotPlay> {
        self.play_traced(scenario, release, oracle).map(|(run, _)| run)
    }

    /// Plays a scenario on a release, and tells what made this run differ from the default.
    ///
    /// # Errors
    /// [`CannotPlay`].
    pub fn play_traced(
        &mut self,
        scenario: &Scenario,
        release: Release,
        oracle: Oracle,
    ) -> Result<(Run, Trace), CannotPlay> {
        let capabilities = self.capabilities(release)?;
        let machine = self.machine(scenario);
        let simulation = Simulation::new(&machine, release, oracle);
        let mut run =
            within(&simulation, &machine, async |world| play::play(scenario, &world, capabilities).await)?;
        run.findings
            .extend(simulation.world().check_invariants().err().into_iter().flat_map(|broken| broken.0));
        Ok((run, simulation.trace()))
    }

    /// Plays a scenario on a release while somebody looks on, who is made of the world that it is played in. The oracle stays
    /// in that world.
    ///
    /// # Errors
    /// [`CannotPlay`].
    pub fn play_watched(
        &mut self,
        scenario: &Scenario,
        release: Release,
        oracle: Oracle,
        watch: impl FnOnce(SimWorld<Spawner>) -> Rc<dyn Watch>,
    ) -> Result<Run, CannotPlay> {
        let capabilities = self.capabilities(release)?;
        let machine = self.machine(scenario);
        let simulation = Simulation::new(&machine, release, oracle);
        within(&simulation, &machine, async |world| {
            let watch = watch(world.clone());
            play::play_watched(scenario, &world, capabilities, Some(watch)).await
        })
    }

    fn machine(&self, scenario: &Scenario) -> Machine {
        let mut machine = machine::of(scenario);
        if let Some(agent) = &mut machine.agent {
            agent.release = self.agent.or(agent.release);
        }
        machine
    }

    /// What a release can do, asked once.
    ///
    /// # Errors
    /// [`CannotPlay`].
    pub fn capabilities(&mut self, release: Release) -> Result<Rc<Capabilities>, CannotPlay> {
        if let Some(known) = self.capabilities.get(&release) {
            return Ok(known.clone());
        }
        let machine = Machine::new();
        let simulation = Simulation::new(&machine, release, Oracle::default_order());
        let asked = within(&simulation, &machine, async |world| play::capabilities(&world).await)?;
        Ok(self.capabilities.entry(release).or_insert(Rc::new(asked)).clone())
    }
}

/// Runs something in a simulated world until it is done.
fn within<R>(
    simulation: &Simulation,
    machine: &Machine,
    act: impl AsyncFnOnce(SimWorld<Spawner>) -> Result<R, CannotPlay>,
) -> Result<R, CannotPlay> {
    let handle = simulation.handle();
    let world = SimWorld::new(machine, handle.sockets(), handle.spawner());
    simulation.run(act(world)).map_err(|deadlock| CannotPlay::new(deadlock.to_string()))?
}
