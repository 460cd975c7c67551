//! The machine of a scenario as the simulator takes it; a real QEMU is started from the same description.

use std::time::Duration;

use camino::Utf8Path;
use freezeframe_driver::{
    domain::{Domain, DomainDisk},
    domain_snapshot::Location,
    domain_xml::DomainXml,
    xml::Element,
};
use freezeframe_sim::{
    machine::{
        Actions, Agent, Chardev, Disk, Format, Frontend, Machine, OnError, OtherDevice, Power,
        agent::{Hook, Presence, Script},
    },
    storage::{Kind, Storage},
};

use crate::language::{self, Scenario};

/// The machine that a scenario describes.
pub fn of(scenario: &Scenario) -> Machine {
    in_folder(&scenario.machine, &Machine::new().folder)
}

/// The machine as the driver knows it, with its images in this folder.
pub(crate) fn domain(described: &language::Machine, folder: &Utf8Path) -> Domain {
    let document = document(described, folder);
    let Domain { disks: below, nvram, .. } = Domain::from(document.clone());
    let disks = described.disks.iter().zip(below).map(|(disk, below)| DomainDisk {
        source: below.source,
        format: below.format,
        snapshot: below.snapshot,
        storage: below.storage,
        shareable: disk.shareable,
        transient: disk.transient,
        ..DomainDisk::new(&disk.target, &format!("{}-device", disk.target))
    });
    // Only a record holds it.
    let document = described.records.then_some(document);
    Domain { nvram, transient: described.transient, document, ..Domain::new(NAME, disks.collect()) }
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
pub(crate) fn document(described: &language::Machine, folder: &Utf8Path) -> DomainXml {
    let mut domain = Element::new("domain").with("type", "qemu");
    domain.push(Element::of_text("name", NAME));
    domain.push(Element::of_text("uuid", "6f2d61a4-0000-4000-8000-000000000001"));
    let memory = (described.memory.bytes() >> 10).to_string();
    domain.push(Element::of_text("memory", &memory));
    let mut os = Element::new("os");
    os.push(Element::of_text("type", "hvm").with("machine", "q35"));
    if let (Some([firmware, nvram]), Some(format)) = (described.flash(), described.nvram) {
        let loader = Element::of_text("loader", folder.join(firmware).as_str());
        os.push(loader.with("readonly", "yes").with("type", "pflash"));
        os.push(Element::of_text("nvram", folder.join(nvram).as_str()).with("format", format.name()));
    }
    domain.push(os);
    let mut features = Element::new("features");
    features.push(Element::new("acpi"));
    domain.push(features);
    let mut devices = Element::new("devices");
    for (port, index) in described.root_ports.iter().zip(1..) {
        let index = index.to_string();
        let port = Element::new("alias").with("name", port);
        let mut controller = Element::new("controller")
            .with("type", "pci")
            .with("index", &index)
            .with("model", "pcie-root-port");
        controller.push(Element::new("target").with("chassis", &index));
        controller.push(port);
        devices.push(controller);
    }
    for disk in &described.disks {
        let (kind, source) = source(disk, folder);
        let mut element = Element::new("disk").with("type", kind).with("device", "disk");
        if let Some(place) = disk.snapshot {
            element.set("snapshot", location(place).name());
        }
        element.push(Element::new("driver").with("name", "qemu").with("type", disk.format.name()));
        element.push(source);
        element.push(Element::new("target").with("dev", &disk.target).with("bus", "virtio"));
        element.push(Element::new("alias").with("name", &format!("{}-device", disk.target)));
        let port = disk.root_port.as_ref();
        if let Some(bus) = port.and_then(|port| described.root_ports.iter().position(|known| known == port)) {
            let bus = (bus + 1).to_string();
            element.push(Element::new("address").with("type", "pci").with("bus", &bus).with("slot", "0"));
        }
        if let Some(storage) = disk.storage {
            let said = disk_snapshot(storage, folder);
            element.push(match &disk.quiesce {
                Some(quiesce) => said.with("quiesce", quiesce),
                None => said,
            });
        }
        let said =
            [(disk.readonly, "readonly"), (disk.shareable, "shareable"), (disk.transient, "transient")];
        for (is, name) in said {
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

/// What kind of source a disk has, and the source.
fn source(disk: &language::Disk, folder: &Utf8Path) -> (&'static str, Element) {
    let source = Element::new("source");
    let image = folder.join(disk.image());
    match disk.storage.and_then(|storage| storage.volume(&disk.target).map(|volume| (storage.name(), volume)))
    {
        Some(("rbd", image)) => ("network", source.with("protocol", "rbd").with("name", &image)),
        Some(_) => ("block", source.with("dev", image.as_str())),
        None => ("file", source.with("file", image.as_str())),
    }
}

/// The description as it is once somebody has edited it.
pub(crate) fn anew(document: DomainXml, by: &language::Describe) -> DomainXml {
    let language::Describe { memory, cpu, tpm, disks: _, formats } = by;
    let mut domain = document.element().clone();
    if let (Some(size), Some(memory)) = (memory, domain.child_mut("memory")) {
        *memory = Element::of_text("memory", &(size.bytes() >> 10).to_string());
    }
    if let Some(model) = cpu {
        let mut cpu = Element::new("cpu").with("mode", "custom").with("match", "exact");
        cpu.push(Element::of_text("model", model));
        domain.push(cpu);
    }
    if let Some(devices) = domain.child_mut("devices").filter(|_| *tpm) {
        let mut tpm = Element::new("tpm").with("model", "tpm-crb");
        tpm.push(Element::new("backend").with("type", "emulator").with("version", "2.0"));
        devices.push(tpm);
    }
    for disk in domain.child_mut("devices").into_iter().flat_map(Element::elements_mut) {
        let target = disk.child("target").and_then(|target| target.attribute("dev"));
        let format = target.and_then(|target| formats.get(target));
        if let (Some(format), Some(driver)) = (format, disk.child_mut("driver")) {
            driver.set("type", format.name());
        }
    }
    DomainXml::of(domain).expect("its name and its disks are what they were")
}

/// The machine that is described, with its images in this folder.
pub fn in_folder(described: &language::Machine, folder: &Utf8Path) -> Machine {
    let language::Machine {
        disks,
        state,
        memory,
        serial_ports,
        root_ports,
        agent,
        agent_hook,
        frozen_before,
        panic,
        watchdog,
        ..
    } = described;
    let power = match state {
        language::Power::Running => Power::Running,
        language::Power::Paused => Power::Paused,
        // What never ran leaves nothing behind when it is ended.
        language::Power::Prelaunch | language::Power::Off => Power::Prelaunch,
    };
    // The oldest release has no other word for it.
    let stays_after_shutdown = *panic == Some(language::OnPanic::Pause);
    let mut actions = Actions { stays_after_shutdown, ..Actions::default() };
    if let Some(watchdog) = watchdog {
        let known = actions.set("watchdog", watchdog.name());
        debug_assert!(known.is_some(), "QEMU knows it");
    }
    let pvpanic = panic.map(|_| OtherDevice { id: "pvpanic".to_owned(), model: "pvpanic" });
    let machine = Machine {
        power,
        actions,
        others: pvpanic.into_iter().collect(),
        watchdog: watchdog.is_some(),
        memory: memory.bytes(),
        serial_ports: serial_ports.clone(),
        root_ports: root_ports.clone(),
        agent: agent.map(|agent| Agent {
            hook: agent_hook.map(hook_of),
            frozen_before: frozen_before.clone(),
            ..agent_of(agent)
        }),
        folder: folder.to_owned(),
        storage: storage_of(disks, folder),
        ..Machine::new()
    };
    let machine = Machine { chardevs: chardevs(&machine), ..machine };
    let machine = flash_of(described, folder).into_iter().fold(machine, Machine::with_disk);
    disks.iter().fold(machine, |machine, disk| {
        let path = machine.folder.join(disk.image());
        let format = format_of(disk.format);
        let (size, readonly) = (disk.size.bytes(), disk.readonly);
        let on_write_error = match disk.werror {
            language::OnWriteError::Enospc => OnError::Enospc,
            language::OnWriteError::Stop => OnError::Stop,
            language::OnWriteError::Report => OnError::Report,
            language::OnWriteError::Ignore => OnError::Ignore,
        };
        let bus = disk.root_port.clone();
        machine.with_disk(Disk {
            format,
            size,
            readonly,
            on_write_error,
            bus,
            ..Disk::new(&disk.target, path)
        })
    })
}

fn format_of(format: language::Format) -> Format {
    match format {
        language::Format::Qcow2 => Format::Qcow2,
        language::Format::Raw => Format::Raw,
    }
}

/// The board's flash: the firmware, which nobody writes to, and its variables.
fn flash_of(described: &language::Machine, folder: &Utf8Path) -> Vec<Disk> {
    let (Some([firmware, nvram]), Some(format)) = (described.flash(), described.nvram) else {
        return Vec::new();
    };
    let firmware = Disk { readonly: true, ..Disk::flash(0, folder.join(firmware)) };
    vec![firmware, Disk { format: format_of(format), ..Disk::flash(1, folder.join(nvram)) }]
}

/// What says that this storage takes a disk in this folder.
pub(crate) fn disk_snapshot(storage: language::DiskStorage, folder: &Utf8Path) -> Element {
    let said = Element::new(freezeframe_driver::disk::ELEMENT).with("method", storage.name());
    match storage {
        language::DiskStorage::Zfs => said.with("volume", data_set(folder)),
        language::DiskStorage::Exec => said.with("program", language::DiskStorage::PROGRAM),
        language::DiskStorage::Lvm => said.with("room", language::DiskStorage::ROOM),
        language::DiskStorage::RbdGroup => said.with("group", language::DiskStorage::GROUP),
        language::DiskStorage::Btrfs
        | language::DiskStorage::Reflink
        | language::DiskStorage::LvmThin
        | language::DiskStorage::Rbd => said,
    }
}

/// The data set that is mounted there.
fn data_set(folder: &Utf8Path) -> &str {
    folder.as_str().trim_start_matches('/')
}

/// What lies below the disks' images, or is them.
fn storage_of(disks: &[language::Disk], folder: &Utf8Path) -> Storage {
    let said = disks.iter().filter_map(|disk| Some((disk.storage?, disk.storage?.volume(&disk.target))));
    let mut group = Vec::new();
    let below = said.fold(Storage::new(), |below, (storage, volume)| {
        let volume = volume.unwrap_or_default();
        match storage {
            language::DiskStorage::Btrfs => {
                below.with_btrfs(folder.parent().unwrap_or(folder)).with_subvolume(folder)
            }
            language::DiskStorage::Reflink => below.with_shared_blocks(folder),
            language::DiskStorage::Zfs => below.with_data_set(data_set(folder)),
            language::DiskStorage::Exec => below.with_program(language::DiskStorage::PROGRAM),
            language::DiskStorage::Lvm => below.with_logical_volume(&volume, Kind::Thick),
            language::DiskStorage::LvmThin => below.with_logical_volume(&volume, Kind::Thin),
            language::DiskStorage::Rbd => below.with_image(&volume),
            language::DiskStorage::RbdGroup => {
                let below = below.with_image(&volume);
                group.push(volume);
                below
            }
        }
    });
    let members: Vec<&str> = group.iter().map(String::as_str).collect();
    if members.is_empty() { below } else { below.with_group(language::DiskStorage::GROUP, &members) }
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

/// The agent's hook as the simulator takes it.
fn hook_of(hook: language::AgentHook) -> Hook {
    let script = |script: language::HookScript| Script {
        takes: script.takes.map_or(Duration::ZERO, |takes| takes.duration()),
        status: script.status,
    };
    Hook { freeze: script(hook.freeze), thaw: script(hook.thaw) }
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
