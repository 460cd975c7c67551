//! How QEMU names an image in its replies.
//!
//! The name of the file, as long as opening that name would lead to the same chain. If the backing node is not the
//! one that the image's header names, the name is a `json:` description of the whole chain instead.

use super::{Driver, Graph, Node};
use crate::host::{Backing, Host};

/// The name of a node's image.
pub(crate) fn filename(graph: &Graph, node: &Node, host: &Host) -> String {
    if backing_overridden(graph, node, host) {
        format!("json:{}", options(graph, node, host))
    } else {
        graph.file_of(node).unwrap_or_default().into()
    }
}

/// What the image's header says of its backing file.
pub(crate) fn backing_in_header<'h>(graph: &Graph, node: &Node, host: &'h Host) -> Option<&'h Backing> {
    graph.image(node, host)?.as_qcow2()?.backing.as_ref()
}

fn backing_overridden(graph: &Graph, node: &Node, host: &Host) -> bool {
    if !matches!(node.driver, Driver::Qcow2 { .. }) {
        return false;
    }
    let stated = backing_in_header(graph, node, host).map_or("", |backing| &backing.file);
    match backing_node(graph, node) {
        Some(backing) => filename(graph, backing, host) != stated,
        None => !stated.is_empty(),
    }
}

/// The options that would open the node and all below it, as the JSON text that QEMU writes.
fn options(graph: &Graph, node: &Node, host: &Host) -> String {
    let driver = node.driver.name();
    let Some(file) = node.driver.file().and_then(|file| graph.node(file)) else {
        let file = serde_json::Value::from(graph.file_of(node).unwrap_or_default());
        return format!("{{\"driver\": \"{driver}\", \"filename\": {file}}}");
    };
    let file = options(graph, file, host);
    if !backing_overridden(graph, node, host) {
        return format!("{{\"driver\": \"{driver}\", \"file\": {file}}}");
    }
    let backing = backing_node(graph, node).map_or("null".into(), |backing| options(graph, backing, host));
    format!("{{\"backing\": {backing}, \"driver\": \"{driver}\", \"file\": {file}}}")
}

fn backing_node<'g>(graph: &'g Graph, node: &Node) -> Option<&'g Node> {
    graph.node(node.driver.backing()?)
}
