//! Tries whether a machine can be started, while the one that it is to follow runs.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains};
use crate::{
    domain_xml::DomainXml,
    env::Env,
    error::StepError,
    launch::{Launcher, Start, arguments::Power},
    live::Live,
};

/// Asks a QEMU of its own whether it takes the machine's arguments. What it would refuse is told while the old machine still runs.
/// Nothing is changed, and the QEMU ends with the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TryMachine {
    /// Who is to start it.
    pub launcher: Launcher,
    /// What machine it is.
    pub domain: DomainXml,
    /// Where its monitor is to listen.
    pub monitor: Utf8PathBuf,
}

impl Kind for TryMachine {
    const OUTSIDE_QEMU: bool = true;

    fn lane(&self) -> String {
        "try".into()
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        let within = live.deadline().saturating_sub(live.env().now());
        let start = Start { domain: &self.domain, power: Power::Paused, monitor: &self.monitor, within };
        self.launcher.try_out(live.env(), &start).await.map_err(StepError::Launch)
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        "a QEMU without images, which was to end at once, may still be there".to_owned()
    }
}

impl fmt::Display for TryMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("try whether QEMU takes the new machine")
    }
}
