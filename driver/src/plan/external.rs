//! External snapshots: the images stay as they are, and the guest goes on in overlays; its memory goes into a file, if it is
//! kept.
//!
//! ```text
//! write the record | reserve files -> prepare overlays, [begin the memory's file] -> [pause -> save memory] -> switch
//!                                                               the guest stands still from here ^    (live: from here ^)
//! -> [resume] -> [seal the memory's file] -> [halt]
//! ```
//!
//! All that can be done before the guest stands still is done before it, side by side; the snapshot itself is one transaction.

use super::{
    Facts, Plan, Stage,
    memory::{self, Saving},
};
use crate::{
    align::{Aligned, MemoryPlace, Overlay, Place},
    domain_snapshot::SourceType,
    env::FileKind,
    error::Refusal,
    observed::ObservedDisk,
    request::{Create, CreateFlag},
    step::{
        CarriedBitmap, Pause, PrepareOverlay, Quit, ReserveFile, Resume, Step, Switch, SwitchOverlays,
        WriteRecords,
    },
};

/// Plans the taking of one.
pub(super) fn create(
    create: &Create,
    aligned: &Aligned,
    record: Option<WriteRecords>,
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
        MemoryPlace::External(file) => Some(memory::saving(file, create, facts)?),
        MemoryPlace::No | MemoryPlace::Internal => None,
    };
    let mut stages: Vec<Stage> = record.into_iter().map(Stage::one).collect();
    stages.extend(prepare(&overlays, memory.as_ref(), create, facts));

    let runs = facts.observed.status.running;
    let stands_still = runs && (aligned.has_manual() || memory.is_some());
    // While its memory is saved live, the guest runs until QEMU itself stops it.
    let live = memory.is_some() && create.flags.has(CreateFlag::Live);
    if stands_still && !live {
        stages.push(Stage::one(Pause {}));
    }
    stages.extend(memory.iter().map(|memory| Stage { steps: vec![memory.save.clone()] }));
    let switches = overlays.iter().enumerate().map(|(index, (disk, overlay))| Switch {
        target: disk.target.clone(),
        node: disk.node.clone(),
        overlay: overlay_node(facts.unique, index),
        file: overlay.path.clone(),
        bitmaps: disk.bitmaps.iter().map(CarriedBitmap::from).collect(),
    });
    let switches: Vec<_> = switches.collect();
    if !switches.is_empty() {
        stages.push(Stage::one(SwitchOverlays { switches }));
    }
    // With the last of these the snapshot is taken; what comes behind is carried forward.
    let no_return = stages.len() - 1;
    let halt = create.flags.has(CreateFlag::Halt);
    if stands_still && !halt && !aligned.has_manual() {
        stages.push(Stage::one(Resume {}));
    }
    if let Some(memory::Saving { seal, back, .. }) = memory {
        stages.push(Stage { steps: if halt { vec![seal] } else { vec![seal, back] } });
    }
    if halt {
        stages.push(Stage::one(Quit {}));
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
    format!("snapshot {} of {}: {kind}, disks {}", aligned.name, facts.domain.name, disks.join(" "))
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
    let reserve = overlays
        .iter()
        .filter(|(_, overlay)| !reuse && absent(overlay))
        .map(|(_, overlay)| ReserveFile { path: overlay.path.clone() });
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
    });
    let reserve = reserve.map(Step::from).chain(memory.and_then(|memory| memory.reserve.clone()));
    let prepare = prepare.map(Step::from).chain(memory.into_iter().flat_map(|memory| memory.prepare.clone()));
    let stages = [Stage::all(reserve), Stage::all(prepare)];
    stages.into_iter().filter(|stage| !stage.steps.is_empty()).collect()
}

/// The name of a disk's overlay node. Node names have at most 31 bytes in QEMU, so a target cannot be in it.
fn overlay_node(unique: &str, index: usize) -> String {
    format!("ff-{unique}-{index}")
}
