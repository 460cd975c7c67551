//! What injected errors do to a block job: found out when it starts, told when it comes to that.
//!
//! A job writes where its source holds data, in chunks, many at once. A rule with `once` fails the first of them, any
//! other all. Requests that write zeroes do not come to the rule's event. Source: recordings, probes.

use super::Graph;
use crate::{
    host::{Blocks, Qcow2},
    machine::OnError,
    qemu::{arguments::Arguments, job::block::Failure},
};

/// What a job copies, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copying<'a> {
    /// How many requests are under way.
    pub(crate) requests: Requests,
    /// The node that is read.
    pub(crate) source: &'a str,
    /// The node that is written.
    pub(crate) target: &'a str,
    /// The data.
    pub(crate) content: &'a Blocks,
    /// How long the job is, in bytes.
    pub(crate) len: u64,
}

/// How many requests of a job are under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requests {
    /// One: what comes behind a failure is not copied.
    One,
    /// Many, of which the first failure is told.
    Many,
    /// Many, each of which tells of its failure.
    ManyThatTell,
}

/// Bytes that are copied in one go.
const CHUNK: u64 = 1 << 20;

/// Which requests of a job will fail, and its policy for them.
pub(crate) fn failure(graph: &mut Graph, copying: Copying<'_>, arguments: Arguments<'_>) -> Option<Failure> {
    let first = copying.content.keys().next()? * Qcow2::CLUSTER;
    let sides = [
        (copying.source, "read", "read_aio", "on-source-error"),
        (copying.target, "write", "write_aio", "on-target-error"),
    ];
    for (node, operation, event, side) in sides {
        let Some(rules) = graph.injected_below(node) else { continue };
        rules.event(event);
        let Some(strike) = rules.strikes(operation) else { continue };
        let mut chunks: Vec<_> = copying.content.keys().map(|block| block * Qcow2::CLUSTER / CHUNK).collect();
        chunks.dedup();
        let failed = if strike.once { 1 } else { chunks.len() as u64 };
        let one_by_one = copying.requests == Requests::One;
        let policy = arguments.optional_text(side).or_else(|| arguments.optional_text("on-error"));
        return Some(Failure {
            operation,
            errno: strike.errno,
            on_error: policy.and_then(OnError::named).unwrap_or(OnError::Report),
            times: if copying.requests == Requests::ManyThatTell { failed } else { 1 },
            lacks: if one_by_one { copying.len - first.min(copying.len) } else { failed * CHUNK },
            lasts: !strike.once,
            hidden_by_a_drain: strike.once && copying.requests == Requests::Many,
        });
    }
    None
}
