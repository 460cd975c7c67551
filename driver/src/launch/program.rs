//! A launcher of the user's own: one JSON object in, one out.
//!
//! The contract is `docs/launcher.md`.

use std::time::Duration;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::{LaunchError, Start, Stop, arguments::Power, cannot_run};
use crate::{
    client::{Client, CommandError},
    commands::{QueryBlock, QueryStatus},
    env::{Ended, Env, HostCommand, one_name},
    mark,
    observed::images,
    words,
};

/// Who asks the machine that was started.
const LANE: &str = "started";

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

/// Whether the machine that answers is the one that was asked for: its guest stands as it was to, and its disks are in their images.
/// A program that starts what it always starts would leave the guest in images that are given up, or removed, behind it.
pub(super) async fn check<E: Env>(
    env: &E,
    path: &Utf8Path,
    start: &Start<'_>,
    client: &Client<E>,
    deadline: Duration,
) -> Result<(), LaunchError> {
    let broken = |why: String| LaunchError::BrokenContract { program: path.to_owned(), why };
    let unasked =
        |error: CommandError| broken(format!("the machine that it has started: {}", mark::told(&error)));
    let status = client.execute(LANE, &QueryStatus {}, deadline).await.map_err(unasked)?.status;
    let wanted: &[&str] = match start.power {
        Power::Running => &["running"],
        Power::Paused => &["prelaunch", "paused"],
        Power::Incoming => &["inmigrate"],
    };
    if !wanted.contains(&status.as_str()) {
        return Err(broken(format!("the guest was to be `{}`, and is `{status}`", wanted.join("` or `"))));
    }
    let devices = client.execute(LANE, &QueryBlock {}, deadline).await.map_err(unasked)?;
    let mut open = Vec::new();
    for top in devices.iter().filter_map(|device| device.inserted.as_ref()) {
        let mut chain = Vec::new();
        for image in images(&top.image) {
            chain.push(one_name(env, &image).await);
        }
        open.push(chain);
    }
    for disk in start.domain.disks().filter(|disk| !disk.read_only()) {
        let Some(file) = disk.path() else { continue };
        let real = one_name(env, file).await;
        // What is thrown away when the machine ends is over it.
        let depth = if disk.transient() { 2 } else { 1 };
        if !open.iter().any(|chain| chain.iter().take(depth).any(|image| *image == real)) {
            let target = &disk.target;
            return Err(broken(format!(
                "disk {target} was to be in `{file}`, and no disk of the machine is"
            )));
        }
    }
    Ok(())
}

pub(super) async fn stop<E: Env>(env: &E, path: &Utf8Path, stop: &Stop<'_>) -> Result<(), LaunchError> {
    let Stop { domain, monitor, within } = *stop;
    let (name, domain) = (domain.name(), domain.element().document());
    tell(env, path, within, &Order::Stop { name: &name, domain: &domain, monitor }).await
}

async fn tell<E: Env>(
    env: &E,
    path: &Utf8Path,
    within: Duration,
    order: &Order<'_>,
) -> Result<(), LaunchError> {
    let program = || path.to_owned();
    let broken = |why: String| LaunchError::BrokenContract { program: program(), why };
    let input = serde_json::to_vec(order).map_err(|error| broken(error.to_string()))?;
    let command = HostCommand { input: Some(input), ..HostCommand::new(path, [""; 0], within) };
    let ran = env.run(&command).await.map_err(|source| cannot_run(path, source))?;
    match ran.ended {
        Ended::Exited(0) => {}
        how @ Ended::Exited(_) => {
            let text = ran.words();
            return Err(match text.is_empty() {
                true => broken(format!("it ended with {how}, and said nothing on standard error")),
                false => LaunchError::Refused { program: program(), text },
            });
        }
        how => return Err(LaunchError::Killed { program: program(), how }),
    }
    match serde_json::from_slice(&ran.stdout) {
        Ok(Answer::Done {}) => Ok(()),
        Ok(Answer::Refused { why }) => {
            Err(LaunchError::Refused { program: program(), text: words::plain(&why) })
        }
        Err(error) => Err(broken(format!("its answer is none: {}", words::of_error(&error)))),
    }
}
