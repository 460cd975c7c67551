//! The world that a client meets: QEMU's sockets, its main loop, and the host's files.
//!
//! A pure state machine. It is told bytes and time and answers with bytes and the time of its next event; it
//! never waits and has no clock. Whoever drives it calls [`World::advance`] no later than [`World::next_event`].
//!
//! QEMU has one main loop, and so has this: one thing is handled after the other.
//!
//! ```text
//!   idle -- something is due: one turn --> what the turn said goes out --> its zero-delay timers --> idle
//!                      \-- the turn stalls --> busy: nothing is handled but what is out of band -- over --/
//! ```
//!
//! Monitors have a thread of their own, which reads and writes: what a turn said before it stood still goes out at
//! once, and what is sent out of band meanwhile is answered. The rest of what the turn says comes at its end.
//!
//! A turn is one of: a client is accepted, a request is dispatched, a timer fires, a held event is sent. A
//! request is due some milliseconds after its last byte has come. Of what is due at the same instant the oracle
//! picks one; by default what was there first. When QEMU ends, what it had said is still delivered, then the
//! connections end; when it is killed, what was not delivered is lost.
//!
//! What a command does is for [`Qemu`]; what it looks like on the wire for [`crate::monitor`].

mod agent;
mod link;
mod main_loop;
mod programs;
mod start;

use std::{collections::BTreeMap, time::Duration};

pub use programs::Ran;

pub use crate::connection::{BrokenPipe, Connection, Port, Refused};
use crate::{
    guest_agent,
    host::{Descriptor, Host},
    machine::Machine,
    monitor::{
        Client, Monitor, Queued, Step,
        say::{self, Answer},
        throttle::Throttle,
    },
    oracle::Oracle,
    qemu::{Context, Event, GuestAct, Qemu, Request, Timer},
    release::Release,
    storage::Storage,
};
use link::Link;
use main_loop::{MainLoop, Turn, What};

/// The simulated world.
#[derive(Debug)]
pub struct World {
    release: Release,
    oracle: Oracle,
    host: Host,
    storage: Storage,
    qemu: Qemu,
    /// QEMU runs, as far as its clients can tell.
    alive: bool,
    monitors: Vec<Monitor>,
    /// The host's side of the guest agent's port, if the machine has one.
    agent: Option<guest_agent::port::Port>,
    links: BTreeMap<Connection, Link>,
    connections: u32,
    throttle: Throttle,
    main_loop: MainLoop<Timer>,
    /// The latest time that the world was told.
    now: Duration,
}

impl World {
    /// How long a request waits before QEMU dispatches it; the first is usual.
    const LATENCIES: [Duration; 3] =
        [Duration::from_millis(1), Duration::from_millis(2), Duration::from_millis(5)];

    /// A world in which QEMU has just started on the machine. Its time is 0.
    pub fn new(machine: &Machine, release: Release, oracle: Oracle) -> Self {
        let mut host = Host::default();
        machine.storage.mount(&mut host);
        let mut qemu = Qemu::new(machine, release, &mut host);
        let mut main_loop = MainLoop::default();
        main_loop.end_turn(Duration::ZERO, Duration::ZERO, qemu.first_timers());
        Self {
            release,
            oracle,
            host,
            storage: machine.storage.clone(),
            qemu,
            alive: true,
            monitors: (0..machine.monitors + machine.private_monitors).map(|_| Monitor::default()).collect(),
            agent: machine.agent.as_ref().map(|_| guest_agent::port::Port::default()),
            links: BTreeMap::new(),
            connections: 0,
            throttle: Throttle::new(release),
            main_loop,
            now: Duration::ZERO,
        }
    }

