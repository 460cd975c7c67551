//! `blockdev-backup`: copies a disk, as it was when the job began, to another node.
//!
//! What the guest writes meanwhile does not get into the copy. The disk is drained while the job is started, so it
//! rests for a moment before the reply. Content moves when the job ends: nobody but the job's own client could tell.
//!
//! Not here: the filter node that QEMU puts on top meanwhile, `sync` modes `none` and those of bitmaps, a target that
//! is in use. Source of the order of checks: QEMU's QAPI docs, recordings.

use super::{
    Graph,
    failure::{Copying, failure},
};
use crate::{
    host::Blocks,
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

/// A backup that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backup {
    target: String,
    /// What the disk held when it began.
    content: Blocks,
}

/// `blockdev-backup`.
pub(crate) fn blockdev_backup(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    arguments.only(&[
        "job-id",
        "device",
        "target",
        "sync",
        "speed",
        "on-source-error",
        "on-target-error",
        "auto-finalize",
        "auto-dismiss",
    ])?;
    let (device, target) = (arguments.text("device"), arguments.text("target"));
    let source = graph.lookup(device, cx.release())?;
    graph.lookup(target, cx.release())?;
    if device == target {
        return Err(QmpError::generic("Source and target cannot be the same"));
    }
    jobs.check_not_busy(device)?;
    jobs.check_not_busy(target)?;
    let base = graph.base_of_sync(source, arguments.text("sync"))?;
    let size = graph.size(device, cx.host());
    if size != graph.size(target, cx.host()) {
        return Err(QmpError::generic("Source and target image have different sizes"));
    }
    graph.check_free(target)?;
    let content = graph.content(device, base.as_deref(), cx.host());
    let chunk = cx.release().backup_chunk();
    let copying = Copying { kind: "backup", source: device, target, content: &content, len: size };
    let failure = failure(graph, copying, arguments, cx.release());
    let options = Options {
        starts_drained: true,
        failure,
        ..super::job_options("backup", arguments, false, (size, chunk), cx)
    };
    let claim = Claim { nodes: vec![device.into(), target.into()], attached: Vec::new() };
    let backup = Backup { target: target.into(), content };
    jobs.start_block(arguments.text("job-id"), options, Work::Backup(backup), claim, cx)?;
    Ok(QObject::empty())
}

/// Ends a backup: none if it failed or was cancelled.
pub(crate) fn finish(graph: &Graph, backup: Backup, completion: Option<Completion>, cx: &mut Context<'_>) {
    if completion.is_some() {
        graph.write(&backup.target, backup.content, cx.host());
    }
}
