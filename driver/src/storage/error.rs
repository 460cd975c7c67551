//! Why an operation of a storage has failed, and how things stand then.

use std::{fmt, io};

use camino::Utf8PathBuf;

use crate::{error::Code, step::Happened, words};

/// What a tool means by its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// What it was to make is there.
    Exists,
    /// Somebody uses it, or something depends on it.
    Busy,
    /// The storage is full, or what it is allowed to hold.
    NoSpace,
    /// What it was to work on is not there.
    Gone,
    /// The storage cannot do that.
    NotSupported,
    /// It gave up waiting for its storage: what it was to do may be done.
    TimedOut,
    /// Anything else.
    Other,
}

/// Why an operation of a storage has failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is a snapshot of that name, or something else that has its name. Nothing was changed.
    #[error("it exists already: {words}")]
    Exists {
        /// Who says so.
        words: String,
    },
    /// Somebody uses the volume, or something depends on the snapshot. Nothing was changed.
    #[error("it is in use: {words}")]
    Busy {
        /// Who says so.
        words: String,
    },
    /// The storage is full. What was begun is cleared away.
    #[error("no space is left: {words}")]
    NoSpace {
        /// Who says so.
        words: String,
    },
    /// There is no such volume or snapshot.
    #[error("it is not there: {words}")]
    Gone {
        /// Who says so.
        words: String,
    },
    /// The tool said that it is done, and the storage shows something else. What is there now is what it shows.
    #[error("the tool said that it is done, and it is not: {shown}")]
    Stale {
        /// What the storage shows.
        shown: String,
    },
    /// There is no such program.
    #[error("there is no `{program}` here: is its package installed?")]
    ToolMissing {
        /// Which.
        program: Utf8PathBuf,
    },
    /// The program cannot be run, or says more than is taken.
    #[error("cannot run `{program}`: {source}")]
    CannotRun {
        /// Which.
        program: Utf8PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody killed the program.
    #[error("`{program}` was killed by signal {signal}; {}", told(.happened))]
    Killed {
        /// Which.
        program: Utf8PathBuf,
        /// By what.
        signal: i32,
        /// Whether what it was to do is done, as the storage shows it.
        happened: Happened,
    },
    /// The program did not end in time, or gave up waiting for its storage.
    #[error("`{program}` had no answer in time; {}", told(.happened))]
    TimedOut {
        /// Which.
        program: Utf8PathBuf,
        /// Whether what it was to do is done, as the storage shows it.
        happened: Happened,
    },
    /// The program was ended, for what it was to do is wanted no more.
    #[error("`{program}` was ended before it was done: the operation was interrupted")]
    GaveWay {
        /// Which.
        program: Utf8PathBuf,
    },
    /// This storage cannot do that. Nothing was changed.
    #[error("this storage cannot do that: {words}")]
    NotSupported {
        /// What.
        words: String,
    },
    /// A file that the machine uses is not in the volume: a snapshot of that would not hold it. Nothing was changed.
    #[error("a snapshot of {volume} does not hold {file}: {why}")]
    NotCaught {
        /// The file, as the machine's document or an image calls it.
        file: Utf8PathBuf,
        /// The volume.
        volume: String,
        /// Where it is.
        why: String,
    },
    /// Something lies within the volume that does not go back with it, and would be taken out of its place. Nothing was changed.
    #[error(
        "{what} lies within {volume} and does not go back with it: move it away, delete or unmount it first"
    )]
    StaysBehind {
        /// The volume.
        volume: String,
        /// What.
        what: String,
    },
    /// The tool refused, for a reason that is none of the others.
    #[error("`{program}` refused: {words}")]
    Refused {
        /// Which.
        program: Utf8PathBuf,
        /// Its words.
        words: String,
    },
    /// The tool succeeded, and what it says is none of what it should say.
    #[error("`{program}` says what cannot be understood: {why}")]
    Nonsense {
        /// Which.
        program: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A name of a volume or of a snapshot that this storage cannot have, or that could be taken for something else. Nothing was
    /// run.
    #[error("`{}` cannot be a name here: {why}", .name.escape_debug())]
    BadName {
        /// Which.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is done, and what was to follow failed: something is left to be cleared away, or may not outlive the host's death, or
    /// the others of a group are not done, or the storage could not be asked whether it is.
    #[error("it is done, but what was to follow is not: {}", .failed.join("; "))]
    Unfinished {
        /// What failed, and why.
        failed: Vec<String>,
    },
    /// It failed, and what it had begun could not be cleared away.
    #[error("{error}; and this is left of it: {}", .left.join("; "))]
    Left {
        /// Why it failed.
        error: Box<StorageError>,
        /// What to clear away, and why that failed.
        left: Vec<String>,
    },
}

impl StorageError {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            StorageError::Exists { .. } | StorageError::Busy { .. } | StorageError::StaysBehind { .. } => {
                Code::OperationInvalid
            }
            StorageError::Gone { .. } => Code::NoDomainSnapshot,
            StorageError::NotSupported { .. } | StorageError::NotCaught { .. } => Code::OperationUnsupported,
            StorageError::BadName { .. } => Code::InvalidArg,
            StorageError::TimedOut { .. } => Code::OperationTimeout,
            StorageError::GaveWay { .. } => Code::OperationAborted,
            StorageError::ToolMissing { .. } | StorageError::CannotRun { .. } => Code::SystemError,
            StorageError::Nonsense { .. } => Code::InternalError,
            StorageError::NoSpace { .. }
            | StorageError::Stale { .. }
            | StorageError::Killed { .. }
            | StorageError::Refused { .. }
            | StorageError::Unfinished { .. } => Code::OperationFailed,
            StorageError::Left { error, .. } => error.code(),
        }
    }

    pub(super) fn nonsense(program: impl Into<Utf8PathBuf>, why: impl fmt::Display) -> Self {
        StorageError::Nonsense { program: program.into(), why: words::of_error(&why) }
    }

    pub(super) fn bad_name(name: &str, why: &str) -> Self {
        StorageError::BadName { name: name.to_owned(), why: why.to_owned() }
    }

    /// The error that a refusal in these words is.
    pub(super) fn refused(refusal: Refusal, program: Utf8PathBuf, words: String) -> Self {
        match refusal {
            Refusal::Exists => StorageError::Exists { words },
            Refusal::Busy => StorageError::Busy { words },
            Refusal::NoSpace => StorageError::NoSpace { words },
            Refusal::Gone => StorageError::Gone { words },
            Refusal::NotSupported => StorageError::NotSupported { words },
            Refusal::TimedOut => StorageError::TimedOut { program, happened: Happened::Unknown },
            Refusal::Other => StorageError::Refused { program, words },
        }
    }

    /// Whether it is known that all is as it was before.
    pub(crate) fn changes_nothing(&self) -> bool {
        match self {
            StorageError::Exists { .. }
            | StorageError::Busy { .. }
            | StorageError::NoSpace { .. }
            | StorageError::Gone { .. }
            | StorageError::ToolMissing { .. }
            | StorageError::CannotRun { .. }
            | StorageError::NotSupported { .. }
            | StorageError::NotCaught { .. }
            | StorageError::StaysBehind { .. }
            | StorageError::Refused { .. }
            | StorageError::BadName { .. } => true,
            StorageError::Killed { happened, .. } | StorageError::TimedOut { happened, .. } => {
                *happened == Happened::No
            }
            StorageError::Stale { .. }
            | StorageError::GaveWay { .. }
            | StorageError::Nonsense { .. }
            | StorageError::Unfinished { .. }
            | StorageError::Left { .. } => false,
        }
    }

    /// Whether it may have happened all the same.
    pub(crate) fn is_doubtful(&self) -> bool {
        matches!(
            self,
            StorageError::Killed { happened: Happened::Unknown, .. }
                | StorageError::TimedOut { happened: Happened::Unknown, .. }
        )
    }

    /// The same, where this could not be cleared away.
    pub(super) fn but(self, left: Vec<String>) -> Self {
        if left.is_empty() { self } else { StorageError::Left { error: Box::new(self), left } }
    }

    /// Whether nobody knows yet if what was to be done is done; with where to put the answer.
    pub(crate) fn doubt(&mut self) -> Option<&mut Happened> {
        match self {
            StorageError::Killed { happened, .. } | StorageError::TimedOut { happened, .. } => Some(happened),
            _ => None,
        }
    }
}

