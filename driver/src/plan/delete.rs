//! Deleting snapshots: which of them, in which order, and whether by their records, inside the images or by merging overlays.
//!
//! ```text
//! internal   write the records | delete the tag of the deepest | ... | of the topmost
//! external   see merge, and branches
//! metadata   write the records
//! ```
//!
//! Of an internal snapshot the record goes first. Whatever ends this half way then leaves a tag without a record, which takes
//! room and can be deleted by its name, and never a record that promises what is gone.

pub(super) mod left_out;

use std::{collections::BTreeSet, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, Plan, Planned, Records, Stage, branches, internal, merge, off, storage::parts};
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType, StoragePart},
    error::{DeleteRefusal, ImageRefusal, Refusal},
    kept::WhyKept,
    name::SnapshotName,
    observed::{Observed, ObservedDisk},
    request::{Delete, DeleteFlag, DeleteFlags, Request, RevertFlag},
    step::{DeleteSnapshot, DropOverlay, KeepImage, RemoveTag, Step, WriteRecords},
    tree::SnapshotTree,
};

/// Whether a snapshot is whole: one whose deletion was begun may not hold what its record says.
pub(super) fn check_whole(name: &str, facts: Facts<'_>) -> Result<(), Refusal> {
    let record = facts.records.and_then(|records| records.tree.get(name));
    match record.is_some_and(|record| record.disks.iter().any(|disk| disk.delete_in_progress)) {
        true => Err(DeleteRefusal::DeletionUnfinished(name.to_owned()).into()),
        false => Ok(()),
    }
}

/// The images that a plan for the request may write to or remove, and that somebody may have put another one on whom nobody here
/// knows.
pub fn at_stake(
    request: &Request,
    tree: Option<&SnapshotTree>,
    observed: &Observed,
) -> BTreeSet<Utf8PathBuf> {
    if let Request::Revert(revert) = request {
        let images = || observed.disks.iter().flat_map(|disk| &disk.chain);
        if revert.flags.has(RevertFlag::Discard) {
            let known =
                tree.into_iter().flat_map(|tree| branches::recorded_images(tree, observed).into_keys());
            return known.chain(images().map(|image| image.file.clone())).collect();
        }
        // What the guest writes to has nothing above it that is worth anything; what nobody writes to now may have.
        return images().filter(|_| observed.is_off()).map(|image| image.file.clone()).collect();
    }
    let (Request::Delete(delete), Some(tree)) = (request, tree) else { return BTreeSet::new() };
    let aside = internal::images_of_other_branches(request, Some(tree), observed).into_keys();
    let snapshot = tree.get(delete.name.as_str()).filter(|_| delete.flags.iter().next().is_none());
    let parts =
        snapshot.into_iter().flat_map(|snapshot| snapshot.disks.iter().map(move |part| (snapshot, part)));
    let external = parts.filter(|(_, part)| part.location == Some(Location::External));
    let left_out = snapshot.into_iter().flat_map(left_out::images).map(|(_, file)| file);
    let images = external.flat_map(|(snapshot, part)| {
        let own = part.path();
        let chain = observed.disk(&part.name).map(|disk| disk.chain.as_slice()).unwrap_or_default();
        let pair = chain.windows(2).find(|pair| own == Some(&*pair[0].file));
        let below = pair.map(|pair| pair[1].file.clone());
        own.map(ToOwned::to_owned).into_iter().chain(below).chain(merge::source(snapshot, &part.name))
    });
    let notes = snapshot.into_iter().flat_map(|snapshot| &snapshot.disks).filter_map(merge::note);
    let merged = notes.flat_map(|note| [note.file.to_owned(), note.into.into()]);
    images.chain(merged).chain(aside).chain(left_out).collect()
}

