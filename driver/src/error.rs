//! How an operation can fail, and in what state it leaves things.
//!
//! Three layers, each one enum: [`Refusal`] (the plan was never begun), [`StepError`] (why one step failed)
//! and [`OperationError`] (what that meant for the whole). Every operation error has a [`Code`]: libvirt's
//! name where libvirt has the same error.

mod delete_refusal;
mod image_refusal;
mod off_refusal;
mod quiesce_refusal;
mod refusal;
mod revert_refusal;
mod storage_refusal;
mod unused_refusal;

use std::{fmt, io, time::Duration};

use camino::Utf8PathBuf;

pub use self::{
    delete_refusal::DeleteRefusal,
    image_refusal::ImageRefusal,
    off_refusal::{OffRefusal, OldImage},
    quiesce_refusal::QuiesceRefusal,
    refusal::Refusal,
    revert_refusal::RevertRefusal,
    storage_refusal::StorageRefusal,
    unused_refusal::UnusedRefusal,
};
use crate::{
    agent::rest::RestError,
    client::{CommandError, ConnectError, Lost, seconds},
    journal::JournalError,
    kept::{self, KeptFile},
    launch::LaunchError,
    machine::HoldError,
    qemu_img::ToolError,
    recover::Recovered,
    save_image::BadSaveImage,
    storage::StorageError,
    store::StoreError,
};

/// libvirt's names of errors (`VIR_ERR_<name>`), as far as this driver has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// The guest agent has refused or failed to do it.
    AgentCommandFailed,
    /// The guest agent has not answered in time.
    AgentCommandTimeout,
    /// The guest agent is not there, or says nothing.
    AgentUnresponsive,
    /// What the guest agent says is no answer.
    AgentUnsynced,
    /// An argument is known, and cannot be had here.
    ArgumentUnsupported,
    /// A block copy is under way.
    BlockCopyActive,
    /// The machine or its configuration cannot have what was asked for.
    ConfigUnsupported,
    /// A reply makes no sense.
    InternalError,
    /// An argument is wrong by itself.
    InvalidArg,
    /// There is no such snapshot.
    NoDomainSnapshot,
    /// Whoever wanted it wants it no more.
    OperationAborted,
    /// It was tried and failed.
    OperationFailed,
    /// Not in the state that the machine is in.
    OperationInvalid,
    /// It took too long.
    OperationTimeout,
    /// This QEMU cannot do it.
    OperationUnsupported,
    /// It could lose more than a revert has to.
    SnapshotRevertRisky,
    /// The host's system refused.
    SystemError,
    /// A name is not allowed.
    XmlDetail,
    /// A document says what it must not, or leaves out what it must say.
    XmlError,
    /// A document is not as libvirt's schema has it.
    XmlInvalidSchema,
}

impl Code {
    /// Every code, by name.
    pub const ALL: [Code; 20] = [
        Code::AgentCommandFailed,
        Code::AgentCommandTimeout,
        Code::AgentUnresponsive,
        Code::AgentUnsynced,
        Code::ArgumentUnsupported,
        Code::BlockCopyActive,
        Code::ConfigUnsupported,
        Code::InternalError,
        Code::InvalidArg,
        Code::NoDomainSnapshot,
        Code::OperationAborted,
        Code::OperationFailed,
        Code::OperationInvalid,
        Code::OperationTimeout,
        Code::OperationUnsupported,
        Code::SnapshotRevertRisky,
        Code::SystemError,
        Code::XmlDetail,
        Code::XmlError,
        Code::XmlInvalidSchema,
    ];

