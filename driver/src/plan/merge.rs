//! Deleting an external snapshot of a running machine: what its overlays hold goes down into the images below them.
//!
//! ```text
//! base <- overlay            the guest wrote to the overlay: it goes on in the base       (commit until ready, pivot)
//! base <- overlay <- later   a later snapshot is above: that one is based on the base now (commit until pending, finalize)
//!
//! record that it has begun | commit every disk, side by side | merge bitmaps | disk by disk: take the overlay out, record that
//!                          | write the records without it | remove the overlays and the file of memory, one by one
//! ```
//!
//! Every disk reads the same all the time, and no overlay is taken out before every disk is ready for it. But the images below
//! are written to from the first byte on, so from then on the snapshot is lost: its record says so
//! (`<snapshotDeleteInProgress>`) until it goes. What ends it half way leaves whole chains and such a record, and to delete the
//! snapshot again goes on from there.
//!
//! Where several images stand on a snapshot's, its content goes the other way: see [`super::branches`]. So does the rest of a deletion
//! whose images the machine has left for another branch meanwhile. Where it has left some disks of a snapshot alone, and goes on with the
//! others as they are, each is decided by itself: those lie aside, and what is of no use there is removed; the others are merged.
//!
//! Nothing that another snapshot is based on is written to or removed: who is above an image is looked up in the running
//! machine and in all records, and where a record does not say, it is taken to be in the way.

mod bitmaps;
mod records;

use camino::{Utf8Path, Utf8PathBuf};

pub(crate) use self::records::is_named;
pub(super) use self::records::{
    Note, check_named_once, done_again, is_manual, named, note, overlays, settle,
};
use self::records::{begin, done, leaves};
pub use self::records::{stayed, taken_out};
use super::{
    Facts, Off, Plan, Planned, Records, Stage,
    branches::{self, Frozen},
    delete::{check_no_stranger, left_out},
};
pub(super) use crate::tree::source;
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType},
    domain_xml::DomainXml,
    error::{DeleteRefusal, Refusal},
    kept::WhyKept,
    observed::{ObservedDisk, ObservedImage, ObservedNode},
    step::{
        ChangeBacking, CommitImage, EndCommit, KeepImage, MergeImage, RecordDeletion, RemoveFile,
        RemoveImage, RemoveMemory, Step, WriteRecords,
    },
    tree::{GoesOn, SnapshotTree},
};

/// One disk whose overlay is to be merged.
struct Merge<'a> {
    disk: &'a ObservedDisk,
    overlay: Image<'a>,
    base: Image<'a>,
    /// The image above the overlay; none if the guest writes to the overlay.
    above: Option<&'a Utf8Path>,
    /// Whether the overlay is a block device.
    device: bool,
}

/// An image and the one node that has it open.
#[derive(Clone, Copy)]
pub(super) struct Image<'a> {
    pub(super) file: &'a Utf8Path,
    pub(super) node: &'a ObservedNode,
}

/// What is to be done about a disk of the snapshot.
enum Fate<'a> {
    /// Its overlay is to be merged.
    Merge(Merge<'a>),
    /// It was merged, and that was written down in part or not at all.
    Merged(Merged<'a>),
    /// The machine has left it for another branch, and goes on with other disks of the snapshot as they are.
    Aside(Box<Frozen<'a>>),
}

impl Fate<'_> {
    /// The overlay when it is merged.
    fn merged(&self) -> Option<Merged<'_>> {
        match self {
            Fate::Merge(merge) => Some(merge.merged()),
            Fate::Merged(merged) => Some(*merged),
            Fate::Aside(_) => None,
        }
    }
}

/// An overlay that is merged.
#[derive(Clone, Copy)]
struct Merged<'a> {
    target: &'a str,
    /// The overlay.
    file: &'a Utf8Path,
    /// The image below it.
    into: &'a str,
    /// That image's format.
    format: &'a str,
    /// Whether the overlay is a block device, which is not removed.
    device: bool,
    /// Whether it was merged before, when the guest wrote to it: QEMU may have ended since.
    before: bool,
}

