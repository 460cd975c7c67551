//! What the model asks to be called for later.

use super::{GuestAct, Request};

/// What the model asked to be called for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// A job's work is done, or due.
    Job {
        /// Which job, counted over the life of this QEMU.
        serial: u64,
    },
    /// A block job looks around.
    BlockJob {
        /// Which job, counted over the life of this QEMU.
        serial: u64,
    },
    /// Exports that are gone are to be reported.
    Exports,
    /// VSS in the guest lets its writers go.
    WritersLetGo {
        /// For which freeze, counted over the life of the agent.
        freeze: u64,
    },
    /// Serial ports that a loaded state closed are to be reported.
    SerialPorts,
    /// The guest writes to its disk.
    GuestWrite,
    /// A boot sector does what it does once a second.
    Program,
    /// The guest is to be stopped: a request of it has failed.
    StopForIoError,
    /// The guest's firmware has come to where it resets the machine.
    Firmware,
    /// The guest's firmware sets up its disks while jobs work.
    FirmwareSetsUpDisks,
    /// Devices that the guest was asked to let go leave: the machine was reset.
    Unplug,
    /// A device's end is to be told.
    DeviceDeleted {
        /// Which end, counted over the life of this QEMU.
        serial: u64,
    },
    /// A request that the oldest release carries out behind its reply, or the host's own.
    Request(Request),
    /// The migration thread goes on.
    Migration {
        /// Only the last that was asked for counts.
        serial: u64,
    },
    /// The guest does something.
    Guest(GuestAct),
}
