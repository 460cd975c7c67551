//! The machine's PCI bus: which device is in which slot, and what the guest's firmware has given it.
//!
//! Slots are dealt out in the order of the command line, from the first that the chipset leaves free. Addresses and
//! interrupts are the firmware's: before it has run there are none. It gives the largest piece first, ports from
//! [`PORTS`] on, memory downwards from [`MEMORY_END`].
//!
//! Not here: bridges, disks that came later, and what is behind a SCSI controller.
//!
//! Source: recording `snap-missing-disk-load`; the four releases, asked: all say the same.

use std::cmp::Reverse;

use super::{QmpError, not_simulated};
use crate::{
    host::{Hardware, PciDevice},
    machine::{Chipset, DiskModel, Machine},
    qobject::{QDict, QObject, key, qdict},
};

/// Where the firmware begins to give away I/O ports.
const PORTS: u64 = 0xc000;

/// Where the memory that the firmware gives away ends.
const MEMORY_END: u64 = 0xfec0_0000;

const INTEL: u64 = 0x8086;
const RED_HAT: u64 = 0x1af4;
const QEMU: u64 = 0x1100;

/// The interrupts that pins take turns at.
const INTERRUPTS: [u64; 4] = [10, 10, 11, 11];

/// The bus, with all that was on it at the start.
#[derive(Debug)]
pub(crate) struct PciBus {
    chipset: Chipset,
    /// From the first free slot on, with their ids.
    devices: Vec<(PciDevice, String)>,
    /// There is more on it than is modelled.
    more: bool,
}

/// What a device wants to have a place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// I/O ports.
    Ports,
    /// I/O ports that the firmware moves to a place of its own choice.
    PortsAt(u64),
    /// Memory.
    Memory,
    /// Memory that may be read ahead.
    Prefetchable,
}

/// A base address register.
#[derive(Debug, Clone, Copy)]
struct Region {
    bar: u64,
    size: u64,
    kind: Kind,
}

/// One function of a device.
#[derive(Debug, Clone, Copy)]
struct Function<'a> {
    slot: u64,
    function: u64,
    /// Empty for the chipset's own.
    id: &'a str,
    class: (u64, &'static str),
    vendor: u64,
    device: u64,
    subsystem: u64,
    /// Whether it has an interrupt at all.
    interrupts: bool,
    regions: &'static [Region],
}

const SMBUS_PORTS: u64 = 0x700;

const fn region(bar: u64, size: u64, kind: Kind) -> Region {
    Region { bar, size, kind }
}

const DISK: [Region; 3] =
    [region(0, 128, Kind::Ports), region(1, 4096, Kind::Memory), region(4, 16384, Kind::Prefetchable)];
const SERIAL: [Region; 3] =
    [region(0, 64, Kind::Ports), region(1, 4096, Kind::Memory), region(4, 16384, Kind::Prefetchable)];

/// A function of the chipset.
const fn own(
    slot: u64,
    function: u64,
    class: (u64, &'static str),
    device: u64,
    interrupts: bool,
    regions: &'static [Region],
) -> Function<'static> {
    let (vendor, subsystem) = (INTEL, QEMU);
    Function { slot, function, id: "", class, vendor, device, subsystem, interrupts, regions }
}

const Q35: [Function<'static>; 4] = [
    own(0, 0, (0x0600, "Host bridge"), 0x29c0, false, &[]),
    own(31, 0, (0x0601, "ISA bridge"), 0x2918, false, &[]),
    own(
        31,
        2,
        (0x0106, "SATA controller"),
        0x2922,
        true,
        &[region(4, 32, Kind::Ports), region(5, 4096, Kind::Memory)],
    ),
    own(31, 3, (0x0c05, "SMBus"), 0x2930, true, &[region(4, 64, Kind::PortsAt(SMBUS_PORTS))]),
];

const PC: [Function<'static>; 4] = [
    own(0, 0, (0x0600, "Host bridge"), 0x1237, false, &[]),
    own(1, 0, (0x0601, "ISA bridge"), 0x7000, false, &[]),
    own(1, 1, (0x0101, "IDE controller"), 0x7010, false, &[region(4, 16, Kind::Ports)]),
    own(1, 3, (0x0680, "Bridge"), 0x7113, true, &[]),
];

