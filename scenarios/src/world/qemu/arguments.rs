//! The command line of a real QEMU.

use std::fmt::Write as _;

use camino::Utf8Path;
use freezeframe_sim::machine::{Disk, DiskModel, Machine, OnError, Power};

use super::Binary;
use crate::world::guest::{self, Guest};

/// The command line that makes of QEMU the machine that the simulator would simulate.
pub(super) fn arguments(
    machine: &Machine,
    binary: &Binary,
    root: &Utf8Path,
    images: &Utf8Path,
    guest: Option<&Guest>,
) -> Vec<String> {
    let memory = guest.map_or(machine.memory, |_| machine.memory.max(guest::MEMORY_MIN));
    let mut line = format!(
        "-nodefaults -no-user-config -display none -machine q35{} -accel {} -m {}",
        flash(machine),
        binary.launch.accel,
        memory >> 20
    );
    if machine.power == Power::Prelaunch {
        line += " -S";
    }
    if machine.incoming {
        line += " -incoming defer";
    }
    if machine.actions.stays_after_shutdown {
        line += " -no-shutdown";
    }
    let mut arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
    arguments.extend(binary.sandbox_arguments());
    arguments.extend(guest.into_iter().flat_map(|guest| guest.arguments(root)));
    let mut push = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
    for number in 0..machine.monitors {
        let mut socket = format!("socket,id=monitor{number},server=on,wait=off,path=");
        let _ = write!(socket, "{}", escaped(&root.join(format!("monitor{number}"))));
        push("-chardev", socket);
        push("-mon", format!("chardev=monitor{number},mode=control"));
    }
    for (port, chassis) in machine.root_ports.iter().zip(1..) {
        push("-device", format!("pcie-root-port,id={port},chassis={chassis}"));
    }
    for disk in &machine.disks {
        let Disk { target, format, readonly, path, model, .. } = disk;
        let file = images.join(path.file_name().unwrap_or(target));
        let readonly = if *readonly { "on" } else { "off" };
        let filename = escaped(&file);
        push(
            "-blockdev",
            format!("driver=file,node-name={target}-file,read-only={readonly},filename={filename}"),
        );
        let format = format.driver();
        push(
            "-blockdev",
            format!("driver={format},node-name={target},read-only={readonly},file={target}-file"),
        );
        if *model == DiskModel::Flash {
            continue;
        }
        push("-device", disk_device(disk, guest));
    }
    for device in &machine.others {
        push("-device", format!("{},id={}", device.model, device.id));
    }
    if machine.watchdog {
        push("-device", "ib700".to_owned());
        push("-watchdog-action", machine.actions.watchdog.to_owned());
    }
    let named = |(number, port): (usize, &String)| (port.clone(), format!("org.freezeframe.{number}"));
    let ports = machine.serial_ports.iter().enumerate().map(named);
    let agent = guest.and(machine.agent.as_ref()).map(|agent| (agent.port.clone(), guest::AGENT.to_owned()));
    for (number, (port, name)) in ports.chain(agent).enumerate() {
        if number == 0 {
            push("-device", "virtio-serial-pci".to_owned());
        }
        let path = escaped(&root.join(format!("port-{port}")));
        push("-chardev", format!("socket,id=chardev-{port},server=on,wait=off,path={path}"));
        push("-device", format!("virtserialport,chardev=chardev-{port},id={port},name={name}"));
    }
    arguments
}

/// The device of a disk.
fn disk_device(disk: &Disk, guest: Option<&Guest>) -> String {
    let Disk { target, bus, on_write_error, .. } = disk;
    let mut device = format!("virtio-blk-pci,id={target}-device,drive={target}");
    if let Some(bus) = bus {
        let _ = write!(device, ",bus={bus}");
    }
    if *on_write_error != OnError::Enospc {
        let _ = write!(device, ",werror={}", on_write_error.name());
    }
    if guest.is_some() {
        // By it a guest that boots knows which is which.
        let _ = write!(device, ",serial={target}");
    }
    device
}

/// What gives the board its flash.
fn flash(machine: &Machine) -> String {
    let flash = machine.disks.iter().filter(|disk| disk.model == DiskModel::Flash);
    flash.map(|Disk { target, .. }| format!(",{target}={target}")).collect()
}

/// A path inside a comma-separated option: QEMU reads two commas as one.
pub(in crate::world) fn escaped(path: &Utf8Path) -> String {
    path.as_str().replace(',', ",,")
}
