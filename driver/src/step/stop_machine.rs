//! Ends the machine, to put another in its place.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Remains};
use crate::{
    commands::QueryStatus,
    domain_xml::DomainXml,
    env::Env,
    error::StepError,
    launch::{Launcher, Stop},
    live::Live,
};

/// Ends the machine as its launcher does, the guest with it, and waits until its images are free.
///
/// The guest's memory is gone then. Its disks are as they were, which is what undoing tells: the machine is not started again,
/// for a guest that boots by itself is not what was there before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StopMachine {
    /// Who ends it.
    pub launcher: Launcher,
    /// What machine it is.
    pub domain: DomainXml,
    /// Where its monitor listens.
    pub monitor: Utf8PathBuf,
}

impl StopMachine {
    pub(super) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        // A monitor has one client, and who ends the machine may want to be it.
        live.close();
        let within = live.deadline().saturating_sub(live.env().now());
        let stop = Stop { domain: &self.domain, monitor: &self.monitor, within };
        self.launcher.stop(live.env(), &stop).await.map_err(StepError::Launch)
    }

    /// Who answers has not ended.
    pub(super) async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        live.ask(&QueryStatus {}).await?;
        Ok(Happened::No)
    }

    pub(super) async fn undo<E: Env>(&self, live: &Live<E>, begun: Begun) -> Result<(), Remains> {
        if begun != Begun::Whole && live.ask(&QueryStatus {}).await.is_ok() {
            return Ok(());
        }
        self.undo_outside(begun)
    }

    pub(super) fn undo_outside(&self, begun: Begun) -> Result<(), Remains> {
        match begun {
            Begun::Whole => Err(self.off()),
            Begun::Part | Begun::Refused => Err(self.remains()),
        }
    }

    fn off(&self) -> Remains {
        "the machine is off, and what was only in its memory is lost; its disks are as they were: start it from them"
            .to_owned()
    }

    pub(super) fn remains(&self) -> Remains {
        format!("the machine may be off, with its disks as they were: see whether `{}` answers", self.monitor)
    }
}
