//! Mistakes are planted in the driver, one at a time, and each must be found: by explore, in the scenario as it is written, or by
//! sweep, with one fault at one point. What finds none of its own mistakes proves nothing by finding none.

#![allow(clippy::print_stdout, reason = "in which run each was found, with `--nocapture`")]

use std::rc::Rc;

use clap::ValueEnum as _;
use freezeframe::{
    explore::{self, Subject},
    sweep::{self, Kind},
    world::sim::Simulator,
};
use freezeframe_driver::mutant::{self, Mutant};
use freezeframe_sim::{Oracle, Release};
use freezeframe_tests::suite;
use rstest::rstest;

/// In which scenario a mistake is looked for: one that takes the way on which it was made.
fn scenario(mutant: Mutant) -> &'static str {
    match mutant {
        Mutant::ListensTooLate => "delete/children-external",
        Mutant::TakesNothingOfNothingForDone => "internal/result-unreadable",
        Mutant::IgnoresJobErrors | Mutant::DoesNotAwaitThePivot => "delete/commit-fails",
        Mutant::CancelsReadyCommits => "delete/newest",
        Mutant::MatchesRepliesByPosition
        | Mutant::KeepsJobs
        | Mutant::TakesSilenceForRefusal
        | Mutant::TakesSilenceForConsent
        | Mutant::ForgetsWhatRanBeside
        | Mutant::SwitchesOneByOne => "external/two-disks",
        Mutant::UndoesOldestFirst | Mutant::UnlinksWhatIsInUse => "memory/background-killed",
        Mutant::UndoesInDoubt => "external/connection-lost-after-switch",
        Mutant::ForgetsToThaw => "quiesce/switch-fails",
        Mutant::TakesSilentFreezeForNone => "quiesce/two-disks",
        Mutant::ThawsWhatOthersFroze => "quiesce/frozen-before",
        Mutant::LeavesTheGuestPaused => "create/manual-failed",
        Mutant::IgnoresFailedMigrations => "memory/no-space",
        Mutant::KeepsMigrationSettings => "memory/refused-and-not-ended",
        Mutant::AsksOneDisk => "internal/revert-on-some-disks",
        Mutant::DeletesFromOneDisk => "recover/delete-internal",
        Mutant::TakesOthersFiles => "revert/file-in-the-way",
        Mutant::WritesRecordsInPlace | Mutant::WritesTheJournalBehind => "create/recorded",
        Mutant::KeepsTheRecord => "create/record-undone",
        Mutant::ClosesTheJournalEarly => "memory/overlay-left-open",
        Mutant::RecoversForwardInDoubt => "recover/storage-revert-in-doubt",
        Mutant::RecoversBack => "recover/create-behind-the-switch",
        Mutant::RecoversWithoutThaw => "recover/create-frozen-state-lost",
        Mutant::LeavesBranchesBehind => "inactive/branches",
        Mutant::LeavesCopiesUnflushed => "delete/branches-current",
        Mutant::LeavesMergesUnflushed => "delete/between-into-a-streamed",
    }
}

/// On which release: some mistakes only an old one makes pay for.
fn release(mutant: Mutant) -> Release {
    if mutant == Mutant::LeavesCopiesUnflushed { Release::V7_2 } else { Release::V10_0 }
}

/// What is found first where a mistake is looked for, and in which run; without the mistake nothing may be.
fn found(mutant: Mutant) -> (usize, Option<String>) {
    let (id, release) = (scenario(mutant), release(mutant));
    let cases = suite();
    let case = cases.iter().find(|case| case.scenario.id == id).expect("a scenario of the suite");
    assert!(case.is_for(release), "{id} is not for {release}");
    let mut simulator = Simulator::new();
    let survey = match sweep::survey(&mut simulator, &case.scenario, release) {
        Ok(survey) => Rc::new(survey),
        Err(stuck) => return (1, Some(stuck.to_string())),
    };
    let subject = Subject::new(&case.scenario, release, survey.clone(), &[]);
    let played = explore::play(&mut simulator, &subject, Oracle::default_order());
    let as_written = survey.violations.first().map(ToString::to_string);
    if let Some(what) = as_written.or_else(|| Some(played.findings.first()?.what.clone())) {
        return (1, Some(what));
    }
    let faults = sweep::single_faults(&case.scenario, &survey.places, Kind::value_variants());
    let mut runs = 1;
    for fault in faults {
        runs += 1;
        let faults = std::slice::from_ref(&fault);
        let outcome =
            sweep::run(&mut simulator, &case.scenario, release, &survey, faults).expect("it is played");
        if let Some(violation) = outcome.violations.first() {
            return (runs, Some(format!("{violation}, with {}", sweep::toml(&fault).replace('\n', " "))));
        }
    }
    (runs, None)
}

#[test]
fn every_planted_mistake_is_found() {
    assert!(Mutant::ALL.len() >= 25, "{} are too few", Mutant::ALL.len());
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let id = scenario(*mutant);
        mutant::plant(Some(*mutant));
        let (runs, what) = found(*mutant);
        mutant::plant(None);
        match what {
            Some(what) => println!("{mutant:?}: run {runs} of {id}: {what}"),
            None => missed.push(format!("{mutant:?}: not in {runs} runs of {id}")),
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}

/// What is found is found because of the mistake.
#[rstest]
fn without_a_mistake_nothing_is_found(
    #[values(Mutant::KeepsJobs, Mutant::ForgetsToThaw, Mutant::KeepsTheRecord, Mutant::LeavesBranchesBehind)]
    mutant: Mutant,
) {
    let (runs, what) = found(mutant);
    assert_eq!(what, None, "in {runs} runs");
    assert!(runs > 100, "{runs} runs are too few to be all");
}
