//! The guest's firmware after a reset of the machine: it finds that it has run before, and resets the machine itself.
//!
//! ```text
//! system_reset -(50 ms of guest time)-> RESET by the guest -> ... as often as the release's firmware does -> done
//! ```
//! Once from 10.0 on, once or a few times before; on `q35` of 5.2 it finds no end, and the devices are never set up. It goes on
//! when a stopped guest does. A guest that is known to have a system boots it instead of finding no end.
//!
//! Source: recordings `greeting`, `device-del` and `device-del-pc`; the four releases, asked.

use std::time::Duration;

use super::{Context, Timer, run_state::Cpus};
use crate::machine::Chipset;

/// From a reset to the firmware's own.
const FIRST: Duration = Duration::from_millis(50);

/// From one of its own to the next.
const NEXT: Duration = Duration::from_millis(4);

/// What the firmware is still going to do.
#[derive(Debug, Default)]
pub(crate) struct Firmware {
    /// How often it will reset the machine.
    resets: u32,
    /// The boot that this belongs to, by [`Cpus::last_reset`]: a loaded state is of another.
    boot: Duration,
    /// A timer is set.
    waits: bool,
}

impl Firmware {
    /// The machine was reset from outside.
    pub(crate) fn reset(&mut self, chipset: Chipset, cpus: &Cpus, cx: &mut Context<'_>) {
        let counts = cx.release().firmware_resets(chipset, cpus.guest().is_some());
        self.resets =
            if counts.len() == 1 { counts[0] } else { counts[cx.choose("firmware-resets", counts.len())] };
        self.boot = cpus.last_reset();
        self.go_on(cpus, FIRST, cx);
    }

    /// The guest runs again.
    pub(crate) fn resumed(&mut self, cpus: &Cpus, cx: &mut Context<'_>) {
        self.go_on(cpus, FIRST, cx);
    }

    fn go_on(&mut self, cpus: &Cpus, delay: Duration, cx: &mut Context<'_>) {
        if self.resets > 0 && cpus.running() && !self.waits {
            self.waits = true;
            cx.schedule(delay, Timer::Firmware);
        }
    }

    /// The timer fired: whether the firmware resets the machine now.
    pub(crate) fn wants_a_reset(&mut self, cpus: &Cpus) -> bool {
        self.waits = false;
        if self.boot != cpus.last_reset() {
            self.resets = 0;
        }
        self.resets > 0 && cpus.running()
    }

    /// It has reset the machine.
    pub(crate) fn has_reset(&mut self, cpus: &Cpus, cx: &mut Context<'_>) {
        self.resets -= 1;
        self.boot = cpus.last_reset();
        self.go_on(cpus, NEXT, cx);
    }
}
