//! What an operation has done, told truthfully.

use std::{fmt, time::Duration};

use crate::{
    client::{Events, seconds},
    env::Env,
    launch::arguments::Power,
    plan::Plan,
    request::{CreateFlag, DeleteFlag, DeleteFlags, Request},
    step::Step,
    wire::Timestamp,
};

/// What an operation has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The snapshot.
    pub name: String,
    /// What was done with it.
    pub deed: Deed,
    /// The disks that took part, by target.
    pub disks: Vec<String>,
    /// How long the guest stood still for it, by QEMU's own clock. None if events were missed, and nobody knows.
    pub stopped_for: Option<Duration>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A snapshot was taken.
    Taken {
        /// What a guest finds when it is put back.
        consistency: Consistency,
        /// Whether the guest was asked to come to rest.
        quiesced: Quiesced,
        /// What became of the machine.
        left: Left,
    },
    /// The machine was put back.
    Reverted(Anew),
    /// The snapshot was removed, or what these flags say.
    Deleted(DeleteFlags),
}

/// What became of a machine that was put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anew {
    /// It goes on in its process.
    No,
    /// It was started anew, and runs.
    Running,
    /// It was started anew, and is paused.
    Paused,
    /// It was ended, and is off.
    Off,
}

impl Anew {
    fn of(plan: &Plan) -> Self {
        let has = |is: fn(&Step) -> bool| plan.steps().any(is);
        let runs = |step: &Step| match step {
            Step::StartMachine(start) => start.power == Power::Running,
            step => matches!(step, Step::Resume(_)),
        };
        match (has(|step| matches!(step, Step::StopMachine(_))), has(Step::starts_a_machine)) {
            (false, _) => Anew::No,
            (true, false) => Anew::Off,
            (true, true) if plan.steps().any(runs) => Anew::Running,
            (true, true) => Anew::Paused,
        }
    }
}

/// What became of a machine whose snapshot was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is as it was.
    AsItWas,
    /// It stands still until the caller has taken these disks and lets it run.
    PausedFor(Vec<String>),
    /// It was stopped.
    Off,
}

/// What a guest finds when it is put back to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Its memory and disks of the same moment: it goes on as if nothing had been.
    Memory,
    /// Its disks as after a power cut, all of the same moment.
    Crash,
}

/// Whether the guest had come to rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quiesced {
    /// It had not, for this reason.
    No(&'static str),
}

impl Report {
    /// Reads from the events since the operation began how long the guest stood still.
    pub(crate) fn new<E: Env>(request: &Request, plan: &Plan, events: &mut Events<E>) -> Self {
        let stands_still = plan.steps().any(Step::stops_the_guest);
        let (name, deed) = match request {
            Request::Create(create) => {
                let consistency = if plan.has_memory() { Consistency::Memory } else { Consistency::Crash };
                let left = match plan.manual.as_slice() {
                    _ if create.flags.has(CreateFlag::Halt) => Left::Off,
                    [] => Left::AsItWas,
                    disks => Left::PausedFor(disks.to_vec()),
                };
                let quiesced = Quiesced::No("not asked for");
                (create.wish.name.clone().unwrap_or_default(), Deed::Taken { consistency, quiesced, left })
            }
            Request::Revert(revert) => (revert.name.to_string(), Deed::Reverted(Anew::of(plan))),
            Request::Delete(delete) => (delete.name.to_string(), Deed::Deleted(delete.flags.clone())),
        };
        // Disks alone are switched under a guest that goes on.
        let stopped_for = if stands_still { stopped_for(events) } else { Some(Duration::ZERO) };
        Self { name, deed, disks: plan.disks.clone(), stopped_for }
    }
}

/// The time between each STOP and the RESUME after it; none if events were missed.
fn stopped_for<E: Env>(events: &mut Events<E>) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut since: Option<Timestamp> = None;
    while let Some(event) = events.take() {
        match (event.name.as_str(), since) {
            ("STOP", _) => since = Some(event.timestamp),
            ("RESUME", Some(stop)) => {
                total += event.timestamp.since(stop);
                since = None;
            }
            _ => {}
        }
    }
    (!events.missed()).then_some(total)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disks = self.disks.join(" ");
        match &self.deed {
            Deed::Taken { consistency, quiesced: Quiesced::No(why), left } => {
                let consistency = match consistency {
                    Consistency::Memory => "memory and disks",
                    Consistency::Crash => "crash-consistent",
                };
                write!(f, "snapshot {} taken: {consistency} of {disks}; quiesced: no, {why}", self.name)?;
                match left {
                    Left::AsItWas => {}
                    Left::Off => return f.write_str("; the machine is off"),
                    Left::PausedFor(disks) => {
                        let disks = disks.join(" ");
                        return write!(f, "; the guest is paused: take {disks}, then let it run");
                    }
                }
            }
            Deed::Reverted(anew) => {
                let then = match anew {
                    Anew::No => "",
                    Anew::Running => "; the machine was started anew and runs",
                    Anew::Paused => "; the machine was started anew and is paused",
                    Anew::Off => "; the machine is off",
                };
                write!(f, "reverted to {}: {disks}{then}", self.name)?;
            }
            Deed::Deleted(flags) => {
                let what = match (flags.has(DeleteFlag::Children), flags.has(DeleteFlag::ChildrenOnly)) {
                    (true, _) => format!("snapshot {} and all that descend from it", self.name),
                    (_, true) => format!("all that descend from snapshot {}", self.name),
                    _ => format!("snapshot {}", self.name),
                };
                match flags.has(DeleteFlag::MetadataOnly) {
                    true => write!(f, "{what} forgotten; no disk was touched")?,
                    false if disks.is_empty() => write!(f, "{what} deleted; no disk held it")?,
                    false => write!(f, "{what} deleted from {disks}")?,
                }
            }
        }
        match self.stopped_for {
            Some(Duration::ZERO) => Ok(()),
            Some(stopped) => write!(f, "; guest stopped for {}", seconds(stopped)),
            None => f.write_str("; how long the guest was stopped is unknown: events were missed"),
        }
    }
}
