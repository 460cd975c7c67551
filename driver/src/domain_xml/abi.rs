//! Whether two descriptions are of one machine, as the guest sees it: only then the memory of one fits the other.
//!
//! Everything that is not known to be invisible to the guest has to be the same, in the same order. What is invisible: words for
//! people, what images the disks are in and how the host treats them, how much memory is given at the moment, the names that only
//! the host knows, and the host's end of whatever joins the guest to it: terminals and sockets, displays, networks, sources of
//! random numbers. libvirt writes these anew at each start.
//!
//! Source: libvirt's `virDomainDefCheckABIStability`, and the checks of the single devices that it calls.

use super::{DomainXml, size};
use crate::xml::Element;

/// The elements that a guest does not see, in those that hold them.
fn unseen_in(element: &str) -> &'static [&'static str] {
    match element {
        "domain" | "inactiveDomain" => &[
            "title",
            "description",
            "metadata",
            "resource",
            "seclabel",
            "currentMemory",
            "memoryBacking",
            "memtune",
            "blkiotune",
            "cputune",
            "numatune",
            "on_poweroff",
            "on_reboot",
            "on_crash",
        ],
        "devices" => &["emulator", "graphics", "audio"],
        "disk" => &["driver", "source", "backingStore", "mirror", "transient", "iotune"],
        "serial" | "parallel" | "console" | "channel" => &["source", "log", "protocol"],
        "interface" => &[
            "source",
            "target",
            "backend",
            "bandwidth",
            "filterref",
            "link",
            "portForward",
            "virtualport",
            "vlan",
        ],
        "filesystem" | "redirdev" => &["source"],
        "rng" => &["backend", "rate"],
        "memballoon" => &["stats"],
        _ => &[],
    }
}

impl DomainXml {
    /// Where the guest would see a difference between this machine and another; nowhere if it would see none.
    pub fn differs_from(&self, other: &DomainXml) -> Option<String> {
        difference(&self.element, &other.element, "")
    }
}

/// The first difference, as a path and what is there: `memory: 65536 here, 131072 there`.
fn difference(one: &Element, other: &Element, place: &str) -> Option<String> {
    let name = &one.name;
    let place = if place.is_empty() { String::new() } else { format!("{place}/") };
    // The root's own name may be `inactiveDomain`.
    let place = if name == "domain" { String::new() } else { format!("{place}{name}") };
    let told =
        |element: Option<&Element>| element.map_or("none".to_owned(), |found| format!("`<{}>`", found.name));
    let attributes = |element: &Element, but: &str| {
        let is_told = |name: &str| is_seen(&element.name, name) && name != but;
        let mut seen: Vec<_> = element.attributes.iter().filter(|(name, _)| is_told(name)).cloned().collect();
        seen.sort();
        seen
    };
    let text = |element: &Element| element.text().trim().to_owned();
    let is_same = match is_one_size(one, other) {
        true => attributes(one, "unit") == attributes(other, "unit"),
        false => attributes(one, "") == attributes(other, "") && text(one) == text(other),
    };
    if !is_same {
        let told = |element: &Element| {
            let attributes =
                attributes(element, "").into_iter().map(|(name, value)| format!("{name}='{value}'"));
            let words: Vec<_> =
                attributes.chain([text(element)].into_iter().filter(|text| !text.is_empty())).collect();
            words.join(" ")
        };
        return Some(format!("{place}: {} here, {} there", told(one), told(other)));
    }
    let (mut here, mut there) = (seen(one).into_iter(), seen(other).into_iter());
    loop {
        match (here.next(), there.next()) {
            (None, None) => return None,
            (Some(one), Some(other)) if one.name == other.name => {
                if let Some(found) = difference(one, other, &place) {
                    return Some(found);
                }
            }
            (one, other) => {
                let place = if place.is_empty() { "domain" } else { &place };
                return Some(format!("{place}: {} here, {} there", told(one), told(other)));
            }
        }
    }
}

/// What of an element the guest sees. Of devices it sees the order among their like alone, and of controllers none but their
/// indexes: libvirt moves them.
fn seen(element: &Element) -> Vec<&Element> {
    let unseen = unseen_in(&element.name);
    let is_seen = |inner: &&Element| !unseen.contains(&inner.name.as_str()) && inner.name != "alias";
    let mut seen: Vec<_> = element.elements().filter(is_seen).collect();
    if element.name == "devices" {
        let told = |device: &'_ Element, name| device.attribute(name).unwrap_or_default().to_owned();
        seen.sort_by_cached_key(|device| {
            let is_controller = device.name == "controller";
            let place = || (told(device, "type"), told(device, "index").parse().unwrap_or(0_u32));
            (device.name.clone(), is_controller.then(place))
        });
    }
    seen
}

