//! Ends the machine, to put another in its place.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{
    client::CommandError,
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
    fn off(&self) -> Remains {
        "the machine is off, and what was only in its memory is lost; its disks are as they were: start it from them"
            .to_owned()
    }
}

impl Kind for StopMachine {
    fn lane(&self) -> String {
        "stop".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        // A monitor has one client, and who ends the machine may want to be it.
        live.close();
        let within = live.deadline().saturating_sub(live.env().now());
        let stop = Stop { domain: &self.domain, monitor: &self.monitor, within };
        self.launcher.stop(live.env(), &stop).await.map_err(StepError::Launch)
    }

    /// Who answers has not ended.
    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        live.ask(&QueryStatus {}).await?;
        Ok(Happened::No)
    }

    async fn look_back<E: Env>(&self, live: &Live<E>) -> Result<Option<Begun>, Remains> {
        match live.ask(&QueryStatus {}).await {
            Ok(_) => Ok(None),
            Err(CommandError::Lost { .. }) => Ok(Some(Begun::Whole)),
            Err(_) => Ok(Some(Begun::Part)),
        }
    }

    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        if begun != Begun::Whole && live.ask(&QueryStatus {}).await.is_ok() {
            return Ok(());
        }
        self.undo_outside(live.env(), begun).await
    }

    async fn undo_outside<E: Env>(&self, _env: &E, begun: Begun) -> Result<(), Remains> {
        match begun {
            Begun::Whole => Err(self.off()),
            Begun::Part | Begun::Refused => Err(self.remains()),
        }
    }

    fn remains(&self) -> Remains {
        format!("the machine may be off, with its disks as they were: see whether `{}` answers", self.monitor)
    }
}

impl fmt::Display for StopMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("end the machine")
    }
}
