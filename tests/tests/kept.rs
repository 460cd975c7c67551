//! What random commands have found and was kept: that its replay finds what it must.

use camino::Utf8Path;
use freezeframe::fidelity::{
    known::Known,
    recording::{self, Recording, Speaker},
};
use freezeframe_sim::Release;
use freezeframe_tests::differential::kept;

fn one(release: Release, name: &str) -> Recording {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/kept");
    let recordings = recording::read_all(&folder, Some(release)).unwrap();
    recordings.into_iter().find(|recording| recording.name == name).unwrap()
}

#[test]
fn another_word_of_the_real_program_is_found() {
    let mut recording = one(Release::V10_0, "stream-pending");
    assert_eq!(kept::replay(&recording, &mut Known::default()), Ok(()));
    let refused = recording.lines.iter_mut().find(|line| line.text.contains("Need a root block node"));
    let refused = refused.unwrap();
    refused.text = refused.text.replace("root", "leaf");
    let failure = kept::replay(&recording, &mut Known::default()).unwrap_err();
    assert_eq!(failure.difference.lane, "replies");
    assert!(failure.difference.simulated.unwrap().contains("Need a root block node"));
}

#[test]
fn a_program_that_ended_is_no_program_that_goes_on() {
    let mut recording = one(Release::V7_2, "stream-of-overlay-undismissed");
    assert_eq!(kept::replay(&recording, &mut Known::default()), Ok(()));
    let last = recording.lines.last().unwrap().clone();
    let text = "{\"return\": []}".to_owned();
    recording.lines.push(recording::Line { speaker: Speaker::Server, text, ..last });
    assert!(kept::replay(&recording, &mut Known::default()).is_err());
}

#[test]
fn a_known_difference_explains_only_what_it_is_for() {
    let mut recording = one(Release::V5_2, "backup-checks-its-source-first");
    let refused = recording.lines.iter_mut().find(|line| line.text.contains("backup-top filter")).unwrap();
    refused.text = refused.text.replace("Cannot set", "Never set");
    assert!(kept::replay(&recording, &mut Known::default()).is_err());
    let known = |recorded: &str| {
        let of = "reason = \"for the test\"\nreleases = [\"5.2\"]\nlane = \"replies\"";
        let simulated = "simulated = \"Cannot set permissions\"";
        Known::parse(&format!("[[difference]]\n{of}\nrecorded = \"{recorded}\"\n{simulated}\n")).unwrap()
    };
    assert_eq!(kept::replay(&recording, &mut known("Never set permissions")), Ok(()));
    assert!(kept::replay(&recording, &mut known("Never get permissions")).is_err());
}
