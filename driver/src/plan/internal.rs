//! Internal snapshots: machine and disks under one tag inside the qcow2 images.

mod aside;

use camino::{Utf8Path, Utf8PathBuf};

pub use self::aside::images_of_other_branches;
pub(super) use self::aside::{abandoned, check_is_not_left, delete_tag as delete_tag_aside};
use super::{
    Facts, Plan, Records, Stage, check_images_are_held, delete::check_no_stranger, merge, targets, transient,
};
use crate::{
    align::{Aligned, Place},
    capabilities::InternalMethod,
    domain_snapshot::Location,
    error::{Refusal, RevertRefusal},
    mutant::{Mutant, planted},
    name::SnapshotName,
    observed::ObservedDisk,
    request::{Create, CreateFlag},
    step::{
        DeleteSnapshot, LoadSnapshot, MarkProcess, Naming, Pause, Quit, Resume, SaveSnapshot, Step,
        ThawLoaded, WriteRecords,
    },
};

/// Plans the taking of one: all writable disks and the memory, in one job.
pub(super) fn create(
    create: &Create,
    aligned: &Aligned,
    record: Option<WriteRecords>,
    facts: Facts<'_>,
) -> Result<Plan, Refusal> {
    check_name(&aligned.name)?;
    let method = method(facts)?;
    check_images_are_held(facts)?;
    let internal = aligned.targets(|place| *place == Place::Internal);
    let mut disks: Vec<_> = internal.iter().filter_map(|target| facts.observed.disk(target)).collect();
    disks.extend(&facts.observed.nvram);
    check_is_new(&aligned.name, facts)?;
    let name = aligned.name.as_str();
    let memory = memory_disk(create.vmstate.as_deref(), &disks, method, facts)?;
    let title = format!(
        "snapshot {name} of {}: internal with memory on {}, disks {}",
        facts.domain.name,
        memory.target,
        targets(&disks).join(" ")
    );
    let save = SaveSnapshot {
        method,
        job: format!("ff-{}-save", facts.unique),
        tag: name.to_owned(),
        vmstate: memory.node.clone(),
        devices: nodes(&disks),
    };
    let mut stages: Vec<_> = record.into_iter().map(Stage::one).collect();
    let halt = create.flags.has(CreateFlag::Halt);
    if halt && facts.observed.status.running {
        // It is not to run on between the snapshot and its end.
        stages.push(Stage::one(Pause {}));
    }
    let no_return = stages.len();
    stages.push(Stage::one(save));
    if halt {
        stages.push(Stage::one(Quit {}));
        stages.extend(transient::removal(facts));
    }
    Ok(Plan { title, disks: targets(&disks), manual: Vec::new(), stages, no_return })
}

/// Whether QEMU would take it for a name: it looks for the number of a snapshot first.
pub(super) fn check_name(name: &SnapshotName) -> Result<(), Refusal> {
    if name.could_be_id() { Err(Refusal::AllDigits(name.to_string())) } else { Ok(()) }
}

/// Whether no image in use has one of that name. QEMU refuses a tag only where every disk has it; on some alone it would make a
/// second of that name, and so does `qemu-img`.
pub(super) fn check_is_new(name: &SnapshotName, facts: Facts<'_>) -> Result<(), Refusal> {
    match tagged(name.as_str(), facts).first() {
        Some(disk) => Err(Refusal::Exists { name: name.to_string(), disk: disk.target.clone() }),
        None => Ok(()),
    }
}

/// Plans the way back to one within the process that runs. `runs` says whether the guest is to run then; without it, it does what
/// it does now.
pub(super) fn revert(
    name: &SnapshotName,
    runs: Option<bool>,
    record: Option<WriteRecords>,
    facts: Facts<'_>,
) -> Result<Plan, Refusal> {
    let method = method(facts)?;
    let (disks, memory) = held(name, facts)?;
    check_images_are_held(facts)?;
    check_nothing_stands_on(name, &disks, &[], facts)?;
    let title =
        format!("revert {} to {name}: internal, disks {}", facts.domain.name, targets(&disks).join(" "));
    let running = facts.observed.status.running;
    let runs = runs.unwrap_or(running);
    let load = LoadSnapshot {
        method,
        job: format!("ff-{}-load", facts.unique),
        tag: name.to_string(),
        vmstate: memory.node.clone(),
        devices: nodes(&disks),
        naming: Naming::Nodes,
        running,
        pauses: running && !runs,
        mark: mark(method, facts.unique),
    };
    let mark = load.mark.clone().map(|node| MarkProcess { node });
    let forget = load.forget();
    let before = record.map(Step::from).into_iter().chain(mark.map(Step::from)).collect();
    let mut stages = vec![Stage { steps: before }];
    stages.retain(|stage| !stage.steps.is_empty());
    let no_return = stages.len();
    stages.push(Stage::one(load));
    if runs && !running {
        stages.push(Stage::one(Resume::default()));
    }
    stages.extend(thaw_loaded(runs, facts));
    stages.extend(forget.map(Stage::one));
    Ok(Plan { title, disks: targets(&disks), manual: Vec::new(), stages, no_return })
}

