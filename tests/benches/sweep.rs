//! Sweep runs a second on one core: a scenario with one fault added, its guest that writes, the looks before and behind each
//! operation, and the oracle. The aim is 3,000 a second.
#![allow(missing_docs, reason = "a benchmark")]

use std::{hint::black_box, rc::Rc};

use clap::ValueEnum as _;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use freezeframe::{
    sweep::{self, Kind},
    world::sim::Simulator,
};
use freezeframe_sim::Release;
use freezeframe_tests::suite;

/// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Few points and many: the cost of a run is the same.
const SWEPT: [&str; 2] = ["external/one-disk", "internal/create-revert-delete"];

fn runs(criterion: &mut Criterion) {
    let cases = suite();
    let mut simulator = Simulator::new();
    let mut group = criterion.benchmark_group("sweep");
    group.sample_size(10);
    for id in SWEPT {
        let case = cases.iter().find(|case| case.scenario.id == id).expect("a scenario of the suite");
        let survey = sweep::survey(&mut simulator, &case.scenario, Release::V10_0).expect("it is played");
        let survey = Rc::new(survey);
        let faults: Vec<_> =
            sweep::single_faults(&case.scenario, &survey.places, Kind::value_variants()).collect();
        group.throughput(Throughput::Elements(faults.len() as u64));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                for fault in &faults {
                    let faults = std::slice::from_ref(fault);
                    black_box(sweep::run(&mut simulator, &case.scenario, Release::V10_0, &survey, faults))
                        .expect("it is played");
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, runs);
criterion_main!(benches);
