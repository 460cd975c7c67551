//! Every way in which the releases differ, as far as it is simulated: texts, order of events, members of replies.
//!
//! The rest of the model asks here and never compares releases itself. Sources: recordings of the four releases.

use std::time::Duration;

use super::{QmpError, block::job_filter::JobDriver, job::is_well_formed};
use crate::{
    Release,
    machine::{Chipset, Errno},
};

mod graph;
mod migration;
mod objects;
mod tools;

pub(crate) use graph::{Conflict, UNFIT_TARGET};
pub(crate) use migration::Unloadable;

/// What drains all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// The guest is about to be stopped.
    Stop,
    /// It was stopped, or had been.
    Stopped,
    /// It runs again.
    Cont,
    /// A transaction, an internal snapshot, a machine state that is saved or loaded.
    Transaction,
    /// An overlay is put on top.
    Overlay,
    /// An overlay is made and put on top.
    OverlayMade,
    /// A node that a job uses is to get an overlay.
    BelowOverlay,
    /// A node that was there before becomes the child of a new one.
    Attached,
    /// Likewise, and a job uses it.
    AttachedBelowJob,
    /// A node is taken out, or one that could not be opened.
    NodeGone,
    /// QEMU is about to end.
    Quit,
}

/// Texts.
impl Release {
    /// Neither a device nor a node of that name.
    pub(crate) fn cannot_find(self, name: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => format!("Cannot find device={name} nor node_name={name}"),
            _ => format!("Cannot find device='{name}' nor node-name='{name}'"),
        })
    }

    /// Neither a device of the one name nor a node of the other.
    pub(crate) fn cannot_find_either(self, device: &str, node: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => format!("Cannot find device={device} nor node_name={node}"),
            _ => format!("Cannot find device='{device}' nor node-name='{node}'"),
        })
    }

    /// No node of that name, where only nodes are looked for.
    pub(crate) fn cannot_find_node(self, name: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => format!("Cannot find device= nor node_name={name}"),
            _ => format!("Cannot find device='' nor node-name='{name}'"),
        })
    }

    /// No node of that name.
    pub(crate) fn node_not_found(self, name: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => format!("Cannot find node {name}"),
            _ => format!("Failed to find node with node-name='{name}'"),
        })
    }

    /// The node's name is taken.
    pub(crate) fn duplicate_node(self, name: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "Duplicate node name".into(),
            _ => format!("Duplicate nodes with node-name='{name}'"),
        })
    }

    /// The node's name is none.
    pub(crate) fn invalid_node_name(self, name: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "Invalid node name".into(),
            _ => format!("Invalid node-name: '{name}'"),
        })
    }

    /// `blockdev-snapshot-sync` to an overlay by a name that is taken.
    pub(crate) fn overlay_name_in_use(self) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "New overlay node name already in use",
            _ => "New overlay node-name already in use",
        })
    }

    /// `blockdev-snapshot-sync` to an overlay without a name.
    pub(crate) fn overlay_name_missing(self) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => "New overlay node name missing",
            _ => "New overlay node-name missing",
        })
    }

    /// What was opened as a file is none.
    pub(crate) fn no_regular_file(self, filename: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => {
                "A regular file was expected by the 'file' driver, but something else was given".into()
            }
            _ => format!("'file' driver requires '{filename}' to be a regular file"),
        })
    }

    /// A disk on a node that another device, `present`, writes; `id` is that of the disk.
    pub(crate) fn device_conflict(self, node: &str, present: &str, id: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => {
                format!("Conflicts with use by {present} as 'root', which does not allow 'write' on {node}")
            }
            _ => format!(
                "Permission conflict on node '{node}': permissions 'write' are both required by block device \
                 '{present}' (uses node '{node}' as 'root' child) and unshared by block device \
                 '/machine/peripheral/{id}/virtio-backend' (uses node '{node}' as 'root' child)."
            ),
        })
    }

    /// The id of a new device, as far as it is looked at before all else.
    pub(crate) fn check_device_id_first(self, id: Option<&str>, taken: bool) -> Result<(), QmpError> {
        match id {
            Some(id) if self <= Release::V7_2 && !is_well_formed(id) => {
                Err(QmpError::generic("Parameter 'id' expects an identifier"))
            }
            Some(id) if self == Release::V5_2 && taken => {
                Err(QmpError::generic(format!("Duplicate ID '{id}' for device")))
            }
            _ => Ok(()),
        }
    }

    /// The id of a new device, once its bus is known.
    pub(crate) fn check_device_id(self, id: Option<&str>, taken: bool) -> Result<(), QmpError> {
        match id {
            Some(id) if taken => Err(QmpError::generic(format!("Duplicate device ID '{id}'"))),
            Some(id) if self >= Release::V11_1 && !is_well_formed(id) => {
                Err(QmpError::generic(format!("Invalid qdev ID '{id}'")))
            }
            _ => Ok(()),
        }
    }

    /// How `query-chardev` shows that a socket listens.
    pub(crate) fn server_option(self) -> &'static str {
        match self {
            Release::V5_2 => "server",
            _ => "server=on",
        }
    }

    /// An overlay that would be its own backing file. QEMU 5.2 crashes, which is not simulated.
    pub(crate) fn backing_cycle(self, node: &str, overlay: &str) -> QmpError {
        match self {
            Release::V5_2 => super::not_simulated("QEMU 5.2 crashes on a cycle of backing files"),
            _ => QmpError::generic(format!(
                "Making '{node}' a backing child of '{overlay}' would create a cycle"
            )),
        }
    }

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

    /// An action of a transaction that cannot be in a group.
    pub(crate) fn not_in_a_group(self, action: &str) -> QmpError {
        let property = if self >= Release::V10_0 { "transaction" } else { "Transaction" };
        QmpError::generic(format!(
            "Action '{action}' does not support {property} property completion-mode = grouped"
        ))
    }

    /// `block-stream` down to a file that no layer has.
    pub(crate) fn no_base_of_that_file(self, file: &str) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 => format!("Base '{file}' not found"),
            _ => format!("Can't find '{file}' in the backing chain"),
        })
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
    /// `quit`, `system_reset` and `system_powerdown` act before their reply is sent.
    pub(crate) fn requests_act_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// `VSERPORT_CHANGE` that `cont` or the human monitor's `loadvm` brings comes before the reply.
    pub(crate) fn ports_report_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// While another job is at work, a `blockdev-create` that is refused may fail before or after the reply to the
    /// command: in about a tenth of the runs of 10.0 and 11.1, in none of 60 of 5.2 and 7.2.
    pub(crate) fn failing_create_races_its_reply(self) -> bool {
        self >= Release::V10_0
    }

    /// A `blockdev-create` that cannot open its file fails before the reply to the command.
    pub(crate) fn create_fails_on_open_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// A `blockdev-create` that is refused before any I/O fails before the reply to the command.
    pub(crate) fn create_fails_on_checks_before_the_reply(self) -> bool {
        self == Release::V7_2
    }

    /// A request of the guest that has failed is tried again before the reply to `cont`.
    pub(crate) fn requests_are_tried_again_before_the_reply(self) -> bool {
        self == Release::V7_2
    }

    /// After a machine state that could not be written a node is never freed: QEMU aborts when it is to end.
    pub(crate) fn a_failed_save_leaks(self) -> bool {
        self >= Release::V7_2
    }

    /// A block job that sleeps pauses, or is cancelled, before the reply to the command.
    pub(crate) fn sleeping_jobs_act_before_the_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// How often a block job rests for a moment when all nodes are drained: usually, and at most. Probed with a backup
    /// and a mirror; the most with a guest whose firmware had set up its disks.
    pub(crate) fn rests(self, drain: Drain) -> (usize, usize) {
        let most = |of_7_2, of_10_0, of_11_1| match self {
            Release::V5_2 => 0,
            Release::V7_2 => of_7_2,
            Release::V10_0 => of_10_0,
            Release::V11_1 => of_11_1,
        };
        let (usual, most) = match drain {
            Drain::Stop => (0, most(0, 1, 3)),
            Drain::Cont => (0, most(0, 0, 2)),
            Drain::Stopped | Drain::Transaction => (1, 1),
            Drain::Overlay => (1, most(1, 3, 3)),
            Drain::OverlayMade => (1, most(1, 19, 19)),
            Drain::BelowOverlay => (1, 1),
            Drain::Attached => (most(0, 3, 3), most(0, 3, 3)),
            Drain::AttachedBelowJob => (2, 2),
            Drain::NodeGone => (most(0, 1, 1), most(0, 1, 1)),
            Drain::Quit => (0, most(0, 2, 4)),
        };
        if self == Release::V5_2 { (0, 0) } else { (usual, most) }
    }

    /// `block-stream` looks for its node before it looks at what else it is given.
    pub(crate) fn stream_looks_for_its_node_first(self) -> bool {
        self == Release::V5_2
    }

    /// A commit of the active layer that has nothing to copy may be ready before the reply to its command: in 10 to 45
    /// runs of 100, and in none of 20 of 5.2.
    pub(crate) fn commits_race_their_reply(self) -> bool {
        self >= Release::V7_2
    }

    /// The other jobs of a group stop before the first of them concludes.
    pub(crate) fn cancelled_groups_stop_at_once(self) -> bool {
        self >= Release::V10_0
    }

    /// The jobs of a transaction are started in the order of its actions, else the last first.
    pub(crate) fn transactions_start_jobs_in_order(self) -> bool {
        self <= Release::V7_2
    }

    /// Whether all actions can be grouped is checked before any is begun.
    pub(crate) fn groups_are_checked_first(self) -> bool {
        self >= Release::V10_0
    }

    /// Jobs rest while `quit` cancels them.
    pub(crate) fn jobs_rest_before_the_end(self) -> bool {
        self >= Release::V7_2
    }

    /// `quit` lets a job that is in step with its source complete, but leaves its target to nobody.
    pub(crate) fn quit_completes_what_is_ready(self) -> bool {
        self == Release::V5_2
    }

    /// A block job that is given a higher speed wakes up and copies at once.
    pub(crate) fn a_higher_speed_wakes_a_job(self) -> bool {
        self <= Release::V7_2
    }

    /// A mirror of a whole disk counts only what was written, not what is empty, as its length.
    pub(crate) fn a_mirror_skips_what_is_empty(self) -> bool {
        self >= Release::V11_1
    }

    /// `delvm` looks first whether all disks take snapshots.
    pub(crate) fn delete_needs_all_disks(self) -> bool {
        self >= Release::V7_2
    }
}