/// What the mark in the process is called that a load is found by; the human monitor loads before it answers.
pub(super) fn mark(method: InternalMethod, unique: &str) -> Option<String> {
    (method == InternalMethod::Jobs).then(|| format!("ff-{unique}-mark"))
}

/// The thaw of a guest that runs once its memory is loaded, in which it may be frozen. One that stands still cannot be asked.
pub(super) fn thaw_loaded(runs: bool, facts: Facts<'_>) -> Option<Stage> {
    (runs && facts.has_agent).then(|| Stage::one(ThawLoaded {}))
}

/// The disks that hold it, all that the guest can write among them, and the one that holds the memory too.
pub(super) fn held<'a>(
    name: &SnapshotName,
    facts: Facts<'a>,
) -> Result<(Vec<&'a ObservedDisk>, &'a ObservedDisk), Refusal> {
    let disks = holders(name, facts)?;
    let has_memory = |disk: &&&ObservedDisk| {
        disk.snapshot(name.as_str()).is_some_and(|snapshot| snapshot.vm_state_size > 0)
    };
    let memory: Vec<_> = disks.iter().filter(has_memory).copied().collect();
    match memory.as_slice() {
        [memory] => Ok((disks, memory)),
        _ => Err(Refusal::MachineState { name: name.to_string(), found: memory.len() }),
    }
}

/// The disks that hold it, all that the guest can write among them.
pub(super) fn holders<'a>(name: &SnapshotName, facts: Facts<'a>) -> Result<Vec<&'a ObservedDisk>, Refusal> {
    let writable = || facts.observed.images().filter(|disk| !disk.readonly);
    let disks = tagged(name.as_str(), facts);
    let without = writable()
        .find(|disk| disk.snapshot(name.as_str()).is_none())
        .filter(|_| !planted(Mutant::AsksOneDisk));
    if without.is_none() && !disks.is_empty() {
        return Ok(disks);
    }
    let name = name.to_string();
    Err(match (below(&name, facts), without.filter(|_| !disks.is_empty())) {
        (Some((disk, file)), _) => RevertRefusal::OverlayAbove { name, disk, file }.into(),
        (None, Some(without)) => Refusal::NotOnDisk { name, disk: without.target.clone() },
        (None, None) => Refusal::NoSuchSnapshot(name),
    })
}

/// Plans the removal of one that the images alone know, from the disks that have it.
pub(super) fn delete(name: &SnapshotName, facts: Facts<'_>) -> Result<Plan, Refusal> {
    let step = delete_tag(name.as_str(), 0, facts)?;
    let delete = step.ok_or_else(|| Refusal::NoSuchSnapshot(name.to_string()))?;
    let disks = targets(&tagged(name.as_str(), facts));
    let title =
        format!("delete snapshot {name} of {}: internal, disks {}", facts.domain.name, disks.join(" "));
    Ok(Plan { title, disks, manual: Vec::new(), stages: vec![Stage::one(delete)], no_return: 0 })
}

/// The step that removes one from the disks that have it, the so manieth of a plan from 0; none if no disk has it.
pub(super) fn delete_tag(
    name: &str,
    number: usize,
    facts: Facts<'_>,
) -> Result<Option<DeleteSnapshot>, Refusal> {
    let method = method(facts)?;
    let disks = tagged(name, facts);
    if !disks.is_empty() {
        check_images_are_held(facts)?;
    }
    let number = if number == 0 { String::new() } else { format!("-{number}") };
    Ok((!disks.is_empty()).then(|| DeleteSnapshot {
        method,
        job: format!("ff-{}-delete{number}", facts.unique),
        tag: name.to_owned(),
        devices: nodes(&disks),
        naming: Naming::Nodes,
    }))
}

/// The disks whose image in use has it.
pub(super) fn tagged<'a>(name: &str, facts: Facts<'a>) -> Vec<&'a ObservedDisk> {
    facts.observed.images().filter(|disk| disk.snapshot(name).is_some()).collect()
}

