//! Going back to a snapshot, which the records know or the images alone.
//!
//! ```text
//! inside the images, with memory:  write the records -> mark the process -> load ....................... -> [resume] -> forget
//! inside the images, without:      write the records -> [try the new] -> end the machine -> put the images back -> [start]
//! outside of them:                 write the records -> reserve files -> make overlays -> [try the new] -> end the machine
//!                                      -> [start -> [load memory] -> [resume]] -> remove the overlays that are left
//! ```
//! What goes with a machine that is ended, the overlays of `<transient/>` disks, is removed before another is started.
//!
//! Within the process that runs only what fits it is loaded. Wherever a machine has to be ended, all that can fail is done or
//! looked at before, so that a revert that cannot be leaves the machine running: the records, the images and all behind them, the
//! new overlays, the memory's file, whether the launcher knows this machine, and whether QEMU takes it. Should the new one not start all the same, files
//! and records are put back, and the old one can be started from its disks.
//!
//! Source: libvirt's `qemuSnapshotRevert` for flags, states and the order of checks; for the overlays that are removed, its
//! `qemuSnapshotRevertExternalFinish`.

mod apart;
mod aside;
mod discard;
mod no_part;
mod nvram;
mod process;
mod records;
mod storage;
mod transient;

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

pub use self::{
    aside::{Aside, GoingBack, going_back, loads_memory, needs_images},
    discard::images_discarded,
};
use super::{Facts, Plan, Planned, Records, Stage, internal, off, storage::parts};
use crate::{
    domain::Nvram,
    domain_snapshot::{DomainSnapshot, Location, SourceType, State, StoragePart},
    domain_xml::{Disk, DomainXml},
    env::{FileKind, Ownership},
    error::{DeleteRefusal, OffRefusal, Refusal, RevertRefusal},
    launch::{Launcher, NVRAM_NODE, arguments::Power},
    mark,
    observed::{NVRAM, Observed, ObservedDisk},
    qemu_img::Backing,
    request::{Revert, RevertFlag},
    step::{
        CreateOverlay, DeleteSnapshot, DropOverlay, LoadMemory, LoadSnapshot, MarkProcess, Naming,
        RemoveFile, ReserveFile, Resume, Step,
    },
};

/// How the machine is to stand afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Running,
    Paused,
    Off,
}

/// Plans the way back.
pub(super) fn revert(revert: &Revert, facts: Facts<'_>) -> Result<Planned, Refusal> {
    if let Some((disk, filter)) =
        facts.observed.disks.iter().find_map(|disk| Some((disk, disk.busy.as_ref()?)))
    {
        let (disk, filter) = (disk.target.clone(), filter.clone());
        return Err(RevertRefusal::JobOnRevert { disk, filter }.into());
    }
    let name = revert.name.as_str();
    let known = facts.records.and_then(|records| Some((records, records.tree.get(name)?)));
    if known.is_none() && facts.off.is_some() {
        return Err(OffRefusal::NotRecorded(name.to_owned()).into());
    }
    if facts.off.is_some() {
        off::check_description(facts)?;
    }
    let Some((records, record)) = known else {
        if revert.flags.has(RevertFlag::Discard) {
            return Err(DeleteRefusal::NotRecorded(name.to_owned()).into());
        }
        parts::check_used(&revert.stated, |_| false)?;
        // What the images alone know is inside them, and says nothing of what the guest did then.
        nvram::check_unrecorded(revert, facts)?;
        facts.observed.check_devices(facts.domain)?;
        let plan =
            internal::revert(&revert.name, asked(revert).map(|goal| goal == Goal::Running), None, facts)?;
        return Ok(Planned { plan, tree: None, domain: None });
    };
    internal::check_is_not_left(record, facts)?;
    let goal = goal(revert, record)?;
    if goal == Goal::Off && facts.domain.transient {
        return Err(RevertRefusal::OffOfTransient(name.to_owned()).into());
    }
    let domain = record.domain.clone().and_then(|element| DomainXml::of(element).ok());
    let domain = domain.ok_or_else(|| RevertRefusal::NoRollbackInfo(name.to_owned()))?;
    let parts = match revert.storage_is_back {
        true => Vec::new(),
        false => parts::parts(record, &revert.stated, facts.domain)?,
    };
    let is_within = !is_external(record)
        && has_memory(record)
        && facts.off.is_none()
        && difference(facts, &domain).is_none();
    if is_within {
        let doomed = discard::doomed(revert, records.tree, facts)?;
        let found = facts.observed;
        let way =
            Way { revert, record, records, domain, goal, doomed, parts, facts, found, thrown_away: None };
        way.check()?;
        return way.within();
    }
    let thrown_away = transient::thrown_away(facts)?;
    // By then the machine that runs has ended, and what goes with it is gone.
    let found = facts.observed.once_ended();
    let is_apart = facts.off.is_some() && !is_external(record) && !has_memory(record);
    let ended = match is_apart {
        true => discard::without_overlays(revert, records.tree, &found),
        false => found.clone(),
    };
    let facts = Facts { observed: &ended, ..facts };
    let doomed = discard::doomed(revert, records.tree, facts)?;
    let found = &found;
    let way = Way { revert, record, records, domain, goal, doomed, parts, facts, found, thrown_away };
    way.check()?;
    match (is_external(record), has_memory(record)) {
        (true, _) => way.outside(),
        (false, true) => way.anew(),
        (false, false) => way.apart(),
    }
}