    /// `"OPERATION_FAILED"`.
    pub fn name(self) -> &'static str {
        match self {
            Code::AgentCommandFailed => "AGENT_COMMAND_FAILED",
            Code::AgentCommandTimeout => "AGENT_COMMAND_TIMEOUT",
            Code::AgentUnresponsive => "AGENT_UNRESPONSIVE",
            Code::AgentUnsynced => "AGENT_UNSYNCED",
            Code::ArgumentUnsupported => "ARGUMENT_UNSUPPORTED",
            Code::BlockCopyActive => "BLOCK_COPY_ACTIVE",
            Code::ConfigUnsupported => "CONFIG_UNSUPPORTED",
            Code::InternalError => "INTERNAL_ERROR",
            Code::InvalidArg => "INVALID_ARG",
            Code::NoDomainSnapshot => "NO_DOMAIN_SNAPSHOT",
            Code::OperationAborted => "OPERATION_ABORTED",
            Code::OperationFailed => "OPERATION_FAILED",
            Code::OperationInvalid => "OPERATION_INVALID",
            Code::OperationTimeout => "OPERATION_TIMEOUT",
            Code::OperationUnsupported => "OPERATION_UNSUPPORTED",
            Code::SnapshotRevertRisky => "SNAPSHOT_REVERT_RISKY",
            Code::SystemError => "SYSTEM_ERROR",
            Code::XmlDetail => "XML_DETAIL",
            Code::XmlError => "XML_ERROR",
            Code::XmlInvalidSchema => "XML_INVALID_SCHEMA",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why one step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A command was refused, or nobody knows what became of it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The job was started and failed.
    #[error("{kind} failed: {reason}")]
    JobFailed {
        /// `snapshot-save` ...
        kind: &'static str,
        /// QEMU's words.
        reason: String,
    },
    /// The job has not ended in time.
    #[error("{kind} has not ended within {}: the job is {status}", seconds(*.waited))]
    JobUnfinished {
        /// `snapshot-save` ...
        kind: &'static str,
        /// The state it was last seen in.
        status: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The job was started, and what became of it could not be read.
    #[error("{kind} was started, and what became of it could not be read: {cause}")]
    JobUnread {
        /// `snapshot-save` ...
        kind: &'static str,
        /// Why not.
        cause: CommandError,
    },
    /// The job was forgotten before its result could be read.
    #[error("the job of {kind} was dismissed by somebody else before its result could be read")]
    JobVanished {
        /// `snapshot-save` ...
        kind: &'static str,
    },
    /// The human monitor answered with an error, in a reply that says success.
    #[error("`{command}` failed: {text}")]
    HumanMonitor {
        /// The command line.
        command: String,
        /// The monitor's words.
        text: String,
    },
    /// The machine's state was on its way out of QEMU or into it, and that failed.
    #[error("the machine's memory could not be {deed}: {reason}")]
    MigrationFailed {
        /// `saved`, `loaded`.
        deed: &'static str,
        /// QEMU's words; some releases have none.
        reason: String,
    },
    /// Somebody else has stopped it.
    #[error("somebody else has cancelled the saving of the machine's memory")]
    MigrationCancelled,
    /// It takes too long.
    #[error("the machine's memory is not {deed} within {}: its migration is {status}", seconds(*.waited))]
    MigrationUnfinished {
        /// `saved`, `loaded`.
        deed: &'static str,
        /// The status it was last seen in.
        status: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A file with a machine's memory is none, or not whole.
    #[error("`{path}` cannot be used as a save image: {cause}")]
    SaveImage {
        /// Which.
        path: Utf8PathBuf,
        /// What is wrong with it.
        cause: BadSaveImage,
    },
    /// A file with a machine's memory was never finished.
    #[error("`{0}` is incomplete: whoever wrote it did not come to its end")]
    SaveImageIncomplete(Utf8PathBuf),
    /// What a record calls its memory is something else.
    #[error("`{0}` holds no memory of a machine, and was not removed")]
    NoMemory(Utf8PathBuf),
    /// A file could not be made, used or removed.
    #[error("cannot {action} `{path}`: {source}")]
    File {
        /// `create`, `open`, `write`, `remove` ...
        action: &'static str,
        /// Which.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The records could not be written.
    #[error("{}", of_the_records(.0))]
    Records(StoreError),
    /// `qemu-img` has not done it.
    #[error(transparent)]
    Tool(ToolError),
    /// The machine was not started, or not stopped.
    #[error(transparent)]
    Launch(LaunchError),
    /// A machine that a program has started is not in the image that its description names.
    #[error(
        "`{0}` is not open in one node of the machine that was started, and no more: it cannot be told which one is meant"
    )]
    NotOpen(Utf8PathBuf),
    /// QEMU was told to end and has not.
    #[error("QEMU was told to end, and its monitor is still open")]
    StillRunning,
    /// The guest was not brought to rest, or may not have been let go.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The storage below the disks has not done it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It is done, and what was to tidy up behind it is not: nothing is taken back for that.
    #[error("it is done, but what was to follow is not")]
    DoneButFor {
        /// What failed, and why.
        failed: Vec<String>,
    },
    /// QEMU did a part of what it must do as a whole.
    #[error("QEMU switched some disks of one transaction and not others: {0}")]
    Torn(String),
}

/// The words of the records' error, but for what that means: an operation that goes on from there, or puts things back, says it.
fn of_the_records(error: &StoreError) -> String {
    match error {
        StoreError::File { action, path, source } => format!("cannot {action} `{path}`: {source}"),
        StoreError::CurrentUnknown { path, source } => {
            format!("which snapshot is current cannot be written to `{path}`: {source}")
        }
        StoreError::Machine(_) | StoreError::Name(_) | StoreError::Locked(_) | StoreError::Linked(_) => {
            error.to_string()
        }
    }
}

impl StepError {
    /// Whether it may have happened all the same: ask before acting on it.
    pub fn is_doubtful(&self) -> bool {
        match self {
            StepError::Command(error) => !matches!(error, CommandError::Refused { .. }),
            StepError::JobUnfinished { .. } | StepError::JobUnread { .. } | StepError::JobVanished { .. } => {
                true
            }
            StepError::Storage(error) => error.is_doubtful(),
            StepError::JobFailed { .. }
            | StepError::MigrationFailed { .. }
            | StepError::MigrationCancelled
            // It goes on, and is seen to: that has to be stopped, not waited for.
            | StepError::MigrationUnfinished { .. }
            | StepError::SaveImage { .. }
            | StepError::SaveImageIncomplete(_)
            | StepError::NoMemory(_)
            | StepError::HumanMonitor { .. }
            | StepError::File { .. }
            | StepError::Records(_)
            // A run that was cut short is done, and what it left is seen to.
            | StepError::Tool(_)
            | StepError::Launch(_)
            | StepError::NotOpen(_)
            | StepError::StillRunning
            // What a request without a reply has done in the guest is found out where it is undone.
            | StepError::Rest(_)
            | StepError::DoneButFor { .. }
            | StepError::Torn(_) => false,
        }
    }

    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            StepError::Command(CommandError::TimedOut { .. })
            | StepError::JobUnread { cause: CommandError::TimedOut { .. }, .. }
            | StepError::JobUnfinished { .. }
            | StepError::MigrationUnfinished { .. }
            | StepError::StillRunning => Code::OperationTimeout,
            StepError::Records(error) => error.code(),
            StepError::Rest(error) => error.code(),
            StepError::Storage(error) => error.code(),
            StepError::Command(
                CommandError::Lost { lost: Lost::Wire(_), .. } | CommandError::Unreadable { .. },
            )
            | StepError::Torn(_) => Code::InternalError,
            StepError::Command(CommandError::Refused { .. } | CommandError::Lost { .. })
            | StepError::JobFailed { .. }
            | StepError::JobUnread { .. }
            | StepError::JobVanished { .. }
            | StepError::MigrationFailed { .. }
            | StepError::MigrationCancelled
            | StepError::SaveImage { .. }
            | StepError::SaveImageIncomplete(_)
            | StepError::NoMemory(_)
            | StepError::Tool(_)
            | StepError::Launch(_)
            | StepError::NotOpen(_)
            | StepError::DoneButFor { .. }
            | StepError::HumanMonitor { .. } => Code::OperationFailed,
            // As libvirt: a file that is in the way is a mistake in the configuration.
            StepError::File { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Code::ConfigUnsupported
            }
            StepError::File { .. } => Code::SystemError,
        }
    }
}

