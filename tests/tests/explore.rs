//! Every order of a few scenarios: depth-first comes to an end and has played each order once, what holds only in the usual order
//! is found, and its trace repeats it bit for bit. `freezeframe explore` goes through more, and with faults.

use std::{collections::BTreeSet, rc::Rc};

use freezeframe::{
    explore::{self, Explored, Mode, Subject},
    language::{Fault, Scenario},
    sweep::{self, Kind, Survey},
    transcript::render,
    world::sim::Simulator,
};
use freezeframe_sim::{Oracle, Release, oracle::Trace};
use freezeframe_tests::suite;
use rstest::rstest;

const RELEASE: Release = Release::V10_0;

/// It usually takes 10 ms. Where one reply is 4 ms late it is not done in time.
const IN_TIME_ONLY_USUALLY: &str = "id = 'planted'\ntitle = 't'\nwhy = 'w'\n\n\
    [machine]\ndisks = [{ target = 'vda' }]\n\n\
    [[step]]\nsnapshot = { name = 's1', disk-only = true, within = '12ms' }\n";

fn of_the_suite(id: &str) -> Scenario {
    let cases = suite();
    cases.into_iter().find(|case| case.scenario.id == id).expect("a scenario of the suite").scenario
}

fn planted() -> Scenario {
    Scenario::parse("planted.toml".into(), IN_TIME_ONLY_USUALLY).unwrap_or_else(|error| panic!("{error}"))
}

fn survey(simulator: &mut Simulator, scenario: &Scenario) -> Rc<Survey> {
    Rc::new(sweep::survey(simulator, scenario, RELEASE).expect("it is played"))
}

/// All orders of a mode, with these faults added.
fn explored(scenario: &Scenario, faults: &[Fault], mode: Mode) -> Explored {
    let mut simulator = Simulator::new();
    let usual = survey(&mut simulator, scenario);
    let subject = Subject::new(scenario, RELEASE, usual, faults);
    explore::explore(&mut simulator, &subject, mode, || true)
}

#[test]
fn depth_first_plays_every_other_answer_of_the_usual_order_and_says_that_none_is_left() {
    let scenario = of_the_suite("external/one-disk");
    let mut simulator = Simulator::new();
    let usual = survey(&mut simulator, &scenario);
    let subject = Subject::new(&scenario, RELEASE, usual, &[]);
    let asked = explore::play(&mut simulator, &subject, Oracle::default_order().keeping_questions()).oracle;
    let others: usize = asked.questions().iter().map(|question| question.ways - 1).sum();
    assert!(others > 50, "{others} are too few to be all");

    let all = explored(&scenario, &[], Mode::Dfs { bound: 1 });
    assert_eq!((all.is_exhausted, all.runs), (true, 1 + others as u64));
    assert_eq!(all.found, [].into());
    let again = explored(&scenario, &[], Mode::Dfs { bound: 1 });
    assert_eq!((again.runs, again.choices), (all.runs, all.choices));
}

#[rstest]
#[case::usually(Mode::Dfs { bound: 0 }, 1)]
#[case::seeds(Mode::Random { seed: 7, runs: Some(5) }, 5)]
#[case::the_last_seed(Mode::Random { seed: u64::MAX, runs: None }, 1)]
#[case::the_usual_and_seeds(Mode::Pct { seed: 7, runs: Some(5), bound: 2 }, 5)]
fn a_mode_has_as_many_orders_as_it_says(#[case] mode: Mode, #[case] runs: u64) {
    let scenario = of_the_suite("external/one-disk");
    let all = explored(&scenario, &[], mode);
    assert_eq!((all.runs, all.is_exhausted, all.found), (runs, true, [].into()));
}

#[test]
fn what_was_ended_before_is_not_exhausted() {
    let scenario = of_the_suite("external/one-disk");
    let mut simulator = Simulator::new();
    let usual = survey(&mut simulator, &scenario);
    let subject = Subject::new(&scenario, RELEASE, usual, &[]);
    let mut left = 3;
    let some = explore::explore(&mut simulator, &subject, Mode::Dfs { bound: 1 }, || {
        left -= 1;
        left >= 0
    });
    assert_eq!((some.runs, some.is_exhausted), (3, false));
}

#[rstest]
#[case::depth_first(Mode::Dfs { bound: 1 })]
#[case::random(Mode::Random { seed: 0, runs: Some(10) })]
#[case::priorities(Mode::Pct { seed: 0, runs: Some(10), bound: 2 })]
fn what_holds_only_in_the_usual_order_is_found_and_repeated_bit_for_bit(#[case] mode: Mode) {
    let scenario = planted();
    let all = explored(&scenario, &[], mode);
    let (what, found) = all.found.first_key_value().expect("late replies are not in time");
    assert!(what.contains("step 1: OPERATION_TIMEOUT"), "{what}");
    assert!(found.runs < all.runs, "usually it is in time");

    let replay = |trace: &Trace| {
        let mut simulator = Simulator::new();
        let usual = survey(&mut simulator, &scenario);
        let subject = Subject::new(&scenario, RELEASE, usual, &[]);
        let played = explore::play(&mut simulator, &subject, Oracle::replay(trace.clone()));
        let shows = played.findings.iter().any(|finding| finding.what == *what);
        (shows, render(&played.run.expect("it was played").lines()), played.oracle.trace().clone())
    };
    let trace = found.trace.to_string().parse().expect("a trace survives its text");
    let (shows, said, taken) = replay(&trace);
    assert_eq!((shows, &taken), (true, &found.trace));
    assert_eq!(replay(&trace), (shows, said, taken));

    let deviations = trace.deviations();
    for left_out in 0..deviations.len() {
        let others = deviations.iter().enumerate().filter(|(place, _)| *place != left_out);
        let (shows, ..) = replay(&others.map(|(_, one)| one.clone()).collect());
        assert!(!shows, "nobody needs {:?} of {trace}", deviations[left_out]);
    }
}

#[test]
fn a_fault_strikes_in_every_order_and_what_must_hold_holds() {
    let scenario = of_the_suite("external/one-disk");
    let mut simulator = Simulator::new();
    let usual = survey(&mut simulator, &scenario);
    let lost = sweep::single_faults(&scenario, &usual.places, &[Kind::Disconnect]).last();
    let faults: Vec<_> = lost.into_iter().collect();
    let all = explored(&scenario, &faults, Mode::Dfs { bound: 1 });
    assert_eq!((all.is_exhausted, &all.found), (true, &[].into()), "{}", sweep::toml(&faults[0]));
    let without = explored(&scenario, &[], Mode::Dfs { bound: 1 });
    assert_ne!(all.choices, without.choices, "with it, other things are asked");
}

#[test]
fn orders_of_a_seed_are_other_orders() {
    let scenario = of_the_suite("external/one-disk");
    let mut simulator = Simulator::new();
    let usual = survey(&mut simulator, &scenario);
    let subject = Subject::new(&scenario, RELEASE, usual, &[]);
    let traces: BTreeSet<_> = (0..10)
        .map(|seed| {
            let order = Oracle::prioritised(seed, 2, 50);
            explore::play(&mut simulator, &subject, order).oracle.trace().to_string()
        })
        .collect();
    assert_eq!(traces.len(), 10);
}
