//! `blockdev-snapshot` and `blockdev-snapshot-sync`: put an overlay on top of a node.
//!
//! The first takes an overlay that was added beforehand. The second makes the overlay's file, opens it and takes that;
//! the overlay belongs to its device then and not to the client. A file that was made stays, whatever fails later.
//!
//! QEMU does not compare sizes or formats, and says no event. Source of the order of checks: recordings and probes
//! of all four releases.

use serde_json::json;

use super::{
    Driver, Graph, Node,
    create::make_file,
    filename::filename,
    open::{Inherited, open},
};
use crate::{
    host::{Backing, Image, Qcow2},
    qemu::{Context, QmpError, arguments::Arguments, job::Jobs, not_simulated},
    qobject::QObject,
};

/// Names that QEMU makes up while it writes the header of an overlay.
const NAMES_USED_UP: u64 = 3;

/// Formats of QEMU's that are not simulated.
const OTHER_FORMATS: [&str; 12] =
    ["bochs", "cloop", "dmg", "luks", "parallels", "qcow", "qed", "vdi", "vhdx", "vmdk", "vpc", "vvfat"];

/// `blockdev-snapshot`.
pub(crate) fn blockdev_snapshot(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let (node, overlay) = (arguments.text("node"), arguments.text("overlay"));
    let below = graph.lookup(node, cx.release())?;
    check_below(graph, jobs, below)?;
    graph.lookup(overlay, cx.release())?;
    put_on_top(graph, node, overlay, cx)
}

/// `blockdev-snapshot-sync`.
pub(crate) fn blockdev_snapshot_sync(
    graph: &mut Graph,
    jobs: &Jobs,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let (device, node) = (arguments.text("device"), arguments.text("node-name"));
    let below = graph.node(node).ok_or_else(|| cx.release().cannot_find_either(device, node))?;
    check_below(graph, jobs, below)?;
    let overlay =
        arguments.optional_text("snapshot-node-name").ok_or_else(|| cx.release().overlay_name_missing())?;
    if graph.node(overlay).is_some() {
        return Err(cx.release().overlay_name_in_use());
    }
    let (file, format) =
        (arguments.text("snapshot-file"), arguments.optional_text("format").unwrap_or("qcow2"));
    if OTHER_FORMATS.contains(&format) {
        return Err(not_simulated(&format!("an overlay of format `{format}`")));
    }
    if arguments.optional_text("mode") != Some("existing") {
        make_image(graph, below, file, format, cx)?;
        graph.skip_names(NAMES_USED_UP);
    }
    if !matches!(format, "qcow2" | "raw") {
        return Err(QmpError::generic(format!("Unknown driver '{format}'")));
    }
    let options = json!({
        "driver": format,
        "node-name": overlay,
        "file": { "driver": "file", "filename": file },
    });
    let Some(options) = options.as_object() else { return Ok(QObject::empty()) };
    let inherited = Inherited { owned_by_monitor: false, read_only: false, with_backing: false };
    open(graph, Arguments(options), inherited, cx)?;
    let put = put_on_top(graph, node, overlay, cx);
    if put.is_err() {
        graph.remove(overlay);
    }
    put
}

/// What can keep a node from getting an overlay.
fn check_below(graph: &Graph, jobs: &Jobs, below: &Node) -> Result<(), QmpError> {
    jobs.check_not_busy(&below.name)?;
    graph.check_not_backing(&below.name)
}

/// Makes the file of an overlay, as big as what it is for.
fn make_image(
    graph: &Graph,
    below: &Node,
    file: &str,
    format: &str,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    let refused = match format {
        "qcow2" if filename(graph, below, cx.host()) == file => {
            "Error: Trying to create an image with the same filename as the backing file".into()
        }
        "qcow2" => {
            let size = graph.size(&below.name, cx.host());
            let backing =
                Backing { file: filename(graph, below, cx.host()), format: Some(below.driver.name().into()) };
            let image = Qcow2 { size, backing: Some(backing), ..Qcow2::default() };
            return make_file(graph, file, Image::Qcow2(image), cx).map_err(QmpError::generic);
        }
        "raw" => "Backing file not supported for file format 'raw'".into(),
        unknown => format!("Unknown file format '{unknown}'"),
    };
    Err(QmpError::generic(refused))
}

/// The checks of the overlay itself, and the switch.
fn put_on_top(
    graph: &mut Graph,
    node: &str,
    overlay: &str,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    if graph.is_used(overlay) {
        return Err(QmpError::generic("The overlay is already in use"));
    }
    match graph.node(overlay).map(|above| &above.driver) {
        Some(Driver::Qcow2 { backing: None, .. }) => {}
        Some(Driver::Qcow2 { .. }) => {
            return Err(QmpError::generic("The overlay already has a backing image"));
        }
        _ => return Err(QmpError::generic("The overlay does not support backing images")),
    }
    if node == overlay {
        return Err(cx.release().backing_cycle(node, overlay));
    }
    let read_only = graph.node(overlay).is_some_and(|above| above.read_only);
    if read_only && graph.is_written(node, cx) {
        return Err(QmpError::generic("Block node is read-only"));
    }
    graph.append(node, overlay);
    Ok(QObject::empty())
}
