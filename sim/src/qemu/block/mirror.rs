//! `blockdev-mirror`: copies a disk to another node and keeps the two in step until the client completes the job.
//! The job is `drive-mirror`'s too.
//!
//! ```text
//! device -> source      then: device -> target  (job-complete), or as before (a cancel without force)
//! ```
//! Content moves when the job ends, or QEMU does ([`leave`]): nobody could tell before. With `copy-mode` write-blocking what
//! the guest writes goes to both at once, which shows only in what queries say.
//!
//! Source of the order of checks: QEMU's QAPI docs, recordings.

use std::time::Duration;

use super::{
    Graph,
    failure::{Copying, Requests, failure},
    job_bitmap::Mirrored,
    job_filter::{JobDriver, Planned},
    job_use::of_mirror,
    open::open_stated_backing,
    permissions::{Permissions, Use},
};
use crate::{
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        job::{
            Claim, Copied, Jobs,
            block::{Completion, Options},
        },
        not_simulated,
        work::Work,
    },
    qobject::QObject,
};

/// Bytes that are under way at once, and what a speed is counted in, unless `buf-size` says otherwise: measured on 5.2, 7.2,
/// 10.0 and 11.1 with speeds of 1 and 8 MiB a second.
const BUFFER: u64 = 16 << 20;

/// Bytes of one request: what is whole in the target of a QEMU that was killed.
const REQUEST: u64 = 1 << 20;

/// A mirror that is under way, by node names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    source: String,
    target: String,
    /// The first node whose content is not copied.
    base: Option<String>,
    /// All is copied, where there are but zeroes too.
    whole: bool,
    backing: Backing,
}

impl Mirror {
    /// Where it copies to.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }
}

/// What a target that takes its source's place stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Backing {
    /// What it stands on already.
    Its,
    /// What its header says.
    Stated,
    /// This node, or none.
    Node(Option<String>),
}

/// Between what nodes a mirror is to be, and how the target came about.
pub(crate) struct Pair<'a> {
    /// What is read.
    pub(crate) source: &'a str,
    /// What is written.
    pub(crate) target: &'a str,
    /// The target's image is new: it is known to hold nothing.
    pub(crate) target_is_new: bool,
    /// What the target stands on at the end.
    pub(crate) backing: Backing,
}

/// The smallest and the largest number of bytes that may be copied as a whole.
const GRANULARITY: std::ops::RangeInclusive<i64> = 512..=64 << 20;

/// `blockdev-mirror`.
pub(crate) fn blockdev_mirror(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    Options::only(
        arguments,
        &[
            "target",
            "sync",
            "replaces",
            "filter-node-name",
            "granularity",
            "buf-size",
            "unmap",
            "copy-mode",
            "on-source-error",
            "on-target-error",
        ],
    )?;
    let (source, target) = (arguments.text("device"), arguments.text("target"));
    graph.lookup(source, cx.release())?;
    graph.check_root(source, jobs)?;
    graph.lookup(target, cx.release())?;
    let pair = Pair { source, target, target_is_new: false, backing: Backing::Its };
    start(graph, jobs, pair, arguments, cx)
}

/// Starts the job.
pub(crate) fn start(
    graph: &mut Graph,
    jobs: &mut Jobs,
    pair: Pair<'_>,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let Pair { source, target, target_is_new, backing } = pair;
    let write_blocking = arguments.optional_text("copy-mode") == Some("write-blocking");
    check_granularity(arguments.integer("granularity"), cx)?;
    graph.check_not_blocked(target, jobs)?;
    check_to_replace(graph, source, arguments.optional_text("replaces"), cx)?;
    let node = graph.lookup(source, cx.release())?;
    let base = graph.base_of_sync(node, arguments.text("sync"))?;
    if arguments.integer("buf-size") < 0 {
        return Err(QmpError::generic("Invalid parameter 'buf-size'"));
    }
    if source == target {
        return Err(QmpError::generic("Can't mirror node into itself"));
    }
    let filter = Planned::new(graph, JobDriver::MirrorTop, arguments, cx)?;
    let size = graph.size(source, cx.host());
    let content = graph.content(source, base.as_deref(), cx.host());
    // Only where all is asked for the target is zeroed first: where the top is, even if there is nothing below it, it is
    // taken to be empty.
    let holds_nothing = target_is_new
        || arguments.text("sync") == "top"
        || cx.release().a_mirror_skips_what_is_empty() && graph.content(target, None, cx.host()).is_empty();
    let unfit = size != graph.size(target, cx.host());
    let len = match base {
        _ if unfit => 0,
        None if !holds_nothing => size,
        _ => graph.allocated(source, base.as_deref(), cx.host()),
    };
    let requests = Requests::ManyThatTell;
    let copying = Copying { requests, source, target, content: &content, len };
    let failure = failure(graph, copying, arguments);
    let name = filter.name.clone();
    let usual = Mirrored::usual(&name, source);
    let granularity = match arguments.integer("granularity").unsigned_abs() {
        0 => usual.granularity,
        stated => stated,
    };
    let mirrored = Mirrored { granularity, write_blocking, ..usual };
    let buffer = match arguments.integer("buf-size").unsigned_abs() {
        0 => BUFFER,
        stated => stated.next_multiple_of(granularity),
    };
    let usual = Options::of("mirror", arguments, true, (len, buffer), cx);
    let takes = if unfit { Duration::ZERO } else { usual.takes };
    // Seen of 1 in 40 mirrors: mostly the first of a file.
    let at_once = len == 0 && !unfit && cx.choose("mirror-ready-behind-the-reply", 2) == 0;
    let options =
        Options { request: REQUEST, failure, unfit, takes, ready_at_once: at_once, write_blocking, ..usual };
    let whole = base.is_none() && len == size;
    let mirror = Mirror { source: source.into(), target: target.into(), base, whole, backing };
    begin(graph, jobs, filter, mirror, options, arguments, cx)?;
    graph.begin_uses(arguments.text("job-id"), of_mirror(&name, source, target, cx.release()));
    graph.keep_for_mirror(&mirrored, cx.release());
    Ok(QObject::empty())
}

