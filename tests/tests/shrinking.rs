//! What sweep and explore find becomes the smallest scenario file that shows it. Mistakes are planted in the driver, found, shrunk,
//! written and read back: the file shows the same with the mistake and nothing without, and no part of it can be left out.

#![allow(clippy::print_stdout, reason = "how small each has become, with `--nocapture`")]
#![allow(clippy::disallowed_methods, reason = "what is kept is written into a folder of the test's own")]

use std::rc::Rc;

use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum as _;
use freezeframe::{
    explore::{self, Subject},
    language::{Fault, Invariant, Scenario},
    regression,
    shrink::{self, Kept, Small},
    suite::{self, Case},
    sweep::{self, Kind},
    world::sim::Simulator,
};
use freezeframe_driver::mutant::{self, Mutant};
use freezeframe_sim::{
    Oracle, Release,
    oracle::{Deviation, Question, Trace},
};
use freezeframe_tests::suite;
use rstest::rstest;
use toml::{Table, Value};

const RELEASE: Release = Release::V10_0;

/// Looks for something that does not hold: with which faults, in which order, and what.
type Find = fn(&mut Simulator, &Scenario) -> Option<(Vec<Fault>, Trace, Invariant)>;

fn case(id: &str) -> Case {
    suite().into_iter().find(|case| case.scenario.id == id).expect("a scenario of the suite")
}

/// What is found first by one fault at one point, in the usual order.
fn swept(simulator: &mut Simulator, scenario: &Scenario) -> Option<(Vec<Fault>, Trace, Invariant)> {
    let survey = Rc::new(sweep::survey(simulator, scenario, RELEASE).expect("it is played"));
    if let Some(first) = survey.violations.first() {
        return Some((Vec::new(), Trace::default(), first.invariant));
    }
    let faults: Vec<_> = sweep::single_faults(scenario, &survey.places, Kind::value_variants()).collect();
    faults.into_iter().find_map(|fault| {
        let faults = vec![fault];
        let outcome = sweep::run(simulator, scenario, RELEASE, &survey, &faults).expect("it is played");
        let first = outcome.violations.first()?;
        Some((faults, Trace::default(), first.invariant))
    })
}

/// What is found first in another order, without a fault.
fn explored(simulator: &mut Simulator, scenario: &Scenario) -> Option<(Vec<Fault>, Trace, Invariant)> {
    let survey = Rc::new(sweep::survey(simulator, scenario, RELEASE).expect("it is played"));
    let subject = Subject::new(scenario, RELEASE, survey, &[]);
    let usual = explore::play(simulator, &subject, Oracle::default_order().keeping_questions());
    assert_eq!(usual.findings, [], "it takes another order");
    let others = usual.oracle.questions().iter().flat_map(|question| {
        let Question { label, occurrence, ways } = *question;
        (1..ways).map(move |value| Deviation { label: label.into(), occurrence, value })
    });
    others.map(|deviation| Trace::from_iter([deviation])).find_map(|trace| {
        let played = explore::play(simulator, &subject, Oracle::replay(trace.clone()));
        Some((Vec::new(), trace, played.findings.first()?.shows))
    })
}

/// Whether a text is a scenario that shows it as a finding is to be shown: with what was added, and not without.
fn shows(simulator: &mut Simulator, text: &str, what: Invariant) -> bool {
    let Ok(scenario) = Scenario::parse(Utf8Path::new("regression.toml"), text) else { return false };
    let played = regression::play(simulator, &scenario, RELEASE, None);
    let (mut usual, added) = scenario.without_what_was_added();
    usual.regression = None;
    let is_added = !added.is_empty() || !scenario.schedule.is_empty();
    played.shows(what)
        && played.stale.is_empty()
        && (!is_added || regression::play(simulator, &usual, RELEASE, None).findings.is_empty())
}

/// Every text that has one step, fault, choice of the order or disk less.
fn smaller(text: &str) -> Vec<(String, String)> {
    let table: Table = text.parse().expect("it is TOML");
    let lists = [vec!["step"], vec!["fault"], vec!["schedule"], vec!["machine", "disks"]];
    let mut smaller = Vec::new();
    for list in lists {
        fn items<'t>(table: &'t mut Table, list: &[&str]) -> Option<&'t mut Vec<Value>> {
            match list {
                [last] => table.get_mut(*last)?.as_array_mut(),
                [first, rest @ ..] => items(table.get_mut(*first)?.as_table_mut()?, rest),
                [] => None,
            }
        }
        let many = items(&mut table.clone(), &list).map_or(0, |items| items.len());
        for number in 0..many {
            let mut less = table.clone();
            items(&mut less, &list).expect("it was there").remove(number);
            smaller
                .push((format!("{} {number}", list.join(".")), toml::to_string(&less).expect("it is TOML")));
        }
    }
    smaller
}

fn text_of(path: &Utf8Path) -> String {
    std::fs::read_to_string(path).expect("it was written")
}

