//! What a disk's device is called where the description does not say it. Source: libvirt's `qemuAssignDeviceDiskAlias`.

use super::Disk;

impl Disk<'_> {
    /// What libvirt calls its device, by its bus and its place there; none on a bus of which nothing is known here.
    pub fn usual_alias(&self) -> Option<String> {
        let number = number_of(self.target);
        let stated = self.element().child("address");
        let place = |name: &str, usual: u32| match stated {
            Some(address) => Some(address.attribute(name).unwrap_or("0").parse().ok()?),
            None => Some(usual),
        };
        let controller = place("controller", 0);
        Some(match self.element().child("target")?.attribute("bus")? {
            bus @ ("virtio" | "usb") => format!("{bus}-disk{number}"),
            "sata" => format!("sata{}-{}-{}", controller?, place("bus", 0)?, place("unit", number)?),
            "ide" => {
                format!("ide{}-{}-{}", controller?, place("bus", number / 2)?, place("unit", number % 2)?)
            }
            "scsi" => {
                let (bus, goal, unit) = (place("bus", 0)?, place("target", 0)?, place("unit", number)?);
                format!("scsi{}-{bus}-{goal}-{unit}", controller?)
            }
            _ => return None,
        })
    }
}

/// `vda` is 0, `vdb` 1, and `vdaa` 26.
pub(crate) fn number_of(target: &str) -> u32 {
    let letters = target.get(2..).unwrap_or_default().bytes().filter(u8::is_ascii_lowercase);
    let count = letters
        .fold(0_u32, |count, letter| count.saturating_mul(26).saturating_add(u32::from(letter - b'a') + 1));
    count.saturating_sub(1)
}
