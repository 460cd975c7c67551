//! The QEMU process: block graph, jobs, run state and the commands on them.
use serde_json::{Map, Value};

use crate::{host::Host, machine::Machine, release::Release};

pub mod context;
pub use context::{Context, Event, QmpError};

/// What the model asked to be called for later.
#[derive(Debug, Clone, PartialEq)]
pub enum Timer {}

/// One QEMU process.
#[derive(Debug)]
pub struct Qemu {}

impl Qemu {
    /// Starts QEMU on a machine; its images are put on the host.
    pub fn new(_machine: &Machine, _release: Release, _host: &mut Host) -> Self {
        Self {}
    }

    /// Carries out one command whose arguments the release's schema has accepted.
    pub fn execute(
        &mut self,
        _command: &str,
        _arguments: Map<String, Value>,
        _cx: &mut Context<'_>,
    ) -> Result<Value, QmpError> {
        Err(QmpError::generic("not simulated"))
    }

    /// Carries out what it had asked for with [`Context::schedule`].
    pub fn timer(&mut self, timer: Timer, _cx: &mut Context<'_>) {
        match timer {}
    }

    /// Whether the process has ended, by `quit` or by a crash.
    pub fn gone(&self) -> bool {
        false
    }
}
