//! Plays one scenario in one world: connects the driver, does the steps, lets the faults strike, and looks how
//! everything stands at the end.
//!
//! What was seen comes back as a transcript, what was not as it should be as findings in words. Neither decides
//! whether the scenario passes in comparison with another run: that is the callers' business.

mod agent;

use std::{rc::Rc, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    Machine, Patience,
    capabilities::{Capabilities, InternalMethod},
    client::{Client, CommandError, Events},
    domain_snapshot::{DomainSnapshot, Location, Memory, SnapshotDisk},
    env::Env,
    error::OperationError,
    name::{BadName, SnapshotName},
    request::{
        Create, CreateFlag, CreateFlags, Delete, DeleteFlag, DeleteFlags, Request, Revert, RevertFlag,
        RevertFlags, WITHIN,
    },
    save_image::Format,
    store::Store,
    wire::Band,
    xml::Element,
};
use serde_json::Value;

use self::agent::Agent;
use crate::{
    inspect,
    interpose::{Faults, Kill},
    language::{self, Action, Fails, Flag, MemoryFormat, MemoryPlace, Qmp, Scenario, Snapshot, Step},
    machine,
    recorded::Recorded,
    transcript::{Entry, Line, Record, lines},
    world::World,
};

/// How long the runner's own connections and raw commands may take.
const OWN: Duration = Duration::from_secs(10);

/// How one scenario went in one world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// What was said and done, as it was seen.
    record: Vec<(Duration, Entry)>,
    /// The machine's folder, which no transcript names.
    folder: Utf8PathBuf,
    /// What was not as it should be, in words; none if all was.
    pub findings: Vec<String>,
}

impl Run {
    /// What was said and done, as the lines of a transcript. A campaign that only looks for findings never asks.
    pub fn lines(&self) -> Vec<Line> {
        lines(&self.record, &self.folder)
    }
}

/// The surroundings failed before the scenario could be played.
#[derive(Debug, thiserror::Error)]
#[error("the runner cannot use the machine: {0}")]
pub struct CannotPlay(String);

impl CannotPlay {
    /// For this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Asks a world's QEMU once what it can do.
///
/// # Errors
/// [`CannotPlay`].
pub async fn capabilities<W: World>(world: &W) -> Result<Capabilities, CannotPlay> {
    let client = control(world).await?;
    Capabilities::probe(&client, world.env().now() + OWN).await.map_err(|error| CannotPlay(error.to_string()))
}

async fn control<W: World>(world: &W) -> Result<Client<W::Env>, CannotPlay> {
    let client = Client::connect(world.env(), &world.control(), false, OWN).await;
    client.map_err(|error| CannotPlay(error.to_string()))
}

/// The way to look at the machine at the end: where the driver has started another, which has one monitor, through that one.
async fn look_anew<W: World>(world: &W, control: Client<W::Env>) -> Client<W::Env> {
    if control.lost().is_none() {
        return control;
    }
    Client::connect(world.env(), &world.monitor(), false, OWN).await.unwrap_or(control)
}

/// Plays a scenario.
///
/// # Errors
/// [`CannotPlay`] if the runner's own connection fails; what the driver meets is part of the run.
pub async fn play<W: World + Clone + 'static>(
    scenario: &Scenario,
    world: &W,
    capabilities: Rc<Capabilities>,
) -> Result<Run, CannotPlay> {
    let control = control(world).await?;
    let record = Record::new(world.env().now());
    let faults = (!scenario.faults.is_empty()).then(|| {
        let killed = world.clone();
        let kill: Kill = Rc::new(move || {
            let world = killed.clone();
            Box::pin(async move { world.kill_qemu().await })
        });
        Faults::new(&scenario.faults, control.clone(), kill)
    });
    for file in &scenario.machine.files {
        world.add_file(file).await?;
    }
    let env = Recorded::new(world.env().clone(), record.clone(), faults.clone());
    let mut findings = Vec::new();
    match Machine::connect(
        env.clone(),
        world.monitor(),
        machine::domain(&scenario.machine, world.folder()),
        Some(capabilities),
        Patience::default(),
    )
    .await
    {
        Ok(machine) => {
            let machine = match scenario.machine.records {
                true => machine.with_records(records(&env, world.folder()).await?),
                false => machine,
            };
            let machine = match scenario.machine.launcher {
                true => machine.with_launcher(world.launcher()),
                false => machine,
            };
            let disks = scenario.machine.disks.iter().map(|disk| disk.target.clone()).collect();
            let player = Player { world, machine, env, disks, agent: Agent::default() };
            for (index, step) in scenario.steps.iter().enumerate() {
                findings
                    .extend(player.step(step).await.map(|finding| format!("step {}: {finding}", index + 1)));
            }
        }
        Err(error) => findings.push(format!("the driver could not connect: {error}")),
    }
    findings.extend(faults.iter().flat_map(Faults::missed));
    let control = look_anew(world, control).await;
    findings.extend(inspect::findings(scenario, world, &control).await);
    if scenario.machine.records {
        findings.extend(inspect::records(&scenario.expect, world).await);
    }
    Ok(Run { record: record.take(), folder: world.folder().to_owned(), findings })
}

