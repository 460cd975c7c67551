//! The steps that plans are made of, one file a kind.
//!
//! A step is plain data and knows how to **act**, how to **undo** itself and how to **probe** whether it has
//! happened. It does not know the steps beside it, and it decides nothing: order, timeouts, undo and recovery
//! are the executor's ([`crate::execute`]).

mod apply_snapshot;
mod begin_save_image;
mod commit_image;
mod create_overlay;
mod delete_snapshot;
mod end_commit;
mod load_memory;
mod load_snapshot;
mod pause;
mod prepare_overlay;
mod quit;
mod record_deletion;
mod remove_file;
mod remove_image;
mod reserve_file;
mod resume;
mod save_memory;
mod save_snapshot;
mod seal_save_image;
mod set_migration;
mod start_machine;
mod stop_machine;
mod switch_overlays;
mod write_records;

use std::{fmt, io};

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

pub(crate) use self::load_memory::read_save_image;
pub use self::{
    apply_snapshot::ApplySnapshot,
    begin_save_image::BeginSaveImage,
    commit_image::CommitImage,
    create_overlay::CreateOverlay,
    delete_snapshot::DeleteSnapshot,
    end_commit::EndCommit,
    load_memory::LoadMemory,
    load_snapshot::LoadSnapshot,
    pause::Pause,
    prepare_overlay::PrepareOverlay,
    quit::Quit,
    record_deletion::RecordDeletion,
    remove_file::RemoveFile,
    remove_image::RemoveImage,
    reserve_file::ReserveFile,
    resume::Resume,
    save_memory::{Meanwhile, SaveMemory},
    save_snapshot::SaveSnapshot,
    seal_save_image::SealSaveImage,
    set_migration::SetMigration,
    start_machine::StartMachine,
    stop_machine::StopMachine,
    switch_overlays::{CarriedBitmap, Switch, SwitchOverlays},
    write_records::WriteRecords,
};
use crate::{
    client::CommandError, commands::QueryNamedBlockNodes, env::Env, error::StepError,
    launch::arguments::Power, live::Live,
};

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// See [`SaveSnapshot`].
    SaveSnapshot(SaveSnapshot),
    /// See [`LoadSnapshot`].
    LoadSnapshot(LoadSnapshot),
    /// See [`DeleteSnapshot`].
    DeleteSnapshot(DeleteSnapshot),
    /// See [`ReserveFile`].
    ReserveFile(ReserveFile),
    /// See [`PrepareOverlay`].
    PrepareOverlay(PrepareOverlay),
    /// See [`SwitchOverlays`].
    SwitchOverlays(SwitchOverlays),
    /// See [`SetMigration`].
    SetMigration(SetMigration),
    /// See [`Pause`].
    Pause(Pause),
    /// See [`Resume`].
    Resume(Resume),
    /// See [`BeginSaveImage`].
    BeginSaveImage(BeginSaveImage),
    /// See [`SaveMemory`].
    SaveMemory(SaveMemory),
    /// See [`SealSaveImage`].
    SealSaveImage(SealSaveImage),
    /// See [`LoadMemory`].
    LoadMemory(LoadMemory),
    /// See [`Quit`].
    Quit(Quit),
    /// See [`WriteRecords`].
    WriteRecords(WriteRecords),
    /// See [`CommitImage`].
    CommitImage(CommitImage),
    /// See [`EndCommit`].
    EndCommit(EndCommit),
    /// See [`RecordDeletion`].
    RecordDeletion(RecordDeletion),
    /// See [`RemoveImage`].
    RemoveImage(RemoveImage),
    /// See [`CreateOverlay`].
    CreateOverlay(CreateOverlay),
    /// See [`ApplySnapshot`].
    ApplySnapshot(ApplySnapshot),
    /// See [`StopMachine`].
    StopMachine(StopMachine),
    /// See [`StartMachine`].
    StartMachine(StartMachine),
    /// See [`RemoveFile`].
    RemoveFile(RemoveFile),
}