/// Why an operation failed, and how things stand now.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// It was not begun.
    #[error("{} Nothing was touched.", sentence(.0))]
    Refused(#[from] Refusal),
    /// The machine is not this driver's alone, so it was not begun.
    #[error("{} Nothing was touched.", sentence(.0))]
    Held(#[from] HoldError),
    /// The machine could not be reached, so it was not begun.
    #[error("{} Nothing was touched.", sentence(.0))]
    Unreachable(#[from] ConnectError),
    /// The machine could not be asked how it stands, so it was not begun.
    #[error("the machine could not be asked how it stands: {} Nothing was touched.", sentence(.0))]
    Unobserved(CommandError),
    /// A step failed; all that had been done is undone.
    #[error("{step}: {} All is as it was before{}.", sentence(cause), but(.stays.as_deref()))]
    RolledBack {
        /// The step that failed.
        step: String,
        /// Why.
        cause: StepError,
        /// What cannot be put back and needs no hand: how QEMU stands until the guest goes on, what was copied.
        stays: Option<String>,
    },
    /// A step failed, and QEMU is gone: what was done in it is gone with it, files are cleared away.
    #[error("{step}: {} QEMU is gone; nothing of this operation is left behind{}.", sentence(cause), but(.stays.as_deref()))]
    MachineGone {
        /// The step that failed.
        step: String,
        /// Why.
        cause: StepError,
        /// What is another than before, and needs no hand.
        stays: Option<String>,
    },
    /// A step failed, and something could not be put back.
    #[error("{step}: {} Not everything could be put back: {}", sentence(cause), .remains.join("; "))]
    NotRolledBack {
        /// The step that failed.
        step: String,
        /// Why.
        cause: StepError,
        /// What is left, and what to do about it.
        remains: Vec<String>,
    },
    /// It was done, and what should have followed was not.
    #[error("{done}, but {step}: {} {}", sentence(cause), .remains.join("; "))]
    Unfinished {
        /// What was done.
        done: String,
        /// The step that failed.
        step: String,
        /// Why.
        cause: StepError,
        /// How things stand, and what to do about it.
        remains: Vec<String>,
    },
    /// What is about to be done cannot be written down, or what was written down cannot be read: it was not begun.
    #[error("{} Nothing was touched.", sentence(.0))]
    Journal(#[from] JournalError),
    /// An earlier operation was not finished and could not be put right, so this one was not begun.
    #[error(
        "{0}\nThis operation was not begun, and nothing else was touched: see how the machine stands, put it right, and give the earlier one up with `freezeframe snapshot recover --forget`."
    )]
    Pending(Box<Recovered>),
    /// Some of several snapshots were deleted, and one was not; nothing was begun of the others.
    #[error("deleted were {}, and then not `{name}`: {cause}{}", .done.join(", "), kept::told(.kept))]
    Partly {
        /// Those that were.
        done: Vec<String>,
        /// Files of those that were kept.
        kept: Vec<KeptFile>,
        /// The one that was not.
        name: String,
        /// Why not, and how things stand.
        cause: Box<OperationError>,
    },
    /// Nobody knows whether the decisive step happened; nothing was undone, so nothing is lost.
    #[error("{step}: {} It could not be found out whether it happened, so nothing was undone: {}", sentence(cause), .keeps.join("; "))]
    Unknown {
        /// The step in doubt.
        step: String,
        /// Why.
        cause: StepError,
        /// What was kept, and what to do about it.
        keeps: Vec<String>,
    },
}

/// Words that others follow: with a full stop behind them, unless they end as a sentence does.
pub(crate) fn sentence(words: &impl fmt::Display) -> String {
    let words = words.to_string();
    let stop = if words.ends_with(['.', '?', '!']) { "" } else { "." };
    words + stop
}

/// What is not as before, behind the words that all is.
pub(crate) fn but(stays: Option<&str>) -> String {
    stays.map(|stays| format!(", but that {stays}")).unwrap_or_default()
}

impl OperationError {
    /// The same, and that these files were kept, where it is the end of what was done.
    pub(crate) fn and_kept(mut self, kept: &[KeptFile]) -> Self {
        if let OperationError::Unfinished { remains, .. } = &mut self {
            remains.extend(kept.iter().map(ToString::to_string));
        }
        self
    }

    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            OperationError::Refused(refusal) => refusal.code(),
            OperationError::Unreachable(ConnectError::Silent { .. })
            | OperationError::Unobserved(CommandError::TimedOut { .. }) => Code::OperationTimeout,
            OperationError::Unreachable(_) | OperationError::Unobserved(_) => Code::OperationFailed,
            OperationError::Held(error) => error.code(),
            OperationError::Journal(error) => error.code(),
            OperationError::Pending(_) => Code::OperationInvalid,
            OperationError::Partly { cause, .. } => cause.code(),
            OperationError::RolledBack { cause, .. }
            | OperationError::MachineGone { cause, .. }
            | OperationError::NotRolledBack { cause, .. }
            | OperationError::Unfinished { cause, .. }
            | OperationError::Unknown { cause, .. } => cause.code(),
        }
    }
}
