//! A machine, and an operation on it: planned, carried out, watched.
//!
//! The machine's QEMU may be anybody's: all that is needed is its monitor's socket and the machine's description. One that is off has
//! no monitor; then the description alone says of which images it is made, and is kept in step with them. A signal does not
//! tear an operation apart: it is brought to its end, and only a second signal leaves it where it stands.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use camino::Utf8PathBuf;
use clap::Args;
use freezeframe_driver::{
    Machine, Patience,
    domain::Domain,
    domain_xml::DomainXml,
    env::{Endpoint, tokio::TokioEnv},
    error::OperationError,
    launch::{BuiltIn, Launcher},
    machine::Off,
    plan::{self, Plan},
    progress::Listener,
    race::{First, race},
    recover::{Recovered, Turn},
    report::{Anew, Consistency, Deed, Images, Left, LoadedFreeze, Report, Verdict},
    request::Request,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::{
    SnapshotError,
    known::Known,
    old_description,
    records::{self, MachineArgs},
};
use crate::cli::{
    CliError,
    fs::{ticket, watchdog::GuardArgs},
    interrupt::Interrupt,
    output,
    told::Told,
};

/// A machine, and how it is worked on.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct OperateArgs {
    #[command(flatten)]
    pub(in crate::cli) machine: MachineArgs,
    /// The socket of QEMU's monitor, one that nobody else uses: -qmp unix:SOCK,server=on,wait=off. Without it the machine is off
    #[arg(long, value_name = "SOCK")]
    qmp: Option<Utf8PathBuf>,
    /// The machine is off: its images are worked on, and FILE is written anew where they are others then. --qmp says where its
    /// monitor is to listen, should it be started
    #[arg(long)]
    off: bool,
    /// Write FILE anew if the disks of the machine, which runs, are in other images then
    #[arg(long)]
    write_domain: bool,
    /// The host's socket of the guest agent's port, one that nobody else uses [default: that of FILE's channel
    /// org.qemu.guest_agent.0]
    #[arg(long, value_name = "SOCK")]
    pub(super) agent: Option<Utf8PathBuf>,
    /// How long it may take; undoing comes on top
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..))]
    within: u32,
    /// Who starts and stops the machine, where that is needed: a program (see docs/launcher.md), or `built-in`
    #[arg(long, value_name = "PROGRAM")]
    launcher: Option<Utf8PathBuf>,
    /// Ask the machine, print what would be done, and do nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Whether the machine is forgotten when it stops.
    #[arg(skip)]
    pub(super) transient: bool,
    /// The file with its memory that a machine which is off goes on with, where that is not libvirt's.
    #[arg(skip)]
    pub(super) managed_save: Option<Utf8PathBuf>,
}

impl OperateArgs {
    /// A machine that is off unless its monitor is named.
    pub(in crate::cli) fn of(
        machine: MachineArgs,
        qmp: Option<Utf8PathBuf>,
        agent: Option<Utf8PathBuf>,
        within: u32,
    ) -> Self {
        Self {
            machine,
            qmp,
            off: false,
            write_domain: false,
            agent,
            within,
            launcher: None,
            dry_run: false,
            transient: false,
            managed_save: None,
        }
    }

    /// What can be said of a request before anything is opened.
    pub(super) fn check(&self, request: &Request) -> Result<(), CliError> {
        let checked = plan::check_alone(request, &self.known(self.machine.domain()?));
        Ok(checked.map_err(|refusal| SnapshotError::from(OperationError::from(refusal)))?)
    }

    /// The same of a machine that is forgotten when it stops, or is not.
    pub(super) fn with_transient(&self, transient: bool) -> Self {
        Self { transient, ..self.clone() }
    }

    /// The same of one that goes on with this file, if it is named.
    pub(super) fn with_managed_save(self, managed_save: Option<Utf8PathBuf>) -> Self {
        Self { managed_save, ..self }
    }

    /// The machine, as its description and the options have it.
    fn known(&self, domain: DomainXml) -> Domain {
        Domain { transient: self.transient, ..domain.into() }
    }