/// Puts the filter in and starts the job; the filter goes again if the job is refused.
fn begin(
    graph: &mut Graph,
    jobs: &mut Jobs,
    filter: Planned,
    mirror: Mirror,
    options: Options,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    let (id, name) = (arguments.text("job-id"), filter.name.clone());
    graph.check_active_below(&mirror.source, "backing", &name, cx.release())?;
    graph.put_filter(filter, &mirror.source);
    let writes = Use::root(Permissions::WRITE, Permissions::WRITE_UNCHANGED);
    let begun = match graph.check_use(&mirror.target, writes, cx) {
        // The job is made, and its speed set, before it uses its target.
        Err(refused) if arguments.integer("speed") >= 0 => Err(jobs.refuse_block(id, refused, cx)),
        _ => {
            let claim = Claim {
                nodes: vec![name.clone(), mirror.source.clone(), mirror.target.clone()],
                filter: Some(name.clone()),
                ..Claim::default()
            };
            jobs.start_block(id, options, Work::Mirror(mirror), claim, cx)
        }
    };
    if begun.is_err() {
        graph.take_filter(&name);
    }
    begun
}

/// The node whose place the target takes must show what the source shows: it is the source itself, or one that filters
/// alone are on top of.
fn check_to_replace(
    graph: &Graph,
    source: &str,
    replaced: Option<&str>,
    cx: &Context<'_>,
) -> Result<(), QmpError> {
    let Some(replaced) = replaced.filter(|replaced| *replaced != source) else { return Ok(()) };
    if graph.node(replaced).is_none() {
        return Err(cx.release().no_node_to_replace(replaced));
    }
    if graph.node(source).is_some_and(|source| source.driver.passes_on()) {
        return Err(not_simulated("a mirror that replaces what is below a filter"));
    }
    Err(QmpError::generic(format!(
        "Cannot replace '{replaced}' by a node mirrored from '{source}', because it cannot be guaranteed that doing so \
         would not lead to an abrupt change of visible data"
    )))
}

/// Zero stands for the usual one.
fn check_granularity(granularity: i64, cx: &Context<'_>) -> Result<(), QmpError> {
    match granularity {
        0 => Ok(()),
        other if !GRANULARITY.contains(&other) => {
            Err(QmpError::generic("Parameter 'granularity' expects a value in range [512B, 64MB]"))
        }
        other if other.count_ones() != 1 => Err(cx.release().granularity_no_power_of_two()),
        _ => Ok(()),
    }
}

/// Ends a mirror: none if it failed or was cancelled. A target that the client has not added goes, unless it has taken
/// its source's place.
pub(crate) fn finish(
    graph: &mut Graph,
    mirror: &Mirror,
    completion: Option<Completion>,
    copied: Copied,
    cx: &mut Context<'_>,
) {
    leave(graph, mirror, copied, cx);
    if mirror.whole {
        graph.dirty_from_the_beginning(&mirror.target, copied.offset);
    }
    if completion == Some(Completion::Pivot) {
        match &mirror.backing {
            Backing::Its => {}
            // A disk whose backing file cannot be opened goes on without it.
            Backing::Stated => drop(open_stated_backing(graph, &mirror.target, cx)),
            Backing::Node(node) => graph.set_backing(&mirror.target, node.as_deref()),
        }
        graph.pivot(&mirror.source, &mirror.target);
    }
    graph.release(&mirror.target);
}

/// Leaves a mirror where it stands: what it has copied stays in the target.
pub(crate) fn leave(graph: &Graph, mirror: &Mirror, copied: Copied, cx: &mut Context<'_>) {
    let content = graph.content(&mirror.source, mirror.base.as_deref(), cx.host());
    graph.write_part(&mirror.target, content, copied, cx.host());
}
