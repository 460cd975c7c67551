//! `blockdev-backup`: copies a disk, as it was when the job began, to another node.
//!
//! What the guest writes meanwhile does not get into the copy. The disk is drained while the job is started, so it
//! rests for a moment before the reply. Content moves when the job ends: nobody but the job's own client could tell.
//!
//! Not here: the filter node that QEMU puts on top meanwhile, `sync` mode `none`. Source of the order of checks: QEMU's QAPI docs, recordings.

use std::time::Duration;

use super::{
    Graph,
    bitmap_sync::BitmapSync,
    failure::{Copying, Requests, failure},
    permissions::{Permissions, Use, User},
};
use crate::{
    host::{Blocks, Qcow2},
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        job::{
            Claim, Jobs,
            block::{Completion, Options},
        },
        work::Work,
    },
    qobject::QObject,
};

/// The filter's name: QEMU makes up a new one each time.
const FILTER: &str = "#block100";

/// A backup that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backup {
    target: String,
    /// What the disk held when it began.
    content: Blocks,
    bitmap: Option<BitmapSync>,
}

/// A backup that is to be started.
pub(crate) struct Created {
    /// The serial number of its job.
    pub(crate) job: u64,
    /// It has nothing to copy, and ends before the reply.
    pub(crate) ends_at_once: bool,
}

/// `blockdev-backup`.
pub(crate) fn blockdev_backup(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let Created { job, ends_at_once } = create(graph, jobs, arguments, cx)?;
    jobs.start_created(&[job], cx);
    if ends_at_once {
        jobs.newest_looks_around(cx);
    }
    Ok(QObject::empty())
}

/// Creates the job.
pub(crate) fn create(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<Created, QmpError> {
    arguments.only(&[
        "job-id",
        "device",
        "target",
        "sync",
        "bitmap",
        "bitmap-mode",
        "speed",
        "on-source-error",
        "on-target-error",
        "auto-finalize",
        "auto-dismiss",
    ])?;
    let (device, target) = (arguments.text("device"), arguments.text("target"));
    let source = graph.lookup(device, cx.release())?;
    graph.lookup(target, cx.release())?;
    let bitmap = BitmapSync::of(graph, device, arguments, cx.host())?;
    if device == target {
        return Err(QmpError::generic("Source and target cannot be the same"));
    }
    jobs.check_not_busy(device)?;
    jobs.check_not_busy(target)?;
    let base = match &bitmap {
        Some(bitmap) if bitmap.copies_dirty => None,
        _ => graph.base_of_sync(source, arguments.text("sync"))?,
    };
    let size = graph.size(device, cx.host());
    if size != graph.size(target, cx.host()) {
        return Err(QmpError::generic("Source and target image have different sizes"));
    }
    check_target(graph, target, cx)?;
    let mut content = graph.content(device, base.as_deref(), cx.host());
    let len = match &bitmap {
        Some(bitmap) if bitmap.copies_dirty => {
            bitmap.keep_dirty(graph, &mut content);
            bitmap.dirty_blocks(graph) as u64 * Qcow2::CLUSTER
        }
        _ if arguments.text("sync") == "top" => content.len() as u64 * Qcow2::CLUSTER,
        _ => size,
    };
    let chunk = cx.release().backup_chunk();
    let requests = if cx.release().backups_copy_in_parallel() { Requests::Many } else { Requests::One };
    let copying = Copying { requests, source: device, target, content: &content, len };
    let failure = failure(graph, copying, arguments);
    let at_once = len == 0 && cx.release().empty_backups_end_before_the_reply();
    let usual = super::job_options("backup", arguments, false, (len, chunk), cx);
    let options = Options {
        takes: if at_once { Duration::ZERO } else { usual.takes },
        starts_drained: true,
        failure,
        ..usual
    };
    let claim = Claim { nodes: vec![device.into(), target.into()], ..Claim::default() };
    let backup = Backup { target: target.into(), content, bitmap: bitmap.clone() };
    let job = jobs.create_block(arguments.text("job-id"), options, Work::Backup(backup), claim, cx)?;
    if let Some(bitmap) = bitmap {
        bitmap.begin(graph);
    }
    Ok(Created { job, ends_at_once: at_once })
}

/// The target is written by the filter node that QEMU puts on top of the source. Its size is looked at only once.
fn check_target(graph: &Graph, target: &str, cx: &mut Context<'_>) -> Result<(), QmpError> {
    let bears = Permissions::ALL.without(Permissions::RESIZE);
    let filter = Use { user: User::Node(FILTER), role: "target", does: Permissions::WRITE, bears };
    let release = cx.release();
    graph.check_use(target, filter, cx).map_err(|refused| release.backup_cannot_write(refused))
}

/// Ends a backup: none if it failed or was cancelled.
pub(crate) fn finish(
    graph: &mut Graph,
    backup: Backup,
    completion: Option<Completion>,
    cx: &mut Context<'_>,
) {
    if let Some(bitmap) = backup.bitmap {
        bitmap.end(graph, completion.is_some());
    }
    if completion.is_some() {
        graph.write(&backup.target, backup.content, cx.host());
    }
}
