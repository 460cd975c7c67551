//! `freezeframe fs`: the file systems of a guest, frozen and thawed by hand, through its agent.
//!
//! For who takes a snapshot by other means in between: of storage, or of disks that freezeframe knows nothing of. A caller
//! that dies in between would leave the guest frozen for ever, so that a freeze comes with a [`watchdog`]: a process of its
//! own, which thaws when its time is up.

pub(super) mod ticket;
pub(super) mod watchdog;

use std::{io, process::ExitCode, time::Duration};

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use freezeframe_driver::{
    agent::{
        Agent, AgentError, FreezeStatus, Presence,
        rest::{Rest, RestError, systems},
    },
    client::Client,
    commands::{QueryChardev, QueryStatus},
    env::{Endpoint, Env as _, tokio::TokioEnv},
    error::{Code, OperationError},
};
use serde_json::json;
use tokio::task::LocalSet;

use self::ticket::Ticket;
use super::{
    CliError,
    snapshot::records,
    told::{Told, tell},
};

/// What a user must know of all verbs.
const HELP: &str = "\
The agent's port serves one program at a time: what libvirt, or a second freezeframe, has connected to answers nobody else.

A freeze is thawed by a process of its own --thaw-after seconds after it was told that it stands, whether or not the caller still lives
then, unless `fs thaw` was called before. Should `fs freeze` be killed before it could tell, it is thawed the time of --within later than
that. A note beside the agent's socket, SOCK.frozen.WORD, tells it whether that freeze still stands: a
freeze that was thawed by other means and begun anew by somebody else within that time would be thawed too. Each freeze has a note of
its own, which another one that fails leaves alone. All that are there go with a thaw by `fs thaw`, or by `freezeframe snapshot recover`.
A thaw is believed only when the agent's status says so too: of a guest that is frozen still the notes stay, and with them whoever thaws it
later. While a note is there, `freezeframe snapshot create` and `disk snapshot` with that
agent neither freeze the guest again nor thaw it, and say by whom it was brought to rest.

Of file systems that somebody else in the guest has frozen before, past its agent, the freeze has no part: whoever it was may let them
go at any time. Then the guest is frozen in part, which is told here, and by those snapshots.

Exit codes: 0 done; 1 failed, or refused: what is said tells how things stand; 2 wrong use.
JSON: freeze: {status, file-systems, thawed-after-seconds: N|null, in-part: why, where it may be so}; thaw: {status, file-systems: N|null}; status: {status};
what failed: {error, exit-code} as `freezeframe snapshot --help` says.";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct FsArgs {
    #[command(subcommand)]
    verb: Verb,
    /// Print one JSON object (described in `freezeframe fs --help`)
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Freeze the guest's file systems, for so long at most
    Freeze(FreezeArgs),
    /// Thaw the guest's file systems, whoever has frozen them
    Thaw(AgentArgs),
    /// Say whether the agent has frozen the guest's file systems
    Status(AgentArgs),
    /// Thaw when the time is up; started by freeze
    #[command(hide = true)]
    Watchdog(watchdog::WatchdogArgs),
}

/// How a guest's agent is reached.
#[derive(Debug, Args)]
struct AgentArgs {
    /// The host's socket of the agent's port, one that nobody else uses
    #[arg(long, value_name = "SOCK")]
    agent: Utf8PathBuf,
    /// The socket of QEMU's monitor: it knows at once whether the guest runs, and anybody in it has the port open
    #[arg(long, value_name = "SOCK")]
    qmp: Option<Utf8PathBuf>,
    /// How long the agent may take
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..))]
    within: u32,
}

#[derive(Debug, Args)]
struct FreezeArgs {
    #[command(flatten)]
    agent: AgentArgs,
    /// Thaw after so long, if nobody has done so before
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..))]
    thaw_after: u32,
    /// Nobody thaws but who is told to: should the caller die, the guest stays frozen
    #[arg(long, conflicts_with = "thaw_after")]
    no_watchdog: bool,
}

/// Why the guest's file systems were not frozen, or not thawed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FsError {
    /// The agent could not be asked.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Whether it has thawed is not known, or it has not.
    #[error("{0}. The guest may still be frozen")]
    NotThawed(AgentError),
    /// The agent counts what it has thawed, and its status says otherwise.
    #[error("the guest agent takes {} for thawed, but says that the guest is frozen. The guest may still be frozen", systems(*.0))]
    StillFrozen(u64),
    /// It was frozen before.
    #[error("the guest is frozen already; nothing was done")]
    FrozenBefore,
    /// The freeze failed, and the guest is not frozen by it.
    #[error("{0}. The guest is not frozen by this")]
    NotFrozen(RestError),
    /// The guest may be frozen.
    #[error("{0}. The guest may be frozen: thaw it with `freezeframe fs thaw` once its agent answers")]
    MayBeFrozen(RestError),
    /// Nobody would thaw it.
    #[error(
        "nobody could be started who thaws the guest when the time is up, so that it was not frozen: {0}"
    )]
    NoWatchdog(io::Error),
    /// The guest stands still, and its agent with it.
    #[error("the guest does not run (QEMU says `{0}`), so that its agent cannot answer; nothing was done")]
    Stopped(String),
    /// QEMU could not be asked.
    #[error(transparent)]
    Monitor(Box<OperationError>),
}

