//! What a driver that was killed leaves in the description of a machine that runs.

use std::time::Duration;

use freezeframe_driver::{
    race::{First, race},
    recover::Turn,
};

use super::*;

impl Bench {
    /// The machine as one that runs, of which nobody says that its description is to be kept in step.
    async fn running_alone(&self) -> Machine<Env> {
        let domain = Domain::from(document());
        let (env, capabilities) = (self.world.env().clone(), Some(self.capabilities.clone()));
        let machine =
            Machine::connect(env.clone(), self.world.monitor(), domain, capabilities, Patience::default());
        let (store, _) = Store::open(env, STATE.into(), "vm").await.unwrap();
        machine.await.unwrap().with_records(store)
    }
}

/// Who recovers need not know that the operation was to keep the description in step: it is finished as it was begun.
#[rstest]
fn a_snapshot_that_was_broken_off_behind_its_switch_is_in_the_description_when_it_is_recovered(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let mut finished = 0;
    for after in 1..=15 {
        let turn = on(release, async |bench: &Bench| {
            let machine = bench.running().await;
            let env = bench.world.env().clone();
            let killed = env.sleep_until(env.now() + Duration::from_millis(after));
            let request = create("s1", true);
            if let First::Left(done) = race(machine.perform(&request), killed).await {
                done.unwrap();
            }
            drop(machine);
            let machine = bench.running_alone().await;
            let recovered = machine.recover(WITHIN).await.unwrap();
            let described = bench.described().await.disk("vda").unwrap().path().unwrap().to_owned();
            let is_in = machine.observe().await.unwrap().disk("vda").unwrap().file.clone();
            assert_eq!(described, is_in, "killed after {after} ms: {recovered:?}");
            recovered.map(|recovered| recovered.turn)
        });
        finished += usize::from(turn == Some(Turn::Forward));
    }
    assert!(finished > 0);
}
