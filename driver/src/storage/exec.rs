//! A program of the user's, for storages that are none of the others: Cinder, an array. `docs/storage-exec.md` is what its
//! author reads.
//!
//! It is run once for each question, without arguments: one JSON object comes on its standard input ([`Request`]), one
//! ([`Answer`]) is awaited on its standard output. It ends with 0 whenever it has answered, also to say that it failed.
//! Members of an answer that nobody knows are passed over, so that a program may say more than is asked.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{
    Act, BackupSource, Capabilities, InUse, Method, Provider, Refusal, Snapshot, StorageError, WITHIN, names,
};
use crate::{env::HostCommand, name::SnapshotName, step::Happened, words};

/// Volumes that a program of the user's takes care of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    program: Utf8PathBuf,
    volumes: Vec<String>,
}

/// What the program is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Request {
    /// The version of this conversation: 1.
    pub version: u32,
    /// What is to be done.
    pub operation: Operation,
    /// The volumes, in the words of whoever configured them. Of several the snapshot must be one point in time.
    pub volumes: Vec<String>,
    /// The snapshot's name; none to list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a program can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Which snapshots are there?
    List,
    /// Take one; all volumes at one point in time.
    Snapshot,
    /// Delete one. The live volumes stay as they are.
    Delete,
    /// Let the live volumes be what the snapshot holds.
    Revert,
    /// Let go of a snapshot, and keep what was written since.
    Merge,
}

/// What the program answers: one of these members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// To `list`: the names of the snapshots that all of the volumes have, oldest first.
    #[serde(default)]
    pub snapshots: Option<Vec<String>>,
    /// To all else: it is done.
    #[serde(default)]
    pub done: Option<Done>,
    /// To anything: it failed.
    #[serde(default)]
    pub error: Option<Failure>,
}

/// That what was asked for is done. Nothing needs to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {}

/// Why the program failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// What kind of failure it is.
    #[serde(default)]
    pub kind: FailureKind,
    /// What a person is to read.
    #[serde(deserialize_with = "words::text")]
    pub message: String,
}

/// The kinds of failures that mean something to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// There is a snapshot of that name.
    Exists,
    /// Somebody uses the volume, or something depends on the snapshot.
    Busy,
    /// The storage is full.
    NoSpace,
    /// There is no such volume or snapshot.
    Gone,
    /// The storage cannot do that.
    NotSupported,
    /// The storage has not answered: what was to be done may be done.
    TimedOut,
    /// Anything else, also a kind that the driver does not know.
    #[default]
    #[serde(other)]
    Other,
}

impl From<FailureKind> for Refusal {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Exists => Refusal::Exists,
            FailureKind::Busy => Refusal::Busy,
            FailureKind::NoSpace => Refusal::NoSpace,
            FailureKind::Gone => Refusal::Gone,
            FailureKind::NotSupported => Refusal::NotSupported,
            FailureKind::TimedOut => Refusal::TimedOut,
            FailureKind::Other => Refusal::Other,
        }
    }
}

impl Exec {
    /// These volumes, taken care of by this program.
    ///
    /// # Errors
    /// [`StorageError::BadName`] for a program without an absolute path, and without volumes.
    pub fn new(program: impl AsRef<Utf8Path>, volumes: &[&str]) -> Result<Self, StorageError> {
        let program = names::path(program.as_ref())?;
        if volumes.is_empty() || volumes.contains(&"") {
            return Err(StorageError::bad_name("", "a volume has a name"));
        }
        Ok(Self { program, volumes: volumes.iter().map(|volume| (*volume).to_owned()).collect() })
    }

    fn ask(&self, operation: Operation, name: Option<&SnapshotName>) -> HostCommand {
        let name = name.map(ToString::to_string);
        let request = Request { version: 1, operation, volumes: self.volumes.clone(), name };
        let input = serde_json::to_vec(&request).expect("a request is texts and a number");
        HostCommand { input: Some(input), ..HostCommand::new(&self.program, Vec::<String>::new(), WITHIN) }
    }

    fn act(&self, operation: Operation, name: &SnapshotName) -> Vec<Act> {
        vec![Act::of(self.ask(operation, Some(name)))]
    }

    fn answer(&self, said: &[u8]) -> Result<Answer, StorageError> {
        let answer: Answer =
            serde_json::from_slice(said).map_err(|error| StorageError::nonsense(&self.program, error))?;
        match answer.error {
            None => Ok(answer),
            // Whether it happened is asked for where it matters.
            Some(Failure { kind: FailureKind::TimedOut, .. }) => {
                Err(StorageError::TimedOut { program: self.program.clone(), happened: Happened::Unknown })
            }
            Some(Failure { kind, message }) => {
                Err(StorageError::refused(kind.into(), self.program.clone(), message))
            }
        }
    }
}

impl Provider for Exec {
    fn method(&self) -> Method {
        Method::Exec
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { group: true, backup_source: false, revert_consumes: false }
    }

    fn volume(&self) -> String {
        self.volumes.join(" ")
    }

    fn list(&self) -> Vec<HostCommand> {
        vec![self.ask(Operation::List, None)]
    }

    fn listed(&self, said: &[Vec<u8>]) -> Result<Vec<Snapshot>, StorageError> {
        let [said] = said else { return Err(StorageError::nonsense(&self.program, "it was not asked")) };
        let missing = || StorageError::nonsense(&self.program, "an answer to `list` without `snapshots`");
        Ok(super::fit(self.answer(said)?.snapshots.ok_or_else(missing)?))
    }

    fn snapshot(&self, name: &SnapshotName, _fresh: &str) -> Result<Vec<Act>, StorageError> {
        Ok(self.act(Operation::Snapshot, name))
    }

    fn delete(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        Ok(self.act(Operation::Delete, name))
    }

    fn revert(&self, name: &SnapshotName, _fresh: &str) -> Result<Vec<Act>, StorageError> {
        Ok(self.act(Operation::Revert, name))
    }

    fn merge(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        Ok(self.act(Operation::Merge, name))
    }

    fn backup_source(&self, _name: &SnapshotName, _image: Option<&InUse>) -> Option<BackupSource> {
        None
    }

    /// One that fails without an answer has said nothing that can be relied on.
    fn refusal(&self, _code: i32, _words: &str) -> Refusal {
        Refusal::Other
    }

    fn understood(&self, said: &[u8]) -> Result<(), StorageError> {
        let missing = || StorageError::nonsense(&self.program, "an answer without `done`");
        self.answer(said)?.done.map(drop).ok_or_else(missing)
    }
}

/// The JSON Schema of [`Request`] and [`Answer`], as committed in `docs/storage-exec.schema.json`.
#[cfg(feature = "schema")]
pub fn json_schema() -> String {
    /// What passes between the driver and the program.
    #[derive(schemars::JsonSchema)]
    #[allow(dead_code, reason = "it has a schema, and nothing else")]
    struct Conversation {
        /// What comes on the program's standard input.
        request: Request,
        /// What it answers on its standard output.
        answer: Answer,
    }
    format!("{:#}\n", schemars::schema_for!(Conversation).to_value())
}
