//! External snapshots: the images stay as they are, and the guest goes on in overlays; its memory goes into a file, if it is
//! kept.
//!
//! ```text
//! reserve files -> write the record, prepare overlays, [begin the memory's file] -> [pause -> save memory] -> [freeze] -> switch
//!                                                               the guest stands still from here ^    (live: from here ^)
//! -> [thaw] -> [resume] -> [seal the memory's file] -> [halt]
//! ```
//! Disks that the storage below them takes are caught right before the switch: see [`super::storage`].
//!
//! With memory in the background the disks are switched first, and both are of the moment in which the guest stands still:
//!
//! ```text
//! ... -> pause -> switch -> save memory, and let the guest go on as soon as it is held -> seal
//! ```
//!
//! A memory that cannot be written then puts the disks back too: what the guest has written since goes down into its images.
//!
//! All that can be done before the guest stands still is done before it, side by side; the snapshot itself is one transaction.

use super::{
    Facts, Plan, Stage,
    memory::{self, Saving},
    storage, transient,
};
use crate::{
    align::{Aligned, MemoryPlace, Overlay, Place},
    domain_snapshot::SourceType,
    env::{FileKind, Ownership},
    error::Refusal,
    observed::ObservedDisk,
    request::{Create, CreateFlag},
    step::{
        CarriedBitmap, Freeze, Meanwhile, Pause, PrepareOverlay, Quit, ReserveFile, Resume, Step, Switch,
        SwitchOverlays, Thaw, UseEmptyFile, WriteRecords,
    },
};

/// Plans the taking of one.
pub(super) fn create(
    create: &Create,
    aligned: &Aligned,
    record: Option<WriteRecords>,
    freeze: Option<Freeze>,
    facts: Facts<'_>,
) -> Result<Plan, Refusal> {
    let missing = facts.capabilities.missing_for_external();
    if !missing.is_empty() {
        return Err(Refusal::Unsupported(missing));
    }
    if let Some(disk) = &create.vmstate {
        return Err(Refusal::VmstateElsewhere(disk.clone()));
    }
    let overlays: Vec<(&ObservedDisk, &Overlay)> = aligned
        .overlays()
        .map(|(target, overlay)| Some((facts.observed.disk(target)?, overlay)))
        .collect::<Option<_>>()
        .expect("every disk with an overlay was found to have an image");
    let memory = match &aligned.memory {
        MemoryPlace::External(file) => Some(memory::saving(file, create, aligned, facts)?),
        MemoryPlace::No | MemoryPlace::Internal => None,
    };
    let mut stages = prepare(&overlays, memory.as_ref(), create, facts);
    // The record is written while QEMU makes the overlays: both wait for the disk.
    match stages.last_mut() {
        Some(beside) => beside.steps.splice(..0, record.map(Step::from)).for_each(drop),
        None => stages.extend(record.map(Stage::one)),
    }

    let below = storage::below(create, aligned, facts)?;
    let runs = facts.observed.status.running;
    // Of several moments one is made by a guest that stands still.
    let moments = below.catch.len() + usize::from(!overlays.is_empty());
    let between = !below.catch.is_empty() && moments > 1 && freeze.is_none();
    let stands_still = runs && (aligned.has_manual() || memory.is_some() || between);
    let meanwhile = memory.as_ref().map(|memory| memory.guest);
    // While its memory is saved live, the guest runs until QEMU itself stops it.
    if stands_still && meanwhile != Some(Meanwhile::Live) {
        stages.push(Stage::one(Pause {}));
    }
    let switches = overlays.iter().enumerate().map(|(index, (disk, overlay))| Switch {
        target: disk.target.clone(),
        node: disk.node.clone(),
        overlay: overlay_node(facts.unique, index),
        file: overlay.path.clone(),
        reused: create.flags.has(CreateFlag::ReuseExternal),
        bitmaps: disk.bitmaps.iter().map(CarriedBitmap::from).collect(),
    });
    // Only disks alone are taken of a guest at rest: between it and the switch is nothing.
    let thaw = freeze.is_some().then_some(Thaw {});
    stages.extend(freeze.map(Stage::one));
    let switch = SwitchOverlays { switches: switches.collect(), with_memory: memory.is_some() };
    let switch = (!switch.switches.is_empty()).then(|| Stage::one(switch));
    let save = memory.as_ref().map(|memory| Stage { steps: vec![memory.save.clone()] });
    let alone = switch.is_none() && save.is_none() && !stands_still;
    let catch = (!below.catch.is_empty()).then(|| Stage::all(below.catch));
    let seal = (!below.seal.is_empty()).then(|| Stage::all(below.seal));
    stages.extend(match meanwhile {
        Some(Meanwhile::Background) => [catch, switch, save].into_iter().flatten(),
        _ => [save, catch, switch].into_iter().flatten(),
    });
    // With the last of these the snapshot is taken; what comes behind is carried forward. There is none where the caller takes
    // all disks of a guest that stands still. Storages alone have taken it when all is complete: until then nothing stands on it.
    let mut no_return = stages.len().saturating_sub(1);
    stages.extend(thaw.map(Stage::one));
    if alone && seal.is_some() {
        no_return = stages.len();
    }
    let halt = create.flags.has(CreateFlag::Halt);
    if stands_still && !halt && !aligned.has_manual() {
        stages.push(Stage::one(Resume { unless_of_its_own: true }));
    }
    stages.extend(seal);
    if let Some(memory::Saving { seal, back, .. }) = memory {
        stages.push(Stage { steps: if halt { vec![seal] } else { vec![seal, back] } });
    }
    if halt {
        stages.push(Stage::one(Quit {}));
        stages.extend(transient::removal(facts));
    }
    let disks = aligned.targets(|place| *place != Place::No);
    let manual = aligned.targets(|place| *place == Place::Manual);
    Ok(Plan { title: title(aligned, &disks, facts), disks, manual, stages, no_return })
}

