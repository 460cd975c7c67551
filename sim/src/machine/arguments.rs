//! From QEMU's arguments to the machine that is simulated.
//!
//! Every argument must be known: one that would make another machine than the simulated one is refused, so that
//! nothing is compared with the wrong thing. Those that do not show in what QEMU says ([`UNSEEN`]) are passed over.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde_json::{Map, Value, json};

use super::{
    CdDrive, CdModel, Chardev, Chipset, Disk, DiskModel, Errno, Format, Frontend, Injected, Machine, OnError,
    OtherDevice, Power,
};
use crate::host::Host;

mod properties;

use properties::Properties;

/// Options without a value.
const FLAGS: [&str; 6] = ["-nodefaults", "-no-user-config", "-no-reboot", "-no-shutdown", "-S", "-daemonize"];

/// Options with one value that make no difference to what a client hears. A processor model is seen only by the guest,
/// as long as it runs under TCG.
const UNSEEN: [&str; 14] = [
    "-accel",
    "-boot",
    "-cpu",
    "-D",
    "-display",
    "-L",
    "-monitor",
    "-msg",
    "-parallel",
    "-pidfile",
    "-rtc",
    "-sandbox",
    "-serial",
    "-vga",
];

/// Properties of a disk's device that are simulated, or make no other difference than that `qom-get` tells them.
const OF_DISKS: [&str; 10] =
    ["id", "drive", "iothread", "bootindex", "bus", "addr", "werror", "rerror", "serial", "scsi-id"];

/// Properties of a drive.
const OF_DRIVES: [&str; 6] = ["file", "format", "id", "if", "read-only", "readonly"];

/// The simulator cannot be this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a machine with `{0}`")]
pub struct Unknown(String);

impl Machine {
    /// The machine of QEMU's arguments. Relative paths of images start in `/images`, unless
    /// [`Machine::folder`] is set to another folder afterwards.
    ///
    /// # Errors
    /// [`Unknown`], naming the first argument that the simulator cannot follow.
    pub fn from_arguments<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, Unknown> {
        let machine = Machine { monitors: 0, ..Machine::new() };
        let mut reader = Reader {
            machine,
            protocol_nodes: BTreeMap::new(),
            injected: BTreeMap::new(),
            format_nodes: BTreeMap::new(),
            nodes: Vec::new(),
            drives: Vec::new(),
            drives_of_virtio: Vec::new(),
            flash: Vec::new(),
        };
        let mut words = words.into_iter();
        while let Some(option) = words.next() {
            if FLAGS.contains(&option) {
                match option {
                    "-S" => reader.machine.power = Power::Prelaunch,
                    "-no-reboot" => reader.machine.actions.reset_ends = true,
                    "-no-shutdown" => reader.machine.actions.stays_after_shutdown = true,
                    _ => {}
                }
                continue;
            }
            let value = words.next().unwrap_or_default();
            let properties = Properties::read(value);
            let read = reader.option(option, &properties);
            let told = if value.starts_with('-') { option.to_owned() } else { format!("{option} {value}") };
            read.ok_or(Unknown(told))?;
        }
        reader.finish()?;
        Ok(reader.machine)
    }
}

/// What was read so far.
struct Reader {
    machine: Machine,
    /// The file of each protocol node, and whether that is for reading only.
    protocol_nodes: BTreeMap<String, (String, bool)>,
    /// The `blkdebug` nodes, and the protocol node that each is above.
    injected: BTreeMap<String, (Injected, String)>,
    /// Format nodes that no device has taken yet.
    format_nodes: BTreeMap<String, Disk>,
    /// Nodes that are neither a disk's format nor the file below one: their options.
    nodes: Vec<Map<String, Value>>,
    /// The names of drives, in the order of the command line.
    drives: Vec<String>,
    /// The disks of drives that come with their device: it is made behind all others.
    drives_of_virtio: Vec<Disk>,
    /// The nodes that the board has for flash, by its number.
    flash: Vec<(usize, String)>,
}

