//! `block-stream`: moves what is below an overlay into it, as a job.
//!
//! ```text
//! base <- ... <- node      then: base <- node, or no base at all
//! ```
//! Nodes that were streamed stay, since a client has added them. Content moves when the job ends, or
//! QEMU does ([`leave`]): nobody could tell before.
//!
//! Not here: errors that are ignored.
//! Source of the order of checks: recordings, probes of 5.2, 7.2 and 10.0.

use std::time::Duration;

use super::{
    Driver, Graph, Node,
    commit::{CHUNK, first_go, rebase},
    failure::{Copying, Requests, failure},
    filename::filename,
    job_filter::{JobDriver, Planned},
    job_use::of_stream,
    permissions::{Permissions, Use},
};
use crate::{
    host::{Host, Qcow2},
    machine::OnError,
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

/// A stream that is under way, by node names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    node: String,
    base: Option<String>,
    /// What the node's header is to say instead of the base's own name.
    backing_file: Option<String>,
    was_read_only: bool,
    /// Whether the node was flushed when all was copied: nothing of it is lost then, whatever becomes of the process.
    is_flushed: bool,
}

impl Stream {
    /// A node is flushed when all was copied.
    pub(crate) fn flushed(&mut self, node: Option<&str>) {
        self.is_flushed |= node.is_none_or(|node| self.node == node);
    }
}

/// `block-stream`.
pub(crate) fn block_stream(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    Options::only(
        arguments,
        &["base", "base-node", "bottom", "backing-file", "filter-node-name", "on-error"],
    )?;
    let device = arguments.text("device");
    if cx.release().stream_looks_for_its_node_first() {
        graph.lookup(device, cx.release())?;
    }
    for [one, other] in [["base", "base-node"], ["base", "bottom"], ["bottom", "base-node"]] {
        if arguments.optional_text(one).and(arguments.optional_text(other)).is_some() {
            let text = format!("'{one}' and '{other}' cannot be specified at the same time");
            return Err(QmpError::generic(text));
        }
    }
    let node = graph.lookup(device, cx.release())?.clone();
    let base = find_base(graph, device, arguments, cx)?;
    let base = base.as_deref();
    let layers: Vec<_> =
        graph.chain(device).map(|node| node.name.clone()).take_while(|name| Some(&**name) != base).collect();
    for layer in &layers {
        jobs.check_not_busy(layer)?;
    }
    let backing_file = arguments.optional_text("backing-file").map(str::to_owned);
    if base.is_none() && backing_file.is_some() {
        return Err(QmpError::generic("backing file specified, but streaming the entire chain"));
    }
    let nothing_to_do = layers.len() == 1;
    let len = if nothing_to_do { 0 } else { graph.size(&node.name, cx.host()) };
    let below = layers.get(1).cloned().unwrap_or_default();
    let content = graph.content(&below, base, cx.host());
    let copying = Copying { requests: Requests::One, source: &below, target: device, content: &content, len };
    let failure = failure(graph, copying, arguments);
    if failure.is_some_and(|failure| failure.on_error == OnError::Ignore) {
        return Err(not_simulated("a stream that ignores errors"));
    }
    let at_once = nothing_to_do && cx.release().empty_jobs_end_before_the_reply();
    let usual = Options::of("stream", arguments, false, (len, CHUNK), cx);
    let takes = if at_once { Duration::ZERO } else { usual.takes };
    let first = reaches_at_once(graph, &layers, len, cx.host());
    let options = Options { failure, takes, first, unslowed: first == len, ..usual };
    let base = base.map(str::to_owned);
    let stream = Stream {
        node: node.name.clone(),
        base,
        backing_file,
        was_read_only: node.read_only,
        is_flushed: false,
    };
    begin(graph, jobs, stream, layers, options, arguments, cx)?;
    if at_once {
        jobs.newest_looks_around(cx);
    }
    Ok(QObject::empty())
}

/// How far a stream comes in its first go.
fn reaches_at_once(graph: &Graph, layers: &[String], len: u64, host: &Host) -> u64 {
    let holds = |layer: &String, at: u64| {
        graph.node(layer).is_some_and(|node| match node.driver {
            Driver::Qcow2 { .. } => {
                let image = graph.image(node, host);
                image.is_some_and(|image| image.blocks().contains_key(&(at / Qcow2::CLUSTER)))
            }
            // Without a place for a layer below it holds all of itself.
            Driver::File { .. } | Driver::Null(_) | Driver::Raw { .. } => at < graph.size_of(node, host),
            _ => false,
        })
    };
    let Some((top, below)) = layers.split_first() else { return len };
    first_go(len, |at| !holds(top, at) && below.iter().any(|layer| holds(layer, at)))
}

