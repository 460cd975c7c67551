//! A plan: what will be done, in which order, before anything is done.
//!
//! A planner ([`create`], [`revert`], [`delete`]) takes the request, the domain, what the live machine says
//! and what this QEMU can do, and returns a [`Plan`] or a [`Refusal`]. It sends nothing. The plan is plain
//! data: it can be printed ([`std::fmt::Display`], the `--dry-run`), compared, and written down.
//!
//! Stages follow one another; the steps of one stage run side by side. Before the point of no return a
//! failure undoes what was done, newest first; after it the plan is carried forward.

mod branches;
mod delete;
mod external;
mod inside;
mod internal;
mod memory;
mod merge;
mod off;
mod prepare;
mod quiesce;
mod record;
mod released;
mod reuse;
mod revert;
mod storage;
mod transient;

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

pub(crate) use self::branches::recorded;
pub(crate) use self::merge::is_named;
pub(crate) use self::quiesce::{Wanted, told as quiesced};
pub use self::{
    branches::{Beside, images_beside, known_files, recorded_images},
    delete::{at_stake, check_one_by_one, needs_nodes, one_by_one},
    internal::images_of_other_branches,
    memory::why_not_in_background,
    merge::{stayed, taken_out},
    off::{Off, in_doubt, went_on},
    prepare::{HostFiles, paths},
    released::may_be_released,
    reuse::images_reused,
    revert::{Aside, GoingBack, going_back, images_discarded, loads_memory, needs_images},
    storage::{Held, volumes},
    transient::{Kept, overlays_found},
};
use crate::{
    agent::{AgentError, FreezeStatus},
    align::{self, MemoryPlace, Place},
    capabilities::Capabilities,
    domain::Domain,
    domain_snapshot::Location,
    domain_xml::DomainXml,
    error::{ImageRefusal, Refusal},
    launch::Launcher,
    migration::Before,
    name::SnapshotName,
    observed::{Observed, ObservedDisk},
    request::{Create, CreateFlag, Quiesce, Request},
    step::{EndCommit, Meanwhile, Step},
    tree::SnapshotTree,
};

/// What will be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it is for, in one line.
    pub title: String,
    /// The disks that take part, by target.
    pub disks: Vec<String>,
    /// Those of them that the caller takes, while the guest stands still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manual: Vec<String>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// The stage whose success is the point of no return.
    pub no_return: usize,
}

/// Steps that run side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Whether the machine's memory is saved.
    pub fn has_memory(&self) -> bool {
        self.steps().any(Step::saves_memory)
    }

    /// Whether the guest's file systems are frozen for it.
    pub fn freezes(&self) -> bool {
        self.steps().any(|step| matches!(step, Step::Freeze(_)))
    }

    /// Whether the memory goes out while the guest runs, until it is stopped for the last of it.
    pub(crate) fn saves_live(&self) -> bool {
        self.saves_as(Meanwhile::Live)
    }

    /// Whether the memory of one moment goes out while the guest runs on.
    pub(crate) fn saves_in_background(&self) -> bool {
        self.saves_as(Meanwhile::Background)
    }

    fn saves_as(&self, meanwhile: Meanwhile) -> bool {
        self.steps().any(|step| matches!(step, Step::SaveMemory(save) if save.guest == meanwhile))
    }

    /// The overlays that the guest writes to and that it takes it out of.
    pub(crate) fn merges(&self) -> impl Iterator<Item = &EndCommit> {
        self.steps().filter_map(Step::takes_the_guest_out)
    }

    /// Whether the machine is off when it is carried out, and was not before.
    pub(crate) fn ends_the_machine(&self) -> bool {
        let ends = |step: &Step| matches!(step, Step::StopMachine(_) | Step::Quit(_));
        self.steps().any(ends) && !self.steps().any(Step::starts_a_machine)
    }

    /// The stage from which on the guest's agent cannot answer any more, not even when all is done; none if it can then.
    pub(crate) fn ends_answers(&self) -> Option<usize> {
        if self.steps().any(|step| matches!(step, Step::Resume(_))) {
            return None;
        }
        let ends =
            |stage: &Stage| stage.steps.iter().any(|step| matches!(step, Step::Pause(_) | Step::Quit(_)));
        self.stages.iter().position(ends)
    }

    /// All steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flat_map(|stage| &stage.steps)
    }
}

impl Stage {
    /// A stage of one step.
    pub(crate) fn one(step: impl Into<Step>) -> Self {
        Self { steps: vec![step.into()] }
    }

