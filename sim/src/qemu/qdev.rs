//! The devices that a client adds and removes: `device_add` and `device_del`.
//!
//! ```text
//! disk on a bus that takes hot plugging:
//!   there -(device_del: the guest is asked)-> asked -(system_reset)-> gone: DEVICE_DELETED of the inner device, its
//!                                               \-(device_del)-> asked      node is free; then DEVICE_DELETED
//! serial port, scsi-cd: there -(device_del)-> gone at once; DEVICE_DELETED follows
//! ```
//! The simulated guest is its firmware alone, which never answers when it is asked to let go of a device: only a reset
//! removes it. On `q35` a disk can be unplugged behind a `pcie-root-port` only; on `pc` on the machine's own bus.
//!
//! Not here: other models than `virtio-blk-pci`, devices without id, and what the guest sees of them.
//!
//! Source: recordings `device-del` and `device-del-pc`; the four releases, asked.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Context, QmpError, Timer,
    arguments::Arguments,
    block::{Device, Graph, Model},
    not_simulated,
    run_state::Cpus,
};
use crate::{
    introspection,
    machine::{CdModel, Chipset, DiskModel, Machine, OtherDevice},
    qobject::{QObject, key, qdict},
};

/// Where devices with an id are in QEMU's tree of objects.
pub(crate) const PERIPHERAL: &str = "/machine/peripheral/";

/// From a reset to behind the one that the firmware makes of its own accord.
const BEHIND_THE_FIRMWARE: Duration = Duration::from_millis(52);

/// The error for a device that is not there.
pub(crate) fn not_found(id: &str) -> QmpError {
    QmpError { class: "DeviceNotFound", desc: format!("Device '{id}' not found") }
}

/// Where a device is plugged in, and so how it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Into a bus that takes no hot plugging.
    Fixed(&'static str),
    /// Into the bus of a machine of type `pc`.
    Pci,
    /// Into a PCIe root port.
    RootPort(String),
    /// Into the bus of a controller: serial ports and SCSI drives leave without the guest's consent.
    Controller,
}

/// A device that is gone.
#[derive(Debug)]
struct Gone {
    id: String,
    /// Ids of the serial ports that it controlled.
    ports: Vec<String>,
}

/// A `DEVICE_DELETED` that is still to be said.
#[derive(Debug)]
enum Owed {
    /// Of devices, and before that of what they held inside.
    Whole(Vec<Gone>),
    /// Of devices, by their ids.
    Themselves(Vec<String>),
}

/// The machine's devices beside those of the block graph, and who was asked to leave.
#[derive(Debug)]
pub(crate) struct Devices {
    chipset: Chipset,
    root_ports: Vec<String>,
    serial_controller: String,
    serial_ports: Vec<String>,
    /// Where each device that was there from the start or came later is plugged in, unless it is the chipset's bus.
    places: BTreeMap<String, Place>,
    /// Ids of those that the guest was asked to let go.
    asked: Vec<String>,
    /// Those that hold no disk.
    others: Vec<OtherDevice>,
    /// By device and property.
    given: BTreeMap<String, BTreeMap<String, String>>,
    /// In which order the command line made them.
    order: Vec<String>,
    /// Ids of those that clients have added.
    came_later: Vec<String>,
    /// By serial number.
    owed: Vec<(u64, Owed)>,
    owed_so_far: u64,
}

impl Devices {
    /// The devices of a machine.
    pub(crate) fn of(machine: &Machine) -> Self {
        let behind = machine
            .disks
            .iter()
            .filter_map(|disk| Some((disk.device.clone(), Place::RootPort(disk.bus.clone()?))));
        let drives = machine.cd_drives.iter().map(|drive| {
            let place = match drive.model {
                CdModel::Scsi => Place::Controller,
                CdModel::Ide => Place::Fixed("ide.0"),
            };
            (drive.id.clone(), place)
        });
        let scsi = machine.disks.iter().filter(|disk| disk.model == DiskModel::ScsiHd);
        let scsi = scsi.map(|disk| (disk.device.clone(), Place::Controller));
        let ports = machine.serial_ports.iter().map(|port| (port.clone(), Place::Controller));
        Self {
            chipset: machine.chipset,
            root_ports: machine.root_ports.clone(),
            serial_controller: machine.serial_controller.clone(),
            serial_ports: machine.serial_ports.clone(),
            places: behind.chain(drives).chain(ports).chain(scsi).collect(),
            asked: Vec::new(),
            others: machine.others.clone(),
            given: machine.properties.clone(),
            order: machine.order.clone(),
            came_later: Vec::new(),
            owed: Vec::new(),
            owed_so_far: 0,
        }
    }

