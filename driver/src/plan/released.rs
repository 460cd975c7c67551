//! The overlays that nothing leads to any more when an operation is done, wherever they lie.
//!
//! ```text
//! base <- s2-1 <- s6 <- s12     of s6 no record is left, s12 was taken in it, and the machine has gone back to the base
//!     \\- s2-2                 delete s12: s6 goes with it, and s2-1 with that
//! ```
//! An overlay may be in no chain of the machine's and have stayed for an internal snapshot in it, or for what stood on it; and the record that
//! named it names another one by now. Nobody would know of it then, and it would stand in the way of the deletion of what is below it. So each
//! that the records named before and name no more is looked at by the headers of what stands on it: it goes with the last of those, and where
//! one stays of which no record tells either, that is told.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, Planned, Stage, delete, merge};
use crate::{
    domain_snapshot::DomainSnapshot,
    domain_xml::DomainXml,
    kept::WhyKept,
    launch::chain::Chains,
    qemu_img::ImageInfo,
    request::{DeleteFlag, Request, RevertFlag},
    step::{DropOverlay, KeepImage, RemoveFile, RemoveImage, Step},
    tree::SnapshotTree,
};

/// The overlays that a request may leave without a record that names them, each with its disk: those of the snapshots that go, that are
/// gone back to or become the current one, and all that are said to be where a disk went on.
fn at_stake(request: &Request, tree: &SnapshotTree) -> BTreeMap<Utf8PathBuf, String> {
    let mut names: BTreeSet<String> = match request {
        Request::Delete(delete) if !delete.flags.has(DeleteFlag::MetadataOnly) => {
            let doomed = delete::doomed(delete, tree);
            let parent = |name: &String| tree.get(name)?.parent.clone();
            doomed.iter().filter_map(parent).chain(doomed.iter().cloned()).collect()
        }
        Request::Revert(revert) => {
            let name = revert.name.as_str();
            let discards = revert.flags.has(RevertFlag::Discard);
            let descendants = if discards { tree.descendants(name) } else { Vec::new() };
            descendants.into_iter().chain([name]).map(str::to_owned).collect()
        }
        Request::Delete(_) | Request::Create(_) => return BTreeMap::new(),
    };
    names.extend(tree.current().map(str::to_owned));
    let records = tree.topological().into_iter().filter_map(|name| tree.get(name));
    let is_touched = |record: &&DomainSnapshot| {
        !record.revert_disks.is_empty() || record.name.as_ref().is_some_and(|name| names.contains(name))
    };
    let overlays = merge::overlays(records.filter(is_touched));
    overlays.map(|(target, file)| (file.to_owned(), target.to_owned())).collect()
}

/// Those overlays, and the images that the snapshots hold that they are of: what stands on any of them a plan will want to know.
pub fn may_be_released(request: &Request, tree: &SnapshotTree) -> BTreeSet<Utf8PathBuf> {
    let overlays = at_stake(request, tree);
    let mut images = BTreeSet::new();
    for record in tree.topological().into_iter().filter_map(|name| tree.get(name)) {
        let own = merge::overlays(std::iter::once(record)).filter(|(_, file)| overlays.contains_key(*file));
        let targets: BTreeSet<&str> = own.map(|(target, _)| target).collect();
        images.extend(targets.into_iter().filter_map(|target| merge::source(record, target)));
    }
    images.extend(overlays.into_keys());
    images
}

/// The plan, and what becomes of the overlays that nothing leads to any more behind it.
pub(super) fn with_released(request: &Request, mut planned: Planned, facts: Facts<'_>) -> Planned {
    let (Some(records), Some(tree), Some(_)) = (facts.records, &planned.tree, facts.beside) else {
        return planned;
    };
    let mut at_stake = at_stake(request, records.tree);
    if at_stake.is_empty() {
        return planned;
    }
    let left = merge::overlays(tree.topological().into_iter().filter_map(|name| tree.get(name)));
    left.for_each(|(_, file)| drop(at_stake.remove(file)));
    let images = Images::of(request, &planned, facts);
    let reached = images.reached(request, &planned, tree, facts);
    at_stake.retain(|file, _| !reached.contains(&**file) && !images.is_decided(file));
    let is_of_machine = |target: &str| match (request, &planned.domain) {
        (Request::Revert(_), Some(machine)) => {
            machine.disk(target).is_some_and(|disk| disk.element().child("source").is_some())
        }
        _ => facts.has(target),
    };
    let steps = images.released(at_stake, is_of_machine, facts);
    planned.plan.stages.extend(steps.into_iter().map(Stage::one));
    planned
}

/// What stands on what, and which of it the plan removes or keeps already.
#[derive(Default)]
struct Images {
    /// Images and what they stand on.
    below: BTreeMap<Utf8PathBuf, BTreeSet<Utf8PathBuf>>,
    removed: BTreeSet<Utf8PathBuf>,
    kept: BTreeSet<Utf8PathBuf>,
    /// The disks of which the plan keeps what may be another's.
    others: BTreeSet<String>,
}

