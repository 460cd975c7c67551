//! `blockdev-add` and `blockdev-del`.

use super::{
    Caching, Graph,
    open::{Inherited, open},
};
use crate::{
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs},
    qobject::QObject,
};

/// `blockdev-add`.
pub(crate) fn blockdev_add(
    graph: &mut Graph,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    if arguments.optional_text("node-name").is_none() {
        return Err(QmpError::generic("'node-name' must be specified for the root node"));
    }
    let inherited = Inherited {
        owned_by_monitor: true,
        read_only: false,
        caching: Caching::default(),
        with_backing: true,
    };
    open(graph, arguments, inherited, cx)?;
    Ok(QObject::empty())
}

/// `blockdev-del`. The order of its checks is QEMU's: devices and what jobs read and write, what jobs block, backing,
/// who added it, other users.
pub(crate) fn blockdev_del(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &Context<'_>,
) -> Result<QObject, QmpError> {
    let name = arguments.text("node-name");
    let node = graph.node(name).ok_or_else(|| cx.release().node_not_found(name))?;
    let exported = graph.exports().on(name).next().is_some();
    if graph.device_on(name).is_some() || exported || graph.has_backend_of_job(name) {
        return Err(QmpError::generic(format!("Node {name} is in use")));
    }
    graph.check_not_blocked(name, jobs)?;
    if !node.owned_by_monitor {
        return Err(QmpError::generic(format!("Node {name} is not owned by the monitor")));
    }
    if graph.parents(name).next().is_some() || jobs.uses(name) {
        return Err(QmpError::generic(format!("Block device {name} is in use")));
    }
    graph.remove(name);
    Ok(QObject::empty())
}