    fn one_that_is_off(
        &self,
        domain: DomainXml,
        monitor: Option<&Utf8PathBuf>,
        patience: Patience,
    ) -> Machine<TokioEnv> {
        let (monitor, managed_save) = (monitor.cloned(), self.managed_save.clone());
        let off = Off { domain, monitor, capabilities: None, tool: None, managed_save };
        Machine::off(TokioEnv::new(), off, patience)
    }

    /// Whether it is off, as far as the caller says.
    pub(super) fn is_off(&self) -> bool {
        self.off || self.qmp.is_none()
    }

    /// How long it may take.
    pub(super) fn within(&self) -> Duration {
        Duration::from_secs(self.within.into())
    }

    /// Carries a request out, or plans it only.
    pub(super) fn operate(&self, request: &Request) -> Result<Told, CliError> {
        self.operate_guarded(request, None)
    }

    /// The same; a guest that stands frozen for it should this process be killed is let go by somebody else.
    pub(super) fn operate_guarded(
        &self,
        request: &Request,
        guard: Option<&GuardArgs>,
    ) -> Result<Told, CliError> {
        let domain = self.machine.domain()?;
        let agent = self.agent.clone().or_else(|| domain.agent().map(ToOwned::to_owned));
        let interrupt = Interrupt::listen().map_err(CliError::Runtime)?;
        let runtime = records::runtime()?;
        let told = async {
            let request = &request.clone().frozen_by(ticket::frozen_by(agent.as_deref()).await);
            // Until here nothing is begun, so that a signal may end it.
            let machine = interrupt.or(self.machine(interrupt.env(), domain, Gone::Fails)).await??;
            self.see_to_pending(&machine, self.dry_run, &interrupt).await?;
            if self.dry_run {
                let plan = interrupt.or(machine.plan(request)).await?.map_err(SnapshotError::from)?;
                return Ok(planned(&plan));
            }
            let work = carry_out(&machine, machine.perform(request), &interrupt);
            let report = match (guard, &agent) {
                (Some(guard), Some(agent)) => guard.guard(agent, self.within, machine.guard(), work).await?,
                _ => work.await?,
            };
            let images = async || old_description::images_after(&machine, &report).await;
            let old = self.old_description(&machine, images).await;
            Ok(old_description::tell(done(&report), &self.machine.file(), &old))
        };
        LocalSet::new().block_on(&runtime, told)
    }

    /// What FILE would have to say of which disks, if it is not written and is not as the machine is. Where it is written, nobody is
    /// asked for the images.
    pub(super) async fn old_description(
        &self,
        machine: &Machine<TokioEnv>,
        images: impl AsyncFnOnce() -> Images,
    ) -> Images {
        if machine.is_off() || self.write_domain {
            return Images::new();
        }
        match self.machine.domain_by_now() {
            Ok(described) => old_description::differences(&described, images().await).await,
            Err(_) => Images::new(),
        }
    }

    /// Recovers from an operation whose driver was killed before another one changes the machine; who changes nothing is told of it.
    pub(in crate::cli) async fn see_to_pending(
        &self,
        machine: &Machine<TokioEnv>,
        changes_nothing: bool,
        interrupt: &Interrupt,
    ) -> Result<(), SnapshotError> {
        let pending = machine.pending().await?;
        if changes_nothing {
            records::tell_pending(pending.as_ref());
        } else if pending.is_some_and(|pending| !pending.is_told()) {
            self.recover_first(machine, interrupt).await?;
        }
        Ok(())
    }

    /// Puts right what an operation has left whose driver was killed. A guest that it has let go needs nobody who thaws it later.
    pub(super) async fn recover(
        &self,
        machine: &Machine<TokioEnv>,
    ) -> Result<Option<Recovered>, OperationError> {
        let described = || self.machine.domain().ok()?.agent().map(ToOwned::to_owned);
        let agent = self.agent.clone().or_else(described);
        let recovered = machine.recover(self.within());
        ticket::over_if_thawed(agent.as_deref(), machine.guard().watch_frozen(), recovered).await
    }

