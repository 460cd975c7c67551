//! The suite under another runtime: tokio with its clock paused. Word for word what the simulator's own executor lets
//! be said, at the same virtual times.
//!
//! Two executors that were written apart can hardly have the same defect in the order of tasks and timers. What they
//! share is the world, and the rules that the own one documents: ready tasks in the order in which they became ready,
//! timers by deadline and then in the order in which they were set.
#![allow(clippy::disallowed_methods, reason = "tokio's clock is what is compared")]

use std::{future::Future, rc::Rc, time::Duration};

use freezeframe::{
    language::Scenario,
    machine,
    play::{self, CannotPlay, Run},
    world::sim::{SimWorld, Simulator, Time},
};
use freezeframe_driver::capabilities::Capabilities;
use freezeframe_sim::{Oracle, Release, World, oracle::Trace, stream::Sockets};
use freezeframe_tests::{play, suite, told};
use tokio::{
    runtime::Builder,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep_until, timeout},
};

/// Longer than any scenario: on a clock that jumps it costs nothing, and a play that never ends is told as such.
const AN_HOUR: Duration = Duration::from_secs(3600);

#[test]
fn every_scenario_says_the_same_under_tokios_paused_clock() {
    let mut simulator = Simulator::new();
    for case in suite() {
        for release in case.releases() {
            let capabilities = simulator.capabilities(release).expect("the simulator answers");
            let (own, trace) = play(&mut simulator, &case.scenario, release, Oracle::default_order());
            assert_eq!(trace, Trace::default());
            let tokio = on_tokio(&case.scenario, release, capabilities).expect("the simulator answers");
            assert_eq!(told(&tokio, &trace), told(&own, &trace), "{} {release}", case.scenario.id);
        }
    }
}

/// Plays a scenario in the default order on a runtime of its own.
fn on_tokio(
    scenario: &Scenario,
    release: Release,
    capabilities: Rc<Capabilities>,
) -> Result<Run, CannotPlay> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime without I/O needs nothing"), async {
        let time = TokioTime { start: Instant::now() };
        let machine = machine::of(scenario);
        let world = World::new(&machine, release, Oracle::default_order());
        let sockets = Sockets::new(world, move || time.now());
        spawn_local(sockets.clone().drive(move |at| sleep_until(time.start + at)));
        let world = SimWorld::new(&machine, sockets.clone(), time);
        let scenario = scenario.clone();
        // A task like the others, so that it takes its turn among them.
        let played = spawn_local(async move { play::play(&scenario, &world, capabilities).await });
        let mut run = timeout(AN_HOUR, played).await.expect("it ends").expect("it does not panic")?;
        run.findings.extend(sockets.world().check_invariants().err().into_iter().flat_map(|broken| broken.0));
        Ok(run)
    })
}

/// Tokio's clock, from the moment when the world began.
#[derive(Debug, Clone, Copy)]
struct TokioTime {
    start: Instant,
}

impl Time for TokioTime {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, deadline: Duration) -> impl Future<Output = ()> + 'static {
        sleep_until(self.start + deadline)
    }

    fn spawn_local(&self, task: impl Future<Output = ()> + 'static) {
        spawn_local(task);
    }
}
