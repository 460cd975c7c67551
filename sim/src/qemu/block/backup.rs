//! `blockdev-backup`: copies a disk, as it was when the job began, to another node. The job is `drive-backup`'s too.
//!
//! What the guest writes meanwhile does not get into the copy. The disk is drained while the job is started, so it
//! rests for a moment before the reply. Content moves when the job ends, or QEMU does ([`leave`]): nobody
//! could tell before.
//!
//! With `sync` mode `none` only what is about to be overwritten is copied, until the client cancels the job.
//!
//! Source of the order of checks: QEMU's QAPI docs, recordings.

use std::time::Duration;

use super::{
    Graph,
    bitmap_sync::BitmapSync,
    failure::{Copying, Requests, failure},
    job_filter::{JobFilter, Planned},
};
use crate::{
    host::{Blocks, Qcow2},
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        job::{
            Claim, Copied, Jobs,
            block::{Completion, Options},
        },
        work::Work,
    },
    qobject::QObject,
};

/// A backup that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backup {
    source: String,
    target: String,
    /// What of the disk is copied, as it was when the job began.
    content: Blocks,
    /// All is copied, where there are but zeroes too.
    whole: bool,
    /// Of what is copied, only what was overwritten since.
    only_overwritten: bool,
    bitmap: Option<BitmapSync>,
}

/// Between what nodes a backup is to be.
pub(crate) struct Plan<'a> {
    /// What is read.
    pub(crate) device: &'a str,
    /// What is written.
    pub(crate) target: &'a str,
    /// What is copied, by QAPI's `MirrorSyncMode`.
    pub(crate) sync: &'a str,
    /// The bitmap that takes part, if one does.
    pub(crate) bitmap: Option<BitmapSync>,
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
    let beside = cx.release().rests_beside_a_backup();
    // It is a transaction of one action: all nodes are drained before anything is looked at.
    jobs.sleepers_rest(beside.at_once, cx);
    let before = std::mem::take(&mut cx.events);
    let created = create(graph, jobs, arguments, cx);
    // Its filter is put in before the job is created, where nothing is refused.
    let said = std::mem::replace(&mut cx.events, before);
    if created.is_ok() {
        jobs.sleepers_rest(beside.before, cx);
    }
    let over = created.is_ok() && beside.over_its_creation;
    let paused = if over { jobs.pause_sleepers(cx) } else { Vec::new() };
    cx.events.extend(said);
    jobs.wake_sleepers(&paused, cx);
    let created = created?;
    jobs.sleepers_rest(beside.before_it_runs, cx);
    Ok(start(jobs, &created, cx))
}

/// Starts the job that was created.
pub(crate) fn start(jobs: &mut Jobs, created: &Created, cx: &mut Context<'_>) -> QObject {
    jobs.start_created(&[created.job], cx);
    if created.ends_at_once {
        jobs.newest_looks_around(cx);
    }
    QObject::empty()
}

/// Creates the job of a `blockdev-backup`.
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
            "sync",
            "bitmap",
            "bitmap-mode",
            "filter-node-name",
            "on-source-error",
            "on-target-error",
        ],
    )?;
    let (device, target) = (arguments.text("device"), arguments.text("target"));
    graph.lookup(device, cx.release())?;
    graph.lookup(target, cx.release())?;
    let bitmap = BitmapSync::of(graph, device, arguments, cx.host())?;
    if device == target {
        return Err(QmpError::generic("Source and target cannot be the same"));
    }
    let plan = Plan { device, target, sync: arguments.text("sync"), bitmap };
    create_planned(graph, jobs, plan, arguments, cx)
}