/// Puts the filter in, where a release has one, and starts the job; the filter goes again if the job is refused.
fn begin(
    graph: &mut Graph,
    jobs: &mut Jobs,
    stream: Stream,
    layers: Vec<String>,
    options: Options,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    let id = arguments.text("job-id");
    let node = stream.node.clone();
    if !cx.release().streams_have_filters() {
        graph.check_filter_below(&node, "file", "", cx.release())?;
        check_not_resized(graph, &node, &node, cx)?;
        let uses = of_stream(None, &layers, cx.release());
        let claim = Claim { nodes: layers.clone(), kept: layers, ..Claim::default() };
        jobs.start_block(id, options, Work::Stream(stream), claim, cx)?;
        graph.begin_uses(id, uses);
        graph.set_read_only(&node, false);
        return Ok(());
    }
    let filter = Planned::new(graph, JobDriver::CopyOnRead, arguments, cx)
        .map_err(|refused| cx.release().cannot_put_filter_in(refused))?;
    let name = filter.name.clone();
    graph
        .check_filter_below(&node, "file", &name, cx.release())
        .map_err(|refused| cx.release().cannot_put_filter_in(refused))?;
    graph.put_filter(filter, &stream.node);
    let uses = of_stream(Some(&name), &layers, cx.release());
    let nodes = layers.iter().chain([&name]).cloned().collect();
    let claim = Claim { nodes, kept: layers, filter: Some(name.clone()) };
    let begun = match check_not_resized(graph, &name, &node, cx) {
        // It is the filter's users that do not get along, once the job was created.
        Err(refused) => Err(jobs.refuse_block(id, refused, cx)),
        Ok(()) => jobs.start_block(id, options, Work::Stream(stream), claim, cx),
    };
    match begun {
        Ok(()) => {
            graph.begin_uses(id, uses);
            graph.set_read_only(&node, false);
        }
        Err(_) => drop(graph.take_filter(&name)),
    }
    begun
}

/// What writes to the top node may not resize it meanwhile, as a format node does with its file.
fn check_not_resized(graph: &Graph, top: &str, node: &str, cx: &mut Context<'_>) -> Result<(), QmpError> {
    let bears = Permissions::ALL.without(Permissions::RESIZE);
    // A node that may only be read is opened for writing once nothing else is in the way.
    let read_only = graph.node(node).is_some_and(|node| node.read_only);
    let writes = if read_only { Permissions::NONE } else { Permissions::WRITE_UNCHANGED };
    graph.check_use(top, Use::root(Permissions::READ.and(writes), bears), cx)
}

/// The first node that is not streamed: named as such, by its file, or as what is below the last one that is.
fn find_base(
    graph: &Graph,
    device: &str,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<Option<String>, QmpError> {
    let release = cx.release();
    if let Some(file) = arguments.optional_text("base") {
        let found = graph.chain(device).skip(1).find(|node| filename(graph, node, cx.host()) == file);
        let missing = || release.no_base_of_that_file(file);
        return found.map(|node| Some(node.name.clone())).ok_or_else(missing);
    }
    if let Some(base) = arguments.optional_text("base-node") {
        graph.node(base).ok_or_else(|| release.cannot_find_node(base))?;
        if !graph.chain(device).skip(1).any(|below| below.name == base) {
            return Err(QmpError::generic(format!("Node '{base}' is not a backing image of '{device}'")));
        }
        return Ok(Some(base.to_owned()));
    }
    let Some(bottom) = arguments.optional_text("bottom") else { return Ok(None) };
    let node = graph.node(bottom).ok_or_else(|| release.cannot_find_node(bottom))?;
    if !graph.chain(device).any(|layer| layer.name == bottom) {
        let text = format!("Node '{bottom}' is not in a chain starting from '{device}'");
        return Err(QmpError::generic(text));
    }
    Ok(node.driver.backing().map(str::to_owned))
}

/// Ends a stream: none if it failed or was cancelled.
pub(crate) fn finish(
    graph: &mut Graph,
    stream: &Stream,
    completion: Option<Completion>,
    copied: Copied,
    cx: &mut Context<'_>,
) {
    if completion.is_none() {
        leave(graph, stream, copied, cx);
    } else {
        let content = graph.content(&stream.node, stream.base.as_deref(), cx.host());
        if stream.is_flushed || cx.release().streams_flush_what_they_copied() {
            graph.write(&stream.node, content, cx.host());
        } else {
            graph.write_unflushed(&stream.node, content, cx.host());
        }
        rebase(graph, &stream.node, stream.base.as_deref(), stream.backing_file.clone(), cx);
    }
    if stream.was_read_only && !cx.release().streamed_nodes_stay_writable() {
        graph.set_read_only(&stream.node, true);
    }
}

impl Graph {
    /// Whether a disk is read through the filter of a stream that has no layer below, and has not written its first block:
    /// QEMU ends by a signal when that is looked for there.
    pub(crate) fn is_read_through_an_empty_stream(&self, host: &Host) -> bool {
        let below = |top: &str| {
            let (filter, below) = self.node(top)?.driver.job_filter()?;
            self.node(below).filter(|_| filter.driver == JobDriver::CopyOnRead && !filter.left_behind)
        };
        let is_empty = |node: &Node| {
            let holds = self.image(node, host).is_some_and(|image| image.blocks().contains_key(&0));
            matches!(node.driver, Driver::Qcow2 { backing: None, .. }) && !holds
        };
        self.devices().iter().any(|device| below(&device.node).is_some_and(is_empty))
    }
}

/// Leaves a stream where it stands: what it has copied stays in the overlay.
pub(crate) fn leave(graph: &Graph, stream: &Stream, copied: Copied, cx: &mut Context<'_>) {
    let content = graph.content(&stream.node, stream.base.as_deref(), cx.host());
    graph.write_part(&stream.node, content, copied, cx.host());
}
