//! Going back to a snapshot, which the records know or the images alone.
//!
//! ```text
//! inside the images, with memory:  write the records -> load ............................................ -> [resume]
//! inside the images, without:      write the records -> end the machine -> put the images back -> [start]
//! outside of them:                 write the records -> reserve files -> make overlays -> end the machine
//!                                      -> [start -> [load memory] -> [resume]] -> remove the overlays that are left
//! ```
//! Within the process that runs only what fits it is loaded. Wherever a machine has to be ended, all that can fail is done or
//! looked at before, so that a revert that cannot be leaves the machine running: the records, the images and all behind them, the
//! new overlays, the memory's file, and whether the launcher knows this machine. Should the new one not start all the same, files
//! and records are put back, and the old one can be started from its disks.
//!
//! Source: libvirt's `qemuSnapshotRevert` for flags, states and the order of checks; for the overlays that are removed, its
//! `qemuSnapshotRevertExternalFinish`.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Facts, Plan, Planned, Records, Stage, internal};
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType, State},
    domain_xml::{Disk, DomainXml},
    env::FileKind,
    error::{Refusal, RevertRefusal},
    launch::{BuiltIn, Launcher, arguments::Power, chain::Chains},
    qemu_img::Backing,
    request::{Request, Revert, RevertFlag},
    save_image::SaveImage,
    step::{
        ApplySnapshot, CreateOverlay, LoadMemory, LoadSnapshot, RemoveFile, ReserveFile, Resume,
        StartMachine, StopMachine, WriteRecords,
    },
    tree::SnapshotTree,
    xml::Element,
};

/// What is read before it can be planned how to go back.
#[derive(Debug, Clone, PartialEq)]
pub struct GoingBack {
    /// The machine of the snapshot, with the disks alone that get new overlays, each with the image under that.
    pub domain: DomainXml,
    /// The file with its memory.
    pub memory: Option<Utf8PathBuf>,
}

/// What lies aside that a revert goes back to, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Aside {
    /// `qemu-img`.
    pub tool: Utf8PathBuf,
    /// The images behind those under the new overlays, by target; or why they cannot be read.
    pub chains: Result<Chains, String>,
    /// What the file with the memory says; or why it cannot be used.
    pub memory: Option<Result<SaveImage, String>>,
}

/// What is to be read for a request; nothing if it does not go back to what a record describes.
pub fn going_back(request: &Request, tree: Option<&SnapshotTree>) -> Option<GoingBack> {
    let Request::Revert(revert) = request else { return None };
    let record = tree?.get(revert.name.as_str())?;
    let domain = DomainXml::of(record.domain.clone()?).ok()?;
    let aside = overlaid(record, &domain).filter(|_| is_external(record));
    let kept: BTreeSet<String> = aside.map(|disk| disk.target.to_owned()).collect();
    Some(GoingBack {
        domain: domain.with_disks(|target| kept.contains(target)),
        memory: record.memory.file.clone().filter(|_| record.memory.location == Some(Location::External)),
    })
}

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
    let Some((records, record)) = known else {
        // What the images alone know is inside them, and says nothing of what the guest did then.
        check_nvram(revert, facts.domain.nvram.as_ref().map(|nvram| &*nvram.file))?;
        let plan =
            internal::revert(&revert.name, asked(revert).map(|goal| goal == Goal::Running), None, facts)?;
        return Ok(Planned { plan, tree: None, domain: None });
    };
    let goal = goal(revert, record)?;
    if goal == Goal::Off && facts.domain.transient {
        return Err(RevertRefusal::OffOfTransient(name.to_owned()).into());
    }
    let domain = record.domain.clone().and_then(|element| DomainXml::of(element).ok());
    let domain = domain.ok_or_else(|| RevertRefusal::NoRollbackInfo(name.to_owned()))?;
    let way = Way { revert, record, records, domain, goal, facts };
    way.check()?;
    match (is_external(record), has_memory(record)) {
        (true, _) => way.outside(),
        (false, true) if way.other_machine().is_none() => way.within(),
        (false, true) => way.anew(),
        (false, false) => way.apart(),
    }
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

