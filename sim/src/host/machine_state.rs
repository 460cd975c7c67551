//! The state of a whole machine, as `migrate` writes it and an incoming machine reads it.
//!
//! What is in it shows in no reply, so it is not kept: only what decides whether another machine can load it, and how
//! the machine stands then. Whoever reads the file finds how QEMU begins and ends it, and NULs between.

use std::{sync::Arc, time::Duration};

use crate::guest::Guest;

/// A machine's state, apart from its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineState {
    /// Where in the file it begins, in bytes: what stands before it is none of QEMU's.
    pub at: u64,
    /// Whether each page of memory has its own place in the file (`mapped-ram`).
    pub mapped: bool,
    /// Of what machine.
    pub hardware: Arc<Hardware>,
    /// How long the guest had run.
    pub clock: Duration,
    /// What ran on it, if that is known.
    pub memory: Option<Box<Guest>>,
    /// How the machine stood, by QAPI's `RunState`: `running`, `paused`.
    pub run_state: &'static str,
    /// Length in bytes, as it was written.
    pub size: u64,
    /// As many bytes of it are there: the rest of the file has been lost otherwise.
    pub kept: u64,
}

impl MachineState {
    /// Whether all is there that QEMU reads: not the description behind the end.
    pub fn is_whole(&self) -> bool {
        self.kept + self.description().len() as u64 >= self.size
    }

    /// Length of the file in bytes.
    pub fn file_length(&self) -> u64 {
        self.at + self.kept
    }

    /// The bytes of the file from `from` on, `most` at most; NULs before the state begins.
    pub fn read_at(&self, from: u64, most: usize) -> Vec<u8> {
        let end = self.file_length().min(from.saturating_add(most as u64));
        let description = self.description();
        // The last section's footer, and the end.
        let parts = [
            (self.at, b"QEVM\0\0\0\x03\x07\0\0\0\x03q35".to_vec()),
            ((self.at + self.size).saturating_sub(description.len() as u64 + 6), vec![0x7e, 0, 0, 0, 38, 0]),
            ((self.at + self.size).saturating_sub(description.len() as u64), description),
        ];
        let index = |place: u64| usize::try_from(place).expect("a part that was asked for fits in memory");
        let mut bytes = vec![0; index(end.saturating_sub(from))];
        for (at, part) in parts {
            let first = at.max(from);
            let last = (at + part.len() as u64).min(end);
            if first < last {
                bytes[index(first - from)..index(last - from)]
                    .copy_from_slice(&part[index(first - at)..index(last - at)]);
            }
        }
        bytes
    }

    /// What QEMU writes behind the end for programs that read such files: a mark, a length and JSON.
    fn description(&self) -> Vec<u8> {
        let devices = self.hardware.devices.iter().map(|device| device.section());
        let names = ["timer", "cpu_common", "ram"].into_iter().chain(devices);
        let devices: Vec<_> =
            names.map(|name| serde_json::json!({ "name": name, "instance_id": 0 })).collect();
        let text = serde_json::json!({ "page_size": 4096, "devices": devices }).to_string();
        let length = u32::try_from(text.len()).expect("a machine has few devices");
        [&[6], length.to_be_bytes().as_slice(), text.as_bytes()].concat()
    }
}

/// The hardware that a machine state is of: what has to be there when it is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hardware {
    /// Guest memory in bytes.
    pub memory: u64,
    /// The first slot of the PCI bus that the chipset leaves free.
    pub first_slot: usize,
    /// The devices in their slots, from that one on.
    pub devices: Vec<PciDevice>,
}

/// What stands in a slot of the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PciDevice {
    /// A disk.
    VirtioBlk,
    /// The controller of serial ports.
    VirtioSerial,
    /// A controller of SCSI drives.
    VirtioScsi,
}

impl PciDevice {
    /// How its part of a machine state is called.
    fn section(self) -> &'static str {
        match self {
            PciDevice::VirtioBlk => "virtio-blk",
            PciDevice::VirtioSerial => "virtio-console",
            PciDevice::VirtioScsi => "virtio-scsi",
        }
    }
}

/// Why a machine state is none of this machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is of a machine with less or more memory.
    Memory,
    /// It has a part that no device of this machine takes: its name.
    Section(String),
}

impl Hardware {
    /// Whether a state of `saved` can be loaded here. A device that the state knows nothing of is no reason against it.
    ///
    /// # Errors
    /// The first reason why not, in the order in which a state is read: memory, then devices.
    pub fn takes(&self, saved: &Hardware) -> Result<(), Unfit> {
        if self.memory != saved.memory {
            return Err(Unfit::Memory);
        }
        for (place, device) in saved.devices.iter().enumerate() {
            if self.devices.get(place) != Some(device) {
                return Err(Unfit::Section(format!(
                    "0000:00:{:02x}.0/{}",
                    self.first_slot + place,
                    device.section()
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: [PciDevice; 2] = [PciDevice::VirtioSerial, PciDevice::VirtioBlk];

    fn hardware(memory: u64, devices: &[PciDevice]) -> Hardware {
        Hardware { memory, first_slot: 1, devices: devices.to_vec() }
    }

    #[test]
    fn a_state_fits_a_machine_that_has_more_devices() {
        let more = [SAVED.as_slice(), &[PciDevice::VirtioBlk]].concat();
        assert_eq!(hardware(1, &more).takes(&hardware(1, &SAVED)), Ok(()));
    }

    #[test]
    fn the_first_device_that_is_not_there_is_named_by_its_slot() {
        let here = hardware(1, &[PciDevice::VirtioBlk]);
        let section = "0000:00:01.0/virtio-console".to_owned();
        assert_eq!(here.takes(&hardware(1, &SAVED)), Err(Unfit::Section(section)));
    }

    fn state(size: u64) -> MachineState {
        MachineState {
            at: 65536,
            mapped: false,
            hardware: hardware(1, &SAVED).into(),
            clock: Duration::ZERO,
            memory: None,
            run_state: "running",
            size,
            kept: size,
        }
    }

    #[test]
    fn its_file_begins_and_ends_as_qemu_writes_it_and_is_read_in_parts_as_a_whole() {
        let state = state(900_350);
        let bytes = state.read_at(0, usize::MAX);
        assert_eq!(bytes.len() as u64, state.file_length());
        assert!(bytes[65536..].starts_with(b"QEVM\0\0\0\x03"));
        let mark = bytes.len() - state.description().len();
        assert_eq!(bytes[mark - 6..=mark], [0x7e, 0, 0, 0, 38, 0, 6]);
        let length = u32::from_be_bytes(bytes[mark + 1..mark + 5].try_into().unwrap());
        assert_eq!(mark + 5 + length as usize, bytes.len());
        let parts: Vec<u8> =
            (0..bytes.len()).step_by(7001).flat_map(|from| state.read_at(from as u64, 7001)).collect();
        assert!(parts == bytes);
    }

    #[test]
    fn qemu_needs_all_but_the_description() {
        let size = 900_350;
        let whole = state(size);
        let described = whole.description().len() as u64;
        let left = |kept| MachineState { kept, ..whole.clone() };
        assert!(left(size - 1).is_whole() && left(size - described).is_whole());
        assert!(!left(size - described - 1).is_whole());
    }

    #[test]
    fn memory_is_looked_at_before_devices() {
        assert_eq!(hardware(2, &[]).takes(&hardware(1, &SAVED)), Err(Unfit::Memory));
    }
}