    /// The machine's chipset.
    pub(crate) fn chipset(&self) -> Chipset {
        self.chipset
    }

    /// Whether there is a device of that id.
    pub(crate) fn has(&self, id: &str, graph: &Graph) -> bool {
        let own = [&self.root_ports, &self.serial_ports].into_iter().flatten();
        !id.is_empty()
            && (own.chain([&self.serial_controller]).any(|known| known == id)
                || self.others.iter().any(|device| device.id == id)
                || graph.devices().iter().any(|device| device.id == id))
    }

    /// Whether there is a device of that type that holds no disk.
    pub(crate) fn has_model(&self, model: &str) -> bool {
        self.others.iter().any(|device| device.model == model)
    }

    /// All devices in the order in which they were made: each by its id, or its path if it has none, with its type.
    pub(crate) fn with_types<'a>(&'a self, graph: &'a Graph) -> Vec<(&'a str, &'static str)> {
        let of_block = |device: &'a Device| {
            let kind = match (device.model, self.place(&device.id)) {
                // It is the board's, and no device of the command line.
                (Model::Flash, _) => return None,
                (Model::VirtioBlk { .. }, _) => "virtio-blk-pci",
                (Model::ScsiHd, _) => "scsi-hd",
                (Model::Cd { .. }, Place::Controller) => "scsi-cd",
                (Model::Cd { .. }, _) => "ide-cd",
            };
            Some((device.id.as_str(), kind))
        };
        let mut all: Vec<_> = self.root_ports.iter().map(|id| (id.as_str(), "pcie-root-port")).collect();
        all.extend(self.others.iter().map(|device| (device.id.as_str(), device.model)));
        all.extend(graph.devices().iter().filter_map(of_block));
        if !self.serial_controller.is_empty() {
            all.push((&self.serial_controller, "virtio-serial-pci"));
        }
        all.extend(self.serial_ports.iter().map(|id| (id.as_str(), "virtserialport")));
        let rank = |id: &str| self.order.iter().position(|known| known == id).unwrap_or(usize::MAX);
        all.sort_by_key(|(id, _)| rank(id));
        all
    }

    /// What the command line gave a device for one of its properties, or a client since.
    pub(crate) fn given(&self, id: &str, property: &str) -> Option<&str> {
        self.given.get(id)?.get(property).map(String::as_str)
    }

    /// Gives a device one of its properties.
    pub(crate) fn give(&mut self, id: &str, property: &str, value: String) {
        self.given.entry(id.to_owned()).or_default().insert(property.to_owned(), value);
    }

    /// Whether a client has added the device.
    pub(crate) fn came_later(&self, id: &str) -> bool {
        self.came_later.iter().any(|known| known == id)
    }

    /// The controller of the serial ports.
    pub(crate) fn serial_controller(&self) -> &str {
        &self.serial_controller
    }

    /// The root port that a device is plugged into.
    pub(crate) fn root_port(&self, id: &str) -> Option<&str> {
        match self.places.get(id) {
            Some(Place::RootPort(port)) => Some(port),
            _ => None,
        }
    }

    fn place(&self, id: &str) -> Place {
        self.places.get(id).cloned().unwrap_or(match self.chipset {
            Chipset::Pc => Place::Pci,
            Chipset::Q35 => Place::Fixed("pcie.0"),
        })
    }

    fn owe(&mut self, delay: Duration, what: Owed, cx: &mut Context<'_>) {
        let serial = self.owed_so_far;
        self.owed_so_far += 1;
        self.owed.push((serial, what));
        cx.schedule(delay, Timer::DeviceDeleted { serial });
    }

    /// Says what [`Timer::DeviceDeleted`] was set for.
    pub(crate) fn deleted(&mut self, serial: u64, cpus: &Cpus, cx: &mut Context<'_>) {
        let Some(at) = self.owed.iter().position(|(owed, _)| *owed == serial) else { return };
        match self.owed.remove(at).1 {
            Owed::Whole(gone) => self.say_gone(gone, cpus, cx),
            Owed::Themselves(ids) => ids.iter().for_each(|id| say_deleted(id, cx)),
        }
    }

    /// `device_del`.
    pub(crate) fn device_del(
        &mut self,
        graph: &mut Graph,
        cpus: &mut Cpus,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let named = arguments.text("id");
        let id = named.strip_prefix(PERIPHERAL).unwrap_or(named);
        if named.is_empty() {
            return Err(cx.release().root_is_no_device());
        }
        if !self.has(id, graph) {
            let is_path = named.starts_with('/');
            return Err(if is_path {
                not_simulated("`device_del` of such a path")
            } else {
                not_found(named)
            });
        }
        match self.place(id) {
            Place::Fixed(bus) => return Err(no_hotplug(bus)),
            Place::RootPort(_) if !cx.release().root_ports_unplug_by_acpi() && self.is_asked(id) => {
                let desc = format!("Device {id} is already in the process of unplug");
                return Err(QmpError::generic(desc));
            }
            Place::Pci | Place::RootPort(_) if self.is_asked(id) => {}
            Place::Pci | Place::RootPort(_) => self.asked.push(id.to_owned()),
            Place::Controller => self.remove_from_controller(id, graph, cpus, cx),
        }
        Ok(QObject::empty())
    }

    fn is_asked(&self, id: &str) -> bool {
        self.asked.iter().any(|asked| asked == id)
    }

    fn remove_from_controller(&mut self, id: &str, graph: &mut Graph, cpus: &mut Cpus, cx: &mut Context<'_>) {
        graph.unplug(id);
        self.forget_port(id, cpus);
        let delay = cx.release().ports_leave_after();
        if delay.is_zero() && cx.choose("device-deleted-before-the-reply", 2) == 1 {
            say_deleted(id, cx);
        } else {
            self.owe(delay, Owed::Themselves(vec![id.to_owned()]), cx);
        }
    }

    fn forget_port(&mut self, id: &str, cpus: &mut Cpus) {
        self.serial_ports.retain(|port| port != id);
        self.places.remove(id);
        self.came_later.retain(|known| known != id);
        cpus.remove_port(id);
    }

    /// The machine is reset: who was asked to leave leaves, at once or in a moment.
    pub(crate) fn reset(&mut self, graph: &mut Graph, cpus: &mut Cpus, cx: &mut Context<'_>) {
        graph.devices_were_reset();
        if self.asked.is_empty() || !self.leave_at_reset(cx) {
            return;
        }
        match cx.choose("unplug-behind-reset", if cpus.running() { 3 } else { 2 }) {
            0 => cx.schedule(Duration::ZERO, Timer::Unplug),
            1 => self.unplug(graph, cpus, cx),
            _ => {
                let gone = self.let_go(graph, cpus);
                self.owe(BEHIND_THE_FIRMWARE, Owed::Whole(gone), cx);
            }
        }
    }

    fn leave_at_reset(&self, cx: &Context<'_>) -> bool {
        self.chipset == Chipset::Pc || cx.release().root_ports_unplug_by_acpi()
    }

    /// Those that were asked to leave are gone: first what they hold inside, then themselves.
    pub(crate) fn unplug(&mut self, graph: &mut Graph, cpus: &mut Cpus, cx: &mut Context<'_>) {
        let gone = self.let_go(graph, cpus);
        self.say_gone(gone, cpus, cx);
    }

    /// Takes out those that were asked to leave.
    fn let_go(&mut self, graph: &mut Graph, cpus: &mut Cpus) -> Vec<Gone> {
        let mut leaving = std::mem::take(&mut self.asked);
        // In the order of their slots, which is that of the command line.
        let slot = |id: &String| graph.devices().iter().position(|device| device.id == *id);
        leaving.sort_by_key(|id| slot(id).unwrap_or(usize::MAX));
        let mut gone = Vec::new();
        for id in leaving {
            let mut ports = Vec::new();
            if id == self.serial_controller {
                ports.clone_from(&self.serial_ports);
                ports.iter().for_each(|port| self.forget_port(port, cpus));
                self.serial_controller.clear();
            }
            graph.unplug(&id);
            self.places.remove(&id);
            self.came_later.retain(|known| *known != id);
            gone.push(Gone { id, ports });
        }
        gone
    }

    /// Tells of devices that are gone: first of what they held inside, then of themselves. A thread of its own frees what a
    /// guest that runs may still be looking at, now or later; on `pc` one after the other.
    fn say_gone(&mut self, gone: Vec<Gone>, cpus: &Cpus, cx: &mut Context<'_>) {
        for Gone { id, ports } in &gone {
            ports.iter().for_each(|port| say_deleted(port, cx));
            let inner = format!("{PERIPHERAL}{id}/virtio-backend");
            cx.event("DEVICE_DELETED", Some(qdict! { "path": inner }));
        }
        let ids: Vec<_> = gone.into_iter().map(|gone| gone.id).collect();
        let ways = cx.release().devices_leave_after();
        let waits = self.chipset == Chipset::Pc && cpus.running();
        match waits.then(|| ways[cx.choose("device-leaves-after", ways.len())]).flatten() {
            None => ids.iter().for_each(|id| say_deleted(id, cx)),
            Some(delay) => self.owe(delay, Owed::Themselves(ids), cx),
        }
    }

    /// `device_add`. Its checks are in QEMU's order.
    pub(crate) fn device_add(
        &mut self,
        graph: &mut Graph,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let release = cx.release();
        let text = |name| release.device_argument(arguments.get(name));
        let id = arguments.optional_text("id");
        release.check_device_id_first(id, id.is_some_and(|id| self.has(id, graph)))?;
        match text("driver").as_deref() {
            None => return Err(QmpError::generic("Parameter 'driver' is missing")),
            Some("virtio-blk-pci" | "virtio-blk") => {}
            Some(driver) if introspection::is_device(release, driver) => {
                return Err(not_simulated(&format!("device model `{driver}`")));
            }
            Some(driver) => {
                return Err(QmpError::generic(format!("'{driver}' is not a valid device model name")));
            }
        }
        let place = self.bus(text("bus").as_deref())?;
        release.check_device_id(id, id.is_some_and(|id| self.has(id, graph)))?;
        arguments.only(&["driver", "id", "bus", "drive"])?;
        let id = id.ok_or_else(|| not_simulated("a device without id"))?;
        let occupied =
            matches!(&place, Place::RootPort(_)) && self.places.values().any(|taken| *taken == place);
        if occupied && release.slots_are_checked_before_disks() {
            return Err(slot_is_occupied());
        }
        let node = drive(graph, id, arguments, cx)?;
        if occupied {
            return Err(slot_is_occupied());
        }
        if place != Place::Pci {
            self.places.insert(id.to_owned(), place);
        }
        self.came_later.push(id.to_owned());
        graph.plug(Device::new(id.to_owned(), node, Model::VirtioBlk { unseen: true }));
        Ok(QObject::empty())
    }

    /// The bus that a new disk is plugged into.
    fn bus(&self, name: Option<&str>) -> Result<Place, QmpError> {
        match (self.chipset, name) {
            (Chipset::Pc, None | Some("pci.0")) => Ok(Place::Pci),
            (Chipset::Q35, None | Some("pcie.0")) => Err(no_hotplug("pcie.0")),
            (_, Some(port)) if self.root_ports.iter().any(|known| known == port) => {
                Ok(Place::RootPort(port.to_owned()))
            }
            (_, Some(other)) => Err(QmpError::generic(format!("Bus '{other}' not found"))),
        }
    }
}

