//! `freezeframe disk`: snapshots of disks by the storage below them, where no QEMU is asked for anything; or by QEMU.

mod export;
mod tethered;
mod which;

use std::{process::ExitCode, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use freezeframe_driver::{
    agent::Guard,
    disk::{Ask, By, DiskError, QemuDisks, Taken, Taker},
    env::Endpoint,
    name::SnapshotName,
    plan::Plan,
    request::Quiesce,
    storage::Snapshot,
    xml::Element,
};
use serde_json::json;
use tokio::{
    runtime::{Builder, Runtime},
    task::LocalSet,
};

use self::{
    export::ExportArgs,
    tethered::TetheredArgs,
    which::{NamedArgs, WhichArgs},
};
use super::{
    CliError,
    fs::{ticket, watchdog::GuardArgs},
    interrupt::Interrupt,
    snapshot::{self, create::QuiesceHow, operate::Gone},
    told::{Told, tell},
};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Who takes the snapshots stands in each disk of the machine's document, <diskSnapshot method='btrfs'/>, or is said here; docs/storage.md
describes the methods. With the method qemu, which needs --state and, of a machine that runs, --qmp, the disks go on in overlays,
and the modified <disk> is printed too: it goes into the machine's document; or, with --internal or <diskSnapshot method='qemu'
snapshot='internal'/>, they stay in their images, which hold the snapshot. What is caught is what the guest has written out, as after a power cut.

Exit codes: 0 done; 1 failed, and the message says how things stand; 2 wrong use.
JSON: snapshot {method, volume, disks: {target: <disk> of the backup, or null}, modified: {target: <disk>},
quiesced: yes|no|unknown, quiesced-why, guest-frozen-seconds: null if it was not, or nobody knows}; list {snapshots: [{name, fit, of: the volume, if it is not the disk's by now}]};
delete, merge, revert {done: name}; with --dry-run {dry-run, summary, plan}; what failed {error: {code, message, outcome, remains}, exit-code} as
`freezeframe snapshot --help` says.")]
pub(super) struct DiskArgs {
    #[command(subcommand)]
    verb: Verb,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

/// How long a command of the storage may take where nothing is said, in seconds.
const WITHIN: u32 = 60;

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(flatten)]
    Operation(Operation),
    /// Serve what a snapshot holds as NBD, read-only, for a backup program
    Export(ExportArgs),
    /// Become a program that ends with the command that has started it; started by export
    #[command(hide = true)]
    Tethered(TetheredArgs),
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Take a snapshot of disks at one point in time
    Snapshot(SnapshotArgs),
    /// The snapshots that there are
    List(WhichArgs),
    /// Delete a snapshot; the disks stay as they are
    Delete(DoneArgs),
    /// Let go of a snapshot and keep what was written since
    Merge(DoneArgs),
    /// Let the disks of a machine that is off be what a snapshot holds
    Revert(DoneArgs),
}

#[derive(Debug, Args)]
struct SnapshotArgs {
    #[command(flatten)]
    done: DoneArgs,
    /// Freeze the guest's file systems for the moment of it, with --agent: required, or there is no snapshot; best-effort, or it is
    /// taken all the same, and told so
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "required",
        requires = "agent")]
    quiesce: Option<QuiesceHow>,
    /// The guest's file systems are frozen already, by you: they are neither frozen nor thawed
    #[arg(long, conflicts_with = "quiesce")]
    already_frozen: bool,
    /// qemu: inside the disks' qcow2 images, where they stay, and not below overlays
    #[arg(long)]
    internal: bool,
    /// The host's socket of the agent's port, one that nobody else uses
    #[arg(long, value_name = "SOCK")]
    agent: Option<Utf8PathBuf>,
    #[command(flatten)]
    guard: GuardArgs,
}

impl SnapshotArgs {
    fn quiesce(&self) -> Quiesce {
        match (self.already_frozen, self.quiesce) {
            (true, _) => Quiesce::AlreadyFrozen,
            (false, None) => Quiesce::Off,
            (false, Some(how)) => how.into(),
        }
    }
}

#[derive(Debug, Args)]
struct DoneArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Ask the storage, print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How long a command of the storage may take, and with it a guest that is frozen for it stand still
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..))]
    within: u32,
}

/// Does something with snapshots of disks.
///
/// # Errors
/// [`CliError`].
pub(super) fn disk(arguments: &DiskArgs) -> Result<ExitCode, CliError> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    match &arguments.verb {
        Verb::Operation(operation) => tell(carry_out(operation, &runtime), arguments.json),
        Verb::Export(export) => serve(export, &runtime, arguments.json),
        Verb::Tethered(tethered) => Ok(tethered::become_it(tethered)),
    }
}

