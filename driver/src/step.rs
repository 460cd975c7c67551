//! The steps that plans are made of, one file a kind.
//!
//! A step is plain data and knows how to **act**, how to **undo** itself and how to **probe** whether it has
//! happened ([`Kind`]); a new one is a file and a name in the list below. It does not know the steps beside it, and it decides nothing: order, timeouts, undo and recovery
//! are the executor's ([`crate::execute`]).

mod add_tag;
mod apply_snapshot;
mod begin_save_image;
mod change_backing;
mod commit_image;
mod create_overlay;
mod delete_snapshot;
mod drop_overlay;
mod end_commit;
mod forget_load;
mod freeze;
mod keep_image;
mod load_memory;
mod load_snapshot;
mod mark_process;
mod merge_bitmaps;
mod merge_image;
mod naming;
mod pause;
mod prepare_overlay;
mod provider;
mod provider_delete;
mod provider_merge;
mod provider_revert;
mod provider_seal;
mod provider_snapshot;
mod quit;
mod rebase_image;
mod record_deletion;
mod remove_file;
mod remove_image;
mod remove_memory;
mod remove_tag;
mod remove_transient;
mod reserve_file;
mod reset_nvram;
mod resume;
mod save_memory;
mod save_snapshot;
mod seal_save_image;
mod set_migration;
mod start_machine;
mod stop_machine;
mod stream_image;
mod switch_overlays;
mod take_tags;
mod thaw;
mod thaw_loaded;
mod try_machine;
mod use_empty_file;
mod write_document;
mod write_records;

use std::{fmt, io};

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

pub(crate) use self::load_memory::read_save_image;
pub use self::{
    add_tag::AddTag,
    apply_snapshot::ApplySnapshot,
    begin_save_image::BeginSaveImage,
    change_backing::ChangeBacking,
    commit_image::CommitImage,
    create_overlay::CreateOverlay,
    delete_snapshot::DeleteSnapshot,
    drop_overlay::DropOverlay,
    end_commit::EndCommit,
    forget_load::ForgetLoad,
    freeze::Freeze,
    keep_image::KeepImage,
    load_memory::LoadMemory,
    load_snapshot::LoadSnapshot,
    mark_process::MarkProcess,
    merge_bitmaps::{Below, MergeBitmaps, MergedBitmap},
    merge_image::MergeImage,
    naming::Naming,
    pause::Pause,
    prepare_overlay::PrepareOverlay,
    provider_delete::ProviderDelete,
    provider_merge::ProviderMerge,
    provider_revert::ProviderRevert,
    provider_seal::ProviderSeal,
    provider_snapshot::ProviderSnapshot,
    quit::Quit,
    rebase_image::RebaseImage,
    record_deletion::RecordDeletion,
    remove_file::RemoveFile,
    remove_image::RemoveImage,
    remove_memory::RemoveMemory,
    remove_tag::RemoveTag,
    remove_transient::RemoveTransient,
    reserve_file::ReserveFile,
    reset_nvram::ResetNvram,
    resume::Resume,
    save_memory::{Meanwhile, SaveMemory},
    save_snapshot::SaveSnapshot,
    seal_save_image::SealSaveImage,
    set_migration::SetMigration,
    start_machine::StartMachine,
    stop_machine::StopMachine,
    stream_image::StreamImage,
    switch_overlays::{CarriedBitmap, Switch, SwitchOverlays},
    take_tags::TakeTags,
    thaw::Thaw,
    thaw_loaded::ThawLoaded,
    try_machine::TryMachine,
    use_empty_file::UseEmptyFile,
    write_document::WriteDocument,
    write_records::WriteRecords,
};
use crate::{
    capabilities::InternalMethod, client::CommandError, commands::QueryNamedBlockNodes, env::Env,
    error::StepError, live::Live, observed::file_of,
};

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
    /// It had failed, or its driver was killed at it, and may have done a part.
    Part,
    /// One of its commands was refused: that one did nothing.
    Refused,
}

