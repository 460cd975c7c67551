//! Lanes: the lines that keep their order among themselves.
//!
//! | lane | lines |
//! | --- | --- |
//! | `replies` | the greeting, replies, errors of the protocol |
//! | `job <id>` | the events of one job |
//! | `run state` | whether the guest runs, and the machine's power |
//! | any other event's name | that event: throttled ones and those of migration come when they will |
//!
//! How lanes interleave varies in real QEMU and is not compared.

use std::collections::BTreeMap;

use serde_json::Value;

use super::placeholder::comparable;

/// The lines of each lane, comparable.
pub type Lanes = BTreeMap<String, Vec<String>>;

/// Events of the lane `run state`.
const RUN_STATE: [&str; 6] = ["STOP", "RESUME", "RESET", "POWERDOWN", "SHUTDOWN", "SUSPEND"];

/// Sorts what was said into lanes.
pub fn lanes<'a>(said: impl Iterator<Item = &'a String>) -> Lanes {
    let mut lanes = Lanes::new();
    for line in said {
        lanes.entry(lane(line)).or_default().push(comparable(line));
    }
    lanes
}

/// The lane of a line.
pub fn lane(line: &str) -> String {
    let Ok(message) = serde_json::from_str::<Value>(line) else { return "replies".to_owned() };
    let Some(event) = message["event"].as_str() else { return "replies".to_owned() };
    if event.starts_with("JOB_") || event.starts_with("BLOCK_JOB_") {
        let data = &message["data"];
        let id = data["id"].as_str().or(data["device"].as_str()).unwrap_or_default();
        return format!("job {id}");
    }
    if RUN_STATE.contains(&event) { "run state".to_owned() } else { event.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_one_lane_for_both_kinds_of_its_events() {
        assert_eq!(
            lane(r#"{"event": "JOB_STATUS_CHANGE", "data": {"status": "ready", "id": "m"}}"#),
            "job m"
        );
        assert_eq!(lane(r#"{"event": "BLOCK_JOB_READY", "data": {"device": "m"}}"#), "job m");
    }

    #[test]
    fn what_cannot_be_parsed_is_a_reply() {
        assert_eq!(lane(r#"{"return": {}, "id": inf}"#), "replies");
    }
}
