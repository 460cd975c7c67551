//! What is passed over, on both sides: what the guest's firmware does in its own time once it has run, and how often a job
//! rests.
//!
//! Some time after the guest began to run, its firmware sets up the disks, turns their write cache off and may reset
//! them, which drains their nodes: jobs then rest for a moment. A command drains them too, and a real QEMU says one and
//! the same of them once, twice or four times (a reset beside a ready mirror, for one): recordings and the walk hold how
//! often it may be, here only that a job goes on as it was.

use std::collections::VecDeque;

/// Whether a line tells of a reset that the guest has asked for.
pub(super) fn is_reset_by_guest(line: &str) -> bool {
    line.contains("\"reason\": \"guest-reset\"")
}

/// A line in which no write cache is off.
pub(super) fn with_write_cache(line: &str) -> String {
    let line = line.replace("\"writeback\": false", "\"writeback\": true");
    line.replace("Cache mode:       writethrough", "Cache mode:       writeback")
}

/// Takes a job's rests away at the front of its lane.
pub(super) fn skip_rests(lane: &mut VecDeque<String>) {
    let says = |line: Option<&String>, status: &str| {
        line.is_some_and(|line| line.contains(&format!("{{\"status\": \"{status}\"")))
    };
    let rests = |lane: &VecDeque<String>| {
        let (first, second) = (lane.front(), lane.get(1));
        says(first, "paused") && says(second, "running") || says(first, "standby") && says(second, "ready")
    };
    while rests(lane) {
        lane.drain(..2);
    }
}
