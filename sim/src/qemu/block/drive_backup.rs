//! `drive-backup`: makes or opens an image, and backs a disk up to it.
//!
//! ```text
//! sync   header of a new image names   the target stands on
//! full   nothing                       nothing
//! top    what the source stands on     what the header says
//! none   the source                    the source
//! ```
//! The target is closed when the job ends. The oldest release leaves the disk drained for ever if it fails to make or to
//! open the target: jobs on it then never work, nor does the guest get its requests carried out. Source of the order of
//! checks: probes of the four releases.

use super::{
    Graph,
    backup::{self, Created, Plan},
    bitmap_sync::BitmapSync,
    image::Target,
};
use crate::{
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        job::{Jobs, block::Options},
    },
    qobject::QObject,
};

/// `drive-backup`.
pub(crate) fn drive_backup(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let created = create(graph, jobs, arguments, cx)?;
    Ok(backup::start(jobs, &created, cx))
}

/// Opens the target and creates the job.
pub(crate) fn create(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<Created, QmpError> {
    Options::only(
        arguments,
        &[
            "target",
            "format",
            "mode",
            "sync",
            "bitmap",
            "bitmap-mode",
            "compress",
            "on-source-error",
            "on-target-error",
        ],
    )?;
    let device = arguments.text("device");
    graph.lookup(device, cx.release())?;
    jobs.check_not_busy(device)?;
    let target = open_target(graph, device, arguments, cx).inspect_err(|_| {
        if cx.release().failed_drive_backups_leave_the_disk_drained() {
            jobs.leave_drained(device);
        }
    })?;
    // Of a disk without backing file all is copied, and not only what it holds itself.
    let sync = match arguments.text("sync") {
        "top" if graph.lookup(device, cx.release())?.driver.backing().is_none() => "full",
        other => other,
    };
    let created = BitmapSync::of(graph, device, arguments, cx.host()).and_then(|bitmap| {
        let plan = Plan { device, target: &target, sync, bitmap };
        backup::create_planned(graph, jobs, plan, arguments, cx)
    });
    if created.is_err() {
        graph.remove(&target);
    }
    created
}

/// Opens the target, after it was made if it is to be new.
fn open_target(
    graph: &mut Graph,
    device: &str,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<String, QmpError> {
    let only_overwritten = arguments.text("sync") == "none";
    let backing = match arguments.text("sync") {
        "top" => graph.lookup(device, cx.release())?.driver.backing().map(str::to_owned),
        _ => only_overwritten.then(|| device.to_owned()),
    };
    let target = Target {
        source: device,
        node_name: None,
        backing: backing.as_deref(),
        with_backing: !only_overwritten,
    };
    let target = target.open(graph, arguments, cx)?;
    if only_overwritten {
        graph.set_backing(&target, Some(device));
    }
    Ok(target)
}