    /// Connects a client. This succeeds while another client holds the port: it hears nothing until the other
    /// has left.
    ///
    /// # Errors
    /// [`Refused`] if nobody listens.
    pub fn connect(&mut self, now: Duration, port: Port) -> Result<Connection, Refused> {
        self.now = now;
        let waiting = match port {
            Port::Monitor(index) => self.monitors.get_mut(index).map(|monitor| &mut monitor.waiting),
            Port::Agent => self.agent.as_mut().map(|agent| &mut agent.waiting),
        };
        let waiting = waiting.ok_or(Refused::NoSuchPort(port))?;
        if !self.alive {
            return Err(Refused::Gone);
        }
        let connection = Connection::new(self.connections);
        self.connections += 1;
        waiting.push_back((now, self.main_loop.next_sequence(), connection));
        self.links.insert(connection, Link::to(port));
        Ok(connection)
    }

    /// Takes what a client sends.
    ///
    /// # Errors
    /// [`BrokenPipe`] if QEMU is gone or the client has closed.
    pub fn receive(&mut self, now: Duration, connection: Connection, bytes: &[u8]) -> Result<(), BrokenPipe> {
        self.now = now;
        let alive = self.alive;
        let link =
            self.links.get_mut(&connection).filter(|link| alive && !link.outlived).ok_or(BrokenPipe)?;
        let Port::Monitor(monitor) = link.port else {
            self.agent_receive(now, connection, bytes);
            return Ok(());
        };
        let client = self.monitors[monitor].client.as_mut();
        match client.filter(|client| client.connection == connection) {
            Some(client) => {
                let (oracle, main_loop) = (&mut self.oracle, &mut self.main_loop);
                client.receive(bytes, || place(now, oracle, main_loop));
            }
            None => link.early.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Takes an open file that a client sends along with its bytes, as `SCM_RIGHTS` does: the next `getfd` on this
    /// connection takes it up. One that was not taken up is closed.
    pub fn pass_descriptor(&mut self, connection: Connection, descriptor: Descriptor) {
        let link = self.links.get(&connection).filter(|link| !link.outlived);
        let Some(Port::Monitor(index)) = link.map(|link| link.port) else { return };
        let client = self.monitors[index].client.as_mut();
        if let Some(client) = client.filter(|client| client.connection == connection) {
            client.passed = Some(descriptor);
        }
    }

    /// Ends a connection from the client's side. Of its requests that have not been dispatched some, by choice,
    /// still are; nobody hears the replies.
    pub fn close(&mut self, now: Duration, connection: Connection) {
        self.now = now;
        let Some(link) = self.links.remove(&connection).filter(|link| !link.outlived) else { return };
        let monitor = match link.port {
            Port::Monitor(monitor) => &mut self.monitors[monitor],
            Port::Agent => {
                if let Some(agent) = &mut self.agent {
                    agent.close(connection);
                    self.qemu.set_agent_connected(agent.client.is_some());
                }
                return;
            }
        };
        monitor.waiting.retain(|(_, _, waiting)| *waiting != connection);
        if let Some(client) = monitor.client.as_mut().filter(|client| client.connection == connection) {
            let kept = self.oracle.choose("requests-after-close", client.pending() + 1);
            client.forget(kept);
            client.leaving = true;
            client.behind = false;
            self.let_leave();
        }
    }

    /// What QEMU has said on a connection and the client has not read.
    pub fn output(&self, connection: Connection) -> &[u8] {
        self.links.get(&connection).map_or(&[], Link::unread)
    }

    /// Takes the first `count` bytes of [`World::output`] as read. Says whether QEMU goes on with it: a client that has
    /// left 4 MiB unread is not answered any more until it reads, and [`World::next_event`] may be another now.
    pub fn consume(&mut self, connection: Connection, count: usize) -> bool {
        let Some(link) = self.links.get_mut(&connection) else { return false };
        let was_behind = link.is_behind();
        link.consume(count);
        let catches_up = was_behind && !link.is_behind() && !link.outlived;
        if let (true, Port::Monitor(index)) = (catches_up, link.port) {
            let client = self.monitors[index].client.as_mut();
            client.into_iter().for_each(|client| client.behind = false);
        }
        catches_up
    }

    /// Whether QEMU has room for what a client sends. While it has none, a socket would let its client wait; what is
    /// sent all the same is taken.
    pub fn takes_input(&self, connection: Connection) -> bool {
        let alive = |link: &&Link| self.alive && !link.outlived;
        let Some(link) = self.links.get(&connection).filter(alive) else { return true };
        let held = match link.port {
            Port::Monitor(index) => self.monitors[index].held(connection),
            Port::Agent => self.agent.as_ref().map_or(0, |agent| agent.held(connection)),
        };
        held + link.early.len() < link::INPUT
    }

    /// Whether a connection has ended: all is read, and nothing more will come.
    pub fn at_end(&self, connection: Connection) -> bool {
        let closed = !self.alive || self.links.get(&connection).is_none_or(|link| link.outlived);
        closed && self.output(connection).is_empty()
    }

    /// When the world next does something by itself; nothing if it only waits for its clients.
    pub fn next_event(&self) -> Option<Duration> {
        if !self.alive || self.qemu.hung() {
            return None;
        }
        let due = match self.main_loop.must_at() {
            Some(must) => self.out_of_band_in_stall().map_or(must, |(due, _, _)| must.min(due)),
            None => self.main_loop.not_before(self.first_due()?),
        };
        Some(due.max(self.now))
    }

    /// Lets everything happen that is due by `now`.
    pub fn advance(&mut self, now: Duration) {
        while let Some(at) = self.next_event().filter(|at| *at <= now) {
            self.now = at;
            if let Some((_, _, monitor)) = self.out_of_band_in_stall().filter(|(due, _, _)| *due <= at) {
                self.answer_out_of_band(at, monitor);
            } else if self.main_loop.stall_is_over() {
                self.clients().for_each(Client::end_stall);
                self.deliver();
            } else {
                self.take_turn(at);
            }
        }
        self.now = self.now.max(now);
    }

    /// Ends QEMU as the host's SIGKILL does: at once, and without a word.
    pub fn kill_qemu(&mut self) {
        if self.alive {
            self.qemu.killed(&mut Context::new(self.now, self.release, &mut self.oracle, &mut self.host));
        }
        self.alive = false;
        for monitor in &mut self.monitors {
            *monitor = Monitor::default();
        }
    }

    /// Ends QEMU as the host's SIGTERM does: as soon as its main loop is free, with a word.
    pub fn terminate_qemu(&mut self, now: Duration) {
        self.now = now;
        self.main_loop.schedule(now, Timer::Request(Request::Terminate));
    }

    /// Lets the guest do something, as soon as QEMU's main loop is free. A guest that does not run then does nothing.
    pub fn guest_does(&mut self, now: Duration, act: GuestAct) {
        self.now = now;
        self.main_loop.schedule(now, Timer::Guest(act));
    }

    /// Whether QEMU runs.
    pub fn qemu_is_running(&self) -> bool {
        self.alive
    }

    /// The QEMU process, dead or alive.
    pub fn qemu(&self) -> &Qemu {
        &self.qemu
    }

    /// The files of the host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What lies below the host's files, for whoever plays the host's part.
    pub fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
    }

    /// The files of the host.
    pub fn host_mut(&mut self) -> &mut Host {
        &mut self.host
    }

    /// What decides all choices of this world.
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// What decides all choices of this world, and may be asked for those of its surroundings.
    pub fn oracle_mut(&mut self) -> &mut Oracle {
        &mut self.oracle
    }

    /// Shows all that waits for its turn. It is asked after each command, so it gathers nothing.
    fn each_waiting(&self, mut each: impl FnMut(Turn)) {
        let mut show = |(due, sequence), what| each(Turn { due, sequence, what });
        for (index, monitor) in self.monitors.iter().enumerate() {
            let Some(client) = &monitor.client else {
                if let Some(&(due, sequence, _)) = monitor.waiting.front() {
                    show((due, sequence), What::Accept(index));
                }
                continue;
            };
            if let Some(queued) = client.next_request() {
                show((queued.due, queued.sequence), What::Request(index));
            }
            if let Some(queued) = client.next_out_of_band() {
                show((queued.due, queued.sequence), What::OutOfBand(index));
            }
        }
        if let Some(held) = self.throttle.next() {
            show(held, What::HeldEvent);
        }
        self.agent_turns().chain(self.main_loop.first_timers()).for_each(each);
    }

    /// When the first of all that waits is due.
    fn first_due(&self) -> Option<Duration> {
        let mut first = None;
        self.each_waiting(|turn| first = Some(first.map_or(turn.due, |first| turn.due.min(first))));
        first
    }

    /// Handles one thing.
    fn take_turn(&mut self, at: Duration) {
        if let Some(timer) = self.main_loop.next_at_once() {
            return self.fire(at, timer);
        }
        let mut turns = Vec::new();
        self.each_waiting(|turn| {
            if turn.due <= at {
                turns.push(turn);
            }
        });
        turns.sort_unstable_by_key(|turn| (turn.due, turn.sequence));
        let pick = self.oracle.choose("main-loop", turns.len());
        match turns[pick].what {
            What::Accept(monitor) => self.accept(at, monitor),
            What::Request(monitor) => {
                let client = self.monitors[monitor].client.as_mut();
                if let Some(queued) = client.and_then(Client::take_request) {
                    self.dispatch(at, monitor, queued);
                }
            }
            What::OutOfBand(monitor) => {
                let client = self.monitors[monitor].client.as_mut();
                if let Some(queued) = client.and_then(|client| client.out_of_band.pop_front()) {
                    self.dispatch(at, monitor, queued);
                }
            }
            What::Timer(key) => {
                if let Some(timer) = self.main_loop.take_timer(key) {
                    self.fire(at, timer);
                }
            }
            What::Agent(turn) => self.agent_turn(at, turn),
            What::HeldEvent => {
                if let Some(event) = self.throttle.release_held(at) {
                    self.broadcast(&event);
                }
                self.deliver();
            }
        }
    }

    /// What is sent out of band and is due before the main loop goes on: when, its place, and the monitor.
    fn out_of_band_in_stall(&self) -> Option<(Duration, u64, usize)> {
        let until = self.main_loop.stalled_until()?;
        let first = |(index, monitor): (usize, &Monitor)| {
            let queued = monitor.client.as_ref()?.next_out_of_band()?;
            Some((queued.due, queued.sequence, index))
        };
        self.monitors.iter().enumerate().filter_map(first).min().filter(|(due, _, _)| *due < until)
    }

    /// A monitor's own thread answers while the main loop stands still. Commands that may be sent so say no events.
    fn answer_out_of_band(&mut self, at: Duration, monitor: usize) {
        let Some(client) = self.monitors[monitor].client.as_mut() else { return };
        let Some(queued) = client.out_of_band.pop_front() else { return };
        if let Step::Execute { id, command, arguments } = client.take_up(queued) {
            let mut cx = Context::new(at, self.release, &mut self.oracle, &mut self.host);
            let result = self.qemu.execute(&command, arguments, &mut cx);
            client.reply(id.as_ref(), result.map(Answer::Value));
        }
        self.send();
    }

    /// Serves the client that has waited longest on a monitor.
    fn accept(&mut self, at: Duration, index: usize) {
        let monitor = &mut self.monitors[index];
        let Some((_, _, connection)) = monitor.waiting.pop_front() else { return };
        let client = monitor.client.insert(Client::accept(connection, self.release));
        self.qemu.set_connected(index, true);
        if let Some(link) = self.links.get_mut(&connection) {
            let early = std::mem::take(&mut link.early);
            let (oracle, main_loop) = (&mut self.oracle, &mut self.main_loop);
            client.receive(&early, || place(at, oracle, main_loop));
        }
        self.deliver();
    }

    /// Answers a request.
    fn dispatch(&mut self, at: Duration, monitor: usize, queued: Queued) {
        let Some(client) = self.monitors[monitor].client.as_mut() else { return };
        let Step::Execute { id, command, arguments } = client.take_up(queued) else {
            return self.deliver();
        };
        let passed = if matches!(command.as_str(), "getfd" | "add-fd") { client.passed.take() } else { None };
        let mut cx = Context::new(at, self.release, &mut self.oracle, &mut self.host);
        cx.passed = passed;
        let result = self.qemu.execute(&command, arguments, &mut cx);
        let (end, events, timers) = (cx.now, cx.events, cx.timers);
        self.say_turn(at, end, events);
        let client =
            self.monitors[monitor].client.as_mut().filter(|_| !self.qemu.aborted() && !self.qemu.hung());
        if let Some(client) = client {
            client.reply(id.as_ref(), result.map(Answer::Value));
        }
        self.end_turn(at, end, timers);
    }

    /// Lets QEMU do what it had asked to be called for.
    fn fire(&mut self, at: Duration, timer: Timer) {
        let mut cx = Context::new(at, self.release, &mut self.oracle, &mut self.host);
        self.qemu.timer(timer, &mut cx);
        let (end, events, timers) = (cx.now, cx.events, cx.timers);
        self.say_turn(at, end, events);
        self.end_turn(at, end, timers);
    }

    fn end_turn(&mut self, at: Duration, end: Duration, timers: Vec<(Duration, Timer)>) {
        self.main_loop.end_turn(at, end, timers);
        if end == at {
            self.deliver();
        } else {
            self.clients().for_each(Client::stall);
        }
    }

    /// Says the events of a turn; those from before it stood still go out at once.
    fn say_turn(&mut self, at: Duration, end: Duration, mut events: Vec<Event>) {
        if at == end {
            return self.say(events);
        }
        let late = events.split_off(events.partition_point(|event| event.at == at));
        self.say(events);
        self.send();
        self.say(late);
    }

    /// Says events, but for those that are too many.
    fn say(&mut self, events: Vec<Event>) {
        for event in events {
            let sequence = self.main_loop.next_sequence();
            if let Some(event) = self.throttle.pass(event, sequence) {
                self.broadcast(&event);
            }
        }
    }

    /// Says an event to every client that is to hear of events.
    fn broadcast(&mut self, event: &Event) {
        let mut line = Vec::with_capacity(192);
        say::event(&mut line, event);
        self.clients().for_each(|client| client.hear(&line));
    }

    /// The clients that are served.
    fn clients(&mut self) -> impl Iterator<Item = &mut Client> {
        self.monitors.iter_mut().filter_map(|monitor| monitor.client.as_mut())
    }

    /// Puts what was said on the sockets, and ends the connections if QEMU has ended.
    fn deliver(&mut self) {
        self.send();
        self.let_leave();
        if self.qemu.gone() {
            self.alive = false;
        }
    }

    /// Puts what was said on the sockets. A client that is lost is let go.
    fn send(&mut self) {
        let mut lost = None;
        for client in self.monitors.iter_mut().filter_map(|monitor| monitor.client.as_mut()) {
            match self.links.get_mut(&client.connection) {
                Some(link) if !client.said.is_empty() => {
                    link.say(&mut client.said);
                    client.behind = link.is_behind();
                    lost = lost.or(link.is_lost().then_some(client.connection));
                }
                Some(_) => {}
                None => client.said.clear(),
            }
        }
        if let Some(connection) = lost {
            self.close(self.now, connection);
        }
    }

    /// Frees the monitors whose client has left and has nothing more to be carried out.
    fn let_leave(&mut self) {
        for (index, monitor) in self.monitors.iter_mut().enumerate() {
            let leaves = |client: &mut Client| client.leaving && client.pending() == 0;
            if monitor.client.take_if(leaves).is_some() {
                self.qemu.set_connected(index, false);
            }
        }
    }
}

/// When a request that came `now` is due, and its place among all that happens.
fn place(now: Duration, oracle: &mut Oracle, main_loop: &mut MainLoop<Timer>) -> (Duration, u64) {
    let latency = World::LATENCIES[oracle.choose("latency", World::LATENCIES.len())];
    (now + latency, main_loop.next_sequence())
}

#[cfg(test)]
mod tests;
