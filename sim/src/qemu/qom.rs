//! QEMU's tree of objects, as far as the devices that have an id are in it: `qom-list`, `qom-get`, `qom-set`.
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
    about::About,
    arguments::Arguments,
    block::{Device, Graph},
    not_simulated,
    qdev::{self, Devices, PERIPHERAL},
};
use crate::{
    Release,
    qobject::{QObject, qdict},
};

mod property_table;

use property_table::PropertyTable;

/// What is inside of a `virtio-blk-pci`.
const BACKEND: &str = "/virtio-backend";

/// What the root of all objects may hold, and what is asked of the empty path.
const ROOTS: [&str; 6] = ["", "audiodevs", "backend", "chardevs", "machine", "objects"];

/// The tree.
pub(crate) struct Qom<'a> {
    /// The machine's devices beside its disks.
    pub(crate) devices: &'a Devices,
    /// The disks.
    pub(crate) graph: &'a Graph,
    /// What the machine is.
    pub(crate) about: &'a About,
}

/// An object of the tree.
enum Object<'a> {
    /// The root of what the machine consists of.
    Machine,
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
    /// Carries out `qom-list`, `qom-get` or `qom-set`.
    ///
    /// # Errors
    /// As those below.
    pub(crate) fn command(
        &self,
        command: &str,
        arguments: Arguments<'_>,
        release: Release,
    ) -> Result<QObject, QmpError> {
        match command {
            "qom-list" => self.list(arguments),
            "qom-get" => self.get(arguments, release),
            _ => Err(self.refuse_to_set(arguments, release)),
        }
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
            Object::Machine | Object::Device { .. } | Object::Backend { .. } => {
                return Err(not_simulated("`qom-list` of a device or the machine"));
            }
        }
        Ok(QObject::List(properties))
    }

    /// `qom-get`: `type` of any, and the node that a disk has for its `drive`.
    ///
    /// # Errors
    /// QEMU's, where there is no such object; "not simulated" for other properties.
    fn get(&self, arguments: Arguments<'_>, release: Release) -> Result<QObject, QmpError> {
        let object = self.find(arguments.text("path"))?;
        match (object, arguments.text("property")) {
            (object, "type") => Ok(self.type_of(&object, release).into()),
            (Object::Device { id, .. } | Object::Backend { id }, "drive") => self.drive(id),
            (_, other) => Err(not_simulated(&format!("property `{other}` of a device"))),
        }
    }

    fn type_of(&self, object: &Object<'_>, release: Release) -> String {
        match object {
            Object::Machine => self.about.machine_type(release),
            Object::Peripheral | Object::Anonymous => "container".into(),
            Object::Device { kind, .. } => (*kind).into(),
            Object::Backend { .. } => "virtio-blk-device".into(),
        }
    }

    /// `qom-set` sets nothing: `type` cannot be, and no other property is simulated.
    fn refuse_to_set(&self, arguments: Arguments<'_>, release: Release) -> QmpError {
        let property = arguments.text("property");
        match self.find(arguments.text("path")) {
            Err(refused) => refused,
            Ok(object) if property == "type" => {
                release.property_not_writable(&self.type_of(&object, release), property)
            }
            Ok(_) => not_simulated("`qom-set` of such a property"),
        }
    }

    /// The drive of a disk, or its top node.
    fn drive(&self, id: &str) -> Result<QObject, QmpError> {
        let disk = self.graph.devices().iter().find(|device| device.id == id);
        let disk = disk.filter(|disk| disk.model.tray_open().is_none());
        let named = |disk: &Device| if disk.drive.is_empty() { &disk.node } else { &disk.drive }.clone();
        disk.map(|disk| named(disk).into()).ok_or_else(|| not_simulated("property `drive` of a drive"))
    }

    /// The object of a path. The last part of one will do if it is the only one of that name, as ids are.
    fn find<'a>(&'a self, path: &'a str) -> Result<Object<'a>, QmpError> {
        let path = path.trim_end_matches('/');
        match path {
            "/machine" => return Ok(Object::Machine),
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
            None if below.is_some() || leads_nowhere(path) => Err(qdev::not_found(path)),
            _ => Err(not_simulated("an object of such a path")),
        }
    }

    fn devices(&self) -> Result<Vec<(&str, &'static str)>, QmpError> {
        self.devices.with_types(self.graph).ok_or_else(|| not_simulated("devices that have no id"))
    }
}

/// Whether there is nothing at all where an absolute path begins.
fn leads_nowhere(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|path| path.split('/').next());
    first.is_some_and(|first| !ROOTS.contains(&first))
}

/// QAPI's `ObjectPropertyInfo`.
fn property(name: &str, kind: String) -> QObject {
    qdict! { "name": name.to_owned(), "type": kind }.into()
}
