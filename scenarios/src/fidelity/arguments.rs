//! From QEMU's arguments to the machine that is simulated.
//!
//! Every argument must be known: one that would make another machine than the simulated one is refused, so that
//! nothing is compared with the wrong thing. Those that do not show in what QEMU says ([`UNSEEN`]) are passed over.

use std::collections::BTreeMap;

use freezeframe_sim::{
    Machine,
    machine::{Disk, Format, Power},
};

/// What the folder of the recorder, `$DIR`, is on the simulated host.
pub const FOLDER: &str = "/recorded";

/// What the recorder calls its folder, where it lay.
const RECORDED: [&str; 2] = ["$DIR", "/vm/vm/q"];

/// Options with one value that make no difference to what is compared.
const UNSEEN: [&str; 6] = ["-machine", "-accel", "-cpu", "-display", "-chardev", "-object"];

/// Properties of a disk's device that make none either.
const UNSEEN_OF_DISKS: [&str; 3] = ["id", "drive", "iothread"];

/// The simulator cannot be this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a machine with `{0}`")]
pub struct Unknown(String);

/// A recorded text with the recorder's folder where the simulated host has it.
pub fn in_folder(text: &str) -> String {
    RECORDED.into_iter().fold(text.to_owned(), |text, recorded| text.replace(recorded, FOLDER))
}

/// The machine of these arguments.
///
/// # Errors
/// [`Unknown`], naming the first argument that the simulator cannot follow.
pub fn machine(arguments: &str) -> Result<Machine, Unknown> {
    let arguments = in_folder(arguments);
    let mut machine = Machine { folder: FOLDER.into(), monitors: 0, ..Machine::new() };
    let mut protocol_nodes: BTreeMap<String, String> = BTreeMap::new();
    let mut format_nodes: BTreeMap<String, Disk> = BTreeMap::new();
    let mut words = arguments.split_ascii_whitespace();
    while let Some(option) = words.next() {
        match option {
            "-nodefaults" => continue,
            "-S" => {
                machine.power = Power::Prelaunch;
                continue;
            }
            "-no-shutdown" => {
                machine.no_shutdown = true;
                continue;
            }
            _ => {}
        }
        let value = words.next().unwrap_or_default();
        let unknown = || Unknown(format!("{option} {value}"));
        let (head, properties) = properties(value);
        let property = |name: &str| properties.get(name).copied().ok_or_else(unknown);
        match (option, head) {
            ("-m", _) => machine.memory = value.parse::<u64>().map_err(|_| unknown())? << 20,
            ("-mon", _) => machine.monitors += 1,
            ("-incoming", "defer") => machine.incoming = true,
            ("-blockdev", _) if property("driver")? == "file" => {
                protocol_nodes.insert(property("node-name")?.to_owned(), property("filename")?.to_owned());
            }
            ("-blockdev", _) => {
                let file_node = property("file")?;
                let path = protocol_nodes.get(file_node).ok_or_else(unknown)?;
                let mut disk = Disk::new(property("node-name")?, path.into());
                disk.file_node = file_node.to_owned();
                disk.format = format(property("driver")?).ok_or_else(unknown)?;
                disk.readonly = properties.get("read-only") == Some(&"on");
                format_nodes.insert(disk.target.clone(), disk);
            }
            ("-device", "virtio-blk-pci") => {
                if properties.keys().any(|name| !UNSEEN_OF_DISKS.contains(name)) {
                    return Err(unknown());
                }
                let mut disk = format_nodes.remove(property("drive")?).ok_or_else(unknown)?;
                disk.device = property("id")?.to_owned();
                machine.disks.push(disk);
            }
            ("-device", "virtserialport") => machine.serial_ports.push(property("id")?.to_owned()),
            ("-device", "virtio-serial-pci") => machine.serial_first = machine.disks.is_empty(),
            _ if UNSEEN.contains(&option) => {}
            _ => return Err(unknown()),
        }
    }
    Ok(machine)
}

/// `qcow2` or `raw`.
fn format(driver: &str) -> Option<Format> {
    [Format::Qcow2, Format::Raw].into_iter().find(|format| format.driver() == driver)
}

/// What stands in front of the first property, and the properties.
fn properties(value: &str) -> (&str, BTreeMap<&str, &str>) {
    let head = value.split(',').next().filter(|first| !first.contains('=')).unwrap_or_default();
    (head, value.split(',').filter_map(|part| part.split_once('=')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: &str = "-blockdev driver=file,node-name=file0,filename=$DIR/disk0 \
                        -blockdev driver=qcow2,node-name=disk0,file=file0";

    #[test]
    fn a_disk_keeps_all_its_names() {
        let machine =
            machine(&format!("-S -m 128 {DISK} -device virtio-blk-pci,id=vd0,drive=disk0")).unwrap();
        let disk = &machine.disks[0];
        assert_eq!(
            (disk.target.as_str(), disk.file_node.as_str(), disk.device.as_str()),
            ("disk0", "file0", "vd0")
        );
        assert_eq!(disk.path, "/recorded/disk0");
        assert_eq!((machine.power, machine.memory), (Power::Prelaunch, 128 << 20));
    }

    #[test]
    fn a_machine_that_the_simulator_cannot_be_is_refused() {
        let asked = [
            "-incoming tcp:0:1".to_owned(),
            "-device pcie-root-port,id=rp0".to_owned(),
            format!("{DISK} -device virtio-blk-pci,id=vd0,drive=disk0,werror=stop"),
            "-blockdev driver=blkdebug,node-name=dbg0,image=file0".to_owned(),
        ];
        for arguments in asked {
            assert!(machine(&arguments).is_err(), "{arguments}");
        }
    }
}