/// Devices.
impl Release {
    /// How often the guest's firmware resets the machine after a reset from outside; the usual number first.
    pub(crate) fn firmware_resets(self, chipset: Chipset, boots_a_system: bool) -> &'static [u32] {
        match (self, chipset) {
            (Release::V5_2, Chipset::Q35) if !boots_a_system => &[u32::MAX],
            (Release::V5_2 | Release::V7_2, _) => &[1, 2, 4, 6],
            (Release::V10_0 | Release::V11_1, _) => &[1],
        }
    }

    /// PCIe root ports of `q35` ask the guest to let go of a device as `pc` does, by ACPI: a reset removes it. Before,
    /// a guest that never answers keeps it for ever.
    pub(crate) fn root_ports_unplug_by_acpi(self) -> bool {
        self >= Release::V7_2
    }

    /// A slot that is taken is found before a disk that is.
    pub(crate) fn slots_are_checked_before_disks(self) -> bool {
        self >= Release::V10_0
    }

    /// From a device's end to its `DEVICE_DELETED`: QEMU waits until no thread uses it any more.
    pub(crate) fn devices_leave_after(self) -> Duration {
        if self >= Release::V11_1 { Duration::ZERO } else { Duration::from_millis(50) }
    }
}

/// Commands.
impl Release {
    /// The human monitor knows `s` for `stop`.
    pub(crate) fn stop_has_an_abbreviation(self) -> bool {
        self >= Release::V7_2
    }
}

