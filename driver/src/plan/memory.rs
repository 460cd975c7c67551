//! The memory of a snapshot in a file of its own: libvirt's save image, written by QEMU behind our header.
//!
//! ```text
//! reserve the file -> begin the save image, set migrations -> [pause] -> save memory -> ... -> seal it, set back
//! ```
//!
//! The guest may run meanwhile ([`CreateFlag::Live`]). Where QEMU can keep hold of its memory as it is at one moment and write
//! that in the background, the guest stands still for that moment alone; else for the end of the saving.
//!
//! The file says that it is incomplete until all of it outlives the host's death.

use camino::Utf8Path;

use super::Facts;
use crate::{
    align::Aligned,
    capabilities::Capabilities,
    env::{FileKind, Ownership},
    error::{ImageRefusal, Refusal},
    request::{Create, CreateFlag},
    save_image::{Format, SaveImage},
    step::{BeginSaveImage, Meanwhile, ReserveFile, SaveMemory, SealSaveImage, SetMigration, Step},
};

/// What QEMU calls it when each page of the memory has its own place in the file: since 9.0.
const MAPPED_RAM: &str = "mapped-ram";

/// What QEMU calls it when it writes the memory of one moment while the guest runs on: since 6.0.
const BACKGROUND: &str = "background-snapshot";

/// The steps that save the memory, by when their turn comes.
pub(super) struct Saving {
    /// Makes the file, if nobody has.
    pub(super) reserve: Option<Step>,
    /// All that can be done before the guest stands still.
    pub(super) prepare: [Step; 2],
    /// The saving itself.
    pub(super) save: Step,
    /// What the guest does meanwhile.
    pub(super) guest: Meanwhile,
    /// Makes the file complete.
    pub(super) seal: Step,
    /// Sets migrations as they were.
    pub(super) back: Step,
}

/// Checks the file that the memory goes to.
pub(super) fn check(path: &Utf8Path, aligned: &Aligned, facts: Facts<'_>) -> Result<(), Refusal> {
    if !path.is_absolute() || path.file_name().is_none() || path.as_str().ends_with('/') {
        return Err(Refusal::BadMemoryPath(path.to_owned()));
    }
    if let Some((disk, _)) = aligned.overlays().find(|(_, overlay)| overlay.path == path) {
        return Err(Refusal::MemoryFileIsOverlay { disk: disk.to_owned(), path: path.to_owned() });
    }
    // libvirt empties what it finds there: another snapshot's memory, perhaps.
    match facts.files.get(path).copied().unwrap_or(FileKind::Absent) {
        FileKind::Absent | FileKind::File { bytes: 0 } => Ok(()),
        FileKind::File { .. } => Err(Refusal::MemoryFileExists(path.to_owned())),
        FileKind::Device | FileKind::Folder | FileKind::Other => Err(Refusal::MemoryNoFile(path.to_owned())),
    }
}

/// Plans the saving.
pub(super) fn saving(
    path: &Utf8Path,
    create: &Create,
    aligned: &Aligned,
    facts: Facts<'_>,
) -> Result<Saving, Refusal> {
    if facts.observed.status.has_left() {
        return Err(ImageRefusal::StateHasLeft.into());
    }
    // The state of a machine can only be loaded by one that is built alike.
    let document = facts.domain.document.as_ref().ok_or(Refusal::MemoryWithoutDocument)?;
    let format = create.memory_format;
    if format == Format::Sparse && !facts.capabilities.can_migrate_with(MAPPED_RAM) {
        return Err(Refusal::Unsupported(vec![MAPPED_RAM]));
    }
    let guest = guest_meanwhile(create, aligned, facts);
    let on = match (format, guest) {
        (Format::Sparse, _) => &[MAPPED_RAM][..],
        (_, Meanwhile::Background) => &[BACKGROUND],
        _ => &[],
    };
    let before = facts.migration.ok_or(Refusal::Unsupported(vec!["query-migrate-capabilities"]))?;
    if !before.blocked.is_empty() {
        return Err(Refusal::MemoryBlocked(before.blocked.join("; ")));
    }
    let old = &before.settings;
    let image = SaveImage {
        complete: false,
        was_running: facts.observed.status.running,
        format,
        document: document.with_sources(facts.observed.sources()).element().document(),
        cookie: None,
    };
    let at = image.begin().map_err(Refusal::SaveImage)?.len() as u64;
    let path = path.to_owned();
    let settings = SetMigration { new: old.for_saving(on), old: old.clone() };
    let back = settings.back().into();
    // With disks that the caller takes, the images rest until the caller lets the guest go on.
    let stays_paused =
        !facts.observed.status.running && !aligned.has_manual() && !create.flags.has(CreateFlag::Halt);
    let save = SaveMemory {
        path: path.clone(),
        at,
        method: facts.capabilities.memory_method(),
        fdname: format!("ff-{}-memory", facts.unique),
        guest,
        takes_back: stays_paused && facts.capabilities.can_take_images_back(),
    };
    let absent = matches!(facts.files.get(&path), None | Some(FileKind::Absent));
    Ok(Saving {
        reserve: absent.then(|| ReserveFile { path: path.clone(), ownership: ownership(facts) }.into()),
        prepare: [BeginSaveImage { path: path.clone(), image, overwrite: false }.into(), settings.into()],
        save: save.into(),
        guest,
        seal: SealSaveImage { path }.into(),
        back,
    })
}

/// QEMU may open the file itself: it is whose the images are that QEMU writes to.
fn ownership(facts: Facts<'_>) -> Ownership {
    let written = facts.observed.disks.iter().find(|disk| !disk.readonly);
    written.map_or(Ownership::Own, |disk| Ownership::OfMemory(disk.file.clone()))
}

/// What the guest does while its memory is saved.
///
/// The background is left alone where the guest is not to run afterwards, and with [`Format::Sparse`]: no release is known to
/// write such a file in the background.
fn guest_meanwhile(create: &Create, aligned: &Aligned, facts: Facts<'_>) -> Meanwhile {
    if !create.flags.has(CreateFlag::Live) || !facts.observed.status.running {
        return Meanwhile::Paused;
    }
    let wanted = create.in_background && !facts.no_background;
    let runs_afterwards = !aligned.has_manual() && !create.flags.has(CreateFlag::Halt);
    let can = facts.capabilities.can_migrate_with(BACKGROUND);
    match wanted && can && runs_afterwards && create.memory_format == Format::Raw {
        true => Meanwhile::Background,
        false => Meanwhile::Live,
    }
}

/// Why a plan of this QEMU's does not write a memory in the background though that was asked for, and was not refused.
pub fn why_not_in_background(capabilities: &Capabilities) -> &'static str {
    match capabilities.can_migrate_with(BACKGROUND) {
        true => "that goes neither with a machine that is not to run afterwards nor with a sparse file",
        false => "this QEMU does not know how",
    }
}
