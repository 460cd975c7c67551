//! A QMP client on any [`Env`]: one connection, replies matched by id, events for all who listen.
//!
//! One task, the pump, owns the byte stream: it writes what the callers queued and hands out what arrives.
//! A caller that gives up waiting therefore never leaves half a command on the wire. Everything ends when the
//! stream does: pending commands and listeners learn why ([`Lost`]).
//!
//! Ids are `<lane>#<n>`. A lane is the step that speaks: the ids in a log or on the wire tell who asked.
//!
//! It does not retry, reconnect or interpret: that is [`crate::machine`]'s and the steps' business.

mod pump;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt, io,
    rc::{Rc, Weak},
    time::Duration,
};

use serde::Serialize;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    commands::{Command, QmpCapabilities},
    env::{Endpoint, Env},
    race::{First, race},
    standstill::{OwnStop, Standstill},
    wire::{self, Band, Event, Greeting, QmpError, Reply, WireError},
    words,
};

/// How many events a slow listener may be behind before it must ask QEMU instead.
const EVENT_BACKLOG: usize = 128;

/// How long until a monitor that is too busy to be connected to is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// QEMU closed it, or is gone.
    #[error("QEMU closed the monitor")]
    Closed,
    /// Reading or writing failed.
    #[error("the monitor's socket failed: {0}")]
    Io(String),
    /// What came is no QMP.
    #[error("the monitor no longer speaks QMP: {0}")]
    Wire(WireError),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens there.
    #[error("no QEMU monitor at `{endpoint}`: {source}; is the machine running, and is this its QMP socket?")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// It connects, but says nothing: busy with another client, stopped, or no monitor.
    #[error(
        "`{endpoint}` said nothing for {}: another client may hold the monitor, or QEMU is stuck",
        seconds(*waited)
    )]
    Silent {
        /// Where.
        endpoint: Endpoint,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It ended or spoke something else before it was ready for commands.
    #[error("`{endpoint}` is no QMP monitor, or went away while it was greeted: {lost}")]
    NotAMonitor {
        /// Where.
        endpoint: Endpoint,
        /// What happened.
        lost: Lost,
    },
    /// The negotiation was refused.
    #[error("`{endpoint}` refused the negotiation: {error}")]
    Negotiation {
        /// Where.
        endpoint: Endpoint,
        /// QEMU's words.
        error: QmpError,
    },
}

