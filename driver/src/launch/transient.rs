//! Disks whose changes go when the machine ends: libvirt's `<transient/>`.
//!
//! ```text
//! image <- image.TRANSIENT-vm     made right before QEMU is started; the guest writes to it alone, and the image is only read
//!                                 removed when the machine was ended; what a machine that ended by itself has left goes at
//!                                 the next start, which makes it anew
//! ```
//! What is found at that path is removed only if it is such an overlay and nobody can miss it: a regular file that nobody has
//! open, on this image, without an internal snapshot in it, and under no other disk of the machine. Any other stays, and the
//! machine is not started. Whether a record leads there is looked at by who has the records.
//!
//! Source: libvirt's `qemuSnapshotGetTransientDiskDef` for the name, `qemuValidateDomainDeviceDefDiskTransient` for what such a
//! disk may be.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    LaunchError,
    arguments::{cannot_give, one_of, only},
    chain::Chains,
};
use crate::{
    domain_snapshot::SourceType,
    domain_xml::{Disk, DomainXml},
    env::{Env, FileKind, Ownership},
    mark,
    qemu_img::{Backing, Clusters, NewImage, QemuImg, ToolError},
};

/// No file of the host has a longer name, in bytes.
const LONGEST_NAME: usize = 255;

/// The overlay of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransientOverlay {
    /// The disk.
    pub target: String,
    /// The overlay's file.
    pub file: Utf8PathBuf,
    /// What it is on.
    pub image: Backing,
}

impl TransientOverlay {
    fn stays(&self, why: impl Into<String>) -> LaunchError {
        LaunchError::OverlayStays { target: self.target.clone(), file: self.file.clone(), why: why.into() }
    }
}

/// What the overlay on an image is called.
pub fn overlay_on(image: &Utf8Path, machine: &str) -> Utf8PathBuf {
    format!("{image}.TRANSIENT-{machine}").into()
}

/// Whether a file is called as such an overlay of this machine is.
pub fn is_overlay(file: &Utf8Path, machine: &str) -> bool {
    file.as_str().strip_suffix(machine).is_some_and(|image| image.ends_with(".TRANSIENT-"))
}

/// The overlays that a machine is started on.
///
/// # Errors
/// [`LaunchError::CannotGive`] if a disk cannot have one, [`LaunchError::Relative`].
pub fn overlays(domain: &DomainXml) -> Result<Vec<TransientOverlay>, LaunchError> {
    let name = domain.name();
    domain.disks().filter(Disk::transient).map(|disk| overlay(&disk, &name)).collect()
}

/// In libvirt's order of checks.
fn overlay(disk: &Disk<'_>, machine: &str) -> Result<TransientOverlay, LaunchError> {
    let element = disk.element();
    let refused = |what: &str| Err(cannot_give(element, format!("a `<transient>` disk {what}")));
    if let Some(transient) = element.child("transient") {
        only(transient, &["shareBacking"], &[])?;
        one_of(transient, "shareBacking", &["no"])?;
    }
    let Some(image) = disk.path() else { return refused("that is empty") };
    if disk.read_only() {
        return refused("that the guest may only read");
    }
    if disk.source_type() != Some(SourceType::File) {
        return refused("that is no file");
    }
    if disk.device() != "disk" {
        return refused("that is no `disk`");
    }
    if !image.is_absolute() {
        return Err(LaunchError::Relative(image.to_owned()));
    }
    let file = overlay_on(image, machine);
    let is_beside = file.parent() == image.parent() && !machine.contains('/');
    if !is_beside || file.file_name().is_none_or(|name| name.len() > LONGEST_NAME) {
        return refused("whose overlay would have a name that no file has");
    }
    let image = Backing { file: image.to_owned(), format: disk.format().to_owned() };
    Ok(TransientOverlay { target: disk.target.to_owned(), file, image })
}

/// Makes the overlays of a machine that is about to be started. All that are left from before are looked at before one is removed;
/// if one cannot be made, none of those that were made is left.
pub(super) async fn make<E: Env>(
    tool: &QemuImg<E>,
    domain: &DomainXml,
    chains: &Chains,
) -> Result<Vec<TransientOverlay>, LaunchError> {
    let overlays = overlays(domain)?;
    let mut left = Vec::new();
    for overlay in &overlays {
        if let Some(disk) = stands_on(&overlay.file, domain, chains) {
            return Err(overlay.stays(format!("disk {disk} stands on it")));
        }
        left.push(is_left(tool, overlay).await?);
    }
    for (number, (overlay, is_left)) in overlays.iter().zip(left).enumerate() {
        if let Err(error) = make_one(tool, overlay, is_left).await {
            // What could not be made may be half made; what is not there any more is no loss.
            let reserved = usize::from(!matches!(error, LaunchError::OverlayStays { .. }));
            let _ = remove(&tool.env, &overlays[..number + reserved]).await;
            return Err(error);
        }
    }
    Ok(overlays)
}

/// Reserves the file first, so that nothing that is there is written over, and no link is followed.
async fn make_one<E: Env>(
    tool: &QemuImg<E>,
    overlay: &TransientOverlay,
    is_left: bool,
) -> Result<(), LaunchError> {
    if is_left {
        remove(&tool.env, std::slice::from_ref(overlay)).await?;
    }
    // QEMU is started by the same user.
    let made = tool.env.create_new(&overlay.file, &Ownership::Own).await;
    made.map_err(|error| overlay.stays(error.to_string()))?;
    let backing = Some(overlay.image.clone());
    let new = NewImage { file: overlay.file.clone(), size: None, clusters: Clusters::default(), backing };
    let images = |source| LaunchError::Images { target: overlay.target.clone(), source };
    tool.create(&new).await.map_err(images)
}