/// Where the machine that runs differs from the snapshot's, as far as it is known: by what is described of the two, or in that it is not
/// as it is described. QEMU loads a memory into a machine with a disk more without a word, and the guest knows nothing of it.
fn difference(facts: Facts<'_>, then: &DomainXml) -> Option<String> {
    let described = facts.domain.document.as_ref().and_then(|document| document.differs_from(then));
    described.or_else(|| facts.observed.check_devices(facts.domain).err().map(|refusal| refusal.to_string()))
}

/// What the flags say.
fn asked(revert: &Revert) -> Option<Goal> {
    let says = |flag| revert.flags.has(flag);
    match (says(RevertFlag::Running), says(RevertFlag::Paused)) {
        (true, _) => Some(Goal::Running),
        (_, true) => Some(Goal::Paused),
        _ => None,
    }
}

/// What the flags say, or else the record; a machine of which only the disks were taken is left off, as by libvirt.
fn goal(revert: &Revert, record: &DomainSnapshot) -> Result<Goal, RevertRefusal> {
    let name = || revert.name.to_string();
    let recorded = match record.state {
        Some(State::Running) => Goal::Running,
        Some(State::Paused) => Goal::Paused,
        Some(State::Shutdown | State::Shutoff | State::Crashed | State::DiskSnapshot) => Goal::Off,
        Some(State::PmSuspended) => return Err(RevertRefusal::Slept(name())),
        state @ (Some(State::NoState | State::Blocked) | None) => {
            return Err(RevertRefusal::NoGoal { name: name(), state: state.map_or("nothing", State::name) });
        }
    };
    Ok(asked(revert).unwrap_or(recorded))
}

/// Whether a record's memory is to be loaded: of one that was off there is none.
fn has_memory(record: &DomainSnapshot) -> bool {
    let is_kept = matches!(record.memory.location, Some(Location::Internal | Location::External));
    is_kept && matches!(record.state, Some(State::Running | State::Paused))
}

/// Whether a snapshot is outside of the images.
fn is_external(record: &DomainSnapshot) -> bool {
    let is = |location| record.disks.iter().any(|disk| disk.location == Some(location));
    record.memory.location == Some(Location::External) || is(Location::External) || !is(Location::Internal)
}

/// Where a disk's part of a snapshot is; outside, if nothing is said.
fn location(record: &DomainSnapshot, target: &str) -> Location {
    let disk = record.disks.iter().find(|disk| disk.name == target);
    disk.and_then(|disk| disk.location).unwrap_or(Location::External)
}

/// The disks of a snapshot's machine that go on in a new overlay: all that the guest can write and that were taken.
fn overlaid<'d>(record: &DomainSnapshot, domain: &'d DomainXml) -> impl Iterator<Item = Disk<'d>> {
    domain.disks().filter(|disk| {
        let is_written =
            !disk.read_only() && disk.device() == "disk" && disk.element().child("source").is_some();
        is_written && location(record, disk.target) == Location::External
    })
}

/// One way back, and all that is known of it.
struct Way<'a> {
    revert: &'a Revert,
    record: &'a DomainSnapshot,
    records: Records<'a>,
    /// The machine of the snapshot.
    domain: DomainXml,
    goal: Goal,
    /// The snapshots that are deleted with it.
    doomed: Vec<String>,
    /// What storages hold of it, to be put back.
    parts: Vec<StoragePart>,
    facts: Facts<'a>,
    /// The images as they were found, with the overlays that go with it: without them in `facts`, where it is inside of an image below.
    found: &'a Observed,
    /// Removes what goes with the machine that is ended.
    thrown_away: Option<Stage>,
}

/// A new overlay.
struct Fresh {
    target: String,
    file: Utf8PathBuf,
    under: Backing,
}

