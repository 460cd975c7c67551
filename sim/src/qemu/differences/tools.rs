//! How the releases' `qemu-img` differ.

use std::time::Duration;

use crate::Release;

impl Release {
    /// A new image whose backing file's format is not stated: the hint behind the refusal, or none where it is only
    /// warned of.
    pub(crate) fn refuses_backing_without_format(self, probed: &str) -> Option<String> {
        match self {
            Release::V5_2 => None,
            Release::V7_2 => Some(format!("Detected format of {probed}.")),
            _ => Some(format!("Detected format of {probed}.\n")),
        }
    }

    /// What is said of a backing file that is written into a header without its format; nothing where that is refused.
    pub(crate) fn rebase_without_format(self) -> Option<&'static str> {
        match self {
            Release::V5_2 => Some(
                "warning: Deprecated use of backing file without explicit backing format, use of \
                                 this image requires potentially unsafe format probing",
            ),
            _ => None,
        }
    }

    /// Why an image of a format without snapshots gets none.
    pub(crate) fn unsupported_snapshot(self) -> &'static str {
        match self {
            Release::V5_2 | Release::V7_2 => "-95 (Operation not supported)",
            _ => "Operation not supported",
        }
    }

    /// Whether `info` tells of the file below an image too.
    pub(crate) fn image_info_has_children(self) -> bool {
        self >= Release::V10_0
    }

    /// The head of the list of an image's snapshots.
    pub(crate) fn head_of_listed_snapshots(self) -> &'static str {
        if self < Release::V10_0 {
            "ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT\n"
        } else {
            "ID      TAG               VM_SIZE                DATE        VM_CLOCK     ICOUNT\n"
        }
    }

    /// A line of that list: id, name and size of the state, then when it was taken and how long the guest had run.
    pub(crate) fn listed_snapshot(
        self,
        [id, name, size]: [&str; 3],
        date: &str,
        clock: Duration,
        icount: Option<u64>,
    ) -> String {
        let (seconds, ms) = (clock.as_secs(), clock.subsec_millis());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let icount = icount.map(|count| count.to_string());
        if self < Release::V10_0 {
            let clock = format!("{hours:02}:{minutes:02}:{seconds:02}.{ms:03}");
            let icount = icount.unwrap_or_default();
            format!("{id:<10}{name:<17}{size:>8} {date}{clock:>13}{icount:>11}\n")
        } else {
            let clock = format!("{hours:04}:{minutes:02}:{seconds:02}.{ms:03}");
            let icount = icount.unwrap_or_else(|| "--".to_owned());
            format!("{id:<7} {name:<16} {size:>8} {date:>19} {clock:>15} {icount:>10}\n")
        }
    }
}
