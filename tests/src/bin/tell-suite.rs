//! Plays the whole suite and prints all that must be the same whenever it is repeated: transcripts, findings, traces.
//!
//! `tell-suite [SEED...]`: each scenario on each of its releases in the default order, then with each seed. The
//! determinism tests run it in processes that differ in all that must not matter.
#![allow(clippy::print_stdout, reason = "a command speaks through it")]

use freezeframe::world::sim::Simulator;
use freezeframe_sim::Oracle;
use freezeframe_tests::{play, suite, told};

fn main() {
    let seeds = std::env::args().skip(1).map(|seed| seed.parse().expect("a seed is a number"));
    let orders: Vec<Option<u64>> = std::iter::once(None).chain(seeds.map(Some)).collect();
    let mut simulator = Simulator::new();
    for case in suite() {
        for (release, order) in case.releases().flat_map(|release| orders.iter().map(move |o| (release, o))) {
            let oracle = order.map_or_else(Oracle::default_order, Oracle::seeded);
            let (run, trace) = play(&mut simulator, &case.scenario, release, oracle);
            print!("== {} {release} {order:?}\n{}", case.scenario.id, told(&run, &trace));
        }
    }
}
