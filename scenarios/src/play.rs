//! Plays one scenario in one world: connects the driver, does the steps, lets the faults strike, and looks how
//! everything stands at the end.
//!
//! What was seen comes back as a transcript, what was not as it should be as findings in words. Neither decides
//! whether the scenario passes in comparison with another run: that is the callers' business.

mod agent;
mod driver;
mod files;
mod plug;
mod request;
mod storage;
mod title;
mod watch;

use std::{cell::Cell, rc::Rc, time::Duration};

use camino::Utf8PathBuf;
use freezeframe_driver::{
    Machine,
    capabilities::{Capabilities, InternalMethod},
    client::{Client, CommandError, Events},
    env::Env,
    error::OperationError,
    mark,
    name::BadName,
    report::{Deed, LoadedFreeze, Verdict},
    request::{Request, WITHIN},
    wire::Band,
};
use serde_json::Value;

pub use self::watch::{Next, Stands, Told, Watch};
use self::{agent::Agent, driver::Driver, title::title};
use crate::{
    inspect,
    interpose::{Faults, Hands},
    language::{
        self, Action, Describe, Fails, GuestAct, Hold, Power, Qmp, Scenario, Step, StorageMethod, StorageStep,
    },
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

/// The way to look at the machine at the end: where the driver has started another, which has one monitor, through that one. None if
/// it was off and is.
async fn look_anew<W: World>(world: &W, control: Option<Client<W::Env>>) -> Option<Client<W::Env>> {
    if control.as_ref().is_some_and(|control| control.lost().is_none()) {
        return control;
    }
    Client::connect(world.env(), &world.monitor(), false, OWN).await.ok().or(control)
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
    play_watched(scenario, world, capabilities, None).await
}

/// Plays a scenario. If somebody looks on, how everything stands at the end is theirs to say: it is not held against what the
/// scenario expects.
///
/// # Errors
/// As [`play`].
pub async fn play_watched<W: World + Clone + 'static>(
    scenario: &Scenario,
    world: &W,
    capabilities: Rc<Capabilities>,
    watch: Option<Rc<dyn Watch>>,
) -> Result<Run, CannotPlay> {
    let is_off = scenario.machine.state == Power::Off;
    let control = match is_off {
        true => None,
        false => Some(control(world).await?),
    };
    if is_off {
        world.kill_qemu().await;
    }
    let record = Record::new(world.env().now());
    let record = match watch.clone() {
        Some(watch) => record.telling(move |entry| watch.happened(entry)),
        None => record,
    };
    // What stands between changes nothing, but that two runs are alike only with it in both.
    let faults = (!scenario.faults.is_empty() || watch.is_some())
        .then(|| Faults::new(&scenario.faults, control.clone(), Hands::in_world(world)));
    for file in &scenario.machine.files {
        world.add_file(file).await?;
    }
    let env = Recorded::new(world.env().clone(), record.clone(), faults.clone()).with_agent(world.agent());
    let mut findings = Vec::new();
    let driver = Driver { described: &scenario.machine, anew: Describe::default(), world, capabilities };
    match driver.begins(&env).await? {
        Ok(machine) => {
            let disks = scenario.machine.disks.iter().map(|disk| disk.target.clone()).collect();
            let (agent, quiesced, frozen) = (Agent::default(), Cell::new(None), Cell::new(false));
            let (machine, watch) = (Some(machine), watch.clone());
            let mut player = Player { world, driver, machine, env, disks, agent, watch, quiesced, frozen };
            for (index, step) in scenario.steps.iter().enumerate() {
                let ending = match player.watch.clone() {
                    None => player.step(step).await?,
                    Some(watch) => player.watched(index, step, &*watch, faults.as_ref()).await?,
                };
                let finding = judge(&ending, step.fails.as_ref());
                findings.extend(finding.map(|finding| format!("step {}: {finding}", index + 1)));
            }
            findings.extend(unlike(scenario.expect.quiesced, player.quiesced.get()));
        }
        Err(error) => findings.push(format!("the driver could not connect: {error}")),
    }
    findings.extend(faults.iter().flat_map(Faults::missed));
    if watch.is_some() {
        return Ok(Run { record: record.take(), folder: world.folder().to_owned(), findings });
    }
    let control = look_anew(world, control).await;
    findings.extend(inspect::findings(scenario, world, control.as_ref()).await);
    if scenario.machine.records {
        findings.extend(inspect::records(&scenario.expect, world).await);
    }
    Ok(Run { record: record.take(), folder: world.folder().to_owned(), findings })
}

