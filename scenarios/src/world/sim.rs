//! The simulated world.
use freezeframe_sim::{Oracle, Release};

use crate::{
    language::Scenario,
    play::{CannotPlay, Run},
};

/// Plays scenarios on the simulator.
#[derive(Debug, Default)]
pub struct Simulator {}

impl Simulator {
    /// A simulator.
    pub fn new() -> Self {
        Self {}
    }
    /// Plays a scenario.
    pub fn play(
        &mut self,
        _scenario: &Scenario,
        _release: Release,
        _oracle: Oracle,
    ) -> Result<Run, CannotPlay> {
        Ok(Run { lines: Vec::new(), findings: Vec::new() })
    }
}