/// Exports, and says so while it does.
fn serve(arguments: &ExportArgs, runtime: &Runtime, json: bool) -> Result<ExitCode, CliError> {
    let interrupt = Interrupt::listen().map_err(CliError::Runtime)?;
    let served = LocalSet::new().block_on(runtime, export::export(arguments, &interrupt, json));
    match served {
        Ok(_) => Ok(ExitCode::SUCCESS),
        failed => tell(failed, json),
    }
}

fn carry_out(operation: &Operation, runtime: &Runtime) -> Result<Told, CliError> {
    let wanted = Wanted::of(operation)?;
    let interrupt = Interrupt::listen().map_err(CliError::Runtime)?;
    let told = async {
        match wanted.which.by()? {
            By::Qemu => by_qemu(&wanted, &interrupt).await,
            By::Storage(_) => by_storage(&wanted, &interrupt).await,
        }
    };
    LocalSet::new().block_on(runtime, told)
}

/// What an operation wants.
struct Wanted<'a> {
    which: &'a WhichArgs,
    /// Nothing to list.
    ask: Option<Ask>,
    dry_run: bool,
    agent: Option<&'a Utf8Path>,
    /// By QEMU, inside the images.
    inside: bool,
    guard: Option<&'a GuardArgs>,
    /// How long a command may take, in seconds.
    within: u32,
}

impl<'a> Wanted<'a> {
    fn of(operation: &'a Operation) -> Result<Self, CliError> {
        let name = |done: &DoneArgs| SnapshotName::new(&*done.named.name).map_err(DiskError::from);
        let (done, ask) = match operation {
            Operation::List(which) => return Ok(Self::to_list(which)),
            Operation::Snapshot(asked) => {
                let ask = Ask::Snapshot { name: name(&asked.done)?, quiesce: asked.quiesce() };
                (&asked.done, ask)
            }
            Operation::Delete(done) => (done, Ask::Delete(name(done)?)),
            Operation::Merge(done) => (done, Ask::Merge(name(done)?)),
            Operation::Revert(done) => (done, Ask::Revert(name(done)?)),
        };
        let DoneArgs { named, dry_run, within } = done;
        let wanted =
            Self { ask: Some(ask), dry_run: *dry_run, within: *within, ..Self::to_list(&named.which) };
        Ok(match operation {
            Operation::Snapshot(SnapshotArgs { agent, internal, guard, .. }) => {
                let (agent, guard) = (agent.as_deref(), Some(guard));
                Self { agent, guard, inside: *internal, ..wanted }
            }
            _ => wanted,
        })
    }

    fn to_list(which: &'a WhichArgs) -> Self {
        Self { which, ask: None, dry_run: false, agent: None, guard: None, inside: false, within: WITHIN }
    }

    /// Takes a snapshot. A guest that stands frozen for it should this command be killed is let go by somebody else.
    async fn guard(
        &self,
        freeze: Guard,
        taken: impl Future<Output = Result<Taken, DiskError>>,
    ) -> Result<Taken, CliError> {
        match (self.guard, self.agent) {
            (Some(guard), Some(agent)) => Ok(guard.guard(agent, self.within, freeze, taken).await?),
            _ => Ok(taken.await?),
        }
    }
}

async fn by_storage(wanted: &Wanted<'_>, interrupt: &Interrupt) -> Result<Told, CliError> {
    if wanted.inside {
        let why = "--internal is a snapshot inside an image, by the method qemu: a storage takes its own";
        return Err(CliError::Usage(why.to_owned()));
    }
    wanted.which.check_no_qemu()?;
    let disks = wanted.which.storage(interrupt.env())?.within(Duration::from_secs(wanted.within.into()));
    let disks = disks.frozen_by(ticket::frozen_by(wanted.agent).await);
    let disks = match wanted.agent {
        Some(socket) => disks.with_agent(Endpoint::Unix(socket.to_owned())),
        None => disks,
    };
    act(wanted, &disks, interrupt).await
}

