//! A machine, a client, and virtual time: what a test starts from.
//!
//! ```
//! use freezeframe_sim::{Machine, Oracle, Port, Release, Simulation};
//! use tokio::io::{AsyncBufReadExt, BufReader};
//!
//! let machine = Machine::new().disk("vda");
//! let simulation = Simulation::new(&machine, Release::V10_0, Oracle::seeded(1));
//! let handle = simulation.handle();
//! let greeting = simulation.run(async move {
//!     let mut lines = BufReader::new(handle.connect(Port::Monitor(0)).unwrap()).lines();
//!     lines.next_line().await.unwrap().unwrap()
//! });
//! assert!(greeting.unwrap().starts_with("{\"QMP\": "));
//! ```

use std::{
    cell::{Ref, RefMut},
    future::Future,
    time::Duration,
};

use crate::{
    exec::{Deadlock, Executor, Sleep, Spawner},
    machine::Machine,
    oracle::{Oracle, Trace},
    qemu::GuestAct,
    release::Release,
    stream::{Sockets, Stream},
    world::{Port, Refused, World},
};

/// A world, and an executor for the clients in it.
#[derive(Debug)]
pub struct Simulation {
    executor: Executor<Sockets>,
    handle: Handle,
}

impl Simulation {
    /// Starts a machine. The virtual time is 0.
    pub fn new(machine: &Machine, release: Release, oracle: Oracle) -> Self {
        let spawner = Spawner::default();
        let clock = spawner.clone();
        let sockets = Sockets::new(World::new(machine, release, oracle), move || clock.now());
        let executor = Executor::new(spawner.clone(), sockets.clone());
        Self { executor, handle: Handle { spawner, sockets } }
    }

    /// What clients reach of the simulation.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs a client until it is done; then its other tasks are dropped. May be called again.
    ///
    /// # Errors
    /// [`Deadlock`] if it waits for something that will never happen.
    pub fn run<F: Future>(&self, client: F) -> Result<F::Output, Deadlock> {
        self.executor.run(client)
    }

    /// The world, to be looked at between runs.
    pub fn world(&self) -> Ref<'_, World> {
        self.handle.world()
    }

    /// What made this run differ from the default.
    pub fn trace(&self) -> Trace {
        self.world().oracle().trace().clone()
    }
}

/// What clients reach of a simulation: its ports, its time, its tasks and its host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    spawner: Spawner,
    sockets: Sockets,
}

impl Handle {
    /// Connects to a port.
    ///
    /// # Errors
    /// [`Refused`] if nobody listens there.
    pub fn connect(&self, port: Port) -> Result<Stream, Refused> {
        self.sockets.connect(port)
    }

    /// The machine's sockets, for who brings another clock.
    pub fn sockets(&self) -> Sockets {
        self.sockets.clone()
    }

    /// The clock and the tasks.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// The virtual time.
    pub fn now(&self) -> Duration {
        self.spawner.now()
    }

    /// Waits until the virtual time is `deadline`.
    pub fn sleep_until(&self, deadline: Duration) -> Sleep {
        self.spawner.sleep_until(deadline)
    }

    /// Starts a task. It ends with the run, wherever it stands then.
    pub fn spawn_local(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.spawner.spawn_local(name, task);
    }

    /// Ends QEMU as the host's SIGKILL does.
    pub fn kill_qemu(&self) {
        self.sockets.kill_qemu();
    }

    /// Ends QEMU as the host's SIGTERM does.
    pub fn terminate_qemu(&self) {
        self.sockets.terminate_qemu();
    }

    /// Lets the guest do something.
    pub fn guest_does(&self, act: GuestAct) {
        self.sockets.guest_does(act);
    }

    /// The world, its host and its files. It must not be held across an `await`.
    pub fn world(&self) -> Ref<'_, World> {
        self.sockets.world()
    }

    /// The world, its host and its files. It must not be held across an `await`.
    pub fn world_mut(&self) -> RefMut<'_, World> {
        self.sockets.world_mut()
    }
}