/// Opens the machine's records.
async fn records<E: Env>(env: &E, folder: &Utf8Path) -> Result<Store<E>, CannotPlay> {
    let opened = Store::open(env.clone(), &inspect::state(folder), machine::NAME).await;
    opened.map(|(store, _)| store).map_err(|error| CannotPlay(error.to_string()))
}

/// How a step ended, before it is held against what it should have done.
enum Ending {
    Done(String),
    /// The driver's error and its code.
    Failed {
        code: &'static str,
        text: String,
    },
    /// QEMU's refusal of a raw command, or the agent's.
    Refused {
        class: String,
        text: String,
    },
}

struct Player<'a, W: World> {
    world: &'a W,
    machine: Machine<Recorded<W::Env>>,
    env: Recorded<W::Env>,
    /// The targets of the machine's disks.
    disks: Vec<String>,
    agent: Agent<W::Env>,
}

impl<W: World> Player<'_, W> {
    /// Does one step; returns what was not as it should be.
    async fn step(&self, step: &Step) -> Option<String> {
        self.env.note(Entry::Step(title(&step.action)));
        let ending = match &step.action {
            Action::Snapshot(snapshot) => self.snapshot(snapshot).await,
            Action::Revert(revert) => {
                let request = SnapshotName::new(&*revert.name).map(|name| {
                    Request::Revert(Revert {
                        name,
                        flags: revert_flags(revert),
                        storage_is_back: revert.storage_is_back,
                        within: within(revert.within.as_ref()),
                    })
                });
                self.operation(request, revert.dry_run).await
            }
            Action::Delete(delete) => {
                let request = SnapshotName::new(&*delete.name).map(|name| {
                    Request::Delete(Delete {
                        name,
                        flags: delete_flags(delete),
                        within: within(delete.within.as_ref()),
                    })
                });
                self.operation(request, delete.dry_run).await
            }
            Action::Probe(_) => self.probe().await,
            Action::Qmp(qmp) => self.raw(qmp).await,
            Action::Agent(request) => self.agent.ask(request, self.world, &self.env).await,
        };
        self.env.note(Entry::Outcome(match &ending {
            Ending::Done(text) => Ok(text.clone()),
            Ending::Failed { code, text } => Err(format!("{code} {text}")),
            Ending::Refused { class, text } => Err(format!("{class} {text}")),
        }));
        judge(&ending, step.fails.as_ref())
    }

    async fn snapshot(&self, snapshot: &Snapshot) -> Ending {
        let create = Create {
            wish: self.wish(snapshot),
            flags: flags(snapshot),
            vmstate: snapshot.vmstate.clone(),
            memory_format: match snapshot.memory_format {
                MemoryFormat::Raw => Format::Raw,
                MemoryFormat::Sparse => Format::Sparse,
            },
            within: within(snapshot.within.as_ref()),
        };
        self.operation(Ok(Request::Create(Box::new(create))), snapshot.dry_run).await
    }

    /// What the driver is asked for, as `<domainsnapshot>` says it.
    fn wish(&self, snapshot: &Snapshot) -> DomainSnapshot {
        let folder = self.world.folder();
        let memory = match &snapshot.memory {
            None => Memory::default(),
            Some(MemoryPlace::No) => Memory { location: Some(Location::No), file: None },
            Some(MemoryPlace::Internal) => Memory { location: Some(Location::Internal), file: None },
            Some(MemoryPlace::File(name)) => {
                Memory { location: Some(Location::External), file: Some(folder.join(name)) }
            }
        };
        let disks = self.disks.iter().filter_map(|target| {
            let Snapshot { disks, places, files, formats, .. } = snapshot;
            let left_out = disks.as_ref().is_some_and(|disks| !disks.contains(target));
            let (place, file, format) = (places.get(target), files.get(target), formats.get(target));
            let named = disks.as_ref().is_some_and(|disks| disks.contains(target));
            if !left_out && !named && place.is_none() && file.is_none() && format.is_none() {
                return None;
            }
            let left_out = left_out.then_some(Location::No);
            let path = file.map(|file| folder.join(file));
            Some(SnapshotDisk {
                location: place.copied().map(machine::location).or(left_out),
                driver: format.map(|format| Element::new("driver").with("type", format)),
                source: path.map(|path| Element::new("source").with("file", path.as_str())),
                ..SnapshotDisk::new(target)
            })
        });
        DomainSnapshot {
            name: Some(snapshot.name.clone()),
            description: snapshot.description.clone(),
            memory,
            disks: disks.collect(),
            ..DomainSnapshot::default()
        }
    }

    async fn operation(&self, request: Result<Request, BadName>, dry_run: bool) -> Ending {
        let done = match request {
            Err(bad) => Err(OperationError::Refused(bad.into())),
            Ok(request) if dry_run => self.machine.plan(&request).await.map(|plan| plan.to_string()),
            Ok(request) => self.machine.perform(&request).await.map(|report| report.to_string()),
        };
        match done {
            Ok(text) => Ending::Done(text),
            Err(error) => Ending::Failed { code: error.code().name(), text: error.to_string() },
        }
    }

    async fn probe(&self) -> Ending {
        match Capabilities::probe(&self.machine.client(), self.env.now() + OWN).await {
            Ok(found) => {
                let internal = match found.internal_method() {
                    Some(InternalMethod::Jobs) => "by jobs",
                    Some(InternalMethod::HumanMonitor) => "by the human monitor",
                    None => "none",
                };
                let external = if found.missing_for_external().is_empty() { "yes" } else { "no" };
                Ending::Done(format!("internal snapshots: {internal}; external: {external}"))
            }
            Err(error) => {
                let error = OperationError::from(error);
                Ending::Failed { code: error.code().name(), text: error.to_string() }
            }
        }
    }

    /// A raw command; one that starts a job is over when the job has concluded or is ready.
    async fn raw(&self, qmp: &Qmp) -> Ending {
        let request: Value = serde_json::from_str(&qmp.json).expect("the scenario was checked");
        let (band, command) = match (request["execute"].as_str(), request["exec-oob"].as_str()) {
            (None, Some(command)) => (Band::Out, command),
            (command, _) => (Band::In, command.unwrap_or_default()),
        };
        let arguments = request.get("arguments");
        let client = self.machine.client();
        let events = client.events();
        let deadline = self.env.now() + OWN;
        match client.call(band, "raw", command, arguments, deadline).await {
            Ok(_) => {
                if let Some(job) = arguments.and_then(|arguments| arguments["job-id"].as_str()) {
                    concluded(events, job, deadline).await;
                }
                Ending::Done(String::new())
            }
            Err(CommandError::Refused { error, .. }) => {
                Ending::Refused { class: error.class, text: error.desc }
            }
            Err(error) => {
                let error = OperationError::from(error);
                Ending::Failed { code: error.code().name(), text: error.to_string() }
            }
        }
    }
}