/// Nothing stands for an argument that is not known.
impl Reader {
    fn option(&mut self, option: &str, value: &Properties) -> Option<()> {
        match option {
            "-machine" => {
                let name = value.get("type").unwrap_or(&value.head);
                self.machine.chipset = chipset(name)?;
                self.machine.version = name.strip_prefix("pc-").map(str::to_owned);
                let nodes = ["pflash0", "pflash1"].into_iter().enumerate();
                self.flash = nodes.filter_map(|(at, name)| Some((at, value.get(name)?.to_owned()))).collect();
            }
            // The simulated machine has one processor.
            "-smp" if value.head == "1" => {}
            "-m" => self.machine.memory = memory(value.get("size").unwrap_or(&value.head))?,
            "-name" => self.machine.name = Some(value.get("guest").unwrap_or(&value.head).to_owned()),
            "-uuid" => self.machine.uuid = Some(value.head.to_ascii_lowercase()),
            "-action" => {
                for (event, action) in &value.properties {
                    self.machine.actions.set(event, action)?;
                }
            }
            "-watchdog-action" => self.machine.actions.set("watchdog", &value.head)?,
            "-mon" => self.monitor(value)?,
            "-chardev" => self.chardev(value)?,
            "-object" => self.object(value)?,
            "-incoming" if value.head == "defer" => self.machine.incoming = true,
            "-blockdev" => self.node(value)?,
            "-drive" => self.drive(value)?,
            "-device" => self.device(value)?,
            _ if UNSEEN.contains(&option) => {}
            _ => return None,
        }
        Some(())
    }

    fn object(&mut self, value: &Properties) -> Option<()> {
        let id = value.get("id")?.to_owned();
        match value.head.as_str() {
            "iothread" => self.machine.iothreads.push(id),
            "throttle-group" => {
                let limits = value.names().filter(|name| !["id", "qom-type"].contains(name));
                let limit = |name: &str| {
                    let plain = name.strip_prefix("x-").or(name.strip_prefix("limits."))?;
                    Some((plain.to_owned(), value.get(name)?.parse::<u64>().ok()?.into()))
                };
                self.machine.throttle_groups.push((id, limits.map(limit).collect::<Option<_>>()?));
            }
            _ => return None,
        }
        Some(())
    }

    fn chardev(&mut self, value: &Properties) -> Option<()> {
        // Only sockets show in what `query-chardev` tells of clients; others are none of the simulator's.
        if value.head != "socket" {
            return None;
        }
        let chardev = Chardev {
            label: value.get("id")?.to_owned(),
            path: value.get("path")?.into(),
            frontend: None,
            connected: false,
        };
        self.machine.chardevs.push(chardev);
        Some(())
    }

    fn monitor(&mut self, value: &Properties) -> Option<()> {
        let number = self.machine.monitors;
        self.machine.monitors += 1;
        self.attach(value.get("chardev")?, Frontend::Monitor(number))
    }

    fn attach(&mut self, chardev: &str, frontend: Frontend) -> Option<()> {
        let chardev = self.machine.chardevs.iter_mut().find(|known| known.label == chardev)?;
        chardev.frontend = Some(frontend);
        Some(())
    }

    fn node(&mut self, value: &Properties) -> Option<()> {
        let (name, driver) = (value.get("node-name")?, value.head.as_str());
        self.machine.node_order.push(name.to_owned());
        if ["file", "host_device"].contains(&driver) {
            let read_only = value.get("read-only") == Some("on");
            self.protocol_nodes.insert(name.to_owned(), (value.get("filename")?.to_owned(), read_only));
            return Some(());
        }
        if driver == "blkdebug" {
            let injected = Injected { node: name.to_owned(), rules: rules(value)? };
            self.injected.insert(name.to_owned(), (injected, value.get("image")?.to_owned()));
            return Some(());
        }
        let Some(format) = format(driver) else {
            self.nodes.push(options(value));
            return Some(());
        };
        let mut disk = Disk::new(name, Utf8PathBuf::new());
        disk.format = format;
        disk.readonly = value.get("read-only") == Some("on");
        match value.get("file") {
            Some(file) => {
                let (injected, file) = self.injected.remove(file).unzip();
                disk.injected = injected;
                disk.file_node = file.or(value.get("file").map(str::to_owned))?;
                let (path, file_is_read_only) = self.protocol_nodes.get(&disk.file_node)?;
                disk.path = path.as_str().into();
                disk.writable_file = !file_is_read_only;
            }
            // Given in place: QEMU makes a name up.
            None => {
                disk.file_node = value.get("file.node-name").unwrap_or_default().to_owned();
                disk.path =
                    value.get("file.filename").filter(|_| value.get("file.driver") == Some("file"))?.into();
            }
        }
        disk.backing = value.get("backing").map(str::to_owned);
        self.format_nodes.insert(name.to_owned(), disk);
        Some(())
    }

