//! How far a long step is, as whoever shows it is told: memory that is saved, and images that are merged. On the simulator, on every release.

use freezeframe::{
    language::{Fault, GuestAct},
    recorded::Recorded,
    world::{
        World as _,
        sim::{SimWorld, Simulator},
    },
};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Location},
    name::SnapshotName,
    progress::Progress,
    request::{Create, CreateFlag, Delete, DeleteFlags, Request, WITHIN},
    store::Store,
};
use freezeframe_sim::{Machine as Described, Oracle, Release, Simulation};
use freezeframe_tests::memory::{Rig, another_client_does};
use rstest::rstest;

/// All that the last of these requests tells of how far its steps are, in its order, while another client does something.
fn told_of(release: Release, requests: &[Request], meanwhile: &[Fault]) -> Vec<Progress> {
    let capabilities = Simulator::new().capabilities(release).unwrap();
    let described = Described::new().disk("vda");
    let simulation = Simulation::new(&described, release, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&described, handle.sockets(), handle.spawner());
    let told = simulation.run(async {
        let Rig { machine, record, .. } = Rig::new(&world, capabilities, &["vda"], meanwhile).await;
        let env = Recorded::new(world.env().clone(), record, None);
        let (store, _) = Store::open(env, "/images/state".into(), "vm").await.unwrap();
        let machine = machine.with_records(store);
        let mut told = Vec::new();
        for request in requests {
            world.in_guest(GuestAct::Write).await.unwrap();
            let mut listener = machine.progress();
            let mut performed = std::pin::pin!(machine.perform(request));
            told.clear();
            loop {
                tokio::select! {
                    biased;
                    done = &mut performed => break drop(done.unwrap()),
                    changed = listener.changed() => {
                        changed.unwrap();
                        told.extend(listener.borrow_and_update().clone());
                    }
                }
            }
        }
        told
    });
    told.unwrap()
}

fn create(memory: bool) -> Request {
    let mut wish = DomainSnapshot { name: Some("s1".into()), ..DomainSnapshot::default() };
    if memory {
        wish.memory.location = Some(Location::External);
        wish.memory.file = Some("/images/vm.mem".into());
    }
    let flags = (!memory).then_some(CreateFlag::DiskOnly);
    Request::Create(Box::new(Create::new(wish, flags)))
}

/// Whether a step of that name told more than once how far it is, and never went back.
#[track_caller]
fn goes_on(lane: &str, told: &[Progress]) {
    let told: Vec<_> = told.iter().filter(|told| told.lane.contains(lane)).collect();
    assert!(told.len() > 1 && told.iter().all(|told| told.done <= told.total), "{told:?}");
    assert!(told.is_sorted_by_key(|told| told.done) && told.iter().any(|told| told.done > 0), "{told:?}");
}

#[rstest]
fn memory_that_is_saved_slowly_tells_how_far_it_is(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let slow = r#"{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 20000000}}"#;
    goes_on("memory", &told_of(release, &[create(true)], &[another_client_does("migrate", slow)]));
}

#[rstest]
fn an_image_that_is_merged_slowly_tells_how_far_it_is(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let delete = Delete::new(SnapshotName::new("s1").unwrap(), DeleteFlags::default(), WITHIN);
    let slow =
        r#"{"execute": "block-job-set-speed", "arguments": {"device": "ff-2-commit-0", "speed": 100000}}"#;
    let requests = [create(false), Request::Delete(delete)];
    goes_on("commit-vda", &told_of(release, &requests, &[another_client_does("block-commit", slow)]));
}
