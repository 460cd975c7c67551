//! Plays on real QEMUs, one after the other in one thread, each given up when the command is asked to end.

use std::{collections::BTreeMap, rc::Rc};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::capabilities::Capabilities;
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

use super::{CliError, Launch, interrupt::Interrupt};
use crate::{
    fidelity::{
        live::{self, Unplayable},
        recording::Recording,
    },
    machine,
    play::{self, Run},
    suite::Case,
    world::{
        World as _,
        guest::Guest,
        qemu::{Binary, QemuWorld},
    },
};

/// What one thread needs for its plays.
pub(super) struct Real {
    runtime: Runtime,
    interrupt: Interrupt,
    /// What each binary can do, asked once.
    capabilities: BTreeMap<Utf8PathBuf, Rc<Capabilities>>,
}

impl Real {
    pub(super) fn new(interrupt: &Interrupt) -> Result<Self, CliError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
        Ok(Self { runtime, interrupt: interrupt.clone(), capabilities: BTreeMap::new() })
    }

    /// Asks a program what QEMU it is.
    pub(super) fn ask(&self, program: &Utf8Path, launch: &Launch) -> Result<Binary, CliError> {
        let launch = launch.into();
        Ok(self.block_on(Binary::ask(program, &launch))??)
    }

    /// Plays a case on a QEMU of its own, with a guest that boots if there is one.
    pub(super) fn play(
        &mut self,
        case: &Case,
        binary: &Binary,
        guest: Option<&Guest>,
    ) -> Result<Run, CliError> {
        let known = self.capabilities.get(&binary.program).cloned();
        let played = async {
            let machine = machine::of(&case.scenario);
            let world = match guest {
                Some(guest) => QemuWorld::boot(binary, &machine, guest).await?,
                None => QemuWorld::start(binary, &machine).await?,
            };
            let capabilities = match known {
                Some(known) => known,
                None => Rc::new(play::capabilities(&world).await?),
            };
            let run = play::play(&case.scenario, &world, capabilities.clone()).await;
            world.kill_qemu().await;
            Ok::<_, CliError>((run?, capabilities))
        };
        let (run, capabilities) = self.block_on(played)??;
        self.capabilities.insert(binary.program.clone(), capabilities);
        Ok(run)
    }

    /// Makes a recording anew, or says why not.
    pub(super) fn record(
        &self,
        recording: &Recording,
        binary: &Binary,
    ) -> Result<Result<Recording, Unplayable>, CliError> {
        self.block_on(live::record(recording, binary))
    }

    /// Whatever was started is gone when this returns: its owner is dropped, and so is every task.
    fn block_on<T>(&self, work: impl Future<Output = T>) -> Result<T, CliError> {
        LocalSet::new().block_on(&self.runtime, self.interrupt.or(work))
    }
}
