//! Every scenario of the suite on the simulator, each release that it is for: nothing is found amiss, and what was said
//! is what stands in the `.snap` file beside it.
//!
//! The files are those of `freezeframe run --update`; a difference may as well be looked at and taken over with
//! `cargo insta review`.

use std::{collections::BTreeSet, path::PathBuf};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{golden, language::Scenario, suite, transcript::render, world::sim::Simulator};
use freezeframe_sim::{Oracle, Release};
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
        settings.bind(|| insta::assert_snapshot!(golden::name(&case.path, release), render(&run.lines())));
    }
}

/// An overlay whose image names another file than it is put on would lose its disk at the next start.
#[test]
fn what_must_hold_in_any_case_is_looked_at_after_every_run() {
    let text = r#"
        id = "overlay-of-another"
        title = "An overlay is put on what its image does not name"
        why = "To see that it is found."
        machine.disks = [{ target = "vda" }, { target = "vdb" }]
        [[step]]
        qmp = { json = '{"execute":"blockdev-create","arguments":{"job-id":"a","options":{"driver":"file","filename":"o","size":0}}}' }
        [[step]]
        qmp = { json = '{"execute":"blockdev-add","arguments":{"driver":"file","node-name":"f","filename":"o"}}' }
        [[step]]
        qmp = { json = '{"execute":"blockdev-create","arguments":{"job-id":"b","options":{"driver":"qcow2","file":"f","size":512,"backing-file":"vdb.qcow2"}}}' }
        [[step]]
        qmp = { json = '{"execute":"blockdev-add","arguments":{"driver":"qcow2","node-name":"o","file":"f","backing":null}}' }
        [[step]]
        qmp = { json = '{"execute":"blockdev-snapshot","arguments":{"node":"vda","overlay":"o"}}' }
        [expect]
        jobs = ["a", "b"]
    "#;
    let scenario = Scenario::parse("overlay-of-another.toml".into(), text);
    let scenario = scenario.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let (run, _) = play(&mut Simulator::new(), &scenario, Release::V10_0, Oracle::default_order());
    assert_eq!(run.findings, ["node o stands on /images/vda.qcow2, and its image names /images/vdb.qcow2"]);
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
