//! The memory of a snapshot in a file of its own: libvirt's save image, written by QEMU behind our header.
//!
//! ```text
//! reserve the file -> begin the save image, set migrations -> [pause] -> save memory -> ... -> seal it, set back
//! ```
//!
//! The file says that it is incomplete until all of it outlives the host's death.

use camino::Utf8Path;

use super::Facts;
use crate::{
    align::Aligned,
    env::FileKind,
    error::Refusal,
    request::{Create, CreateFlag},
    save_image::{Format, SaveImage},
    step::{BeginSaveImage, Meanwhile, ReserveFile, SaveMemory, SealSaveImage, SetMigration, Step},
};

/// What QEMU calls it when each page of the memory has its own place in the file: since 9.0.
const MAPPED_RAM: &str = "mapped-ram";

/// The steps that save the memory, by when their turn comes.
pub(super) struct Saving {
    /// Makes the file, if nobody has.
    pub(super) reserve: Option<Step>,
    /// All that can be done before the guest stands still.
    pub(super) prepare: [Step; 2],
    /// The saving itself.
    pub(super) save: Step,
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
pub(super) fn saving(path: &Utf8Path, create: &Create, facts: Facts<'_>) -> Result<Saving, Refusal> {
    // The state of a machine can only be loaded by one that is built alike.
    let document = facts.domain.document.as_ref().ok_or(Refusal::MemoryWithoutDocument)?;
    let format = create.memory_format;
    if format == Format::Sparse && !facts.capabilities.can_migrate_with(MAPPED_RAM) {
        return Err(Refusal::Unsupported(vec![MAPPED_RAM]));
    }
    let on = if format == Format::Sparse { &[MAPPED_RAM][..] } else { &[] };
    let old = facts.migration.ok_or(Refusal::Unsupported(vec!["query-migrate-capabilities"]))?;
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
    let live = create.flags.has(CreateFlag::Live) && facts.observed.status.running;
    let save = SaveMemory {
        path: path.clone(),
        at,
        method: facts.capabilities.memory_method(),
        fdname: format!("ff-{}-memory", facts.unique),
        guest: if live { Meanwhile::Live } else { Meanwhile::Paused },
    };
    let absent = matches!(facts.files.get(&path), None | Some(FileKind::Absent));
    Ok(Saving {
        reserve: absent.then(|| ReserveFile { path: path.clone() }.into()),
        prepare: [BeginSaveImage { path: path.clone(), image, overwrite: false }.into(), settings.into()],
        save: save.into(),
        seal: SealSaveImage { path }.into(),
        back,
    })
}