/// The node that a new disk reads and writes: one that no other device writes.
fn drive(graph: &Graph, id: &str, arguments: Arguments<'_>, cx: &Context<'_>) -> Result<String, QmpError> {
    let Some(drive) = arguments.optional_text("drive") else {
        return Err(QmpError::generic("drive property not set"));
    };
    if graph.node(drive).is_none() {
        let desc = format!("Property 'virtio-blk-device.drive' can't find value '{drive}'");
        return Err(QmpError::generic(desc));
    }
    if let Some(present) = graph.device_on(drive) {
        return Err(cx.release().device_conflict(drive, &present.qdev(), id));
    }
    if graph.parents(drive).next().is_some() {
        return Err(not_simulated("a disk on a node that another node uses"));
    }
    Ok(drive.to_owned())
}

fn say_deleted(id: &str, cx: &mut Context<'_>) {
    let mut data = qdict! { "path": format!("{PERIPHERAL}{id}") };
    data.put(key!("device"), id.to_owned());
    cx.event("DEVICE_DELETED", Some(data));
}

fn no_hotplug(bus: &str) -> QmpError {
    QmpError::generic(format!("Bus '{bus}' does not support hotplugging"))
}

fn slot_is_occupied() -> QmpError {
    QmpError::generic(
        "PCI: slot 0 function 0 already occupied by virtio-blk-pci, new func virtio-blk-pci cannot be exposed to \
         guest.",
    )
}