/// Whether a guest sees what an attribute of an element says. libvirt's number of a running machine, how the host's end of a device
/// is made, and what a snapshot does with a disk are the host's affair.
fn is_seen(element: &str, attribute: &str) -> bool {
    !matches!(
        (element, attribute),
        ("domain" | "inactiveDomain", "id")
            | ("memory", "dumpCore")
            | ("vcpu", "cpuset" | "placement")
            | ("cpu", "check")
            | ("model", "fallback")
            | ("disk", "type" | "snapshot")
            | ("serial" | "parallel" | "console" | "channel" | "interface" | "redirdev", "type")
            | ("console", "tty")
            | ("target", "state")
            | ("interface", "trustGuestRxFilters")
            | ("watchdog", "action")
    ) && !attribute.starts_with("xmlns")
}

/// Whether two elements state one size, in whatever units.
fn is_one_size(one: &Element, other: &Element) -> bool {
    matches!(one.name.as_str(), "memory" | "maxMemory")
        && size::bytes(one).is_some_and(|bytes| size::bytes(other) == Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "<domain type='kvm' id='3'><name>vm</name><memory>65536</memory><devices>
        <emulator>/qemu</emulator><disk type='file' device='disk' snapshot='no'><driver type='qcow2'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>
        <interface type='network'><mac address='52:54:00:00:00:01'/><source network='a'/><target dev='vnet1'/></interface>
        <serial type='pty'><source path='/dev/pts/1'/><target type='isa-serial' port='0'/></serial>
        <console type='pty' tty='/dev/pts/1'><source path='/dev/pts/1'/><target type='serial' port='0'/></console>
        <channel type='unix'><source mode='bind' path='/run/3/agent'/><target type='virtio' name='agent' state='connected'/></channel>
        <graphics type='vnc' port='5900' autoport='yes'><listen type='address' address='127.0.0.1'/></graphics>
        <rng model='virtio'><backend model='random'>/dev/random</backend></rng></devices></domain>";

    fn difference(from: &str, to: &str) -> Option<String> {
        let other = MACHINE.replace(from, to);
        assert_ne!(other, MACHINE);
        let read = |text: &str| DomainXml::read(text.as_bytes()).unwrap();
        read(MACHINE).differs_from(&read(&other))
    }

    #[test]
    fn where_the_images_are_makes_no_other_machine() {
        for (from, to) in [
            ("/a'", "/b'"),
            (" id='3'", ""),
            ("type='qcow2'", "type='raw'"),
            ("<name>", "<title>a machine</title><name>"),
            (" snapshot='no'", ""),
            ("</disk>", "<alias name='virtio-disk0'/></disk>"),
            (">65536<", " unit='MiB'>64<"),
            (">65536<", " unit='KiB' dumpCore='off'>65536<"),
            ("/qemu", "/qemu-of-another-name"),
            ("/dev/pts/1", "/dev/pts/2"),
            ("<serial type='pty'><source path='/dev/pts/1'/>", "<serial type='null'><log file='/l'/>"),
            ("/run/3/agent", "/run/4/agent"),
            ("port='5900'", "port='5901' passwd='sesame'"),
            ("network='a'/><target dev='vnet1'/>", "network='b'/><target dev='vnet7'/>"),
            ("state='connected'", "state='disconnected'"),
            ("/dev/random", "/dev/urandom"),
        ] {
            assert_eq!(difference(from, to), None, "{from} {to}");
        }
    }

    /// libvirt 9.0 tells these of one guest, started twice: another terminal, port, socket and order of controllers.
    #[test]
    fn a_machine_is_the_same_at_its_next_start() {
        let first = include_bytes!("../../tests/libvirt-9.0-running/dumpxml-start-1.xml");
        let second = include_bytes!("../../tests/libvirt-9.0-running/dumpxml-start-2.xml");
        let [first, second] = [&first[..], &second[..]].map(|text| DomainXml::read(text).unwrap());
        assert_eq!(first.differs_from(&second), None);
        assert_eq!(second.differs_from(&first), None);
    }

    #[test]
    fn what_the_guest_sees_makes_another_machine() {
        for (from, to, told) in [
            ("65536", "131072", "memory: 65536 here, 131072 there"),
            (">65536<", " unit='MiB'>65<", "memory: 65536 here, unit='MiB' 65 there"),
            (
                "port='0'/></serial>",
                "port='1'/></serial>",
                "devices/serial/target: port='0' type='isa-serial' here, port='1' type='isa-serial' there",
            ),
            (
                "name='agent'",
                "name='spice'",
                "devices/channel/target: name='agent' type='virtio' here, name='spice' type='virtio' there",
            ),
            (
                ":01'",
                ":02'",
                "devices/interface/mac: address='52:54:00:00:00:01' here, address='52:54:00:00:00:02' there",
            ),
            ("type='kvm'", "type='qemu'", ": type='kvm' here, type='qemu' there"),
            (
                "bus='virtio'",
                "bus='sata'",
                "devices/disk/target: bus='virtio' dev='vda' here, bus='sata' dev='vda' there",
            ),
            ("</devices>", "<hub/></devices>", "devices: `<interface>` here, `<hub>` there"),
            ("</devices>", "<tpm/></devices>", "devices: none here, `<tpm>` there"),
        ] {
            assert_eq!(difference(from, to).as_deref(), Some(told), "{from}");
        }
    }
}
