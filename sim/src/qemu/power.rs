//! What the guest does on its own, as far as it shows outside, and what QEMU was told to do about it: `set-action`,
//! `watchdog-set-action`, `system_wakeup`.
//!
//! | the guest | QEMU |
//! | --- | --- |
//! | shuts down | ends, or stays with `-no-shutdown`: `shutdown` |
//! | resets | `RESET`, or ends |
//! | sleeps | `suspended`, until `system_wakeup` |
//! | panics | ends, stays stopped (`guest-panicked`), or goes on |
//! | lets its watchdog run out | resets, stops (`watchdog`), ends, or goes on |
//!
//! A guest that does not run does nothing. Source: the four releases, with the guest's registers written to from
//! outside.

use super::{
    Context, Qemu, QmpError,
    arguments::Arguments,
    run_state::{RunState, by_guest},
};
use crate::qobject::{QObject, qdict};

/// Something that the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestAct {
    /// It powers the machine off.
    ShutDown,
    /// It resets the machine.
    Reset,
    /// It goes to sleep, in memory.
    Sleep,
    /// Its kernel panics, and says so.
    Panic,
    /// It has loaded another kernel after a panic, and says so.
    CrashLoaded,
    /// It does not serve its watchdog in time.
    WatchdogExpires,
}

/// What QEMU does when a guest panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnPanic {
    GoOn,
    Pause,
    End,
}

/// What QEMU does about the guest's acts.
#[derive(Debug)]
pub(crate) struct Actions {
    stays_after_shutdown: bool,
    reset_ends: bool,
    panic: OnPanic,
    watchdog: &'static str,
}

/// QAPI's `WatchdogAction`.
const WATCHDOG: [&str; 7] = ["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"];

impl Actions {
    /// As a machine is started, with `-no-shutdown` or without.
    pub(crate) fn new(no_shutdown: bool) -> Self {
        Self {
            stays_after_shutdown: no_shutdown,
            reset_ends: false,
            panic: OnPanic::End,
            watchdog: WATCHDOG[0],
        }
    }

    /// `set-action`.
    pub(crate) fn set(&mut self, arguments: Arguments<'_>) {
        if let Some(reboot) = arguments.optional_text("reboot") {
            self.reset_ends = reboot == "shutdown";
        }
        if let Some(shutdown) = arguments.optional_text("shutdown") {
            self.stays_after_shutdown = shutdown == "pause";
        }
        match arguments.optional_text("panic") {
            None => {}
            Some("none") => self.panic = OnPanic::GoOn,
            Some("pause") => self.panic = OnPanic::Pause,
            Some(_) => self.panic = OnPanic::End,
        }
        if let Some(watchdog) = arguments.optional_text("watchdog") {
            self.set_watchdog(watchdog);
        }
    }

    /// `watchdog-set-action`.
    pub(crate) fn set_watchdog(&mut self, action: &str) {
        self.watchdog = WATCHDOG.into_iter().find(|known| *known == action).unwrap_or(self.watchdog);
    }

    /// Whether a reset ends QEMU instead.
    pub(crate) fn reset_ends(&self) -> bool {
        self.reset_ends
    }
}

impl Qemu {
    /// The guest does something.
    pub(crate) fn guest_does(&mut self, act: GuestAct, cx: &mut Context<'_>) {
        if !self.cpus.running() {
            return;
        }
        match act {
            GuestAct::ShutDown => {
                if self.actions.stays_after_shutdown {
                    cx.event("SHUTDOWN", Some(by_guest("guest-shutdown")));
                    self.cpus.stop(RunState::Shutdown, cx);
                } else {
                    self.end(by_guest("guest-shutdown"), cx);
                }
            }
            GuestAct::Reset => self.guest_resets(cx),
            GuestAct::Sleep => {
                self.cpus.set_state(RunState::Suspended, cx);
                cx.event("SUSPEND", None);
            }
            GuestAct::Panic => self.guest_panics(cx),
            GuestAct::CrashLoaded => cx.event("GUEST_CRASHLOADED", Some(qdict! { "action": "run" })),
            GuestAct::WatchdogExpires => self.watchdog_expires(cx),
        }
    }

    /// `system_wakeup`.
    pub(crate) fn wake_up(&mut self, cx: &mut Context<'_>) -> Result<QObject, QmpError> {
        if self.cpus.state() != RunState::Suspended {
            return Err(QmpError::generic("Unable to wake up: guest is not in suspended state"));
        }
        self.cpus.set_state(RunState::Running, cx);
        cx.event("WAKEUP", None);
        Ok(QObject::empty())
    }

    fn guest_resets(&mut self, cx: &mut Context<'_>) {
        if self.actions.reset_ends {
            self.end(by_guest("guest-reset"), cx);
        } else {
            self.cpus.reset_by_guest(cx);
        }
    }

    fn guest_panics(&mut self, cx: &mut Context<'_>) {
        let told =
            |cx: &mut Context<'_>, action| cx.event("GUEST_PANICKED", Some(qdict! { "action": action }));
        let ends = self.actions.panic == OnPanic::End && !self.actions.stays_after_shutdown;
        let twice = ends && cx.release().a_fatal_panic_is_told_twice();
        match self.actions.panic {
            OnPanic::GoOn => return told(cx, "run"),
            OnPanic::End if ends && !twice => told(cx, "poweroff"),
            _ => told(cx, "pause"),
        }
        self.cpus.stop(RunState::GuestPanicked, cx);
        if twice {
            told(cx, "poweroff");
        }
        if ends {
            self.end(by_guest("guest-panic"), cx);
        }
    }

    fn watchdog_expires(&mut self, cx: &mut Context<'_>) {
        let action = self.actions.watchdog;
        cx.event("WATCHDOG", Some(qdict! { "action": action }));
        match action {
            "reset" => self.guest_resets(cx),
            "shutdown" => cx.event("POWERDOWN", None),
            // It leaves as a program does that calls `exit`: nothing is closed, nothing is said.
            "poweroff" => cx.abort(),
            "pause" => self.cpus.stop(RunState::Watchdog, cx),
            _ => {}
        }
    }
}