/// The disk in whose chain a file is, if it is in one.
fn stands_on<'d>(file: &Utf8Path, domain: &'d DomainXml, chains: &Chains) -> Option<&'d str> {
    let in_chain = |disk: &Disk<'_>| {
        let mut behind = chains.get(disk.target).into_iter().flatten();
        disk.path() == Some(file) || behind.any(|image| image.file == file)
    };
    domain.disks().find(in_chain).map(|disk| disk.target)
}

/// Whether there is an overlay that was left from before and that nobody can miss; what it is said of is that it is left, not that it
/// is the machine's last one.
///
/// # Errors
/// [`LaunchError::OverlayStays`] if something is there that is not to be removed; [`LaunchError::Images`].
pub async fn is_left<E: Env>(tool: &QemuImg<E>, overlay: &TransientOverlay) -> Result<bool, LaunchError> {
    let TransientOverlay { target, file, image } = overlay;
    let env = &tool.env;
    let unknown = |error: io::Error| overlay.stays(error.to_string());
    let bytes = match env.file_kind(file).await.map_err(unknown)? {
        FileKind::Absent => return Ok(false),
        FileKind::File { bytes } => bytes,
        FileKind::Device | FileKind::Folder | FileKind::Other => {
            return Err(overlay.stays("it is no regular file"));
        }
    };
    let folder = env.canonical(image.file.parent().unwrap_or(Utf8Path::new("/"))).await.map_err(unknown)?;
    let itself = folder.join(file.file_name().unwrap_or_default());
    if env.canonical(file).await.map_err(unknown)? != itself {
        return Err(overlay.stays("it is a link to somewhere else"));
    }
    if env.image_in_use(file).await.map_err(unknown)? {
        return Err(overlay.stays("another process has it open"));
    }
    // It was reserved, and whoever was to write it has died.
    if bytes == 0 {
        return Ok(true);
    }
    let info = match tool.info(file, "qcow2").await {
        Ok(info) => info,
        Err(source @ ToolError::Missing { .. }) => {
            return Err(LaunchError::Images { target: target.clone(), source });
        }
        Err(error) => return Err(overlay.stays(mark::told(&error))),
    };
    if let Some(held) = info.snapshots.first() {
        return Err(overlay.stays(format!("it holds the internal snapshot `{}`", held.name)));
    }
    let behind = info.backing().map_err(|why| overlay.stays(why))?;
    let on_image = match &behind {
        Some(behind) if behind.format == image.format => {
            let [behind, image] = [env.canonical(&behind.file).await, env.canonical(&image.file).await];
            behind.map_err(unknown)? == image.map_err(unknown)?
        }
        _ => false,
    };
    match on_image {
        true => Ok(true),
        false => Err(overlay.stays(format!("it is no overlay on `{}`, {}", image.file, image.format))),
    }
}

/// Removes overlays. One that is gone is removed already.
pub(super) async fn remove<E: Env>(env: &E, overlays: &[TransientOverlay]) -> Result<(), LaunchError> {
    let mut failed = None;
    for overlay in overlays {
        match env.remove_file(&overlay.file).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                failed.get_or_insert(overlay.stays(error.to_string()));
            }
            _ => {}
        }
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, disk: &str) -> Result<Vec<TransientOverlay>, LaunchError> {
        let text = format!("<domain><name>{name}</name><devices>{disk}</devices></domain>");
        overlays(&DomainXml::read(text.as_bytes()).unwrap())
    }

    const DISK: &str = "<disk type='file'><driver type='qcow2'/><source file='/a.img'/><target dev='vdb'/><transient/></disk>";

    #[test]
    fn an_overlay_is_called_by_its_image_and_its_machine() {
        let overlays = found("vm", DISK).unwrap();
        let image = Backing { file: "/a.img".into(), format: "qcow2".into() };
        let file = Utf8PathBuf::from("/a.img.TRANSIENT-vm");
        assert!(is_overlay(&file, "vm") && !is_overlay(&file, "m") && !is_overlay(&image.file, "vm"));
        assert_eq!(overlays, [TransientOverlay { target: "vdb".into(), file, image }]);
        assert_eq!(found("vm", &DISK.replace("<transient/>", "")).unwrap(), []);
    }

    #[test]
    fn what_libvirt_takes_for_no_transient_disk_is_refused() {
        let file = "type='file'";
        for (odd, why) in [
            (DISK.replace("<source file='/a.img'/>", ""), "empty"),
            (DISK.replace("<transient/>", "<transient/><readonly/>"), "only read"),
            (DISK.replace(file, "type='block'").replace("file='/a", "dev='/a"), "no file"),
            (DISK.replace(file, "type='file' device='lun'"), "no `disk`"),
            (DISK.replace("<transient/>", "<transient shareBacking='yes'/>"), "shareBacking"),
        ] {
            let error = found("vm", &odd).unwrap_err();
            assert!(
                matches!(&error, LaunchError::CannotGive { what, .. } if what.contains(why)),
                "{why}: {error}"
            );
        }
    }

    #[test]
    fn an_overlay_is_never_outside_of_its_images_folder() {
        for name in ["../../b", "a/b", &"a".repeat(250)] {
            let error = found(name, DISK).unwrap_err();
            assert!(
                matches!(&error, LaunchError::CannotGive { what, .. } if what.contains("no file has")),
                "{error}"
            );
        }
        assert!(matches!(found("vm", &DISK.replace("'/a", "'a")), Err(LaunchError::Relative(_))));
    }
}