/// Plans the deletion of one, or the rest of it, in libvirt's order of checks.
pub(super) fn delete(name: &str, records: Records<'_>, facts: Facts<'_>) -> Result<Planned, Refusal> {
    let missing = facts.capabilities.missing_for_merge();
    if !missing.is_empty() && facts.off.is_none() {
        return Err(Refusal::Unsupported(missing));
    }
    let snapshot = records.tree.get(name).expect("the caller has found it");
    check_tree(name, snapshot, records.tree)?;
    let mut fates = Vec::new();
    for disk in &snapshot.disks {
        check_named_once(disk, name, records.tree)?;
        fates.extend(fate(disk, snapshot, records.tree, facts)?);
    }
    for fate in &fates {
        if let Some(Merged { target, file, .. }) = fate.merged() {
            check_no_stranger(target, file, facts)?;
        }
        if let Fate::Merge(merge) = fate {
            super::check_images_are_held(facts)?;
            merge.check(name, snapshot, records.tree, facts)?;
        }
    }
    Stages::new(name, records).plan(snapshot, &fates, facts)
}

/// What the records say against it.
fn check_tree(name: &str, snapshot: &DomainSnapshot, tree: &SnapshotTree) -> Result<(), Refusal> {
    let children = tree.children(name).count();
    let is_current = tree.current() == Some(name);
    if children > 1 || !snapshot.revert_disks.is_empty() || (is_current && children > 0) {
        return Err(DeleteRefusal::Branches(name.to_owned()).into());
    }
    check_no_other_begun(name, tree)
}

/// Whether no other snapshot's deletion was begun.
pub(super) fn check_no_other_begun(name: &str, tree: &SnapshotTree) -> Result<(), Refusal> {
    let begun = |other: &&str| {
        let mut disks = tree.get(other).into_iter().flat_map(|other| &other.disks);
        *other != name && disks.any(|disk| disk.delete_in_progress)
    };
    match tree.topological().into_iter().find(begun) {
        Some(other) => Err(DeleteRefusal::DeletionUnfinished(other.to_owned()).into()),
        None => Ok(()),
    }
}

/// Finds the overlay that a snapshot gave a disk in the disk's chain.
fn fate<'a>(
    part: &'a SnapshotDisk,
    snapshot: &'a DomainSnapshot,
    tree: &SnapshotTree,
    facts: Facts<'a>,
) -> Result<Option<Fate<'a>>, Refusal> {
    let name = snapshot.name.as_deref().unwrap_or_default();
    let device = part.source_type != SourceType::File;
    let merged = note(part).map(|Note { file, into, format, done, ran, .. }| {
        let merged = Merged { target: &part.name, file, into, format, device, before: ran };
        (Fate::Merged(merged), into, done)
    });
    if let Some((fate, _, true)) = merged {
        return Ok(Some(fate));
    }
    if part.location != Some(Location::External) {
        return Ok(None);
    }
    let is_apart = || branches::stands_apart(part, snapshot, tree, facts.observed);
    if !facts.has(&part.name) && is_apart() {
        return Ok(None);
    }
    let target = || part.name.clone();
    let disk = facts.observed.disk(&part.name).ok_or_else(|| facts.observed.no_image(&part.name))?;
    if let Some(filter) = &disk.busy {
        return Err(DeleteRefusal::JobOnDelete { disk: target(), filter: filter.clone() }.into());
    }
    let file = part.path().unwrap_or(Utf8Path::new(""));
    let Some(place) = disk.chain.iter().position(|image| image.file == file) else {
        if merged.is_none() && is_apart() {
            return Ok(Some(Fate::Aside(Box::new(branches::find(part, snapshot, tree, facts)?))));
        }
        let begun = merged.filter(|(_, into, _)| disk.chain.iter().any(|image| image.file == *into));
        let lost = || {
            Refusal::Delete(DeleteRefusal::NotInChain {
                name: name.to_owned(),
                disk: target(),
                file: file.to_owned(),
            })
        };
        return Ok(Some(begun.ok_or_else(lost)?.0));
    };
    let nothing = || Refusal::Delete(DeleteRefusal::NothingBelow { disk: target(), file: file.to_owned() });
    let base = disk.chain.get(place + 1).ok_or_else(nothing)?;
    let overlay = &disk.chain[place];
    if let Some(held) = overlay.snapshots.first() {
        let held = held.name.clone();
        return Err(DeleteRefusal::HoldsInternal { disk: target(), file: file.to_owned(), held }.into());
    }
    Ok(Some(Fate::Merge(Merge {
        disk,
        overlay: alone(overlay, disk, facts)?,
        base: alone(base, disk, facts)?,
        above: place.checked_sub(1).map(|above| &*disk.chain[above].file),
        device,
    })))
}

