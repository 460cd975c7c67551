//! Events that QEMU sends once a second at most.
//!
//! ```text
//!   open -- event: sent --> closed for 1 s -- event: held, in place of the one held before --> closed
//!                             \-- 1 s over: nothing held --> open
//!                              \- 1 s over: the held one is sent, with its old timestamp --> closed for 1 s
//! ```
//!
//! Each port, node or device has a second of its own. It is QEMU's, not a monitor's: it runs whether or not
//! anybody listens. Timestamps on the wire may thus go back.
//!
//! Source: recording `vserport-throttle`; QEMU's `monitor_qapi_event_conf` for the list.

use std::{collections::BTreeMap, time::Duration};

use crate::{qemu::Event, release::Release};

/// How long after one event the next of its kind is held back.
pub const RATE: Duration = Duration::from_secs(1);

/// Which of an event's data has a second of its own: `(event, member, since)`. No member: all share one.
const THROTTLED: [(&str, Option<&str>, Release); 9] = [
    ("RTC_CHANGE", None, Release::V5_2),
    ("WATCHDOG", None, Release::V5_2),
    ("BALLOON_CHANGE", None, Release::V5_2),
    ("QUORUM_REPORT_BAD", Some("node-name"), Release::V5_2),
    ("QUORUM_FAILURE", None, Release::V5_2),
    ("VSERPORT_CHANGE", Some("id"), Release::V5_2),
    ("MEMORY_DEVICE_SIZE_CHANGE", Some("qom-path"), Release::V5_2),
    ("BLOCK_IO_ERROR", Some("qom-path"), Release::V10_0),
    ("HV_BALLOON_STATUS_REPORT", None, Release::V10_0),
];

/// What is throttled on its own: an event, and the port, node or device it is about.
type Key = (&'static str, String);

/// A second that has not passed.
#[derive(Debug)]
struct Closed {
    until: Duration,
    held: Option<(u64, Event)>,
}

/// Decides when each event is sent.
#[derive(Debug)]
pub struct Throttle {
    release: Release,
    closed: BTreeMap<Key, Closed>,
}

impl Throttle {
    /// Nothing has been sent yet.
    pub fn new(release: Release) -> Self {
        Self { release, closed: BTreeMap::new() }
    }

    /// Takes an event: gives it back if it is to be sent now, else holds it. `sequence` is its place among all
    /// that happens.
    pub fn pass(&mut self, event: Event, sequence: u64) -> Option<Event> {
        let Some(key) = key(self.release, &event) else { return Some(event) };
        match self.closed.get_mut(&key) {
            Some(closed) if closed.held.is_some() || event.at < closed.until => {
                let first = closed.held.as_ref().map_or(sequence, |(first, _)| *first);
                closed.held = Some((first, event));
                None
            }
            _ => {
                self.closed.insert(key, Closed { until: event.at + RATE, held: None });
                Some(event)
            }
        }
    }

    /// When the next held event is sent, and its place among all that happens.
    pub fn next(&self) -> Option<(Duration, u64)> {
        self.closed
            .values()
            .filter_map(|closed| closed.held.as_ref().map(|(sequence, _)| (closed.until, *sequence)))
            .min()
    }

    /// Lets go of the event that [`Throttle::next`] told of. Its next second starts `now`.
    pub fn release_held(&mut self, now: Duration) -> Option<Event> {
        let next = self.next()?;
        let is_next = |closed: &&mut Closed| {
            closed.held.as_ref().is_some_and(|(sequence, _)| (closed.until, *sequence) == next)
        };
        let closed = self.closed.values_mut().find(is_next)?;
        closed.until = now + RATE;
        closed.held.take().map(|(_, event)| event)
    }
}

/// What an event is throttled by; nothing if it never is.
fn key(release: Release, event: &Event) -> Option<Key> {
    let (name, member, _) =
        *THROTTLED.iter().find(|(name, _, since)| *name == event.name && release >= *since)?;
    let text = |member: &str| event.data.as_ref()?.text(member);
    if name == "BLOCK_IO_ERROR" && text("action") == Some("stop") {
        return None;
    }
    Some((name, member.and_then(text).unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qobject::{QDict, qdict};

    fn port(id: &str, at: u64) -> Event {
        let data = qdict! { "open": false, "id": id.to_owned() };
        Event { at: Duration::from_millis(at), name: "VSERPORT_CHANGE", data: Some(data) }
    }

    #[test]
    fn of_three_within_a_second_the_first_and_late_the_last_are_sent() {
        let mut throttle = Throttle::new(Release::V10_0);
        assert_eq!(throttle.pass(port("p", 0), 1), Some(port("p", 0)));
        assert_eq!(throttle.pass(port("p", 10), 2), None);
        assert_eq!(throttle.pass(port("p", 18), 3), None);
        assert_eq!(throttle.next(), Some((Duration::from_secs(1), 2)));
        assert_eq!(throttle.release_held(Duration::from_secs(1)), Some(port("p", 18)));
        assert_eq!(throttle.next(), None);
        assert_eq!(throttle.pass(port("p", 1500), 4), None, "the late one starts a second of its own");
    }

    #[test]
    fn each_port_has_a_second_of_its_own() {
        let mut throttle = Throttle::new(Release::V10_0);
        assert!(throttle.pass(port("p", 0), 1).is_some());
        assert!(throttle.pass(port("q", 1), 2).is_some());
    }

    #[test]
    fn after_a_quiet_second_the_next_is_sent_at_once() {
        let mut throttle = Throttle::new(Release::V5_2);
        assert!(throttle.pass(port("p", 0), 1).is_some());
        assert!(throttle.pass(port("p", 1000), 2).is_some());
    }

    #[test]
    fn an_io_error_is_throttled_from_10_0_on_unless_it_stops_the_guest() {
        let error = |action: &'static str| {
            let data = qdict! { "qom-path": "/x", "action": action };
            Event { at: Duration::ZERO, name: "BLOCK_IO_ERROR", data: Some(data) }
        };
        let second = |release, action: &'static str| {
            let mut throttle = Throttle::new(release);
            throttle.pass(error(action), 1);
            throttle.pass(error(action), 2).is_some()
        };
        assert!(second(Release::V7_2, "report"));
        assert!(!second(Release::V10_0, "report"));
        assert!(second(Release::V10_0, "stop"));
    }

    #[test]
    fn jobs_are_never_throttled() {
        let mut throttle = Throttle::new(Release::V11_1);
        let event = Event { at: Duration::ZERO, name: "JOB_STATUS_CHANGE", data: None };
        assert!(throttle.pass(event.clone(), 1).is_some());
        assert!(throttle.pass(event, 2).is_some());
    }

    #[test]
    fn what_belongs_to_an_event_is_a_member_of_its_data() {
        assert_eq!(key(Release::V10_0, &port("p", 0)), Some(("VSERPORT_CHANGE", "p".to_owned())));
        assert_eq!(
            key(Release::V10_0, &Event { data: Some(QDict::default()), ..port("p", 0) }).unwrap().1,
            ""
        );
    }
}