    /// A stage of several steps of one kind.
    fn all<S: Into<Step>>(steps: impl IntoIterator<Item = S>) -> Self {
        Self { steps: steps.into_iter().map(Into::into).collect() }
    }
}

/// What a planner may look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the caller knows of the machine.
    pub domain: &'a Domain,
    /// What the machine says of itself.
    pub observed: &'a Observed,
    /// What this QEMU can do.
    pub capabilities: &'a Capabilities,
    /// A word that nobody else uses, for names of jobs and nodes.
    pub unique: &'a str,
    /// How it stands before a migration; asked for where [`saves_memory`] says so.
    pub migration: Option<&'a Before>,
    /// What is at the paths that [`paths`] named.
    pub files: &'a HostFiles,
    /// The machine's records, if any are kept.
    pub records: Option<Records<'a>>,
    /// The time of day, in seconds since 1970 (UTC).
    pub seconds: i64,
    /// Who starts and stops the machine, if anybody does.
    pub launcher: Option<&'a Launcher>,
    /// What the file with its description says, of one that runs and is kept in step with it.
    pub described: Option<&'a DomainXml>,
    /// Where its monitor listens, or is to; none of a machine that is off and is not to be started.
    pub monitor: Option<&'a Utf8Path>,
    /// What lies aside that a revert goes back to, if this is one for which [`going_back`] says what.
    pub aside: Option<&'a Aside>,
    /// What else is known of a machine that is off; none of one that runs.
    pub off: Option<Off<'a>>,
    /// What lies beside the machine's chains, if it was looked for: [`images_beside`] says what.
    pub beside: Option<&'a Beside>,
    /// How the guest's agent stands, if it was asked: of a guest that runs and is to be at rest.
    pub agent: Option<&'a Result<FreezeStatus, AgentError>>,
    /// Whether it is known where the guest's agent is reached.
    pub has_agent: bool,
    /// What lies below the disks that their storages are to take: [`volumes`] says which.
    pub below: &'a [Held],
    /// Whether this QEMU has refused to write memory in the background, though it knows how.
    pub no_background: bool,
}

impl Facts<'_> {
    /// Whether the machine has a disk of that target: one that runs and is described with it may be without its device by now.
    fn has(&self, target: &str) -> bool {
        let is_described = self.domain.disks.iter().any(|disk| disk.target == target);
        let is_missing = || self.observed.missing.iter().any(|missing| missing.target == target);
        is_described && (self.off.is_some() || !is_missing())
    }
}

/// A machine's records and where they are.
#[derive(Debug, Clone, Copy)]
pub struct Records<'a> {
    /// Their folder.
    pub folder: &'a Utf8Path,
    /// What they say.
    pub tree: &'a SnapshotTree,
    /// The files among them that cannot be read.
    pub unread: &'a [Utf8PathBuf],
}

/// A plan, and what the machine's records say once it is carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The records then; none if it changes none.
    pub tree: Option<SnapshotTree>,
    /// The machine then, if it is another one.
    pub domain: Option<DomainXml>,
}

/// Plans an operation.
///
/// # Errors
/// [`Refusal`]: it must not or cannot be done.
pub fn plan(request: &Request, facts: Facts<'_>) -> Result<Planned, Refusal> {
    check_alone(request, facts.domain)?;
    record::check_are_its_own(facts)?;
    record::check_are_read(request, facts)?;
    let planned = match request {
        Request::Create(create) => self::create(create, facts),
        Request::Revert(revert) => {
            delete::check_whole(revert.name.as_str(), facts)?;
            self::revert::revert(revert, facts)
        }
        Request::Delete(delete) => delete::delete(delete, facts),
    };
    // Whatever else is in the way says more of it.
    let planned = planned.and_then(|planned| {
        off::check_goes_on(request, facts)?;
        Ok(planned)
    });
    let planned = planned.map(|planned| {
        let mut planned = released::with_released(request, planned, facts);
        if leaves_tpm_out(request, &planned.plan, facts.domain) {
            planned.plan.title += "; ";
            planned.plan.title += TPM_LEFT_OUT;
        }
        planned
    });
    // Where records are kept, an internal one is not all that was meant.
    let is_recorded = |name: &str| facts.records.is_some_and(|records| records.tree.get(name).is_some());
    planned.map_err(|refusal| match refusal {
        Refusal::NoSuchSnapshot(name) if facts.records.is_some() && !is_recorded(&name) => {
            Refusal::Unknown(name)
        }
        refusal => refusal,
    })
}

