//! Whether machine and host can do what a wish means: the checks before a snapshot is taken, in libvirt's order
//! (`qemuSnapshotPrepare`). They look at what is given and ask nobody.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, memory, reuse};
use crate::{
    align::{self, Aligned, MemoryPlace, Overlay, Place},
    domain::Domain,
    domain_snapshot::{Location, SourceType, State},
    env::FileKind,
    error::{ImageRefusal, OffRefusal, Refusal, UnusedRefusal},
    observed::{Observed, ObservedDisk},
    request::{Create, CreateFlag, Request},
    save_image::Format,
};

/// The one format that keeps internal snapshots.
const KEEPS_SNAPSHOTS: &str = "qcow2";

/// The longest chain that libvirt makes.
const CHAIN_MAX: usize = 200;

/// What is at a path of the host.
pub type HostFiles = BTreeMap<Utf8PathBuf, FileKind>;

/// The paths that a plan will want to know about.
pub fn paths(request: &Request, domain: &Domain, observed: &Observed) -> BTreeSet<Utf8PathBuf> {
    let Request::Create(create) = request else { return BTreeSet::new() };
    // A wish that is refused is refused when it is planned.
    let Ok(aligned) = align::align(create, domain, observed.running()) else { return BTreeSet::new() };
    let mut paths = BTreeSet::new();
    if let MemoryPlace::External(file) = &aligned.memory {
        paths.insert(file.clone());
    }
    for (target, overlay) in aligned.overlays() {
        paths.insert(overlay.path.clone());
        let image = observed.disk(target).filter(|_| overlay.generated);
        paths.extend(image.map(|disk| disk.file.clone()));
    }
    paths
}

/// Checks an aligned wish.
pub(super) fn check(create: &Create, aligned: &Aligned, facts: Facts<'_>) -> Result<(), Refusal> {
    for disk in &aligned.disks {
        if disk.place == Place::No {
            continue;
        }
        let observed = facts.observed.disk(&disk.target);
        let observed = observed.ok_or_else(|| match facts.off {
            Some(_) => OffRefusal::NotLocal(disk.target.clone()).into(),
            None => facts.observed.no_image(&disk.target),
        })?;
        if let Some(filter) = &observed.busy {
            return Err(Refusal::BlockJob { disk: disk.target.clone(), filter: filter.clone() });
        }
        let described = facts.domain.disk(&disk.target);
        if facts.off.is_none() && described.is_some_and(|described| described.transient) {
            return Err(Refusal::TransientDisk(disk.target.clone()));
        }
        match &disk.place {
            Place::No | Place::Manual | Place::Storage(_) => {}
            Place::Internal => internal(create, aligned, observed)?,
            Place::External(overlay) => external(create, observed, overlay, facts)?,
        }
    }
    overall(create, aligned, facts)?;
    unused(create, aligned)?;
    all_described(create, aligned, facts)?;
    match &aligned.memory {
        MemoryPlace::External(file) => memory::check(file, aligned, facts),
        MemoryPlace::No | MemoryPlace::Internal => Ok(()),
    }
}

fn internal(create: &Create, aligned: &Aligned, disk: &ObservedDisk) -> Result<(), Refusal> {
    if aligned.state == State::DiskSnapshot && !create.inside {
        return Err(Refusal::InternalDiskOnly(disk.target.clone()));
    }
    if disk.format != KEEPS_SNAPSHOTS {
        return Err(Refusal::FormatKeepsNone { disk: disk.target.clone(), format: disk.format.clone() });
    }
    writable(disk)
}

fn writable(disk: &ObservedDisk) -> Result<(), Refusal> {
    if disk.readonly { Err(Refusal::ReadOnly(disk.target.clone())) } else { Ok(()) }
}

fn external(
    create: &Create,
    disk: &ObservedDisk,
    overlay: &Overlay,
    facts: Facts<'_>,
) -> Result<(), Refusal> {
    let target = || disk.target.clone();
    let described = facts.domain.disk(&disk.target);
    if described.is_some_and(|described| described.lun) {
        return Err(Refusal::Passthrough(target()));
    }
    if described.is_some_and(|described| described.shareable) {
        return Err(Refusal::Shared(target()));
    }
    writable(disk)?;
    let kind = |path: &Utf8Path| facts.files.get(path).copied().unwrap_or(FileKind::Absent);
    if overlay.generated && !matches!(kind(&disk.file), FileKind::File { .. }) {
        let why = format!("`{}` is no regular file", disk.file);
        return Err(Refusal::NameNotGenerated { disk: target(), why });
    }
    let reuse = create.flags.has(CreateFlag::ReuseExternal);
    let path = overlay.path.clone();
    match (overlay.source_type, kind(&overlay.path)) {
        (SourceType::Block, FileKind::Absent) => Err(Refusal::DeviceMissing { disk: target(), path }),
        (SourceType::Block, FileKind::Device) => Ok(()),
        (SourceType::Block, _) => Err(Refusal::OtherKind { disk: target(), said: "block device", path }),
        (_, FileKind::Absent) if reuse => Err(Refusal::FileMissing { disk: target(), path }),
        (_, FileKind::File { bytes }) if bytes > 0 && !reuse => {
            Err(Refusal::FileExists { disk: target(), path })
        }
        (_, FileKind::Absent | FileKind::File { .. }) => Ok(()),
        (_, FileKind::Device | FileKind::Folder | FileKind::Other) => {
            Err(Refusal::OtherKind { disk: target(), said: "file", path })
        }
    }?;
    if reuse {
        reuse::check(disk, overlay, facts)?;
    }
    if disk.depth >= CHAIN_MAX {
        return Err(Refusal::ChainTooLong { disk: target(), depth: disk.depth });
    }
    Ok(())
}