/// Shape of replies.
impl Release {
    /// `query-status` has `singlestep`.
    pub(crate) fn status_has_singlestep(self) -> bool {
        self <= Release::V7_2
    }

    /// `query-block-jobs` has `actively-synced` for a mirror.
    pub(crate) fn mirrors_tell_whether_in_step(self) -> bool {
        self >= Release::V10_0
    }

    /// `BLOCK_IO_ERROR` has `qom-path`.
    pub(crate) fn io_errors_tell_the_device(self) -> bool {
        self >= Release::V10_0
    }

    /// `query-cpus-fast` has `arch`.
    pub(crate) fn processors_have_arch(self) -> bool {
        self == Release::V5_2
    }

    /// `query-cpus-fast` has `qom-type`.
    pub(crate) fn processors_have_qom_type(self) -> bool {
        self >= Release::V11_1
    }

    /// `BlockDeviceInfo` has `encryption_key_missing`.
    pub(crate) fn nodes_have_encryption_key_missing(self) -> bool {
        self == Release::V5_2
    }

    /// `BlockDeviceInfo` has `active`.
    pub(crate) fn nodes_have_active(self) -> bool {
        self >= Release::V10_0
    }

    /// The image of a `file` node has `format-specific`.
    pub(crate) fn files_have_format_specific(self) -> bool {
        self >= Release::V10_0
    }

