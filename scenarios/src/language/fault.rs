//! A fault: where on the protocol something goes wrong, and what.
//!
//! A fault strikes at a moment (a command, an event, a job reaching a status) and a point beside it:
//!
//!   command:  before QEMU reads it | applied: QEMU has done it, and has not answered
//!   event:    before it is sent    | after it was sent
//!   agent:    before it reads the request | applied: it has done it, and has not answered
//!   program:  before it runs       | applied: it has done its work, and nobody knows yet
//!   file:     before it is changed | applied: it is, and nothing behind it is done
//!
//! The default is the worse of the two: QEMU has acted, and nobody has been told yet.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    ErrorClass, GuestAct, Timespan,
    forms::{CommandName, EventName, FileName},
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
    /// A campaign has added it: a regression is held against how it goes without. Default: false.
    #[serde(default)]
    pub added: bool,
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
    /// This program of the host's, which the driver runs.
    Program(String),
    /// This request to the guest's agent.
    Agent(String),
    /// This file of the host's, which the driver makes, writes or removes.
    File(String),
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Moment::Command(name) => write!(f, "command `{name}`"),
            Moment::Event(name) => write!(f, "event `{name}`"),
            Moment::Job(status) => write!(f, "a job's `{}`", status.name()),
            Moment::Program(name) => write!(f, "program `{name}`"),
            Moment::Agent(name) => write!(f, "the agent's `{name}`"),
            Moment::File(name) => write!(f, "file `{name}`"),
        }
    }
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

/// A place as it is written: exactly one of a command, an event, a job's status and a program.
#[derive(Deserialize, JsonSchema)]
#[serde(rename = "At", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["qmp"] },
    { "required": ["event"] },
    { "required": ["job"] },
    { "required": ["run"] },
    { "required": ["agent"] },
    { "required": ["file"] },
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
    /// At this program, which the driver runs: `qemu-img`. `with` looks for its words in the arguments.
    #[serde(default)]
    #[schemars(with = "Option<FileName>")]
    run: Option<String>,
    /// At this request to the guest's agent: `guest-fsfreeze-freeze`.
    #[serde(default)]
    #[schemars(with = "Option<CommandName>")]
    agent: Option<String>,
    /// At this file of the host's, by its name, when the driver makes, writes or removes it: `pending` is its journal. `with` looks
    /// for what is done: `create`, `write`, `remove`.
    #[serde(default)]
    #[schemars(with = "Option<FileName>")]
    file: Option<String>,
    /// On which side. Default: applied for a command and a file, before for an event or a status: QEMU has acted, and
    /// nobody has been told yet. Before for a program.
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
        let AtTable { qmp, event, job, run, agent, file, point, with, nth } = written;
        let mut moments = [
            qmp.map(|command| (Moment::Command(command), Point::Applied)),
            event.map(|event| (Moment::Event(event), Point::Before)),
            job.map(|status| (Moment::Job(status), Point::Before)),
            run.map(|program| (Moment::Program(program), Point::Before)),
            agent.map(|request| (Moment::Agent(request), Point::Applied)),
            file.map(|name| (Moment::File(name), Point::Applied)),
        ]
        .into_iter()
        .flatten();
        let (Some((moment, default)), None) = (moments.next(), moments.next()) else {
            return Err(
                "a fault strikes at exactly one of a command, an event, a job's status, a program, an agent's request and a file",
            );
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
    /// The driver is killed: what it was doing stops where it stands, its connections close, its files stay as they are. The step
    /// ends with it, and the next one has a new driver.
    KillDriver,
    /// The monitor, or the agent, stays connected and says nothing any more.
    Silence,
    /// The reply, or the event, arrives twice.
    Duplicate,
    /// The reply, or the event, arrives this much later.
    Delay(Timespan),
    /// The command is answered with this error.
    Error(QmpError),
    /// This text comes over the connection, as a line of its own; over an agent's, each character up to U+00FF as one byte.
    Garbage(String),
    /// The line is cut after so many bytes; the rest comes later.
    Split(NonZeroU32),
    /// Meanwhile another client does this on the second monitor: a JSON object, as in a `qmp` step.
    Qmp(String),
    /// Meanwhile the guest's kernel panics. For a machine with `panic`.
    GuestPanics,
    /// Meanwhile the guest's watchdog runs out. For a machine with `watchdog`.
    WatchdogFires,
    /// Meanwhile the guest writes to this disk, and the host has no space left: what its `werror` says is done. On the
    /// simulator alone.
    GuestWriteFails(String),
    /// From now on the host has no space left for this file of the machine's folder: what would make it longer fails. On the
    /// simulator alone.
    NoSpace(#[schemars(with = "FileName")] String),
    /// Meanwhile this happens inside of the guest. For a machine with an agent.
    Guest(GuestAct),
    /// A program only: it does nothing, says this and fails.
    Fail(String),
    /// A program only: it is not installed.
    MissingProgram,
    /// A program only: it is killed.
    KillProgram,
    /// A program only: it does not end, and is killed when its time is up.
    HangProgram,
    /// A file only: the host refuses to make, write or remove it. Applied, it has done so and says that it has not.
    Refuse(HostError),
}

/// How a host refuses to change a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostError {
    /// No space is left.
    NoSpace,
    /// The driver may not do that.
    Denied,
    /// The device does not do it.
    IoError,
}

impl HostError {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            HostError::NoSpace => "no-space",
            HostError::Denied => "denied",
            HostError::IoError => "io-error",
        }
    }
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
