//! Opening a node with the options of QAPI's `BlockdevOptions`: its children first, named or given in place.
//!
//! ```text
//! {"driver": "qcow2", "node-name": "t0", "file": {"driver": "file", "filename": "/t0"}}
//!
//! t0 (qcow2) -file-> #block011 (file)
//! ```
//! A child given in place needs no name: QEMU makes one up. It belongs to its parent and goes with it. A backing file
//! that only the image's header names is opened just so, for reading. What was opened on the way to an error is closed
//! again; a name that was made up is used up.
//!
//! The order of the checks is QEMU's. Source: recordings, probes of the four releases.

use camino::Utf8Path;
use serde_json::{Map, Value, json};

use super::{
    Caching, DetectZeroes, Driver, Graph, Node,
    blkdebug::Blkdebug,
    filename::combined,
    filter::{Filter, Null},
};
use crate::{
    host::{Backing, Host},
    qemu::{Context, QmpError, arguments::Arguments, job::is_well_formed, not_simulated},
};

/// The longest node name.
const NODE_NAME_MAX: usize = 31;

/// Options that change nothing of what is simulated.
const WITHOUT_EFFECT: [&str; 6] = ["driver", "node-name", "read-only", "discard", "auto-read-only", "active"];

/// Options that are only shown.
const SHOWN: [&str; 2] = ["cache", "detect-zeroes"];

/// What a node takes from the one that opens it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inherited {
    /// A client asked for it by itself.
    pub(crate) owned_by_monitor: bool,
    /// It is for reading only, unless its options say otherwise.
    pub(crate) read_only: bool,
    /// How it treats what passes through it, but for zeroes, unless its options say otherwise.
    pub(crate) caching: Caching,
    /// A backing file that the header names is opened too.
    pub(crate) with_backing: bool,
}

/// Opens a node and all below it; returns its name.
///
/// # Errors
/// QEMU's text; nothing stays open then.
pub(crate) fn open(
    graph: &mut Graph,
    options: Arguments<'_>,
    inherited: Inherited,
    cx: &mut Context<'_>,
) -> Result<String, QmpError> {
    let before = graph.nodes.len();
    let opened = open_with_children(graph, options, inherited, cx);
    if opened.is_err() {
        for node in graph.nodes.split_off(before) {
            graph.inactive.remove(&node.name);
            graph.forget_bitmaps(&node.name);
        }
    }
    opened
}

fn open_with_children(
    graph: &mut Graph,
    options: Arguments<'_>,
    inherited: Inherited,
    cx: &mut Context<'_>,
) -> Result<String, QmpError> {
    let read_only = options.flag_or("read-only", inherited.read_only);
    let caching = caching(options, inherited.caching)?;
    let known = |own: &[&str]| options.only(&[&WITHOUT_EFFECT[..], &SHOWN, own].concat());
    let (name, driver) = match options.text("driver") {
        "file" | "host_device" => {
            known(&["filename", "locking"])?;
            if options.text("filename").is_empty() {
                return Err(QmpError::generic("The 'file' block driver requires a file name"));
            }
            let name = take_name(graph, options.optional_text("node-name"), cx)?;
            (name, file(options, read_only, cx)?)
        }
        "blkdebug" => {
            known(&["image", "inject-error", "set-state"])?;
            let rules = Blkdebug::new(options)?;
            let name = take_name(graph, options.optional_text("node-name"), cx)?;
            let image = child(graph, options, "image", (read_only, caching), cx)?;
            (name, Driver::Blkdebug { image, rules })
        }
        "raw" => {
            known(&["file"])?;
            let file = child(graph, options, "file", (read_only, caching), cx)?;
            let name = take_name(graph, options.optional_text("node-name"), cx)?;
            (name, Driver::Raw { file })
        }
        "qcow2" => {
            // How much memory it takes for its tables changes nothing that can be seen.
            known(&["file", "backing", "cache-size"])?;
            let file = child(graph, options, "file", (read_only, caching), cx)?;
            let name = take_name(graph, options.optional_text("node-name"), cx)?;
            (name, Driver::Qcow2 { file, backing: None })
        }
        "throttle" | "copy-on-read" | "preallocate" => {
            known(&["file", "throttle-group"])?;
            let file = child(graph, options, "file", (read_only, caching), cx)?;
            let name = take_name(graph, options.optional_text("node-name"), cx)?;
            let filter = Filter::of(graph, options)?;
            let filter = filter.ok_or_else(|| not_simulated("a filter that is none"))?;
            (name, Driver::Filter { filter, file })
        }
        "null-co" | "null-aio" => {
            known(&["size", "latency-ns", "read-zeroes"])?;
            if options.integer("size") < 0 {
                // QEMU asserts that what its schema has let through can be read as a size.
                cx.abort();
            }
            (take_name(graph, options.optional_text("node-name"), cx)?, Null::of(options))
        }
        other => return Err(not_simulated(&format!("block driver `{other}`"))),
    };
    let owned_by_monitor = inherited.owned_by_monitor;
    let node = Node { name: name.clone(), driver, read_only, owned_by_monitor, caching };
    let is_format = !matches!(node.driver, Driver::Qcow2 { .. }) || is_qcow2(graph, &node, cx);
    let stated = stated_backing(graph, &node, options, inherited, cx);
    insert(graph, node, options.flag_or("active", true), cx)?;
    if !is_format {
        return Err(QmpError::generic("Image is not in qcow2 format"));
    }
    graph.load_bitmaps(&name, cx.host());
    if let Some(stated) = stated? {
        let backing = backing(graph, stated, caching, cx)
            .map_err(|error| QmpError::generic(format!("Could not open backing file: {}", error.desc)))?;
        graph.set_backing(&name, Some(&backing));
        graph.check_active_below(&backing, "backing", &name, cx.release())?;
        graph.check_children(&name, cx)?;
    }
    Ok(name)
}

