//! The machine of a scenario as the simulator takes it; a real QEMU is started from the same description.

use camino::Utf8Path;
use freezeframe_driver::{
    domain::{Domain, DomainDisk},
    domain_snapshot::Location,
    domain_xml::DomainXml,
    xml::Element,
};
use freezeframe_sim::machine::{Agent, Chardev, Disk, Format, Frontend, Machine, Power, agent::Presence};

use crate::language::{self, Scenario};

/// The machine that a scenario describes.
pub fn of(scenario: &Scenario) -> Machine {
    in_folder(&scenario.machine, &Machine::new().folder)
}

/// The machine as the driver knows it, with its images in this folder.
pub(crate) fn domain(described: &language::Machine, folder: &Utf8Path) -> Domain {
    let disks = described.disks.iter().map(|disk| DomainDisk {
        source: Some(folder.join(disk.image())),
        snapshot: disk.snapshot.map(location),
        shareable: disk.shareable,
        ..DomainDisk::new(&disk.target, &format!("{}-device", disk.target))
    });
    // Only a record holds it.
    let document = described.records.then(|| document(described, folder));
    Domain { transient: described.transient, document, ..Domain::new(NAME, disks.collect()) }
}

/// What every machine is called.
pub(crate) const NAME: &str = "vm";

/// Where a place is in the driver's words.
pub(crate) fn location(place: language::Place) -> Location {
    match place {
        language::Place::No => Location::No,
        language::Place::Internal => Location::Internal,
        language::Place::External => Location::External,
        language::Place::Manual => Location::Manual,
    }
}

/// The description that libvirt would have of it.
fn document(described: &language::Machine, folder: &Utf8Path) -> DomainXml {
    let mut domain = Element::new("domain").with("type", "qemu");
    domain.push(Element::of_text("name", NAME));
    domain.push(Element::of_text("uuid", "6f2d61a4-0000-4000-8000-000000000001"));
    let memory = (described.memory.bytes() >> 10).to_string();
    domain.push(Element::of_text("memory", &memory));
    let mut os = Element::new("os");
    os.push(Element::of_text("type", "hvm").with("machine", "q35"));
    domain.push(os);
    let mut features = Element::new("features");
    features.push(Element::new("acpi"));
    domain.push(features);
    let mut devices = Element::new("devices");
    for disk in &described.disks {
        let mut element = Element::new("disk").with("type", "file").with("device", "disk");
        if let Some(place) = disk.snapshot {
            element.set("snapshot", location(place).name());
        }
        let image = disk.image();
        let format = if disk.format == language::Format::Raw { "raw" } else { "qcow2" };
        element.push(Element::new("driver").with("name", "qemu").with("type", format));
        element.push(Element::new("source").with("file", folder.join(image).as_str()));
        element.push(Element::new("target").with("dev", &disk.target).with("bus", "virtio"));
        element.push(Element::new("alias").with("name", &format!("{}-device", disk.target)));
        for (is, name) in [(disk.readonly, "readonly"), (disk.shareable, "shareable")] {
            if is {
                element.push(Element::new(name));
            }
        }
        devices.push(element);
    }
    domain.push(devices);
    DomainXml::of(domain)
        .expect("a machine of the language has a name, and its disks have targets of their own")
}

/// The machine that is described, with its images in this folder.
pub fn in_folder(described: &language::Machine, folder: &Utf8Path) -> Machine {
    let language::Machine { disks, state, memory, serial_ports, agent, .. } = described;
    let power = match state {
        language::Power::Running => Power::Running,
        language::Power::Paused => Power::Paused,
        language::Power::Prelaunch => Power::Prelaunch,
    };
    let machine = Machine {
        power,
        memory: memory.bytes(),
        serial_ports: serial_ports.clone(),
        agent: agent.map(agent_of),
        folder: folder.to_owned(),
        ..Machine::new()
    };
    let machine = Machine { chardevs: chardevs(&machine), ..machine };
    disks.iter().fold(machine, |machine, disk| {
        let path = machine.folder.join(disk.image());
        let format = match disk.format {
            language::Format::Qcow2 => Format::Qcow2,
            language::Format::Raw => Format::Raw,
        };
        let (size, readonly) = (disk.size.bytes(), disk.readonly);
        machine.with_disk(Disk { format, size, readonly, ..Disk::new(&disk.target, path) })
    })
}

/// The agent as the simulator takes it.
fn agent_of(agent: language::Agent) -> Agent {
    match agent {
        language::Agent::Linux => Agent::linux(),
        language::Agent::Windows => Agent::windows(),
        language::Agent::Mute => Agent::linux().presence(Presence::Mute),
        language::Agent::Absent => Agent::linux().presence(Presence::Absent),
    }
}

/// The sockets of a machine. They are in the folder that holds the images' folder.
fn chardevs(machine: &Machine) -> Vec<Chardev> {
    let socket = |label: String, name: String, frontend| {
        let path = machine.folder.with_file_name(name);
        Chardev { label, path, frontend: Some(frontend), connected: false }
    };
    let monitors = (0..machine.monitors).map(|number| {
        let name = format!("monitor{number}");
        socket(name.clone(), name, Frontend::Monitor(number))
    });
    let ports = machine
        .serial_ports
        .iter()
        .map(|port| socket(format!("chardev-{port}"), format!("port-{port}"), Frontend::SerialPort));
    let agent = machine
        .agent
        .iter()
        .map(|Agent { port, .. }| socket(format!("chardev-{port}"), format!("port-{port}"), Frontend::Agent));
    monitors.chain(ports).chain(agent).collect()
}
