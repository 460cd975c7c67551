//! The buses of a machine that is put together, and which places on them are taken.
//!
//! ```text
//! the chipset's own -- added by each controller, in the order of their indexes -- plug: a name and a free place, or why not
//! ```
//! QEMU takes its devices one by one: a bus has to be there before what is plugged into it, and has each place once. A document
//! in which that does not hold is refused here, while nothing has been touched, and not by a QEMU that is to follow one that has
//! been ended. Of devices without an address nothing is known: QEMU looks for their places itself.
//!
//! Source: QEMU's `do_pci_register_device`, `pci_init_multifunction`, `virtser_port_device_realize`, `usb_claim_port`.

use std::{collections::BTreeMap, ops::RangeInclusive};

/// What kind of bus it is: the documents count the controllers of each kind by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Places are slot, function, and nothing.
    Pci,
    /// Of virtio ports: port.
    Serial,
    /// Channel, target, unit.
    Scsi,
    /// Bus, target, unit.
    Ide,
    /// The like.
    Sata,
    /// Port.
    Usb,
}

/// A place on a bus: what does not count there is 0.
pub(super) type Place = [u32; 3];

#[derive(Debug)]
struct Bus {
    /// What QEMU calls it.
    name: String,
    places: [RangeInclusive<u32>; 3],
    /// The places in use, each with whether what is there says that its slot has further functions.
    taken: BTreeMap<Place, bool>,
}

/// All buses so far, by their kinds and the indexes of their controllers.
#[derive(Debug)]
pub(super) struct Buses(BTreeMap<(Kind, u32), Bus>);

impl Buses {
    /// Those that the chipset has of itself, with what it has plugged into them.
    pub(super) fn of_chipset(is_q35: bool) -> Self {
        let mut buses = Self(BTreeMap::new());
        let only = 0..=0;
        let (root, own) = if is_q35 {
            buses.add(Kind::Sata, 0, "ide", [only.clone(), only, 0..=5]);
            ("pcie.0", [[0, 0, 0], [0x1f, 0, 0], [0x1f, 2, 0], [0x1f, 3, 0]])
        } else {
            buses.add(Kind::Ide, 0, "ide", [0..=1, only, 0..=1]);
            ("pci.0", [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 3, 0]])
        };
        buses.add_pci(0, root, 0..=31);
        if let Some(bus) = buses.0.get_mut(&(Kind::Pci, 0)) {
            // All of them but the host's bridge say that others are beside them.
            bus.taken.extend(own.map(|place| (place, place[0] != 0)));
        }
        buses
    }

    /// Adds the bus of a controller.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        index: u32,
        name: impl Into<String>,
        places: [RangeInclusive<u32>; 3],
    ) {
        self.0.insert((kind, index), Bus { name: name.into(), places, taken: BTreeMap::new() });
    }

    /// Adds a bus for PCI devices that has these slots.
    pub(super) fn add_pci(&mut self, index: u32, name: impl Into<String>, slots: RangeInclusive<u32>) {
        self.add(Kind::Pci, index, name, [slots, 0..=7, 0..=0]);
    }

    /// Adds a bus for virtio ports; QEMU gives it 31 if it is not told. Port 0 is for consoles.
    pub(super) fn add_serial(&mut self, index: u32, name: impl Into<String>, ports: Option<u32>) {
        let last = ports.unwrap_or(31).saturating_sub(1);
        self.add(Kind::Serial, index, name, [1..=last, 0..=0, 0..=0]);
    }

    /// What QEMU calls a bus; or what is wanted in vain.
    pub(super) fn name(&self, kind: Kind, index: u32) -> Result<&str, String> {
        let bus = self.0.get(&(kind, index));
        bus.map(|bus| bus.name.as_str())
            .ok_or_else(|| format!("a device on {}, which is not there", told(kind, index)))
    }

    /// Takes a place, and says what QEMU calls the bus; or what is wanted in vain.
    pub(super) fn plug(
        &mut self,
        kind: Kind,
        index: u32,
        place: Place,
        is_multiple: bool,
    ) -> Result<&str, String> {
        self.name(kind, index)?;
        let Some(bus) = self.0.get_mut(&(kind, index)) else { return Ok("") };
        let [one, two, three] = place;
        let at = match kind {
            Kind::Pci => format!("slot {one:#x}, function {two} of {}", told(kind, index)),
            Kind::Serial | Kind::Usb => format!("port {one} of {}", told(kind, index)),
            Kind::Scsi | Kind::Ide | Kind::Sata => format!("{one}:{two}:{three} of {}", told(kind, index)),
        };
        if !bus.places.iter().zip(place).all(|(known, number)| known.contains(&number)) {
            return Err(format!("a device in {at}, which has no such place"));
        }
        if bus.taken.contains_key(&place) {
            return Err(format!("two devices in {at}"));
        }
        bus.taken.insert(place, is_multiple);
        if kind == Kind::Pci {
            let mut functions = bus.taken.range([one, 0, 0]..=[one, 7, 0]);
            let first = functions.next();
            // QEMU needs to be told at function 0; where there is none, nobody finds the others, and QEMU does not mind.
            if functions.next().is_some() && matches!(first, Some(([_, 0, _], false))) {
                return Err(format!(
                    "more than one device in slot {one:#x} of {} without `multifunction='on'`",
                    told(kind, index)
                ));
            }
        }
        Ok(&bus.name)
    }
}