/// Puts in a node, and looks whether it gets along with the other users of what it stands on.
fn insert(graph: &mut Graph, node: Node, active: bool, cx: &mut Context<'_>) -> Result<(), QmpError> {
    let name = node.name.clone();
    let file = node.driver.file().map(|file| (file.to_owned(), node.driver.file_role()));
    graph.insert(node);
    if !active {
        graph.open_inactive(&name);
    }
    if let Some((file, role)) = file {
        graph.check_active_below(&file, role, &name, cx.release())?;
    }
    graph.check_children(&name, cx)
}

/// How a node is to treat what passes through it.
fn caching(options: Arguments<'_>, inherited: Caching) -> Result<Caching, QmpError> {
    let nothing = Map::new();
    let cache = Arguments(options.get("cache").and_then(Value::as_object).unwrap_or(&nothing));
    let detect_zeroes = match options.optional_text("detect-zeroes") {
        Some("on") => DetectZeroes::On,
        Some("unmap") if options.optional_text("discard") != Some("unmap") => {
            let text =
                "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap";
            return Err(QmpError::generic(text));
        }
        Some("unmap") => DetectZeroes::Unmap,
        _ => DetectZeroes::Off,
    };
    Ok(Caching {
        direct: cache.flag_or("direct", inherited.direct),
        no_flush: cache.flag_or("no-flush", inherited.no_flush),
        detect_zeroes,
        whole_clusters: false,
    })
}

/// The name that a client states, or one that QEMU makes up.
pub(super) fn take_name(
    graph: &mut Graph,
    stated: Option<&str>,
    cx: &Context<'_>,
) -> Result<String, QmpError> {
    let Some(name) = stated else { return Ok(graph.make_up_name()) };
    if !is_well_formed(name) {
        return Err(cx.release().invalid_node_name(name));
    }
    if graph.node(name).is_some() {
        return Err(cx.release().duplicate_node(name));
    }
    if name.len() > NODE_NAME_MAX {
        return Err(QmpError::generic("Node name too long"));
    }
    Ok(name.into())
}

fn file(options: Arguments<'_>, read_only: bool, cx: &mut Context<'_>) -> Result<Driver, QmpError> {
    let filename = options.text("filename");
    if cx.host().is_folder(Utf8Path::new(filename)) {
        // A folder can be opened, for reading only.
        return Err(match read_only {
            true => cx.release().no_regular_file(filename),
            false => QmpError::generic(format!("Could not open '{filename}': Is a directory")),
        });
    }
    if !cx.host().exists(Utf8Path::new(filename)) {
        return Err(QmpError::generic(format!("Could not open '{filename}': No such file or directory")));
    }
    if Host::is_device(Utf8Path::new(filename)) != (options.text("driver") == "host_device") {
        return Err(not_simulated("a device as a file, or a file as a device"));
    }
    let locking = options.optional_text("locking") != Some("off");
    Ok(Driver::File { filename: filename.into(), locking, length: None })
}

