//! The fidelity report: what it counts, and that it finds what it must.

use std::time::Duration;

use freezeframe::fidelity::{
    known::Known,
    measure,
    recording::{self, Recording, Speaker},
    report::{Claim, Report, Tally},
};
use freezeframe_sim::Release;
use rstest::rstest;

fn recordings(release: Release) -> Vec<Recording> {
    recording::read_all(&recording::own(), Some(release)).unwrap()
}

fn one(name: &str) -> Recording {
    recordings(Release::V10_0).into_iter().find(|recording| recording.name == name).unwrap()
}

fn measure_one(recording: Recording) -> Report {
    measure(&[recording], Known::default())
}

#[rstest]
fn the_recordings_that_are_kept_here_are_repeated(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let report = measure(&recordings(release), Known::own());
    let findings = report.findings(Claim::default());
    assert!(findings.is_empty(), "{findings:#?}\n{}", report.lines().join("\n"));
    let Tally { equal, not_simulated, .. } = report.total();
    assert!(equal > 1_500 && not_simulated == 0, "{}", report.total());
}

#[test]
fn the_whole_wire_is_compared_from_the_greeting_to_the_last_event() {
    let recording = one("snap-save-running");
    let lines = recording.said().count();
    let total = measure_one(recording).total();
    assert_eq!(total, Tally { equal: lines, ..Tally::default() });
}

#[test]
fn one_byte_that_is_not_as_recorded_is_found() {
    let mut recording = one("snap-save-running");
    let reply = recording.lines.iter_mut().find(|line| line.text.contains("\"return\": {}")).unwrap();
    reply.text = reply.text.replace("\": {}", "\":{}");
    let report = measure_one(recording);
    assert_eq!(report.total().differ, 1);
    assert_eq!(report.measured[0].differences[0].lane, "replies");
}

#[test]
fn a_line_that_only_the_simulator_says_is_found() {
    let mut recording = one("snap-save-running");
    recording.lines.retain(|line| !line.text.contains("\"event\": \"RESUME\""));
    let report = measure_one(recording);
    let first = &report.measured[0].differences[0];
    assert_eq!((first.lane.as_str(), first.recorded.as_deref()), ("run state", None));
    assert!(first.simulated.as_deref().unwrap().contains("RESUME"));
}

#[test]
fn times_and_folders_make_no_difference() {
    let mut recording = one("snap-save-running");
    for line in recording.lines.iter_mut().filter(|line| line.speaker == Speaker::Server) {
        line.text = line.text.replace("\"seconds\": 1", "\"seconds\": 2").replace("$DIR", "/vm/abc");
    }
    assert!(measure_one(recording).findings(Claim::default()).is_empty());
}

#[test]
fn a_machine_that_cannot_be_simulated_counts_with_its_reason() {
    let mut recording = one("snap-save-running");
    recording.arguments.push_str(" -incoming tcp:0:1");
    let lines = recording.said().count();
    let report = measure_one(recording);
    assert_eq!(report.total(), Tally { not_simulated: lines, ..Tally::default() });
    let reasons: Vec<_> = report.measured[0].not_simulated.keys().collect();
    assert_eq!(reasons, ["a machine with `-incoming tcp:0:1`"]);
}

#[test]
fn a_known_difference_that_is_none_any_more_is_a_finding() {
    let quit = one("quit");
    let entry = "[[difference]]\nreason = \"long gone\"\nlane = \"replies\"\nrecorded = \"gone\"\n";
    let known = format!("{entry}seen-in = [\"{}\"]\n", quit.id());
    let findings = measure(&[quit], Known::parse(&known).unwrap()).findings(Claim::default());
    assert!(findings[0].starts_with("known difference that is none any more: long gone"), "{findings:?}");
}

#[test]
fn what_is_let_pass_is_listed_with_its_reason() {
    let report = measure(&[one("commit-active")], Known::own());
    let explained = &report.measured[0].explained;
    assert_eq!(explained.len(), report.total().explained);
    let reason = &explained.first().expect("its job rests for a moment").reason;
    let told = report.lines().into_iter().find(|line| line.contains(reason.as_str())).unwrap();
    assert!(told.contains("commit-active: 2 explained: "), "{told}");
}

/// What varies with the host's speed while the guest's firmware is at work is no excuse for what comes later.
#[rstest]
#[case(Release::V11_1, "commit-mid", "the write cache of a disk that the firmware had not set up yet", 1)]
#[case(Release::V7_2, "commit-active", "a job that rested while it set the disk up", 2)]
#[case(Release::V5_2, "commit-mid", "likewise", 2)]
fn what_varies_at_first_differs_later(
    #[case] release: Release,
    #[case] name: &str,
    #[case] what: &str,
    #[case] differ: usize,
) {
    let mut recording = recordings(release).into_iter().find(|recording| recording.name == name).unwrap();
    let total = measure(std::slice::from_ref(&recording), Known::own()).total();
    assert_eq!((total.explained, total.differ), (differ, 0), "{what}");
    recording.lines.iter_mut().skip(1).for_each(|line| line.at += Duration::from_secs(3));
    let total = measure(&[recording], Known::own()).total();
    assert_eq!((total.explained, total.differ), (0, differ), "{what}, three seconds later");
}

#[test]
fn one_recording_by_itself_needs_none_of_the_others() {
    let report = measure(&[one("quit")], Known::own());
    assert!(report.findings(Claim::default()).is_empty(), "{:?}", report.stale);
}

#[test]
fn another_recording_of_the_same_name_need_not_show_what_this_one_did() {
    let mut anew = one("commit-active");
    for line in anew.lines.iter_mut().filter(|line| line.speaker == Speaker::Server) {
        line.text = line.text.replace("\"seconds\": 1", "\"seconds\": 2");
    }
    let rests = |line: &recording::Line| {
        line.text.contains("\"standby\"")
            || line.text.contains("\"ready\"") && line.text.contains("JOB_STATUS")
    };
    let first_ready = anew.lines.iter().position(&rests).unwrap();
    let mut index = 0;
    anew.lines.retain(|line| {
        index += 1;
        index - 1 <= first_ready || !rests(line)
    });
    let report = measure(&[anew], Known::own());
    assert_eq!(report.total().explained, 0);
    assert!(report.stale.is_empty(), "{:?}", report.stale);
}
