//! Snapshots of a machine that is off: its disks alone, worked on by `qemu-img`.
//!
//! ```text
//! inside the images:  write the record -> a snapshot of each image, side by side
//! outside of them:    write the record -> reserve files -> make overlays -> write the machine's description
//! ```
//! The description says from which images the machine is started: where it is a file, writing that is the moment of the snapshot.
//! Until then the overlays are nobody's, and undoing removes them.
//!
//! Source: libvirt's `qemuSnapshotCreateInactiveInternal` and `qemuSnapshotCreateInactiveExternal`.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, Plan, Planned, Stage, internal, merge, storage};
use crate::{
    align::{Aligned, Overlay, Place},
    domain_snapshot::Location,
    domain_xml::DomainXml,
    env::FileKind,
    error::{OffRefusal, Refusal, UnusedRefusal},
    observed::ObservedDisk,
    request::{Create, CreateFlag, Quiesce},
    step::{AddTag, CreateOverlay, RemoveTag, ReserveFile, Step, UseEmptyFile, WriteDocument, WriteRecords},
};

/// What is known of a machine that is off, beside its images.
#[derive(Debug, Clone, Copy)]
pub struct Off<'a> {
    /// `qemu-img`.
    pub tool: &'a Utf8Path,
    /// The file with its description, and what that says; none if the caller keeps it elsewhere.
    pub document: Option<(&'a Utf8Path, &'a str)>,
    /// Whether it is known what the QEMU that would be started can do.
    pub knows_qemu: bool,
    /// The file with the memory that libvirt calls a managed save, if there is one: the machine goes on with it when it is started.
    pub managed_save: Option<&'a Utf8Path>,
}

impl Off<'_> {
    /// Writes another description into its file; none if there is no such file, or if it says so already.
    pub(super) fn document(&self, new: &DomainXml) -> Option<WriteDocument> {
        let (path, before) = self.document?;
        (new.element().document() != before).then(|| WriteDocument {
            path: path.to_owned(),
            document: new.clone(),
            before: before.to_owned(),
        })
    }

    /// Deletes a tag from the images that have it: those in use, and those below that it was taken in by its record. Nobody writes to
    /// either, and what stands on an image reads the same with the tag and without it.
    pub(super) fn delete_tag(&self, name: &str, facts: Facts<'_>) -> Vec<RemoveTag> {
        let mut remove: Vec<RemoveTag> = Vec::new();
        for disk in facts.observed.images() {
            let file = internal::image_with(name, disk, facts);
            let Some(file) = file.filter(|file| remove.iter().all(|step| step.file != *file)) else {
                continue;
            };
            remove.push(RemoveTag {
                program: self.tool.to_owned(),
                target: disk.target.clone(),
                file: file.to_owned(),
                tag: name.to_owned(),
            });
        }
        remove
    }
}

/// What a running machine could be asked, and one that is off cannot.
pub(super) fn check(create: &Create, facts: Facts<'_>) -> Result<(), Refusal> {
    let for_running = [CreateFlag::Halt, CreateFlag::Quiesce];
    if let Some(flag) = for_running.into_iter().find(|flag| create.flags.has(*flag)) {
        return Err(OffRefusal::NotRunning(flag).into());
    }
    if create.quiesce() == Quiesce::AlreadyFrozen {
        return Err(UnusedRefusal::AlreadyFrozen.into());
    }
    check_description(facts)?;
    match &create.vmstate {
        Some(disk) => {
            facts.domain.known(disk)?;
            Err(Refusal::VmstateElsewhere(disk.clone()))
        }
        None => Ok(()),
    }
}

