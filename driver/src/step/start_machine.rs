//! Starts a machine.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Happened, Kind, Remains};
use crate::{
    commands::QueryStatus,
    domain_xml::DomainXml,
    env::Env,
    error::StepError,
    launch::{Launcher, Start, Stop, arguments::Power},
    live::Live,
};

/// Starts a machine, and waits until its monitor answers. Undoing ends it: it is in nobody's way then, and nor is what it was
/// started from. What was made for the start alone goes: the overlays of `<transient/>` disks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartMachine {
    /// Who starts it.
    pub launcher: Launcher,
    /// What machine it is.
    pub domain: DomainXml,
    /// Where its monitor is to listen.
    pub monitor: Utf8PathBuf,
    /// How it stands then.
    pub power: Power,
}

impl StartMachine {
    /// What is left to be done where it has not started, and there is no way back.
    pub(crate) fn is_due(&self) -> Remains {
        let images = self.domain.disks().filter_map(|disk| disk.path().map(|path| format!("`{path}`")));
        let images = images.collect::<Vec<_>>().join(", ");
        format!("else the machine, which was ended, is to be started in {images}")
    }
}

impl Kind for StartMachine {
    const UNDO: Option<&'static str> = Some("end it");

    fn lane(&self) -> String {
        "start".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let within = live.deadline().saturating_sub(live.env().now());
        let start = Start { domain: &self.domain, power: self.power, monitor: &self.monitor, within };
        let monitor = self.launcher.start(live.env(), &start).await.map_err(StepError::Launch)?;
        // The steps behind this one have a connection of their own, and a monitor serves one at a time.
        monitor.client().close();
        Ok(())
    }

    async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        live.ask(&QueryStatus {}).await?;
        Ok(Happened::Yes)
    }

    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        live.close();
        self.undo_outside(live.env(), begun).await
    }

    /// One that never came up needs no end.
    async fn undo_outside<E: Env>(&self, env: &E, _begun: Begun) -> Result<(), Remains> {
        let within = crate::UNDO_WITHIN;
        let stop = Stop { domain: &self.domain, monitor: &self.monitor, within };
        let stopped = self.launcher.stop(env, &stop).await;
        stopped.map_err(|error| format!("{}: {error}", self.remains()))?;
        self.launcher.clear(env, &self.domain, within).await.map_err(|error| error.to_string())
    }

    fn remains(&self) -> Remains {
        format!("a QEMU may run at `{}`: end it", self.monitor)
    }
}

impl fmt::Display for StartMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.power {
            Power::Running => "start the machine",
            Power::Paused => "start the machine, paused",
            Power::Incoming => "start the machine, waiting for its memory",
        })
    }
}