/// How a step ended, before it is held against what it should have done.
enum Ending {
    Done(String),
    /// The driver's error and its code.
    Failed {
        code: &'static str,
        text: String,
        stands: Stands,
    },
    /// QEMU's refusal of a raw command, or the agent's.
    Refused {
        class: String,
        text: String,
    },
    /// The driver was killed at it.
    Killed,
}

impl Ending {
    /// The driver's error, which says how things stand.
    fn failed(error: &OperationError) -> Self {
        mark::reached(error);
        Ending::Failed { code: error.code().name(), text: error.to_string(), stands: error.into() }
    }

    /// What was told, and by the report itself that the guest may stand frozen, or had come to rest.
    fn told(&self, frozen: bool, quiesced: Option<Verdict>) -> Told {
        let (stands, text) = match self {
            Ending::Done(text) => (Stands::Done, text.as_str()),
            Ending::Failed { text, stands, .. } => (*stands, text.as_str()),
            Ending::Refused { text, .. } => (Stands::Unsaid, text.as_str()),
            Ending::Killed => (Stands::Killed, "killed"),
        };
        Told { stands, text: text.to_owned(), frozen, quiesced }
    }
}

struct Player<'a, W: World> {
    world: &'a W,
    driver: Driver<'a, W>,
    /// None behind a step that has killed it: the next one has a new one.
    machine: Option<Machine<Recorded<W::Env>>>,
    env: Recorded<W::Env>,
    /// The targets of the machine's disks.
    disks: Vec<String>,
    agent: Agent<W::Env>,
    /// Who looks on, if anybody does.
    watch: Option<Rc<dyn Watch>>,
    /// Whether the guest was at rest for the last snapshot, if one was taken.
    quiesced: Cell<Option<Verdict>>,
    /// Whether it was told of the last step that the guest may stand frozen.
    frozen: Cell<bool>,
}