    /// A disk that a device takes by the name of its drive.
    fn drive(&mut self, value: &Properties) -> Option<()> {
        let comes_with_device = value.get("if") == Some("virtio");
        let is_other = value.names().any(|name| !OF_DRIVES.contains(&name));
        if is_other || !comes_with_device && value.get("if") != Some("none") {
            return None;
        }
        let numbered = format!("virtio{}", self.drives_of_virtio.len());
        let id = value.get("id").or(comes_with_device.then_some(&numbered))?;
        let mut disk = Disk::new("", value.get("file")?.into());
        self.drives.push(id.to_owned());
        disk.file_node = String::new();
        disk.drive = id.to_owned();
        disk.format = format(value.get("format")?)?;
        disk.readonly = value.get("readonly").or(value.get("read-only")) == Some("on");
        if comes_with_device {
            self.drives_of_virtio.push(disk);
        } else {
            self.format_nodes.insert(id.to_owned(), disk);
        }
        Some(())
    }

    /// The disk of a format node, or of one that other nodes are above of.
    fn take_format_node(&mut self, drive: &str) -> Option<Disk> {
        if let Some(disk) = self.format_nodes.remove(drive) {
            return Some(disk);
        }
        let mut below = drive;
        while let Some(node) = self.nodes.iter().find(|node| node["node-name"] == below) {
            below = node.get("file")?.as_str()?;
        }
        let disk = self.format_nodes.remove(below)?;
        Some(Disk { root: Some(drive.to_owned()), ..disk })
    }

    /// What is left when all is read.
    fn finish(&mut self) -> Result<(), Unknown> {
        for mut disk in std::mem::take(&mut self.drives_of_virtio) {
            disk.device = self.anonymous_path();
            self.machine.order.push(disk.device.clone());
            self.machine.disks.push(disk);
        }
        // A drive is there before any device.
        let drives = std::mem::take(&mut self.drives);
        let made = |disk: &Disk| drives.iter().position(|drive| *drive == disk.drive).unwrap_or(usize::MAX);
        self.machine.disks.sort_by_key(made);
        // The board is there before any drive.
        for (at, (number, node)) in std::mem::take(&mut self.flash).into_iter().enumerate() {
            let disk = self.take_format_node(&node);
            let disk = disk.ok_or_else(|| Unknown(format!("-machine pflash{number}={node}")))?;
            let (device, model) = (Disk::flash_device(number), DiskModel::Flash);
            self.machine.disks.insert(at, Disk { device, model, ..disk });
        }
        self.machine.nodes = std::mem::take(&mut self.nodes);
        for index in 0..self.machine.disks.len() {
            let mut behind = Vec::new();
            let mut next = self.machine.disks[index].backing.clone();
            while let Some(disk) = next.and_then(|name| self.format_nodes.remove(&name)) {
                next = disk.backing.clone();
                behind.push(disk);
            }
            self.machine.nodes.extend(behind.iter().rev().flat_map(nodes_behind));
        }
        Ok(())
    }

    fn device(&mut self, value: &Properties) -> Option<()> {
        let id = value.get("id").map_or_else(|| self.anonymous_path(), str::to_owned);
        match value.head.as_str() {
            "virtio-blk-pci" | "virtio-blk" => self.disk(&id, value)?,
            "scsi-hd" if self.has_scsi() => self.disk(&id, value)?,
            "virtio-serial-pci" | "virtio-serial" => {
                self.machine.serial_controller = id.clone();
                self.machine.serial_first = self.machine.disks.is_empty();
            }
            "virtserialport" => {
                self.machine.serial_ports.push(id.clone());
                self.attach(value.get("chardev")?, Frontend::SerialPort)?;
            }
            "pcie-root-port" => self.machine.root_ports.push(value.get("id")?.to_owned()),
            "scsi-cd" => {
                self.machine
                    .cd_drives
                    .push(CdDrive { id: value.get("id")?.to_owned(), model: CdModel::Scsi });
            }
            "ide-cd" => {
                self.machine.cd_drives.push(CdDrive { id: value.get("id")?.to_owned(), model: CdModel::Ide });
            }
            "ib700" => self.machine.watchdog = true,
            other => {
                let model = OtherDevice::MODELS.into_iter().find(|known| *known == other)?;
                self.machine.others.push(OtherDevice { id: id.clone(), model });
            }
        }
        let given =
            value.properties.iter().filter(|(name, _)| !["id", "driver", "bus"].contains(&name.as_str()));
        let given = given.map(|(name, value)| (name.clone(), value.clone())).collect();
        self.machine.properties.insert(id.clone(), given);
        self.machine.order.push(id);
        Some(())
    }

