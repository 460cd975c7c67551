//! A simulated machine on real sockets, for programs that are not ours.
//!
//! ```text
//!   a program -- socket -- [ Door: one connection ] -- record, faults -- stream -- World -- Clock
//!                             \-- images: the machine's folder, if it is a real one
//!
//!   listening -- QEMU ends (quit, a fault, a signal) --> sockets removed, what was said is delivered --> over
//! ```
//!
//! Any number of machines live on one thread; one that nobody talks to sleeps. The first monitor of a machine is the
//! one that the scenario's faults strike at and that the transcript is of; the guest agent has a socket of its own, at which those
//! strike that are the agent's. The
//! scenario's steps are not played: what is done to the machine is for the programs that connect. A program that writes
//! and never reads takes a few megabytes and no other machine's time: see [`freezeframe_sim::world`].
//!
//! What it does not do: pass on out-of-band data or file descriptors, and authenticate anybody. Since time comes from
//! a real clock and bytes from a real socket, no run repeats bit for bit; every choice of the simulator itself goes
//! the usual way, or as a seed has it.
//!
//! | module | |
//! | --- | --- |
//! | [`address`] | where to listen, in words |
//! | [`clock`] | the time of one machine: real, or as fast as it goes |
//! | [`listener`] | real sockets: opened, and removed again |
//! | [`door`] | carries one connection's bytes |
//! | [`transcript`] | the transcript, written as it goes |
//! | [`images`], [`qcow2`] | the machine's folder as a real one |
//! | [`subject`] | what is served, read from a file |

pub mod address;
pub mod clock;
mod door;
pub mod images;
pub mod listener;
pub mod qcow2;
pub mod subject;
mod transcript;

use std::{cell::OnceCell, io, rc::Rc};

use camino::Utf8PathBuf;
use freezeframe_driver::client::{Client, ConnectError};
use freezeframe_sim::{Oracle, Port, Release, World, stream::Sockets};
use rustix::io::Errno;
use tokio::task::JoinSet;

use self::{
    address::Address, clock::Clock, door::Door, images::Images, listener::Listener, subject::Subject,
    transcript::Transcript,
};
use crate::{
    interpose::{Faults, Hands},
    recorded::Recorded,
    transcript::Record,
    world::{
        World as _,
        sim::{SimEnv, SimWorld, monitor},
    },
};

pub use clock::Speed;
pub use door::rest;

/// How long the connection behind the faults may take.
const OWN: std::time::Duration = std::time::Duration::from_secs(10);

/// How one machine is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Which QEMU it is.
    pub release: Release,
    /// How fast its time passes.
    pub speed: Speed,
    /// Where its monitors listen, in this order.
    pub monitors: Vec<Address>,
    /// Where the guest agent's port listens; a guest without an agent gets one then.
    pub agent: Option<Address>,
    /// What chooses among everything that could go otherwise; without it all goes the usual way.
    pub seed: Option<u64>,
    /// Where to write the transcript of the first monitor.
    pub transcript: Option<Utf8PathBuf>,
    /// A real folder that holds the machine's images.
    pub images: Option<Utf8PathBuf>,
}

/// Why a machine cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket cannot be opened.
    #[error("error: cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// A file or folder cannot be used.
    #[error("error: cannot use {path}: {source}")]
    File {
        /// Which.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The faults' own connection to the machine does not work.
    #[error("error: no connection behind the faults: {0}")]
    Control(#[from] ConnectError),
}

impl ServeError {
    /// Whether it may be otherwise when it is tried again: another program has the address, or the host is short of
    /// something. A path that cannot be used stays so.
    pub fn may_pass(&self) -> bool {
        let (ServeError::Listen { source, .. } | ServeError::File { source, .. }) = self else { return true };
        source.kind() == io::ErrorKind::AddrInUse || is_short(source)
    }
}

/// Whether the host was short of something: files, memory or room. What else the system refuses it refuses again.
pub(crate) fn is_short(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::NOSPC, Errno::DQUOT];
    Errno::from_io_error(error).is_some_and(|errno| short.contains(&errno))
}

/// A machine whose sockets are open. Dropped, it removes them.
pub struct Served {
    /// In the order in which their addresses are told.
    listeners: Vec<(Port, Listener)>,
    door: Door,
    clock: Clock,
    record: Record,
    transcript: Option<transcript::Writer>,
    subject: Rc<Subject>,
    faults: Rc<OnceCell<Faults<SimEnv<Clock>>>>,
    world: SimWorld<Clock>,
}

/// The faults of one served machine, to be asked when it is over.
#[derive(Clone)]
pub struct Missed(Rc<OnceCell<Faults<SimEnv<Clock>>>>);