/// What is said of a TPM's state.
pub(crate) const TPM_LEFT_OUT: &str = "the TPM's state is not part of it";

/// Whether a snapshot is taken without the state of the machine's TPM: it is told to QEMU with the memory alone, and is on no disk.
///
/// Source: QEMU, `docs/specs/tpm.rst`: the state of the TPM emulator is sent with the migration, and saved with a snapshot.
pub(crate) fn leaves_tpm_out(request: &Request, plan: &Plan, domain: &Domain) -> bool {
    let has_tpm = domain.document.as_ref().is_some_and(DomainXml::has_tpm);
    has_tpm && matches!(request, Request::Create(_)) && !plan.has_memory()
}

/// Whether QEMU writes to the images by now: not to those that it has given away.
fn check_images_are_held(facts: Facts<'_>) -> Result<(), Refusal> {
    match facts.observed.disks.iter().find(|disk| disk.given_away) {
        Some(disk) => Err(ImageRefusal::GivenAway(disk.target.clone()).into()),
        None => Ok(()),
    }
}

/// Whether the machine's memory is to go into a file: then [`Facts::migration`] is needed.
pub fn saves_memory(request: &Request) -> bool {
    matches!(request, Request::Create(create) if create.wish.memory.location == Some(Location::External))
}

/// What can be said of a request before the machine is asked anything.
///
/// # Errors
/// [`Refusal`]: flags that do not go together, a name that is not allowed.
pub fn check_alone(request: &Request, domain: &Domain) -> Result<(), Refusal> {
    let create = match request {
        Request::Create(create) => create,
        Request::Revert(revert) => return revert.flags.check(),
        Request::Delete(delete) => return delete.flags.check(),
    };
    create.flags.check()?;
    if create.quiesce() == Quiesce::BestEffort && !create.flags.has(CreateFlag::DiskOnly) {
        return Err(Refusal::FlagNeeds { flag: CreateFlag::Quiesce, needed: CreateFlag::DiskOnly });
    }
    if create.flags.has(CreateFlag::Redefine) {
        return Err(Refusal::RecordHandedIn);
    }
    if create.flags.has(CreateFlag::Halt) && domain.transient {
        return Err(Refusal::HaltOfTransient);
    }
    // Whoever reads the document finds this before the name is looked at.
    let memory = create.wish.memory.location;
    if create.flags.has(CreateFlag::DiskOnly) && memory.is_some_and(|location| location != Location::No) {
        return Err(Refusal::MemoryWithoutMachine);
    }
    SnapshotName::new(create.wish.name.clone().unwrap_or_default())?;
    Ok(())
}

/// In libvirt's order of checks: the request by itself, the wish and the machine, the name among the records.
fn create(create: &Create, facts: Facts<'_>) -> Result<Planned, Refusal> {
    if facts.off.is_some() {
        off::check(create, facts)?;
    }
    let aligned = align::align(create, facts.domain, facts.observed.running())?;
    prepare::check(create, &aligned, facts)?;
    let (record, tree) = record::of(create, &aligned, facts)?.unzip();
    let freeze = quiesce::freeze(create, &aligned, facts)?;
    if let Some(off) = facts.off {
        let (plan, domain) = off::create(create, &aligned, record, off, facts)?;
        return Ok(Planned { plan, tree, domain });
    }
    let is_internal = aligned.memory == MemoryPlace::Internal
        || aligned.disks.iter().any(|disk| disk.place == Place::Internal);
    let plan = if is_internal && create.inside {
        inside::create(&aligned, record, freeze, facts)?
    } else if is_internal {
        internal::create(create, &aligned, record, facts)?
    } else {
        external::create(create, &aligned, record, freeze, facts)?
    };
    Ok(Planned { plan, tree, domain: None })
}

/// The end of a title that says on which disks, if on any.
fn on_disks(disks: &[String]) -> String {
    if disks.is_empty() { String::new() } else { format!(", disks {}", disks.join(" ")) }
}

/// The targets of disks, for a plan and its title.
fn targets(disks: &[&ObservedDisk]) -> Vec<String> {
    disks.iter().map(|disk| disk.target.clone()).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let mut number = 0;
        for (index, stage) in self.stages.iter().enumerate() {
            for step in &stage.steps {
                number += 1;
                let note = if index == self.no_return {
                    "point of no return".to_owned()
                } else {
                    step.undo_title().map(|undo| format!("undo: {undo}")).unwrap_or_default()
                };
                let line = format!("{number:>3}  {:<46} {note}", step.to_string());
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