fn told(kind: Kind, index: u32) -> String {
    match kind {
        Kind::Pci => format!("PCI bus {index}"),
        Kind::Serial => format!("the virtio-serial controller {index}"),
        Kind::Scsi => format!("the scsi controller {index}"),
        Kind::Ide => format!("the ide controller {index}"),
        Kind::Sata => format!("the sata controller {index}"),
        Kind::Usb => format!("USB bus {index}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once_and_only_where_it_is() {
        let mut buses = Buses::of_chipset(true);
        buses.add_pci(1, "pci.1", 0..=0);
        let mut plug = |bus, slot, function, more| {
            buses.plug(Kind::Pci, bus, [slot, function, 0], more).map(str::to_owned)
        };
        assert_eq!(plug(0, 1, 0, true).unwrap(), "pcie.0");
        assert_eq!(plug(0, 1, 1, false).unwrap(), "pcie.0");
        assert_eq!(plug(1, 0, 0, false).unwrap(), "pci.1");
        // The chipset's own say that there are others.
        plug(0, 0x1f, 5, false).unwrap();
        for (place, words) in [
            ((0, 1, 1), "two devices in slot 0x1, function 1 of PCI bus 0"),
            ((0, 0x1f, 2), "two devices in slot 0x1f, function 2 of PCI bus 0"),
            ((0, 32, 0), "a device in slot 0x20, function 0 of PCI bus 0, which has no such place"),
            ((1, 1, 0), "a device in slot 0x1, function 0 of PCI bus 1, which has no such place"),
            ((1, 0, 1), "more than one device in slot 0x0 of PCI bus 1 without `multifunction='on'`"),
            ((2, 0, 0), "a device on PCI bus 2, which is not there"),
        ] {
            assert_eq!(plug(place.0, place.1, place.2, false).unwrap_err(), words);
        }
    }

    #[test]
    fn each_chipset_has_its_own_drives() {
        let (q35, pc) = (&mut Buses::of_chipset(true), &mut Buses::of_chipset(false));
        assert_eq!(q35.plug(Kind::Sata, 0, [0, 0, 5], false), Ok("ide"));
        assert_eq!(pc.plug(Kind::Ide, 0, [1, 0, 1], false), Ok("ide"));
        let absent = "a device in 0:0:6 of the sata controller 0, which has no such place";
        assert_eq!(q35.plug(Kind::Sata, 0, [0, 0, 6], false), Err(absent.to_owned()));
        let absent = "a device on the sata controller 0, which is not there";
        assert_eq!(pc.plug(Kind::Sata, 0, [0, 0, 0], false), Err(absent.to_owned()));
        let absent = "a device on the ide controller 0, which is not there";
        assert_eq!(q35.plug(Kind::Ide, 0, [0, 0, 0], false), Err(absent.to_owned()));
    }
}
