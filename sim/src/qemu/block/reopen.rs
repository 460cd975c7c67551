//! `blockdev-reopen`, `x-blockdev-reopen` in the oldest release: gives nodes other options, all of them or none.
//!
//! What can be changed: whether a node may be written, what it is backed by, later also the node that it stands on. Each
//! option that is left out goes back to its default; a node that has a backing file must be told about it.
//! Source of the order of checks: probes of the four releases.
//!
//! Not here: options that change nothing of what is simulated, and links that a job holds fast.

use serde_json::{Map, Value};

use super::{Driver, Graph, Node, filename::backing_in_header};
use crate::{
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs, not_simulated},
    qobject::QObject,
};

/// Options that change nothing of what is simulated.
const WITHOUT_EFFECT: [&str; 8] = [
    "driver",
    "node-name",
    "discard",
    "auto-read-only",
    "lazy-refcounts",
    "discard-no-unref",
    "pass-discard-request",
    "pass-discard-snapshot",
];

/// `blockdev-reopen` of a list of nodes, `x-blockdev-reopen` of one.
pub(crate) fn blockdev_reopen(
    graph: &mut Graph,
    jobs: &mut Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let alone = [Value::Object(arguments.0.clone())];
    let listed = arguments.0.get("options").and_then(Value::as_array);
    let nodes = listed.map_or(&alone[..], Vec::as_slice);
    if nodes.is_empty() {
        return Err(not_simulated("a reopen of nothing, at which QEMU crashes"));
    }
    let mut named = Vec::new();
    for each in nodes {
        let Some(name) = each.get("node-name").and_then(Value::as_str) else {
            return Err(cx.release().no_name_to_reopen());
        };
        graph.node(name).ok_or_else(|| cx.release().no_node_to_reopen(name))?;
        if named.contains(&name) && cx.release().reopen_leaves_drained_what_is_named_twice() {
            jobs.leave_drained(name);
        }
        named.push(name);
    }
    let listed = merged(nodes);
    let options: Vec<_> = listed.iter().map(Arguments).collect();
    let before = graph.clone();
    let mut stored = Vec::new();
    let done = options.iter().try_for_each(|each| prepare(graph, &mut stored, *each, cx));
    let names: Vec<_> = options.iter().map(|each| each.text("node-name")).collect();
    let done = done.and_then(|()| graph.check_reopened(&names, &before, cx));
    if let Err(refused) = done {
        *graph = before;
        // Bitmaps were stored for a node that is not read-only then, and stay as if it were.
        stored.iter().for_each(|name| graph.note_bitmaps(name, false));
        return Err(refused);
    }
    Ok(QObject::empty())
}

/// The options of each node: where one is listed again, what is said later counts, and goes to the earlier place.
fn merged(nodes: &[Value]) -> Vec<Map<String, Value>> {
    let mut merged: Vec<Map<String, Value>> = Vec::new();
    for options in nodes.iter().filter_map(Value::as_object) {
        let name = options.get("node-name");
        match merged.iter_mut().find(|earlier| name.is_some() && earlier.get("node-name") == name) {
            Some(earlier) => earlier.extend(options.clone()),
            None => merged.push(options.clone()),
        }
    }
    merged
}

/// Changes a node, unless its options say something that can never be; notes the name of one whose bitmaps were stored
/// on the way.
fn prepare(
    graph: &mut Graph,
    stored: &mut Vec<String>,
    options: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    let release = cx.release();
    let name = options.text("node-name");
    let Some(node) = graph.node(name) else { return Err(release.no_node_to_reopen(name)) };
    let read_only = options.flag("read-only");
    let own = match node.driver {
        Driver::File { .. } => ["read-only", "filename", "filename"],
        _ => ["read-only", "file", "backing"],
    };
    options.only(&[&WITHOUT_EFFECT[..], &own].concat())?;
    let says_backing = options.0.contains_key("backing");
    if !says_backing
        && release.reopen_forgets_no_backing()
        && graph.told_backing.iter().any(|told| told == name)
    {
        return Err(QmpError::generic("Option 'backing' cannot be reset to its default value"));
    }
    if read_only && matches!(node.driver, Driver::Qcow2 { .. }) {
        stored.push(name.to_owned());
    }
    let mut changed = Node { read_only, ..node.clone() };
    if let Driver::Qcow2 { backing, .. } = &mut changed.driver {
        *backing = backing_of(graph, node, options, cx)?;
    }
    let file = options.optional_text("file");
    match &mut changed.driver {
        Driver::Raw { file: present } | Driver::Qcow2 { file: present, .. } => {
            let wanted = file.ok_or_else(|| not_simulated("a child given in place"))?;
            if wanted != present && release.reopen_keeps_the_file() {
                return Err(cannot_change("file"));
            }
            graph.node(wanted).ok_or_else(|| release.cannot_find_node(wanted))?;
            if graph.stands_on(wanted, name) {
                return Err(not_simulated("a node that would be its own file"));
            }
            *present = wanted.into();
        }
        Driver::File { filename, .. } if *filename != options.text("filename") => {
            return Err(cannot_change("filename"));
        }
        Driver::File { .. } => {}
        _ => return Err(not_simulated(&format!("a reopen of `{}`", node.driver.name()))),
    }
    if changed.driver.name() != options.text("driver") {
        return Err(cannot_change("driver"));
    }
    if read_only && release.reopen_looks_for_writers_first() && graph.is_written(name, cx) {
        return Err(QmpError::generic("Cannot make block node read-only, there is a writer on it"));
    }
    graph.relink(changed);
    if says_backing {
        graph.told_backing.push(name.to_owned());
    }
    Ok(())
}

/// What a node is to be backed by.
fn backing_of(
    graph: &Graph,
    node: &Node,
    options: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<Option<String>, QmpError> {
    let release = cx.release();
    match options.0.get("backing") {
        None if node.driver.backing().is_some() || backing_in_header(graph, node, cx.host()).is_some() => {
            Err(QmpError::generic(format!("backing is missing for '{}'", node.name)))
        }
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(below)) => {
            graph.node(below).ok_or_else(|| release.cannot_find_node(below))?;
            if graph.stands_on(below, &node.name) {
                return Err(release.reopen_cycle(below, &node.name));
            }
            Ok(Some(below.clone()))
        }
        Some(_) => Err(not_simulated("a child given in place")),
    }
}

fn cannot_change(option: &str) -> QmpError {
    QmpError::generic(format!("Cannot change the option '{option}'"))
}