    /// Puts right what an operation has left whose driver was killed, and tells of it on standard error. What is left even then
    /// is in nobody's way, unless nobody knows how that operation came out.
    async fn recover_first(
        &self,
        machine: &Machine<TokioEnv>,
        interrupt: &Interrupt,
    ) -> Result<(), SnapshotError> {
        let Some(recovered) = carry_out(machine, self.recover(machine), interrupt).await? else {
            return Ok(());
        };
        if recovered.turn == Turn::Unknown {
            return Err(OperationError::Pending(Box::new(recovered)).into());
        }
        output::complain(&recovered.to_string());
        Ok(())
    }

    /// Does something with the machine as it is found, one that is gone as one that is off. A signal lets it come to its end.
    pub(super) fn with_what_is_there<T>(
        &self,
        act: impl AsyncFnOnce(&Machine<TokioEnv>) -> Result<T, OperationError>,
    ) -> Result<T, CliError> {
        let domain = self.machine.domain()?;
        let interrupt = Interrupt::listen().map_err(CliError::Runtime)?;
        let runtime = records::runtime()?;
        let done = async {
            let machine = interrupt.or(self.machine(interrupt.env(), domain, Gone::IsOff)).await??;
            Ok(carry_out(&machine, act(&machine), &interrupt).await?)
        };
        LocalSet::new().block_on(&runtime, done)
    }

    /// The machine, with its records locked for as long as it is held; a dry run only looks at them.
    pub(in crate::cli) async fn machine(
        &self,
        env: TokioEnv,
        domain: DomainXml,
        gone: Gone,
    ) -> Result<Machine<TokioEnv>, SnapshotError> {
        let patience = Patience::default();
        let patience = Patience { connect: patience.connect.min(self.within()), ..patience };
        let agent = self.agent.clone().or_else(|| domain.agent().map(ToOwned::to_owned));
        let (store, passed) = records::open(self.machine.state(), &domain.name(), self.dry_run).await?;
        records::warn(&passed);
        let machine = match &self.qmp {
            Some(socket) if !self.is_off() => {
                let monitor = Endpoint::Unix(socket.clone());
                let known = Known::of(store.folder(), &domain);
                let connected = Machine::connect_to_one(
                    env.clone(),
                    monitor,
                    self.known(domain.clone()),
                    |who| known.read(who),
                    patience,
                );
                match connected.await {
                    Err(OperationError::Unreachable(error)) if gone == Gone::IsOff && error.is_gone() => {
                        self.one_that_is_off(domain, Some(socket), patience)
                    }
                    connected => {
                        let machine = connected?;
                        machine.check_identity().await?;
                        let client = machine.client();
                        if !self.dry_run && known.read(client.greeting()).is_none() {
                            known.keep(&TokioEnv::new(), client.greeting(), machine.capabilities()).await;
                        }
                        machine
                    }
                }
            }
            monitor => self.one_that_is_off(domain, monitor.as_ref(), patience),
        };
        let machine = match machine.is_off() || self.write_domain {
            true => machine.with_document(self.machine.file()),
            false => machine,
        };
        let machine = machine.with_records(store);
        let machine = match agent {
            Some(socket) => machine.with_agent(Endpoint::Unix(socket)),
            None => machine,
        };
        Ok(match &self.launcher {
            None => machine,
            Some(built_in) if built_in == "built-in" => {
                machine.with_launcher(Launcher::BuiltIn(BuiltIn::default()))
            }
            Some(program) => machine.with_launcher(Launcher::Program(program.clone())),
        })
    }
}

/// What it means that no process listens at a monitor's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Gone {
    /// That the machine cannot be worked on.
    Fails,
    /// That it is off.
    IsOff,
}

async fn carry_out<T>(
    machine: &Machine<TokioEnv>,
    work: impl Future<Output = Result<T, OperationError>>,
    interrupt: &Interrupt,
) -> Result<T, SnapshotError> {
    let shown = async {
        match race(show(machine.progress()), work).await {
            First::Left(never) => match never {},
            First::Right(done) => done,
        }
    };
    Ok(interrupt.to_the_end(shown).await?)
}