impl FsError {
    /// libvirt's name for it.
    pub(super) fn code(&self) -> Code {
        match self {
            FsError::Agent(error) | FsError::NotThawed(error) => error.code(),
            FsError::FrozenBefore | FsError::Stopped(_) => Code::OperationInvalid,
            FsError::NotFrozen(error) | FsError::MayBeFrozen(error) => error.code(),
            FsError::StillFrozen(_) => Code::AgentCommandFailed,
            FsError::NoWatchdog(_) => Code::SystemError,
            FsError::Monitor(error) => error.code(),
        }
    }

    /// How things stand, in one word for programs.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            FsError::NotFrozen(_) => "rolled-back",
            FsError::MayBeFrozen(_) => "not-rolled-back",
            FsError::NotThawed(_) | FsError::StillFrozen(_) => "unknown",
            _ => "not-begun",
        }
    }
}

/// Carries out a verb.
///
/// # Errors
/// [`CliError`].
pub(super) fn fs(arguments: &FsArgs) -> Result<ExitCode, CliError> {
    let runtime = records::runtime()?;
    let done = LocalSet::new().block_on(&runtime, async {
        match &arguments.verb {
            Verb::Freeze(freeze) => self::freeze(freeze).await,
            Verb::Thaw(agent) => thaw(agent).await,
            Verb::Status(agent) => status(agent).await,
            Verb::Watchdog(watchdog) => watchdog::watch(watchdog).await,
        }
    });
    tell(done.map_err(CliError::from), arguments.json)
}

impl AgentArgs {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.agent.clone())
    }

    fn deadline(&self, env: &TokioEnv) -> Duration {
        env.now() + Duration::from_secs(self.within.into())
    }

    /// Refuses an agent that is not there or cannot answer, where QEMU can be asked.
    async fn check_presence(&self, env: &TokioEnv) -> Result<(), FsError> {
        let Some(qmp) = &self.qmp else { return Ok(()) };
        let of_the_monitor = |error: OperationError| FsError::Monitor(Box::new(error));
        let within = self.deadline(env).saturating_sub(env.now());
        let client = Client::connect(env, &Endpoint::Unix(qmp.clone()), false, within).await;
        let client = client.map_err(|error| of_the_monitor(error.into()))?;
        let status = client.execute("look", &QueryStatus {}, self.deadline(env)).await;
        let chardevs = client.execute("look", &QueryChardev {}, self.deadline(env)).await;
        client.close();
        let status = status.map_err(|error| of_the_monitor(error.into()))?;
        if !status.running {
            return Err(FsError::Stopped(status.status));
        }
        let chardevs = chardevs.map_err(|error| of_the_monitor(error.into()))?;
        match Presence::at(&self.endpoint(), &chardevs) {
            Presence::Open | Presence::Unknown => Ok(()),
            Presence::Closed => {
                let why = "nobody in the guest has its port open".to_owned();
                Err(AgentError::NotConnected(why).into())
            }
        }
    }
}

async fn status(arguments: &AgentArgs) -> Result<Told, FsError> {
    let env = TokioEnv::new();
    arguments.check_presence(&env).await?;
    let deadline = arguments.deadline(&env);
    let mut agent = Agent::connect(&env, &arguments.endpoint(), deadline).await?;
    let status = agent.freeze_status(deadline).await?.name();
    Ok(Told::new(format!("{status}\n"), json!({ "status": status })))
}

