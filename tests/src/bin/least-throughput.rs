//! `least-throughput N`: ends with 1 unless the simulator can play N scenarios of the suite a second on one core.
//!
//! Other programs on the machine can only make it slower. So the whole suite is played again and again, each round is
//! measured in the time that this process itself had the processor, and the fastest counts: it passes as soon as one round
//! is fast enough, and fails after [`PATIENCE`] without. `cargo bench -p freezeframe-tests` measures properly.
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

use freezeframe::world::sim::Simulator;
use freezeframe_sim::Oracle;
use freezeframe_tests::suite;
use rustix::time::{ClockId, clock_gettime};

/// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a fast round is waited for.
const PATIENCE: Duration = Duration::from_mins(2);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let wanted: f64 = env::args().nth(1).ok_or("usage: least-throughput N")?.parse()?;
    let cases = suite();
    let plays: Vec<_> =
        cases.iter().flat_map(|case| case.releases().map(move |release| (case, release))).collect();
    let mut simulator = Simulator::new();
    let (began, mut best, mut rounds) = (Instant::now(), 0.0, 0);
    while best < wanted && began.elapsed() < PATIENCE {
        let start = processor_time();
        for (case, release) in &plays {
            black_box(simulator.play(&case.scenario, *release, Oracle::default_order())?);
        }
        let a_second = plays.len() as f64 / (processor_time() - start).as_secs_f64();
        best = a_second.max(best);
        rounds += 1;
    }
    println!("{best:.0} scenarios a second in the best of {rounds} rounds, at least {wanted} are wanted");
    Ok(if best < wanted { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// How long this process has had the processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
