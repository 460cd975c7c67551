//! Exports: nodes that QEMU offers to others, and its NBD server.
//!
//! ```text
//! (none) -(block-export-add, nbd-server-add)-> exported -(block-export-del, nbd-server-remove, nbd-server-stop)-> (none)
//! ```
//! On the way out it says `BLOCK_EXPORT_DELETED`. Nobody ever connects: there are no NBD bytes here, so an export is
//! never in use, and goes when it is asked to. Source of the order of checks: probes of the four releases.
//!
//! Not here: FUSE, and properties that only a connected client could see.

use std::time::Duration;

use super::{
    Graph,
    permissions::{Permissions, Use},
};
use crate::{
    qemu::{Context, QmpError, Timer, arguments::Arguments, job::is_well_formed, not_simulated},
    qobject::{QObject, qdict},
};

/// The longest name of an NBD export, in bytes.
const NAME_MAX: usize = 4096;

/// A node that is offered to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    id: String,
    node: String,
    kind: Kind,
    writable: bool,
    /// Bitmaps of the node that are shown with it.
    bitmaps: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Nbd { name: String },
    VhostUser,
}

/// All exports of a QEMU, and its NBD server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exports {
    /// Oldest first.
    exports: Vec<Export>,
    server: bool,
    /// The ids of those that are gone without a word yet.
    unreported: Vec<String>,
}

impl Export {
    /// What it does with its node, and bears others to do.
    pub(crate) fn permissions(&self) -> Use<'_> {
        let writes = if self.writable { Permissions::WRITE } else { Permissions::NONE };
        let bears = match self.kind {
            Kind::Nbd { .. } => Permissions::ALL.without(Permissions::RESIZE),
            Kind::VhostUser => Permissions::ALL,
        };
        Use::root(Permissions::READ.and(writes), bears)
    }

    fn named(&self, wanted: &str) -> bool {
        matches!(&self.kind, Kind::Nbd { name } if name == wanted)
    }
}

impl Exports {
    /// The exports of a node, newest first.
    pub(crate) fn on(&self, node: &str) -> impl Iterator<Item = &Export> {
        self.exports.iter().rev().filter(move |export| export.node == node)
    }

    /// The nodes that are exported, each where its newest export is among the others.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &str> {
        let is_newest =
            |export: &&Export| self.on(&export.node).next().is_some_and(|newest| newest == *export);
        self.exports.iter().filter(is_newest).map(|export| &*export.node)
    }

    /// The nodes that the NBD server exports, by export.
    pub(crate) fn of_nbd(&self) -> impl Iterator<Item = &str> {
        let of_nbd = self.exports.iter().filter(|export| matches!(export.kind, Kind::Nbd { .. }));
        of_nbd.map(|export| &*export.node)
    }

    /// The node of the export of that id.
    pub(crate) fn node_of(&self, id: &str) -> Option<&str> {
        self.exports.iter().find(|export| export.id == id).map(|export| &*export.node)
    }

    /// Whether an export shows a bitmap.
    pub(crate) fn shows(&self, node: &str, bitmap: &str) -> bool {
        self.exports
            .iter()
            .any(|export| export.node == node && export.bitmaps.iter().any(|name| name == bitmap))
    }

    /// What is exported stays exported when an overlay is put on top: it is the overlay then.
    pub(crate) fn move_up(&mut self, node: &str, overlay: &str) {
        for export in self.exports.iter_mut().filter(|export| export.node == node) {
            export.node = overlay.into();
        }
    }

    /// Says which exports are gone.
    pub(crate) fn report(&mut self, cx: &mut Context<'_>) {
        self.unreported.drain(..).for_each(|id| deleted(id, cx));
    }

    /// QEMU ends: with it everything that is exported.
    pub(crate) fn close_all(&mut self, cx: &mut Context<'_>) {
        let mut gone = std::mem::take(&mut self.exports);
        if cx.release().newest_export_goes_first() {
            gone.reverse();
        }
        gone.into_iter().for_each(|export| deleted(export.id, cx));
    }

    /// The reply to `query-block-exports`.
    pub(crate) fn query(&self) -> QObject {
        let info = |export: &Export| {
            qdict! {
                "id": export.id.clone(),
                "type": match export.kind { Kind::Nbd { .. } => "nbd", Kind::VhostUser => "vhost-user-blk" },
                "node-name": export.node.clone(),
                "shutting-down": false,
            }
            .into()
        };
        self.exports.iter().rev().map(info).collect()
    }
}

/// Carries out a command on exports.
pub(crate) fn command(
    graph: &mut Graph,
    command: &str,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    match command {
        "nbd-server-start" => start_server(graph, arguments),
        "nbd-server-stop" => stop_server(graph, cx),
        "nbd-server-add" => add_to_server(graph, arguments, cx),
        // Though it says `name`, it means the id.
        "nbd-server-remove" => remove(graph, arguments.text("name"), cx),
        "block-export-add" => add(graph, arguments, cx),
        _ => remove(graph, arguments.text("id"), cx),
    }?;
    Ok(QObject::empty())
}

