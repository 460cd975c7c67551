//! Thaws a guest when its time is up, even when whoever had it frozen has died.
//!
//! It is this very program, started anew in a process group of its own with nothing of the caller's left to it: no terminal,
//! no pipe, no connection. It holds nothing while it waits, the agent's port least of all.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell that starts this program once more"
)]

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use freezeframe_driver::{
    agent::{Agent, AgentError, FreezeStatus},
    env::{Endpoint, Env as _, tokio::TokioEnv},
};
use serde_json::json;

use super::{FsError, ticket::Ticket};
use crate::cli::told::Told;

/// How long one try takes at most.
const TRY_WITHIN: Duration = Duration::from_secs(20);

/// How long between two tries, and how many there are: ten minutes and more.
const PAUSE: Duration = Duration::from_secs(5);
const TRIES: u32 = 60;

#[derive(Debug, Args)]
pub(super) struct WatchdogArgs {
    #[arg(long)]
    agent: Utf8PathBuf,
    #[arg(long)]
    word: String,
    #[arg(long)]
    after: u32,
}

/// Starts one, and writes the ticket that it will look for.
pub(in crate::cli) async fn start(env: &TokioEnv, agent: &Utf8Path, after: u32) -> io::Result<Ticket> {
    let (ticket, word) = (Ticket::at(agent), env.unique_id());
    if let Err(error) = ticket.write(env, &word).await {
        // What was written before it failed stands for no freeze.
        ticket.remove(env).await;
        return Err(error);
    }
    let started = Command::new(std::env::current_exe()?)
        .args(["fs", "watchdog", "--agent", agent.as_str(), "--word", &word, "--after", &after.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    if let Err(error) = started {
        ticket.remove(env).await;
        return Err(error);
    }
    Ok(ticket)
}

/// Waits, and thaws what is still frozen by the freeze that it was started for.
///
/// # Errors
/// [`FsError`], when the agent did not answer however often it was tried.
pub(super) async fn watch(arguments: &WatchdogArgs) -> Result<Told, FsError> {
    let WatchdogArgs { agent, word, after } = arguments;
    let (env, ticket) = (TokioEnv::new(), Ticket::at(agent));
    env.sleep_until(Duration::from_secs((*after).into())).await;
    let mut tries = 0;
    while ticket.stands(&env, word).await {
        match thaw(&env, agent).await {
            Ok(()) => ticket.remove(&env).await,
            Err(error) if tries == TRIES => return Err(error.into()),
            Err(_) => env.sleep_until(env.now() + PAUSE).await,
        }
        tries += 1;
    }
    Ok(Told::new("", json!({})))
}

async fn thaw(env: &TokioEnv, socket: &Utf8Path) -> Result<(), AgentError> {
    let deadline = env.now() + TRY_WITHIN;
    let mut agent = Agent::connect(env, &Endpoint::Unix(socket.to_owned()), deadline).await?;
    match agent.thaw(deadline).await {
        Err(error) if agent.freeze_status(deadline).await? == FreezeStatus::Frozen => Err(error),
        // Thawed, by this or before; its hook may have failed.
        _ => Ok(()),
    }
}
