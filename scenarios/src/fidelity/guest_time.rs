//! How long the guest had run since it last began to boot, as far as a recording tells.
//!
//! ```text
//! start, RESET -> counts from zero      STOP -> stands still, as before the first RESUME of `-S`      RESUME -> goes on
//! ```
//! What the guest's firmware does depends on it, and is done with soon: what varies with the host's speed then, varies no
//! more later.

use std::time::Duration;

use serde_json::Value;

use super::{
    lane::lane,
    recording::{Recording, Speaker},
};

/// For each line of a lane, how long the guest had run when it came.
pub fn guest_times(recording: &Recording, of_lane: &str) -> Vec<Duration> {
    let waits = ["-S", "-incoming"];
    let mut running = !recording.arguments.split_ascii_whitespace().any(|word| waits.contains(&word));
    let (mut ran, mut since) = (Duration::ZERO, Duration::ZERO);
    let mut times = Vec::new();
    for line in recording.lines.iter().filter(|line| line.speaker == Speaker::Server) {
        let now = if running { ran + line.at.saturating_sub(since) } else { ran };
        if lane(&line.text) == of_lane {
            times.push(now);
        }
        let message = serde_json::from_str::<Value>(&line.text).unwrap_or_default();
        match message["event"].as_str() {
            Some("RESET") => (ran, since) = (Duration::ZERO, line.at),
            Some(event @ ("STOP" | "RESUME")) => {
                (ran, since) = (now, line.at);
                running = event == "RESUME";
            }
            _ => {}
        }
    }
    times
}

#[cfg(test)]
mod tests {
    use freezeframe_sim::Release;

    use super::*;
    use crate::fidelity::recording::Line;

    fn recording(arguments: &str, lines: &[(u64, &str)]) -> Recording {
        let line = |&(at, event): &(u64, &str)| Line {
            at: Duration::from_millis(at),
            speaker: Speaker::Server,
            text: format!(r#"{{"event": "{event}"}}"#),
        };
        let lines = lines.iter().map(line).collect();
        Recording { release: Release::V10_0, name: "a".into(), arguments: arguments.into(), lines }
    }

    #[test]
    fn the_guests_time_stands_still_while_it_does_and_begins_anew_with_a_reset() {
        let said = [(5, "a"), (10, "STOP"), (50, "a"), (60, "RESUME"), (65, "a"), (70, "RESET"), (71, "a")];
        let times = |arguments| {
            let times = guest_times(&recording(arguments, &said), "a");
            times.iter().map(Duration::as_millis).collect::<Vec<_>>()
        };
        assert_eq!(times("-m 64"), [5, 10, 15, 1]);
        assert_eq!(times("-m 64 -S"), [0, 0, 5, 1]);
    }
}