async fn freeze(arguments: &FreezeArgs) -> Result<Told, FsError> {
    let FreezeArgs { agent, thaw_after, no_watchdog } = arguments;
    let env = TokioEnv::new();
    agent.check_presence(&env).await?;
    let rest = Rest::new(env.clone(), Some(agent.endpoint()));
    let deadline = agent.deadline(&env);
    if rest.status(deadline).await? == FreezeStatus::Frozen {
        return Err(FsError::FrozenBefore);
    }
    // The watchdog is there before the freeze: whoever dies in between leaves nobody frozen.
    let (ticket, older) =
        (Ticket::callers(&agent.agent, &env.unique_id()), Ticket::all(&env, &agent.agent).await);
    let bounds = watchdog::Bounds {
        after: agent.within.saturating_add(LOOK_WITHIN).saturating_add(*thaw_after),
        once_it_stands: Some(*thaw_after),
    };
    match no_watchdog {
        // A snapshot that is taken meanwhile goes by it; whoever freezes does not need it.
        true => drop(ticket.begin(&env).await),
        false => {
            watchdog::start(&env, &agent.agent, bounds, &ticket).await.map_err(FsError::NoWatchdog)?;
        }
    }
    if let Err(error) = freeze_and_look(&env, &rest, deadline).await {
        if let Err(error) = rest.thaw().await {
            // It is left to the watchdog too.
            return Err(FsError::MayBeFrozen(error));
        }
        ticket.remove(&env).await;
        return Err(FsError::NotFrozen(error));
    }
    if rest.is_alone() {
        for over in older {
            over.remove(&env).await;
        }
    }
    let in_part = rest.in_part();
    // Of one that still says that it was begun nobody is told more than that, and its watchdog comes later than is told.
    let _ = ticket.note(&env, in_part.as_deref()).await;
    Ok(frozen(rest.frozen(), in_part, (!no_watchdog).then_some(*thaw_after)))
}

/// How long, beyond the time of the freeze, the agent may take to say whether it stands, in seconds.
const LOOK_WITHIN: u32 = 5;

/// Freezes, and makes sure that it stands: a freeze may take long, and somebody else may have thawed meanwhile.
async fn freeze_and_look(env: &TokioEnv, rest: &Rest<TokioEnv>, deadline: Duration) -> Result<(), RestError> {
    rest.freeze(deadline, false).await?;
    match rest.status(env.now() + Duration::from_secs(LOOK_WITHIN.into())).await? {
        FreezeStatus::Frozen => Ok(()),
        FreezeStatus::Thawed => Err(RestError::LetGo),
    }
}

/// What is told of a freeze that stands.
fn frozen(count: u64, in_part: Option<String>, after: Option<u32>) -> Told {
    let then = match after {
        Some(seconds) => {
            format!("they are thawed in {seconds} s, unless `freezeframe fs thaw` is called before")
        }
        None => "they stay so until somebody thaws them".to_owned(),
    };
    let object = json!({ "status": "frozen", "file-systems": count, "thawed-after-seconds": after });
    let told = Told::new(format!("frozen: {}; {then}\n", systems(count)), object);
    match in_part {
        None => told,
        Some(why) => told.and(&format!("maybe in part only: {why}\n"), "in-part", json!(why)),
    }
}

/// Thaws whatever its agent believes: after a restart of the agent it may not know that the guest is frozen.
async fn thaw(arguments: &AgentArgs) -> Result<Told, FsError> {
    let env = TokioEnv::new();
    arguments.check_presence(&env).await?;
    let deadline = arguments.deadline(&env);
    let mut agent = Agent::connect(&env, &arguments.endpoint(), deadline).await?;
    // One that is written from now on is of a freeze that comes behind this thaw.
    let tickets = Ticket::all(&env, &arguments.agent).await;
    let (count, remark) = match let_go(&mut agent, deadline).await? {
        Thawed::Of(count) => (Some(count), format!("{} had been frozen", systems(count))),
        Thawed::But(error) => (None, format!("but {error}")),
    };
    for over in tickets {
        over.remove(&env).await;
    }
    let object = json!({ "status": "thawed", "file-systems": count });
    Ok(Told::new(format!("thawed: {remark}\n"), object))
}

/// A guest that is thawed.
enum Thawed {
    /// So many file systems had been frozen.
    Of(u64),
    /// What runs behind the thaw has failed.
    But(AgentError),
}

/// Thaws a guest, whoever has frozen it. Its agent's status alone is no proof of it, for one that was started anew knows of no freeze;
/// nor is its count alone.
async fn let_go(agent: &mut Agent<TokioEnv>, deadline: Duration) -> Result<Thawed, FsError> {
    let thawed = agent.thaw(deadline).await;
    if let Err(error) = &thawed
        && !error.comes_behind_the_thaw()
    {
        return Err(FsError::NotThawed(error.clone()));
    }
    let status = agent.freeze_status(deadline).await.map_err(FsError::NotThawed)?;
    match (thawed, status) {
        (Ok(count), FreezeStatus::Thawed) => Ok(Thawed::Of(count)),
        (Err(error), FreezeStatus::Thawed) => Ok(Thawed::But(error)),
        (Ok(count), FreezeStatus::Frozen) => Err(FsError::StillFrozen(count)),
        (Err(error), FreezeStatus::Frozen) => Err(FsError::NotThawed(error)),
    }
}
