//! One line of QMP as a message: the envelope is typed, the payload stays raw until somebody wants it.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::WireError;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
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
#[derive(Debug, Clone)]
pub struct Event {
    /// `JOB_STATUS_CHANGE`, `STOP` ...
    pub name: String,
    /// Its data; none for events without.
    pub data: Option<Box<RawValue>>,
    /// When it was queued.
    pub timestamp: Timestamp,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        let text = |event: &Self| event.data.as_ref().map(|data| data.get().to_owned());
        self.name == other.name && self.timestamp == other.timestamp && text(self) == text(other)
    }
}

/// The answer to one command.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The id of the command; none if QEMU could not read it.
    pub id: Option<String>,
    /// What it returned, unread, or QEMU's refusal.
    pub outcome: Result<Box<RawValue>, QmpError>,
}

impl PartialEq for Reply {
    fn eq(&self, other: &Self) -> bool {
        let text = |reply: &Self| reply.outcome.clone().map(|value| value.get().to_owned());
        self.id == other.id && text(self) == text(other)
    }
}

/// QEMU's refusal of a command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct QmpError {
    /// `GenericError`, `CommandNotFound`, `DeviceNotActive`, `DeviceNotFound`, `KVMMissingCap`.
    pub class: String,
    /// For people; differs between releases.
    pub desc: String,
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

/// Every member that a message can have; which are there tells what it is.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "QMP", borrow)]
    greeting: Option<&'a RawValue>,
    #[serde(rename = "return", borrow)]
    returned: Option<&'a RawValue>,
    error: Option<QmpError>,
    event: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    timestamp: Option<Timestamp>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
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
        let envelope: Envelope<'_> = serde_json::from_slice(line).ok()?;
        // Ours are strings; an id of another kind belongs to nobody here.
        let id = || envelope.id.and_then(|id| serde_json::from_str(id.get()).ok());
        match envelope {
            Envelope { greeting: Some(raw), .. } => Greeting::read(raw).map(Incoming::Greeting),
            Envelope { event: Some(name), timestamp: Some(timestamp), data, .. } => {
                Some(Incoming::Event(Event { name, timestamp, data: data.map(RawValue::to_owned) }))
            }
            Envelope { error: Some(error), .. } => {
                Some(Incoming::Reply(Reply { id: id(), outcome: Err(error) }))
            }
            Envelope { returned: Some(raw), .. } => {
                Some(Incoming::Reply(Reply { id: id(), outcome: Ok(raw.to_owned()) }))
            }
            _ => None,
        }
    }
}

impl Greeting {
    fn read(raw: &RawValue) -> Option<Self> {
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
        let whole: Whole = serde_json::from_str(raw.get()).ok()?;
        let Triple { major, minor, micro } = whole.version.qemu;
        Some(Self {
            version: (major, minor, micro),
            package: whole.version.package,
            capabilities: whole.capabilities,
        })
    }
}
