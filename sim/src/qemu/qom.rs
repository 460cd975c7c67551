//! QEMU's tree of objects: `qom-list`, `qom-get`, `qom-set`.
//!
//! ```text
//! / -- machine -- peripheral -- vda-device -- virtio-backend
//!  |          |-- peripheral-anon -- device[0]                 devices without id
//!  |          |-- unattached -- device[0]                      the processor, and what the machine is made of
//!  |-- objects -- iothread0
//!  |-- chardevs -- mon0
//! ```
//! What an object is made of, and what each property of it is, was asked of real ones: [`crate::introspection`] holds
//! the answers for one device of each type. Here are the containers, and what differs from device to device:
//! [`property`]. Parts of devices below their inner device are not simulated.
//!
//! Source: the four releases, asked.

use std::borrow::Cow;

use super::{
    QmpError,
    about::About,
    arguments::Arguments,
    block::Graph,
    chardev::Chardevs,
    not_simulated,
    object::Objects,
    pci::PciBus,
    qdev::{self, Devices, PERIPHERAL},
};
use crate::{
    Release, introspection,
    qobject::{QObject, qdict},
};

mod property;
mod property_table;

use property_table::PropertyTable;

/// Where devices without id are.
const ANONYMOUS: &str = "/machine/peripheral-anon";

/// Where what a client or the command line has made is.
const OBJECTS: &str = "/objects";

/// What is inside of a virtio device.
const BACKEND: &str = "/virtio-backend";

/// What is asked of the empty path, and what every release has at the root of all objects.
const ROOTS: [&str; 5] = ["", "backend", "chardevs", "machine", "objects"];

/// The tree.
pub(crate) struct Qom<'a> {
    /// The machine's devices beside its disks.
    pub(crate) devices: &'a mut Devices,
    /// The disks.
    pub(crate) graph: &'a mut Graph,
    /// Which slots the devices are in.
    pub(crate) pci: &'a PciBus,
    /// What clients have made.
    pub(crate) objects: &'a Objects,
    /// The machine's sockets.
    pub(crate) chardevs: &'a Chardevs,
    /// What the machine is.
    pub(crate) about: &'a About,
    /// Which release it is.
    pub(crate) release: Release,
}

/// An object of the tree.
struct Object {
    /// The whole path.
    path: String,
    kind: Kind,
}

/// What an object is.
enum Kind {
    /// Holds objects, each with its name and type, in the order in which they were put in.
    Container(Vec<(String, String)>),
    /// A device, its inner device, or what a client has made.
    Made(Made),
    /// What every machine has.
    Fixed,
}

/// An object like one that a real QEMU was asked about.
struct Made {
    /// The id of the device or object, or its path if it has none.
    id: String,
    /// Its type; that of the outer device.
    kind: &'static str,
    /// Whether it is the inner device.
    inner: bool,
    /// The path of the one that was asked about.
    like: String,
}

