//! That a guest stands still: for how long, and why, where nobody has stopped it. Of its own it is for somebody to look into, and not
//! for a snapshot to let go on.
//!
//! Only what is heard on this connection is known: a connection that was lost meanwhile takes it along.
//!
//! Source: QEMU QAPI `GUEST_PANICKED`, `WATCHDOG`, `BLOCK_IO_ERROR`; the four releases, asked.

use std::{fmt, time::Duration};

use serde::Deserialize;

use crate::wire::{self, Event, Timestamp};

/// Why a guest stands still that nobody has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnStop {
    /// Its kernel has panicked.
    Panicked,
    /// It did not serve its watchdog in time.
    Watchdog,
    /// It could not read or write a disk.
    IoError,
    /// Somebody else's monitor has stopped it. No event says so: it is found out where it can be told from a stop of the driver's.
    SomebodyElse,
}

impl OwnStop {
    /// Why the guest stands still after an event, if it stood still before for this reason, or ran.
    pub(crate) fn after(event: &Event, before: Option<Self>) -> Option<Self> {
        Self::told_by(event).or(before.filter(|_| event.name != "RESUME"))
    }

    /// What an event says of it; none for those that do not stop a guest.
    fn told_by(event: &Event) -> Option<Self> {
        #[derive(Deserialize)]
        struct Data {
            action: String,
        }
        let (why, action) = match event.name.as_str() {
            "GUEST_PANICKED" => (OwnStop::Panicked, "pause"),
            "WATCHDOG" => (OwnStop::Watchdog, "pause"),
            "BLOCK_IO_ERROR" => (OwnStop::IoError, "stop"),
            _ => return None,
        };
        let data: Data = wire::payload(event.data.as_deref()?).ok()?;
        (data.action == action).then_some(why)
    }
}

impl fmt::Display for OwnStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OwnStop::Panicked => "its kernel has panicked",
            OwnStop::Watchdog => "its watchdog has run out",
            OwnStop::IoError => "it could not read or write a disk",
            OwnStop::SomebodyElse => "somebody else has stopped it",
        })
    }
}

/// What events said of a guest that stood still, folded as they came: a migration may tell of thousands of passes meanwhile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standstill {
    since: Option<Timestamp>,
    /// The time between each STOP and the RESUME after it, by QEMU's own clock.
    pub(crate) total: Duration,
    /// Why it stands still at the end, where that is of its own.
    pub(crate) own: Option<OwnStop>,
}

impl Standstill {
    /// Takes in one more event.
    pub(crate) fn hear(&mut self, event: &Event) {
        self.own = OwnStop::after(event, self.own);
        match (event.name.as_str(), self.since) {
            ("STOP", _) => self.since = Some(event.timestamp),
            ("RESUME", Some(stop)) => {
                self.total += event.timestamp.since(stop);
                self.since = None;
            }
            _ => {}
        }
    }

    /// Takes in why it stands still since this STOP, if it still does.
    pub(crate) fn note(&mut self, why: OwnStop, stop: &Event) {
        if self.since == Some(stop.timestamp) {
            self.own = Some(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_out_too_late_is_said_of_no_other_standstill() {
        let event = |name: &str, seconds| {
            let timestamp = Timestamp { seconds, microseconds: 0 };
            Event { name: name.to_owned(), data: None, timestamp }
        };
        let (stop, resume, again) = (event("STOP", 1), event("RESUME", 2), event("STOP", 3));
        let mut stood = Standstill::default();
        stood.hear(&stop);
        stood.note(OwnStop::SomebodyElse, &stop);
        assert_eq!(stood.own, Some(OwnStop::SomebodyElse));
        stood.hear(&resume);
        stood.note(OwnStop::SomebodyElse, &stop);
        assert_eq!(stood.own, None, "it has gone on");
        stood.hear(&again);
        stood.note(OwnStop::SomebodyElse, &stop);
        assert_eq!(stood.own, None, "it was stopped anew");
    }

    #[test]
    fn only_what_stops_the_guest_is_a_reason_to_stand_still() {
        let told = |name: &str, action: &str| {
            let data = Some(serde_json::json!({ "action": action }).to_string().into());
            OwnStop::told_by(&Event { name: name.to_owned(), data, timestamp: Timestamp::default() })
        };
        assert_eq!(told("GUEST_PANICKED", "pause"), Some(OwnStop::Panicked));
        assert_eq!(told("WATCHDOG", "pause"), Some(OwnStop::Watchdog));
        assert_eq!(told("BLOCK_IO_ERROR", "stop"), Some(OwnStop::IoError));
        for (name, action) in [
            ("GUEST_PANICKED", "run"),
            ("WATCHDOG", "reset"),
            ("BLOCK_IO_ERROR", "report"),
            ("STOP", "pause"),
        ] {
            assert_eq!(told(name, action), None, "{name} {action}");
        }
    }
}