fn flags(snapshot: &Snapshot) -> CreateFlags {
    let others = snapshot.flags.iter().map(|flag| match flag {
        Flag::Redefine => CreateFlag::Redefine,
        Flag::Current => CreateFlag::Current,
        Flag::NoMetadata => CreateFlag::NoMetadata,
        Flag::Halt => CreateFlag::Halt,
        Flag::ReuseExternal => CreateFlag::ReuseExternal,
        Flag::Quiesce => CreateFlag::Quiesce,
        Flag::Atomic => CreateFlag::Atomic,
        Flag::Live => CreateFlag::Live,
        Flag::Validate => CreateFlag::Validate,
    });
    others.chain(snapshot.disk_only.then_some(CreateFlag::DiskOnly)).collect()
}

fn delete_flags(delete: &language::Delete) -> DeleteFlags {
    let flags = delete.flags.iter().map(|flag| match flag {
        language::DeleteFlag::Children => DeleteFlag::Children,
        language::DeleteFlag::Metadata => DeleteFlag::MetadataOnly,
        language::DeleteFlag::ChildrenOnly => DeleteFlag::ChildrenOnly,
    });
    flags.collect()
}

fn revert_flags(revert: &language::Revert) -> RevertFlags {
    let flags = revert.flags.iter().map(|flag| match flag {
        language::RevertFlag::Running => RevertFlag::Running,
        language::RevertFlag::Paused => RevertFlag::Paused,
        language::RevertFlag::Force => RevertFlag::Force,
        language::RevertFlag::ResetNvram => RevertFlag::ResetNvram,
    });
    flags.collect()
}

