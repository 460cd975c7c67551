//! `least-throughput N`: ends with 1 unless the simulator can play N scenarios a second on one core.
//!
//! Played are [`YARDSTICKS`] on every release, for a suite that grows by longer scenarios must not move the bar; the mean of
//! the whole suite is told beside it. Other programs on the machine can only make it slower. So all is played again and
//! again, each round is measured in the time that this process itself had the processor, and the fastest counts: it passes
//! as soon as one round is fast enough, and fails after [`PATIENCE`] without. `cargo bench -p freezeframe-tests` measures
//! properly.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a command that measures"
)]

use std::{
    env,
    error::Error,
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use freezeframe::{play::CannotPlay, suite::Case, world::sim::Simulator};
use freezeframe_sim::{Oracle, Release};
use freezeframe_tests::suite;
use rustix::time::{ClockId, clock_gettime};

/// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the benchmark plays alone: 26 commands on two disks, and 21 in two lanes.
const YARDSTICKS: [&str; 2] = ["internal/create-revert-delete", "external/two-disks"];

/// How often these are played in a round.
const TIMES: usize = 100;

/// How long a fast round is waited for.
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let wanted: f64 = env::args().nth(1).ok_or("usage: least-throughput N")?.parse()?;
    let cases = suite();
    let plays = |is_played: fn(&Case) -> bool| -> Vec<(&Case, Release)> {
        let played = cases.iter().filter(move |case| is_played(case));
        played.flat_map(|case| case.releases().map(move |release| (case, release))).collect()
    };
    let mut simulator = Simulator::new();
    let mut a_second = |plays: &[(&Case, Release)], times: usize| -> Result<f64, CannotPlay> {
        let start = processor_time();
        for (case, release) in std::iter::repeat_n(plays, times).flatten() {
            black_box(simulator.play(&case.scenario, *release, Oracle::default_order())?);
        }
        Ok((plays.len() * times) as f64 / (processor_time() - start).as_secs_f64())
    };
    let yardsticks = plays(|case| YARDSTICKS.contains(&case.scenario.id.as_str()));
    let (began, mut best, mut rounds) = (Instant::now(), 0.0_f64, 0);
    while best < wanted && began.elapsed() < PATIENCE {
        best = best.max(a_second(&yardsticks, TIMES)?);
        rounds += 1;
    }
    println!("{:.0} scenarios a second is the mean of the whole suite", a_second(&plays(|_| true), 1)?);
    println!("{best:.0} scenarios a second in the best of {rounds} rounds, at least {wanted} are wanted");
    Ok(if best < wanted { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// How long this process has had the processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
