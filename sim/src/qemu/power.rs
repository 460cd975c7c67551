//! What the guest does on its own, as far as it shows outside, and what QEMU was told to do about it: `set-action`,
//! `watchdog-set-action`, `system_wakeup`.
//!
//! | the guest | QEMU |
//! | --- | --- |
//! | shuts down | ends, or stays with `-no-shutdown`: `shutdown` |
//! | resets | `RESET`, or ends |
//! | sleeps | `suspended`, until `system_wakeup` |
//! | panics | ends, stays stopped (`guest-panicked`), or goes on |
//! | writes, and the host has no space | does what the disk's `werror` says: stops (`io-error`), tells it, or ignores it |
//! | lets its watchdog run out | resets, stops (`watchdog`), ends, or goes on |
//!
//! A guest that does not run does nothing. Source: the four releases, with the guest's registers written to from
//! outside; recordings of boot sectors that panic and that starve their watchdog.

use super::{
    Context, Qemu, QmpError,
    arguments::Arguments,
    boot_sector,
    run_state::{RunState, by_guest},
};
use crate::{
    machine::{Actions, Errno, OnPanic},
    qobject::{QDict, QObject, qdict},
};

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
    /// It writes to its disk of that number, counted from 0, and the host has no space left.
    WriteFails(usize),
}

impl Actions {
    /// `set-action`.
    pub(crate) fn set_all(&mut self, arguments: Arguments<'_>) {
        for event in ["reboot", "shutdown", "panic", "watchdog"] {
            if let Some(action) = arguments.optional_text(event) {
                // The schema has no others.
                let _ = self.set(event, action);
            }
        }
    }
}

impl Qemu {
    /// The guest does something.
    pub(crate) fn guest_does(&mut self, act: GuestAct, cx: &mut Context<'_>) {
        if !self.cpus.running() {
            return;
        }
        match act {
            GuestAct::ShutDown => self.shut_down(by_guest("guest-shutdown"), cx),
            GuestAct::Reset => self.guest_resets(cx),
            GuestAct::Sleep => {
                self.cpus.set_state(RunState::Suspended, cx);
                cx.event("SUSPEND", None);
            }
            GuestAct::Panic => self.guest_panics(cx),
            GuestAct::CrashLoaded => cx.event("GUEST_CRASHLOADED", Some(qdict! { "action": "run" })),
            GuestAct::WatchdogExpires => self.watchdog_expires(cx),
            GuestAct::WriteFails(disk) => {
                let device = self.graph.devices().get(disk).cloned();
                if let Some(device) = device {
                    boot_sector::write_failed(&mut self.graph, &device, Errno::NoSpace, cx);
                }
            }
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

    /// The machine is off: QEMU ends, unless it is to stay.
    pub(super) fn shut_down(&mut self, cause: QDict, cx: &mut Context<'_>) {
        if self.actions.stays_after_shutdown {
            cx.event("SHUTDOWN", Some(cause));
            self.cpus.stop(RunState::Shutdown, cx);
        } else {
            self.end(cause, cx);
        }
    }

    fn guest_resets(&mut self, cx: &mut Context<'_>) {
        if self.actions.reset_ends {
            self.shut_down(by_guest("guest-reset"), cx);
        } else {
            self.jobs_rest_for_reset(cx);
            self.cpus.reset_by_guest(cx);
            self.devices.reset(&mut self.graph, &mut self.cpus, cx);
            self.firmware.reset(self.devices.chipset(), &self.cpus, cx);
            self.booted.reset(&self.cpus, cx);
        }
    }

    /// Says that the guest's kernel has panicked, and what is done about it.
    pub(super) fn tell_panic(action: &'static str, cx: &mut Context<'_>) {
        cx.event("GUEST_PANICKED", Some(qdict! { "action": action }));
    }

    /// The guest's kernel has panicked.
    pub(super) fn guest_panics(&mut self, cx: &mut Context<'_>) {
        match self.actions.panic {
            OnPanic::GoOn => return Self::tell_panic("run", cx),
            OnPanic::ShutDown if !self.actions.stays_after_shutdown => {}
            OnPanic::ExitFailure => {}
            OnPanic::Pause | OnPanic::ShutDown => {
                Self::tell_panic("pause", cx);
                return self.cpus.stop(RunState::GuestPanicked, cx);
            }
        }
        if cx.release().a_fatal_panic_is_told_twice() {
            Self::tell_panic("pause", cx);
        }
        Self::tell_panic("poweroff", cx);
        self.shut_down(by_guest("guest-panic"), cx);
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