/// What a step could not put back, and what to do about it: `overlay node ff-x-0 is still open: blockdev-del it`.
pub type Remains = String;

/// What every kind of step knows of itself. Its `Display` tells it in a few words, as a plan is printed.
pub(crate) trait Kind: fmt::Display {
    /// How it is undone, in words; none if it cannot be.
    const UNDO: Option<&'static str> = None;

    /// Whether the guest stands still for it.
    const STOPS_THE_GUEST: bool = false;

    /// Whether all that it does is inside the QEMU process: gone when QEMU is gone.
    const ONLY_IN_QEMU: bool = false;

    /// Whether QEMU has no part in it: it is probed and undone whether or not anybody answers there.
    const OUTSIDE_QEMU: bool = false;

    /// The word that its commands carry in their ids.
    fn lane(&self) -> String;

    /// Does it.
    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError>;

    /// Finds out whether it has happened. What is done to files needs no answer from QEMU, and is in doubt only when the driver
    /// was killed at it.
    async fn probe<E: Env>(&self, _live: &Live<E>) -> Result<Happened, StepError> {
        Ok(Happened::No)
    }

    /// The same of what only QEMU could be asked, once that is gone: what its files tell.
    async fn probe_gone<E: Env>(&self, _env: &E) -> Happened {
        Happened::Unknown
    }

    /// How far it had got whose driver was killed at it; none if nothing of it is there. Most find that out where they are undone.
    ///
    /// # Errors
    /// What is there may be its work or somebody else's: it stays.
    async fn look_back<E: Env>(&self, _live: &Live<E>) -> Result<Option<Begun>, Remains> {
        Ok(Some(Begun::Part))
    }

    /// Puts back what it did. `why` is what it failed of itself, if it did.
    async fn undo<E: Env>(
        &self,
        live: &Live<E>,
        begun: Begun,
        _why: Option<&StepError>,
    ) -> Result<(), Remains> {
        self.undo_outside(live.env(), begun).await
    }

    /// Puts back what can be put back without QEMU.
    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Err(self.remains())
    }

    /// What may be left of it when nobody could look.
    fn remains(&self) -> Remains;
}

/// The marks of a kind of step: the executor's branches where one is not simply done ([`crate::mark`]).
pub(crate) struct Marks {
    /// It has failed.
    pub(crate) failed: &'static str,
    /// It could not be put back; none of one that is never put back.
    pub(crate) not_put_back: Option<&'static str>,
}

macro_rules! marks {
    ($kind:ident) => {
        Marks {
            failed: concat!("Step::", stringify!($kind), " failed"),
            not_put_back: match <$kind as Kind>::UNDO {
                Some(_) => Some(concat!("Step::", stringify!($kind), " not put back")),
                None => None,
            },
        }
    };
}

