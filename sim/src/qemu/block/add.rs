//! `blockdev-add` and `blockdev-del`.
//!
//! Only what is stated is opened: a backing file that the image's header names, but the command does not, would
//! make QEMU open nodes on its own; that is not simulated, nor is a child given in place instead of by its name.

use camino::Utf8Path;
use serde_json::Value;

use super::{Driver, Graph, Node};
use crate::qemu::{
    Context, QmpError,
    arguments::Arguments,
    job::{Jobs, is_well_formed},
    not_simulated,
};
use crate::qobject::QObject;

/// The longest node name.
const NODE_NAME_MAX: usize = 31;

/// Options that change nothing of what is simulated.
const WITHOUT_EFFECT: [&str; 4] = ["driver", "node-name", "discard", "auto-read-only"];

/// `blockdev-add`.
pub(crate) fn blockdev_add(
    graph: &mut Graph,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let name = arguments
        .optional_text("node-name")
        .ok_or_else(|| QmpError::generic("'node-name' must be specified for the root node"))?;
    let read_only = arguments.flag("read-only");
    let known = |own: &[&str]| arguments.only(&[&WITHOUT_EFFECT, ["read-only"].as_slice(), own].concat());
    let driver = match arguments.text("driver") {
        "file" => {
            known(&["filename"])?;
            check_name(graph, name, cx)?;
            file(arguments.text("filename"), cx)?
        }
        "raw" => {
            known(&["file"])?;
            Driver::Raw { file: format_child(graph, name, arguments, cx)? }
        }
        "qcow2" => {
            known(&["file", "backing"])?;
            let file = format_child(graph, name, arguments, cx)?;
            qcow2(graph, file, arguments, cx)?
        }
        other => return Err(not_simulated(&format!("block driver `{other}`"))),
    };
    graph.insert(Node { name: name.into(), driver, read_only });
    if let Err(refused) = graph.check_children(name, cx) {
        graph.remove(name);
        return Err(refused);
    }
    Ok(QObject::empty())
}

/// `blockdev-del`. The order of its checks is QEMU's: devices and what jobs read and write, what jobs block, backing,
/// other users.
pub(crate) fn blockdev_del(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &Context<'_>,
) -> Result<QObject, QmpError> {
    let name = arguments.text("node-name");
    graph.node(name).ok_or_else(|| cx.release().node_not_found(name))?;
    let exported = graph.exports().on(name).next().is_some();
    if graph.device_on(name).is_some() || exported || jobs.is_attached_to(name) {
        return Err(QmpError::generic(format!("Node {name} is in use")));
    }
    jobs.check_not_busy(name)?;
    graph.check_not_backing(name)?;
    if graph.parents(name).next().is_some() || jobs.uses(name) {
        return Err(QmpError::generic(format!("Block device {name} is in use")));
    }
    graph.remove(name);
    Ok(QObject::empty())
}

fn check_name(graph: &Graph, name: &str, cx: &Context<'_>) -> Result<(), QmpError> {
    if !is_well_formed(name) {
        return Err(cx.release().invalid_node_name(name));
    }
    if graph.node(name).is_some() {
        return Err(cx.release().duplicate_node(name));
    }
    if name.len() > NODE_NAME_MAX {
        return Err(QmpError::generic("Node name too long"));
    }
    Ok(())
}

fn file(filename: &str, cx: &mut Context<'_>) -> Result<Driver, QmpError> {
    if !cx.host().exists(Utf8Path::new(filename)) {
        return Err(QmpError::generic(format!("Could not open '{filename}': No such file or directory")));
    }
    Ok(Driver::File { filename: filename.into() })
}

/// The protocol node of a format node to be; QEMU looks for it before it looks at the new node's name.
fn format_child(
    graph: &Graph,
    name: &str,
    arguments: Arguments<'_>,
    cx: &Context<'_>,
) -> Result<String, QmpError> {
    let file = arguments.optional_text("file").ok_or_else(|| not_simulated("a child given in place"))?;
    let child = graph.lookup(file, cx.release())?;
    check_name(graph, name, cx)?;
    Ok(child.name.clone())
}

fn qcow2(
    graph: &Graph,
    file: String,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<Driver, QmpError> {
    let release = cx.release();
    let image = graph.node(&file).and_then(|node| graph.image(node, cx.host()));
    let image = image
        .and_then(|image| image.as_qcow2())
        .ok_or_else(|| QmpError::generic("Image is not in qcow2 format"))?;
    let backing = match arguments.0.get("backing") {
        None if image.backing.is_some() => {
            return Err(not_simulated("a backing file that only the header names"));
        }
        None | Some(Value::Null) => None,
        Some(Value::String(node)) if node.is_empty() => None,
        Some(Value::String(node)) => {
            let found = graph.lookup(node, release);
            found
                .map_err(|error| QmpError::generic(format!("Could not open backing file: {}", error.desc)))?;
            Some(node.clone())
        }
        Some(_) => return Err(not_simulated("a child given in place")),
    };
    Ok(Driver::Qcow2 { file, backing })
}