async fn by_qemu(wanted: &Wanted<'_>, interrupt: &Interrupt) -> Result<Told, CliError> {
    let operate = wanted.which.machine(wanted.agent, wanted.within)?;
    let machine =
        interrupt.or(operate.machine(interrupt.env(), operate.machine.domain()?, Gone::Fails)).await??;
    operate.see_to_pending(&machine, wanted.ask.is_none() || wanted.dry_run, interrupt).await?;
    let inside = wanted.inside || wanted.which.inside()?;
    let disks = QemuDisks::of(&machine, &wanted.which.disks)?.inside(inside);
    let disks = disks.frozen_by(ticket::frozen_by(wanted.agent).await);
    act(wanted, &disks.within(Duration::from_secs(wanted.within.into())), interrupt).await
}

/// Lets whoever takes the disks' snapshots do what is wanted. What has begun to change anything is brought to its end.
async fn act(wanted: &Wanted<'_>, disks: &impl Taker, interrupt: &Interrupt) -> Result<Told, CliError> {
    let Some(ask) = &wanted.ask else { return Ok(listed(&interrupt.or(disks.list()).await??)) };
    if wanted.dry_run {
        return Ok(planned(&interrupt.or(disks.plan(ask)).await??));
    }
    let Ask::Snapshot { name, quiesce } = ask else {
        interrupt.to_the_end(disks.perform(ask)).await?;
        return Ok(done(ask));
    };
    let taken = interrupt.to_the_end(disks.snapshot(name, *quiesce));
    Ok(took(name, &wanted.guard(disks.guard(), taken).await?))
}

fn done(ask: &Ask) -> Told {
    let (word, name) = match ask {
        Ask::Snapshot { name, .. } => ("took", name),
        Ask::Delete(name) => ("deleted", name),
        Ask::Merge(name) => ("merged", name),
        Ask::Revert(name) => ("reverted to", name),
    };
    Told::new(format!("{word} {name}\n"), json!({ "done": name.as_str() }))
}

fn planned(plan: &Plan) -> Told {
    Told::new(plan.to_string(), json!({ "dry-run": true, "summary": plan.title, "plan": plan }))
}

fn took(name: &SnapshotName, taken: &Taken) -> Told {
    let Taken { method, volume, backups, modified, quiesced } = taken;
    let hint = match method {
        By::Qemu => "; while the machine is off, `freezeframe disk export` serves it",
        By::Storage(_) => "",
    };
    let backup = |(target, backup): &(String, Result<Element, String>)| match backup {
        Ok(backup) => backup.document(),
        Err(why) => format!("no backup reads {target}: {why}{hint}\n"),
    };
    let mut text = format!("snapshot {name} of {volume} taken by {}; quiesced: {quiesced}\n", method.name());
    for (target, disk) in modified {
        text += &format!("{target} is in an overlay now:\n{}", disk.document());
        text += &format!("{target} is read by a backup from:\n");
        text.extend(backups.iter().filter(|(known, _)| known == target).map(backup));
    }
    if modified.is_empty() {
        text.extend(backups.iter().map(backup));
    }
    let disks: serde_json::Map<_, _> = backups
        .iter()
        .map(|(target, backup)| (target.clone(), json!(backup.as_ref().ok().map(Element::document))))
        .collect();
    let modified: serde_json::Map<_, _> =
        modified.iter().map(|(target, disk)| (target.clone(), json!(disk.document()))).collect();
    Told::new(
        text,
        json!({ "method": method.name(), "volume": volume, "disks": disks, "modified": modified,
            "quiesced": quiesced.verdict.name(), "quiesced-why": quiesced.why,
            "guest-frozen-seconds": quiesced.frozen_for.map(|frozen| frozen.as_secs_f64()) }),
    )
}

fn listed(found: &[Snapshot]) -> Told {
    let line = |snapshot: &Snapshot| {
        let lost = if snapshot.fit { "" } else { "   holds nothing any more" };
        let of = snapshot.of.as_ref().map(|of| format!("   of {of}, which an overlay stands on by now"));
        format!("{}{}{lost}\n", snapshot.name, of.unwrap_or_default())
    };
    Told::new(found.iter().map(line).collect::<String>(), json!({ "snapshots": found }))
}

/// How things stand after an error, in the words of `freezeframe snapshot`, and what is left to be done by hand.
pub(super) fn outcome(error: &DiskError) -> (&'static str, &[String]) {
    match error {
        DiskError::Operation(error) => (snapshot::outcome(error), snapshot::remains(error)),
        _ => ("not-begun", &[]),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_schema_of_storage_programs_is_the_one_that_the_types_make() {
        assert!(
            include_str!("../../../docs/storage-exec.schema.json")
                == freezeframe_driver::storage::exec::json_schema(),
            "it is stale: run `freezeframe schema storage-exec > docs/storage-exec.schema.json`"
        );
    }
}