/// Whether a step in doubt has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// It has, as a whole.
    Yes,
    /// It has not, or only in part.
    No,
    /// Nothing tells.
    Unknown,
}

/// How far a step had got that is to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It had succeeded.
    Whole,
    /// It had failed, and may have done a part.
    Part,
    /// One of its commands was refused: that one did nothing.
    Refused,
}

/// What a step could not put back, and what to do about it: `overlay node ff-x-0 is still open: blockdev-del it`.
pub type Remains = String;

impl Step {
    /// The word that its commands carry in their ids.
    pub fn lane(&self) -> String {
        match self {
            Step::SaveSnapshot(_) => "save".into(),
            Step::LoadSnapshot(_) => "load".into(),
            Step::DeleteSnapshot(_) => "delete".into(),
            Step::ReserveFile(step) => format!("reserve-{}", step.path.file_name().unwrap_or_default()),
            Step::PrepareOverlay(step) => format!("overlay-{}", step.target),
            Step::SwitchOverlays(_) => "switch".into(),
            Step::SetMigration(_) => "settings".into(),
            Step::Pause(_) => "pause".into(),
            Step::Resume(_) => "resume".into(),
            Step::BeginSaveImage(_) => "begin".into(),
            Step::SaveMemory(_) => "memory".into(),
            Step::SealSaveImage(_) => "seal".into(),
            Step::LoadMemory(_) => "load-memory".into(),
            Step::Quit(_) => "quit".into(),
            Step::WriteRecords(_) => "record".into(),
            Step::CommitImage(step) => format!("commit-{}", step.target),
            Step::EndCommit(step) => format!("pivot-{}", step.target),
            Step::RecordDeletion(_) => "record".into(),
            Step::RemoveImage(step) => format!("remove-{}", file_name(&step.file)),
            Step::CreateOverlay(step) => format!("image-{}", step.target),
            Step::ApplySnapshot(step) => format!("apply-{}", step.target),
            Step::StopMachine(_) => "stop".into(),
            Step::StartMachine(_) => "start".into(),
            Step::RemoveFile(step) => format!("remove-{}", file_name(&step.path)),
        }
    }