fn start_server(graph: &mut Graph, arguments: Arguments<'_>) -> Result<(), QmpError> {
    arguments.only(&["addr", "max-connections", "handshake-max-seconds"])?;
    if graph.exports().server {
        return Err(QmpError::generic("NBD server already running"));
    }
    graph.exports_mut().server = true;
    Ok(())
}

/// Ends the server and what it exports: in which order, goes by release.
fn stop_server(graph: &mut Graph, cx: &mut Context<'_>) -> Result<(), QmpError> {
    let exports = graph.exports_mut();
    if !exports.server {
        return Err(server_not_running());
    }
    exports.server = false;
    let is_nbd = |export: &Export| matches!(export.kind, Kind::Nbd { .. });
    let (mut gone, left): (Vec<_>, Vec<_>) = exports.exports.drain(..).partition(is_nbd);
    exports.exports = left;
    if cx.release().newest_export_goes_first() {
        gone.reverse();
    }
    gone.into_iter().for_each(|export| deleted(export.id, cx));
    Ok(())
}

/// The command of old times: an export is called as its node unless it is given a name, and is read-only where the
/// node is.
fn add_to_server(graph: &mut Graph, arguments: Arguments<'_>, cx: &mut Context<'_>) -> Result<(), QmpError> {
    arguments.only(&["device", "name", "description", "writable", "bitmap"])?;
    let node = graph.lookup(arguments.text("device"), cx.release())?;
    let name = arguments.optional_text("name").unwrap_or(arguments.text("device"));
    let export = Export {
        id: name.into(),
        node: node.name.clone(),
        kind: Kind::Nbd { name: name.into() },
        writable: arguments.flag("writable") && !node.read_only,
        bitmaps: arguments.optional_text("bitmap").map(str::to_owned).into_iter().collect(),
    };
    insert(graph, export, false, cx)
}

fn add(graph: &mut Graph, arguments: Arguments<'_>, cx: &mut Context<'_>) -> Result<(), QmpError> {
    let node = arguments.text("node-name");
    let kind = match arguments.text("type") {
        "nbd" => {
            let name = arguments.optional_text("name").unwrap_or(node);
            Kind::Nbd { name: name.into() }
        }
        "vhost-user-blk" => Kind::VhostUser,
        other => return Err(not_simulated(&format!("an export of type `{other}`"))),
    };
    arguments.only(&[
        "type",
        "id",
        "node-name",
        "writable",
        "writethrough",
        "name",
        "description",
        "bitmaps",
        "addr",
        "fixed-iothread",
        "allow-inactive",
    ])?;
    let export = Export {
        id: arguments.text("id").into(),
        node: node.into(),
        kind,
        writable: arguments.flag("writable"),
        bitmaps: arguments.texts("bitmaps").into_iter().map(str::to_owned).collect(),
    };
    insert(graph, export, arguments.flag("allow-inactive"), cx)
}

/// Checks in QEMU's order: id, node, users, then what the kind of export asks for.
fn insert(
    graph: &mut Graph,
    export: Export,
    allow_inactive: bool,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    let release = cx.release();
    if !is_well_formed(&export.id) {
        return Err(QmpError::generic("Invalid block export id"));
    }
    let exports = &graph.exports().exports;
    if exports.iter().any(|known| known.id == export.id) {
        return Err(QmpError::generic(format!("Block export id '{}' is already in use", export.id)));
    }
    let node = graph.node(&export.node).ok_or_else(|| release.cannot_find_node(&export.node))?;
    if node.read_only && export.writable {
        return Err(QmpError::generic("Cannot export read-only node as writable"));
    }
    if !allow_inactive {
        // What is exported is used.
        graph.activate(&export.node);
    }
    let exports = graph.exports();
    let asked = export.permissions();
    graph.check_use(&export.node, Use { bears: Permissions::ALL, ..asked }, cx)?;
    if let Kind::Nbd { name } = &export.kind {
        if !exports.server {
            return Err(server_not_running());
        }
        if name.len() > NAME_MAX {
            return Err(QmpError::generic(format!("export name '{name}' too long")));
        }
        if exports.exports.iter().any(|known| known.named(name)) {
            return Err(QmpError::generic(format!("NBD server already has export named '{name}'")));
        }
    }
    graph.check_use(&export.node, asked, cx)?;
    for bitmap in &export.bitmaps {
        graph.check_bitmap_to_export(&export.node, bitmap, export.writable)?;
    }
    graph.exports_mut().exports.push(export);
    Ok(())
}

fn remove(graph: &mut Graph, id: &str, cx: &mut Context<'_>) -> Result<(), QmpError> {
    let exports = &mut graph.exports_mut().exports;
    let at = exports.iter().position(|export| export.id == id);
    let at = at.ok_or_else(|| QmpError::generic(format!("Export '{id}' is not found")))?;
    let export = exports.remove(at);
    if cx.release().exports_go_before_the_reply() {
        deleted(export.id, cx);
    } else {
        graph.exports_mut().unreported.push(export.id);
        cx.schedule(Duration::ZERO, Timer::Exports);
    }
    Ok(())
}

fn deleted(id: String, cx: &mut Context<'_>) {
    cx.event("BLOCK_EXPORT_DELETED", Some(qdict! { "id": id }));
}

fn server_not_running() -> QmpError {
    QmpError::generic("NBD server not running")
}
