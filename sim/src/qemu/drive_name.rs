//! Names of drives: what `-drive id=drive0` calls a disk whose nodes have no names of their own.
//!
//! Commands that take a device or a node find the disk's top node by it, a job on it is called so unless its client
//! names it, and a refusal names the drive instead of the node. All that happens here, at the door: behind it everything
//! goes by the names of nodes. A filter that a job has put in is passed over, as it is in queries.
//!
//! Commands of throttling and trays address the device by it, and keep it. Source: recording `drive-option`; the four
//! releases, asked.

use serde_json::{Map, Value};

use super::{QmpError, block::Graph};

/// Commands and actions that start a job: without `job-id` it has the name of the drive.
const STARTERS: [&str; 6] =
    ["block-commit", "block-stream", "blockdev-backup", "blockdev-mirror", "drive-backup", "drive-mirror"];

/// Commands and actions that take the name of a drive and that of a node in two members.
const WITH_EITHER: [&str; 2] = ["block_resize", "blockdev-snapshot-sync"];

/// Commands that address the device itself, and know its drive's name.
const OF_DEVICES: [&str; 4] = ["block_set_io_throttle", "blockdev-close-tray", "blockdev-open-tray", "eject"];

/// Each drive, and its top node.
#[derive(Debug, Default)]
pub(super) struct DriveNames(Vec<(String, String)>);

impl DriveNames {
    /// Those of a machine, as they are now. Costs nothing on a machine that has none.
    pub(super) fn of(graph: &Graph) -> Self {
        let drives = graph.devices().iter().filter(|device| !device.drive.is_empty());
        let top = |node: &str| graph.shown(node).map(|node| node.name.clone());
        Self(drives.filter_map(|device| Some((device.drive.clone(), top(&device.node)?))).collect())
    }

    /// The arguments of a command with the names of nodes in the place of those of drives.
    pub(super) fn resolve(&self, command: &str, arguments: &mut Map<String, Value>) {
        if self.0.is_empty() || command.starts_with("block-job-") || OF_DEVICES.contains(&command) {
            return;
        }
        for action in arguments.get_mut("actions").and_then(Value::as_array_mut).into_iter().flatten() {
            let kind = action["type"].as_str().unwrap_or_default().to_owned();
            if let Some(data) = action.get_mut("data").and_then(Value::as_object_mut) {
                self.resolve(&kind, data);
            }
        }
        for member in ["device", "node"] {
            let named = arguments.get(member).and_then(Value::as_str);
            let Some((drive, node)) = self.0.iter().find(|(drive, _)| Some(drive.as_str()) == named) else {
                continue;
            };
            if WITH_EITHER.contains(&command) {
                arguments.insert("node-name".into(), node.clone().into());
            } else {
                arguments.insert(member.into(), node.clone().into());
            }
            if STARTERS.contains(&command) {
                arguments.entry("job-id").or_insert_with(|| drive.clone().into());
            }
        }
    }

    /// A refusal in which drives have their names.
    pub(super) fn name(&self, mut refused: QmpError) -> QmpError {
        for (drive, node) in &self.0 {
            if refused.desc.contains(node.as_str()) {
                refused.desc = refused.desc.replace(node.as_str(), drive);
            }
        }
        refused
    }
}