    /// How it is undone, in words; none if it cannot be.
    pub fn undo_title(&self) -> Option<&'static str> {
        match self {
            Step::SaveSnapshot(_) => Some("delete the snapshot"),
            Step::ReserveFile(_) => Some("unlink"),
            Step::PrepareOverlay(_) => Some("drop nodes"),
            Step::SetMigration(_) => Some("set back"),
            Step::Pause(_) => Some("let it go on"),
            Step::BeginSaveImage(_) => Some("empty it"),
            Step::SaveMemory(_) => Some("cancel"),
            Step::WriteRecords(_) => Some("write back"),
            Step::CommitImage(_) => Some("end the job"),
            Step::StartMachine(_) => Some("end it"),
            Step::LoadSnapshot(_)
            | Step::DeleteSnapshot(_)
            | Step::SwitchOverlays(_)
            | Step::Resume(_)
            | Step::Quit(_)
            | Step::SealSaveImage(_)
            | Step::LoadMemory(_)
            | Step::EndCommit(_)
            | Step::RecordDeletion(_)
            | Step::RemoveImage(_)
            | Step::CreateOverlay(_)
            | Step::ApplySnapshot(_)
            | Step::StopMachine(_)
            | Step::RemoveFile(_) => None,
        }
    }

    /// Whether the guest stands still for it.
    pub(crate) fn stops_the_guest(&self) -> bool {
        matches!(
            self,
            Step::SaveSnapshot(_)
                | Step::LoadSnapshot(_)
                | Step::DeleteSnapshot(_)
                | Step::Pause(_)
                // Live too: QEMU stops the guest for the last of its memory.
                | Step::SaveMemory(_)
        )
    }

    /// Whether it puts a new process in the machine's place.
    pub(crate) fn starts_a_machine(&self) -> bool {
        matches!(self, Step::StartMachine(_))
    }

    /// Whether it saves the machine's memory.
    pub(crate) fn saves_memory(&self) -> bool {
        matches!(self, Step::SaveSnapshot(_) | Step::SaveMemory(_))
    }

    /// Whether all that it does is inside the QEMU process: gone when QEMU is gone.
    pub(crate) fn only_in_qemu(&self) -> bool {
        matches!(
            self,
            Step::PrepareOverlay(_)
                | Step::SetMigration(_)
                | Step::Pause(_)
                | Step::Resume(_)
                | Step::Quit(_)
                | Step::SaveMemory(_)
                | Step::LoadMemory(_)
                | Step::CommitImage(_)
                | Step::EndCommit(_)
        )
    }

    /// Does it.
    pub(crate) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        match self {
            Step::SaveSnapshot(step) => step.act(live).await,
            Step::LoadSnapshot(step) => step.act(live).await,
            Step::DeleteSnapshot(step) => step.act(live).await,
            Step::ReserveFile(step) => step.act(live.env()).await,
            Step::PrepareOverlay(step) => step.act(live).await,
            Step::SwitchOverlays(step) => step.act(live).await,
            Step::SetMigration(step) => step.act(live).await,
            Step::Pause(step) => step.act(live).await,
            Step::Resume(step) => step.act(live).await,
            Step::BeginSaveImage(step) => step.act(live.env()).await,
            Step::SaveMemory(step) => step.act(live).await,
            Step::SealSaveImage(step) => step.act(live.env()).await,
            Step::LoadMemory(step) => step.act(live).await,
            Step::Quit(step) => step.act(live).await,
            Step::WriteRecords(step) => step.act(live.env()).await,
            Step::CommitImage(step) => step.act(live).await,
            Step::EndCommit(step) => step.act(live).await,
            Step::RecordDeletion(step) => step.act(live.env()).await,
            Step::RemoveImage(step) => step.act(live).await,
            Step::CreateOverlay(step) => step.act(live).await,
            Step::ApplySnapshot(step) => step.act(live).await,
            Step::StopMachine(step) => step.act(live).await,
            Step::StartMachine(step) => step.act(live).await,
            Step::RemoveFile(step) => step.act(live.env()).await,
        }
    }

    /// Finds out whether it has happened.
    pub(crate) async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
        match self {
            Step::SaveSnapshot(step) => step.probe(live).await,
            Step::LoadSnapshot(step) => step.probe(live).await,
            Step::DeleteSnapshot(step) => step.probe(live).await,
            // Files need no answer from QEMU: they are never in doubt.
            Step::ReserveFile(_)
            | Step::BeginSaveImage(_)
            | Step::WriteRecords(_)
            | Step::RecordDeletion(_)
            | Step::CreateOverlay(_)
            | Step::ApplySnapshot(_)
            | Step::RemoveFile(_) => Ok(Happened::No),
            Step::StopMachine(step) => step.probe(live).await,
            Step::StartMachine(step) => step.probe(live).await,
            Step::PrepareOverlay(step) => step.probe(live).await,
            Step::SwitchOverlays(step) => step.probe(live).await,
            Step::SetMigration(step) => step.probe(live).await,
            Step::Pause(step) => step.probe(live).await,
            Step::Resume(step) => step.probe(live).await,
            Step::SaveMemory(step) => step.probe(live).await,
            Step::SealSaveImage(step) => step.probe(live.env()).await,
            Step::LoadMemory(step) => step.probe(live).await,
            Step::Quit(step) => step.probe(live).await,
            Step::CommitImage(step) => step.probe(live).await,
            Step::EndCommit(step) => step.probe(live).await,
            Step::RemoveImage(step) => step.probe(live).await,
        }
    }

    /// Puts back what it did.
    ///
    /// `why` is what it failed of itself, if it did.
    pub(crate) async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        why: Option<&StepError>,
    ) -> Result<(), Remains> {
        match self {
            Step::SaveSnapshot(step) => step.undo(live, begun).await,
            Step::LoadSnapshot(step) => step.undo(live, begun, why).await,
            Step::DeleteSnapshot(step) => step.undo(live, begun).await,
            Step::ReserveFile(step) => step.undo(live.env(), begun).await,
            Step::PrepareOverlay(step) => step.undo(live).await,
            Step::SwitchOverlays(step) => step.undo(begun),
            Step::SetMigration(step) => step.undo(live, why).await,
            Step::Pause(step) => step.undo(live).await,
            Step::BeginSaveImage(step) => step.undo(live.env(), begun).await,
            Step::SaveMemory(step) => step.undo(live, begun, why).await,
            // What was merged stays so; a job that has not ended is ended by the step that began it.
            Step::Resume(_)
            | Step::SealSaveImage(_)
            | Step::LoadMemory(_)
            | Step::EndCommit(_)
            | Step::CreateOverlay(_)
            | Step::RemoveFile(_) => Ok(()),
            Step::ApplySnapshot(step) => step.undo(begun),
            Step::StopMachine(step) => step.undo(live, begun).await,
            Step::StartMachine(step) => step.undo(live).await,
            Step::Quit(_) | Step::RemoveImage(_) => Err(self.remains()),
            Step::WriteRecords(step) => step.undo(live.env(), begun).await,
            Step::CommitImage(step) => step.undo(live, begun).await,
            Step::RecordDeletion(step) => step.undo(begun),
        }
    }

    /// Puts back what can be put back without QEMU.
    pub(crate) async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
        match self {
            Step::ReserveFile(step) => step.undo(env, begun).await,
            Step::BeginSaveImage(step) => step.undo(env, begun).await,
            Step::SealSaveImage(_) | Step::CreateOverlay(_) | Step::RemoveFile(_) => Ok(()),
            Step::WriteRecords(step) => step.undo(env, begun).await,
            Step::RecordDeletion(step) => step.undo(begun),
            Step::ApplySnapshot(step) => step.undo(begun),
            Step::StopMachine(step) => step.undo_outside(begun),
            Step::StartMachine(step) => step.undo_outside(env).await,
            _ => Err(self.remains()),
        }
    }

    /// What may be left of it when nobody could look.
    pub(crate) fn remains(&self) -> Remains {
        match self {
            Step::SaveSnapshot(step) => step.remains(),
            Step::LoadSnapshot(step) => step.remains(),
            Step::DeleteSnapshot(step) => step.remains(),
            Step::ReserveFile(step) => step.remains(),
            Step::PrepareOverlay(step) => step.remains(),
            Step::SwitchOverlays(step) => step.remains(),
            Step::SetMigration(step) => step.remains(),
            Step::Pause(step) => step.remains(),
            Step::Resume(step) => step.remains(),
            Step::BeginSaveImage(step) => step.remains(),
            Step::SaveMemory(step) => step.remains(),
            Step::SealSaveImage(step) => step.remains(),
            Step::LoadMemory(step) => step.remains(),
            Step::Quit(step) => step.remains(),
            Step::WriteRecords(step) => step.remains(),
            Step::CommitImage(step) => step.remains(),
            Step::EndCommit(step) => step.remains(),
            Step::RecordDeletion(step) => step.remains(),
            Step::RemoveImage(step) => step.remains(),
            Step::CreateOverlay(step) => step.remains(),
            Step::ApplySnapshot(step) => step.remains(),
            Step::StopMachine(step) => step.remains(),
            Step::StartMachine(step) => step.remains(),
            Step::RemoveFile(step) => step.remains(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::SaveSnapshot(step) => write!(f, "save machine and disks as {}", step.tag),
            Step::LoadSnapshot(step) => write!(f, "put machine and disks back to {}", step.tag),
            Step::DeleteSnapshot(step) => write!(f, "delete {} from its disks", step.tag),
            Step::ReserveFile(step) => write!(f, "reserve {}", step.path.file_name().unwrap_or_default()),
            Step::PrepareOverlay(step) => {
                write!(f, "prepare overlay {} -> {}", step.target, step.file.file_name().unwrap_or_default())
            }
            Step::Quit(_) => f.write_str("end QEMU"),
            Step::WriteRecords(_) => f.write_str("write the records"),
            Step::CommitImage(step) => write!(f, "commit {}: {} -> {}", step.target, step.top, step.base),
            Step::EndCommit(step) => write!(f, "take {} out of {}", file_name(&step.file), step.target),
            Step::RecordDeletion(step) => match &step.done {
                None => write!(f, "record that {} is being deleted", step.snapshot),
                Some(disk) => write!(f, "record that {disk} is done"),
            },
            Step::RemoveImage(step) => write!(f, "remove {}", file_name(&step.file)),
            Step::SwitchOverlays(step) => match step.switches.as_slice() {
                [one] => write!(f, "switch disk {} in one transaction", one.target),
                all => write!(f, "switch {} disks in one transaction", all.len()),
            },
            Step::SetMigration(step) => {
                let on = step.new.capabilities.iter().filter(|status| status.state);
                let on: Vec<_> = on.map(|status| status.capability.as_str()).collect();
                write!(
                    f,
                    "set migration: {}",
                    if on.is_empty() { "nothing".to_owned() } else { on.join(" ") }
                )
            }
            Step::Pause(_) => f.write_str("pause the guest"),
            Step::Resume(_) => f.write_str("let the guest go on"),
            Step::BeginSaveImage(step) => write!(f, "begin save image {}", file_name(&step.path)),
            Step::SaveMemory(step) => {
                let how = match step.guest {
                    Meanwhile::Paused => "",
                    Meanwhile::Live => ", live",
                    Meanwhile::Background => ", in the background",
                };
                write!(f, "save memory to {}{how}", file_name(&step.path))
            }
            Step::SealSaveImage(step) => write!(f, "seal save image {}", file_name(&step.path)),
            Step::LoadMemory(step) => write!(f, "load memory from {}", file_name(&step.path)),
            Step::CreateOverlay(step) => {
                write!(
                    f,
                    "make overlay {} -> {} on {}",
                    step.target,
                    file_name(&step.file),
                    file_name(&step.backing_file)
                )
            }
            Step::ApplySnapshot(step) => write!(f, "put {} back to {}", file_name(&step.file), step.tag),
            Step::StopMachine(_) => f.write_str("end the machine"),
            Step::StartMachine(step) => match step.power {
                Power::Running => f.write_str("start the machine"),
                Power::Paused => f.write_str("start the machine, paused"),
                Power::Incoming => f.write_str("start the machine, waiting for its memory"),
            },
            Step::RemoveFile(step) => write!(f, "remove {}", file_name(&step.path)),
        }
    }
}