fn title(aligned: &Aligned, disks: &[String], facts: Facts<'_>) -> String {
    let kind = match &aligned.memory {
        MemoryPlace::External(file) => format!("with memory in {}", file.file_name().unwrap_or_default()),
        MemoryPlace::No | MemoryPlace::Internal => "disk-only".into(),
    };
    let below =
        facts.below.iter().map(|held| format!(", {} by {}", held.targets.join(" "), held.volumes.method));
    let below: String = below.collect();
    format!("snapshot {} of {}: {kind}, disks {}{below}", aligned.name, facts.domain.name, disks.join(" "))
}

/// Reserves the files, and makes ready all that can be before the guest stands still: overlays are made and opened, the
/// memory's file is begun.
fn prepare(
    overlays: &[(&ObservedDisk, &Overlay)],
    memory: Option<&Saving>,
    create: &Create,
    facts: Facts<'_>,
) -> Vec<Stage> {
    let reuse = create.flags.has(CreateFlag::ReuseExternal);
    let absent = |overlay: &Overlay| {
        !matches!(facts.files.get(&overlay.path), Some(FileKind::File { .. } | FileKind::Device))
    };
    let is_file = |overlay: &Overlay| matches!(facts.files.get(&overlay.path), Some(FileKind::File { .. }));
    let reserve = overlays.iter().filter(|_| !reuse).filter_map(|(disk, overlay)| {
        let path = overlay.path.clone();
        let ownership = Ownership::OfImage(disk.file.clone());
        match absent(overlay) {
            true => Some(Step::from(ReserveFile { path, ownership })),
            // It was found to be empty.
            false => is_file(overlay).then(|| UseEmptyFile { path }.into()),
        }
    });
    let prepare = overlays.iter().enumerate().map(|(index, (disk, overlay))| PrepareOverlay {
        target: disk.target.clone(),
        job: format!("ff-{}-create-{index}", facts.unique),
        file: overlay.path.clone(),
        device: overlay.source_type == SourceType::Block,
        reuse,
        file_node: format!("ff-{}-{index}-file", facts.unique),
        node: overlay_node(facts.unique, index),
        size: disk.size,
        backing_file: disk.file.clone(),
        backing_format: disk.format.clone(),
        clusters: facts.observed.clusters(&disk.file),
        metadata_cache: overlay.metadata_cache,
    });
    let reserve = reserve.chain(memory.and_then(|memory| memory.reserve.clone()));
    let prepare = prepare.map(Step::from).chain(memory.into_iter().flat_map(|memory| memory.prepare.clone()));
    let stages = [Stage::all(reserve), Stage::all(prepare)];
    stages.into_iter().filter(|stage| !stage.steps.is_empty()).collect()
}

/// The name of a disk's overlay node. Node names have at most 31 bytes in QEMU, so a target cannot be in it.
fn overlay_node(unique: &str, index: usize) -> String {
    format!("ff-{unique}-{index}")
}
