//! `transaction`: several actions, all of them or none.
//!
//! Each action sees what those before it did. If one is refused, graph and images are put back as they were and
//! its error is the reply; a file that `blockdev-snapshot-sync` made stays. No events. A bitmap that is removed is gone
//! only when all have succeeded.
//!
//! Not here: actions that start jobs, and that real QEMU crashes when a bitmap to enable or disable is not there.

use camino::Utf8Path;
use serde_json::Value;

use super::{Graph, bitmap, internal_snapshot, snapshot};
use crate::{
    host::Host,
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs, not_simulated, run_state::Cpus},
    qobject::QObject,
};

/// What the actions work on.
pub(crate) struct Machine<'a> {
    /// The block graph.
    pub(crate) graph: &'a mut Graph,
    /// Jobs that may be in the way.
    pub(crate) jobs: &'a Jobs,
    /// The virtual processors.
    pub(crate) cpus: &'a Cpus,
}

/// `transaction`.
pub(crate) fn transaction(
    mut machine: Machine<'_>,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    arguments.only(&["actions"])?;
    let before = (machine.graph.clone(), cx.host().clone());
    for action in arguments.list("actions") {
        if let Err(error) = act(&mut machine, action, cx) {
            let (graph, host) = before;
            machine.graph.go_back_to(graph);
            restore_images(machine.graph, &host, cx.host());
            return Err(error);
        }
    }
    machine.graph.remove_marked_bitmaps();
    Ok(QObject::empty())
}

/// Puts the images of all nodes back; files that no node holds open stay as they are.
fn restore_images(graph: &Graph, before: &Host, now: &mut Host) {
    for file in graph.newest_first().filter_map(|node| graph.file_of(node)).map(Utf8Path::new) {
        if let (Some(before), Some(now)) = (before.image(file), now.image_mut(file)) {
            now.clone_from(before);
        }
    }
}

fn act(machine: &mut Machine<'_>, action: &Value, cx: &mut Context<'_>) -> Result<QObject, QmpError> {
    let action =
        Arguments(action.as_object().ok_or_else(|| not_simulated("an action that is no structure"))?);
    let data = action.structure("data")?;
    match action.text("type") {
        "abort" => Err(QmpError::generic("Transaction aborted using Abort action")),
        "blockdev-snapshot" => snapshot::blockdev_snapshot(machine.graph, machine.jobs, data, cx),
        "blockdev-snapshot-sync" => snapshot::blockdev_snapshot_sync(machine.graph, machine.jobs, data, cx),
        "blockdev-snapshot-internal-sync" => internal_snapshot::take(machine.graph, machine.cpus, data, cx),
        "block-dirty-bitmap-remove" => {
            machine.graph.mark_bitmap_to_remove(data.text("node"), data.text("name"))?;
            Ok(QObject::empty())
        }
        bitmap if bitmap.starts_with("block-dirty-bitmap-") => {
            bitmap::command(machine.graph, bitmap, data, cx)
        }
        other => Err(not_simulated(&format!("transaction action `{other}`"))),
    }
}