/// The image with its node, if it is one disk's alone.
pub(super) fn alone<'a>(
    image: &'a ObservedImage,
    disk: &ObservedDisk,
    facts: Facts<'_>,
) -> Result<Image<'a>, Refusal> {
    let has = |disk: &&ObservedDisk| disk.chain.iter().any(|other| other.file == image.file);
    let chains = facts.observed.disks.iter().filter(has).count();
    match image.nodes.as_slice() {
        [node] if chains == 1 => Ok(Image { file: &image.file, node }),
        nodes => Err(DeleteRefusal::ImageShared {
            disk: disk.target.clone(),
            file: image.file.clone(),
            nodes: nodes.len().max(chains),
        }
        .into()),
    }
}

impl Merge<'_> {
    /// Whether anything else depends on the two images.
    fn check(
        &self,
        name: &str,
        snapshot: &DomainSnapshot,
        tree: &SnapshotTree,
        facts: Facts<'_>,
    ) -> Result<(), Refusal> {
        let disk = || self.disk.target.clone();
        check_no_stranger(&self.disk.target, self.base.file, facts)?;
        self.check_bitmaps(facts)?;
        let parent = snapshot.parent.as_deref().and_then(|parent| tree.get(parent));
        let is_internal =
            |part: &&SnapshotDisk| part.name == self.disk.target && part.location == Some(Location::Internal);
        if let Some(parent) = parent.filter(|parent| parent.disks.iter().any(|part| is_internal(&part))) {
            let parent = parent.name.clone().unwrap_or_default();
            return Err(DeleteRefusal::InternalParent { name: name.to_owned(), parent, disk: disk() }.into());
        }
        let others = tree.topological().into_iter().filter_map(|other| tree.get(other));
        for other in others {
            if let Some(file) = self.is_below(other, facts) {
                let by = other.name.clone().unwrap_or_default();
                return Err(DeleteRefusal::OtherBranch { disk: disk(), file: file.to_owned(), by }.into());
            }
        }
        match self.recorded_above(tree, facts) {
            Some((file, by)) => Err(DeleteRefusal::OtherBranch { disk: disk(), file, by }.into()),
            None => Ok(()),
        }
    }

    /// Which of the two images is below one that a record knows and the machine does not use, by what is in that one's header, and the record:
    /// it may name as where a disk went on another one than that.
    fn recorded_above(&self, tree: &SnapshotTree, facts: Facts<'_>) -> Option<(Utf8PathBuf, String)> {
        let mut recorded = facts.beside.into_iter().flat_map(|beside| &beside.recorded);
        let above = recorded.find(|found| [self.base.file, self.overlay.file].contains(&&*found.on))?;
        let newest = tree.topological().into_iter().rev();
        let mut records = newest.filter_map(|name| tree.get(name));
        let names = |record: &&DomainSnapshot| {
            let taken = source(record, &self.disk.target).as_ref() == Some(&above.file);
            let mut parts = record.disks.iter().chain(&record.revert_disks);
            taken || parts.any(|part| part.path() == Some(&above.file))
        };
        let by = records.find(names)?.name.clone()?;
        Some((above.on.clone(), by))
    }

    /// Which of the two images is, or may be, below an overlay of this snapshot that the running machine does not use.
    fn is_below(&self, other: &DomainSnapshot, facts: Facts<'_>) -> Option<&Utf8Path> {
        let parts = other.disks.iter().chain(&other.revert_disks);
        let unused = |part: &&SnapshotDisk| {
            let mut used = facts.observed.disks.iter().flat_map(|disk| &disk.chain);
            part.location == Some(Location::External)
                && !used.any(|image| part.path() == Some(image.file.as_path()))
        };
        parts.filter(unused).find_map(|part| match source(other, &part.name) {
            Some(backing) => [self.base.file, self.overlay.file].into_iter().find(|file| *file == backing),
            // It may be any of this disk's.
            None => (part.name == self.disk.target).then_some(self.base.file),
        })
    }

    /// What is so when it is done.
    fn merged(&self) -> Merged<'_> {
        let Image { file: into, node } = self.base;
        Merged {
            target: &self.disk.target,
            file: self.overlay.file,
            into: into.as_str(),
            format: &node.format,
            device: self.device,
            before: false,
        }
    }

    fn steps(&self, number: usize, unique: &str) -> (CommitImage, EndCommit) {
        let job = format!("ff-{unique}-commit-{number}");
        let target = self.disk.target.clone();
        let commit = CommitImage {
            target: target.clone(),
            job: job.clone(),
            device: self.disk.node.clone(),
            top: self.overlay.node.name.clone(),
            base: self.base.node.name.clone(),
            backing_file: self.above.map(|_| self.base.file.to_string()),
        };
        let file = self.overlay.file.to_owned();
        (commit, EndCommit { target, job, active: self.above.is_none(), file })
    }

    fn merge_apart(&self, off: Off<'_>) -> MergeImage {
        MergeImage {
            program: off.tool.to_owned(),
            target: self.disk.target.clone(),
            file: self.overlay.file.to_owned(),
            base: self.base.file.to_owned(),
        }
    }

    /// Puts the image above on what was below; none if there is none above.
    fn rebase_apart(&self, off: Off<'_>) -> Option<ChangeBacking> {
        Some(ChangeBacking {
            program: off.tool.to_owned(),
            target: self.disk.target.clone(),
            file: self.above?.to_owned(),
            onto: self.base.file.to_owned(),
            onto_format: self.base.node.format.clone(),
            from: self.overlay.file.to_owned(),
            from_format: self.overlay.node.format.clone(),
        })
    }
}

