//! `block-commit`: moves what overlays hold into what is below them, as a job.
//!
//! ```text
//! of the active layer:   base <- ... <- top = device's node      then: base = device's node  (job-complete)
//! of those in between:   base <- ... <- top <- overlay           then: base <- overlay
//! ```
//! The active layer is kept in step until the client completes the job. Nodes that were committed stay, since a client
//! has added them. Content moves when the job ends, or QEMU does ([`leave`]): nobody could tell before.
//!
//! Not here: nodes with names of QEMU's own.
//! Source of the order of checks: recordings.

use super::{
    Graph, Node,
    failure::{Copying, Requests, failure},
    filename::filename,
    job_bitmap::Mirrored,
    job_filter::{JobDriver, Planned},
    job_use::{of_active_commit, of_commit},
};
use crate::{
    host::{Backing, Qcow2},
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

/// Bytes of the active layer that are copied in one go.
const ACTIVE_CHUNK: u64 = 1 << 20;

/// Bytes of other layers that are copied in one go, in a stream too.
pub(super) const CHUNK: u64 = 512 << 10;

/// A commit that is under way, by node names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    top: String,
    base: String,
    /// The node that top backs; none for the active layer.
    overlay: Option<String>,
    /// What the overlay's header is to say instead of the base's own name.
    backing_file: Option<String>,
    /// The base could not be written before.
    base_was_read_only: bool,
    /// Whether the base was flushed when all was copied: nothing of it is lost then, whatever becomes of the process.
    is_flushed: bool,
}

impl Commit {
    /// The base, where the active layer is committed into it.
    pub(crate) fn active_base(&self) -> Option<&str> {
        self.overlay.is_none().then_some(self.base.as_str())
    }
}

impl Commit {
    /// A node is flushed when all was copied.
    pub(crate) fn flushed(&mut self, node: Option<&str>) {
        self.is_flushed |= node.is_none_or(|node| self.base == node);
    }

    /// Whether it commits what the guest writes to.
    pub(crate) fn is_active(&self) -> bool {
        self.overlay.is_none()
    }
}

/// `block-commit`.
pub(crate) fn block_commit(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    Options::only(
        arguments,
        &["base-node", "base", "top-node", "top", "backing-file", "filter-node-name", "on-error"],
    )?;
    let device = arguments.text("device");
    let unknown = || QmpError { class: "DeviceNotFound", desc: format!("Device '{device}' not found") };
    let root = graph.node(device).ok_or_else(unknown)?;
    graph.check_root(device, jobs)?;
    let top = find(graph, root, ["top-node", "top"], arguments, cx)?.unwrap_or(root);
    let base = find(graph, top, ["base-node", "base"], arguments, cx)?
        .or_else(|| graph.chain(&top.name).last())
        .ok_or_else(unknown)?;
    for node in graph.chain_down_to(&top.name, &base.name) {
        jobs.check_not_busy(&node.name)?;
    }
    if top == base {
        return Err(QmpError::generic("cannot commit an image into itself"));
    }
    let overlay = graph.parents(&top.name).find(|parent| parent.driver.backing() == Some(&top.name));
    let backing_file = arguments.optional_text("backing-file").map(str::to_owned);
    if overlay.is_none() && backing_file.is_some() {
        return Err(QmpError::generic("'backing-file' specified, but 'top' is the active layer"));
    }
    let commit = Commit {
        top: top.name.clone(),
        base: base.name.clone(),
        overlay: overlay.map(|overlay| overlay.name.clone()),
        backing_file,
        base_was_read_only: base.read_only,
        is_flushed: false,
    };
    let mut nodes = layers_above(graph, &top.name, &base.name);
    nodes.push(base.name.clone());
    if top != root {
        nodes.push(root.name.clone());
    }
    let active = commit.is_active();
    let options = options_of(graph, &commit, arguments, cx);
    let (base, top) = (commit.base.clone(), commit.top.clone());
    let filter = plan_filter(graph, jobs, &top, active, arguments, cx)?;
    let layers = layers_above(graph, &top, &base);
    let uses = match active {
        true => of_active_commit(&filter.name, [&top, &base], &layers[1..], cx.release()),
        false => of_commit(device, &base, &layers, cx.release()),
    };
    let kept = nodes.iter().filter(|node| !active && **node != base).cloned().collect();
    if active {
        nodes.push(filter.name.clone());
    }
    let claim = Claim { nodes, kept, filter: Some(filter.name.clone()) };
    jobs.start_block(arguments.text("job-id"), options, Work::Commit(commit), claim, cx)?;
    graph.begin_uses(arguments.text("job-id"), uses);
    if active {
        graph.keep_for_mirror(&Mirrored::usual(&filter.name, &top), cx.release());
    }
    graph.put_filter(filter, &top);
    graph.set_read_only(&base, false);
    Ok(QObject::empty())
}

/// How the job goes: what it copies, and how fast.
fn options_of(graph: &mut Graph, commit: &Commit, arguments: Arguments<'_>, cx: &mut Context<'_>) -> Options {
    let active = commit.is_active();
    let content = graph.content(&commit.top, Some(&commit.base), cx.host());
    let len = match active {
        true => content.len() as u64 * Qcow2::CLUSTER,
        false => graph.size(&commit.top, cx.host()),
    };
    let requests = if active { Requests::ManyThatTell } else { Requests::One };
    let copying = Copying { requests, source: &commit.top, target: &commit.base, content: &content, len };
    let failure = failure(graph, copying, arguments);
    let nothing_to_do = active && len == 0 && cx.release().commits_race_their_reply();
    let ready_at_once = nothing_to_do && cx.choose("ready-before-the-reply", 2) == 1;
    let chunk = if active { ACTIVE_CHUNK } else { CHUNK };
    let usual = Options::of("commit", arguments, active, (len, chunk), cx);
    let copies = |at: u64| content.contains_key(&(at / Qcow2::CLUSTER));
    let first = if active { usual.first } else { first_go(len, copies) };
    Options { ready_at_once, failure, first, unslowed: !active && first == len, ..usual }
}

