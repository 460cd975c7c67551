//! Whether the guest runs, and for how long it has.
//!
//! ```text
//! prelaunch -(cont)-> running <-(cont / stop)-> paused
//!     ^                  |  \-(a load begins)-> restore-vm -(it succeeds)-> as before
//!     |                  |                          \-(it fails)-> stays, until `cont`
//!     |                  |-(a migration switches over)-> finish-migrate -> postmigrate -(cont)-> running
//!     |                  |-(the guest does something)-> shutdown, suspended, guest-panicked, watchdog, io-error
//!     \--(system_reset of a guest that does not run)--/
//!
//! inmigrate -(the state has come)-> running, or as the source stood
//! ```
//! It says `STOP` and `RESUME` on the way into and out of `running`, and tells which serial ports a loaded
//! machine state has closed. It knows nothing of what a load loads, nor why a guest stops.

use std::time::Duration;

use super::{Context, QmpError, differences::takes};
use crate::{
    Release,
    guest::Guest,
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
    /// Stopped because a request to a disk has failed.
    IoError,
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
    const ALL: [RunState; 13] = [
        RunState::Prelaunch,
        RunState::Running,
        RunState::Paused,
        RunState::IoError,
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
            RunState::IoError => "io-error",
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
    /// Guest time when the guest's firmware last began.
    booted: Duration,
    serial_ports: Vec<String>,
    /// A loaded state closed the serial ports and nobody was told yet: the guest has to run for it.
    ports_due: bool,
    /// What runs on them, if that is known.
    guest: Option<Box<Guest>>,
    /// Whether the guest runs as soon as the state that it waits for has come.
    autostart: bool,
    /// It slept when it was stopped, and will when it goes on.
    asleep: bool,
    /// The guest has not run since its state was loaded: no driver in it has started its devices.
    rests_since_load: bool,
}

impl Cpus {
    /// Processors that start at virtual time zero.
    pub(crate) fn new(
        state: RunState,
        serial_ports: Vec<String>,
        guest: Option<Guest>,
        autostart: bool,
    ) -> Self {
        // A guest that was stopped before anybody asked had run long enough.
        let clock = if state == RunState::Paused { takes::BOOT } else { Duration::ZERO };
        let (booted, since) = (Duration::ZERO, Duration::ZERO);
        Self {
            state,
            clock,
            since,
            booted,
            serial_ports,
            ports_due: false,
            guest: guest.map(Box::new),
            autostart,
            asleep: false,
            rests_since_load: false,
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

    /// Whether the guest's firmware has set up the devices: it needs guest time for it after each start and reset.
    pub(crate) fn devices_are_set_up(&self, now: Duration) -> bool {
        self.clock(now).saturating_sub(self.booted) >= takes::FIRMWARE
    }

    /// Whether the guest has not run since its state was loaded: its drivers start their devices again when it does.
    pub(crate) fn rests_since_load(&self) -> bool {
        self.rests_since_load
    }

    /// How long the guest has run by its own clock.
    pub(crate) fn clock(&self, now: Duration) -> Duration {
        if self.running() { self.clock + now.saturating_sub(self.since) } else { self.clock }
    }

    /// When the firmware looked for a system on the first disk, if the guest has run for so long.
    pub(crate) fn found_disks_at(&self, now: Duration) -> Option<Duration> {
        let since = self.clock(now).saturating_sub(self.booted).checked_sub(takes::BOOT)?;
        Some(now.saturating_sub(since))
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

    /// Whether `cont` is in place.
    ///
    /// # Errors
    /// In a state that only a reset or the end of a migration leaves.
    pub(crate) fn may_go_on(&self) -> Result<(), QmpError> {
        match self.state {
            RunState::Shutdown => Err(QmpError::generic("Resetting the Virtual Machine is required")),
            RunState::FinishMigrate => Err(QmpError::generic("Migration is not finalized yet")),
            _ => Ok(()),
        }
    }

    /// `cont`.
    pub(crate) fn cont(&mut self, cx: &mut Context<'_>) {
        match self.state {
            RunState::InMigrate => self.autostart = true,
            RunState::Suspended => {}
            _ => self.resume(cx),
        }
    }

    /// Lets the guest run, with `RESUME`; says nothing if it does. One that slept sleeps on.
    pub(crate) fn resume(&mut self, cx: &mut Context<'_>) {
        if self.running() {
            return;
        }
        let asleep = std::mem::take(&mut self.asleep);
        self.set_state(if asleep { RunState::Suspended } else { RunState::Running }, cx);
        cx.event("RESUME", None);
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
        if state == RunState::Running {
            self.rests_since_load = false;
            if let Some(guest) = &mut self.guest {
                guest.run(cx.now());
            }
        }
    }

    /// The guest, its clock and its serial ports are those of a loaded state from now on.
    pub(crate) fn loaded(&mut self, clock: Duration, memory: Option<Box<Guest>>, cx: &mut Context<'_>) {
        self.set_clock(clock, cx.now());
        self.booted = Duration::ZERO;
        self.rests_since_load = true;
        if let (Some(guest), Some(memory)) = (&mut self.guest, memory) {
            guest.load(*memory, cx);
        }
        self.ports_due = !self.serial_ports.is_empty() || self.guest.is_some();
    }

    /// What runs on them, if that is known.
    pub(crate) fn guest(&self) -> Option<&Guest> {
        self.guest.as_deref()
    }

    /// What runs on them, if that is known.
    pub(crate) fn guest_mut(&mut self) -> Option<&mut Guest> {
        self.guest.as_deref_mut()
    }

    /// What an internal snapshot keeps of the guest's memory.
    pub(crate) fn memory(&self) -> Option<Box<Guest>> {
        self.guest.clone()
    }

    /// Resets the machine: one that does not run is `prelaunch` again, unless it is about to give or get a state.
    pub(crate) fn reset(&mut self, cx: &mut Context<'_>) {
        self.reset_by(by_host("host-qmp-system-reset"), cx);
        if !matches!(self.state, RunState::Running | RunState::InMigrate | RunState::FinishMigrate) {
            self.state = RunState::Prelaunch;
            self.asleep = false;
        }
    }

    /// The guest resets the machine.
    pub(crate) fn reset_by_guest(&mut self, cx: &mut Context<'_>) {
        self.reset_by(by_guest("guest-reset"), cx);
    }

    fn reset_by(&mut self, reason: QDict, cx: &mut Context<'_>) {
        self.reset_unheard(cx);
        cx.event("RESET", Some(reason));
    }

    /// The machine is as at its start, without a word of it: a state was to be loaded into it.
    pub(crate) fn reset_unheard(&mut self, cx: &mut Context<'_>) {
        if let Some(guest) = &mut self.guest {
            guest.reset(cx);
            if self.state == RunState::Running {
                guest.run(cx.now());
            }
        }
        self.booted = self.clock(cx.now());
    }

    /// The guest's clock when it was last started or reset.
    pub(crate) fn last_reset(&self) -> Duration {
        self.booted
    }

    /// A serial port is gone, and says nothing any more.
    pub(crate) fn remove_port(&mut self, id: &str) {
        self.serial_ports.retain(|port| port != id);
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
        if let Some(guest) = &mut self.guest {
            guest.report_port(cx);
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
