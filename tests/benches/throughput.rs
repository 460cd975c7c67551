//! Scenarios a second on one core: the whole stack, driver and simulator, over bytes.
//!
//! The gate is 5,000 scenarios a second, the aim 10,000. `suite` is the mean over every scenario and release, faults,
//! timeouts and all; `create-revert-delete` has 26 commands on two disks, `two-disks` 21 in two lanes. A play is all but
//! the text of its transcript: machine, connections, driver, faults, record, and the look at the end; `with transcript`
//! adds the text.
//!
//! Where a real QEMU is installed (`freezeframe_tests::real`) the same scenario is played on it in the same run, and the
//! ratio is what the last lines say.
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures, and says so"
)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freezeframe::{
    suite::Case,
    transcript::render,
    world::{
        qemu::{Binary, Launch},
        sim::Simulator,
    },
};
use freezeframe_sim::{Oracle, Release};
use freezeframe_tests::{real, suite};
use tokio::{runtime::Builder, task::LocalSet};

/// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is played alone, and on real QEMUs.
const ALONE: [&str; 2] = ["internal/create-revert-delete", "external/two-disks"];

/// How often a scenario is played on a real QEMU.
const REAL_PLAYS: u32 = 10;

fn one<'a>(cases: &'a [Case], id: &str) -> &'a Case {
    cases.iter().find(|case| case.scenario.id == id).expect("a scenario of the suite")
}

fn play(simulator: &mut Simulator, case: &Case, release: Release, oracle: Oracle) {
    let run = simulator.play(&case.scenario, release, oracle).expect("the simulator plays");
    assert!(run.findings.is_empty(), "{}: {:?}", case.scenario.id, run.findings);
    black_box(run);
}

/// Single scenarios: in the default order, with a seed that decides every choice, and with the text of the transcript.
fn scenarios(criterion: &mut Criterion) {
    let cases = suite();
    let mut simulator = Simulator::new();
    let mut group = criterion.benchmark_group("scenario");
    group.throughput(Throughput::Elements(1));
    for id in ALONE {
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
        group.bench_function(BenchmarkId::new(id, "with transcript"), |bencher| {
            bencher.iter(|| {
                let run = simulator.play(&case.scenario, Release::V10_0, Oracle::default_order());
                black_box(render(&run.expect("the simulator plays").lines()))
            });
        });
    }
    group.finish();
}

/// Every scenario on every release that it is for.
fn whole_suite(criterion: &mut Criterion) {
    let cases = suite();
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

/// The same scenarios on real QEMUs, and how much longer they take there.
fn against_real(_: &mut Criterion) {
    let programs = real::programs();
    if programs.is_empty() {
        println!(
            "skipped: no real QEMU to compare with; `ci/install-qemu.sh` gets them, FREEZEFRAME_QEMU names them"
        );
    }
    let cases = suite();
    let mut simulator = Simulator::new();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    for program in programs {
        let launch = Launch::default();
        let binary = LocalSet::new().block_on(&runtime, Binary::ask(&program, &launch)).expect("a QEMU");
        for id in ALONE {
            let case = one(&cases, id);
            let really = mean(REAL_PLAYS, || {
                let played = LocalSet::new().block_on(&runtime, real::play(&binary, &case.scenario));
                assert!(played.expect("QEMU plays").findings.is_empty());
            });
            let simulated =
                mean(2000, || play(&mut simulator, case, binary.release, Oracle::default_order()));
            println!(
                "{id} on QEMU {}: {really:.1?} real, {simulated:.1?} simulated: {:.0} times as fast",
                binary.version_name(),
                really.as_secs_f64() / simulated.as_secs_f64()
            );
        }
    }
}

fn mean(times: u32, mut act: impl FnMut()) -> Duration {
    let start = Instant::now();
    (0..times).for_each(|_| act());
    start.elapsed() / times
}

criterion_group!(benches, scenarios, whole_suite, against_real);
criterion_main!(benches);
