//! What is passed over, on both sides: what the guest's firmware does in its own time once it has run, and the bitmaps
//! without a name in which block jobs keep what they have still to copy.
//!
//! Some time after the guest began to run, its firmware sets up the disks, turns their write cache off and may reset
//! them, which drains their nodes: jobs then rest for a moment.

use std::collections::VecDeque;

/// How a reply lists the bitmaps of a node, up to the first.
const BITMAPS: &str = "\"dirty-bitmaps\": [";

/// A line without the bitmaps that have no name, as if they were not there.
pub(super) fn without_unnamed_bitmaps(line: &str) -> String {
    let mut parts = line.split(BITMAPS);
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (bitmaps, rest) = part.split_once(']').unwrap_or((part, ""));
        let named: Vec<_> = bitmaps.split("}, {").filter(|bitmap| bitmap.contains("\"name\": ")).collect();
        if named.is_empty() {
            told = told.strip_suffix(", ").map(str::to_owned).unwrap_or(told);
            told += if told.ends_with('{') { rest.strip_prefix(", ").unwrap_or(rest) } else { rest };
        } else {
            let named = named.join("}, {");
            let (open, close) = (!named.starts_with('{'), !named.ends_with('}'));
            told += &format!("{BITMAPS}{}{named}{}]{rest}", brace(open, "{"), brace(close, "}"));
        }
    }
    told
}

fn brace(missing: bool, brace: &str) -> &str {
    if missing { brace } else { "" }
}

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
