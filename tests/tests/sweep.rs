//! Every fault at every point of a few scenarios, on a release: nothing is left unnamed, no write is lost,
//! and what is told is what happened. The gate sweeps whole areas, with `freezeframe sweep`. That each invariant finds what
//! breaks it is shown beside the oracle.

use std::rc::Rc;

use clap::ValueEnum as _;
use freezeframe::{
    sweep::{self, Kind},
    world::sim::Simulator,
};
use freezeframe_sim::Release;
use freezeframe_tests::suite;
use rstest::rstest;

/// Disks alone, and memory inside with a revert and a deletion.
const SWEPT: [&str; 2] = ["external/two-disks", "internal/create-revert-delete"];

#[rstest]
fn no_single_fault_breaks_an_invariant(
    #[values(0, 1)] scenario: usize,
    #[values(Release::V10_0)] release: Release,
) {
    let cases = suite();
    let case =
        cases.iter().find(|case| case.scenario.id == SWEPT[scenario]).expect("a scenario of the suite");
    if !case.is_for(release) {
        return;
    }
    let mut simulator = Simulator::new();
    let survey = sweep::survey(&mut simulator, &case.scenario, release).expect("it is played");
    assert_eq!(survey.violations, [], "without a fault added");
    let survey = Rc::new(survey);
    let faults: Vec<_> =
        sweep::single_faults(&case.scenario, &survey.places, Kind::value_variants()).collect();
    assert!(faults.len() > 100, "{} faults are too few to be all", faults.len());
    for fault in faults {
        let faults = [fault];
        let outcome =
            sweep::run(&mut simulator, &case.scenario, release, &survey, &faults).expect("it is played");
        let written = sweep::toml(&faults[0]);
        assert!(outcome.struck > 0, "it never struck: {written}");
        assert_eq!(outcome.violations, [], "{written}");
    }
}

#[test]
fn a_second_fault_strikes_behind_the_first() {
    let cases = suite();
    let case = cases.iter().find(|case| case.scenario.id == SWEPT[0]).expect("a scenario of the suite");
    let mut simulator = Simulator::new();
    let survey =
        Rc::new(sweep::survey(&mut simulator, &case.scenario, Release::V10_0).expect("it is played"));
    let first = sweep::single_faults(&case.scenario, &survey.places, &[Kind::Error]).last().expect("a fault");
    let once = std::slice::from_ref(&first);
    let outcome =
        sweep::run(&mut simulator, &case.scenario, Release::V10_0, &survey, once).expect("it is played");
    assert!(!outcome.behind.is_empty(), "what is undone and tried again has points of its own");
    let second = sweep::single_faults(&case.scenario, &outcome.behind, &[Kind::Disconnect]).next();
    let both = [first, second.expect("a fault")];
    let outcome =
        sweep::run(&mut simulator, &case.scenario, Release::V10_0, &survey, &both).expect("it is played");
    assert_eq!(outcome.struck, 2);
}
