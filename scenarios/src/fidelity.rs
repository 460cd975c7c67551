//! How faithful the simulator is to recordings of real QEMU, counted line by line.
//!
//! ```text
//! recording --> machine of its arguments --> replay over the whole wire --> lanes --> compare --> tally
//!                                                                                       |
//!                                                           placeholders, known differences
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`recording`] | one monitor's traffic as it was recorded, and the folders of recordings |
//! | [`files`] | what the recorder had put on the host beforehand |
//! | [`replay`] | says to the simulator what the recorded client said |
//! | [`live`] | says it to a real QEMU, and so makes the recording anew |
//! | [`placeholder`] | what no two runs share, and is therefore not compared |
//! | [`lane`] | which lines keep their order among themselves |
//! | [`compare`] | line for line: equal, explained, differs, not simulated |
//! | [`guest_time`] | how long the guest had run, for what varies only at first |
//! | [`known`] | the differences that are known, each with its reason |
//! | [`report`] | the sums per release and area |
//!
//! It compares what QEMU says, not when: time only decides when the recorded client speaks.

pub mod compare;
pub mod files;
pub mod guest_time;
pub mod known;
pub mod lane;
pub mod live;
pub mod placeholder;
pub mod recording;
pub mod replay;
pub mod report;

use std::collections::BTreeMap;

use freezeframe_sim::{Release, host::Host};

use compare::{Outcome, compare};
use known::Known;
use lane::lanes;
use recording::Recording;
use report::Report;

/// Replays every recording and holds what the simulator says against it.
///
/// A recording's files are those that its [source](Recording::source_among) left.
pub fn measure(recordings: &[Recording], mut known: Known) -> Report {
    let mut report = Report::default();
    let mut left_behind: BTreeMap<(Release, &str), Host> = BTreeMap::new();
    let (sources, others): (Vec<_>, Vec<_>) = recordings.iter().partition(|recording| recording.is_source());
    for recording in sources.into_iter().chain(others) {
        let family = (recording.release, recording.family());
        let mut assumed = Vec::new();
        let outcomes = match replay::machine(recording) {
            Err(unknown) => not_simulated(recording, &unknown.to_string()),
            Ok(machine) => {
                assumed = files::assumed(recording, &machine);
                let replayed = replay::replay(recording, &machine, left_behind.get(&family));
                if recording.is_source() {
                    left_behind.insert(family, replayed.host);
                }
                compare(recording, &lanes(recording.said()), &lanes(replayed.said.iter()), &mut known)
            }
        };
        report.add(recording, outcomes, assumed);
    }
    report.stale = known.stale(recordings);
    report
}

/// How far a recording and one made anew of the same client say the same: the real QEMU held against itself, with no
/// difference explained.
pub fn repeated(recording: &Recording, anew: &Recording) -> Vec<Outcome> {
    compare(recording, &lanes(recording.said()), &lanes(anew.said()), &mut Known::default())
}

/// Every line of a recording whose machine the simulator cannot be.
fn not_simulated(recording: &Recording, reason: &str) -> Vec<Outcome> {
    recording.said().map(|_| Outcome::NotSimulated { what: reason.to_owned() }).collect()
}
