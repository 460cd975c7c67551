//! What differs between any two runs of the same QEMU, and is therefore not compared: the one list of it.
//!
//! Only values are hidden, in the text as it was written: separators, escapes and the order of members still count.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

/// Members whose number is a clock, a size on disk, a count of the guest's own I/O and of the pages that it writes to, or
/// an id that the host gave.
///
/// Those of a migration were recorded twice on the real QEMUs to see that they vary: of a guest that is at its firmware,
/// `mbps` 53.5 and 21.0, `pages-per-second` 84,084 and 59,233, `normal` 129 and 133 (so `duplicate`, and the bytes of
/// each), `dirty-sync-count` 2 and 3, `setup-time` 0 and 92, `precopy-bytes` 676,973 and 681,068, `downtime-bytes` 0 and
/// 38,626.
pub const MEMBERS: [&str; 39] = [
    "seconds",
    "microseconds",
    "date-sec",
    "date-nsec",
    "vm-clock-sec",
    "vm-clock-nsec",
    "icount",
    "actual-size",
    "vm-state-size",
    "wr_highest_offset",
    "rd_total_time_ns",
    "wr_total_time_ns",
    "flush_total_time_ns",
    "idle_time_ns",
    "rd_bytes",
    "wr_bytes",
    "rd_operations",
    "wr_operations",
    "rd_merged",
    "wr_merged",
    "flush_operations",
    "interval_length",
    "setup-time",
    "downtime",
    "total-time",
    "expected-downtime",
    "transferred",
    "remaining",
    "pid",
    "thread-id",
    "fd",
    "mbps",
    "pages-per-second",
    "precopy-bytes",
    "downtime-bytes",
    "normal-bytes",
    "duplicate",
    "normal",
    "dirty-sync-count",
];

/// A text, and what stands for it.
struct Rule {
    found: Regex,
    told: &'static str,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |found: &str, told| Rule { found: Regex::new(found).expect("a sound expression"), told };
    let members = MEMBERS.join("|");
    vec![
        rule(&format!(r#""({members})": -?[0-9.e+]+"#), r#""$1": <number>"#),
        // The folders of the recorder, and ours.
        rule(r"\$DIR|/vm/[a-z]+(/q)?|/recorded", "<dir>"),
        rule(r"#block[0-9]+", "<node>"),
        // How long the file of an image is: with what it held beforehand, which no recording tells, and with the state of
        // a machine in it, which is not twice as long (7.2, `snap-save-running` twice: 1,441,792 and 1,376,256 bytes).
        rule(
            r#""virtual-size": [0-9]+(, "filename": "(\\.|[^"\\])*"(, "cluster-size": [0-9]+)?, "format": "(file|blkdebug)")"#,
            r#""virtual-size": <number>$1"#,
        ),
        // In which line 11.1 cannot parse something: the recorder did not keep every line end.
        rule(r#""desc": "[0-9]+:([0-9]+: )"#, r#""desc": "<line>:$1"#),
        // The same numbers in the human monitor's words, and where it shows them in columns of their own width.
        rule(r"\b(thread_id|(rd|wr|flush|idle)_[a-z_]+)=[0-9]+", "$1=<number>"),
        rule(r"\b(Read|Write|Flush):( +[0-9]+)+", "$1: <numbers>"),
        rule(r"disk size: [0-9.]+ [KMG]?i?B", "disk size: <number>"),
        // Tags that `savevm` makes of the time.
        rule(r"vm-[0-9]{14}", "vm-<date>"),
    ]
});

/// The table that the human monitor's `info snapshots` prints holds sizes, dates and clocks.
const TABLE: &str = "ICOUNT";

/// Those columns of it.
static COLUMNS: LazyLock<Regex> = LazyLock::new(|| {
    let (size, date, clock) =
        ("[0-9.]+ [KMG]?i?B", "[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}", "[0-9:]{8,}[.][0-9]{3}");
    Regex::new(&format!("{size} +{date} +{clock}")).expect("a sound expression")
});

static DIGITS: LazyLock<Regex> = LazyLock::new(|| Regex::new("[0-9.]").expect("a sound expression"));

/// A line with placeholders.
pub fn comparable(line: &str) -> String {
    let mut text = line.trim_end().to_owned();
    for Rule { found, told } in RULES.iter() {
        text = found.replace_all(&text, *told).into_owned();
    }
    if text.contains(TABLE) {
        let hidden = |row: &Captures<'_>| DIGITS.replace_all(&row[0], "#").into_owned();
        text = COLUMNS.replace_all(&text, hidden).into_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_folders_are_hidden_and_the_rest_stays() {
        let event = r#"{"timestamp": {"seconds": 17, "microseconds": 4}, "event": "STOP", "data": {"x": 3, "f": "$DIR/a"}}"#;
        assert_eq!(
            comparable(event),
            r#"{"timestamp": {"seconds": <number>, "microseconds": <number>}, "event": "STOP", "data": {"x": 3, "f": "<dir>/a"}}"#
        );
    }

    #[test]
    fn of_a_table_of_snapshots_sizes_and_times_are_hidden() {
        let row =
            |tag: &str, rest: &str| format!("ID TAG VM_SIZE DATE VM_CLOCK ICOUNT\\r\\n--      {tag} {rest}");
        let (one, other) = (
            "848 KiB 2026-11-20 22:11:20  0000:00:00.605         --",
            "1.2 KiB 2026-11-20 22:13:45  0000:00:01.112         --",
        );
        assert_eq!(comparable(&row("s1", one)), comparable(&row("s1", other)));
        assert_ne!(comparable(&row("s1", one)), comparable(&row("s2", one)));
    }

    #[test]
    fn separators_and_escapes_are_compared() {
        assert_ne!(comparable(r#"{"a":1}"#), comparable(r#"{"a": 1}"#));
        assert_ne!(comparable(r#"{"a": "\u00e9"}"#), comparable(r#"{"a": "\u00E9"}"#));
    }
}
