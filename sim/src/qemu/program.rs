//! A boot sector that does the same once a second: [`Program`].
//!
//! ```text
//! start, reset -(firmware, a second)-> act -(a second)-> act ...
//! ```
//! It counts the guest's seconds: while the guest does not run none passes. Source: recordings `guest-panic` and
//! `watchdog`, whose boot sector waits for 18 ticks of the BIOS's clock each time.

use std::time::Duration;

use super::{
    Context, GuestAct, Timer,
    differences::takes,
    run_state::{Cpus, RunState},
};
use crate::machine::{Machine, Program};

/// From one act to the next: 18 ticks, of which there are 18.2 a second.
const INTERVAL: Duration = Duration::from_millis(989);

/// The program that a machine was booted into, if it is of this kind.
#[derive(Debug, Default)]
pub(crate) struct Booted {
    program: Option<Program>,
    /// When it next acts, by the guest's clock.
    due: Duration,
    /// A timer is set.
    waits: bool,
}

impl Booted {
    /// The program of a machine.
    pub(crate) fn of(machine: &Machine) -> Self {
        Self { program: machine.program, due: takes::BOOT + INTERVAL, waits: false }
    }

    /// When it is first looked for.
    pub(crate) fn first_timer(&mut self, state: RunState) -> Option<(Duration, Timer)> {
        self.waits = self.program.is_some() && state == RunState::Running;
        self.waits.then_some((self.due, Timer::Program))
    }

    /// The machine was reset: it is booted again.
    pub(crate) fn reset(&mut self, cpus: &Cpus, cx: &mut Context<'_>) {
        self.due = cpus.last_reset() + takes::BOOT + INTERVAL;
        self.go_on(cpus, cx);
    }

    /// The guest runs again.
    pub(crate) fn resumed(&mut self, cpus: &Cpus, cx: &mut Context<'_>) {
        self.go_on(cpus, cx);
    }

    fn go_on(&mut self, cpus: &Cpus, cx: &mut Context<'_>) {
        if self.program.is_some() && cpus.running() && !self.waits {
            self.waits = true;
            cx.schedule(self.due.saturating_sub(cpus.clock(cx.now())), Timer::Program);
        }
    }

    /// The timer fired: what the guest does now.
    pub(crate) fn acts(&mut self, cpus: &Cpus, cx: &mut Context<'_>) -> Option<GuestAct> {
        self.waits = false;
        let now = cpus.clock(cx.now());
        let due = cpus.running() && now >= self.due;
        if due {
            self.due = now + INTERVAL;
        }
        self.go_on(cpus, cx);
        let act = match self.program? {
            Program::Panics => GuestAct::Panic,
            Program::StarvesItsWatchdog => GuestAct::WatchdogExpires,
        };
        due.then_some(act)
    }
}
