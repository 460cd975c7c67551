//! Whether the machine that runs is made of the disks that are described.
//!
//! What is described is what a snapshot's record keeps, and what is started when it is gone back to. A disk that QEMU has beside that
//! would be missing then, one that it lacks would be too much for the memory, and an image in another format is another disk.

use camino::Utf8PathBuf;

use super::{Observed, ObservedImage};
use crate::{
    commands::BlockDevice,
    domain::{Domain, DomainDisk},
    domain_snapshot::Location,
    error::{ImageRefusal, Refusal},
};

/// What images are formatted as, in the same words in QEMU and in a description. The others are filters over an image, or what QEMU
/// opens without a format.
const IMAGE_FORMATS: [&str; 10] =
    ["raw", "qcow2", "qed", "qcow", "vmdk", "vdi", "vpc", "vhdx", "parallels", "bochs"];

/// A device of the guest's that holds an image, and is no disk of the domain's: somebody has plugged it in since, or the description
/// was never whole. Neither a node without a device nor a disc in a drive that the guest only reads is one, nor the board's flash,
/// of which [`Domain::nvram`] says all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undescribed {
    /// What QEMU calls it.
    pub device: String,
    /// The image.
    pub file: Utf8PathBuf,
    /// Whether the guest may only read it.
    pub readonly: bool,
}

impl Undescribed {
    pub(super) fn of(device: &BlockDevice, file: Utf8PathBuf) -> Option<Self> {
        let path = device.qdev.as_deref().filter(|path| !path.starts_with("/machine/system.flash"))?;
        let readonly = device.inserted.as_ref()?.ro;
        let id = path.strip_prefix("/machine/peripheral/").and_then(|rest| rest.split('/').next());
        let found = Self { device: id.unwrap_or(path).to_owned(), file, readonly };
        (!readonly || !device.removable).then_some(found)
    }
}

impl From<&Undescribed> for ImageRefusal {
    fn from(Undescribed { device, file, .. }: &Undescribed) -> Self {
        ImageRefusal::Undescribed { device: device.clone(), file: file.clone() }
    }
}

impl Observed {
    /// Whether the machine that runs has the disks that are described, and no other: only then a memory of the one fits the other.
    ///
    /// # Errors
    /// [`ImageRefusal::Undescribed`], and those of [`Observed::no_image`].
    pub(crate) fn check_devices(&self, domain: &Domain) -> Result<(), Refusal> {
        if let Some(found) = self.undescribed.first() {
            return Err(ImageRefusal::from(found).into());
        }
        // A drive may be empty, and is then found by nothing.
        let takes_part = |target: &str| {
            let is_one = |disk: &DomainDisk| disk.device.is_some() || disk.source.is_some();
            domain.disk(target).is_some_and(|disk| disk.snapshot != Some(Location::No) && is_one(disk))
        };
        match self
            .running()
            .and_then(|found| found.missing.iter().find(|missing| takes_part(&missing.target)))
        {
            Some(missing) => Err(self.no_image(&missing.target)),
            None => Ok(()),
        }
    }

    /// Whether the images that are described are open in the formats that are described: in another one the disk would be another.
    ///
    /// # Errors
    /// [`ImageRefusal::OtherFormat`].
    pub(crate) fn check_formats(&self, domain: &Domain) -> Result<(), ImageRefusal> {
        for disk in &domain.disks {
            let (Some(source), Some(described)) = (&disk.source, &disk.format) else { continue };
            let chain = self.disk(&disk.target).map(|found| found.chain.as_slice()).unwrap_or_default();
            let other = |image: &&ObservedImage| {
                let is_format = IMAGE_FORMATS.contains(&image.format.as_str());
                image.file == *source && is_format && image.format != *described
            };
            if let Some(image) = chain.iter().find(other) {
                return Err(ImageRefusal::OtherFormat {
                    disk: disk.target.clone(),
                    file: image.file.clone(),
                    described: described.clone(),
                    open: image.format.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::Status, domain_xml::DomainXml};

    /// A device at that path, and its image.
    fn device(path: Option<&str>, file: &str, format: &str, read: (bool, bool)) -> BlockDevice {
        let (ro, removable) = read;
        let image = serde_json::json!({ "filename": file, "format": format, "virtual-size": 1 });
        let node = serde_json::json!({ "node-name": "n", "drv": format, "ro": ro, "image": image });
        let device = serde_json::json!({ "qdev": path, "removable": removable, "inserted": node });
        serde_json::from_value(device).unwrap()
    }

    /// A machine with the disk `vda`, raw in `/vda`.
    fn domain() -> Domain {
        let text = "<domain><name>vm</name><devices><disk><source file='/vda'/><target dev='vda'/></disk></devices></domain>";
        Domain::from(DomainXml::read(text.as_bytes()).unwrap())
    }

    fn observed(devices: &[BlockDevice]) -> Observed {
        Observed::new(&domain(), Status { status: "running".into(), running: true }, devices)
    }

    #[test]
    fn what_the_guest_has_and_nobody_describes_is_a_device_with_an_image_of_its_own() {
        let written = (false, false);
        let vda = device(Some("/machine/peripheral/a/virtio-backend"), "/vda", "raw", written);
        let plugged = Some("/machine/peripheral/b/virtio-backend");
        let found = |other: BlockDevice| {
            let observed = observed(&[vda.clone(), other]);
            assert_eq!(observed.disks.len(), 1);
            let undescribed = observed.undescribed.first();
            undescribed.map(|found| (found.device.clone(), found.file.to_string(), found.readonly))
        };
        let plain = Some(("b".to_owned(), "/vdb".to_owned(), false));
        assert_eq!(found(device(plugged, "/vdb", "raw", written)), plain);
        assert_eq!(found(device(plugged, "/vdb", "throttle", written)), plain, "a filter over its image");
        assert_eq!(found(device(plugged, "/vdb", "raw", (true, false))).map(|found| found.2), Some(true));
        let anonymous = "/machine/peripheral-anon/device[0]/virtio-backend";
        let told = found(device(Some(anonymous), "/vdb", "raw", written)).map(|found| found.0);
        assert_eq!(told.as_deref(), Some(anonymous));

        assert_eq!(found(device(None, "/vdb", "raw", written)), None, "no device has it");
        assert_eq!(found(device(plugged, "/cd", "raw", (true, true))), None, "a disc");
        assert_eq!(found(device(Some("/machine/system.flash1"), "/nvram", "raw", written)), None, "flash");
        assert_eq!(found(device(plugged, "/vda", "raw", written)), None, "another way to a disk");
    }

    #[test]
    fn an_image_is_in_the_format_that_is_described() {
        let open = |file: &str, format: &str| {
            observed(&[device(Some("/machine/peripheral/vda"), file, format, (false, false))])
                .check_formats(&domain())
        };
        assert_eq!(open("/vda", "raw"), Ok(()));
        let told = open("/vda", "qcow2").unwrap_err().to_string();
        assert!(told.contains("`/vda` of disk `vda` is raw, and QEMU has it open as qcow2"), "{told}");
        assert_eq!(open("/vda", "throttle"), Ok(()), "of what is over it nothing is described");
    }
}
