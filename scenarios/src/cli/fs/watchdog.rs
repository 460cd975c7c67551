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
    convert::Infallible,
    io,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use freezeframe_driver::{
    agent::{Agent, Guard},
    env::{Endpoint, Env as _, tokio::TokioEnv},
    race::{First, race},
};
use serde_json::json;

use super::{FsError, Thawed, ticket::Ticket};
use crate::cli::told::Told;

/// How often it looks whether the freeze stands, and whether it is over.
const LOOK: Duration = Duration::from_millis(250);

/// How long, beyond the time that an operation may take, until a guest is thawed whose caller has died.
const THAW_AFTER: u32 = 60;

/// Whether somebody else is to thaw the guest should this command be killed while it stands frozen.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct GuardArgs {
    /// With --quiesce: should this command be killed, a process of its own thaws the guest so long after it was begun
    /// [default: 60 beyond --within]
    #[arg(long, value_name = "SECONDS", requires = "quiesce", value_parser = clap::value_parser!(u32).range(1..))]
    thaw_after: Option<u32>,
    /// With --quiesce: should this command be killed, the guest stays frozen until `recover` or `fs thaw`
    #[arg(long, requires = "quiesce", conflicts_with = "thaw_after")]
    no_watchdog: bool,
}

impl GuardArgs {
    /// Does what may freeze the guest, for so many seconds at most. Whoever is to thaw it should this process die is there before, and is
    /// let go as soon as the guest is: what somebody else freezes then is theirs. What freezes nothing starts nobody.
    pub(in crate::cli) async fn guard<T>(
        &self,
        agent: &Utf8Path,
        within: u32,
        freeze: Guard,
        work: impl Future<Output = T>,
    ) -> T {
        if self.no_watchdog {
            return work.await;
        }
        let env = TokioEnv::new();
        let after = self.thaw_after.unwrap_or(within.saturating_add(THAW_AFTER));
        let ticket = Ticket::of(agent, &env.unique_id());
        let mut thawed = freeze.watch_frozen();
        freeze.want();
        let over = async {
            freeze.called().await;
            let started = start(&env, agent, Bounds { after, once_it_stands: None }, &ticket).await;
            freeze.is_there(started.map_err(|error| error.to_string()));
            let was_frozen = thawed.wait_for(|frozen| *frozen).await.is_ok();
            if was_frozen && thawed.wait_for(|frozen| !*frozen).await.is_ok() {
                ticket.remove(&env).await;
            }
            std::future::pending::<Infallible>().await
        };
        let done = match race(over, work).await {
            First::Left(never) => match never {},
            First::Right(done) => done,
        };
        // One that could not be let go is left to it.
        if !*freeze.watch_frozen().borrow() {
            ticket.remove(&env).await;
        }
        done
    }
}

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
    #[command(flatten)]
    bounds: Bounds,
}

/// When its time is up, in seconds. A freeze may take any time, and whoever was told that it stands counts from then.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Bounds {
    /// Since it was started.
    #[arg(long)]
    pub(super) after: u32,
    /// Since the note says that the freeze stands, instead.
    #[arg(long)]
    pub(super) once_it_stands: Option<u32>,
}

/// Starts one, and writes the ticket that it will look for.
pub(super) async fn start(
    env: &TokioEnv,
    agent: &Utf8Path,
    bounds: Bounds,
    ticket: &Ticket,
) -> io::Result<()> {
    if let Err(error) = ticket.begin(env).await {
        // What was written before it failed stands for no freeze.
        ticket.remove(env).await;
        return Err(error);
    }
    let started = Command::new(std::env::current_exe()?)
        .args(["fs", "watchdog", "--agent", agent.as_str(), "--word", ticket.word()])
        .args(["--after", &bounds.after.to_string()])
        .args(bounds.once_it_stands.map(|seconds| format!("--once-it-stands={seconds}")))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    if let Err(error) = started {
        ticket.remove(env).await;
        return Err(error);
    }
    Ok(())
}

/// Waits, and thaws what is still frozen by the freeze that it was started for.
///
/// # Errors
/// [`FsError`], when the agent did not answer however often it was tried.
pub(super) async fn watch(arguments: &WatchdogArgs) -> Result<Told, FsError> {
    let WatchdogArgs { agent, word, bounds } = arguments;
    let (env, ticket) = (TokioEnv::new(), Ticket::of(agent, word));
    let mut due = env.now() + Duration::from_secs(bounds.after.into());
    let mut once_it_stands = bounds.once_it_stands;
    while env.now() < due && ticket.stands(&env).await {
        if let Some(seconds) = once_it_stands
            && ticket.is_noted(&env).await
        {
            due = env.now() + Duration::from_secs(seconds.into());
            once_it_stands = None;
        }
        env.sleep_until(due.min(env.now() + LOOK)).await;
    }
    let mut tries = 0;
    while ticket.stands(&env).await {
        match thaw(&env, agent).await {
            Ok(_) => ticket.remove(&env).await,
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => env.sleep_until(env.now() + PAUSE).await,
        }
        tries += 1;
    }
    Ok(Told::new("", json!({})))
}

async fn thaw(env: &TokioEnv, socket: &Utf8Path) -> Result<Thawed, FsError> {
    let deadline = env.now() + TRY_WITHIN;
    let mut agent = Agent::connect(env, &Endpoint::Unix(socket.to_owned()), deadline).await?;
    super::let_go(&mut agent, deadline).await
}