impl<W: World> Player<'_, W> {
    /// Does one step while somebody looks on, as often as they wish.
    async fn watched(
        &mut self,
        index: usize,
        step: &Step,
        watch: &dyn Watch,
        faults: Option<&Faults<W::Env>>,
    ) -> Result<Ending, CannotPlay> {
        loop {
            watch.begins(index);
            self.frozen.set(false);
            let before = self.quiesced.take();
            let ending = self.step(step).await?;
            let told = ending.told(self.frozen.get(), self.quiesced.get());
            self.quiesced.set(self.quiesced.get().or(before));
            let mut next = watch.ended(index, &told);
            if next != Next::GoOn {
                faults.into_iter().for_each(Faults::lift);
            }
            if next == Next::Recover {
                next = watch.put_right(index, &self.recover_the_killed().await?);
            }
            if next == Next::GoOn {
                return Ok(ending);
            }
        }
    }

    /// A new driver puts right what the one before has left. Tells how everything stands then.
    async fn recover_the_killed(&mut self) -> Result<Told, CannotPlay> {
        self.env.note(Entry::Step("recover".to_owned()));
        self.env = self.env.for_a_new_driver();
        let recovered = match self.driver.begins_where_it_runs(&self.env).await? {
            Ok(machine) => self.machine.insert(machine).recover(WITHIN).await,
            Err(error) => Err(error),
        };
        let mut told = driver::told(&recovered);
        told.frozen = self.machine.as_ref().is_some_and(Machine::may_be_frozen);
        self.env.note(Entry::Outcome(recovered.is_ok().then(|| told.text.clone()).ok_or(told.text.clone())));
        Ok(told)
    }

    /// Does one step, by a new driver if the one before was killed or the machine is described anew.
    async fn step(&mut self, step: &Step) -> Result<Ending, CannotPlay> {
        if let Action::Describe(anew) = &step.action {
            self.driver.anew.clone_from(anew);
            let named = anew.disks.iter().map(|disk| disk.target.clone());
            self.disks.extend(named);
            if let Some(before) = self.machine.take() {
                before.client().close();
            }
        }
        if self.machine.is_none() {
            self.env = self.env.for_a_new_driver();
            match self.driver.begins_again(&self.env).await? {
                Ok(machine) => self.machine = Some(machine),
                Err(error) => return Ok(Ending::failed(&error)),
            }
        }
        self.env.note(Entry::Step(title(&step.action)));
        let machine = self.machine.as_ref().expect("it has begun");
        let ended = self.env.during(Box::pin(self.act(machine, step))).await;
        if ended.is_none() {
            self.machine = None;
        }
        let ending = ended.unwrap_or(Ending::Killed);
        self.env.note(Entry::Outcome(match &ending {
            Ending::Done(text) => Ok(text.clone()),
            Ending::Failed { code, text, .. } => Err(format!("{code} {text}")),
            Ending::Refused { class, text } => Err(format!("{class} {text}")),
            Ending::Killed => Err("killed".to_owned()),
        }));
        Ok(ending)
    }

    async fn act(&self, machine: &Machine<Recorded<W::Env>>, step: &Step) -> Ending {
        let ending = match &step.action {
            Action::Snapshot(snapshot) => {
                let request = request::create(snapshot, &self.disks, self.world.folder());
                self.operation(machine, Ok(request), snapshot.dry_run).await
            }
            Action::Revert(revert) => {
                let request = request::revert(revert, self.world.folder());
                self.operation(machine, request, revert.dry_run).await
            }
            Action::Delete(delete) => {
                let request = request::delete(delete, self.world.folder());
                self.operation(machine, request, delete.dry_run).await
            }
            Action::Recover(recover) => driver::recover(machine, recover).await,
            Action::Probe(_) => self.probe(machine).await,
            Action::Qmp(qmp) => self.raw(machine, qmp).await,
            Action::Plug(plug) => {
                let [node, device] = plug::commands(plug, self.world.folder());
                match self.raw(machine, &node).await {
                    Ending::Done(_) => self.raw(machine, &device).await,
                    failed => failed,
                }
            }
            Action::Agent(request) => return self.agent.ask(request, self.world, &self.env).await,
            Action::Storage(step) => return self.storage(machine, step).await,
            // Who watches lets the guest write all the while, and counts what it writes.
            Action::Guest(GuestAct::Write) if self.watch.is_some() => Ending::Done(String::new()),
            Action::Guest(act) => match self.world.in_guest(*act).await {
                Ok(()) => Ending::Done(String::new()),
                Err(error) => {
                    Ending::Failed { code: "guest", text: error.to_string(), stands: Stands::Unsaid }
                }
            },
            Action::Host(act) => {
                self.world.on_host(act);
                Ending::Done(String::new())
            }
            Action::Shorten(lost) => match files::shorten(self.world, lost).await {
                Ok(()) => Ending::Done(String::new()),
                Err(error) => {
                    Ending::Failed { code: "shorten", text: error.to_string(), stands: Stands::Unsaid }
                }
            },
            Action::Tamper(tampered) => match files::tamper(self.world, tampered).await {
                Ok(()) => Ending::Done(String::new()),
                Err(error) => {
                    Ending::Failed { code: "tamper", text: error.to_string(), stands: Stands::Unsaid }
                }
            },
            Action::Hold(Hold { file }) => match self.world.hold(file).await {
                Ok(()) => Ending::Done(String::new()),
                Err(error) => {
                    Ending::Failed { code: "hold", text: error.to_string(), stands: Stands::Unsaid }
                }
            },
            // The driver that has begun for this step knows it by that already.
            Action::Describe(_) => Ending::Done(String::new()),
        };
        self.frozen.set(self.frozen.get() || machine.may_be_frozen());
        ending
    }

    async fn storage(&self, machine: &Machine<Recorded<W::Env>>, step: &StorageStep) -> Ending {
        let done = match step.method {
            Some(StorageMethod::Qemu) => {
                let done = storage::by_qemu(step, machine, self.world.folder()).await;
                self.frozen.set(machine.may_be_frozen());
                done
            }
            None => {
                let by = (self.env.clone(), &*self.world.tool(), self.world.agent());
                let (done, frozen) =
                    storage::by_storage(step, self.driver.described, by, self.world.folder()).await;
                self.frozen.set(frozen);
                done
            }
        };
        match done {
            Ok((text, verdict)) => {
                self.quiesced.set(verdict.or(self.quiesced.get()));
                Ending::Done(text)
            }
            Err(error) => {
                mark::reached(&error);
                Ending::Failed { code: error.code().name(), text: error.to_string(), stands: Stands::Unsaid }
            }
        }
    }

    async fn operation(
        &self,
        machine: &Machine<Recorded<W::Env>>,
        request: Result<Request, BadName>,
        dry_run: bool,
    ) -> Ending {
        let done = match request {
            Err(bad) => Err(OperationError::Refused(bad.into())),
            Ok(request) if dry_run => machine.plan(&request).await.map(|plan| plan.to_string()),
            Ok(request) => match self.put_right(machine, &request).await {
                Ok(()) => machine.perform(&request).await.map(|report| {
                    mark::reached(&report);
                    if let Deed::Taken { quiesced, .. } = &report.deed {
                        self.quiesced.set(Some(quiesced.verdict));
                    }
                    self.frozen.set(matches!(report.loaded_freeze, Some(LoadedFreeze::Unknown(_))));
                    report.to_string()
                }),
                Err(error) => Err(error),
            },
        };
        match done {
            Ok(text) => Ending::Done(text),
            Err(error) => Ending::failed(&error),
        }
    }

    /// Puts right what a driver has left that was killed, as the command does before it begins: that is told by itself.
    async fn put_right(
        &self,
        machine: &Machine<Recorded<W::Env>>,
        request: &Request,
    ) -> Result<(), OperationError> {
        let recovered = machine.put_right(request.within()).await?;
        if let Some(recovered) = &recovered {
            mark::reached(recovered);
        }
        if let (Some(recovered), Some(watch)) = (recovered, &self.watch) {
            let text = recovered.to_string();
            watch.recovered(&Told {
                stands: Stands::Left,
                text,
                quiesced: None,
                frozen: machine.may_be_frozen(),
            });
        }
        Ok(())
    }

    async fn probe(&self, machine: &Machine<Recorded<W::Env>>) -> Ending {
        match Capabilities::probe(&machine.client(), self.env.now() + OWN).await {
            Ok(found) => {
                let internal = match found.internal_method() {
                    Some(InternalMethod::Jobs) => "by jobs",
                    Some(InternalMethod::HumanMonitor) => "by the human monitor",
                    None => "none",
                };
                let external = if found.missing_for_external().is_empty() { "yes" } else { "no" };
                Ending::Done(format!("internal snapshots: {internal}; external: {external}"))
            }
            Err(error) => Ending::failed(&error.into()),
        }
    }

    /// A raw command; one that starts a job is over when the job has concluded or is ready.
    async fn raw(&self, machine: &Machine<Recorded<W::Env>>, qmp: &Qmp) -> Ending {
        let request: Value = serde_json::from_str(&qmp.json).expect("the scenario was checked");
        let (band, command) = match (request["execute"].as_str(), request["exec-oob"].as_str()) {
            (None, Some(command)) => (Band::Out, command),
            (command, _) => (Band::In, command.unwrap_or_default()),
        };
        let arguments = request.get("arguments");
        let client = machine.client();
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
            Err(error) => Ending::failed(&error.into()),
        }
    }
}