impl ConnectError {
    /// Whether it means that no process listens any more. A socket that is not found is no proof: its path may have been removed
    /// under a QEMU that lives.
    pub fn is_gone(&self) -> bool {
        matches!(self, ConnectError::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// Why a command has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// QEMU refused it: it did nothing.
    #[error("QEMU refused `{command}`: {error}")]
    Refused {
        /// Which command.
        command: String,
        /// QEMU's words.
        error: QmpError,
    },
    /// No reply came. It may or may not have been carried out.
    #[error("no reply to `{command}` within {}", seconds(*waited))]
    TimedOut {
        /// Which command.
        command: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The connection ended first. It may or may not have been carried out.
    #[error("the connection ended before the reply to `{command}`: {lost}")]
    Lost {
        /// Which command.
        command: String,
        /// Why it ended.
        lost: Lost,
    },
    /// It was carried out, but its reply has not the shape that it should have.
    #[error("the reply to `{command}` cannot be read: {reason}")]
    Unreadable {
        /// Which command.
        command: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// How a duration reads in an error, to the millisecond: `5 s`, `0.25 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    // One division: a sum of seconds and a fraction of one would show as `1.9969999999999999`.
    let thousandths = duration.as_millis();
    format!("{} s", thousandths as f64 / 1000.0)
}

/// Why a listener has no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// The time is up.
    TimedOut,
    /// Events were missed; ask QEMU how things stand.
    Lagged,
    /// The connection ended.
    Lost(Lost),
}

/// What callers and the pump share.
struct Shared {
    pending: BTreeMap<String, oneshot::Sender<Reply>>,
    /// None once the connection has ended, so that listeners end too.
    events: Option<broadcast::Sender<Rc<Event>>>,
    greeting: Option<oneshot::Sender<Greeting>>,
    /// What was heard of the guest's standing still since the connection began, and by those who listen for it alone.
    standstill: Standstill,
    watches: Vec<Weak<RefCell<Standstill>>>,
    lost: Option<Lost>,
    /// A command has had no reply in time, and nothing was heard since.
    mute: bool,
    commands: u64,
}

/// A connection to a monitor. Clones share it; it closes with the last of them.
pub struct Client<E: Env> {
    env: E,
    shared: Rc<RefCell<Shared>>,
    outgoing: mpsc::UnboundedSender<Outgoing<E>>,
    greeting: Rc<Greeting>,
}

/// What callers tell the pump.
enum Outgoing<E: Env> {
    Command { bytes: Vec<u8>, file: Option<E::File> },
    Close,
}

impl<E: Env> Clone for Client<E> {
    fn clone(&self) -> Self {
        Self {
            env: self.env.clone(),
            shared: self.shared.clone(),
            outgoing: self.outgoing.clone(),
            greeting: self.greeting.clone(),
        }
    }
}

impl<E: Env> fmt::Debug for Client<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("greeting", &self.greeting).finish_non_exhaustive()
    }
}

impl<E: Env> Client<E> {
    /// Connects, waits for the greeting and negotiates; `oob` is enabled where it is wanted and offered.
    ///
    /// # Errors
    /// [`ConnectError`], at the latest after `within`; nothing is left open.
    pub async fn connect(
        env: &E,
        endpoint: &Endpoint,
        oob: bool,
        within: Duration,
    ) -> Result<Self, ConnectError> {
        let deadline = env.now() + within;
        let silent = || ConnectError::Silent { endpoint: endpoint.clone(), waited: within };
        let io = match race(open(env, endpoint), env.sleep_until(deadline)).await {
            First::Left(io) => {
                io.map_err(|source| ConnectError::Unreachable { endpoint: endpoint.clone(), source })?
            }
            First::Right(()) => return Err(silent()),
        };
        let (greeted, greeting) = oneshot::channel();
        let shared = Rc::new(RefCell::new(Shared {
            pending: BTreeMap::new(),
            events: Some(broadcast::Sender::new(EVENT_BACKLOG)),
            greeting: Some(greeted),
            standstill: Standstill::default(),
            watches: Vec::new(),
            lost: None,
            mute: false,
            commands: 0,
        }));
        let (outgoing, queue) = mpsc::unbounded_channel();
        env.spawn_local(pump::run(env.clone(), io, queue, shared.clone()));
        let greeting = match race(greeting, env.sleep_until(deadline)).await {
            First::Left(Ok(greeting)) => greeting,
            First::Left(Err(_)) => {
                let lost = shared.borrow().lost.clone().unwrap_or(Lost::Closed);
                return Err(ConnectError::NotAMonitor { endpoint: endpoint.clone(), lost });
            }
            First::Right(()) => return Err(silent()),
        };
        let client = Self { env: env.clone(), shared, outgoing, greeting: Rc::new(greeting) };
        client.negotiate(endpoint, oob, deadline).await?;
        Ok(client)
    }

    /// One to nobody: a machine that is off. It has ended before it began.
    pub(crate) fn to_nobody(env: &E) -> Self {
        let shared = Shared {
            pending: BTreeMap::new(),
            events: None,
            greeting: None,
            lost: Some(Lost::Closed),
            mute: false,
            commands: 0,
            standstill: Standstill::default(),
            watches: Vec::new(),
        };
        let (outgoing, _) = mpsc::unbounded_channel();
        let shared = Rc::new(RefCell::new(shared));
        Self { env: env.clone(), shared, outgoing, greeting: Rc::default() }
    }