/// Refuses what would break an image that stands on this one and that nobody here knows.
pub(super) fn check_no_stranger(target: &str, file: &Utf8Path, facts: Facts<'_>) -> Result<(), Refusal> {
    let mut strangers = facts.beside.into_iter().flat_map(|beside| &beside.strangers);
    match strangers.find(|stranger| stranger.on == file) {
        None => Ok(()),
        Some(stranger) => {
            let (disk, file, above) = (target.to_owned(), file.to_owned(), stranger.file.clone());
            Err(DeleteRefusal::StrangerAbove { disk, file, above }.into())
        }
    }
}

/// Whether a plan for the request must know by which nodes QEMU has the images open.
pub fn needs_nodes(request: &Request, tree: Option<&SnapshotTree>) -> bool {
    let (Request::Delete(delete), Some(tree)) = (request, tree) else { return false };
    let touches_disks = !delete.flags.has(DeleteFlag::MetadataOnly);
    touches_disks && tree.get(delete.name.as_str()).is_some_and(DomainSnapshot::is_outside)
}

/// The deletions, each of one snapshot, that a request for several stands for where external ones are among them: each is a merge
/// of its own, that is planned when its turn comes. Nothing for any other request.
///
/// Of a machine that is off what is inside the images goes first, wherever it is, and nothing is in the way of the merges then.
pub fn one_by_one(request: &Request, tree: Option<&SnapshotTree>, is_off: bool) -> Vec<Request> {
    let (Request::Delete(delete), Some(tree)) = (request, tree) else { return Vec::new() };
    if delete.flags.has(DeleteFlag::MetadataOnly) || delete.flags.iter().next().is_none() {
        return Vec::new();
    }
    let mut names = doomed(delete, tree);
    let is_outside = |name: &String| tree.get(name).is_some_and(DomainSnapshot::is_outside);
    if !names.iter().any(is_outside) {
        return Vec::new();
    }
    if is_off {
        names.sort_by_key(is_outside);
    }
    let one = |name: &String| {
        let name = SnapshotName::new(name.clone()).ok()?;
        let stated = if name == delete.name { delete.stated.clone() } else { parts::Stated::new() };
        Some(Request::Delete(Delete { name, flags: DeleteFlags::default(), stated, ..delete.clone() }))
    };
    names.iter().filter_map(one).collect()
}

/// What keeps one of several deletions from being done whatever was done before it: an internal snapshot that is below an external
/// one's overlays stays there, unless it goes first; and of an overlay that two records name it is not known whose it is.
///
/// # Errors
/// [`DeleteRefusal::InternalParent`], [`DeleteRefusal::NamedTwice`].
pub fn check_one_by_one(parts: &[Request], tree: Option<&SnapshotTree>, is_off: bool) -> Result<(), Refusal> {
    let Some(tree) = tree else { return Ok(()) };
    let is_part = |name: &str| is_off && parts.iter().any(|part| part.name() == name);
    let goes_first =
        |record: &DomainSnapshot| record.name.as_deref().is_some_and(is_part) && !record.is_outside();
    let before = |record: &DomainSnapshot| tree.get(record.parent.as_deref()?);
    let records = parts.iter().filter_map(|part| tree.get(part.name()));
    for record in records.filter(|record| record.is_outside()) {
        let name = record.name.clone().unwrap_or_default();
        if tree.twin(&name).is_none() {
            record.disks.iter().try_for_each(|part| merge::check_named_once(part, &name, tree))?;
        }
        let parent =
            std::iter::successors(before(record), |record| before(record)).find(|it| !goes_first(it));
        let is_internal = |part: &&SnapshotDisk| {
            let of_parent = parent.into_iter().flat_map(|parent| &parent.disks);
            let mut of_parent = of_parent.filter(|other| other.location == Some(Location::Internal));
            part.location == Some(Location::External) && of_parent.any(|other| other.name == part.name)
        };
        if let Some(part) = record.disks.iter().find(is_internal) {
            let parent = parent.and_then(|parent| parent.name.clone()).unwrap_or_default();
            return Err(DeleteRefusal::InternalParent { name, parent, disk: part.name.clone() }.into());
        }
    }
    Ok(())
}

