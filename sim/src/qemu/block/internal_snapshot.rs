//! `blockdev-snapshot-internal-sync` and `blockdev-snapshot-delete-internal-sync`: internal snapshots of one disk,
//! without machine state.

use super::Graph;
use crate::{
    host::{Host, InternalSnapshot},
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs, run_state::Cpus},
    qobject::{QDict, QObject, key, qdict},
};

/// `blockdev-snapshot-internal-sync`.
pub(crate) fn take(
    graph: &Graph,
    jobs: &Jobs,
    cpus: &Cpus,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let (device, name) = (arguments.text("device"), arguments.text("name"));
    let node = graph.lookup(device, cx.release())?;
    graph.check_root(device, jobs)?;
    if node.read_only {
        return Err(QmpError::generic(format!("Device '{device}' is read only")));
    }
    let format = node.driver.name();
    let (date, vm_clock) = (Host::EPOCH + cx.now(), cpus.clock(cx.now()));
    let writable = graph.is_active(device) || cx.release().writing_given_images_aborts();
    let Some(image) = graph.keeper_mut(device, cx.host()).filter(|_| writable) else {
        return Err(QmpError::generic(format!(
            "Block format '{format}' used by device '{device}' does not support internal snapshots"
        )));
    };
    if name.is_empty() {
        return Err(QmpError::generic("Name is empty"));
    }
    if image.find(name).is_some() {
        return Err(QmpError::generic(format!(
            "Snapshot with name '{name}' already exists on device '{device}'"
        )));
    }
    image.take_snapshot(name, 0, date, vm_clock);
    Ok(QObject::empty())
}

/// `blockdev-snapshot-delete-internal-sync`; returns what it deleted.
pub(crate) fn delete(
    graph: &Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let device = arguments.text("device");
    let (id, name) = (arguments.optional_text("id"), arguments.optional_text("name"));
    graph.lookup(device, cx.release())?;
    graph.check_root(device, jobs)?;
    if id.is_none() && name.is_none() {
        return Err(QmpError::generic("Name or id must be provided"));
    }
    let Some(image) = graph.keeper_mut(device, cx.host()) else {
        return Err(QmpError::generic("Failed to get a snapshot list: Operation not supported"));
    };
    let wanted = image.snapshots.iter().find(|snapshot| {
        id.is_none_or(|id| snapshot.id == id) && name.is_none_or(|name| snapshot.name == name)
    });
    let wanted = wanted.map(|snapshot| snapshot.id.clone());
    match wanted.and_then(|id| image.delete_snapshot(&id)) {
        Some(deleted) => Ok(snapshot_info(&deleted).into()),
        None => {
            let (id, name) = (id.unwrap_or("null"), name.unwrap_or("null"));
            Err(QmpError::generic(format!(
                "Snapshot with id '{id}' and name '{name}' does not exist on device '{device}'"
            )))
        }
    }
}

/// QAPI's `SnapshotInfo`.
pub(crate) fn snapshot_info(snapshot: &InternalSnapshot) -> QDict {
    let mut info = qdict! {
        "id": snapshot.id.clone(),
        "name": snapshot.name.clone(),
        "vm-state-size": snapshot.vm_state_size,
        "date-sec": snapshot.date.as_secs(),
        "date-nsec": u64::from(snapshot.date.subsec_nanos()),
        "vm-clock-sec": snapshot.vm_clock.as_secs(),
        "vm-clock-nsec": u64::from(snapshot.vm_clock.subsec_nanos()),
    };
    if let Some(icount) = snapshot.icount {
        info.put(key!("icount"), icount);
    }
    info
}