/// The stages of a plan as they come, and what the records say after them.
struct Stages<'a> {
    name: &'a str,
    folder: &'a Utf8Path,
    /// What the records say before.
    old: &'a SnapshotTree,
    tree: SnapshotTree,
    stages: Vec<Stage>,
    /// What only the parts of it led to that were left out or are the caller's.
    left: Vec<Step>,
}

impl<'a> Stages<'a> {
    fn new(name: &'a str, records: Records<'a>) -> Self {
        let (old, tree) = (records.tree, records.tree.clone());
        Self { name, folder: records.folder, old, tree, stages: Vec::new(), left: Vec::new() }
    }

    fn plan(
        mut self,
        snapshot: &DomainSnapshot,
        fates: &[Fate<'_>],
        facts: Facts<'_>,
    ) -> Result<Planned, Refusal> {
        let merges = || {
            fates.iter().filter_map(|fate| match fate {
                Fate::Merge(merge) => Some(merge),
                _ => None,
            })
        };
        self.record(None, |tree, name| {
            merges().for_each(|merge| begin(tree, name, merge, facts));
            leaves(tree, name, merges());
        })?;
        // What lies aside is copied upwards where something stands on it, which reads the same with it and without.
        let tool = facts.beside.map_or("qemu-img".into(), |beside| beside.tool.clone());
        let rebases = aside(fates).flat_map(|disk| disk.rebases(&tool, facts.off.is_some()));
        self.stages.push(Stage::all(rebases));
        self.stages.retain(|stage| !stage.steps.is_empty());
        if let Some(off) = facts.off {
            return self.plan_apart(snapshot, fates, &merges().collect::<Vec<_>>(), off, facts);
        }
        let steps = merges().enumerate().map(|(number, merge)| merge.steps(number, facts.unique));
        let (commits, ends): (Vec<_>, Vec<_>) = steps.unzip();
        self.stages.push(Stage::all(commits));
        self.stages.push(Stage::all(merges().filter_map(Merge::merge_bitmaps)));
        self.stages.retain(|stage| !stage.steps.is_empty());
        for (number, (end, merge)) in ends.into_iter().zip(merges()).enumerate() {
            self.stages.push(Stage::one(end));
            self.record(Some(&merge.disk.target), |tree, name| {
                done(tree, name, merge.merged());
                leaves(tree, name, merges().skip(number + 1));
            })?;
        }
        self.finish(self.tree.clone(), fates, facts)?;
        let no_return = self.stages.len() - 1;
        let removals = removals(snapshot, fates, &self.tree, self.old, facts);
        self.stages.extend(removals.into_iter().map(Stage::one));
        self.stages.extend(std::mem::take(&mut self.left).into_iter().map(Stage::one));
        self.stages.extend(removed_memory(snapshot, &self.tree).map(Stage::one));
        self.stages.extend(branches::no_part(snapshot, &self.tree, facts).map(Stage::one));
        let disks: Vec<_> = merges().map(|merge| merge.disk.target.clone()).collect();
        let on = super::on_disks(&disks);
        let title = format!("delete snapshot {} of {}: external{on}", self.name, facts.domain.name);
        let plan = Plan { title, disks, manual: Vec::new(), stages: self.stages, no_return };
        Ok(Planned { plan, tree: Some(self.tree), domain: document_then(fates, facts) })
    }

    /// The same of a machine that is off. What is merged is merged by `qemu-img`, and reads the same as often as it is done, so that
    /// nothing needs to be written down on the way but that it has begun.
    fn plan_apart(
        mut self,
        snapshot: &DomainSnapshot,
        fates: &[Fate<'_>],
        merges: &[&Merge<'_>],
        off: Off<'_>,
        facts: Facts<'_>,
    ) -> Result<Planned, Refusal> {
        self.stages.push(Stage::all(merges.iter().map(|merge| merge.merge_apart(off))));
        self.stages.push(Stage::all(merges.iter().filter_map(|merge| merge.rebase_apart(off))));
        let mut document = facts.domain.document.clone();
        for merge in merges {
            let Merged { target, into, format, .. } = merge.merged();
            let sources = merge.above.is_none().then_some((target, Utf8Path::new(into), format));
            // What it says of the images behind the disk is not so any more.
            document = document.map(|document| document.without_chains().with_sources(sources));
        }
        self.stages.extend(document.as_ref().and_then(|document| off.document(document)).map(Stage::one));
        let mut tree = self.tree.clone();
        merges.iter().for_each(|merge| done(&mut tree, self.name, merge.merged()));
        self.finish(tree, fates, facts)?;
        self.stages.retain(|stage| !stage.steps.is_empty());
        let no_return = self.stages.len() - 1;
        let removals = removals(snapshot, fates, &self.tree, self.old, facts);
        let removals = removals.into_iter().filter(|removal| !removal.device);
        self.stages.extend(removals.map(|removal| match removal.merged_before {
            true => Stage::one(KeepImage { file: removal.file, why: WhyKept::MayHaveRun }),
            false => Stage::one(RemoveFile { path: removal.file }),
        }));
        self.stages.extend(std::mem::take(&mut self.left).into_iter().map(Stage::one));
        self.stages.extend(removed_memory(snapshot, &self.tree).map(Stage::one));
        self.stages.extend(branches::no_part(snapshot, &self.tree, facts).map(Stage::one));
        let disks: Vec<_> = merges.iter().map(|merge| merge.disk.target.clone()).collect();
        let on = super::on_disks(&disks);
        let title =
            format!("delete snapshot {} of {}, which is off: external{on}", self.name, facts.domain.name);
        let plan = Plan { title, disks, manual: Vec::new(), stages: self.stages, no_return };
        Ok(Planned { plan, tree: Some(self.tree), domain: document })
    }

    /// Writes down how far it has come, if that changes anything.
    fn record(
        &mut self,
        done: Option<&str>,
        change: impl FnOnce(&mut SnapshotTree, &str),
    ) -> Result<(), Refusal> {
        let mut tree = self.tree.clone();
        change(&mut tree, self.name);
        if tree != self.tree {
            let old = Records { folder: self.folder, tree: &self.tree, unread: &[] };
            self.stages.push(Stage::one(RecordDeletion::new(self.name, done, old, &tree)?));
            self.tree = tree;
        }
        Ok(())
    }

    /// Takes the snapshot out of the tree. Where the machine goes on from its parent that one says in which images.
    fn go_on_from_parent(&self, tree: &mut SnapshotTree, fates: &[Fate<'_>], facts: Facts<'_>) {
        let is_current = tree.current() == Some(self.name);
        let Some(snapshot) = tree.get(self.name).cloned() else { return };
        tree.remove(self.name);
        branches::pass_on(aside(fates), tree);
        let gone = Some(snapshot).filter(|_| is_current);
        if let Some(gone) = gone {
            let gone_image = |target: &str| {
                let mut merged = fates.iter().filter_map(Fate::merged);
                merged.find(|merged| merged.target == target).map(|merged| merged.file)
            };
            tree.goes_on(|current, target| goes_on(target, current, gone_image(target), &gone, facts));
        }
    }

    /// Writes the records without the snapshot.
    fn finish(
        &mut self,
        mut tree: SnapshotTree,
        fates: &[Fate<'_>],
        facts: Facts<'_>,
    ) -> Result<(), Refusal> {
        for fate in fates {
            if let Fate::Merged(merged) = fate {
                done(&mut tree, self.name, *merged);
            }
        }
        self.go_on_from_parent(&mut tree, fates, facts);
        self.left =
            self.old.get(self.name).map(|gone| left_out::left(gone, &mut tree, facts)).unwrap_or_default();
        self.stages.push(Stage::one(WriteRecords::new(self.folder, &self.tree, &tree)?));
        self.tree = tree;
        Ok(())
    }
}

/// Where a disk of the machine goes on from the snapshot that is `current` once `last`, which was, is gone, and with it the image `gone` of
/// its chain: in the image that `last` was taken in, or an overlay that a record has, if it stands on what the current one holds. What somebody
/// has put on that is nothing of theirs.
pub(super) fn goes_on(
    target: &str,
    current: &DomainSnapshot,
    gone: Option<&Utf8Path>,
    last: &DomainSnapshot,
    facts: Facts<'_>,
) -> GoesOn {
    let (Some(disk), Some(records)) = (facts.observed.disk(target), facts.records) else {
        return GoesOn::Unknown;
    };
    let then = source(last, target);
    let gives = |part: &SnapshotDisk, file: &Utf8Path| {
        part.name == target && part.location == Some(Location::External) && part.path() == Some(file)
    };
    let is_known = |file: &Utf8Path| {
        let names = records.tree.topological().into_iter();
        let mut parts = names.filter_map(|name| records.tree.get(name));
        let is_given = parts.any(|it| it.disks.iter().chain(&it.revert_disks).any(|part| gives(part, file)));
        then.as_deref() == Some(file) || is_given
    };
    let chain = disk.chain.iter().map(|image| &*image.file);
    let chain: Vec<&Utf8Path> = chain.filter(|file| Some(*file) != gone).collect();
    let held = source(current, target);
    let own = current.disks.iter().find(|part| part.name == target).and_then(SnapshotDisk::path);
    let place = chain.iter().position(|file| Some(*file) == held.as_deref());
    let above = &chain[..place.unwrap_or(chain.len())];
    let known = above.iter().find(|file| is_known(file)).map(|file| (*file).to_owned());
    match (place, known) {
        (Some(place), known) => {
            GoesOn::In(known.unwrap_or_else(|| chain[place.saturating_sub(1)].to_owned()))
        }
        (None, Some(known)) if held.is_none() || own == Some(&known) => GoesOn::In(known),
        (None, _) if held.is_some() && chain.iter().all(|file| file.is_absolute()) => GoesOn::Nowhere,
        (None, _) => GoesOn::Unknown,
    }
}

/// The images that lie aside.
fn aside<'f, 'a>(fates: &'f [Fate<'a>]) -> impl Iterator<Item = &'f Frozen<'a>> {
    fates.iter().filter_map(|fate| match fate {
        Fate::Aside(frozen) => Some(&**frozen),
        _ => None,
    })
}

/// The overlays that are to be removed, unless a record still names them.
fn removals(
    snapshot: &DomainSnapshot,
    fates: &[Fate<'_>],
    left: &SnapshotTree,
    old: &SnapshotTree,
    facts: Facts<'_>,
) -> Vec<RemoveImage> {
    let images = fates.iter().filter_map(Fate::merged);
    let free = images.filter(|merged| !is_named(left, merged.file));
    let free = free.map(|merged| RemoveImage {
        file: merged.file.to_owned(),
        device: merged.device,
        merged_before: merged.before,
    });
    free.chain(branches::removals(snapshot, aside(fates), Vec::new(), left, old, facts)).collect()
}

/// The file of memory that is to be removed, unless a record still names it.
pub(super) fn removed_memory(snapshot: &DomainSnapshot, left: &SnapshotTree) -> Option<RemoveMemory> {
    let is_external = snapshot.memory.location == Some(Location::External);
    let path = snapshot.memory.file.clone().filter(|file| is_external && !is_named(left, file))?;
    Some(RemoveMemory { path })
}

/// The machine's description then, if it names an overlay that is gone.
fn document_then(fates: &[Fate<'_>], facts: Facts<'_>) -> Option<DomainXml> {
    let document = facts.described.or(facts.domain.document.as_ref())?;
    let merged = fates.iter().filter_map(Fate::merged);
    let is_named = |merged: &Merged<'_>| {
        document.disk(merged.target).is_some_and(|disk| disk.path() == Some(merged.file))
    };
    let sources =
        merged.filter(is_named).map(|merged| (merged.target, Utf8Path::new(merged.into), merged.format));
    let changed = document.with_sources(sources);
    (changed != *document).then_some(changed)
}

#[cfg(test)]
mod tests;