/// In libvirt's order of checks: the flags, the name, and unless the record alone is to go, whether it can be done.
pub(super) fn delete(delete: &Delete, facts: Facts<'_>) -> Result<Planned, Refusal> {
    let name = delete.name.as_str();
    let Some(records) = facts.records.filter(|records| records.tree.get(name).is_some()) else {
        // Nobody has recorded it: it may be in the images all the same.
        parts::check_used(&delete.stated, |_| false)?;
        return match delete.flags.iter().next() {
            Some(_) => Err(DeleteRefusal::NotRecorded(name.to_owned()).into()),
            None => match facts.off {
                Some(off) => off::delete_unrecorded(name, off, facts),
                None => {
                    Ok(Planned { plan: internal::delete(&delete.name, facts)?, tree: None, domain: None })
                }
            },
        };
    };
    let names = doomed(delete, records.tree);
    let mut tree = records.tree.clone();
    if delete.flags.has(DeleteFlag::MetadataOnly) {
        for name in &names {
            tree.forget(name);
        }
        let title = format!("forget {} of {}", list(&names), facts.domain.name);
        return finished(title, Vec::new(), Vec::new(), tree, records);
    }
    if let (None, Some(twin)) = (delete.flags.iter().next(), records.tree.twin(name)) {
        return one_of_two(name, twin, records, facts);
    }
    for name in &names {
        tree.remove(name);
    }
    if facts.off.is_some() {
        off::check_description(facts)?;
    }
    let held = held(delete, records, facts)?;
    let of = |name: &&String| records.tree.get(name).is_some_and(DomainSnapshot::is_outside);
    let planned = match names.iter().find(of) {
        None => tags(&names, tree, records, facts),
        Some(_) if delete.flags.iter().next().is_none() => {
            let snapshot = records.tree.get(name);
            match snapshot.is_some_and(|it| branches::is_branching(it, records.tree, facts.observed)) {
                true => branches::delete(name, records, facts),
                false => match merge::delete(name, records, facts) {
                    // Of one that was begun here the machine has left the chain meanwhile.
                    Err(Refusal::Delete(
                        DeleteRefusal::NotInChain { .. } | DeleteRefusal::OtherBranch { .. },
                    )) if snapshot
                        .is_some_and(|it| it.disks.iter().any(|part| merge::note(part).is_some())) =>
                    {
                        branches::delete(name, records, facts)
                    }
                    merged => merged,
                },
            }
        }
        Some(external) => Err(DeleteRefusal::ExternalAmongMany(external.clone()).into()),
    };
    with_storage(planned?, held, delete.within, facts)
}

/// Forgets one of two records of a snapshot: what holds it is the other one's too. An overlay in which the machine went on from this one
/// alone, and that it has left, goes.
fn one_of_two(name: &str, twin: &str, records: Records<'_>, facts: Facts<'_>) -> Result<Planned, Refusal> {
    let mut tree = records.tree.clone();
    tree.forget(name);
    let mut steps = Vec::new();
    let snapshot = records.tree.get(name).expect("the caller has found it");
    for part in snapshot.disks.iter().filter(|part| part.location == Some(Location::External)) {
        let (held, why) = (merge::source(snapshot, &part.name), WhyKept::Twin(twin.to_owned()));
        steps.extend(held.map(|file| Step::from(KeepImage { file, why })));
    }
    let chains = || facts.observed.disks.iter().flat_map(|disk| &disk.chain);
    let in_use = |file: &Utf8Path| chains().any(|image| image.file == file);
    let parts = snapshot.disks.iter().chain(&snapshot.revert_disks);
    let files = parts.filter(|part| part.source_type == SourceType::File);
    let left = files.filter_map(|part| Some((part, part.path()?)));
    for (part, file) in left.filter(|(_, file)| !merge::is_named(&tree, file) && !in_use(file)) {
        check_no_stranger(&part.name, file, facts)?;
        let program = facts.beside.map_or("qemu-img".into(), |beside| beside.tool.clone());
        steps.push(DropOverlay { program, file: file.to_owned(), above: Vec::new() }.into());
    }
    let machine = &facts.domain.name;
    let title = format!("delete snapshot {name} of {machine}: its record alone, for {twin} is another of it");
    finished(title, Vec::new(), steps, tree, records)
}