/// Whether the machine's description names the images that, by its records, it went on in. One that was left behind would be taken for
/// the machine's disks, and what was written since would be lost.
pub(super) fn check_description(facts: Facts<'_>) -> Result<(), OffRefusal> {
    check_deletions(facts)?;
    let current = facts.records.and_then(|records| records.tree.get(records.tree.current()?));
    let Some(current) = current else { return Ok(()) };
    let domain = current.domain.clone().and_then(|domain| DomainXml::of(domain).ok());
    let parts = if current.revert_disks.is_empty() { &current.disks } else { &current.revert_disks };
    for part in parts.iter().filter(|part| !part.delete_in_progress) {
        let then = domain.as_ref().and_then(|domain| domain.disk(&part.name));
        let (recorded, format) = match part.location {
            Some(Location::External) => (part.path(), part.format()),
            Some(Location::Internal) => (then.and_then(|disk| disk.path()), then.map(|disk| disk.format())),
            Some(Location::No | Location::Manual) | None => (None, None),
        };
        let (Some(recorded), Some(disk)) = (recorded, facts.observed.disk(&part.name)) else { continue };
        if let Some(format) = format.filter(|format| disk.file == recorded && disk.format != **format) {
            return Err(OffRefusal::OtherFormat {
                disk: part.name.clone(),
                file: disk.file.clone(),
                described: disk.format.clone(),
                recorded: format.to_owned(),
            });
        }
        if !disk.chain.iter().any(|image| image.file == recorded) {
            let (disk, file) = (part.name.clone(), disk.file.clone());
            return Err(OffRefusal::OtherImage { disk, file, recorded: recorded.to_owned() });
        }
    }
    Ok(())
}

/// Whether the description names no overlay out of which a deletion that was not finished has taken the guest, or may have: what the
/// guest wrote in the image below would be lost, or written over when the two are merged again. One that names the image below is
/// believed if it named the overlay before: else it may never have been kept in step, and the overlay is what the guest wrote to.
fn check_deletions(facts: Facts<'_>) -> Result<(), OffRefusal> {
    let Some(records) = facts.records else { return Ok(()) };
    let snapshots = records.tree.topological().into_iter().filter_map(|name| records.tree.get(name));
    for part in snapshots.flat_map(|snapshot| &snapshot.disks) {
        let (Some(note), Some(disk)) = (merge::note(part), facts.observed.disk(&part.name)) else { continue };
        let names_overlay = disk.chain.iter().any(|image| image.file == note.file);
        let (disk, file, into) = (part.name.clone(), note.file.to_owned(), note.into.into());
        return Err(match (note.done, names_overlay) {
            _ if !note.ran => continue,
            (true, true) => OffRefusal::OtherImage { disk, file, recorded: into },
            (false, true) => OffRefusal::MayHaveMoved { disk, file, into },
            (false, false) if !note.described => OffRefusal::MayHaveStayed { disk, file, into },
            // It was done, or somebody says that it was.
            (_, false) => continue,
        });
    }
    Ok(())
}

/// Plans the taking of one.
pub(super) fn create(
    create: &Create,
    aligned: &Aligned,
    record: Option<WriteRecords>,
    off: Off<'_>,
    facts: Facts<'_>,
) -> Result<(Plan, Option<DomainXml>), Refusal> {
    let mut disks = aligned.targets(|place| *place != Place::No);
    let is_internal = aligned.disks.iter().any(|disk| disk.place == Place::Internal);
    let nvram = facts.observed.nvram.as_ref().filter(|_| is_internal && !create.inside);
    disks.extend(nvram.map(|nvram| nvram.target.clone()));
    let mut stages: Vec<Stage> = record.into_iter().map(Stage::one).collect();
    let below = storage::below(create, aligned, facts)?;
    stages.extend((!below.catch.is_empty()).then(|| Stage::all(below.catch)));
    let domain = if is_internal {
        stages.push(Stage::all(inside(create, aligned, off, facts)?));
        None
    } else {
        let (more, domain) = external(create, aligned, off, facts);
        stages.extend(more);
        domain
    };
    stages.extend((!below.seal.is_empty()).then(|| Stage::all(below.seal)));
    // The caller may have all the work, and nobody a record.
    if stages.is_empty() {
        stages.push(Stage { steps: Vec::new() });
    }
    let no_return = stages.len() - 1;
    let kind = match (is_internal, create.inside) {
        (true, true) => "internal, of disks alone",
        (true, false) => "internal",
        (false, _) => "disk-only",
    };
    let title = format!(
        "snapshot {} of {}, which is off: {kind}, disks {}",
        aligned.name,
        facts.domain.name,
        disks.join(" ")
    );
    let manual = aligned.targets(|place| *place == Place::Manual);
    Ok((Plan { title, disks, manual, stages, no_return }, domain))
}

