//! Whether two descriptions are of one machine, as the guest sees it: only then the memory of one fits the other.
//!
//! Everything that is not known to be invisible to the guest has to be the same, in the same order. What is invisible: words for
//! people, what images the disks are in and how the host treats them, how much memory is given at the moment, and the names that
//! only the host knows.

use super::DomainXml;
use crate::xml::Element;

/// Elements of `<domain>` that a guest does not see.
const UNSEEN: [&str; 9] = [
    "title",
    "description",
    "metadata",
    "resource",
    "seclabel",
    "currentMemory",
    "on_poweroff",
    "on_reboot",
    "on_crash",
];

/// Elements of a disk that its guest does not see.
const UNSEEN_OF_DISK: [&str; 5] = ["driver", "source", "backingStore", "mirror", "transient"];

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
    let attributes = |element: &Element| {
        let mut seen: Vec<_> =
            element.attributes.iter().filter(|(name, _)| is_seen(&element.name, name)).cloned().collect();
        seen.sort();
        seen
    };
    let text = |element: &Element| element.text().trim().to_owned();
    if attributes(one) != attributes(other) || text(one) != text(other) {
        let told = |element: &Element| {
            let attributes = attributes(element).into_iter().map(|(name, value)| format!("{name}='{value}'"));
            let words: Vec<_> =
                attributes.chain([text(element)].into_iter().filter(|text| !text.is_empty())).collect();
            words.join(" ")
        };
        return Some(format!("{place}: {} here, {} there", told(one), told(other)));
    }
    let (mut here, mut there) = (seen(one), seen(other));
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

/// What of an element the guest sees.
fn seen(element: &Element) -> impl Iterator<Item = &Element> {
    let unseen: &[&str] = match element.name.as_str() {
        "domain" | "inactiveDomain" => &UNSEEN,
        "disk" => &UNSEEN_OF_DISK,
        _ => &[],
    };
    element.elements().filter(move |inner| !unseen.contains(&inner.name.as_str()) && inner.name != "alias")
}

/// libvirt's number of a running machine, where the image is, and what a snapshot does with the disk are the host's affair.
fn is_seen(element: &str, attribute: &str) -> bool {
    !matches!((element, attribute), ("domain" | "inactiveDomain", "id") | ("disk", "type" | "snapshot"))
        && !attribute.starts_with("xmlns")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "<domain type='kvm' id='3'><name>vm</name><memory>65536</memory><devices>
        <disk type='file' device='disk' snapshot='no'><driver type='qcow2'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>
        <interface type='user'><mac address='52:54:00:00:00:01'/></interface></devices></domain>";

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
        ] {
            assert_eq!(difference(from, to), None, "{from} {to}");
        }
    }

    #[test]
    fn what_the_guest_sees_makes_another_machine() {
        for (from, to, told) in [
            ("65536", "131072", "memory: 65536 here, 131072 there"),
            ("type='kvm'", "type='qemu'", ": type='kvm' here, type='qemu' there"),
            (
                "bus='virtio'",
                "bus='sata'",
                "devices/disk/target: bus='virtio' dev='vda' here, bus='sata' dev='vda' there",
            ),
            ("<interface", "<rng/><interface", "devices: `<interface>` here, `<rng>` there"),
            ("</devices>", "<rng/></devices>", "devices: none here, `<rng>` there"),
        ] {
            assert_eq!(difference(from, to).as_deref(), Some(told), "{from}");
        }
    }
}