impl Qom<'_> {
    /// Carries out `qom-list`, `qom-get` or `qom-set`.
    ///
    /// # Errors
    /// QEMU's; "not simulated" for what was not asked of real ones.
    pub(crate) fn command(&mut self, command: &str, arguments: Arguments<'_>) -> Result<QObject, QmpError> {
        let object = self.find(arguments.text("path"))?;
        match command {
            "qom-list" => self.list(&object),
            "qom-get" => self.get(&object, arguments.text("property")),
            _ => self.set(&object, arguments),
        }
    }

    /// The properties of an object, `type` first.
    fn list(&self, object: &Object) -> Result<QObject, QmpError> {
        let unknown = || not_simulated("`qom-list` of such an object");
        let stored = match &object.kind {
            Kind::Container(held) => return Ok(list_container(held)),
            Kind::Made(made) => {
                let list = introspection::object_says(self.release, &made.like, None);
                return list
                    .ok_or_else(unknown)?
                    .map(|list| QObject::Written(made.with_own_buses(list).into()));
            }
            Kind::Fixed => introspection::object_says(self.release, &object.path, None),
        };
        stored.ok_or_else(unknown)?.map(|list| QObject::Written(self.with_own_type(list)))
    }

    /// The machine's own type in the place of that which was asked.
    fn with_own_type<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let (own, asked) =
            (self.about.machine_type(self.release), format!("pc-q35-{}-machine", self.release));
        if own == asked { text.into() } else { text.replace(&asked, &own).into() }
    }

    /// The object of a path. The last part of one will do if it is the only one of that name, as ids are.
    fn find(&self, asked: &str) -> Result<Object, QmpError> {
        let path = asked.trim_end_matches('/');
        if asked.is_empty() {
            return Err(QmpError::generic("Path '' is ambiguous"));
        }
        let whole = if path.starts_with('/') || path.is_empty() {
            path.to_owned()
        } else {
            match path {
                "machine" | "objects" | "chardevs" => format!("/{path}"),
                "peripheral" | "peripheral-anon" | "unattached" => format!("/machine/{path}"),
                id if self.is_object(id) => format!("{OBJECTS}/{id}"),
                id => format!("{PERIPHERAL}{id}"),
            }
        };
        let kind = match whole.as_str() {
            "/machine/peripheral" => Kind::Container(self.peripheral()),
            ANONYMOUS => Kind::Container(self.anonymous()),
            OBJECTS => Kind::Container(self.made_objects()),
            "/chardevs" => Kind::Container(self.chardevs.objects()),
            "" | "/machine" => Kind::Fixed,
            other => match self.made(other) {
                Some(made) => Kind::Made(made),
                None if introspection::object_says(self.release, other, None).is_some() => Kind::Fixed,
                None if self.is_somewhere(path, other) => {
                    return Err(not_simulated("an object of such a path"));
                }
                None => return Err(qdev::not_found(asked)),
            },
        };
        let path = if whole.is_empty() { "/".to_owned() } else { whole };
        Ok(Object { path, kind })
    }

    fn is_object(&self, id: &str) -> bool {
        self.objects.list().any(|(known, _)| known == id)
    }

    /// Whether there may be an object of a path that is not simulated.
    fn is_somewhere(&self, asked: &str, whole: &str) -> bool {
        let lists = |path: &str, name: &str| {
            introspection::object_says(self.release, path, None)
                .is_some_and(|said| introspection::lists(&said, name))
        };
        if !asked.starts_with('/') {
            let first = asked.split('/').next().unwrap_or_default();
            return ["/machine", "/machine/unattached", "/machine/q35"].iter().any(|path| lists(path, first))
                || first == "virtio-backend"
                || first.starts_with("device[");
        }
        let Some((above, name)) = whole.rsplit_once('/') else { return true };
        match self.made(above) {
            Some(made) => lists(&made.like, name),
            None if [PERIPHERAL.trim_end_matches('/'), ANONYMOUS, OBJECTS, "/chardevs"].contains(&above) => {
                above == OBJECTS && name == "pc.ram"
            }
            None if above.is_empty() => ROOTS.contains(&name),
            None => match introspection::object_says(self.release, above, None) {
                Some(said) => introspection::lists(&said, name),
                None => self.is_somewhere(above, above),
            },
        }
    }

    /// What stands at a path, if it is a device, its inner one, or what a client has made.
    fn made(&self, path: &str) -> Option<Made> {
        if let Some(id) = path.strip_prefix("/objects/") {
            let (id, kind) = self.objects.list().find(|(known, _)| *known == id)?;
            return Some(Made { id: id.into(), kind, inner: false, like: format!("{OBJECTS}/{kind}") });
        }
        if let Some(label) = path.strip_prefix("/chardevs/").filter(|label| self.chardevs.has(label)) {
            let kind = "chardev-socket";
            return Some(Made { id: label.into(), kind, inner: false, like: format!("/chardevs/{kind}") });
        }
        let (outer, inner) = path.strip_suffix(BACKEND).map_or((path, false), |outer| (outer, true));
        let id = if outer.starts_with(ANONYMOUS) { outer } else { outer.strip_prefix(PERIPHERAL)? };
        let (_, kind) = self.devices.with_types(self.graph).into_iter().find(|(known, _)| *known == id)?;
        if inner && !kind.starts_with("virtio-") {
            return None;
        }
        let like = format!("{PERIPHERAL}{kind}{}", if inner { BACKEND } else { "" });
        Some(Made { id: id.into(), kind, inner, like })
    }

    /// The devices with an id.
    fn peripheral(&self) -> Vec<(String, String)> {
        let all = self.devices.with_types(self.graph);
        let named = all.into_iter().filter(|(id, _)| !id.starts_with('/'));
        named.map(|(id, kind)| (id.to_owned(), kind.to_owned())).collect()
    }

    /// The devices without.
    fn anonymous(&self) -> Vec<(String, String)> {
        let all = self.devices.with_types(self.graph);
        let unnamed =
            all.into_iter().filter_map(|(id, kind)| Some((id.strip_prefix(ANONYMOUS)?.get(1..)?, kind)));
        unnamed.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
    }

    /// What the command line has made, the monitors, the memory, and what clients have made.
    fn made_objects(&self) -> Vec<(String, String)> {
        let made = self.objects.list().map(|(id, kind)| (id.to_owned(), kind.to_owned()));
        let mut made: Vec<_> = made.collect();
        let later = made.split_off(self.objects.of_command_line());
        let mut all = made;
        if self.release.monitors_are_objects() {
            let monitor = |number: usize| (format!("compat_monitor{number}"), "monitor-qmp".to_owned());
            all.extend((0..self.chardevs.monitors()).map(monitor));
        }
        all.push(("pc.ram".to_owned(), "memory-backend-ram".to_owned()));
        all.extend(later);
        all
    }
}

impl Made {
    /// A list of properties in which the buses of a device are named after it, if it has an id.
    fn with_own_buses(&self, list: &str) -> String {
        if self.id.starts_with('/') {
            return list.to_owned();
        }
        let (id, kind) = (&self.id, self.kind);
        list.replace(&format!("\"name\": \"{kind}.0\""), &format!("\"name\": \"{id}.0\""))
            .replace(&format!("\"name\": \"{kind}\""), &format!("\"name\": \"{id}\""))
    }
}

/// What a container's properties are: each object in it is one.
fn list_container(held: &[(String, String)]) -> QObject {
    let mut properties = vec![listed("type", "string".into())];
    let table = PropertyTable::of(held.iter().map(|(name, _)| name.as_str()));
    for name in table.last_first() {
        let kind = held.iter().find(|(known, _)| known == name).map_or("", |(_, kind)| kind);
        properties.push(listed(name, format!("child<{kind}>")));
    }
    QObject::List(properties)
}

/// QAPI's `ObjectPropertyInfo`.
fn listed(name: &str, kind: String) -> QObject {
    qdict! { "name": name.to_owned(), "type": kind }.into()
}
