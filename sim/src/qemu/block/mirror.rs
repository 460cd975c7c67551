//! `blockdev-mirror`: copies a disk to another node and keeps the two in step until the client completes the job.
//!
//! ```text
//! device -> source      then: device -> target  (job-complete), or as before (a cancel without force)
//! ```
//! Content moves when the job ends: nobody but the job's own client could tell.
//!
//! Not here: the filter node that QEMU puts on top meanwhile, a target of another size, one that is in use.
//! Source of the order of checks: QEMU's QAPI docs, recordings.

use super::{
    Graph,
    failure::{Copying, Requests, failure},
    permissions::{Permissions, Use},
};
use crate::{
    host::Qcow2,
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        job::{
            Claim, Jobs,
            block::{Completion, Options},
        },
        not_simulated,
        work::Work,
    },
    qobject::QObject,
};

/// Bytes copied in one go.
const CHUNK: u64 = 1 << 20;

/// A mirror that is under way, by node names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    source: String,
    target: String,
    /// The first node whose content is not copied.
    base: Option<String>,
}

/// `blockdev-mirror`.
pub(crate) fn blockdev_mirror(
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
        "buf-size",
        "unmap",
        "copy-mode",
        "on-source-error",
        "on-target-error",
        "auto-finalize",
        "auto-dismiss",
    ])?;
    if arguments.optional_text("copy-mode") == Some("write-blocking") {
        return Err(not_simulated("a mirror that writes to both disks at once"));
    }
    let (device, target) = (arguments.text("device"), arguments.text("target"));
    let source = graph.lookup(device, cx.release())?;
    if graph.parents(device).next().is_some() || jobs.uses(device) {
        return Err(QmpError::generic("Need a root block node"));
    }
    graph.lookup(target, cx.release())?;
    jobs.check_not_busy(target)?;
    graph.check_not_backing(target)?;
    if device == target {
        return Err(QmpError::generic("Can't mirror node into itself"));
    }
    let base = graph.base_of_sync(source, arguments.text("sync"))?;
    let size = graph.size(device, cx.host());
    if size != graph.size(target, cx.host()) {
        return Err(not_simulated("a target of another size"));
    }
    let writes = Use::root(Permissions::WRITE, Permissions::WRITE_UNCHANGED);
    let refused = graph.check_use(target, writes, cx).err();
    // The job is made, and its speed set, before it uses its target.
    if let Some(refused) = refused.filter(|_| arguments.integer("speed") >= 0) {
        return Err(jobs.refuse_block(arguments.text("job-id"), refused, cx));
    }
    let everything = base.is_none() && !cx.release().a_mirror_skips_what_is_empty();
    let content = graph.content(device, base.as_deref(), cx.host());
    let len = if everything { size } else { content.len() as u64 * Qcow2::CLUSTER };
    let requests = Requests::ManyThatTell;
    let copying = Copying { requests, source: device, target, content: &content, len };
    let failure = failure(graph, copying, arguments);
    let options = Options { failure, ..super::job_options("mirror", arguments, true, (len, CHUNK), cx) };
    let claim = Claim {
        nodes: vec![device.into(), target.into()],
        attached: vec![target.into()],
        ..Claim::default()
    };
    let mirror = Mirror { source: device.into(), target: target.into(), base };
    jobs.start_block(arguments.text("job-id"), options, Work::Mirror(mirror), claim, cx)?;
    Ok(QObject::empty())
}

/// Ends a mirror: none if it failed or was cancelled.
pub(crate) fn finish(
    graph: &mut Graph,
    mirror: &Mirror,
    completion: Option<Completion>,
    cx: &mut Context<'_>,
) {
    let Some(completion) = completion else { return };
    let content = graph.content(&mirror.source, mirror.base.as_deref(), cx.host());
    graph.write(&mirror.target, content, cx.host());
    if completion == Completion::Pivot {
        graph.pivot(&mirror.source, &mirror.target);
    }
}