/// Whether QEMU has no disk that the description has not: it would be left out unseen, and is in no record. A disk that the guest only
/// reads is missed by its memory alone.
fn all_described(create: &Create, aligned: &Aligned, facts: Facts<'_>) -> Result<(), Refusal> {
    facts.observed.check_formats(facts.domain)?;
    if create.of_named_disks {
        return Ok(());
    }
    if aligned.memory != MemoryPlace::No {
        return facts.observed.check_devices(facts.domain);
    }
    match facts.observed.undescribed.iter().find(|found| !found.readonly) {
        Some(found) => Err(ImageRefusal::from(found).into()),
        None => Ok(()),
    }
}

/// What holds between the disks and the memory.
fn overall(create: &Create, aligned: &Aligned, facts: Facts<'_>) -> Result<(), Refusal> {
    let first = |fits: fn(&Place) -> bool| aligned.targets(fits).into_iter().next();
    let internal = first(|place| *place == Place::Internal);
    let external = first(|place| matches!(place, Place::External(_)));
    let storage = first(|place| matches!(place, Place::Storage(_)));
    if internal.is_none() && external.is_none() && storage.is_none() && !aligned.has_manual() {
        return Err(Refusal::NothingSelected);
    }
    if (internal.is_some() && !create.inside) || aligned.memory == MemoryPlace::Internal {
        let writable = |target: &&String| {
            let observed = facts.observed.disk(target);
            observed.is_some_and(|disk| !disk.readonly)
        };
        let out = aligned.targets(|place| matches!(place, Place::No | Place::Manual | Place::Storage(_)));
        if let Some(out) = out.iter().find(writable) {
            return Err(Refusal::MustTakeAll(out.clone()));
        }
    }
    let Some(internal) = internal else { return Ok(()) };
    if let Some(disk) = storage {
        return Err(UnusedRefusal::Provider(disk).into());
    }
    if let Some(external) = external {
        return Err(Refusal::Mixed { internal, external });
    }
    if matches!(aligned.memory, MemoryPlace::External(_)) {
        return Err(Refusal::InternalBesideMemory(internal));
    }
    match facts.domain.nvram.as_ref().filter(|_| !create.inside) {
        Some(nvram) if !nvram.keeps_snapshots() && facts.off.is_none() => {
            Err(Refusal::NvramKeepsNone(nvram.format.clone()))
        }
        // A machine that is put back would find newer variables.
        Some(nvram) if nvram.keeps_snapshots() && facts.observed.nvram.is_none() => {
            Err(Refusal::NvramUnknown(nvram.file.clone()))
        }
        _ => Ok(()),
    }
}

/// What is asked for is to do something.
fn unused(create: &Create, aligned: &Aligned) -> Result<(), UnusedRefusal> {
    let is_by = |hook: &Utf8PathBuf| {
        let by_it = |place: &Place| matches!(place, Place::Storage(said) if said.attribute("program") == Some(hook.as_str()));
        aligned.disks.iter().any(|disk| by_it(&disk.place))
    };
    if let Some(hook) = create.by_storage.hook.as_ref().filter(|hook| !is_by(hook)) {
        return Err(UnusedRefusal::Hook(hook.clone()));
    }
    if create.flags.has(CreateFlag::ReuseExternal) && aligned.overlays().next().is_none() {
        return Err(UnusedRefusal::ReuseExternal);
    }
    if create.memory_format == Format::Sparse && !matches!(aligned.memory, MemoryPlace::External(_)) {
        return Err(UnusedRefusal::Sparse);
    }
    Ok(())
}

impl Location {
    /// Where a record says that a disk's part went.
    pub(super) fn of_place(place: &Place) -> Self {
        match place {
            Place::No => Location::No,
            Place::Internal => Location::Internal,
            Place::External(_) => Location::External,
            Place::Manual | Place::Storage(_) => Location::Manual,
        }
    }
}
