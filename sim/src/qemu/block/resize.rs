//! `block_resize`: makes a disk longer or shorter.
//!
//! What lay beyond a new end is lost. Internal snapshots and bitmaps are no obstacle. No event.
//! Source of the order of checks: probes of the four releases.

use super::{
    Driver, Graph, SECTOR,
    permissions::{Permissions, Use},
};
use crate::{
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs},
    qobject::QObject,
};

/// `block_resize`.
pub(crate) fn block_resize(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let release = cx.release();
    let device = arguments.optional_text("device");
    let name = arguments.optional_text("node-name").unwrap_or_default();
    let node =
        graph.node(name).ok_or_else(|| release.cannot_find_either(device.unwrap_or_default(), name))?;
    let size = u64::try_from(arguments.integer("size"))
        .map_err(|_| QmpError::generic("Parameter 'size' expects a >0 size"))?;
    let free = graph.check_not_blocked(name, jobs);
    free.map_err(|busy| release.cannot_resize(device, busy))?;
    if !graph.is_active(name) {
        if !release.nodes_have_active() {
            cx.abort();
        }
        return Err(QmpError::generic("Permission 'resize' unavailable on inactive node"));
    }
    graph.check_use(name, Use::root(Permissions::RESIZE, Permissions::ALL), cx)?;
    if node.read_only {
        return Err(QmpError::generic("Image is read-only"));
    }
    if matches!(node.driver, Driver::Qcow2 { .. }) && !size.is_multiple_of(SECTOR) {
        return Err(QmpError::generic("The new size must be a multiple of 512"));
    }
    if release.resizes_below_go_unnoticed() {
        graph.keep_sizes_above(name, cx.host());
    }
    if let Some(image) = graph.image_mut(name, cx.host()) {
        image.resize(size);
    }
    graph.forget_length(name);
    Ok(QObject::empty())
}
