//! What QEMU does about what its guest does: `-action`, and `-no-reboot`, `-no-shutdown`, `-watchdog-action` before it.

/// What QEMU does when a guest panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnPanic {
    /// `none`: tells it.
    GoOn,
    /// `pause`: stops the guest.
    Pause,
    /// `shutdown`: ends, or stops the guest if it is to stay after a shutdown.
    #[default]
    ShutDown,
    /// `exit-failure`: ends.
    ExitFailure,
}

/// QAPI's `WatchdogAction`, what usually happens first.
const WATCHDOG: [&str; 7] = ["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"];

/// What QEMU does about the guest's acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actions {
    /// A reset ends QEMU instead, or leaves the guest shut down: `-no-reboot`.
    pub reset_ends: bool,
    /// QEMU stays when the guest has shut down: `-no-shutdown`.
    pub stays_after_shutdown: bool,
    /// A panic of the guest.
    pub panic: OnPanic,
    /// Its watchdog has run out: one of QAPI's `WatchdogAction`.
    pub watchdog: &'static str,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            reset_ends: false,
            stays_after_shutdown: false,
            panic: OnPanic::default(),
            watchdog: WATCHDOG[0],
        }
    }
}

impl Actions {
    /// Sets one by the names that `-action` and `set-action` have for it and for what is done; nothing for others.
    pub fn set(&mut self, event: &str, action: &str) -> Option<()> {
        match (event, action) {
            ("reboot", "reset" | "shutdown") => self.reset_ends = action == "shutdown",
            ("shutdown", "poweroff" | "pause") => self.stays_after_shutdown = action == "pause",
            ("panic", "none") => self.panic = OnPanic::GoOn,
            ("panic", "pause") => self.panic = OnPanic::Pause,
            ("panic", "shutdown") => self.panic = OnPanic::ShutDown,
            ("panic", "exit-failure") => self.panic = OnPanic::ExitFailure,
            ("watchdog", _) => self.watchdog = WATCHDOG.into_iter().find(|known| *known == action)?,
            _ => return None,
        }
        Some(())
    }
}