/// What storages hold of all that are to go.
fn held(delete: &Delete, records: Records<'_>, facts: Facts<'_>) -> Result<Vec<StoragePart>, Refusal> {
    let mut held = Vec::new();
    for name in touched(delete, records.tree) {
        let none = parts::Stated::new();
        let stated = if name == delete.name.as_str() { &delete.stated } else { &none };
        if let Some(record) = records.tree.get(&name) {
            held.extend(parts::parts(record, stated, facts.domain)?);
        }
    }
    Ok(held)
}

/// The same, and what storages hold is deleted when nothing stands on it any more. Where there is nothing else to be deleted a storage
/// that refuses is what decides: the record is written back.
fn with_storage(
    planned: Planned,
    held: Vec<StoragePart>,
    within: Duration,
    facts: Facts<'_>,
) -> Result<Planned, Refusal> {
    let Planned { mut plan, tree, domain } = planned;
    let (Some(left), false) = (&tree, held.is_empty()) else { return Ok(Planned { plan, tree, domain }) };
    let (by, targets) = (parts::by_storages(&held), held.iter().flat_map(|part| part.targets.clone()));
    let targets: Vec<String> = targets.collect();
    let deletions = parts::deletions(held, left, within, facts)?;
    if !deletions.is_empty() {
        plan.title += &by;
        let more = targets.into_iter().filter(|target| !plan.disks.contains(target));
        plan.disks.extend(more.collect::<Vec<_>>());
        plan.no_return = plan.no_return.max(usize::from(plan.stages.len() == 1));
    }
    plan.stages.extend(deletions.into_iter().map(Stage::one));
    Ok(Planned { plan, tree, domain })
}

/// The names of all of which storages are to delete what they hold; none where that is to stay.
pub(super) fn touched(delete: &Delete, tree: &SnapshotTree) -> Vec<String> {
    match delete.storage_stays || delete.flags.has(DeleteFlag::MetadataOnly) {
        true => Vec::new(),
        false => doomed(delete, tree),
    }
}

/// The names of all that are to go, each in front of what it descends from.
pub(super) fn doomed(delete: &Delete, tree: &SnapshotTree) -> Vec<String> {
    let name = delete.name.as_str();
    let below = delete.flags.has(DeleteFlag::Children) || delete.flags.has(DeleteFlag::ChildrenOnly);
    let descendants = if below { tree.descendants(name) } else { Vec::new() };
    let itself = (!delete.flags.has(DeleteFlag::ChildrenOnly)).then_some(name);
    descendants.into_iter().rev().chain(itself).map(str::to_owned).collect()
}

