//! Overlays that are there already (`reuse-external`): whether each fits the disk that goes on in it.
//!
//! libvirt looks at nothing but that the file is there. While the machine runs QEMU puts the overlay on the disk's image whatever its
//! header says; but who opens it next, be it the machine when it is started again, reads what the header names. Where that is another
//! image the guest finds another disk, and what it wrote goes with it.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

use super::Facts;
use crate::{
    align::{self, Overlay},
    domain::Domain,
    error::Refusal,
    observed::{Observed, ObservedDisk},
    request::{CreateFlag, Request},
};

/// The images whose headers a plan will want to know, with their formats.
pub fn images_reused(
    request: &Request,
    domain: &Domain,
    observed: &Observed,
) -> BTreeMap<Utf8PathBuf, String> {
    let Request::Create(create) = request else { return BTreeMap::new() };
    if !create.flags.has(CreateFlag::ReuseExternal) {
        return BTreeMap::new();
    }
    // A wish that is refused is refused when it is planned.
    let Ok(aligned) = align::align(create, domain, observed.running()) else { return BTreeMap::new() };
    aligned.overlays().map(|(_, overlay)| (overlay.path.clone(), "qcow2".to_owned())).collect()
}

/// Whether the overlay stands, by its own header, on the disk's image, and is as large.
pub(super) fn check(disk: &ObservedDisk, overlay: &Overlay, facts: Facts<'_>) -> Result<(), Refusal> {
    let other = |why: String| {
        let (disk, path) = (disk.target.clone(), overlay.path.clone());
        Refusal::OverlayOfOther { disk, path, why }
    };
    let unread = || other("it was not read".into());
    let beside = facts.beside.ok_or_else(unread)?;
    let info = beside.images.get(&overlay.path).ok_or_else(unread)?.as_ref();
    let info = info.map_err(|why| other(why.clone()))?;
    let backing = info.backing().map_err(other)?;
    let backing = backing.ok_or_else(|| other("its header names no image below it".into()))?;
    if !beside.is_one(&backing.file, &disk.file) {
        return Err(other(format!("its header has it on `{}`, and not on `{}`", backing.file, disk.file)));
    }
    if backing.format != disk.format {
        let why = format!(
            "its header says that the image below it is {}, and that is {}",
            backing.format, disk.format
        );
        return Err(other(why));
    }
    if info.virtual_size < disk.size {
        return Err(other(format!("it has {} bytes, and the disk {}", info.virtual_size, disk.size)));
    }
    Ok(())
}
