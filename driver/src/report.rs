//! What an operation has done, told truthfully.

use std::{fmt, time::Duration};

use crate::{
    client::{Events, seconds},
    env::Env,
    request::{Kind, Request},
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
    },
    /// The machine was put back.
    Reverted,
    /// The snapshot was removed.
    Deleted,
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
    pub(crate) fn new<E: Env>(request: &Request, disks: Vec<String>, events: &mut Events<E>) -> Self {
        let (name, deed) = match request {
            Request::Create(create) => {
                let consistency = match create.kind {
                    Kind::Internal { .. } => Consistency::Memory,
                    Kind::DiskOnly { .. } => Consistency::Crash,
                };
                (&create.name, Deed::Taken { consistency, quiesced: Quiesced::No("not asked for") })
            }
            Request::Revert(revert) => (&revert.name, Deed::Reverted),
            Request::Delete(delete) => (&delete.name, Deed::Deleted),
        };
        let stopped_for = match deed {
            // Disks alone are switched under a guest that goes on.
            Deed::Taken { consistency: Consistency::Crash, .. } => Some(Duration::ZERO),
            _ => stopped_for(events),
        };
        Self { name: name.to_string(), deed, disks, stopped_for }
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
            Deed::Taken { consistency, quiesced: Quiesced::No(why) } => {
                let consistency = match consistency {
                    Consistency::Memory => "memory and disks",
                    Consistency::Crash => "crash-consistent",
                };
                write!(f, "snapshot {} taken: {consistency} of {disks}; quiesced: no, {why}", self.name)?;
            }
            Deed::Reverted => write!(f, "reverted to {}: {disks}", self.name)?,
            Deed::Deleted => write!(f, "snapshot {} deleted from {disks}", self.name)?,
        }
        match self.stopped_for {
            Some(Duration::ZERO) => Ok(()),
            Some(stopped) => write!(f, "; guest stopped for {}", seconds(stopped)),
            None => f.write_str("; how long the guest was stopped is unknown: events were missed"),
        }
    }
}
