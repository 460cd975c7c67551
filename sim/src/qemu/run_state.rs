//! Whether the guest runs, and for how long it has.
//!
//! ```text
//! prelaunch -(cont)-> running <-(cont / stop)-> paused
//!     ^                  |  \-(a load begins)-> restore-vm -(it succeeds)-> as before
//!     |                  |                          \-(it fails)-> stays, until `cont`
//!     |                  |-(a migration switches over)-> finish-migrate -> postmigrate -(cont)-> running
//!     |                  |-(the guest does something)-> shutdown, suspended, guest-panicked, watchdog
//!     \--(system_reset of a guest that does not run)--/
//!
//! inmigrate -(the state has come)-> running, or as the source stood
//! ```
//! It says `STOP` and `RESUME` on the way into and out of `running`, and tells which serial ports a loaded
//! machine state has closed. It knows nothing of what a load loads, nor why a guest stops.

use std::time::Duration;

use super::{Context, QmpError};
use crate::{
    Release,
    qobject::{QDict, QObject, key, qdict},
};

/// The run states that the model reaches, by QAPI's `RunState`. `save-vm` is never seen from outside: QEMU's main
/// loop does nothing else meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Started with `-S`, or reset while it did not run.
    Prelaunch,
    /// The guest runs.
    Running,
    /// Stopped by `stop`.
    Paused,
    /// Stopped to save its state.
    SaveVm,
    /// Stopped to load a state, and left so where that failed.
    RestoreVm,
    /// Started with `-incoming`: waits for another machine's state.
    InMigrate,
    /// Stopped to hand its state over.
    FinishMigrate,
    /// Its state has been handed over.
    PostMigrate,
    /// The guest has shut down, and QEMU was told to stay.
    Shutdown,
    /// The guest sleeps.
    Suspended,
    /// Stopped by the watchdog.
    Watchdog,
    /// The guest's kernel has panicked.
    GuestPanicked,
}

impl RunState {
    const ALL: [RunState; 12] = [
        RunState::Prelaunch,
        RunState::Running,
        RunState::Paused,
        RunState::SaveVm,
        RunState::RestoreVm,
        RunState::InMigrate,
        RunState::FinishMigrate,
        RunState::PostMigrate,
        RunState::Shutdown,
        RunState::Suspended,
        RunState::Watchdog,
        RunState::GuestPanicked,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Prelaunch => "prelaunch",
            RunState::Running => "running",
            RunState::Paused => "paused",
            RunState::SaveVm => "save-vm",
            RunState::RestoreVm => "restore-vm",
            RunState::InMigrate => "inmigrate",
            RunState::FinishMigrate => "finish-migrate",
            RunState::PostMigrate => "postmigrate",
            RunState::Shutdown => "shutdown",
            RunState::Suspended => "suspended",
            RunState::Watchdog => "watchdog",
            RunState::GuestPanicked => "guest-panicked",
        }
    }

    /// The state of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether a stop has something to stop: a guest that runs, and from 10.0 on one that sleeps.
    pub(crate) fn is_live(self, release: Release) -> bool {
        self == RunState::Running || (self == RunState::Suspended && release.sleeping_guests_are_stopped())
    }
}

/// The virtual processors and their clock.
#[derive(Debug)]
pub(crate) struct Cpus {
    state: RunState,
    /// Guest time at `since`.
    clock: Duration,
    /// When the clock was last set; it advances only while the guest runs.
    since: Duration,
    /// Whether the guest has run at all: its firmware then has set up the devices.
    started: bool,
    serial_ports: Vec<String>,
    /// A loaded state closed the serial ports and nobody was told yet: the guest has to run for it.
    ports_due: bool,
    /// Whether the guest runs as soon as the state that it waits for has come.
    autostart: bool,
    /// It slept when it was stopped, and will when it goes on.
    asleep: bool,
}

impl Cpus {
    /// Processors that start at virtual time zero.
    pub(crate) fn new(state: RunState, serial_ports: Vec<String>, autostart: bool) -> Self {
        let started = !matches!(state, RunState::Prelaunch | RunState::InMigrate);
        Self {
            state,
            clock: Duration::ZERO,
            since: Duration::ZERO,
            started,
            serial_ports,
            ports_due: false,
            autostart,
            asleep: false,
        }
    }

    /// The run state.
    pub(crate) fn state(&self) -> RunState {
        self.state
    }

    /// Whether the guest runs.
    pub(crate) fn running(&self) -> bool {
        self.state == RunState::Running
    }