/// Makes [`Step`] of the kinds there are, and hands what is asked of a step to its kind.
macro_rules! steps {
    ($($kind:ident),* $(,)?) => {
        /// One step.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Step {
            $(#[doc = concat!("See [`", stringify!($kind), "`].")] $kind($kind),)*
        }

        $(impl From<$kind> for Step {
            fn from(step: $kind) -> Step {
                Step::$kind(step)
            }
        })*

        impl fmt::Display for Step {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Step::$kind(step) => step.fmt(f),)*
                }
            }
        }

        impl Step {
            /// The marks of every kind.
            pub(crate) const MARKS: &[Marks] = &[$(marks!($kind),)*];

            /// The marks of its kind.
            pub(crate) fn marks(&self) -> Marks {
                match self {
                    $(Step::$kind(_) => marks!($kind),)*
                }
            }

            /// The word that its commands carry in their ids.
            pub fn lane(&self) -> String {
                match self {
                    $(Step::$kind(step) => step.lane(),)*
                }
            }

            /// How it is undone, in words; none if it cannot be.
            pub fn undo_title(&self) -> Option<&'static str> {
                match self {
                    $(Step::$kind(_) => $kind::UNDO,)*
                }
            }

            /// Whether the guest stands still for it.
            pub(crate) fn stops_the_guest(&self) -> bool {
                match self {
                    $(Step::$kind(_) => $kind::STOPS_THE_GUEST,)*
                }
            }

            /// See [`Kind::ONLY_IN_QEMU`].
            pub(crate) fn only_in_qemu(&self) -> bool {
                match self {
                    $(Step::$kind(_) => $kind::ONLY_IN_QEMU,)*
                }
            }

            /// See [`Kind::OUTSIDE_QEMU`].
            pub(crate) fn outside_qemu(&self) -> bool {
                match self {
                    $(Step::$kind(_) => $kind::OUTSIDE_QEMU,)*
                }
            }

            /// See [`Kind::act`].
            pub(crate) async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
                match self {
                    $(Step::$kind(step) => step.act(live).await,)*
                }
            }

            /// See [`Kind::probe`].
            pub(crate) async fn probe<E: Env>(&self, live: &Live<E>) -> Result<Happened, StepError> {
                match self {
                    $(Step::$kind(step) => step.probe(live).await,)*
                }
            }

            /// See [`Kind::probe_gone`].
            pub(crate) async fn probe_gone<E: Env>(&self, env: &E) -> Happened {
                match self {
                    $(Step::$kind(step) => step.probe_gone(env).await,)*
                }
            }

            /// See [`Kind::look_back`].
            pub(crate) async fn look_back<E: Env>(&self, live: &Live<E>) -> Result<Option<Begun>, Remains> {
                match self {
                    $(Step::$kind(step) => step.look_back(live).await,)*
                }
            }

            /// See [`Kind::undo`].
            pub(crate) async fn undo<E: Env>(
                &self,
                live: &Live<E>,
                begun: Begun,
                why: Option<&StepError>,
            ) -> Result<(), Remains> {
                match self {
                    $(Step::$kind(step) => step.undo(live, begun, why).await,)*
                }
            }

            /// See [`Kind::undo_outside`].
            pub(crate) async fn undo_outside<E: Env>(&self, env: &E, begun: Begun) -> Result<(), Remains> {
                match self {
                    $(Step::$kind(step) => step.undo_outside(env, begun).await,)*
                }
            }

            /// See [`Kind::remains`].
            pub(crate) fn remains(&self) -> Remains {
                match self {
                    $(Step::$kind(step) => step.remains(),)*
                }
            }
        }
    };
}

steps! {
    SaveSnapshot,
    LoadSnapshot,
    MarkProcess,
    ForgetLoad,
    DeleteSnapshot,
    ReserveFile,
    UseEmptyFile,
    PrepareOverlay,
    SwitchOverlays,
    SetMigration,
    Pause,
    Resume,
    BeginSaveImage,
    SaveMemory,
    SealSaveImage,
    LoadMemory,
    Quit,
    WriteRecords,
    CommitImage,
    EndCommit,
    RecordDeletion,
    RemoveImage,
    CreateOverlay,
    ApplySnapshot,
    TryMachine,
    StopMachine,
    StartMachine,
    RemoveFile,
    RemoveMemory,
    RemoveTransient,
    DropOverlay,
    KeepImage,
    ResetNvram,
    AddTag,
    RemoveTag,
    MergeImage,
    ChangeBacking,
    WriteDocument,
    StreamImage,
    RebaseImage,
    MergeBitmaps,
    Freeze,
    Thaw,
    ThawLoaded,
    ProviderSnapshot,
    ProviderSeal,
    ProviderDelete,
    ProviderMerge,
    ProviderRevert,
    TakeTags,
}

impl Step {
    /// Whether QEMU's end is what it is for.
    pub(crate) fn ends_qemu(&self) -> bool {
        matches!(self, Step::Quit(_))
    }

