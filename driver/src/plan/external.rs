//! External snapshots: the images stay as they are, and the guest goes on in overlays; its memory goes into a file, if it is
//! kept.
//!
//! ```text
//! write the record | reserve files -> prepare overlays -> [pause -> save memory] -> switch -> [resume | halt]
//!                                                          `--- the guest stands still only here ---'
//! ```
//!
//! All that can be done before the guest stands still is done before it, side by side; the snapshot itself is one transaction.

use super::{Facts, Plan, Stage};
use crate::{
    align::{Aligned, MemoryPlace, Overlay, Place},
    domain_snapshot::SourceType,
    env::FileKind,
    error::Refusal,
    observed::ObservedDisk,
    request::{Create, CreateFlag},
    step::{
        CarriedBitmap, Pause, PrepareOverlay, Quit, ReserveFile, Resume, Switch, SwitchOverlays, WriteRecords,
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
    let mut stages: Vec<Stage> = record.into_iter().map(Stage::one).collect();
    let reuse = create.flags.has(CreateFlag::ReuseExternal);
    stages.extend(prepare(&overlays, reuse, facts));

    let pauses = facts.observed.status.running && (aligned.has_manual() || aligned.memory != MemoryPlace::No);
    if pauses {
        stages.push(Stage::one(Pause {}));
    }
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
    if create.flags.has(CreateFlag::Halt) {
        stages.push(Stage::one(Quit {}));
    } else if pauses && !aligned.has_manual() {
        stages.push(Stage::one(Resume {}));
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

/// Reserves the overlays' files and makes and opens the overlays.
fn prepare(overlays: &[(&ObservedDisk, &Overlay)], reuse: bool, facts: Facts<'_>) -> Vec<Stage> {
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
    let stages = [Stage::all(reserve), Stage::all(prepare)];
    stages.into_iter().filter(|stage| !stage.steps.is_empty()).collect()
}

/// The name of a disk's overlay node. Node names have at most 31 bytes in QEMU, so a target cannot be in it.
fn overlay_node(unique: &str, index: usize) -> String {
    format!("ff-{unique}-{index}")
}
