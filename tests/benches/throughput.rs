//! Scenarios a second on one core: the whole stack, driver and simulator, over bytes.
//!
//! The gate is 5,000 scenarios a second, the aim 10,000. `suite` is the mean over every scenario and release, faults,
//! timeouts and all; `create-revert-delete` has 24 commands on two disks, `two-disks` 14. Where a real QEMU is
//! installed the same scenario is played on it in the same run, and the ratio printed.
#![allow(missing_docs, reason = "a benchmark")]

use std::hint::black_box;

use camino::Utf8Path;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freezeframe::{
    suite::{self, Case},
    world::sim::Simulator,
};
use freezeframe_sim::{Oracle, Release};

fn cases() -> Vec<Case> {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/suite");
    suite::load(&[folder], None).expect("the suite is sound")
}

fn one<'a>(cases: &'a [Case], id: &str) -> &'a Case {
    cases.iter().find(|case| case.scenario.id == id).expect("a scenario of the suite")
}

/// Single scenarios, in the default order and with a seed that makes every choice a question.
fn scenarios(criterion: &mut Criterion) {
    let cases = cases();
    let mut simulator = Simulator::new();
    let mut group = criterion.benchmark_group("scenario");
    group.throughput(Throughput::Elements(1));
    for id in ["internal/create-revert-delete", "external/two-disks"] {
        let case = one(&cases, id);
        group.bench_function(BenchmarkId::new(id, "default order"), |bencher| {
            bencher.iter(|| play(&mut simulator, case, Release::V10_0, Oracle::default_order()));
        });
        let mut seed = 0;
        group.bench_function(BenchmarkId::new(id, "seeds"), |bencher| {
            bencher.iter(|| {
                seed += 1;
                play(&mut simulator, case, Release::V10_0, Oracle::seeded(seed));
            });
        });
    }
    group.finish();
}

/// Every scenario on every release that it is for.
fn suite(criterion: &mut Criterion) {
    let cases = cases();
    let plays: Vec<_> =
        cases.iter().flat_map(|case| case.releases().map(move |release| (case, release))).collect();
    let mut simulator = Simulator::new();
    let mut group = criterion.benchmark_group("suite");
    group.throughput(Throughput::Elements(plays.len() as u64));
    group.bench_function("default order", |bencher| {
        bencher.iter(|| {
            for (case, release) in &plays {
                play(&mut simulator, case, *release, Oracle::default_order());
            }
        });
    });
    group.finish();
}

fn play(simulator: &mut Simulator, case: &Case, release: Release, oracle: Oracle) {
    let run = simulator.play(&case.scenario, release, oracle).expect("the simulator plays");
    assert!(run.findings.is_empty(), "{}: {:?}", case.scenario.id, run.findings);
    black_box(run);
}

criterion_group!(benches, scenarios, suite);
criterion_main!(benches);