    /// Whether it puts a new process in the machine's place.
    pub(crate) fn starts_a_machine(&self) -> bool {
        matches!(self, Step::StartMachine(_))
    }

    /// The pivot that it is, if the guest writes to the overlay that it takes out of a chain.
    pub(crate) fn takes_the_guest_out(&self) -> Option<&EndCommit> {
        match self {
            Step::EndCommit(end) if end.active => Some(end),
            _ => None,
        }
    }

    /// Whether the guest may write from now on to what was made for it.
    pub(crate) fn switches(&self) -> bool {
        matches!(self, Step::SwitchOverlays(_))
    }

    /// Whether undoing it leaves alone what the guest's disks stand on.
    pub(crate) fn touches_no_file(&self) -> bool {
        matches!(self, Step::SaveMemory(_) | Step::SetMigration(_) | Step::Pause(_) | Step::Freeze(_))
    }

    /// The file that it removes.
    pub(crate) fn removes(&self) -> Option<&Utf8Path> {
        match self {
            Step::RemoveImage(step) => Some(&step.file).filter(|_| !step.device).map(|file| &**file),
            Step::RemoveFile(step) => Some(&step.path),
            Step::DropOverlay(step) => Some(&step.file),
            _ => None,
        }
    }

    /// The file of the machine's memory, if it begins one.
    pub(crate) fn begins_memory(&self) -> Option<&Utf8Path> {
        match self {
            Step::BeginSaveImage(step) => Some(&step.path),
            _ => None,
        }
    }

    /// What it has made that no record leads to as long as nobody knows whether the snapshot was taken.
    pub(crate) fn made(&self) -> Option<Remains> {
        match self {
            Step::ProviderSnapshot(step) => Some(step.caught()),
            Step::CreateOverlay(step) => Some(format!("the overlay `{}` is kept", step.file)),
            Step::BeginSaveImage(step) => Some(format!("the machine's memory in `{}` is kept", step.path)),
            _ => None,
        }
    }

    /// The image into which it has copied what that stood on, once it has succeeded: to undo it takes nothing out again.
    pub(crate) fn has_copied(&self) -> Option<String> {
        match self {
            Step::StreamImage(step) => Some(format!("`{}` of disk {}", step.image, step.target)),
            Step::RebaseImage(step) => Some(format!("`{}` of disk {}", step.file, step.target)),
            _ => None,
        }
    }

    /// Whether it saves the machine's memory.
    pub(crate) fn saves_memory(&self) -> bool {
        matches!(self, Step::SaveSnapshot(_) | Step::SaveMemory(_))
    }
}

/// Makes of the system's words an error that says what was to be done to which file.
fn file_error(action: &'static str, path: &Utf8Path) -> impl Fn(io::Error) -> StepError {
    move |source| StepError::File { action, path: path.to_owned(), source }
}

/// That a job of an internal snapshot may be left, where there is one: it goes in front of what else remains.
fn job_remains(method: InternalMethod, job: &str) -> String {
    match method {
        InternalMethod::Jobs => {
            format!("the job `{job}` may still be there: see with query-jobs, and dismiss it; ")
        }
        InternalMethod::HumanMonitor => String::new(),
    }
}

fn file_name(path: &Utf8Path) -> &str {
    path.file_name().unwrap_or_default()
}

/// Whether a node of this name is there.
async fn is_open<E: Env>(live: &Live<E>, name: &str) -> Result<bool, CommandError> {
    let nodes = live.ask(&QueryNamedBlockNodes { flat: true }).await?;
    Ok(nodes.iter().any(|node| node.node_name.as_deref() == Some(name)))
}

/// Whether a node has one of these files open.
async fn has_open<E: Env>(live: &Live<E>, is_it: impl Fn(&Utf8Path) -> bool) -> Result<bool, CommandError> {
    let nodes = live.ask(&QueryNamedBlockNodes { flat: true }).await?;
    Ok(nodes.iter().any(|node| is_it(&file_of(&node.image.filename))))
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
