//! A fault: where on the protocol something goes wrong, and what.
//!
//! A fault strikes at a moment (a command, an event, a job reaching a status) and a point beside it:
//!
//!   command:  before QEMU reads it | applied: QEMU has done it, and has not answered
//!   event:    before it is sent    | after it was sent
//!
//! The default is the worse of the two: QEMU has acted, and nobody has been told yet.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ErrorClass, Timespan,
    forms::{CommandName, EventName},
};

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// Where it strikes.
    pub at: At,
    /// What goes wrong.
    #[serde(rename = "do")]
    pub kind: FaultKind,
    /// How often it strikes, from the `nth` time on. Default: 1.
    #[serde(default = "once")]
    pub times: NonZeroU32,
}

/// Where a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "AtTable")]
#[schemars(with = "AtTable")]
pub struct At {
    /// At what.
    pub moment: Moment,
    /// On which side of it.
    pub point: Point,
    /// Only where the line on the wire holds this text: one of several commands that run side by side.
    pub with: Option<String>,
    /// At which occurrence, counted from 1.
    pub nth: NonZeroU32,
}

/// What a fault waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// This command.
    Command(String),
    /// This event.
    Event(String),
    /// A job that reaches this status.
    Job(JobStatus),
}

/// The side of the moment on which a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// Before QEMU reads the command; before the event is sent.
    Before,
    /// A command only: QEMU has done it and has not answered.
    Applied,
    /// An event or a job's status only: it was sent.
    After,
}

/// A place as it is written: exactly one of a command, an event and a job's status.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "At", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["qmp"] },
    { "required": ["event"] },
    { "required": ["job"] },
]))]
struct AtTable {
    /// At this command.
    #[serde(default)]
    #[schemars(with = "Option<CommandName>")]
    qmp: Option<String>,
    /// At this event.
    #[serde(default)]
    #[schemars(with = "Option<EventName>")]
    event: Option<String>,
    /// At the `JOB_STATUS_CHANGE` to this status.
    #[serde(default)]
    job: Option<JobStatus>,
    /// On which side. Default: applied for a command, before for an event or a status: QEMU has acted, and
    /// nobody has been told yet.
    #[serde(default)]
    point: Option<Point>,
    /// Only where the line on the wire holds this text: one of several commands that run side by side. Default: any.
    #[serde(default)]
    #[schemars(length(min = 1))]
    with: Option<String>,
    /// At which occurrence, counted from 1. Default: 1.
    #[serde(default = "once")]
    nth: NonZeroU32,
}

impl TryFrom<AtTable> for At {
    type Error = &'static str;

    fn try_from(written: AtTable) -> Result<Self, Self::Error> {
        let AtTable { qmp, event, job, point, with, nth } = written;
        let (moment, default) = match (qmp, event, job) {
            (Some(command), None, None) => (Moment::Command(command), Point::Applied),
            (None, Some(event), None) => (Moment::Event(event), Point::Before),
            (None, None, Some(status)) => (Moment::Job(status), Point::Before),
            _ => return Err("a fault strikes at exactly one of a command, an event and a job's status"),
        };
        Ok(At { moment, point: point.unwrap_or(default), with, nth })
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The reply, or the event, never arrives.
    LoseReply,
    /// The monitor's connection breaks.
    Disconnect,
    /// QEMU is killed.
    KillQemu,
    /// The monitor stays connected and says nothing any more.
    Silence,
    /// The reply, or the event, arrives twice.
    Duplicate,
    /// The reply, or the event, arrives this much later.
    Delay(Timespan),
    /// The command is answered with this error.
    Error(QmpError),
    /// This text comes over the monitor, as a line of its own.
    Garbage(String),
    /// The line is cut after so many bytes; the rest comes later.
    Split(NonZeroU32),
    /// Meanwhile another client does this on the second monitor: a JSON object, as in a `qmp` step.
    Qmp(String),
}

/// An error as QEMU answers it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QmpError {
    /// Its class.
    pub class: ErrorClass,
    /// Its text.
    pub desc: String,
}

/// QEMU's `JobStatus` (QAPI `job.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// Made, not started.
    Created,
    /// At work.
    Running,
    /// Paused while running.
    Paused,
    /// Waits for its client to complete it.
    Ready,
    /// Paused while ready.
    Standby,
    /// Done, waits for the other jobs of its transaction.
    Waiting,
    /// Waits for its client to finalize it.
    Pending,
    /// Failed or was cancelled, cleans up.
    Aborting,
    /// Ended, not dismissed yet.
    Concluded,
    /// Dismissed: QEMU forgets it.
    Null,
}

impl JobStatus {
    /// The word on the wire.
    pub fn name(self) -> &'static str {
        match self {
            JobStatus::Created => "created",
            JobStatus::Running => "running",
            JobStatus::Paused => "paused",
            JobStatus::Ready => "ready",
            JobStatus::Standby => "standby",
            JobStatus::Waiting => "waiting",
            JobStatus::Pending => "pending",
            JobStatus::Aborting => "aborting",
            JobStatus::Concluded => "concluded",
            JobStatus::Null => "null",
        }
    }
}

fn once() -> NonZeroU32 {
    NonZeroU32::MIN
}
