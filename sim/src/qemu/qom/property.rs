//! One property of an object: what it is, and what it may be set to.
//!
//! What was asked of one device holds for all of its type, but for what the command line gave it, where it is plugged
//! in, and what it stands on. Of devices that work already, only the boot order can be set.

use serde_json::Value;

use super::{ANONYMOUS, BACKEND, Kind, Made, OBJECTS, Object, Qom};
use crate::{
    introspection,
    qemu::{QmpError, arguments::Arguments, not_simulated, qdev::PERIPHERAL},
    qobject::QObject,
};

impl Qom<'_> {
    /// `qom-get`.
    ///
    /// # Errors
    /// QEMU's, where there is no such property; "not simulated" for one that was not asked of real ones.
    pub(super) fn get(&self, object: &Object, property: &str) -> Result<QObject, QmpError> {
        match &object.kind {
            Kind::Container(_) if property == "type" => Ok("container".into()),
            Kind::Container(held) if held.iter().any(|(name, _)| name == property) => {
                Ok(format!("{}/{property}", object.path).into())
            }
            Kind::Container(_) => Err(not_found("container", property)),
            Kind::Fixed => match introspection::object_says(self.release, &object.path, Some(property)) {
                _ if property == "type" && object.path == "/machine" => {
                    Ok(self.about.machine_type(self.release).into())
                }
                Some(said) => said.map(|value| QObject::Written(value.into())),
                None => Err(self.no_such(&object.path, property)),
            },
            Kind::Made(made) => match self.own(made, property) {
                Some(own) => own,
                None => self.like_others(object, made, property),
            },
        }
    }

    /// The refusal of a property that an object, like one that was asked about, does not have.
    fn no_such(&self, like: &str, property: &str) -> QmpError {
        let lists = introspection::object_says(self.release, like, None);
        match self.type_of(like) {
            Some(kind) if !lists.is_some_and(|said| introspection::lists(&said, property)) => {
                not_found(&kind, property)
            }
            _ => not_simulated(&format!("property `{property}` of such an object")),
        }
    }

    fn type_of(&self, like: &str) -> Option<String> {
        if like == "/machine" {
            return Some(self.about.machine_type(self.release));
        }
        let said = introspection::object_says(self.release, like, Some("type"))?.ok()?;
        Some(said.trim_matches('"').to_owned())
    }

    /// What a property is of an object of this type, with this object's own names.
    fn like_others(&self, object: &Object, made: &Made, property: &str) -> Result<QObject, QmpError> {
        let Some(said) = introspection::object_says(self.release, &made.like, Some(property)) else {
            return Err(self.no_such(&made.like, property));
        };
        let value = said?;
        if let Some(given) = self.devices.given(&made.id, property) {
            return Ok(typed(value, property, given));
        }
        let outer = object.path.trim_end_matches(BACKEND);
        Ok(QObject::Written(if value.contains(PERIPHERAL) {
            let asked = format!("{PERIPHERAL}{}", made.kind);
            value.replace(&asked, outer).into()
        } else {
            value.into()
        }))
    }

    /// A property that differs from device to device.
    fn own(&self, made: &Made, property: &str) -> Option<Result<QObject, QmpError>> {
        let pluggable = ["addr", "legacy-addr", "parent_bus", "hotpluggable"].contains(&property);
        Some(match property {
            "addr" | "connected" if made.kind == "chardev-socket" => {
                return Some(Err(not_simulated("who is at the other end of a socket, as a property")));
            }
            "drive" => self.drive(&made.id).ok_or_else(|| not_simulated("such a property `drive`")),
            "limits" if made.like == "/objects/throttle-group" => {
                return self.graph.throttle_limits(&made.id).map(Ok);
            }
            "hotplugged" => Ok(self.devices.came_later(&made.id).into()),
            "parent_bus" if made.kind == "virtserialport" => {
                let controller = self.devices.serial_controller();
                let name = controller.rsplit_once('/').map_or(controller, |_| "virtio-serial-bus");
                Ok(format!("{}{BACKEND}/{name}.0", path_of(controller)).into())
            }
            _ if pluggable && !made.inner => {
                let place = self.pci.slot(&made.id).or(self.devices.root_port(&made.id).map(|_| 0))?;
                match (property, self.devices.root_port(&made.id)) {
                    ("addr", _) => Ok((place * 8).into()),
                    ("legacy-addr", _) => {
                        introspection::object_says(self.release, &made.like, Some(property))?.ok()?;
                        Ok(format!("{place:02x}.0").into())
                    }
                    ("parent_bus", Some(port)) => Ok(format!("{}/{port}", path_of(port)).into()),
                    ("hotpluggable", Some(_)) => Ok(true.into()),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// The drive of a disk, or its top node; nothing for a drive without medium.
    fn drive(&self, id: &str) -> Option<QObject> {
        let disk = self.graph.devices().iter().find(|device| device.id == id)?;
        let named = if disk.drive.is_empty() { &disk.node } else { &disk.drive };
        disk.model.tray_open().is_none().then(|| named.clone().into())
    }

    /// `qom-set`.
    ///
    /// # Errors
    /// QEMU's; "not simulated" where a real one would do what is not modelled.
    pub(super) fn set(&mut self, object: &Object, arguments: Arguments<'_>) -> Result<QObject, QmpError> {
        const READ_ONLY: [&str; 5] = ["type", "hotplugged", "hotpluggable", "parent_bus", "legacy-addr"];
        let property = arguments.text("property");
        let refuse = || not_simulated("`qom-set` of such a property");
        let Kind::Made(made) = &object.kind else {
            let kind = match &object.kind {
                Kind::Container(_) => Some("container".to_owned()),
                _ => self.type_of(&object.path),
            };
            return Err(match (kind, property) {
                (Some(kind), "type") => self.release.property_not_writable(&kind, property),
                _ => self.get(object, property).err().unwrap_or_else(refuse),
            });
        };
        let outer_kind = self.type_of(&made.like).unwrap_or_default();
        if READ_ONLY.contains(&property) {
            return Err(self.release.property_not_writable(&outer_kind, property));
        }
        self.get(object, property)?;
        let value = arguments.0.get("value").unwrap_or(&Value::Null);
        match (property, value) {
            ("limits", Value::Object(limits)) if object.path.starts_with(OBJECTS) => {
                self.graph.change_throttle_limits(&made.id, Arguments(limits))?;
            }
            ("bootindex", Value::Number(number)) if number.is_i64() => {
                self.devices.give(&made.id, property, number.to_string());
            }
            ("bootindex", _) => {
                let text = format!("Invalid parameter type for '{property}', expected: integer");
                return Err(QmpError::generic(text));
            }
            ("realized", Value::Bool(true)) => {}
            ("drive", _) if self.release.disks_change_their_drive() => return Err(refuse()),
            _ if object.path.starts_with(OBJECTS) => return Err(refuse()),
            _ => return Err(self.works_already(made, property)),
        }
        Ok(QObject::empty())
    }

    /// The refusal of a property of a device that works already: it is the inner device's if that has it.
    fn works_already(&self, made: &Made, property: &str) -> QmpError {
        let inner = format!("{PERIPHERAL}{}{BACKEND}", made.kind);
        let is_inner = introspection::object_says(self.release, &inner, Some(property)).is_some();
        let kind = self.type_of(if is_inner { &inner } else { &made.like }).unwrap_or_default();
        let device = if is_inner || made.id.starts_with(ANONYMOUS) {
            "anonymous device".to_owned()
        } else {
            format!("device '{}'", made.id)
        };
        let text =
            format!("Attempt to set property '{property}' on {device} (type '{kind}') after it was realized");
        QmpError::generic(text)
    }
}

/// The path of a device by its id, which is its path if it has none.
fn path_of(id: &str) -> String {
    if id.starts_with('/') { id.to_owned() } else { format!("{PERIPHERAL}{id}") }
}

fn not_found(kind: &str, property: &str) -> QmpError {
    QmpError::generic(format!("Property '{kind}.{property}' not found"))
}

/// What the command line gave, as a value of the kind that another device's is.
fn typed(other: &str, property: &str, given: &str) -> QObject {
    match other.as_bytes().first() {
        Some(b't' | b'f') => matches!(given, "on" | "true" | "yes").into(),
        Some(b'-' | b'0'..=b'9') => QObject::Written(given.to_owned().into()),
        _ if property == "iothread" => format!("{OBJECTS}/{given}").into(),
        _ => given.to_owned().into(),
    }
}