/// Creates the job.
pub(crate) fn create_planned(
    graph: &mut Graph,
    jobs: &mut Jobs,
    Plan { device, target, sync, bitmap }: Plan<'_>,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<Created, QmpError> {
    let source = graph.lookup(device, cx.release())?;
    jobs.check_not_left_drained(device)?;
    jobs.check_not_busy(device)?;
    jobs.check_not_busy(target)?;
    let only_overwritten = sync == "none";
    let base = match &bitmap {
        Some(bitmap) if bitmap.copies_dirty => None,
        _ if only_overwritten => None,
        _ => graph.base_of_sync(source, sync)?,
    };
    let size = graph.size(device, cx.host());
    if size != graph.size(target, cx.host()) {
        return Err(QmpError::generic("Source and target image have different sizes"));
    }
    let mut content = graph.content(device, base.as_deref(), cx.host());
    let len = match &bitmap {
        Some(bitmap) if bitmap.copies_dirty => {
            bitmap.keep_dirty(graph, &mut content);
            bitmap.dirty_blocks(graph) as u64 * Qcow2::CLUSTER
        }
        _ if sync == "top" => {
            graph.allocated(device, base.as_deref(), cx.host()).next_multiple_of(Qcow2::CLUSTER)
        }
        _ => size,
    };
    let chunk = cx.release().backup_chunk();
    let requests = if cx.release().backups_copy_in_parallel() { Requests::Many } else { Requests::One };
    let copying = Copying { requests, source: device, target, content: &content, len };
    let failure = failure(graph, copying, arguments);
    let at_once = len == 0 && cx.release().empty_jobs_end_before_the_reply();
    let usual = Options::of("backup", arguments, false, (len, chunk), cx);
    let options = Options {
        takes: if at_once { Duration::ZERO } else { usual.takes },
        starts_drained: true,
        endless: only_overwritten,
        failure: failure.filter(|_| !only_overwritten),
        ..usual
    };
    let filter = Planned::new(graph, cx.release().filter_of_backups(), arguments, cx)
        .map_err(|refused| cx.release().cannot_put_filter_in(refused))?
        .with_target(target);
    let backup = Backup {
        source: device.into(),
        target: target.into(),
        content,
        whole: len == size && !only_overwritten,
        only_overwritten,
        bitmap: bitmap.clone(),
    };
    let name = filter.name.clone();
    let job = begin(graph, jobs, filter, backup, options, arguments, cx)?;
    if let Some(bitmap) = bitmap {
        bitmap.begin(graph);
    }
    let release = cx.release();
    graph.keep_for_backup(&name, device, cx.host(), release);
    Ok(Created { job, ends_at_once: at_once })
}

/// Puts the filter in and creates the job; the filter goes again if the job is refused. Returns the job's serial number.
fn begin(
    graph: &mut Graph,
    jobs: &mut Jobs,
    filter: Planned,
    backup: Backup,
    options: Options,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<u64, QmpError> {
    let (id, name, release) = (arguments.text("job-id"), filter.name.clone(), cx.release());
    let (source, target) = (backup.source.clone(), backup.target.clone());
    let source_first = release.backups_check_their_source_first();
    if !source_first {
        check_target(graph, &name, &target, cx)?;
    }
    let role = release.filter_of_backups().role();
    graph
        .check_active_below(&source, role, &name, release)
        .map_err(|refused| release.cannot_put_filter_in(refused))?;
    graph.put_filter(filter, &source);
    if !source_first {
        graph.let_filter_write(&name, &target);
    }
    let checked = match graph.check_children(&name, cx) {
        Err(refused) if source_first => Err(release.cannot_limit_filter(refused)),
        // It is the filter's users that do not get along, once the job was created.
        Err(refused) => Err(jobs.refuse_block(id, refused, cx)),
        Ok(()) if source_first => {
            graph.let_filter_write(&name, &target);
            check_target(graph, &name, &target, cx)
        }
        Ok(()) => Ok(()),
    };
    let claim = Claim { nodes: vec![name.clone(), target], filter: Some(name.clone()), ..Claim::default() };
    let begun = checked.and_then(|()| jobs.create_block(id, options, Work::Backup(backup), claim, cx));
    if begun.is_err() {
        graph.take_filter(&name);
    }
    begun
}

/// The target is written by the filter node that QEMU puts on top of the source.
fn check_target(graph: &Graph, filter: &str, target: &str, cx: &mut Context<'_>) -> Result<(), QmpError> {
    let release = cx.release();
    graph
        .check_use(target, JobFilter::use_of_target(filter), cx)
        .map_err(|refused| release.cannot_put_filter_in(refused))
}

/// Ends a backup: none if it failed or was cancelled. A target that the client has not added goes.
pub(crate) fn finish(
    graph: &mut Graph,
    backup: Backup,
    completion: Option<Completion>,
    copied: Copied,
    cx: &mut Context<'_>,
) {
    leave(graph, &backup, copied, cx);
    if backup.whole {
        graph.dirty_from_the_beginning(&backup.target, copied.offset);
    }
    if let Some(bitmap) = backup.bitmap {
        bitmap.end(graph, completion.is_some());
    }
    graph.release(&backup.target);
}

/// Leaves a backup where it stands: what it has copied stays in the target.
pub(crate) fn leave(graph: &Graph, backup: &Backup, copied: Copied, cx: &mut Context<'_>) {
    let mut content = backup.content.clone();
    if backup.only_overwritten {
        let now = graph.content(&backup.source, None, cx.host());
        content.retain(|block, write| now.get(block) != Some(write));
        graph.write(&backup.target, content, cx.host());
    } else {
        graph.write_part(&backup.target, content, copied, cx.host());
    }
}