/// The image of a disk's chain that has it: the one that it was taken in by its record, or else the one in use.
pub(super) fn image_with<'a>(name: &str, disk: &'a ObservedDisk, facts: Facts<'_>) -> Option<&'a Utf8Path> {
    let record = facts.records.and_then(|records| records.tree.get(name));
    let source = record.and_then(|record| merge::source(record, &disk.target));
    let taken_in = disk.chain.iter().find(|image| image.holds(name) && source.as_ref() == Some(&image.file));
    let in_use = || disk.snapshot(name).map(|_| &*disk.file);
    taken_in.map(|image| &*image.file).or_else(in_use)
}

/// A disk whose image in use does not have it, and one below that has.
pub(super) fn below(name: &str, facts: Facts<'_>) -> Option<(String, Utf8PathBuf)> {
    all_below(name, facts).next()
}

/// All disks whose image in use does not have it, each with the topmost one below that has.
pub(super) fn all_below(name: &str, facts: Facts<'_>) -> impl Iterator<Item = (String, Utf8PathBuf)> {
    let without = facts.observed.images().filter(move |disk| disk.snapshot(name).is_none());
    without.filter_map(move |disk| {
        let image = disk.chain.iter().skip(1).find(|image| image.holds(name))?;
        Some((disk.target.clone(), image.file.clone()))
    })
}

/// Whether no overlay, of a recorded snapshot or of nobody's, stands on the images of these disks, as one does that the machine was taken out of behind the
/// records' back: going back would change what it reads. Where a record does not say what its overlay stands on, that may be any
/// image of its disk. What those have that go with it goes before.
pub(super) fn check_nothing_stands_on(
    name: &SnapshotName,
    disks: &[&ObservedDisk],
    going: &[String],
    facts: Facts<'_>,
) -> Result<(), Refusal> {
    for disk in disks {
        check_no_stranger(&disk.target, &disk.file, facts)?;
    }
    let Some(Records { tree, .. }) = facts.records else { return Ok(()) };
    let stays = |other: &&str| going.iter().all(|going| going != other);
    for other in tree.topological().into_iter().filter(stays).filter_map(|other| tree.get(other)) {
        let parts = other.disks.iter().chain(&other.revert_disks);
        for part in parts.filter(|part| part.location == Some(Location::External)) {
            let source = merge::source(other, &part.name);
            let stands = |disk: &&&ObservedDisk| match &source {
                Some(below) => disk.file == *below,
                None => {
                    disk.target == part.name
                        && disk.chain.iter().all(|image| part.path() != Some(&image.file))
                }
            };
            if let Some(disk) = disks.iter().find(stands) {
                return Err(RevertRefusal::RecordedAbove {
                    name: name.to_string(),
                    disk: disk.target.clone(),
                    file: disk.file.clone(),
                    above: part.path().unwrap_or(Utf8Path::new("")).to_owned(),
                    by: other.name.clone().unwrap_or_default(),
                }
                .into());
            }
        }
    }
    Ok(())
}

pub(super) fn method(facts: Facts<'_>) -> Result<InternalMethod, Refusal> {
    facts
        .capabilities
        .internal_method()
        .ok_or(Refusal::Unsupported(vec!["snapshot-save", "human-monitor-command"]))
}

/// The disk that takes the memory.
fn memory_disk<'a>(
    wanted: Option<&str>,
    disks: &[&'a ObservedDisk],
    method: InternalMethod,
    facts: Facts<'_>,
) -> Result<&'a ObservedDisk, Refusal> {
    // `savevm` takes the first disk that can hold it, in QEMU's own order, whatever we would like.
    let first = match method {
        InternalMethod::Jobs => disks[0],
        InternalMethod::HumanMonitor => {
            disks.iter().min_by_key(|disk| disk.place).expect("a snapshot has a disk")
        }
    };
    let Some(wanted) = wanted else { return Ok(first) };
    facts.domain.known(wanted)?;
    let disk = disks.iter().find(|disk| disk.target == wanted);
    let disk = disk.ok_or_else(|| Refusal::VmstateElsewhere(wanted.to_owned()))?;
    match method {
        InternalMethod::HumanMonitor if disk.target != first.target => {
            Err(Refusal::VmstateNotChoosable(first.target.clone()))
        }
        _ => Ok(disk),
    }
}

fn nodes(disks: &[&ObservedDisk]) -> Vec<String> {
    disks.iter().map(|disk| disk.node.clone()).collect()
}