/// Shows on a terminal how far the step that is under way is.
async fn show(mut progress: Listener) -> std::convert::Infallible {
    if io::stderr().is_terminal() {
        let bar = Bar::new();
        while progress.changed().await.is_ok() {
            if let Some(progress) = progress.borrow_and_update().clone() {
                bar.0.set_length(progress.total);
                bar.0.set_position(progress.done);
                bar.0.set_message(progress.lane);
            }
        }
    }
    std::future::pending().await
}

/// A bar that leaves no trace.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg} {bar:40} {binary_bytes}/{binary_total_bytes}");
        Self(ProgressBar::new(0).with_style(style.expect("a sound template")))
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn planned(plan: &Plan) -> Told {
    let object = json!({ "dry-run": true, "summary": plan.title, "plan": without_documents(json!(plan)) });
    Told::new(plan.to_string(), object)
}

/// Records are named by their files alone: their documents hold the machine's passwords, and plans end up in logs.
fn without_documents(mut plan: Value) -> Value {
    let mut open = vec![&mut plan];
    while let Some(value) = open.pop() {
        match value {
            Value::Array(values) => open.extend(values),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::Array(writes) if name == "writes" => {
                            writes.iter_mut().for_each(|write| *write = write[0].take());
                        }
                        // The description of a machine, and what it was before.
                        value if matches!(name.as_str(), "document" | "domain" | "before") => {
                            *value = Value::Null;
                        }
                        value => open.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    plan
}

fn done(report: &Report) -> Told {
    let mut object = json!({
        "snapshot": report.name,
        "disks": report.disks,
        "summary": report.to_string(),
        "guest-stopped-seconds": report.stopped_for.map(|stopped| stopped.as_secs_f64()),
    });
    let more = match &report.deed {
        Deed::Taken { consistency, quiesced, left } => vec![
            ("done", json!("taken")),
            ("consistency", consistency_name(*consistency)),
            ("quiesced", verdict_value(quiesced.verdict)),
            ("quiesced-why", json!(quiesced.why)),
            ("guest-frozen-seconds", json!(quiesced.frozen_for.map(|frozen| frozen.as_secs_f64()))),
            ("machine", machine_name(left)),
            ("take-yourself", json!(left.take_yourself())),
            ("not-in-background", json!(report.not_in_background)),
            ("open", json!(report.open)),
        ],
        Deed::Reverted(anew) => vec![
            ("done", json!("reverted")),
            ("machine", anew_name(*anew)),
            ("was-frozen", was_frozen(report.loaded_freeze.as_ref())),
        ],
        Deed::Deleted(_) => vec![("done", json!("deleted"))],
    };
    for (name, value) in more {
        object[name] = value;
    }
    if !report.kept.is_empty() {
        object["kept"] = report.kept.iter().map(|kept| json!(kept.file)).collect();
    }
    if report.tpm_left_out {
        object["tpm-left-out"] = json!(true);
    }
    Told::new(format!("{report}\n"), object)
}

fn consistency_name(consistency: Consistency) -> Value {
    json!(match consistency {
        Consistency::Memory => "memory",
        Consistency::FileSystem => "file-system",
        Consistency::Crash => "crash",
        Consistency::Off => "off",
    })
}

/// What nobody knows is null.
fn verdict_value(verdict: Verdict) -> Value {
    match verdict {
        Verdict::Yes => json!(true),
        Verdict::No => json!(false),
        Verdict::Unknown => Value::Null,
    }
}

fn anew_name(anew: Anew) -> Value {
    json!(match anew {
        Anew::No => "in-its-process",
        Anew::Running => "started-and-runs",
        Anew::Paused => "started-and-paused",
        Anew::Off => "off",
    })
}

/// Whether the guest had been frozen when the snapshot was taken: what nobody knows is null.
fn was_frozen(loaded: Option<&LoadedFreeze>) -> Value {
    match loaded {
        Some(LoadedFreeze::None) => json!(false),
        Some(LoadedFreeze::Thawed) => json!(true),
        None | Some(LoadedFreeze::Unknown(_)) => Value::Null,
    }
}

fn machine_name(left: &Left) -> Value {
    json!(match left {
        Left::AsItWas => "as-it-was",
        Left::PausedFor(_) => "paused",
        Left::Off | Left::OffFor(_) => "off",
    })
}
