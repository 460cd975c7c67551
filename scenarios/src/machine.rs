//! The machine of a scenario as the simulator takes it; a real QEMU is started from the same description.

use camino::Utf8Path;
use freezeframe_sim::machine::{Agent, Chardev, Disk, Format, Frontend, Machine, Power, agent::Presence};

use crate::language::{self, Scenario};

/// The machine that a scenario describes.
pub fn of(scenario: &Scenario) -> Machine {
    in_folder(&scenario.machine, &Machine::new().folder)
}

/// The machine that is described, with its images in this folder.
pub fn in_folder(described: &language::Machine, folder: &Utf8Path) -> Machine {
    let language::Machine { disks, state, memory, serial_ports, agent } = described;
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
    monitors.chain(ports).collect()
}