impl Way<'_> {
    fn name(&self) -> String {
        self.revert.name.to_string()
    }

    /// What can be said before it is known which way it is.
    fn check(&self) -> Result<(), Refusal> {
        let force = self.revert.flags.has(RevertFlag::Force);
        let save = self.facts.off.and_then(|off| off.managed_save);
        if let Some(save) = save.filter(|_| !force && !has_memory(self.record)) {
            return Err(OffRefusal::ManagedSave { name: self.name(), save: save.to_owned() }.into());
        }
        let was_off = matches!(self.record.state, Some(State::Shutdown | State::Shutoff | State::Crashed));
        let runs = self.facts.off.is_none();
        if was_off && !force && runs {
            return Err(RevertRefusal::EndsTheMachine(self.name()).into());
        }
        let difference = difference(self.facts, &self.domain);
        if let Some(difference) = difference.filter(|_| runs && !force) {
            return Err(RevertRefusal::OtherMachine { name: self.name(), difference }.into());
        }
        Ok(self.check_manual()?)
    }

    /// Within the process that runs.
    fn within(&self) -> Result<Planned, Refusal> {
        self.check_nvram_is_closed()?;
        let (write, tree) = self.recorded(&[], &self.domain)?;
        let runs = Some(self.goal == Goal::Running);
        let mut plan = internal::revert(&self.revert.name, runs, Some(write), self.facts)?;
        plan.stages.extend(self.delete_tags(Naming::Nodes, |disk| disk.node.clone())?);
        Ok(Planned { plan, tree: Some(tree), domain: None })
    }

    /// From inside the images, in a new process: there is none, or the one that runs is another machine.
    fn anew(&self) -> Result<Planned, Refusal> {
        self.nothing_above()?;
        let (disks, memory) = internal::held(&self.revert.name, self.facts)?;
        internal::check_nothing_stands_on(&self.revert.name, &disks, &[], self.facts)?;
        let launcher = self.launcher(&self.domain)?;
        let reset = self.reset_nvram()?;
        self.knows_qemu()?;
        self.same_images()?;
        self.holds_no_transient()?;
        let (write, tree) = self.recorded(&[], &self.domain)?;
        // The built-in launcher calls the node of a disk's image as the disk; what a program calls it nobody knows before.
        let naming = match launcher {
            Launcher::BuiltIn(_) => Naming::Nodes,
            Launcher::Program(_) => Naming::Files,
        };
        let node = |disk: &ObservedDisk| match (naming, disk.target.as_str()) {
            (Naming::Files, _) => disk.file.to_string(),
            (Naming::Nodes, NVRAM) => NVRAM_NODE.to_owned(),
            (Naming::Nodes, target) => target.to_owned(),
        };
        let load = LoadSnapshot {
            method: internal::method(self.facts)?,
            job: format!("ff-{}-load", self.facts.unique),
            tag: self.name(),
            vmstate: node(memory),
            devices: disks.iter().map(|disk| node(disk)).collect(),
            naming,
            running: false,
            pauses: false,
            mark: internal::mark(internal::method(self.facts)?, self.facts.unique),
        };
        let mark = load.mark.clone().map(|node| MarkProcess { node });
        let forget = load.forget();
        let mut stages = vec![Stage::one(write)];
        stages.extend(self.described(&self.domain));
        stages.extend(self.try_out(launcher, &self.domain));
        stages.extend(self.stop().map(Stage::one));
        stages.extend(reset.clone().map(Stage::one));
        stages.extend(self.thrown_away.clone());
        stages.push(Stage::one(self.start(launcher, &self.domain, Power::Paused)));
        stages.extend(mark.map(Stage::one));
        stages.push(Stage::one(load));
        let no_return = stages.len() - 1;
        if self.goal == Goal::Running {
            stages.push(Stage::one(Resume::default()));
        }
        stages.extend(internal::thaw_loaded(self.goal == Goal::Running, self.facts));
        stages.extend(forget.map(Stage::one));
        stages.extend(self.delete_tags(naming, node)?);
        stages.extend(reset.map(|reset| Stage::one(RemoveFile { path: reset.kept })));
        stages.extend(self.no_part(&tree).into_iter().map(Stage::one));
        let plan = self.plan("internal, in a new process", super::targets(&disks), stages, no_return);
        Ok(Planned { plan, tree: Some(tree), domain: Some(self.domain.clone()) })
    }

    /// Deletes the tags that go with it in the machine as it is then, whose nodes are called so.
    fn delete_tags(
        &self,
        naming: Naming,
        node: impl Fn(&ObservedDisk) -> String,
    ) -> Result<Vec<Stage>, Refusal> {
        self.check_none_outside()?;
        let method = internal::method(self.facts)?;
        let delete = |(number, (tag, disks)): (usize, (&str, Vec<&ObservedDisk>))| DeleteSnapshot {
            method,
            job: format!("ff-{}-delete-{number}", self.facts.unique),
            tag: tag.to_owned(),
            devices: disks.into_iter().map(&node).collect(),
            naming,
        };
        Ok(self.tags().into_iter().enumerate().map(delete).map(Stage::one).collect())
    }

    /// Whether no overlay stands on an image that would be put back: libvirt pulls the ground from under it.
    fn nothing_above(&self) -> Result<(), RevertRefusal> {
        match internal::below(self.revert.name.as_str(), self.facts) {
            Some((disk, file)) => Err(RevertRefusal::OverlayAbove { name: self.name(), disk, file }),
            None => Ok(()),
        }
    }

    /// Whether the images of the snapshot's machine are the ones that are known to hold it.
    fn same_images(&self) -> Result<(), Refusal> {
        for disk in &self.facts.observed.disks {
            let recorded = self.domain.disks().find(|recorded| recorded.target == disk.target);
            if recorded.is_some_and(|recorded| recorded.path().is_some_and(|path| path != disk.file)) {
                return Err(Refusal::NotOnDisk { name: self.name(), disk: disk.target.clone() });
            }
        }
        let recorded = self.domain.nvram().filter(Nvram::keeps_snapshots).map(|nvram| nvram.file);
        match recorded.as_ref() == self.facts.observed.nvram.as_ref().map(|nvram| &nvram.file) {
            true => Ok(()),
            false => Err(Refusal::NotOnDisk { name: self.name(), disk: NVRAM.to_owned() }),
        }
    }

    /// Outside of the images: new overlays on those of the snapshot.
    fn outside(&self) -> Result<Planned, Refusal> {
        let fresh = self.fresh()?;
        let memory = self.memory()?;
        let domain = self.machine(&fresh)?;
        let launcher = self.launcher_if_needed(&domain)?;
        let reset = self.reset_nvram()?;
        if memory.is_some() {
            self.knows_qemu()?;
        }
        let (write, tree) = self.recorded(&fresh, &domain)?;
        let back = self.put_back()?;
        let tool = self.tool();
        let reserve = fresh.iter().map(|overlay| ReserveFile {
            path: overlay.file.clone(),
            ownership: Ownership::OfImage(overlay.under.file.clone()),
        });
        let create = fresh.iter().map(|overlay| CreateOverlay {
            program: tool.clone(),
            target: overlay.target.clone(),
            file: overlay.file.clone(),
            backing_file: overlay.under.file.clone(),
            backing_format: overlay.under.format.clone(),
            clusters: self.facts.observed.clusters(&overlay.under.file),
        });
        let mut stages = vec![Stage::one(write), Stage::all(reserve), Stage::all(create)];
        stages.extend(self.described(&domain));
        stages.extend(launcher.and_then(|launcher| self.try_out(launcher, &domain)));
        stages.extend(self.stop().map(Stage::one));
        stages.extend(reset.clone().map(Stage::one));
        let decided = !back.is_empty();
        stages.push(Stage::all(back));
        stages.retain(|stage| !stage.steps.is_empty());
        let mut no_return = stages.len() - 1;
        stages.extend(self.thrown_away.clone());
        if let Some(launcher) = launcher {
            let (loads, runs) = (memory.is_some(), self.goal == Goal::Running);
            stages.extend(self.started(launcher, &domain, memory));
            // From what a storage has put back there is no way back.
            no_return = if decided { no_return } else { stages.len() - 1 };
            stages.extend((loads && runs).then(|| Stage::one(Resume::default())));
            stages.extend(loads.then(|| internal::thaw_loaded(runs, self.facts)).into_iter().flatten());
        }
        let mut left = self.left_behind(&domain, &tree);
        self.check_no_stranger_on(&left)?;
        left.extend(self.discarded(&domain, &tree)?);
        let parts = self.discarded_parts(&tree)?;
        left.extend(reset.map(|reset| reset.kept));
        let mut unclear = self.left_to_be_looked_at(&domain, &tree);
        unclear.retain(|file| !left.contains(file));
        let left = left.into_iter().map(|path| Step::from(RemoveFile { path }));
        stages.push(Stage::all(left.chain(self.discarded_memory(&tree).map(Step::from))));
        stages.extend(parts.into_iter().map(Stage::one));
        stages.push(Stage::all(unclear.into_iter().map(|file| DropOverlay {
            program: tool.clone(),
            file,
            above: Vec::new(),
        })));
        stages.push(Stage::all(self.no_part(&tree)));
        stages.push(Stage::all(self.unrecorded(&domain, &tree)));
        stages.retain(|stage| !stage.steps.is_empty());
        let (kind, targets) = self.kind(&fresh);
        let plan = self.plan(&kind, targets, stages, no_return);
        Ok(Planned { plan, tree: Some(tree), domain: Some(domain) })
    }

    /// The overlays to be made. Their names are nobody else's: a word that is given to this operation alone is in each.
    fn fresh(&self) -> Result<Vec<Fresh>, RevertRefusal> {
        let written = self.facts.observed.disks.iter().filter(|disk| !disk.readonly).map(|disk| &*disk.file);
        let written: BTreeSet<&Utf8Path> = written.chain(self.unread().map(|(_, file)| file)).collect();
        let mut fresh = Vec::new();
        for disk in overlaid(self.record, &self.domain) {
            let target = disk.target.to_owned();
            let path = disk.path().filter(|_| disk.source_type() == Some(SourceType::File));
            let path = path.ok_or_else(|| RevertRefusal::SourceNotFile(target.clone()))?.to_owned();
            if !matches!(self.facts.files.get(&path), Some(FileKind::File { .. })) {
                return Err(RevertRefusal::ImageMissing { disk: target, path });
            }
            if written.contains(&*path) {
                return Err(RevertRefusal::ImageWritten { disk: target, path });
            }
            let stem = path.file_stem().unwrap_or(disk.target);
            let file = path.with_file_name(format!("{stem}.{}-{}", self.revert.name, self.facts.unique));
            fresh.push(Fresh {
                target,
                file,
                under: Backing { file: path, format: disk.format().to_owned() },
            });
        }
        Ok(fresh)
    }

    /// Whether an image that the machine goes back to is there, as far as it was looked for.
    fn check_is_there(&self, target: &str, path: &Utf8Path) -> Result<(), RevertRefusal> {
        match self.facts.files.get(path) {
            Some(FileKind::Absent) => {
                Err(RevertRefusal::ImageMissing { disk: target.to_owned(), path: path.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// How the memory is loaded, if there is any to be loaded.
    fn memory(&self) -> Result<Option<LoadMemory>, RevertRefusal> {
        let Some(path) = self.record.memory.file.clone().filter(|_| has_memory(self.record)) else {
            return Ok(None);
        };
        if self.goal == Goal::Off {
            return Ok(None);
        }
        let unusable = |why: &str| RevertRefusal::MemoryUnusable { path: path.clone(), why: why.to_owned() };
        let image = self.facts.aside.and_then(|aside| aside.memory.as_ref());
        let image =
            image.ok_or_else(|| unusable("it was not read"))?.as_ref().map_err(|why| unusable(why))?;
        let saved = DomainXml::read(image.document.as_bytes()).map_err(|bad| unusable(&mark::told(&bad)))?;
        if let Some(difference) = saved.differs_from(&self.domain) {
            return Err(RevertRefusal::MemoryOfOther { path, difference });
        }
        Ok(Some(LoadMemory {
            path,
            method: self.facts.capabilities.memory_method(),
            fdname: format!("ff-{}-memory", self.facts.unique),
            stays: self.facts.capabilities.failed_loads_can_stay(),
            takes_images: self.goal == Goal::Paused && self.facts.capabilities.can_take_images_back(),
        }))
    }

    /// `qemu-img`.
    fn tool(&self) -> Utf8PathBuf {
        let beside = || self.facts.aside.map_or("qemu-img".into(), |aside| aside.tool.clone());
        self.facts.off.map_or_else(beside, |off| off.tool.to_owned())
    }

    fn plan(&self, kind: &str, disks: Vec<String>, stages: Vec<Stage>, no_return: usize) -> Plan {
        let then = match self.goal {
            Goal::Running => "running",
            Goal::Paused => "paused",
            Goal::Off => "off",
        };
        let without: BTreeSet<&str> = self.no_part_of().map(|(target, _)| target).collect();
        let without: String = without.into_iter().map(|target| format!("; without disk {target}")).collect();
        let title = format!(
            "revert {} to {}: {kind}, disks {}{without}{}; then {then}",
            self.facts.domain.name,
            self.revert.name,
            disks.join(" "),
            if self.doomed.is_empty() {
                String::new()
            } else {
                format!("; deletes {}", self.doomed.join(" "))
            },
        );
        Plan { title, disks, manual: Vec::new(), stages, no_return }
    }
}