macro_rules! steps {
    ($($kind:ident),*) => {
        $(impl From<$kind> for Step {
            fn from(step: $kind) -> Step {
                Step::$kind(step)
            }
        })*
    };
}
steps!(SaveSnapshot, LoadSnapshot, DeleteSnapshot, ReserveFile, PrepareOverlay, SwitchOverlays, WriteRecords);
steps!(CommitImage, EndCommit, RecordDeletion, RemoveImage);
steps!(SetMigration, Pause, Resume, BeginSaveImage, SaveMemory, SealSaveImage, LoadMemory, Quit);
steps!(CreateOverlay, ApplySnapshot, StopMachine, StartMachine, RemoveFile);

/// Makes of the system's words an error that says what was to be done to which file.
fn file_error(action: &'static str, path: &Utf8Path) -> impl Fn(io::Error) -> StepError {
    move |source| StepError::File { action, path: path.to_owned(), source }
}

fn file_name(path: &Utf8Path) -> &str {
    path.file_name().unwrap_or_default()
}

/// On which of `nodes` an internal snapshot of this name is.
async fn nodes_with_tag<E: Env>(
    live: &Live<E>,
    tag: &str,
    nodes: &[String],
) -> Result<Vec<String>, CommandError> {
    let all = live.ask(&QueryNamedBlockNodes { flat: true }).await?;
    let has = |node: &String| {
        all.iter().any(|known| {
            known.node_name.as_ref() == Some(node)
                && known.image.snapshots.iter().any(|held| held.name == tag)
        })
    };
    Ok(nodes.iter().filter(|node| has(node)).cloned().collect())
}