impl PciBus {
    /// The bus of a machine.
    pub(crate) fn of(machine: &Machine) -> Self {
        let disks = machine
            .disks
            .iter()
            .filter(|disk| disk.model == DiskModel::VirtioBlk)
            .map(|disk| (PciDevice::VirtioBlk, disk.device.clone()));
        let ports = !machine.serial_ports.is_empty() || machine.agent.is_some();
        let has_controller = ports || !machine.serial_controller.is_empty();
        let controller = has_controller.then(|| (PciDevice::VirtioSerial, machine.serial_controller.clone()));
        let (first, last) = if machine.serial_first { (controller, None) } else { (None, controller) };
        let scsi = machine.others.iter().filter(|device| device.model == "virtio-scsi-pci");
        let scsi = scsi.map(|device| (PciDevice::VirtioScsi, device.id.clone()));
        let mut devices: Vec<_> = first.into_iter().chain(scsi).chain(disks).chain(last).collect();
        devices.sort_by_key(|(_, id)| machine.rank(id));
        Self { chipset: machine.chipset, devices, more: !machine.root_ports.is_empty() }
    }

    /// What a machine state is of.
    pub(crate) fn hardware(&self, memory: u64) -> Hardware {
        let devices = self.devices.iter().map(|(device, _)| *device).collect();
        Hardware { memory, first_slot: self.first_slot(), devices }
    }

    /// Which slot a device is in; nothing for one that is not on this bus.
    pub(crate) fn slot(&self, id: &str) -> Option<u64> {
        let slots = self.devices.iter().zip(self.first_slot() as u64..);
        slots.into_iter().find(|((_, known), _)| known == id).map(|(_, slot)| slot)
    }

    /// The slot that a disk is in, or its controller.
    pub(crate) fn slot_of_disk(&self, id: &str) -> Option<u64> {
        let mut controllers = self.devices.iter().filter(|(device, _)| *device == PciDevice::VirtioScsi);
        self.slot(id).or_else(|| self.slot(&controllers.next()?.1))
    }

    fn first_slot(&self) -> usize {
        match self.chipset {
            Chipset::Q35 => 1,
            Chipset::Pc => 2,
        }
    }

    /// The reply to `query-pci`. `set_up` tells whether the firmware has run, `there` whether a device still is.
    ///
    /// # Errors
    /// "not simulated" for a bus with more on it.
    pub(crate) fn query(&self, set_up: bool, there: impl Fn(&str) -> bool) -> Result<QObject, QmpError> {
        if self.more {
            return Err(not_simulated("`query-pci` of a machine with bridges"));
        }
        let functions: Vec<_> =
            self.functions().filter(|function| function.id.is_empty() || there(function.id)).collect();
        let given = Given::to(&functions);
        let address = |function: &Function<'_>, region: &Region| {
            if set_up { QObject::Number(given.address(function, region)) } else { QObject::MinusOne }
        };
        let describe = |function: &Function<'_>| {
            let regions = function.regions.iter().map(|region| region.describe(address(function, region)));
            let interrupt = self.interrupt(function).map(|given| if set_up { given } else { 0 });
            QObject::from(function.describe(interrupt, regions.collect()))
        };
        let devices: QObject = functions.iter().map(describe).collect();
        Ok(QObject::List(vec![qdict! { "bus": 0, "devices": devices }.into()]))
    }

    /// All functions in the order of their slots.
    fn functions(&self) -> impl Iterator<Item = Function<'_>> {
        let chipset = match self.chipset {
            Chipset::Q35 => &Q35,
            Chipset::Pc => &PC,
        };
        let first = self.first_slot() as u64;
        let (before, behind) = chipset.split_at(chipset.partition_point(|own| own.slot < first));
        let plugged = self.devices.iter().zip(first..).map(|((device, id), slot)| plugged(*device, id, slot));
        before.iter().copied().chain(plugged).chain(behind.iter().copied())
    }

    /// Which interrupt a function's first pin is wired to, if it has one.
    fn interrupt(&self, function: &Function<'_>) -> Option<u64> {
        /// That of the power management of `pc`.
        const ACPI: u64 = 9;
        let turn = |slot: u64| INTERRUPTS[slot as usize % INTERRUPTS.len()];
        function.interrupts.then(|| match (self.chipset, function.slot) {
            (Chipset::Pc, 1) => ACPI,
            (Chipset::Pc, slot) => turn(slot - 1),
            (Chipset::Q35, 31) => turn(0),
            (Chipset::Q35, slot) => turn(slot),
        })
    }
}