    /// Where the next device without id is among QEMU's objects.
    fn anonymous_path(&self) -> String {
        let so_far = self.machine.order.iter().filter(|id| id.starts_with('/')).count();
        format!("/machine/peripheral-anon/device[{so_far}]")
    }

    fn has_scsi(&self) -> bool {
        self.machine.others.iter().any(|device| device.model == "virtio-scsi-pci")
    }

    fn disk(&mut self, id: &str, value: &Properties) -> Option<()> {
        if value.names().any(|name| !OF_DISKS.contains(&name)) {
            return None;
        }
        let mut disk = self.take_format_node(value.get("drive")?)?;
        disk.device = id.to_owned();
        disk.guest_writes = disk.injected.is_some() && value.get("bootindex").is_some();
        if value.head == "scsi-hd" {
            disk.model = DiskModel::ScsiHd;
        }
        if let Some(policy) = value.get("werror") {
            disk.on_write_error = OnError::named(policy)?;
        }
        let own_bus = |bus: &&str| {
            ["pcie.0", "pci.0"].contains(bus) || disk.model == DiskModel::ScsiHd && bus.ends_with(".0")
        };
        if let Some(bus) = value.get("bus").filter(|bus| !own_bus(bus)) {
            disk.bus = Some(self.machine.root_ports.iter().find(|port| port == &bus)?.clone());
        }
        self.machine.disks.push(disk);
        Some(())
    }
}

/// The two nodes of an image that a disk is backed by, as `blockdev-add` has them.
fn nodes_behind(disk: &Disk) -> [Map<String, Value>; 2] {
    let file = json!({
        "driver": if Host::is_device(&disk.path) { "host_device" } else { "file" },
        "node-name": disk.file_node,
        "filename": disk.path,
        "read-only": disk.file_is_read_only(),
        "auto-read-only": true,
    });
    let mut format = json!({
        "driver": disk.format.driver(),
        "node-name": disk.target,
        "file": disk.file_node,
        "read-only": disk.readonly,
    });
    if disk.format == Format::Qcow2 {
        format["backing"] = disk.backing.clone().into();
    }
    [file, format].map(|options| options.as_object().cloned().unwrap_or_default())
}

/// Options of a node as `blockdev-add` has them, but that each is a text, a number or a flag by its looks.
fn options(value: &Properties) -> Map<String, Value> {
    let typed = |text: &str| match text {
        "on" | "true" => true.into(),
        "off" | "false" => false.into(),
        number => number.parse::<u64>().map_or_else(|_| number.into(), Value::from),
    };
    let mut options = Map::new();
    options.insert("driver".into(), value.head.clone().into());
    for name in value.names() {
        let mut into = &mut options;
        let mut parts = name.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                into.insert(part.into(), typed(value.get(name).unwrap_or_default()));
                break;
            }
            let inner = into.entry(part).or_insert_with(|| Map::new().into());
            let Some(inner) = inner.as_object_mut() else { break };
            into = inner;
        }
    }
    options
}

/// The rules of a `blkdebug` node, its numbers and flags as such.
fn rules(value: &Properties) -> Option<Vec<(String, Value)>> {
    let rule = |name: &&str| name.starts_with("inject-error.") || name.starts_with("set-state.");
    let typed = |name: &str| {
        let text = value.get(name)?;
        Some(match name.rsplit('.').next()? {
            "errno" => text.parse().ok().filter(|number| Errno::numbered(*number).is_some())?.into(),
            "state" | "new_state" => text.parse::<u64>().ok()?.into(),
            "once" | "immediately" => (text == "on").into(),
            "event" | "iotype" => text.into(),
            _ => return None,
        })
    };
    value.names().filter(rule).map(|name| Some((name.to_owned(), typed(name)?))).collect()
}

/// The memory in bytes: in MiB unless a unit is given.
fn memory(size: &str) -> Option<u64> {
    let digits = size.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &size[digits.len()..] {
        "k" | "K" => 10,
        "" | "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The chipset of a machine type, versioned (`pc-q35-7.2`) or not.
fn chipset(machine: &str) -> Option<Chipset> {
    let is = |name: &str, versioned: &str| machine == name || machine.starts_with(versioned);
    if is("q35", "pc-q35-") { Some(Chipset::Q35) } else { is("pc", "pc-i440fx-").then_some(Chipset::Pc) }
}

/// `qcow2` or `raw`.
fn format(driver: &str) -> Option<Format> {
    [Format::Qcow2, Format::Raw].into_iter().find(|format| format.driver() == driver)
}

#[cfg(test)]
mod tests;
