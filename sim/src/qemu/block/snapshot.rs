//! `blockdev-snapshot`: puts an overlay, added beforehand, on top of a node.
//!
//! QEMU does not compare sizes or formats, and says no event. Source of the order of checks: recordings and probes
//! of all four releases.

use super::{Driver, Graph};
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
    let (node, overlay) = (arguments.text("node"), arguments.text("overlay"));
    graph.lookup(node, cx.release())?;
    jobs.check_not_busy(node)?;
    graph.check_not_backing(node)?;
    let above = graph.lookup(overlay, cx.release())?;
    if graph.is_used(overlay) {
        return Err(QmpError::generic("The overlay is already in use"));
    }
    match above.driver {
        Driver::Qcow2 { backing: None, .. } => {}
        Driver::Qcow2 { .. } => return Err(QmpError::generic("The overlay already has a backing image")),
        Driver::File { .. } | Driver::Raw { .. } => {
            return Err(QmpError::generic("The overlay does not support backing images"));
        }
    }
    if node == overlay {
        return Err(cx.release().backing_cycle(node, overlay));
    }
    if above.read_only && graph.is_written(node, cx) {
        return Err(QmpError::generic("Block node is read-only"));
    }
    graph.append(node, overlay);
    Ok(QObject::empty())
}