    async fn negotiate(
        &self,
        endpoint: &Endpoint,
        oob: bool,
        deadline: Duration,
    ) -> Result<(), ConnectError> {
        let oob = oob && self.greeting.capabilities.iter().any(|capability| capability == "oob");
        let enable: &[&str] = if oob { &["oob"] } else { &[] };
        match self.execute("connect", &QmpCapabilities { enable }, deadline).await {
            Ok(_) => Ok(()),
            Err(CommandError::Refused { error, .. }) => {
                Err(ConnectError::Negotiation { endpoint: endpoint.clone(), error })
            }
            Err(CommandError::Lost { lost, .. }) => {
                Err(ConnectError::NotAMonitor { endpoint: endpoint.clone(), lost })
            }
            Err(CommandError::TimedOut { waited, .. }) => {
                Err(ConnectError::Silent { endpoint: endpoint.clone(), waited })
            }
            Err(CommandError::Unreadable { .. }) => Err(ConnectError::NotAMonitor {
                endpoint: endpoint.clone(),
                lost: Lost::Wire(WireError::NotQmp("an unreadable reply to qmp_capabilities".into())),
            }),
        }
    }

    /// What QEMU said of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Whether the connection has ended, and why.
    pub fn lost(&self) -> Option<Lost> {
        self.shared.borrow().lost.clone()
    }

    /// Why the guest stands still, if it was heard to stop of its own and not to go on since.
    pub(crate) fn own_stop(&self) -> Option<OwnStop> {
        self.shared.borrow().standstill.own
    }

    /// Takes note of why the guest stands still since this STOP, which no event has told.
    pub(crate) fn note_own_stop(&self, why: OwnStop, stop: &Event) {
        let mut shared = self.shared.borrow_mut();
        shared.standstill.note(why, stop);
        for watch in shared.watches.iter().filter_map(Weak::upgrade) {
            watch.borrow_mut().note(why, stop);
        }
    }

    /// Whether the last thing heard of it was nothing: a command timed out and no message came since.
    pub fn is_mute(&self) -> bool {
        self.shared.borrow().mute
    }

    /// Closes the connection for all who share it. A monitor serves one client at a time: this makes room.
    pub fn close(&self) {
        // A pump that has already ended has closed it.
        let _ = self.outgoing.send(Outgoing::Close);
    }

    /// Listens to every event from now on. Listen first, then send the command that causes them.
    pub fn events(&self) -> Events<E> {
        let shared = self.shared.borrow();
        let receiver = shared.events.as_ref().map(broadcast::Sender::subscribe);
        Events { env: self.env.clone(), receiver, shared: self.shared.clone() }
    }

    /// Watches for how long the guest stands still from now on, however many other events there are.
    pub(crate) fn watch_standstill(&self) -> StandstillWatch {
        let heard = Rc::default();
        let mut shared = self.shared.borrow_mut();
        shared.watches.retain(|watch| watch.strong_count() > 0);
        shared.watches.push(Rc::downgrade(&heard));
        StandstillWatch { heard, shared: self.shared.clone() }
    }

    /// Sends a command and waits for its reply, until `deadline` at most.
    ///
    /// # Errors
    /// [`CommandError`]; only `Refused` means that nothing was done.
    pub async fn execute<C: Command>(
        &self,
        lane: &str,
        command: &C,
        deadline: Duration,
    ) -> Result<C::Returns, CommandError> {
        read::<C>(&self.call(Band::In, lane, C::NAME, Some(command), deadline).await?)
    }

    /// Sends a command that takes an open file, and the file with it.
    ///
    /// # Errors
    /// [`CommandError`]; only `Refused` means that nothing was done.
    pub async fn execute_with_file<C: Command>(
        &self,
        lane: &str,
        command: &C,
        file: E::File,
        deadline: Duration,
    ) -> Result<C::Returns, CommandError> {
        read::<C>(&self.send(Band::In, lane, C::NAME, Some(command), Some(file), deadline).await?)
    }

    /// Sends any command, with arguments and reply as raw JSON; `Band::Out` asks for it out of band.
    ///
    /// # Errors
    /// [`CommandError`]; only `Refused` means that nothing was done.
    pub async fn call<A: Serialize>(
        &self,
        band: Band,
        lane: &str,
        command: &str,
        arguments: Option<&A>,
        deadline: Duration,
    ) -> Result<Box<str>, CommandError> {
        self.send(band, lane, command, arguments, None, deadline).await
    }