fn told(happened: &Happened) -> &'static str {
    match happened {
        Happened::Yes => "what it was to do is done",
        Happened::No => "what it was to do is not done",
        Happened::Unknown => "whether what it was to do is done cannot be told",
    }
}

/// The refusal whose words these are: the first row that has some of them, without regard to which letters are large.
pub(super) fn by_words(words: &str, table: &[(&str, Refusal)]) -> Refusal {
    let words = words.to_lowercase();
    let row = table.iter().find(|(part, _)| words.contains(&part.to_lowercase()));
    row.map_or(Refusal::Other, |(_, refusal)| *refusal)
}

/// What the C library calls the errors of the system, and what they mean to a storage.
pub(super) const SYSTEM: &[(&str, Refusal)] = &[
    ("File exists", Refusal::Exists),
    ("Directory not empty", Refusal::Exists),
    ("cannot overwrite", Refusal::Exists),
    ("No space left on device", Refusal::NoSpace),
    ("Disk quota exceeded", Refusal::NoSpace),
    ("No such file or directory", Refusal::Gone),
    ("Device or resource busy", Refusal::Busy),
    ("Text file busy", Refusal::Busy),
    ("Operation not supported", Refusal::NotSupported),
    ("Invalid cross-device link", Refusal::NotSupported),
    ("Inappropriate ioctl for device", Refusal::NotSupported),
];
