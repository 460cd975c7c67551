//! One line of QMP as a message: the envelope is typed, the payload stays raw until somebody wants it.

use std::fmt;

use serde::Deserialize;

use super::{WireError, envelope::Envelope};
use crate::words;

/// How much of a line that is no message is shown.
const SHOWN: usize = 80;

/// What a monitor says.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// Who it is; the first thing said on a connection, events aside.
    Greeting(Greeting),
    /// Something happened.
    Event(Event),
    /// The answer to a command.
    Reply(Reply),
}

/// QEMU's version and what the monitor offers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Greeting {
    /// Major, minor, micro.
    pub version: (u32, u32, u32),
    /// The distribution's package version; may be empty.
    pub package: String,
    /// Capabilities that can be enabled: `oob`.
    pub capabilities: Vec<String>,
}

/// When QEMU queued an event, by the host's wall clock. A throttled event carries an old one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970; -1 when the clock could not be read.
    pub seconds: i64,
    /// Microseconds within the second.
    pub microseconds: i64,
}

impl Timestamp {
    /// How much later this is than `earlier`; zero if the clock went back.
    pub fn since(self, earlier: Timestamp) -> std::time::Duration {
        let micros = |t: Timestamp| t.seconds.saturating_mul(1_000_000).saturating_add(t.microseconds);
        std::time::Duration::from_micros(
            u64::try_from(micros(self).saturating_sub(micros(earlier))).unwrap_or(0),
        )
    }
}

/// Something that happened in QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `JOB_STATUS_CHANGE`, `STOP` ...
    pub name: String,
    /// Its data, unread; none for events without.
    pub data: Option<Box<str>>,
    /// When it was queued.
    pub timestamp: Timestamp,
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The id of the command; none if QEMU could not read it.
    pub id: Option<String>,
    /// What it returned, unread, or QEMU's refusal.
    pub outcome: Result<Box<str>, QmpError>,
}

/// QEMU's refusal of a command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct QmpError {
    /// `GenericError`, `CommandNotFound`, `DeviceNotActive`, `DeviceNotFound`, `KVMMissingCap`.
    #[serde(deserialize_with = "words::text")]
    pub class: String,
    /// For people; differs between releases.
    #[serde(deserialize_with = "words::text")]
    pub desc: String,
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

impl Incoming {
    /// Reads one line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, WireError> {
        Self::read(line).ok_or_else(|| {
            let shown = &line[..line.len().min(SHOWN)];
            WireError::NotQmp(String::from_utf8_lossy(shown).escape_debug().to_string())
        })
    }

    fn read(line: &[u8]) -> Option<Self> {
        let envelope = Envelope::open(line)?;
        // Ours are strings; an id of another kind belongs to nobody here.
        let id = || envelope.id.and_then(|id| serde_json::from_str(id).ok());
        Some(match envelope {
            Envelope { greeting: Some(raw), .. } => Incoming::Greeting(Greeting::read(raw)?),
            Envelope { event: Some(name), timestamp: Some(timestamp), data, .. } => Incoming::Event(Event {
                name: serde_json::from_str(name).ok()?,
                timestamp: serde_json::from_str(timestamp).ok()?,
                data: data.map(Into::into),
            }),
            Envelope { error: Some(error), .. } => {
                Incoming::Reply(Reply { id: id(), outcome: Err(serde_json::from_str(error).ok()?) })
            }
            Envelope { returned: Some(raw), .. } => {
                Incoming::Reply(Reply { id: id(), outcome: Ok(raw.into()) })
            }
            _ => return None,
        })
    }
}

impl Greeting {
    fn read(raw: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Whole {
            version: Version,
            capabilities: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Version {
            qemu: Triple,
            package: String,
        }
        #[derive(Deserialize)]
        struct Triple {
            major: u32,
            minor: u32,
            micro: u32,
        }
        let whole: Whole = serde_json::from_str(raw).ok()?;
        let Triple { major, minor, micro } = whole.version.qemu;
        Some(Self {
            version: (major, minor, micro),
            package: whole.version.package,
            capabilities: whole.capabilities,
        })
    }
}
