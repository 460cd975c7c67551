//! What a piece of the QEMU model may do to the world around it while it handles one thing.
//!
//! The model never writes to a socket and never waits: it says an event, asks to be called again later, or
//! lets QEMU's main loop stand still for a while. The world carries it out.

use std::time::Duration;

use crate::{
    host::{Descriptor, Host},
    oracle::Oracle,
    qemu::{Timer, ended::Saving},
    qobject::QDict,
    release::Release,
};

/// An error reply: QAPI's class and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QmpError {
    /// `GenericError`, `CommandNotFound`, `DeviceNotActive`, `DeviceNotFound` or `KVMMissingCap`.
    pub class: &'static str,
    /// The text, as QEMU writes it.
    pub desc: String,
}

impl QmpError {
    /// An error of the class that nearly all have.
    pub fn generic(desc: impl Into<String>) -> Self {
        Self { class: "GenericError", desc: desc.into() }
    }
}

/// One thing said by QEMU while it handled a command or a timer, in the order in which it goes on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When it was queued, in QEMU's own (virtual) time: becomes the `timestamp`.
    pub at: Duration,
    /// `JOB_STATUS_CHANGE`, `STOP` ...
    pub name: &'static str,
    /// Its `data`; none for events without.
    pub data: Option<QDict>,
}

/// The model's hold on the world during one command or one timer.
pub struct Context<'w> {
    pub(crate) now: Duration,
    pub(crate) release: Release,
    pub(crate) oracle: &'w mut Oracle,
    pub(crate) host: &'w mut Host,
    pub(crate) events: Vec<Event>,
    pub(crate) timers: Vec<(Duration, Timer)>,
    /// A snapshot of the machine that is in the images once this turn has ended.
    pub(crate) saving: Option<Saving>,
    /// What the client has passed with its bytes.
    pub(crate) passed: Option<Descriptor>,
    /// QEMU has ended by a failed assertion.
    pub(crate) aborted: bool,
    /// QEMU's main loop waits for what never comes.
    pub(crate) hung: bool,
}

impl<'w> Context<'w> {
    /// A fresh context for one thing to handle.
    pub fn new(now: Duration, release: Release, oracle: &'w mut Oracle, host: &'w mut Host) -> Self {
        Self {
            now,
            release,
            oracle,
            host,
            events: Vec::new(),
            timers: Vec::new(),
            saving: None,
            passed: None,
            aborted: false,
            hung: false,
        }
    }

    /// QEMU's own time. Moves only by [`Context::stall`].
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Which release is simulated.
    pub fn release(&self) -> Release {
        self.release
    }

    /// The files of the simulated host.
    pub fn host(&mut self) -> &mut Host {
        self.host
    }

    /// Asks which of `n` ways this goes; 0 is what usually happens.
    pub fn choose(&mut self, label: &'static str, n: usize) -> usize {
        self.oracle.choose(label, n)
    }

    /// Says an event to every negotiated monitor, now.
    pub fn event(&mut self, name: &'static str, data: Option<QDict>) {
        self.events.push(Event { at: self.now, name, data });
    }

    /// Asks to be called with `timer` after `delay`; a zero delay is QEMU's next turn of the main loop, right
    /// behind the reply to the command at hand.
    pub fn schedule(&mut self, delay: Duration, timer: Timer) {
        self.timers.push((self.now + delay, timer));
    }

    /// QEMU's main loop does nothing else for so long: what is said after this carries a later time, and reaches the
    /// clients only at the end of the turn.
    pub fn stall(&mut self, time: Duration) {
        self.now += time;
    }

    /// QEMU ends here and now, by an assertion that fails: what was said goes out, but no reply.
    pub fn abort(&mut self) {
        self.aborted = true;
    }

    /// QEMU waits here and now for what never comes: what was said goes out, but nothing is answered any more.
    pub fn hang(&mut self) {
        self.hung = true;
    }

    /// What was said, in order, and what was asked for: when, and what.
    pub fn finish(self) -> (Vec<Event>, Vec<(Duration, Timer)>) {
        (self.events, self.timers)
    }
}