/// How far a job comes in its first go, which copies what is at these places: past all that it need not copy, and one
/// chunk, or what of it is of one piece.
pub(super) fn first_go(len: u64, copies: impl Fn(u64) -> bool) -> u64 {
    let clusters = || (0..len).step_by(Qcow2::CLUSTER as usize);
    let Some(from) = clusters().find(|at| copies(*at)) else { return len };
    let end = clusters().skip_while(|at| *at < from).take_while(|at| copies(*at)).last();
    end.map_or(len, |last| (last + Qcow2::CLUSTER).min(from + CHUNK).min(len))
}

/// The filter that the job is to put in. A commit of layers in between makes its job first.
fn plan_filter(
    graph: &mut Graph,
    jobs: &mut Jobs,
    top: &str,
    active: bool,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<Planned, QmpError> {
    let driver = if active { JobDriver::MirrorTopOfCommit } else { JobDriver::CommitTop };
    let planned = Planned::new(graph, driver, arguments, cx).and_then(|planned| {
        graph.check_filter_below(top, "backing", &planned.name, cx.release()).map(|()| planned)
    });
    match planned {
        Err(refused) if !active => Err(jobs.refuse_block(arguments.text("job-id"), refused, cx)),
        planned => planned,
    }
}

/// The nodes of a chain from the top down to the base, without that.
fn layers_above(graph: &Graph, top: &str, base: &str) -> Vec<String> {
    graph.chain(top).map(|node| node.name.clone()).take_while(|layer| layer != base).collect()
}

/// Ends a commit: none if it failed or was cancelled.
pub(crate) fn finish(
    graph: &mut Graph,
    commit: &Commit,
    completion: Option<Completion>,
    copied: Copied,
    cx: &mut Context<'_>,
) {
    let Some(completion) = completion else {
        leave(graph, commit, copied, cx);
        if commit.overlay.is_some() || !cx.release().bases_of_failed_commits_stay_writable() {
            graph.set_read_only(&commit.base, commit.base_was_read_only);
        }
        return;
    };
    let content = graph.content(&commit.top, Some(&commit.base), cx.host());
    let size = graph.size(&commit.top, cx.host());
    if let Some(image) = graph.image_mut(&commit.base, cx.host()) {
        image.grow(size);
    }
    graph.forget_length(&commit.base);
    // One that may only be read again is flushed for that, and so is what the guest goes on in.
    if commit.overlay.is_none() || commit.base_was_read_only || commit.is_flushed {
        graph.write(&commit.base, content, cx.host());
    } else {
        graph.write_unflushed(&commit.base, content, cx.host());
    }
    match (&commit.overlay, completion) {
        (None, Completion::Pivot) => graph.pivot(&commit.top, &commit.base),
        // The base may be written from then on.
        (None, Completion::Leave) => {}
        (Some(overlay), _) => {
            graph.set_read_only(&commit.base, commit.base_was_read_only);
            rebase(graph, overlay, Some(&commit.base), commit.backing_file.clone(), cx);
        }
    }
}

/// Leaves a commit where it stands: what it has copied stays in the base.
pub(crate) fn leave(graph: &Graph, commit: &Commit, copied: Copied, cx: &mut Context<'_>) {
    let content = graph.content(&commit.top, Some(&commit.base), cx.host());
    graph.write_part(&commit.base, content, copied, cx.host());
}

/// Gives a node another backing node, or none, and says so in its header: by the node's own name unless another is
/// given.
pub(super) fn rebase(
    graph: &mut Graph,
    node: &str,
    base: Option<&str>,
    stated: Option<String>,
    cx: &mut Context<'_>,
) {
    graph.set_backing(node, base);
    let base = base.and_then(|base| graph.node(base));
    let backing = base.map(|base| Backing {
        file: stated.unwrap_or_else(|| filename(graph, base, cx.host())),
        format: Some(base.driver.name().into()),
    });
    if let Some(image) = graph.qcow2_mut(node, cx.host()) {
        image.backing = backing;
    }
}

/// The node of a chain that one of two arguments names: one by its node name, the other by its file.
fn find<'g>(
    graph: &'g Graph,
    above: &'g Node,
    [by_node, by_file]: [&str; 2],
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<Option<&'g Node>, QmpError> {
    match (arguments.optional_text(by_node), arguments.optional_text(by_file)) {
        (Some(_), Some(_)) => {
            Err(QmpError::generic(format!("'{by_node}' and '{by_file}' are mutually exclusive")))
        }
        (Some(name), None) => {
            graph.node(name).ok_or_else(|| cx.release().cannot_find_node(name))?;
            let found = graph.chain(&above.name).find(|node| node.name == name);
            let missing = || QmpError::generic(format!("'{name}' is not in this backing file chain"));
            found.map(Some).ok_or_else(missing)
        }
        (None, Some(file)) => {
            if file.starts_with("json:") {
                return Err(not_simulated("a layer named by a description"));
            }
            let found = graph.chain(&above.name).find(|node| filename(graph, node, cx.host()) == file);
            let missing = if by_file == "top" {
                format!("Top image file {file} not found")
            } else {
                format!("Can't find '{file}' in the backing chain")
            };
            found.map(Some).ok_or_else(|| QmpError::generic(missing))
        }
        (None, None) => Ok(None),
    }
}
