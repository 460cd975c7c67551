//! How QEMU names an image in its replies.
//!
//! The name of the file, as long as opening that name would lead to the same chain. If the backing node is not the
//! one that the image's header names, the name is a `json:` description of the whole chain instead.

use serde_json::Value;

use super::{Driver, Graph, Node, filter::Filter};
use crate::{
    host::{Backing, Host},
    qobject::bucket,
};

/// The name of a node's image.
pub(crate) fn filename(graph: &Graph, node: &Node, host: &Host) -> String {
    plain(graph, node, host).unwrap_or_else(|| format!("json:{}", options(graph, node, host)))
}

/// A name from a header: a relative one starts in the folder of the image, unless it is none of a file (`json:{...}`).
pub(crate) fn combined(graph: &Graph, node: &Node, name: &str) -> String {
    let folder = graph.file_of(node).and_then(|file| file.rsplit_once('/')).map(|(folder, _)| folder);
    match folder {
        Some(folder) if !name.starts_with('/') && !name.starts_with("json:") => format!("{folder}/{name}"),
        _ => name.into(),
    }
}

/// The name that leads to the node and all below it; none if only a description does.
fn plain(graph: &Graph, node: &Node, host: &Host) -> Option<String> {
    let file = node.driver.file().and_then(|file| graph.node(file));
    match &node.driver {
        Driver::File { filename, .. } => Some(filename.clone()),
        Driver::Blkdebug { rules, .. } if rules.stated.is_empty() => {
            Some(format!("blkdebug::{}", plain(graph, file?, host)?))
        }
        Driver::Filter { filter: Filter::OfJob(filter), .. } if filter.has_name_of_what_is_below() => {
            plain(graph, file?, host)
        }
        Driver::Blkdebug { .. } | Driver::Filter { .. } => None,
        Driver::Null(null) => null.filename(),
        Driver::Raw { .. } | Driver::Qcow2 { .. } if backing_overridden(graph, node, host) => None,
        // An image inside another cannot be opened by a name, nor can one below a filter, though it be a job's.
        Driver::Raw { .. } | Driver::Qcow2 { .. } => plain(graph, file.filter(is_protocol)?, host),
    }
}

fn is_protocol(node: &&Node) -> bool {
    matches!(node.driver, Driver::File { .. } | Driver::Null(_) | Driver::Blkdebug { .. })
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
        // Opened because the header names it: by whatever name, it is the one.
        Some(backing) if !backing.owned_by_monitor && backing.name.starts_with('#') => {
            filename(graph, backing, host) != combined(graph, node, stated)
        }
        Some(backing) => filename(graph, backing, host) != stated,
        None => !stated.is_empty(),
    }
}

/// The options that would open the node and all below it, as the JSON text that QEMU writes.
fn options(graph: &Graph, node: &Node, host: &Host) -> String {
    let below = |name: Option<&str>| {
        let node = name.and_then(|name| graph.node(name));
        node.map_or("null".into(), |node| options(graph, node, host))
    };
    let mut members = vec![("driver".to_owned(), format!("\"{}\"", node.driver.name()))];
    match &node.driver {
        Driver::File { filename, .. } => {
            members.push(("filename".into(), Value::from(filename.as_str()).to_string()));
        }
        Driver::Blkdebug { image, rules } => {
            members.push(("image".into(), below(Some(image))));
            members.extend(rules.stated.iter().map(|(name, value)| (name.clone(), value.to_string())));
        }
        // It goes without saying.
        Driver::Filter { filter: Filter::OfJob(filter), file } if filter.implicit => {
            return below(Some(file));
        }
        Driver::Filter { filter, file } => {
            members.push(("file".into(), below(Some(file))));
            if let Filter::Throttle { group } = filter {
                members.push(("throttle-group".into(), Value::from(group.as_str()).to_string()));
            }
        }
        Driver::Null(null) => {
            members.extend(null.size.map(|size| ("size".into(), size.to_string())));
            members.extend(null.read_zeroes.map(|zeroes| ("read-zeroes".into(), zeroes.to_string())));
        }
        Driver::Raw { file } => members.push(("file".into(), below(Some(file)))),
        Driver::Qcow2 { file, backing } => {
            members.push(("file".into(), below(Some(file))));
            if backing_overridden(graph, node, host) {
                members.push(("backing".into(), below(backing.as_deref())));
            }
        }
    }
    // Those in one bucket are turned round twice before they are written: they come as their last parts do.
    let last = |name: &str| name.rsplit('.').next().map(bucket);
    members.sort_by_key(|(name, _)| (bucket(name), last(name)));
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

fn backing_node<'g>(graph: &'g Graph, node: &Node) -> Option<&'g Node> {
    graph.node(node.driver.backing()?)
}