/// Deletes the tags of recorded internal snapshots. One that no disk has needs none of it.
fn tags(
    names: &[String],
    mut tree: SnapshotTree,
    records: Records<'_>,
    facts: Facts<'_>,
) -> Result<Planned, Refusal> {
    let mut steps: Vec<DeleteSnapshot> = Vec::new();
    let (mut apart, mut aside): (Vec<RemoveTag>, Vec<RemoveTag>) = (Vec::new(), Vec::new());
    let tagged = names.iter().filter_map(|name| Some((name, records.tree.get(name)?)));
    for (name, record) in tagged.filter(|(_, record)| record.has_tag()) {
        let mut below = internal::all_below(name, facts);
        match (facts.off, below.next()) {
            (None, Some((disk, file))) => {
                return Err(DeleteRefusal::InternalBelow { name: name.clone(), disk, file }.into());
            }
            (None, None) => steps.extend(internal::delete_tag(name, steps.len(), facts)?),
            (Some(off), first) => {
                let remove = off.delete_tag(name, facts);
                let stays = |file: &Utf8Path| remove.iter().all(|step| step.file != file);
                if let Some((disk, _)) = first.into_iter().chain(below).find(|(_, file)| stays(file)) {
                    return Err(ImageRefusal::Unknown { name: name.clone(), disk }.into());
                }
                apart.extend(remove);
            }
        }
        aside.extend(internal::delete_tag_aside(record, facts)?);
    }
    let tagged = |disk: &&ObservedDisk| {
        let live = steps.iter().any(|step| step.devices.contains(&disk.node));
        live || apart.iter().chain(&aside).any(|step| step.target == disk.target)
    };
    let disks: Vec<_> = facts.observed.images().filter(tagged).map(|disk| disk.target.clone()).collect();
    // What no image holds is in the hands of others.
    let kind = if disks.is_empty() { "" } else { ": internal" };
    let on = super::on_disks(&disks);
    let title = format!("delete {} of {}{kind}{on}", list(names), facts.domain.name);
    let last = records.tree.current().filter(|last| tree.current() != Some(*last));
    if let Some(last) = last.and_then(|last| records.tree.get(last)) {
        tree.goes_on(|current, target| merge::goes_on(target, current, None, last, facts));
    }
    let abandoned = internal::abandoned(&aside, &mut tree, facts);
    let mut left = Vec::new();
    for record in names.iter().filter_map(|name| records.tree.get(name)) {
        left.extend(left_out::left(record, &mut tree, facts));
    }
    let apart = apart.into_iter().chain(aside).map(Step::from);
    let steps = steps.into_iter().map(Step::from).chain(apart).chain(abandoned.into_iter().map(Step::from));
    let steps = steps.chain(left).collect();
    finished(title, disks, steps, tree, records)
}

/// The records first, and then one step after the other. If the first fails the records are written back; if a later one
/// does, the rest is done all the same.
fn finished(
    title: String,
    disks: Vec<String>,
    steps: Vec<Step>,
    tree: SnapshotTree,
    records: Records<'_>,
) -> Result<Planned, Refusal> {
    let mut stages = Vec::new();
    if tree != *records.tree {
        stages.push(Stage::one(WriteRecords::new(records.folder, records.tree, &tree)?));
    }
    // To clear away is no part of it.
    let clears = |step: &Step| matches!(step, Step::DropOverlay(_) | Step::KeepImage(_));
    let no_return = if steps.first().is_none_or(clears) { 0 } else { stages.len() };
    stages.extend(steps.into_iter().map(Stage::one));
    let plan = Plan { title, disks, manual: Vec::new(), stages, no_return };
    Ok(Planned { plan, tree: Some(tree), domain: None })
}

fn list(names: &[String]) -> String {
    match names {
        [] => "no snapshots".into(),
        [one] => format!("snapshot {one}"),
        all => format!("snapshots {}", all.join(" ")),
    }
}

impl DomainSnapshot {
    /// Whether deleting it is more than deleting a tag: a part of it is in files of its own, or its deletion was begun.
    pub(super) fn is_outside(&self) -> bool {
        let mut disks = self.disks.iter().chain(&self.revert_disks);
        self.memory.location == Some(Location::External)
            || disks.any(|disk| disk.location == Some(Location::External) || disk.delete_in_progress)
    }

    /// Whether a part of it is inside an image.
    pub(super) fn has_tag(&self) -> bool {
        let disk = |disk: &crate::domain_snapshot::SnapshotDisk| disk.location == Some(Location::Internal);
        self.memory.location == Some(Location::Internal) || self.disks.iter().any(disk)
    }
}
