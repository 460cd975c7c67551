//! How far a long step is, as whoever shows it is told: memory that is saved, and images that are merged. On the simulator, on every release.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use freezeframe::{
    language::{Fault, GuestAct},
    recorded::Recorded,
    world::{
        World as _,
        sim::{SimWorld, Simulator},
    },
};
use freezeframe_driver::{
    domain_snapshot::DomainSnapshot,
    name::SnapshotName,
    progress::{Listener, Progress},
    request::{Create, CreateFlag, Delete, DeleteFlags, Request, WITHIN},
    save_image::Format,
    step::Meanwhile,
    store::Store,
};
use freezeframe_sim::{Machine as Described, Oracle, Release, Simulation, exec::Spawner};
use freezeframe_tests::memory::{Rig, another_client_does, slow};
use rstest::rstest;

/// Lets a story happen to a machine, while another client does something.
fn on(
    release: Release,
    meanwhile: &Fault,
    story: impl AsyncFnOnce(Rig<'_, SimWorld<Spawner>>) -> Vec<Progress>,
) -> Vec<Progress> {
    let capabilities = Simulator::new().capabilities(release).unwrap();
    let described = Described::new().disk("vda");
    let simulation = Simulation::new(&described, release, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&described, handle.sockets(), handle.spawner());
    let faults = std::slice::from_ref(meanwhile);
    let told = simulation.run(async { story(Rig::new(&world, capabilities, &["vda"], faults).await).await });
    told.unwrap()
}

/// All that is told of how far the steps of an operation are, in its order.
async fn told_of<T>(mut listener: Listener, operation: impl Future<Output = T>) -> Vec<Progress> {
    let (mut told, mut operation) = (Vec::new(), pin!(operation));
    while !is_done(operation.as_mut(), &mut listener).await {
        told.extend(listener.borrow_and_update().clone());
    }
    told
}

/// Lets an operation go on until it has ended, which is told, or until something is told of it.
async fn is_done<T>(mut operation: Pin<&mut impl Future<Output = T>>, listener: &mut Listener) -> bool {
    let mut changed = pin!(listener.changed());
    let either = poll_fn(|context| match operation.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending => changed.as_mut().poll(context).map(|_| false),
    });
    either.await
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
    let told = on(release, &slow(), async |rig| {
        let plan = rig.saving(Meanwhile::Paused, Format::Raw, &[]).await;
        told_of(rig.machine.progress(), rig.carry_out(&plan)).await
    });
    goes_on("memory", &told);
    assert!(told.iter().any(|told| told.done < told.total), "{told:?}");
}

#[rstest]
fn an_image_that_is_merged_slowly_tells_how_far_it_is(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let slow =
        r#"{"execute": "block-job-set-speed", "arguments": {"device": "ff-2-commit-0", "speed": 100000}}"#;
    let told = on(release, &another_client_does("block-commit", slow), async |rig| {
        let env = Recorded::new(rig.world.env().clone(), rig.record.clone(), None);
        let (store, _) = Store::open(env, "/images/state".into(), "vm").await.unwrap();
        let machine = rig.machine.with_records(store);
        let wish = DomainSnapshot { name: Some("s1".into()), ..DomainSnapshot::default() };
        let create = Create::new(wish, [CreateFlag::DiskOnly]);
        machine.perform(&Request::Create(Box::new(create))).await.unwrap();
        rig.world.in_guest(GuestAct::Write).await.unwrap();
        let delete = Delete::new(SnapshotName::new("s1").unwrap(), DeleteFlags::default(), WITHIN);
        told_of(machine.progress(), machine.perform(&Request::Delete(delete))).await
    });
    goes_on("commit-vda", &told);
}
