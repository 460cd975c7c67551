//! Every scenario of the suite on the simulator, each release that it is for: nothing is found amiss, and what was said
//! is what stands in the `.snap` file beside it.
//!
//! The files are those of `freezeframe run --update`; a difference may as well be looked at and taken over with
//! `cargo insta review`.

use std::{collections::BTreeSet, path::PathBuf};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{golden, suite, transcript::render, world::sim::Simulator};
use freezeframe_sim::Oracle;
use freezeframe_tests::{play, suite, suite_folder};
use rstest::rstest;

#[rstest]
fn plays_as_expected(#[files("../scenarios/suite/**/*.toml")] path: PathBuf) {
    let path = Utf8PathBuf::from_path_buf(path).expect("paths of the suite are UTF-8");
    let case = suite::load(&[path], None).unwrap_or_else(|error| panic!("{error}")).remove(0);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(case.path.parent().expect("a file is in a folder"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut simulator = Simulator::new();
    for release in case.releases() {
        let (run, _) = play(&mut simulator, &case.scenario, release, Oracle::default_order());
        assert_eq!(run.findings, [""; 0], "{release}");
        settings.bind(|| insta::assert_snapshot!(golden::name(&case.path, release), render(&run.lines)));
    }
}

#[test]
fn every_expected_transcript_belongs_to_a_scenario() {
    let belongs: BTreeSet<_> = suite()
        .iter()
        .flat_map(|case| {
            let snap = |release| format!("{}.snap", golden::name(&case.path, release));
            case.releases().map(|release| case.path.with_file_name(snap(release))).collect::<Vec<_>>()
        })
        .collect();
    let orphans: Vec<_> = snaps(suite_folder()).into_iter().filter(|snap| !belongs.contains(snap)).collect();
    assert_eq!(orphans, [""; 0], "no scenario on any release reads these");
}

/// The expected transcripts in a folder and those below it.
fn snaps(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8().expect("the suite's folder can be read") {
        let path = entry.expect("the suite's folder can be read").into_path();
        if path.is_dir() {
            found.extend(snaps(&path));
        } else if path.extension() == Some("snap") {
            found.push(path);
        }
    }
    found
}
