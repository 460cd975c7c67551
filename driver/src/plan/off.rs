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

mod description;

use camino::{Utf8Path, Utf8PathBuf};

pub(super) use self::description::{check_description, check_goes_on};
pub use self::description::{in_doubt, went_on};
use super::{Facts, Plan, Planned, Stage, internal, storage};
use crate::{
    align::{Aligned, Overlay, Place},
    domain_xml::DomainXml,
    env::{FileKind, Ownership},
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
    let reserve = reserve.map(|(disk, overlay)| ReserveFile {
        path: overlay.path.clone(),
        ownership: Ownership::OfImage(disk.file.clone()),
    });
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