impl Images {
    fn of(request: &Request, planned: &Planned, facts: Facts<'_>) -> Self {
        let mut below: BTreeMap<Utf8PathBuf, BTreeSet<Utf8PathBuf>> = BTreeMap::new();
        let mut stands = |above: &Utf8Path, on: &Utf8Path| {
            below.entry(above.to_owned()).or_default().insert(on.to_owned());
        };
        for pair in facts.observed.disks.iter().flat_map(|disk| disk.chain.windows(2)) {
            stands(&pair[0].file, &pair[1].file);
        }
        if let Some(beside) = facts.beside {
            for (file, info) in &beside.images {
                let on = info.as_ref().ok().and_then(ImageInfo::backing_file);
                on.iter().for_each(|on| stands(file, on));
            }
            let standing = beside.standing.iter().chain(&beside.recorded).chain(&beside.strangers);
            standing.for_each(|found| stands(&found.file, &found.on));
        }
        if let (Some(chains), Some(record)) = (chains_then(facts), reverted_to(request, facts)) {
            for (target, behind) in chains {
                let source = merge::source(record, target);
                let chain: Vec<_> = source.iter().chain(behind.iter().map(|image| &image.file)).collect();
                chain.windows(2).for_each(|pair| stands(pair[0], pair[1]));
            }
        }
        let mut images = Self { below, ..Self::default() };
        planned.plan.steps().for_each(|step| images.note(step));
        images
    }

    /// Notes what the plan does with an image.
    fn note(&mut self, step: &Step) {
        match step {
            Step::RemoveFile(RemoveFile { path: file })
            | Step::RemoveImage(RemoveImage { file, .. })
            | Step::DropOverlay(DropOverlay { file, .. }) => drop(self.removed.insert(file.clone())),
            Step::KeepImage(KeepImage { file, why }) => {
                self.kept.insert(file.clone());
                if let WhyKept::Another(disk) = why {
                    self.others.insert(disk.clone());
                }
            }
            _ => {}
        }
    }

    fn is_decided(&self, file: &Utf8Path) -> bool {
        self.removed.contains(file) || self.kept.contains(file)
    }

    /// The images that a record leads to then, or that the machine is in, with all below them.
    fn reached(
        &self,
        request: &Request,
        planned: &Planned,
        tree: &SnapshotTree,
        facts: Facts<'_>,
    ) -> BTreeSet<Utf8PathBuf> {
        let mut open: Vec<Utf8PathBuf> = merge::named(tree).into_iter().collect();
        match machine_then(request, planned) {
            Some(machine) => open.extend(machine.disks().filter_map(|disk| Some(disk.path()?.to_owned()))),
            None => {
                let chains = facts.observed.images().flat_map(|disk| &disk.chain);
                open.extend(chains.map(|image| image.file.clone()));
            }
        }
        open.retain(|file| !self.removed.contains(file));
        self.with_all_below(open)
    }

    /// These images, and all below them.
    fn with_all_below(&self, mut open: Vec<Utf8PathBuf>) -> BTreeSet<Utf8PathBuf> {
        let mut found = BTreeSet::new();
        while let Some(file) = open.pop() {
            if found.insert(file.clone()) {
                open.extend(self.below.get(&file).into_iter().flatten().cloned());
            }
        }
        found
    }

    /// What stands on an image.
    fn on(&self, file: &Utf8Path) -> Vec<&Utf8Path> {
        let stands = self.below.iter().filter(|(_, below)| below.contains(file));
        stands.map(|(above, _)| above.as_path()).collect()
    }

    /// Whether an overlay is of the disk that the machine has by that name: they have an image in common. What is on one of a disk that the machine
    /// was without before, or that is another one, nobody has given up.
    fn is_of_the_disk(&self, file: &Utf8Path, target: &str, facts: Facts<'_>) -> bool {
        let Some(disk) = facts.observed.disk(target).filter(|_| !self.others.contains(target)) else {
            return false;
        };
        let below = self.with_all_below(vec![file.to_owned()]);
        disk.chain.iter().any(|image| below.contains(&image.file))
    }

    /// What becomes of these, the topmost first.
    fn released(
        &self,
        mut free: BTreeMap<Utf8PathBuf, String>,
        is_of_machine: impl Fn(&str) -> bool,
        facts: Facts<'_>,
    ) -> Vec<Step> {
        let program = facts.beside.map_or("qemu-img".into(), |beside| beside.tool.clone());
        let (mut steps, mut going) = (Vec::new(), self.removed.clone());
        loop {
            let goes = |above: &&Utf8Path| going.contains(*above);
            let is_free = |(file, target): &(&Utf8PathBuf, &String)| {
                let is_left = is_of_machine(target) && self.is_of_the_disk(file, target, facts);
                is_left && self.on(file).iter().all(goes)
            };
            let Some(file) = free.iter().find(is_free).map(|(file, _)| file.clone()) else { break };
            free.remove(&file);
            let above = self.on(&file).into_iter().map(ToOwned::to_owned).collect();
            steps.push(DropOverlay { program: program.clone(), file: file.clone(), above }.into());
            going.insert(file);
        }
        for (file, target) in free {
            let above = self.on(&file).into_iter().find(|above| !going.contains(*above));
            let why = match above {
                _ if !is_of_machine(&target) => WhyKept::NoPart(target),
                Some(above) => WhyKept::Below(above.to_owned()),
                None => WhyKept::Unrecorded(target),
            };
            steps.push(KeepImage { file, why }.into());
        }
        steps
    }
}

/// The machine that a revert goes on with, if it is another one than runs.
fn machine_then<'p>(request: &Request, planned: &'p Planned) -> Option<&'p DomainXml> {
    planned.domain.as_ref().filter(|_| matches!(request, Request::Revert(_)))
}

/// The images behind those of the snapshot that is gone back to.
fn chains_then(facts: Facts<'_>) -> Option<&Chains> {
    facts.aside?.chains.as_ref().ok()
}

/// The snapshot that is gone back to.
fn reverted_to<'f>(request: &Request, facts: Facts<'f>) -> Option<&'f DomainSnapshot> {
    match request {
        Request::Revert(revert) => facts.records?.tree.get(revert.name.as_str()),
        Request::Delete(_) | Request::Create(_) => None,
    }
}
