//! `block-stream`: moves what is below an overlay into it, as a job.
//!
//! ```text
//! base <- ... <- node      then: base <- node, or no base at all
//! ```
//! Nodes that were streamed stay, since a client has added them. Content moves when the job ends: nobody but the job's
//! own client could tell.
//!
//! Not here: the filter node that QEMU puts on top meanwhile, `bottom`, and layers named by their file.
//! Source of the order of checks: recordings.

use super::{Graph, commit::rebase};
use crate::{
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        job::{Claim, Jobs, block::Completion},
        work::Work,
    },
    qobject::QObject,
};

/// Bytes copied in one go.
const CHUNK: u64 = 512 << 10;

/// A stream that is under way, by node names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    node: String,
    base: Option<String>,
    /// What the node's header is to say instead of the base's own name.
    backing_file: Option<String>,
}

/// `block-stream`.
pub(crate) fn block_stream(
    graph: &Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    arguments.only(&[
        "job-id",
        "device",
        "base-node",
        "backing-file",
        "speed",
        "auto-finalize",
        "auto-dismiss",
    ])?;
    let device = arguments.text("device");
    let release = cx.release();
    let node = graph.lookup(device, release)?;
    let base = arguments.optional_text("base-node");
    if let Some(base) = base {
        graph.node(base).ok_or_else(|| release.cannot_find_node(base))?;
        if !graph.chain(device).skip(1).any(|below| below.name == base) {
            return Err(QmpError::generic(format!("Node '{base}' is not a backing image of '{device}'")));
        }
    }
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
    let options = super::job_options("stream", arguments, false, (len, CHUNK), cx);
    let stream = Stream { node: node.name.clone(), base: base.map(str::to_owned), backing_file };
    let claim = Claim { nodes: layers, ..Claim::default() };
    jobs.start_block(arguments.text("job-id"), options, Work::Stream(stream), claim, cx)?;
    Ok(QObject::empty())
}

/// Ends a stream: none if it failed or was cancelled.
pub(crate) fn finish(
    graph: &mut Graph,
    stream: &Stream,
    completion: Option<Completion>,
    cx: &mut Context<'_>,
) {
    if completion.is_none() {
        return;
    }
    let content = graph.content(&stream.node, stream.base.as_deref(), cx.host());
    graph.write(&stream.node, content, cx.host());
    rebase(graph, &stream.node, stream.base.as_deref(), stream.backing_file.clone(), cx);
}