    /// Whether the guest has ever run.
    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// How long the guest has run by its own clock.
    pub(crate) fn clock(&self, now: Duration) -> Duration {
        if self.running() { self.clock + now.saturating_sub(self.since) } else { self.clock }
    }

    /// Stops a running guest for a reason, with `STOP`; says nothing and changes nothing if it does not run.
    pub(crate) fn stop(&mut self, why: RunState, cx: &mut Context<'_>) {
        if self.state.is_live(cx.release()) {
            self.asleep = self.state == RunState::Suspended;
            self.set_state(why, cx);
            cx.event("STOP", None);
        }
    }

    /// `stop`.
    pub(crate) fn pause(&mut self, cx: &mut Context<'_>) {
        if self.state == RunState::InMigrate {
            self.autostart = false;
        } else {
            self.stop(RunState::Paused, cx);
        }
    }

    /// `cont`.
    ///
    /// # Errors
    /// In a state that only a reset or the end of a migration leaves.
    pub(crate) fn cont(&mut self, cx: &mut Context<'_>) -> Result<(), QmpError> {
        match self.state {
            RunState::Shutdown => return Err(QmpError::generic("Resetting the Virtual Machine is required")),
            RunState::FinishMigrate => return Err(QmpError::generic("Migration is not finalized yet")),
            RunState::InMigrate => self.autostart = true,
            RunState::Suspended => {}
            _ => self.resume(cx),
        }
        Ok(())
    }

    /// Lets the guest run, with `RESUME`; says nothing if it does. One that slept sleeps on.
    pub(crate) fn resume(&mut self, cx: &mut Context<'_>) {
        if !self.running() {
            let asleep = std::mem::take(&mut self.asleep);
            self.set_state(if asleep { RunState::Suspended } else { RunState::Running }, cx);
            self.started = true;
            cx.event("RESUME", None);
        }
    }

    /// Goes back to how it stood before a save or a load.
    pub(crate) fn restore(&mut self, before: RunState, cx: &mut Context<'_>) {
        if before.is_live(cx.release()) {
            self.resume(cx);
        }
    }

    /// Whether the guest is to run as soon as the state that it waits for has come.
    pub(crate) fn autostart(&self) -> bool {
        self.autostart
    }

    /// Takes on a state without a word; the guest's clock stands still unless that is `running`.
    pub(crate) fn set_state(&mut self, state: RunState, cx: &Context<'_>) {
        self.set_clock(self.clock(cx.now()), cx.now());
        self.state = state;
    }

    /// The guest's clock and serial ports are those of a loaded state from now on.
    pub(crate) fn loaded(&mut self, clock: Duration, now: Duration) {
        self.set_clock(clock, now);
        self.ports_due = !self.serial_ports.is_empty();
    }

    /// Resets the machine: one that does not run is `prelaunch` again, unless it is about to give or get a state.
    pub(crate) fn reset(&mut self, cx: &mut Context<'_>) {
        cx.event("RESET", Some(by_host("host-qmp-system-reset")));
        if !matches!(self.state, RunState::Running | RunState::InMigrate | RunState::FinishMigrate) {
            self.state = RunState::Prelaunch;
            self.asleep = false;
        }
    }

    /// Whether a running guest has closed ports to report.
    pub(crate) fn owes_a_port_report(&self) -> bool {
        self.running() && self.ports_due
    }

    /// Says `VSERPORT_CHANGE` for each port that a loaded state closed, once the guest runs. The world throttles
    /// them.
    pub(crate) fn report_ports(&mut self, cx: &mut Context<'_>) {
        if !self.owes_a_port_report() {
            return;
        }
        self.ports_due = false;
        for port in &self.serial_ports {
            cx.event("VSERPORT_CHANGE", Some(qdict! { "open": false, "id": port.clone() }));
        }
    }

    /// The reply to `query-status`.
    pub(crate) fn query_status(&self, cx: &Context<'_>) -> QObject {
        // Both fall into one bucket: what is put in last is written first.
        let mut reply = qdict! {};
        if cx.release().status_has_singlestep() {
            reply.put(key!("singlestep"), false);
        }
        reply.put(key!("status"), self.state.name());
        reply.put(key!("running"), self.running());
        reply.into()
    }

    fn set_clock(&mut self, clock: Duration, now: Duration) {
        self.clock = clock;
        self.since = now;
    }
}

/// The data of an event that the guest has caused.
pub(crate) fn by_guest(reason: &'static str) -> QDict {
    qdict! { "guest": true, "reason": reason }
}

/// The data of an event that the host's user, not the guest, has caused.
pub(crate) fn by_host(reason: &'static str) -> QDict {
    qdict! { "guest": false, "reason": reason }
}