    async fn send<A: Serialize>(
        &self,
        band: Band,
        lane: &str,
        command: &str,
        arguments: Option<&A>,
        file: Option<E::File>,
        deadline: Duration,
    ) -> Result<Box<str>, CommandError> {
        let lost = |lost| CommandError::Lost { command: command.to_owned(), lost };
        let (id, reply) = self.expect(lane).map_err(lost)?;
        let sent_at = self.env.now();
        // The pump may have ended a moment ago; the waiting below learns of it.
        let bytes = wire::request(band, command, arguments, &id);
        let _ = self.outgoing.send(Outgoing::Command { bytes, file });
        match race(reply, self.env.sleep_until(deadline)).await {
            First::Left(Ok(reply)) => {
                reply.outcome.map_err(|error| CommandError::Refused { command: command.to_owned(), error })
            }
            First::Left(Err(_)) => Err(lost(self.lost().unwrap_or(Lost::Closed))),
            First::Right(()) => {
                let mut shared = self.shared.borrow_mut();
                shared.pending.remove(&id);
                shared.mute = true;
                let waited = self.env.now().saturating_sub(sent_at);
                Err(CommandError::TimedOut { command: command.to_owned(), waited })
            }
        }
    }

    /// Makes the next id of a lane and a place for the reply to it.
    fn expect(&self, lane: &str) -> Result<(String, oneshot::Receiver<Reply>), Lost> {
        let mut shared = self.shared.borrow_mut();
        if let Some(lost) = &shared.lost {
            return Err(lost.clone());
        }
        shared.commands += 1;
        let id = format!("{lane}#{}", shared.commands);
        let (sender, receiver) = oneshot::channel();
        shared.pending.insert(id.clone(), sender);
        Ok((id, receiver))
    }
}

/// Reads what a command returned.
fn read<C: Command>(raw: &str) -> Result<C::Returns, CommandError> {
    wire::payload(raw).map_err(|error| CommandError::Unreadable {
        command: C::NAME.into(),
        reason: words::of_error(&error),
    })
}

/// Opens the stream. Where the monitor's queue is full of waiting clients the system says "try again": QEMU is there.
async fn open<E: Env>(env: &E, endpoint: &Endpoint) -> io::Result<E::Io> {
    loop {
        match env.connect(endpoint).await {
            Err(busy) if busy.kind() == io::ErrorKind::WouldBlock => {
                env.sleep_until(env.now() + RETRY_EVERY).await;
            }
            opened => return opened,
        }
    }
}

/// Whether a process listens there. One whose queue is full of waiting clients does: the system says "try again".
pub async fn listens<E: Env>(env: &E, endpoint: &Endpoint) -> bool {
    match env.connect(endpoint).await {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// The events since [`Client::events`].
pub struct Events<E: Env> {
    env: E,
    receiver: Option<broadcast::Receiver<Rc<Event>>>,
    shared: Rc<RefCell<Shared>>,
}

impl<E: Env> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl<E: Env> Events<E> {
    /// The next event, if one comes before `deadline`.
    ///
    /// # Errors
    /// [`Silence`].
    pub async fn next(&mut self, deadline: Duration) -> Result<Rc<Event>, Silence> {
        let Some(receiver) = &mut self.receiver else { return Err(self.ended()) };
        match race(receiver.recv(), self.env.sleep_until(deadline)).await {
            First::Left(Ok(event)) => Ok(event),
            First::Left(Err(broadcast::error::RecvError::Lagged(_))) => Err(Silence::Lagged),
            First::Left(Err(broadcast::error::RecvError::Closed)) => Err(self.ended()),
            First::Right(()) => Err(Silence::TimedOut),
        }
    }

    fn ended(&self) -> Silence {
        Silence::Lost(self.shared.borrow().lost.clone().unwrap_or(Lost::Closed))
    }
}

/// How the guest has stood still since [`Client::watch_standstill`].
pub(crate) struct StandstillWatch {
    heard: Rc<RefCell<Standstill>>,
    shared: Rc<RefCell<Shared>>,
}

impl StandstillWatch {
    /// How long it stood still, by QEMU's own clock; none if the connection has ended, and nobody knows.
    pub(crate) fn total(&self) -> Option<Duration> {
        self.shared.borrow().lost.is_none().then(|| self.heard.borrow().total)
    }

    /// Why it stands still now, if it was heard to stop of its own.
    pub(crate) fn own_stop(&self) -> Option<OwnStop> {
        self.heard.borrow().own
    }
}