impl Missed {
    /// What never struck as often as it should, in words.
    pub fn told(&self) -> Vec<String> {
        self.0.get().map(Faults::missed).unwrap_or_default()
    }
}

/// Ends the QEMU of one served machine.
#[derive(Clone)]
pub struct Termination(Sockets);

impl Termination {
    /// As a signal of the host does: with a word to its clients, as soon as its main loop is free.
    pub fn terminate(&self) {
        self.0.terminate_qemu();
    }
}

impl Served {
    /// Starts a machine and opens its sockets. Its time begins now.
    ///
    /// # Errors
    /// [`ServeError`]; then nothing is left open.
    pub async fn open(subject: Rc<Subject>, service: &Service) -> Result<Self, ServeError> {
        let clock = Clock::start(service.speed);
        let mut listeners = Vec::new();
        let monitors =
            service.monitors.iter().enumerate().map(|(number, address)| (Port::Monitor(number), address));
        for (port, address) in monitors.chain(service.agent.iter().map(|address| (Port::Agent, address))) {
            let listener = Listener::open(address).await;
            let listener =
                listener.map_err(|source| ServeError::Listen { address: address.clone(), source })?;
            listeners.push((port, listener));
        }
        let unusable = |path: &Utf8PathBuf| {
            let path = path.clone();
            move |source| ServeError::File { path, source }
        };
        let images = match &service.images {
            Some(folder) => Some(Images::open(folder).map_err(unusable(folder))?),
            None => None,
        };
        let machine =
            subject.machine(images.as_ref().map(Images::folder), &service.monitors, service.agent.is_some());
        let transcript = match &service.transcript {
            Some(path) => Some(transcript::Writer::create(path, &machine.folder).map_err(unusable(path))?),
            None => None,
        };
        let time = clock.clone();
        let oracle = service.seed.map_or_else(Oracle::default_order, Oracle::seeded);
        let world = World::new(&machine, service.release, oracle);
        let sockets = Sockets::new(world, move || time.now());
        let world = SimWorld::new(&machine, sockets.clone(), clock.clone());
        let door = Door::new(sockets, images);
        door.images_out();
        let record = Record::new(clock.now());
        Ok(Self { listeners, door, clock, record, transcript, subject, faults: Rc::default(), world })
    }

    /// Its faults, to be asked when it is over.
    pub fn missed(&self) -> Missed {
        Missed(self.faults.clone())
    }

    /// What ends its QEMU as a signal of the host does.
    pub fn termination(&self) -> Termination {
        Termination(self.door.sockets())
    }

    /// Where it listens, with the ports that were chosen.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.listeners.iter().map(|(_, listener)| listener.address())
    }

    /// Serves until QEMU has ended. Run it inside a `tokio::task::LocalSet`; dropped before, it leaves at once.
    ///
    /// # Errors
    /// [`ServeError::Control`].
    pub async fn run(self) -> Result<(), ServeError> {
        let Self { listeners, door, clock, record, transcript, subject, faults: struck, world } = self;
        let mut behind = JoinSet::new();
        let (time, sockets) = (clock.clone(), door.sockets());
        behind.spawn_local(async move { time.run().await });
        let noted = transcript.is_some() || !subject.faults.is_empty();
        if noted {
            behind.spawn_local(Transcript::new(record.clone(), transcript).follow());
        }
        let (over, watch) = tokio::sync::watch::channel(false);
        let time = clock.clone();
        behind.spawn_local(async move {
            sockets.drive(move |deadline| time.wait_until(deadline)).await;
            let _ = over.send(true);
        });
        let monitors = listeners.iter().filter(|(port, _)| *port != Port::Agent).count();
        let faults = faults(&subject, &world, monitors).await?;
        if let Some(faults) = &faults {
            let _ = struck.set(faults.clone());
        }
        let recorded =
            noted.then(|| Recorded::new(world.env().clone(), record, faults).with_agent(world.agent()));
        let mut serving = JoinSet::new();
        for (port, listener) in listeners {
            let recorded = recorded.clone().filter(|_| matches!(port, Port::Monitor(0) | Port::Agent));
            serving.spawn_local(door.clone().serve(listener, port, recorded, watch.clone()));
        }
        serving.join_all().await;
        Ok(())
    }
}

/// The scenario's faults and the hands to carry them out.
async fn faults(
    subject: &Subject,
    world: &SimWorld<Clock>,
    private: usize,
) -> Result<Option<Faults<SimEnv<Clock>>>, ServeError> {
    if subject.faults.is_empty() {
        return Ok(None);
    }
    let control = Client::connect(world.env(), &monitor(private), false, OWN).await?;
    Ok(Some(Faults::new(&subject.faults, control, Hands::in_world(world))))
}
