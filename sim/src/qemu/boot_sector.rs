//! A boot sector that writes to the disk it was booted from, at intervals, until a write fails and it is told so.
//!
//! ```text
//! write -> done -> (a while) -> write ...
//!    \-> its file system is frozen -> (a while) -> write ...
//!    \-> BLOCK_IO_ERROR -> stopped (`io-error`) -(cont)-> the same write again
//!                      \-> told (it gives up), or not (it goes on)
//! ```
//! It is there only on a machine with a disk of which [`crate::machine::Disk::guest_writes`]; the guests of others leave
//! their disks alone. Source: recordings of a boot sector that writes, with `werror` of each kind.

use std::time::Duration;

use super::{
    Context, Timer,
    block::{Device, Graph},
    differences::takes,
    run_state::{Cpus, RunState},
};
use crate::{
    Machine,
    host::Blocks,
    machine::{Errno, OnError},
    qobject::{QDict, key, qdict},
};

/// From the start of the machine to the first write: the firmware has to find the disk.
const FIRST_WRITE: Duration = takes::FIRMWARE;

/// From one write to the next.
const INTERVAL: Duration = Duration::from_millis(100);

/// The program that a machine was booted into instead of an operating system.
#[derive(Debug, Default)]
pub(crate) struct BootSector {
    /// The id of its disk's device; none for a guest that does not write, or has given up.
    device: Option<String>,
    /// How many writes were done.
    writes: u64,
    /// A write has failed and waits until the guest runs again.
    waits: bool,
    /// The id of the device that told of a failed write.
    told: Option<String>,
}

impl BootSector {
    /// The boot sector of a machine.
    pub(crate) fn of(machine: &Machine) -> Self {
        let disk = machine.disks.iter().find(|disk| disk.guest_writes);
        Self { device: disk.map(|disk| disk.device.clone()), ..Self::default() }
    }

    /// Whether it has run: the firmware was done with the disks then.
    pub(crate) fn has_run(&self) -> bool {
        self.writes > 0 || self.waits || self.told.is_some()
    }

    /// The device whose failed write it was told of.
    pub(crate) fn told_by(&self) -> Option<&str> {
        self.told.as_deref()
    }

    /// When it first writes.
    pub(crate) fn first_timer(&self) -> Option<(Duration, Timer)> {
        self.device.is_some().then_some((FIRST_WRITE, Timer::GuestWrite))
    }

    /// The guest runs again: a write that has failed is tried again, behind the reply of most releases.
    pub(crate) fn resumed(&mut self, graph: &mut Graph, cpus: &mut Cpus, cx: &mut Context<'_>) {
        if !std::mem::take(&mut self.waits) {
            return;
        }
        if cx.release().requests_are_tried_again_before_the_reply() {
            self.write(graph, cpus, cx);
        } else {
            cx.schedule(Duration::ZERO, Timer::GuestWrite);
        }
    }

    /// Writes, if the guest runs.
    pub(crate) fn write(&mut self, graph: &mut Graph, cpus: &Cpus, cx: &mut Context<'_>) {
        let device = graph.devices().iter().find(|device| Some(&device.id) == self.device.as_ref());
        let Some(device) = device.cloned() else { return };
        if !cpus.running() {
            self.waits = true;
            return;
        }
        if cpus.guest().is_some_and(|guest| guest.holds(&device.id)) {
            return cx.schedule(INTERVAL, Timer::GuestWrite);
        }
        let struck = graph.injected_below(&device.node).and_then(|rules| {
            rules.event("write_aio");
            rules.strikes("write")
        });
        let Some(strike) = struck else {
            self.writes += 1;
            graph.write(&device.node, Blocks::from([(0, self.writes)]), cx.host());
            return cx.schedule(INTERVAL, Timer::GuestWrite);
        };
        match write_failed(graph, &device, strike.errno, cx) {
            OnError::Stop => self.waits = true,
            OnError::Ignore => cx.schedule(INTERVAL, Timer::GuestWrite),
            OnError::Report | OnError::Enospc => self.told = self.device.take(),
        }
    }
}

/// A write of the guest to a disk has failed: tells it, and what is done about it.
pub(super) fn write_failed(
    graph: &mut Graph,
    device: &Device,
    errno: Errno,
    cx: &mut Context<'_>,
) -> OnError {
    let action = device.on_write_error.action(errno);
    let event = io_error(&device.id, &device.node, action, errno, cx);
    cx.event("BLOCK_IO_ERROR", Some(event));
    if action == OnError::Stop {
        graph.set_io_status(&device.id, errno);
        cx.schedule(Duration::ZERO, Timer::StopForIoError);
    }
    action
}

/// QEMU stops the guest when it is next in its main loop.
pub(crate) fn stop(cpus: &mut Cpus, cx: &mut Context<'_>) {
    cpus.stop(RunState::IoError, cx);
}

/// The data of `BLOCK_IO_ERROR`.
fn io_error(device: &str, node: &str, action: OnError, errno: Errno, cx: &Context<'_>) -> QDict {
    let mut data = qdict! {
        "device": "",
        "node-name": node.to_owned(),
        "operation": "write",
        "action": action.name(),
        "reason": errno.text(),
    };
    if matches!(action, OnError::Stop) {
        data.put(key!("nospace"), errno == Errno::NoSpace);
    }
    if cx.release().io_errors_tell_the_device() {
        data.put(key!("qom-path"), format!("/machine/peripheral/{device}/virtio-backend"));
    }
    data
}