fn plugged(device: PciDevice, id: &str, slot: u64) -> Function<'_> {
    let (class, device, subsystem, regions) = match device {
        PciDevice::VirtioBlk => ((0x0100, "SCSI controller"), 0x1001, 2, &DISK),
        PciDevice::VirtioSerial => ((0x0780, ""), 0x1003, 3, &SERIAL),
        PciDevice::VirtioScsi => ((0x0100, "SCSI controller"), 0x1004, 8, &SERIAL),
    };
    Function { slot, function: 0, id, class, vendor: RED_HAT, device, subsystem, interrupts: true, regions }
}

impl Region {
    /// QAPI's `PciMemoryRegion`.
    fn describe(&self, address: QObject) -> QObject {
        // `type` and `address` fall into one bucket: what is put in last is written first.
        let mut region = qdict! { "bar": self.bar, "size": self.size };
        match self.kind {
            Kind::Ports | Kind::PortsAt(_) => region.put(key!("type"), "io"),
            Kind::Memory | Kind::Prefetchable => {
                region.put(key!("type"), "memory");
                region.put(key!("prefetch"), self.kind == Kind::Prefetchable);
                region.put(key!("mem_type_64"), self.kind == Kind::Prefetchable);
            }
        }
        region.put(key!("address"), address);
        region.into()
    }
}

impl Function<'_> {
    /// Its device's id, if that has one.
    fn qdev_id(&self) -> String {
        if self.id.starts_with('/') { String::new() } else { self.id.to_owned() }
    }

    /// QAPI's `PciDeviceInfo`.
    fn describe(&self, interrupt: Option<u64>, regions: QObject) -> QDict {
        let (class, name) = self.class;
        let mut class = qdict! { "class": class };
        if !name.is_empty() {
            class.put(key!("desc"), name);
        }
        let id = qdict! {
            "device": self.device, "vendor": self.vendor, "subsystem": self.subsystem, "subsystem-vendor": RED_HAT,
        };
        let mut device = qdict! {
            "bus": 0, "slot": self.slot, "function": self.function, "class_info": class, "id": id,
            "irq_pin": u64::from(self.interrupts), "qdev_id": self.qdev_id(), "regions": regions,
        };
        if let Some(interrupt) = interrupt {
            device.put(key!("irq"), interrupt);
        }
        device
    }
}

/// A region: slot, function and register.
type Place = (u64, u64, u64);

/// What the firmware has given away.
struct Given(Vec<(Place, u64)>);

impl Given {
    /// Gives every region its place, the largest of a kind first.
    fn to(functions: &[Function<'_>]) -> Self {
        let ports = wanted(functions, |kind| matches!(kind, Kind::Ports | Kind::PortsAt(_)));
        let memory = wanted(functions, |kind| kind == Kind::Memory);
        let ahead = wanted(functions, |kind| kind == Kind::Prefetchable);
        let memory_base = base_below(MEMORY_END, &memory);
        let ahead_base = base_below(memory_base, &ahead);
        let mut given = Self(Vec::new());
        given.give(PORTS, &ports);
        given.give(memory_base, &memory);
        given.give(ahead_base, &ahead);
        given
    }

    fn give(&mut self, base: u64, wanted: &[(Place, Region)]) {
        let mut next = base;
        for (place, region) in wanted {
            let address = if let Kind::PortsAt(fixed) = region.kind { fixed } else { next };
            self.0.push((*place, address));
            next += region.size;
        }
    }

    fn address(&self, function: &Function<'_>, region: &Region) -> u64 {
        let place = (function.slot, function.function, region.bar);
        let found = self.0.iter().find(|(known, _)| *known == place);
        found.map_or(0, |(_, address)| *address)
    }
}

/// The regions of some kinds, largest first, otherwise in the order of their slots.
fn wanted(functions: &[Function<'_>], is: impl Fn(Kind) -> bool) -> Vec<(Place, Region)> {
    let regions = |function: &Function<'_>| {
        let (slot, function, regions) = (function.slot, function.function, function.regions);
        regions.iter().map(move |region| ((slot, function, region.bar), *region))
    };
    let mut wanted: Vec<_> =
        functions.iter().flat_map(regions).filter(|(_, region)| is(region.kind)).collect();
    wanted.sort_by_key(|(_, region)| Reverse(region.size));
    wanted
}

/// Where regions begin that are to end below `end`: sizes are powers of two, and the largest goes first.
fn base_below(end: u64, wanted: &[(Place, Region)]) -> u64 {
    let total: u64 = wanted.iter().map(|(_, region)| region.size).sum();
    let alignment = wanted.first().map_or(1, |(_, region)| region.size);
    (end - total) / alignment * alignment
}