/// Waits until a job says that it has ended, or that it goes on until it is told to complete.
async fn concluded<E: Env>(mut events: Events<E>, job: &str, deadline: Duration) {
    while let Ok(event) = events.next(deadline).await {
        let Some(data) = &event.data else { continue };
        let data: Value = serde_json::from_str(data.get()).unwrap_or_default();
        let over = match event.name.as_str() {
            "JOB_STATUS_CHANGE" => {
                data["id"] == job && matches!(data["status"].as_str(), Some("concluded" | "null"))
            }
            "BLOCK_JOB_READY" => data["device"] == job,
            _ => false,
        };
        if over {
            return;
        }
    }
}

fn within(wanted: Option<&crate::language::Timespan>) -> Duration {
    wanted.map_or(WITHIN, |wanted| wanted.duration())
}

fn title(action: &Action) -> String {
    let dry = |dry_run: bool| if dry_run { ", dry run" } else { "" };
    match action {
        Action::Snapshot(snapshot) => {
            let flags: String = flags(snapshot).iter().map(|flag| format!(", {flag}")).collect();
            let memory = match &snapshot.memory {
                Some(MemoryPlace::File(name)) => {
                    let sparse = if snapshot.memory_format == MemoryFormat::Sparse { ", sparse" } else { "" };
                    format!(", memory in {name}{sparse}")
                }
                _ => String::new(),
            };
            format!("snapshot {}{flags}{memory}{}", snapshot.name.escape_debug(), dry(snapshot.dry_run))
        }
        Action::Revert(revert) => {
            let flags: String = revert_flags(revert).iter().map(|flag| format!(", {flag}")).collect();
            let back = if revert.storage_is_back { ", storage is back" } else { "" };
            format!("revert to {}{flags}{back}{}", revert.name.escape_debug(), dry(revert.dry_run))
        }
        Action::Delete(delete) => {
            let flags: String = delete_flags(delete).iter().map(|flag| format!(", {flag}")).collect();
            format!("delete {}{flags}{}", delete.name.escape_debug(), dry(delete.dry_run))
        }
        Action::Probe(_) => "probe".into(),
        Action::Qmp(_) => "qmp".into(),
        Action::Agent(_) => "agent".into(),
    }
}

/// Holds how a step ended against how it should have ended.
fn judge(ending: &Ending, fails: Option<&Fails>) -> Option<String> {
    let (word, text) = match (ending, fails) {
        (Ending::Done(_), None) => return None,
        (Ending::Done(_), Some(_)) => return Some("it succeeded, and was to fail".into()),
        (Ending::Failed { code: word, text }, _) => (*word, text),
        (Ending::Refused { class: word, text }, _) => (word.as_str(), text),
    };
    let Some(fails) = fails else { return Some(format!("{word}: {text}")) };
    let wanted = fails.code.as_deref().or(fails.class.map(|class| class.name())).unwrap_or(word);
    if wanted != word {
        return Some(format!("it was to fail with {wanted}, and failed with {word}: {text}"));
    }
    let says = fails.says.as_deref().unwrap_or_default();
    (!text.contains(says)).then(|| format!("the error was to say `{says}`, and says: {text}"))
}