fn inside(
    create: &Create,
    aligned: &Aligned,
    off: Off<'_>,
    facts: Facts<'_>,
) -> Result<Vec<AddTag>, Refusal> {
    let name = aligned.name.as_str();
    internal::check_name(&aligned.name)?;
    internal::check_is_new(&aligned.name, facts)?;
    let targets = aligned.targets(|place| *place == Place::Internal);
    let nvram = facts.observed.nvram.as_ref().filter(|_| !create.inside);
    let disks = targets.iter().filter_map(|target| facts.observed.disk(target)).chain(nvram);
    let add = disks.map(|disk| AddTag {
        program: off.tool.to_owned(),
        target: disk.target.clone(),
        file: disk.file.clone(),
        tag: name.to_owned(),
    });
    Ok(add.collect())
}

/// The stages that make the overlays, and the machine that goes on in them.
fn external(
    create: &Create,
    aligned: &Aligned,
    off: Off<'_>,
    facts: Facts<'_>,
) -> (Vec<Stage>, Option<DomainXml>) {
    let overlays: Vec<(&ObservedDisk, &Overlay)> = aligned
        .overlays()
        .filter_map(|(target, overlay)| Some((facts.observed.disk(target)?, overlay)))
        .collect();
    let reuse = create.flags.has(CreateFlag::ReuseExternal);
    let absent = |path: &Utf8PathBuf| matches!(facts.files.get(path), None | Some(FileKind::Absent));
    let new = || overlays.iter().filter(|_| !reuse);
    let reserve = new().filter(|(_, overlay)| absent(&overlay.path));
    let reserve = reserve.map(|(_, overlay)| ReserveFile { path: overlay.path.clone() });
    // It was found to be empty.
    let is_file = |path: &Utf8PathBuf| matches!(facts.files.get(path), Some(FileKind::File { .. }));
    let take = new().filter(|(_, overlay)| is_file(&overlay.path));
    let take = take.map(|(_, overlay)| UseEmptyFile { path: overlay.path.clone() });
    let reserve = reserve.map(Step::from).chain(take.map(Step::from));
    let make = new().map(|(disk, overlay)| CreateOverlay {
        program: off.tool.to_owned(),
        target: disk.target.clone(),
        file: overlay.path.clone(),
        backing_file: disk.file.clone(),
        backing_format: disk.format.clone(),
        clusters: facts.observed.clusters(&disk.file),
    });
    let mut stages = vec![Stage::all(reserve), Stage::all(make)];
    let sources = overlays.iter().map(|(disk, overlay)| (disk.target.as_str(), &*overlay.path, "qcow2"));
    let domain = facts.domain.document.as_ref().map(|document| document.with_sources(sources));
    let write = domain.as_ref().and_then(|domain| off.document(domain));
    stages.extend(write.map(Stage::one));
    stages.retain(|stage| !stage.steps.is_empty());
    (stages, domain)
}

/// Plans the removal of an internal snapshot that no record knows.
pub(super) fn delete_unrecorded(name: &str, off: Off<'_>, facts: Facts<'_>) -> Result<Planned, Refusal> {
    let steps = off.delete_tag(name, facts);
    if steps.is_empty() {
        return Err(Refusal::NoSuchSnapshot(name.to_owned()));
    }
    let disks: Vec<String> = steps.iter().map(|step| step.target.clone()).collect();
    let title = format!(
        "delete snapshot {name} of {}, which is off: internal, disks {}",
        facts.domain.name,
        disks.join(" ")
    );
    let stages = vec![Stage { steps: steps.into_iter().map(Step::from).collect() }];
    let plan = Plan { title, disks, manual: Vec::new(), stages, no_return: 0 };
    Ok(Planned { plan, tree: None, domain: None })
}
