//! The differences of snapshots of the whole machine.

use crate::{Release, machine::Errno};

/// Texts.
impl Release {
    /// `savevm` with no disk that could hold the machine state.
    pub(crate) fn no_disk_to_save_to(self) -> &'static str {
        match self {
            Release::V5_2 => "No block device can accept snapshots",
            _ => "no block device can store vmstate for snapshot",
        }
    }

    /// `loadvm` with no disk that could hold the machine state.
    pub(crate) fn no_disk_to_load_from(self) -> &'static str {
        match self {
            Release::V5_2 => "No block device supports snapshots",
            _ => "no block device can store vmstate for snapshot",
        }
    }

    /// `info snapshots` with no disk that could hold the machine state.
    pub(crate) fn no_disk_to_list(self) -> &'static str {
        match self {
            Release::V5_2 => "No available block device supports snapshots",
            Release::V7_2 | Release::V10_0 => "no block device can store vmstate for snapshot",
            Release::V11_1 => "Error: no block device can store vmstate for snapshot",
        }
    }

    /// A snapshot to load that not every disk has; `lacking` is the first that has not.
    pub(crate) fn no_such_snapshot(self, tag: &str, lacking: &str) -> String {
        match self {
            Release::V5_2 => format!("Device '{lacking}' does not have the requested snapshot '{tag}'"),
            _ => format!("Snapshot '{tag}' does not exist in one or more devices"),
        }
    }

    /// The machine state could not be written. Later releases tell of no other error than EIO.
    pub(crate) fn state_not_written(self, errno: Errno) -> String {
        match self {
            Release::V5_2 => format!("Error while writing VM state: {}", errno.text()),
            Release::V7_2 => "Error while writing VM state: Input/output error".into(),
            Release::V10_0 | Release::V11_1 => "ram_save_setup failed: Input/output error".into(),
        }
    }
}

/// Order.
impl Release {
    /// After a machine state that could not be written a node is never freed: QEMU aborts when it is to end.
    pub(crate) fn a_failed_save_leaks(self) -> bool {
        self >= Release::V7_2
    }

    /// `delvm` looks first whether all disks take snapshots.
    pub(crate) fn delete_needs_all_disks(self) -> bool {
        self >= Release::V7_2
    }
}

/// Shape of replies.
impl Release {
    /// Length in bytes of the state of an idle machine of 64 MiB: pages of zeroes cost next to nothing. Where nothing has run
    /// yet, not even the firmware, there are more of them.
    pub(crate) fn vm_state_size(self, guest_has_run: bool) -> u64 {
        match (self, guest_has_run) {
            (Release::V5_2, true) => 872_652,
            (Release::V7_2, true) => 883_588,
            (Release::V10_0, true) => 900_350,
            (Release::V11_1, true) => 868_137,
            (Release::V5_2, false) => 565_298,
            (Release::V7_2, false) => 572_151,
            (Release::V10_0, false) => 576_584,
            (Release::V11_1, false) => 564_890,
        }
    }
}
