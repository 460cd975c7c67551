//! A running machine, and an operation on it: planned, carried out, watched.
//!
//! The machine's QEMU may be anybody's: all that is needed is its monitor's socket and the machine's description. A signal does not
//! tear an operation apart: it is brought to its end, and only a second signal leaves it where it stands.

use std::{
    io::{self, IsTerminal as _},
    pin::pin,
    time::Duration,
};

use camino::Utf8PathBuf;
use clap::Args;
use freezeframe_driver::{
    Machine, Patience,
    domain_xml::DomainXml,
    env::{Endpoint, tokio::TokioEnv},
    error::OperationError,
    launch::{BuiltIn, Launcher},
    plan::{self, Plan},
    progress::Listener,
    race::{First, race},
    report::{Anew, Consistency, Deed, Left, Report},
    request::Request,
    store::Store,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::{
    SnapshotError,
    records::{self, MachineArgs},
};
use crate::cli::{CliError, interrupt::Interrupt, output, told::Told};

/// A machine that runs, and how it is worked on.
#[derive(Debug, Args)]
pub(super) struct OperateArgs {
    #[command(flatten)]
    pub(super) machine: MachineArgs,
    /// The socket of QEMU's monitor, one that nobody else uses: -qmp unix:SOCK,server=on,wait=off
    #[arg(long, value_name = "SOCK")]
    qmp: Option<Utf8PathBuf>,
    /// The socket of the guest agent's port; nobody speaks to it yet, and --quiesce is refused
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
    pub(super) dry_run: bool,
}

impl OperateArgs {
    /// How long it may take.
    pub(super) fn within(&self) -> Duration {
        Duration::from_secs(self.within.into())
    }

    /// Carries a request out, or plans it only.
    pub(super) fn operate(&self, request: &Request) -> Result<Told, CliError> {
        let Some(socket) = &self.qmp else {
            let why = "`--qmp SOCK` is needed: this is done on a running machine, through its monitor";
            return Err(CliError::Usage(why.into()));
        };
        let domain = self.machine.domain()?;
        let interrupt = Interrupt::listen().map_err(CliError::Runtime)?;
        let runtime = records::runtime()?;
        let told = async {
            // Until here nothing is begun, so that a signal may end it.
            let machine = interrupt.or(self.connect(domain, Endpoint::Unix(socket.clone()))).await??;
            if self.dry_run {
                let plan = interrupt.or(machine.plan(request)).await?.map_err(SnapshotError::from)?;
                return Ok(planned(&plan));
            }
            Ok(done(&carry_out(&machine, request, &interrupt).await.map_err(SnapshotError::from)?))
        };
        LocalSet::new().block_on(&runtime, told)
    }

    /// The machine, with its records locked for as long as it is held.
    async fn connect(
        &self,
        domain: DomainXml,
        monitor: Endpoint,
    ) -> Result<Machine<TokioEnv>, SnapshotError> {
        let env = TokioEnv::new();
        let patience = Patience::default();
        let patience = Patience { connect: patience.connect.min(self.within()), ..patience };
        let (store, passed) = Store::open(env.clone(), self.machine.state(), &domain.name()).await?;
        records::warn(&passed);
        let machine = Machine::connect(env, monitor, domain.into(), None, patience).await?;
        let machine = machine.with_records(store);
        Ok(match &self.launcher {
            None => machine,
            Some(built_in) if built_in == "built-in" => {
                machine.with_launcher(Launcher::BuiltIn(BuiltIn::default()))
            }
            Some(program) => machine.with_launcher(Launcher::Program(program.clone())),
        })
    }
}

/// What can be said of a request before anything is opened.
pub(super) fn check(request: &Request, domain: &DomainXml) -> Result<(), SnapshotError> {
    let checked = plan::check_alone(request, &domain.clone().into());
    checked.map_err(|refusal| OperationError::from(refusal).into())
}

async fn carry_out(
    machine: &Machine<TokioEnv>,
    request: &Request,
    interrupt: &Interrupt,
) -> Result<Report, OperationError> {
    let shown = async {
        match race(show(machine.progress()), machine.perform(request)).await {
            First::Left(never) => match never {},
            First::Right(done) => done,
        }
    };
    let mut shown = pin!(shown);
    match interrupt.or(shown.as_mut()).await {
        Ok(done) => done,
        Err(_) => {
            output::complain("this is brought to its end first; a second signal leaves it where it stands");
            shown.await
        }
    }
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
        Deed::Taken { consistency, left, .. } => vec![
            ("done", json!("taken")),
            ("consistency", consistency_name(*consistency)),
            ("quiesced", json!(false)),
            ("machine", machine_name(left)),
            ("take-yourself", json!(if let Left::PausedFor(disks) = left { disks.as_slice() } else { &[] })),
        ],
        Deed::Reverted(anew) => vec![("done", json!("reverted")), ("machine", anew_name(*anew))],
        Deed::Deleted(_) => vec![("done", json!("deleted"))],
    };
    for (name, value) in more {
        object[name] = value;
    }
    Told::new(format!("{report}\n"), object)
}

fn consistency_name(consistency: Consistency) -> Value {
    json!(match consistency {
        Consistency::Memory => "memory",
        Consistency::Crash => "crash",
    })
}

fn anew_name(anew: Anew) -> Value {
    json!(match anew {
        Anew::No => "in-its-process",
        Anew::Running => "started-and-runs",
        Anew::Paused => "started-and-paused",
        Anew::Off => "off",
    })
}

fn machine_name(left: &Left) -> Value {
    json!(match left {
        Left::AsItWas => "as-it-was",
        Left::PausedFor(_) => "paused",
        Left::Off => "off",
    })
}
