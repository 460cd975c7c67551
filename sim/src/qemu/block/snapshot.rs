//! `blockdev-snapshot` and `blockdev-snapshot-sync`: put an overlay on top of a node.
//!
//! The first takes an overlay that was added beforehand. The second makes the overlay's file, opens it and takes that;
//! the overlay belongs to its device then and not to the client. A file that was made stays, whatever fails later.
//!
//! QEMU does not compare sizes or formats, and says no event. Source of the order of checks: recordings and probes
//! of all four releases.

use super::{
    Caching, Driver, Graph, Node,
    image::{NamedImage, is_new},
};
use crate::{
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs},
    qobject::QObject,
};

/// `blockdev-snapshot`.
pub(crate) fn blockdev_snapshot(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let below = put_overlay(graph, jobs, arguments, cx)?;
    graph.set_read_only(&below, true);
    Ok(QObject::empty())
}

/// `blockdev-snapshot-sync`.
pub(crate) fn blockdev_snapshot_sync(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let below = put_new_overlay(graph, jobs, arguments, cx)?;
    graph.set_read_only(&below, true);
    Ok(QObject::empty())
}

/// What `blockdev-snapshot` does; returns the node that is below the overlay, still to be made read-only: in a transaction
/// not before all has succeeded.
pub(crate) fn put_overlay(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<String, QmpError> {
    let (node, overlay) = (arguments.text("node"), arguments.text("overlay"));
    let below = graph.lookup(node, cx.release())?;
    check_below(graph, jobs, below)?;
    graph.lookup(overlay, cx.release())?;
    put_on_top(graph, node, overlay, cx)
}

/// What `blockdev-snapshot-sync` does; returns as [`put_overlay`] does.
pub(crate) fn put_new_overlay(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<String, QmpError> {
    let (device, node) = (arguments.text("device"), arguments.text("node-name"));
    let below = graph.node(node).ok_or_else(|| cx.release().cannot_find_either(device, node))?;
    check_below(graph, jobs, below)?;
    let name = arguments.optional_text("snapshot-node-name");
    // Who names a device need not name the overlay.
    if name.is_none() && device.is_empty() {
        return Err(cx.release().overlay_name_missing());
    }
    if name.is_some_and(|name| graph.node(name).is_some()) {
        return Err(cx.release().overlay_name_in_use());
    }
    let image = NamedImage {
        file: arguments.text("snapshot-file"),
        format: arguments.optional_text("format").unwrap_or("qcow2"),
        node_name: name,
    };
    if is_new(arguments) {
        let size = graph.size(&below.name, cx.host());
        let below = below.name.clone();
        image.make(graph, size, Some(&below), cx)?;
    }
    let overlay = image.open(graph, Caching::default(), false, cx)?;
    let put = put_on_top(graph, node, &overlay, cx).inspect_err(|_| graph.remove(&overlay));
    // Nobody but what used the node holds the overlay: on top of one that nobody used it is closed again at once.
    graph.release(&overlay);
    put
}

/// What can keep a node from getting an overlay.
fn check_below(graph: &Graph, jobs: &Jobs, below: &Node) -> Result<(), QmpError> {
    graph.check_not_blocked(&below.name, jobs)
}

/// The checks of the overlay itself, and the switch.
fn put_on_top(
    graph: &mut Graph,
    node: &str,
    overlay: &str,
    cx: &mut Context<'_>,
) -> Result<String, QmpError> {
    // Users that do not read it cannot see that it becomes another image.
    if graph.is_read(overlay, cx) {
        return Err(QmpError::generic("The overlay is already in use"));
    }
    match graph.node(overlay).map(|above| &above.driver) {
        Some(Driver::Qcow2 { backing: None, .. }) => {}
        Some(Driver::Qcow2 { .. }) => {
            return Err(QmpError::generic("The overlay already has a backing image"));
        }
        _ => return Err(QmpError::generic("The overlay does not support backing images")),
    }
    if node == overlay {
        return Err(cx.release().backing_cycle(node, overlay));
    }
    let read_only = graph.node(overlay).is_some_and(|above| above.read_only);
    if read_only && graph.is_written(node, cx) {
        return Err(QmpError::generic("Block node is read-only"));
    }
    graph.append(node, overlay);
    Ok(node.to_owned())
}