/// A child by its name, or opened in place.
fn child(
    graph: &mut Graph,
    options: Arguments<'_>,
    member: &str,
    (read_only, caching): (bool, Caching),
    cx: &mut Context<'_>,
) -> Result<String, QmpError> {
    match options.get(member) {
        Some(Value::String(name)) => graph.lookup(name, cx.release()).map(|node| node.name.clone()),
        Some(Value::Object(in_place)) => {
            let inherited = Inherited { owned_by_monitor: false, read_only, caching, with_backing: true };
            open_with_children(graph, Arguments(in_place), inherited, cx)
        }
        _ => Err(not_simulated(&format!("a node without `{member}`"))),
    }
}

/// Whether a node's file holds a qcow2 image: what another format node shows of its own disk, holds none.
fn is_qcow2(graph: &Graph, node: &Node, cx: &mut Context<'_>) -> bool {
    !graph.stands_on_qcow2(node)
        && graph.image(node, cx.host()).is_some_and(|image| image.as_qcow2().is_some())
}

/// Where a backing node comes from.
enum Stated {
    Name(String),
    InPlace(Map<String, Value>),
}

/// What the options say of the backing node, else what the header says; none if there is none.
fn stated_backing(
    graph: &Graph,
    node: &Node,
    options: Arguments<'_>,
    inherited: Inherited,
    cx: &mut Context<'_>,
) -> Result<Option<Stated>, QmpError> {
    if !matches!(node.driver, Driver::Qcow2 { .. }) {
        return Ok(None);
    }
    match options.get("backing") {
        Some(Value::String(name)) if name.is_empty() => Ok(None),
        Some(Value::String(name)) => Ok(Some(Stated::Name(name.clone()))),
        Some(Value::Object(in_place)) => Ok(Some(Stated::InPlace(in_place.clone()))),
        None if inherited.with_backing => {
            let image = graph.image(node, cx.host()).and_then(|image| image.as_qcow2());
            let Some(header) = image.and_then(|image| image.backing.clone()) else { return Ok(None) };
            header_options(graph, node, &header).map(|options| Some(Stated::InPlace(options)))
        }
        _ => Ok(None),
    }
}

/// The options that a header stands for. An image whose format the header does not tell would be probed.
fn header_options(graph: &Graph, node: &Node, header: &Backing) -> Result<Map<String, Value>, QmpError> {
    let format = header.format.as_ref().ok_or_else(|| not_simulated("a backing file to be probed"))?;
    if header.file.starts_with("json:") {
        return Err(not_simulated("a backing file named by a description"));
    }
    let filename = combined(graph, node, &header.file);
    let options = json!({ "driver": format, "file": { "driver": "file", "filename": filename } });
    Ok(options.as_object().cloned().unwrap_or_default())
}

/// Opens the backing file that a node's header names, if it names one and the node has none yet.
///
/// # Errors
/// QEMU's text.
pub(crate) fn open_stated_backing(
    graph: &mut Graph,
    name: &str,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    let Some(node) = graph.node(name).filter(|node| node.driver.backing().is_none()).cloned() else {
        return Ok(());
    };
    let inherited =
        Inherited { owned_by_monitor: false, read_only: true, caching: node.caching, with_backing: true };
    if let Some(stated) = stated_backing(graph, &node, Arguments(&Map::new()), inherited, cx)? {
        let backing = backing(graph, stated, node.caching, cx)?;
        graph.set_backing(name, Some(&backing));
    }
    Ok(())
}

fn backing(
    graph: &mut Graph,
    stated: Stated,
    caching: Caching,
    cx: &mut Context<'_>,
) -> Result<String, QmpError> {
    match stated {
        Stated::Name(name) => graph.lookup(&name, cx.release()).map(|node| node.name.clone()),
        Stated::InPlace(options) => {
            let inherited =
                Inherited { owned_by_monitor: false, read_only: true, caching, with_backing: true };
            open_with_children(graph, Arguments(&options), inherited, cx)
        }
    }
}
