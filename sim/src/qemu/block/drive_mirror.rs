//! `drive-mirror`: makes or opens an image, and mirrors a disk to it.
//!
//! ```text
//! sync   header of a new image names   the target that takes the source's place stands on
//! full   nothing                       nothing
//! top    what the source stands on     the same node
//! none   the source                    the source
//! ```
//! An image that was there already keeps its header, and is opened as that says once it takes the source's place. While
//! the job runs the target stands on nothing. Source of the order of checks: probes of the four releases.
//!
//! Not here: `replaces`.

use super::{
    Graph,
    image::{Target, is_new},
    mirror::{Backing, Pair, start},
};
use crate::{
    qemu::{
        Context, QmpError,
        arguments::Arguments,
        job::{Jobs, block::Options},
        not_simulated,
    },
    qobject::QObject,
};

/// `drive-mirror`.
pub(crate) fn drive_mirror(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    Options::only(
        arguments,
        &[
            "target",
            "format",
            "node-name",
            "mode",
            "sync",
            "replaces",
            "granularity",
            "buf-size",
            "unmap",
            "copy-mode",
            "on-source-error",
            "on-target-error",
        ],
    )?;
    let source = arguments.text("device");
    graph.lookup(source, cx.release())?;
    graph.check_root(source, jobs)?;
    let node_name = arguments.optional_text("node-name");
    match (arguments.optional_text("replaces"), node_name) {
        (Some(_), None) => {
            let text = "a node-name must be provided when replacing a named node of the graph";
            return Err(QmpError::generic(text));
        }
        (Some(_), Some(_)) => return Err(not_simulated("a mirror that replaces another node")),
        (None, _) => {}
    }
    let target_is_new = is_new(arguments);
    let backing = match arguments.text("sync") {
        "top" => graph.lookup(source, cx.release())?.driver.backing().map(str::to_owned),
        "none" => Some(source.to_owned()),
        _ => None,
    };
    let target = Target { source, node_name, backing: backing.as_deref(), with_backing: false };
    let target = target.open(graph, arguments, cx)?;
    let pair = Pair {
        source,
        target: &target,
        target_is_new,
        backing: if target_is_new { Backing::Node(backing) } else { Backing::Stated },
    };
    let started = start(graph, jobs, pair, arguments, cx);
    if started.is_err() {
        graph.remove(&target);
    }
    started
}
