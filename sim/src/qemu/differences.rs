//! Every way in which the releases differ, as far as it is simulated: texts, order of events, members of replies.
//!
//! The rest of the model asks here and never compares releases itself. Sources: recordings of the four releases.
//!
//! | module | of what |
//! | --- | --- |
//! | `graph` | nodes and who uses them, exports, bitmaps |
//! | `job` | jobs |
//! | `snapshot` | snapshots of the whole machine |
//! | `migration` | a machine's state that leaves or comes, and the run states around it |
//! | `device` | devices, processors, firmware |
//! | `tools` | `qemu-img` |
//!
//! What is nobody's own is here: texts for names, the order of requests, the shape of replies, and how long things take.

use std::time::Duration;

use super::QmpError;
use crate::Release;

mod device;
mod graph;
mod job;
mod migration;
mod objects;
mod snapshot;
mod tools;

pub(crate) use graph::{Conflict, UNFIT_TARGET};
pub(crate) use job::{Beside, Drain};
pub(crate) use migration::Unloadable;

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
}

/// Order.
impl Release {
    /// `quit`, `system_reset` and `system_powerdown` act before their reply is sent.
    pub(crate) fn requests_act_before_the_reply(self) -> bool {
        self >= Release::V7_2
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