/// Keeps it in an empty folder, and returns the file.
fn kept(small: &Small) -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let below = Utf8Path::from_path(folder.path()).expect("paths are UTF-8").join("regressions");
    let Ok(Kept::Written(path)) = shrink::keep(&below, small) else { panic!("it is not written") };
    (folder, path)
}

#[rstest]
#[case::silence(Mutant::TakesSilenceForRefusal, "external/two-disks", swept)]
#[case::one_by_one(Mutant::SwitchesOneByOne, "external/two-disks", swept)]
#[case::forgotten(Mutant::ForgetsWhatRanBeside, "external/two-disks", swept)]
#[case::frozen(Mutant::TakesSilentFreezeForNone, "quiesce/two-disks", swept)]
#[case::in_another_order(Mutant::TakesNothingOfNothingForDone, "delete/children-external", explored)]
fn a_finding_becomes_a_file_of_which_no_part_can_be_left_out(
    #[case] mutant: Mutant,
    #[case] id: &str,
    #[case] find: Find,
) {
    let case = case(id);
    let text = text_of(&case.path);
    let mut simulator = Simulator::new();
    mutant::plant(Some(mutant));
    let (faults, order, what) = find(&mut simulator, &case.scenario).expect("it is found");
    let found = shrink::Found {
        text: &text,
        release: RELEASE,
        faults: &faults,
        order: &order,
        shows: what,
        by: "sweep",
    };
    let small = shrink::shrink(&mut simulator, &found).expect("a scenario shows it");
    let (_folder, path) = kept(&small);
    let written = text_of(&path);
    println!("{mutant:?} in {id}, {} tries:\n{written}", small.tries);

    let read = suite::load(std::slice::from_ref(&path), None).unwrap_or_else(|error| panic!("{error}"));
    let scenario = &read[0].scenario;
    let with = regression::play(&mut simulator, scenario, RELEASE, None);
    assert!(with.shows(what), "{:?}", with.findings);
    assert_eq!(with.stale, [""; 0]);
    assert!(shows(&mut simulator, &written, what));
    let needless: Vec<_> = smaller(&written)
        .into_iter()
        .filter(|(_, text)| shows(&mut simulator, text, what))
        .map(|(part, _)| part)
        .collect();
    mutant::plant(None);
    assert_eq!(needless, [""; 0], "nobody needs these of\n{written}");

    let without = regression::play(&mut simulator, scenario, RELEASE, None);
    assert_eq!(without.findings, [], "a sound driver passes");
    let names = [scenario.id.as_str(), path.file_name().unwrap_or_default()];
    assert!(names.iter().all(|name| name.starts_with(&id.replace('/', "-"))), "{names:?}");
    assert!(path.as_str().ends_with(&format!("-10.0-{}.toml", what.name())), "{path}");
    assert!(written.contains(&format!("freezeframe run {path} --release 10.0")), "{written}");
}

#[test]
fn a_file_that_is_there_is_never_overwritten() {
    let case = case("external/two-disks");
    let text = text_of(&case.path);
    let mut simulator = Simulator::new();
    let mut shrunk = |mutant| {
        mutant::plant(Some(mutant));
        let (faults, order, shows) = swept(&mut simulator, &case.scenario).expect("it is found");
        let found = shrink::Found {
            text: &text,
            release: RELEASE,
            faults: &faults,
            order: &order,
            shows,
            by: "sweep",
        };
        let small = shrink::shrink(&mut simulator, &found).expect("a scenario shows it");
        mutant::plant(None);
        small
    };
    let (one, other) = (shrunk(Mutant::TakesSilenceForRefusal), shrunk(Mutant::ForgetsWhatRanBeside));
    let (_folder, path) = kept(&one);
    let folder = path.parent().expect("it is in a folder");
    let again = shrink::keep(folder, &one).expect("the folder is there");
    assert_eq!(again, Kept::Before(path.clone()));

    std::fs::write(&path, "what somebody has made of it").expect("the folder is there");
    let beside = path.as_str().replace(".toml", "-2.toml");
    let again = shrink::keep(folder, &one).expect("the folder is there");
    assert_eq!(again, Kept::Written(beside.into()));
    assert_eq!(text_of(&path), "what somebody has made of it");
    let elsewhere = shrink::keep(folder, &other).expect("the folder is there");
    assert!(matches!(elsewhere, Kept::Written(_)), "{elsewhere:?}");
}

#[test]
fn what_a_scenario_does_not_show_is_no_file() {
    let case = case("external/two-disks");
    let text = text_of(&case.path);
    let order = Trace::default();
    let found = shrink::Found {
        text: &text,
        release: RELEASE,
        faults: &[],
        order: &order,
        shows: Invariant::Writes,
        by: "sweep",
    };
    assert_eq!(shrink::shrink(&mut Simulator::new(), &found), None);
}
