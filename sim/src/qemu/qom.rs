//! QEMU's tree of objects, as far as the devices that have an id are in it: `qom-list`, `qom-get`.
//!
//! ```text
//! /machine -- peripheral -- vda-device -- virtio-backend       what it is, its `drive`
//!         \-- peripheral-anon                                  devices without id: there are none
//! ```
//! Answers about objects that every machine has are stored: [`crate::introspection`]. Nothing else of the tree is
//! simulated, nor is anything ever set.
//!
//! Source: the four releases, asked: all say the same.

use super::{
    QmpError,
    arguments::Arguments,
    block::Graph,
    not_simulated,
    qdev::{self, Devices, PERIPHERAL},
};
use crate::qobject::{QObject, qdict};

mod property_table;

use property_table::PropertyTable;

/// What is inside of a `virtio-blk-pci`.
const BACKEND: &str = "/virtio-backend";

/// The tree.
pub(crate) struct Qom<'a> {
    /// The machine's devices beside its disks.
    pub(crate) devices: &'a Devices,
    /// The disks.
    pub(crate) graph: &'a Graph,
}

/// An object of the tree.
enum Object<'a> {
    /// Holds the devices with an id.
    Peripheral,
    /// Holds the devices without.
    Anonymous,
    /// A device, and of what type it is.
    Device { id: &'a str, kind: &'static str },
    /// The inner device of a disk.
    Backend { id: &'a str },
}

impl Qom<'_> {
    /// Answers `qom-list` or `qom-get`.
    ///
    /// # Errors
    /// As those below.
    pub(crate) fn query(&self, command: &str, arguments: Arguments<'_>) -> Result<QObject, QmpError> {
        if command == "qom-list" { self.list(arguments) } else { self.get(arguments) }
    }

    /// `qom-list`: the properties of an object, `type` first.
    ///
    /// # Errors
    /// QEMU's, where there is none; "not simulated" for what is no container.
    fn list(&self, arguments: Arguments<'_>) -> Result<QObject, QmpError> {
        let mut properties = vec![property("type", "string".into())];
        match self.find(arguments.text("path"))? {
            Object::Peripheral => {
                let devices = self.devices()?;
                let table = PropertyTable::of(devices.iter().map(|(id, _)| *id));
                for name in table.last_first() {
                    let kind = devices.iter().find(|(id, _)| *id == name).map_or("", |(_, kind)| kind);
                    properties.push(property(name, format!("child<{kind}>")));
                }
            }
            Object::Anonymous => {}
            Object::Device { .. } | Object::Backend { .. } => {
                return Err(not_simulated("`qom-list` of a device"));
            }
        }
        Ok(QObject::List(properties))
    }

    /// `qom-get`: `type` of any, and the node that a disk has for its `drive`.
    ///
    /// # Errors
    /// QEMU's, where there is no such object; "not simulated" for other properties.
    fn get(&self, arguments: Arguments<'_>) -> Result<QObject, QmpError> {
        let object = self.find(arguments.text("path"))?;
        match (object, arguments.text("property")) {
            (Object::Peripheral | Object::Anonymous, "type") => Ok("container".into()),
            (Object::Device { kind, .. }, "type") => Ok(kind.into()),
            (Object::Backend { .. }, "type") => Ok("virtio-blk-device".into()),
            (Object::Device { id, .. } | Object::Backend { id }, "drive") => self.drive(id),
            (_, other) => Err(not_simulated(&format!("property `{other}` of a device"))),
        }
    }

    /// The top node of a disk.
    fn drive(&self, id: &str) -> Result<QObject, QmpError> {
        let disk = self.graph.devices().iter().find(|device| device.id == id);
        let disk = disk.filter(|disk| disk.model.tray_open().is_none());
        disk.map(|disk| disk.node.clone().into()).ok_or_else(|| not_simulated("property `drive` of a drive"))
    }

    /// The object of a path. The last part of one will do if it is the only one of that name, as ids are.
    fn find<'a>(&'a self, path: &'a str) -> Result<Object<'a>, QmpError> {
        let path = path.trim_end_matches('/');
        match path {
            "/machine/peripheral" | "peripheral" => return Ok(Object::Peripheral),
            "/machine/peripheral-anon" | "peripheral-anon" => return Ok(Object::Anonymous),
            _ => {}
        }
        let below = path.strip_prefix(PERIPHERAL);
        let named = below.unwrap_or(path);
        let (id, inner) = named.strip_suffix(BACKEND).map_or((named, false), |id| (id, true));
        match self.devices()?.iter().find(|(known, _)| *known == id) {
            Some((id, "virtio-blk-pci")) if inner => Ok(Object::Backend { id }),
            Some((id, kind)) if !inner => Ok(Object::Device { id, kind }),
            None if below.is_some() => Err(qdev::not_found(path)),
            _ => Err(not_simulated("an object of such a path")),
        }
    }

    fn devices(&self) -> Result<Vec<(&str, &'static str)>, QmpError> {
        self.devices.with_types(self.graph).ok_or_else(|| not_simulated("devices that have no id"))
    }
}

/// QAPI's `ObjectPropertyInfo`.
fn property(name: &str, kind: String) -> QObject {
    qdict! { "name": name.to_owned(), "type": kind }.into()
}