fn check_nvram(revert: &Revert, nvram: Option<&Utf8Path>) -> Result<(), RevertRefusal> {
    match nvram.filter(|_| revert.flags.has(RevertFlag::ResetNvram)) {
        Some(file) => Err(RevertRefusal::CannotResetNvram(file.to_owned())),
        None => Ok(()),
    }
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
    facts: Facts<'a>,
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
    fn check(&self) -> Result<(), RevertRefusal> {
        let force = self.revert.flags.has(RevertFlag::Force);
        let was_off = matches!(self.record.state, Some(State::Shutdown | State::Shutoff | State::Crashed));
        if was_off && !force {
            return Err(RevertRefusal::EndsTheMachine(self.name()));
        }
        if let Some(difference) = self.other_machine().filter(|_| !force && has_memory(self.record)) {
            return Err(RevertRefusal::OtherMachine { name: self.name(), difference });
        }
        let manual =
            self.domain.disks().filter(|disk| location(self.record, disk.target) == Location::Manual);
        let manual: Vec<String> = manual.map(|disk| disk.target.to_owned()).collect();
        if !manual.is_empty() && !self.revert.storage_is_back {
            return Err(RevertRefusal::ManualDisks(manual));
        }
        check_nvram(self.revert, self.domain.nvram().as_ref().map(|nvram| &*nvram.file))
    }

    /// Where the machine that runs differs from the snapshot's, as far as it is known.
    fn other_machine(&self) -> Option<String> {
        self.facts.domain.document.as_ref()?.differs_from(&self.domain)
    }

    /// Within the process that runs.
    fn within(&self) -> Result<Planned, Refusal> {
        let (write, tree) = self.recorded(&[])?;
        let runs = Some(self.goal == Goal::Running);
        let plan = internal::revert(&self.revert.name, runs, Some(write), self.facts)?;
        Ok(Planned { plan, tree: Some(tree), domain: None })
    }

    /// From inside the images, in a new process: the one that runs is another machine.
    fn anew(&self) -> Result<Planned, Refusal> {
        let (disks, memory) = internal::held(&self.revert.name, self.facts)?;
        let launcher = self.launcher(&self.domain)?;
        if matches!(launcher, Launcher::Program(_)) {
            return Err(RevertRefusal::NodesUnknown(self.name()).into());
        }
        self.same_images()?;
        let (write, tree) = self.recorded(&[])?;
        // The launcher calls the node of a disk's image as the disk.
        let load = LoadSnapshot {
            method: internal::method(self.facts)?,
            job: format!("ff-{}-load", self.facts.unique),
            tag: self.name(),
            vmstate: memory.target.clone(),
            devices: super::targets(&disks),
            running: false,
            pauses: false,
        };
        let mut stages = vec![
            Stage::one(write),
            Stage::one(self.stop()),
            Stage::one(self.start(launcher, &self.domain, Power::Paused)),
            Stage::one(load),
        ];
        let no_return = stages.len() - 1;
        if self.goal == Goal::Running {
            stages.push(Stage::one(Resume {}));
        }
        let plan = self.plan("internal, in a new process", super::targets(&disks), stages, no_return);
        Ok(Planned { plan, tree: Some(tree), domain: Some(self.domain.clone()) })
    }

    /// Inside the images, while no machine has them.
    fn apart(&self) -> Result<Planned, Refusal> {
        let disks = internal::holders(&self.revert.name, self.facts)?;
        self.same_images()?;
        let launcher = self.launcher_if_needed(&self.domain)?;
        let (write, tree) = self.recorded(&[])?;
        let tool = self.facts.aside.map_or("qemu-img".into(), |aside| aside.tool.clone());
        let put_back = disks.iter().map(|disk| ApplySnapshot {
            program: tool.clone(),
            target: disk.target.clone(),
            file: disk.file.clone(),
            tag: self.name(),
        });
        let mut stages = vec![Stage::one(write), Stage::one(self.stop()), Stage::all(put_back)];
        let no_return = stages.len() - 1;
        stages.extend(launcher.map(|launcher| {
            let power = if self.goal == Goal::Running { Power::Running } else { Power::Paused };
            Stage::one(self.start(launcher, &self.domain, power))
        }));
        let plan = self.plan("internal, without memory", super::targets(&disks), stages, no_return);
        Ok(Planned { plan, tree: Some(tree), domain: Some(self.domain.clone()) })
    }

    /// Whether the images of the snapshot's machine are the ones that are known to hold it.
    fn same_images(&self) -> Result<(), Refusal> {
        for disk in &self.facts.observed.disks {
            let recorded = self.domain.disks().find(|recorded| recorded.target == disk.target);
            if recorded.is_some_and(|recorded| recorded.path().is_some_and(|path| path != disk.file)) {
                return Err(Refusal::NotOnDisk { name: self.name(), disk: disk.target.clone() });
            }
        }
        Ok(())
    }

    /// Outside of the images: new overlays on those of the snapshot.
    fn outside(&self) -> Result<Planned, Refusal> {
        let fresh = self.fresh()?;
        let memory = self.memory()?;
        let domain = self.machine(&fresh)?;
        let launcher = self.launcher_if_needed(&domain)?;
        let (write, tree) = self.recorded(&fresh)?;
        let tool = self.facts.aside.map_or("qemu-img".into(), |aside| aside.tool.clone());
        let reserve = fresh.iter().map(|overlay| ReserveFile { path: overlay.file.clone() });
        let create = fresh.iter().map(|overlay| CreateOverlay {
            program: tool.clone(),
            target: overlay.target.clone(),
            file: overlay.file.clone(),
            backing_file: overlay.under.file.clone(),
            backing_format: overlay.under.format.clone(),
        });
        let mut stages =
            vec![Stage::one(write), Stage::all(reserve), Stage::all(create), Stage::one(self.stop())];
        stages.retain(|stage| !stage.steps.is_empty());
        let mut no_return = stages.len() - 1;
        if let Some(launcher) = launcher {
            let power = match (&memory, self.goal) {
                (Some(_), _) => Power::Incoming,
                (None, Goal::Running) => Power::Running,
                (None, _) => Power::Paused,
            };
            stages.push(Stage::one(self.start(launcher, &domain, power)));
            no_return = stages.len() - 1;
            if let Some(load) = memory {
                stages.push(Stage::one(load));
                no_return = stages.len() - 1;
                if self.goal == Goal::Running {
                    stages.push(Stage::one(Resume {}));
                }
            }
        }
        let left = self.left_behind(&domain, &tree).into_iter().map(|path| RemoveFile { path });
        stages.push(Stage::all(left));
        stages.retain(|stage| !stage.steps.is_empty());
        let kind = if has_memory(self.record) { "memory and overlays" } else { "overlays" };
        let targets = fresh.iter().map(|overlay| overlay.target.clone()).collect();
        let plan = self.plan(kind, targets, stages, no_return);
        Ok(Planned { plan, tree: Some(tree), domain: Some(domain) })
    }

    /// The overlays to be made. Their names are nobody else's: a word that is given to this operation alone is in each.
    fn fresh(&self) -> Result<Vec<Fresh>, RevertRefusal> {
        let written: BTreeSet<&Utf8Path> =
            self.facts.observed.disks.iter().filter(|disk| !disk.readonly).map(|disk| &*disk.file).collect();
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
        let saved = DomainXml::read(image.document.as_bytes()).map_err(|bad| unusable(&bad.to_string()))?;
        if let Some(difference) = saved.differs_from(&self.domain) {
            return Err(RevertRefusal::MemoryOfOther { path, difference });
        }
        Ok(Some(LoadMemory {
            path,
            method: self.facts.capabilities.memory_method(),
            fdname: format!("ff-{}-memory", self.facts.unique),
            stays: self.facts.capabilities.failed_loads_can_stay(),
        }))
    }

    /// The machine as it is started: on the new overlays, and beside them on what is in use by now or was put back.
    fn machine(&self, fresh: &[Fresh]) -> Result<DomainXml, RevertRefusal> {
        let left_out = |target: &str| location(self.record, target) == Location::No;
        let kept = self.facts.observed.sources().filter(|(target, ..)| left_out(target));
        let new = fresh.iter().map(|overlay| (overlay.target.as_str(), &*overlay.file, "qcow2"));
        let domain = self.domain.with_sources(kept.chain(new));
        let Some(aside) = self.facts.aside else { return Ok(domain) };
        let found = aside.chains.as_ref().map_err(|why| RevertRefusal::Chain(why.clone()))?;
        let chains: Chains = fresh
            .iter()
            .map(|overlay| {
                let behind = found.get(&overlay.target).into_iter().flatten().cloned();
                (overlay.target.clone(), [overlay.under.clone()].into_iter().chain(behind).collect())
            })
            .collect();
        Ok(domain.with_chains(&chains))
    }

    fn stop(&self) -> StopMachine {
        let document = self.facts.domain.document.as_ref().unwrap_or(&self.domain);
        StopMachine {
            launcher: self.facts.launcher.cloned().unwrap_or(Launcher::BuiltIn(BuiltIn::default())),
            domain: document.clone(),
            monitor: self.facts.monitor.to_owned(),
        }
    }

    fn start(&self, launcher: &Launcher, domain: &DomainXml, power: Power) -> StartMachine {
        let (launcher, domain) = (launcher.clone(), domain.clone());
        StartMachine { launcher, domain, monitor: self.facts.monitor.to_owned(), power }
    }

    fn launcher_if_needed(&self, domain: &DomainXml) -> Result<Option<&Launcher>, RevertRefusal> {
        (self.goal != Goal::Off).then(|| self.launcher(domain)).transpose()
    }

    fn launcher(&self, domain: &DomainXml) -> Result<&Launcher, RevertRefusal> {
        let launcher = self.facts.launcher.ok_or_else(|| RevertRefusal::NoLauncher(self.name()))?;
        let cannot = |why: String| RevertRefusal::CannotLaunch { name: self.name(), why };
        launcher.check(domain, self.facts.monitor).map_err(|error| cannot(error.to_string()))?;
        Ok(launcher)
    }

    /// The records afterwards: it is the current one, and says in which overlays the machine goes on. If others descend from it,
    /// what they grew out of stays said beside that.
    fn recorded(&self, fresh: &[Fresh]) -> Result<(WriteRecords, SnapshotTree), Refusal> {
        let Records { folder, tree: old } = self.records;
        let name = self.revert.name.as_str();
        let mut tree = old.clone();
        if let Some(current) = old.current().filter(|current| *current != name)
            && let Some(record) = old.get(current).filter(|record| !record.revert_disks.is_empty())
        {
            tree.insert(DomainSnapshot { revert_disks: Vec::new(), ..record.clone() });
        }
        if !fresh.is_empty() {
            let disks: Vec<SnapshotDisk> = fresh.iter().map(recorded_disk).collect();
            let mut record = self.record.clone();
            if old.children(name).next().is_some() {
                record.revert_disks = disks;
            } else {
                record.revert_disks = Vec::new();
                // Each in the place that it had.
                for new in disks {
                    match record.disks.iter_mut().find(|disk| disk.name == new.name) {
                        Some(disk) => *disk = new,
                        None => record.disks.push(new),
                    }
                }
            }
            tree.insert(record);
        }
        tree.set_current(Some(name));
        Ok((WriteRecords::new(folder, old, &tree)?, tree))
    }

    /// The overlays that the guest writes now and that nothing leads to any more then. One that holds internal snapshots, or is
    /// named by any record's machine, stays.
    fn left_behind(&self, machine: &DomainXml, tree: &SnapshotTree) -> BTreeSet<Utf8PathBuf> {
        let old = self.records.tree;
        let Some(current) = old.current().and_then(|name| old.get(name)) else { return BTreeSet::new() };
        let named = if current.revert_disks.is_empty() { &current.disks } else { &current.revert_disks };
        let in_use = |path: &Utf8Path| {
            let records = tree.topological().into_iter().filter_map(|name| tree.get(name)?.domain.as_ref());
            records.chain([machine.element()]).any(|domain| names(domain, path))
        };
        let top = |disk: &SnapshotDisk| {
            let found = self.facts.observed.disk(&disk.name)?;
            let is_it = disk.location == Some(Location::External)
                && disk.source_type == SourceType::File
                && disk.path() == Some(&found.file)
                && found.snapshots.is_empty();
            is_it.then(|| found.file.clone())
        };
        named.iter().filter_map(top).filter(|path| !in_use(path)).collect()
    }

    fn plan(&self, kind: &str, disks: Vec<String>, stages: Vec<Stage>, no_return: usize) -> Plan {
        let then = match self.goal {
            Goal::Running => "running",
            Goal::Paused => "paused",
            Goal::Off => "off",
        };
        let title = format!(
            "revert {} to {}: {kind}, disks {}; then {then}",
            self.facts.domain.name,
            self.revert.name,
            disks.join(" ")
        );
        Plan { title, disks, manual: Vec::new(), stages, no_return }
    }
}

fn recorded_disk(overlay: &Fresh) -> SnapshotDisk {
    SnapshotDisk {
        location: Some(Location::External),
        driver: Some(Element::new("driver").with("type", "qcow2")),
        source: Some(Element::new("source").with("file", overlay.file.as_str())),
        ..SnapshotDisk::new(&overlay.target)
    }
}

/// Whether a description names a file anywhere.
fn names(element: &Element, path: &Utf8Path) -> bool {
    let mut open = vec![element];
    while let Some(element) = open.pop() {
        if element.attributes.iter().any(|(_, value)| value == path.as_str()) {
            return true;
        }
        open.extend(element.elements());
    }
    false
}
