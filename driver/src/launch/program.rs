//! A launcher of the user's own: one JSON object in, one out.
//!
//! The contract is `docs/launcher.md`.

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::{LaunchError, Start, Stop, arguments::Power, cannot_run};
use crate::env::{Ended, Env, HostCommand};

/// What the program is told.
#[derive(Debug, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Order<'a> {
    /// Start the machine.
    Start {
        /// The machine's name.
        name: &'a str,
        /// Its whole `<domain>` document.
        domain: &'a str,
        /// How it is to stand.
        state: Power,
        /// Where its monitor is to listen.
        monitor: &'a Utf8Path,
    },
    /// Stop the machine.
    Stop {
        /// The machine's name.
        name: &'a str,
        /// Its whole `<domain>` document.
        domain: &'a str,
        /// Where its monitor listens.
        monitor: &'a Utf8Path,
    },
}

/// What the program answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Answer {
    /// It is done.
    Done {},
    /// It is not done, and nothing was changed.
    Refused {
        /// Why.
        why: String,
    },
}

pub(super) async fn start<E: Env>(env: &E, path: &Utf8Path, start: &Start<'_>) -> Result<(), LaunchError> {
    let Start { domain, power, monitor, within } = *start;
    let (name, domain) = (domain.name(), domain.element().document());
    tell(env, path, within, &Order::Start { name: &name, domain: &domain, state: power, monitor }).await
}

pub(super) async fn stop<E: Env>(env: &E, path: &Utf8Path, stop: &Stop<'_>) -> Result<(), LaunchError> {
    let Stop { domain, monitor, within } = *stop;
    let (name, domain) = (domain.name(), domain.element().document());
    tell(env, path, within, &Order::Stop { name: &name, domain: &domain, monitor }).await
}

async fn tell<E: Env>(
    env: &E,
    path: &Utf8Path,
    within: std::time::Duration,
    order: &Order<'_>,
) -> Result<(), LaunchError> {
    let program = || path.to_owned();
    let broken = |why: String| LaunchError::BrokenContract { program: program(), why };
    let input = serde_json::to_vec(order).map_err(|error| broken(error.to_string()))?;
    let command = HostCommand { input: Some(input), ..HostCommand::new(path, [""; 0], within) };
    let ran = env.run(&command).await.map_err(|source| cannot_run(path, source))?;
    match ran.ended {
        Ended::Exited(0) => {}
        Ended::Exited(_) => return Err(LaunchError::Refused { program: program(), text: ran.words() }),
        how => return Err(LaunchError::Killed { program: program(), how }),
    }
    match serde_json::from_slice(&ran.stdout) {
        Ok(Answer::Done {}) => Ok(()),
        Ok(Answer::Refused { why }) => Err(LaunchError::Refused { program: program(), text: why }),
        Err(error) => Err(broken(format!("its answer is none: {error}"))),
    }
}