/// Waits until a job says that it has ended, or that it goes on until it is told to complete.
async fn concluded<E: Env>(mut events: Events<E>, job: &str, deadline: Duration) {
    while let Ok(event) = events.next(deadline).await {
        let Some(data) = &event.data else { continue };
        let data: Value = serde_json::from_str(data).unwrap_or_default();
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

/// Holds whether the guest was at rest against what the scenario says.
fn unlike(wanted: Option<language::Quiesced>, found: Option<Verdict>) -> Option<String> {
    let verdict = match wanted? {
        language::Quiesced::Yes => Verdict::Yes,
        language::Quiesced::No => Verdict::No,
        language::Quiesced::Unknown => Verdict::Unknown,
    };
    (found != Some(verdict))
        .then(|| format!("the snapshot was to be quiesced: {verdict:?}, and is: {found:?}"))
}

/// Holds how a step ended against how it should have ended.
fn judge(ending: &Ending, fails: Option<&Fails>) -> Option<String> {
    let (word, text) = match (ending, fails) {
        (Ending::Done(_), None) => return None,
        // Nothing but a fault of the scenario's kills it.
        (Ending::Killed, None) => return None,
        (Ending::Killed, Some(_)) => return Some("the driver was killed, and was to fail by itself".into()),
        (Ending::Done(_), Some(_)) => return Some("it succeeded, and was to fail".into()),
        (Ending::Failed { code: word, text, .. }, _) => (*word, text),
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
