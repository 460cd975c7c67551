//! The state of a whole machine, as `migrate` writes it and an incoming machine reads it.
//!
//! What is in it shows in no reply, so it is not kept: only what decides whether another machine can load it, and how
//! the machine stands then.

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
    /// Length in bytes.
    pub size: u64,
    /// Whether all of it was written; the rest of it is missing otherwise.
    pub whole: bool,
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

    #[test]
    fn memory_is_looked_at_before_devices() {
        assert_eq!(hardware(2, &[]).takes(&hardware(1, &SAVED)), Err(Unfit::Memory));
    }
}
