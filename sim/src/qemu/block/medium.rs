//! Trays, and the media in them: `eject`, `blockdev-open-tray`, `blockdev-close-tray`, `blockdev-insert-medium` and
//! `blockdev-remove-medium`.
//!
//! ```text
//! closed <-(open / close)-> open, empty <-(insert / remove)-> open, with medium
//! eject: open if closed, then remove
//! ```
//! It says `DEVICE_TRAY_MOVED` when a tray moves. The guest never locks a tray and never opens one. Not here: reading
//! a medium, and `blockdev-change-medium`, which opens nodes that have no name.
//!
//! Source: the four releases, asked; they do not differ.

use super::{Graph, Model};
use crate::{
    qemu::{Context, QmpError, arguments::Arguments, qdev},
    qobject::{QObject, qdict},
};

/// Carries out one of the commands; nothing if it is none of them.
pub(crate) fn command(
    name: &str,
    graph: &mut Graph,
    devices: &qdev::Devices,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Option<Result<(), QmpError>> {
    let command = match name {
        "eject" => eject,
        "blockdev-open-tray" => open_tray,
        "blockdev-close-tray" => close_tray,
        "blockdev-insert-medium" => insert,
        "blockdev-remove-medium" => remove,
        _ => return None,
    };
    let drive = find(graph, devices, arguments);
    Some(drive.and_then(|drive| command(graph, drive, arguments, cx)))
}

/// What a command addresses: a device that holds a disk or a medium.
#[derive(Clone, Copy)]
pub(super) struct Drive<'a> {
    /// As the client named it.
    named: &'a str,
    /// Its place among the devices of the graph.
    at: usize,
}

impl<'a> Drive<'a> {
    /// As the client named it.
    pub(super) fn named(self) -> &'a str {
        self.named
    }

    /// As queries name it.
    pub(super) fn path(self, graph: &Graph) -> String {
        graph.devices[self.at].qdev()
    }

    /// Whether the tray is open.
    ///
    /// # Errors
    /// That there is none.
    fn tray_open(self, graph: &Graph) -> Result<bool, QmpError> {
        graph.devices[self.at]
            .model
            .tray_open()
            .ok_or_else(|| QmpError::generic(format!("Device '{}' is not removable", self.named)))
    }

    /// Moves the tray, with `DEVICE_TRAY_MOVED`; says nothing if it is there already.
    fn move_tray(self, open: bool, graph: &mut Graph, cx: &mut Context<'_>) -> Result<(), QmpError> {
        if self.tray_open(graph)? == open {
            return Ok(());
        }
        let device = &mut graph.devices[self.at];
        device.model = Model::Cd { tray_open: open };
        let data = qdict! { "device": device.drive.clone(), "tray-open": open, "id": device.id.clone() };
        cx.event("DEVICE_TRAY_MOVED", Some(data));
        Ok(())
    }
}

/// Looks a device up by its id or path, or by the name of its drive: `device`, which only the command line gives.
pub(super) fn find<'a>(
    graph: &Graph,
    devices: &qdev::Devices,
    arguments: Arguments<'a>,
) -> Result<Drive<'a>, QmpError> {
    let named = match (arguments.optional_text("device"), arguments.optional_text("id")) {
        (None, Some(id)) => id,
        (Some(device), None) => {
            let known = graph.devices.iter().position(|known| !device.is_empty() && known.drive == device);
            return known.map(|at| Drive { named: device, at }).ok_or_else(|| qdev::not_found(device));
        }
        _ => return Err(QmpError::generic("Need exactly one of 'device' and 'id'")),
    };
    let id = named.strip_prefix(qdev::PERIPHERAL).unwrap_or(named);
    let (id, backend) = id.strip_suffix("/virtio-backend").map_or((id, false), |id| (id, true));
    let found = graph.devices.iter().enumerate().find(|(_, device)| device.id == id);
    match found.map(|(at, device)| (at, device.model)) {
        // The disk is the inner device's, not that of its transport.
        Some((at, Model::VirtioBlk { .. })) if backend => Ok(Drive { named, at }),
        Some((at, Model::Cd { .. } | Model::ScsiHd)) if !backend => Ok(Drive { named, at }),
        None if !devices.has(id, graph) => Err(qdev::not_found(named)),
        _ => Err(QmpError::generic("Device does not have a block device backend")),
    }
}

fn eject(
    graph: &mut Graph,
    drive: Drive<'_>,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    drive.move_tray(true, graph, cx)?;
    remove(graph, drive, arguments, cx)
}

fn open_tray(
    graph: &mut Graph,
    drive: Drive<'_>,
    _arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    drive.move_tray(true, graph, cx)
}

fn close_tray(
    graph: &mut Graph,
    drive: Drive<'_>,
    _arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    drive.move_tray(false, graph, cx)
}

fn remove(
    graph: &mut Graph,
    drive: Drive<'_>,
    _arguments: Arguments<'_>,
    _cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    if !drive.tray_open(graph)? {
        return Err(QmpError::generic(format!("Tray of device '{}' is not open", drive.named)));
    }
    set_medium(graph, drive, "");
    Ok(())
}

fn insert(
    graph: &mut Graph,
    drive: Drive<'_>,
    arguments: Arguments<'_>,
    _cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    let node = arguments.text("node-name");
    if graph.node(node).is_none() {
        return Err(QmpError::generic(format!("Node '{node}' not found")));
    }
    if graph.device_on(node).is_some() {
        return Err(QmpError::generic(format!("Node '{node}' is already in use")));
    }
    match drive.tray_open(graph) {
        Err(_) => return Err(QmpError::generic("Device is not removable")),
        Ok(false) => return Err(QmpError::generic("Tray of the device is not open")),
        Ok(true) => {}
    }
    if !graph.devices[drive.at].node.is_empty() {
        return Err(QmpError::generic("There already is a medium in the device"));
    }
    set_medium(graph, drive, node);
    Ok(())
}

fn set_medium(graph: &mut Graph, drive: Drive<'_>, node: &str) {
    graph.devices[drive.at].node = node.to_owned();
}

/// The reply of all of these commands.
pub(crate) fn reply(outcome: Result<(), QmpError>) -> Result<QObject, QmpError> {
    outcome.map(|()| QObject::empty())
}