    /// `BlockDeviceInfo` has `children`, its image has `limits`.
    pub(crate) fn nodes_have_children_and_limits(self) -> bool {
        self >= Release::V11_1
    }

    /// The driver of the filter that a backup puts in.
    pub(crate) fn filter_of_backups(self) -> JobDriver {
        match self {
            Release::V5_2 => JobDriver::BackupTop,
            _ => JobDriver::CopyBeforeWrite,
        }
    }

    /// A stream puts a filter in.
    pub(crate) fn streams_have_filters(self) -> bool {
        self != Release::V5_2
    }

    /// Bytes that a backup with a speed copies in one go.
    pub(crate) fn backup_chunk(self) -> u64 {
        match self {
            Release::V5_2 => 64 << 10,
            _ => 1 << 20,
        }
    }

    /// A backup has many requests under way at once.
    pub(crate) fn backups_copy_in_parallel(self) -> bool {
        self >= Release::V7_2
    }

    /// Length in bytes of the state of an idle machine of 64 MiB: pages of zeroes cost next to nothing.
    pub(crate) fn vm_state_size(self) -> u64 {
        match self {
            Release::V5_2 => 872_652,
            Release::V7_2 => 883_588,
            Release::V10_0 => 900_350,
            Release::V11_1 => 868_137,
        }
    }
}

/// How long things take; for saving and kin QEMU's main loop stands still. In whole milliseconds. About what was measured.
pub(crate) mod takes {
    use super::Duration;

    /// Saving the state of an idle machine.
    pub(crate) const SAVE: Duration = Duration::from_millis(10);
    /// Loading it.
    pub(crate) const LOAD: Duration = Duration::from_millis(10);
    /// The guest's firmware until it has set up its devices, in guest time: 50 to 180 ms were seen.
    pub(crate) const FIRMWARE: Duration = Duration::from_millis(150);

    /// And until it has looked for a system on the first disk: 13 to 27 ms later, seldom more.
    pub(crate) const BOOT: Duration = Duration::from_millis(170);
    /// Deleting a snapshot from all its disks.
    pub(crate) const DELETE: Duration = Duration::from_millis(3);
    /// Handing over what cannot change while the guest runs.
    pub(crate) const SWITCHOVER: Duration = Duration::from_millis(3);
}
