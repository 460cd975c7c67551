//! The guest's firmware. After a reset of the machine it finds that it has run before, and resets the machine itself:
//!
//! ```text
//! system_reset -(50 ms of guest time)-> RESET by the guest -> ... as often as the release's firmware does -> done
//! ```
//! Behind each start it sets up the disks, for which QEMU drains them. Usually nobody notices; a block job that a client has
//! begun within the first second may rest for it, now or later: the guest has its own thread, and on a busy host little time.
//!
//! Once from 10.0 on, once or a few times before; on `q35` of 5.2 it finds no end, and the devices are never set up. It goes on
//! when a stopped guest does. A guest that is known to have a system boots it instead of finding no end.
//!
//! Source: recordings `greeting`, `device-del` and `device-del-pc`; the four releases, asked.

use std::time::Duration;

use super::{
    Context, Timer,
    block::Graph,
    differences::{Drain, takes},
    job::Jobs,
    run_state::Cpus,
};
use crate::machine::Chipset;

/// From a reset to the firmware's own.
const FIRST: Duration = Duration::from_millis(50);

/// From one of its own to the next.
const NEXT: Duration = Duration::from_millis(4);

/// Until when it has set up the disks, on a busy host.
const DISKS_LATEST: Duration = Duration::from_secs(1);

/// How long it may still take for that when a job begins: less than the job takes, or more.
const DISKS: [Duration; 4] = [
    Duration::from_millis(0),
    Duration::from_millis(3),
    Duration::from_millis(25),
    Duration::from_millis(150),
];

/// What the firmware is still going to do.
#[derive(Debug, Default)]
pub(crate) struct Firmware {
    /// How often it will reset the machine.
    resets: u32,
    /// The boot that this belongs to, by [`Cpus::last_reset`]: a loaded state is of another.
    boot: Duration,
    /// A timer is set.
    waits: bool,
    /// The boot in which it sets the disks up while a job works.
    sets_up_disks: Option<Duration>,
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

    /// It has reset the machine, and after the last time sets up the disks.
    pub(crate) fn has_reset(&mut self, jobs: &Jobs, cpus: &Cpus, cx: &mut Context<'_>) {
        self.resets -= 1;
        self.boot = cpus.last_reset();
        self.go_on(cpus, NEXT, cx);
        if self.resets == 0 && jobs.any_would_rest() {
            self.sets_up_disks = Some(self.boot);
            cx.schedule(takes::FIRMWARE, Timer::FirmwareSetsUpDisks);
        }
    }

    /// A command may have begun block jobs: whether it has still to set up the disks, and when it does.
    pub(crate) fn meets(&mut self, jobs: &Jobs, cpus: &Cpus, cx: &mut Context<'_>) {
        let (boot, clock) = (cpus.last_reset(), cpus.clock(cx.now()));
        let is_at_it = cpus.running() && clock.saturating_sub(boot) < DISKS_LATEST;
        if !is_at_it || self.sets_up_disks == Some(boot) || !jobs.any_would_rest() {
            return;
        }
        let way = cx.choose("firmware-sets-up-disks", DISKS.len() + 1);
        if way > 0 {
            self.sets_up_disks = Some(boot);
            cx.schedule(DISKS[way - 1], Timer::FirmwareSetsUpDisks);
        }
    }

    /// The timer for that fired.
    pub(crate) fn sets_up_disks(&self, graph: &Graph, jobs: &mut Jobs, cpus: &Cpus, cx: &mut Context<'_>) {
        if cpus.running() && self.sets_up_disks == Some(cpus.last_reset()) {
            jobs.disks_drained(Drain::Firmware, graph, cx);
        }
    }
}
