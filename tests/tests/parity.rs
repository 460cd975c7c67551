//! The suite under another runtime: tokio with its clock paused. Word for word what the simulator's own executor lets
//! be said, at the same virtual times.
//!
//! Two executors that were written apart can hardly have the same defect in the order of tasks and timers. What they
//! share is the world, and the rules that the own one documents: ready tasks in the order in which they became ready,
//! timers by deadline and then in the order in which they were set. Not held here: that the world goes before a client's
//! timer of the same instant. Tokio gives its tasks no such order; no scenario has to tell the two apart.
#![allow(clippy::disallowed_methods, reason = "tokio's clock is what is compared")]

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

use freezeframe::{
    language::Scenario,
    machine,
    play::{self, CannotPlay, Run},
    world::sim::{SimWorld, Simulator, Time},
};
use freezeframe_driver::capabilities::Capabilities;
use freezeframe_sim::{Machine, Oracle, Release, Simulation, World, oracle::Trace, stream::Sockets};
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
    let mut differ = Vec::new();
    for case in suite() {
        for release in case.releases() {
            let capabilities = simulator.capabilities(release).expect("the simulator answers");
            let (own, trace) = play(&mut simulator, &case.scenario, release, Oracle::default_order());
            assert_eq!(trace, Trace::default());
            let tokio = on_tokio(&case.scenario, release, capabilities).expect("the simulator answers");
            let (tokio, own) = (told(&tokio, &trace), told(&own, &trace));
            if tokio != own {
                differ.push(format!("{} {release}:\n{own}\non tokio:\n{tokio}", case.scenario.id));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn timers_of_one_instant_fire_in_the_order_in_which_they_were_set_on_both() {
    // Set on each level of a timer wheel, later ones before and after the earlier have moved down.
    let set_at = [0, 1, 63, 64, 65, 500, 990, 999];
    let simulation = Simulation::new(&Machine::new(), Release::V10_0, Oracle::default_order());
    let own = simulation.run(fired(simulation.handle().spawner(), &set_at));
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let tokio = LocalSet::new().block_on(&runtime.expect("a runtime without I/O needs nothing"), async {
        fired(TokioTime { start: Instant::now() }, &set_at).await
    });
    assert_eq!(tokio, set_at);
    assert_eq!(own, Ok(set_at.to_vec()));
}

/// Sets a timer at each of these milliseconds, all for the same instant; gives the order in which they fired.
async fn fired<T: Time>(time: T, set_at: &[u64]) -> Vec<u64> {
    let order = Rc::new(RefCell::new(Vec::new()));
    for at in set_at.iter().copied() {
        let (own, order) = (time.clone(), order.clone());
        time.spawn_local(async move {
            own.sleep_until(Duration::from_millis(at)).await;
            own.sleep_until(Duration::from_secs(1)).await;
            order.borrow_mut().push(at);
        });
    }
    time.sleep_until(Duration::from_secs(2)).await;
    order.take()
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
        let driven = sockets.clone();
        spawn_local(async move {
            loop {
                driven.clone().drive(move |at| sleep_until(time.start + at)).await;
                driven.started().await;
            }
        });
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
