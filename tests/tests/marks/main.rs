//! Every way in which the driver can fail ([`freezeframe_driver::mark`]) is taken by a named scenario, or it stands in a list with the reason why
//! none takes it. A way that is taken, or is none any more, may not stand there.

#![allow(clippy::print_stdout, reason = "how many there are, with `--nocapture`")]

mod unreached;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
};

use camino::Utf8Path;
use freezeframe::{suite::Case, world::sim::Simulator};
use freezeframe_driver::mark;
use freezeframe_sim::Oracle;
use freezeframe_tests::{play, suite};
use unreached::{CANNOT, NOT_YET, Unreached};

/// The marks that scenarios reach as they are written, on every release that they are for, each with the first that does.
fn reached_by(cases: &[Case]) -> BTreeMap<&'static str, String> {
    let (mut simulator, mut reached) = (Simulator::new(), BTreeMap::new());
    mark::take();
    for case in cases {
        for release in case.releases() {
            play(&mut simulator, &case.scenario, release, Oracle::default_order());
            for mark in mark::take() {
                reached.entry(mark).or_insert_with(|| format!("{} on {release}", case.scenario.id));
            }
        }
    }
    reached
}

/// The same of the whole suite, on two threads.
fn reached() -> BTreeMap<&'static str, String> {
    let cases = suite();
    let (first, second) = cases.split_at(cases.len() / 2);
    thread::scope(|scope| {
        let second = scope.spawn(|| reached_by(second));
        let mut reached = reached_by(first);
        for (mark, id) in second.join().expect("the suite is played") {
            reached.entry(mark).or_insert(id);
        }
        reached
    })
}

/// All marks, each once.
fn all() -> BTreeSet<&'static str> {
    let marks = mark::all();
    let all: BTreeSet<_> = marks.iter().copied().collect();
    assert_eq!(all.len(), marks.len(), "two marks have one name");
    all
}

/// The marks that a list names: `BadXml::*` is every one of that enum.
fn named(list: &[Unreached], all: &BTreeSet<&'static str>) -> Vec<&'static str> {
    let mut named = Vec::new();
    for entry in list.iter().flat_map(|unreached| unreached.marks) {
        let fits = |mark: &&str| match entry.strip_suffix('*') {
            Some(start) => mark.starts_with(start),
            None => mark == entry,
        };
        let fitting: Vec<_> = all.iter().copied().filter(fits).collect();
        assert!(!fitting.is_empty(), "`{entry}` is listed, and there is no such mark");
        named.extend(fitting);
    }
    named
}

#[test]
fn every_way_to_fail_is_taken_by_a_scenario() {
    let (all, reached) = (all(), reached());
    for (mark, id) in &reached {
        println!("{mark}: {id}");
    }
    let (cannot, not_yet) = (named(CANNOT, &all), named(NOT_YET, &all));
    println!(
        "{} marks: {} reached, {} that no scenario can reach, {} that none reaches yet",
        all.len(),
        reached.len(),
        cannot.len(),
        not_yet.len()
    );
    let mut listed = BTreeSet::new();
    let twice: Vec<_> = cannot.iter().chain(&not_yet).filter(|mark| !listed.insert(**mark)).collect();
    assert_eq!(twice, [&""; 0], "these are listed twice");
    let unknown: Vec<_> = reached.keys().filter(|mark| !all.contains(*mark)).collect();
    assert_eq!(unknown, [&""; 0], "these are reached, and are not among all the marks");
    let stale: Vec<_> = reached
        .iter()
        .filter(|(mark, _)| listed.contains(*mark))
        .map(|(mark, id)| format!("{mark}: {id}"))
        .collect();
    assert_eq!(
        stale, [""; 0],
        "these are listed as never reached, and a scenario does: strike them off tests/tests/marks/unreached.rs"
    );
    let never: Vec<_> =
        all.iter().filter(|mark| !reached.contains_key(*mark) && !listed.contains(*mark)).collect();
    assert_eq!(
        never, [&""; 0],
        "no scenario reaches these: write one that does, or list them in tests/tests/marks/unreached.rs and say why none can"
    );
}

/// A test that is said to take such a way is there.
#[test]
fn what_is_said_to_be_tested_elsewhere_is() {
    for Unreached { marks, why, test } in CANNOT.iter().chain(NOT_YET) {
        assert!(!marks.is_empty() && !why.is_empty(), "a reason for some: {marks:?}: {why}");
        let Some((file, name)) = test.split_once("::") else {
            assert_eq!(*test, "", "{marks:?}: a test is `file::name`");
            continue;
        };
        let path = Utf8Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file);
        #[expect(clippy::disallowed_methods, reason = "the tests' own source")]
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(&format!("fn {name}(")), "{marks:?}: no test `{name}` in {file}");
    }
}
