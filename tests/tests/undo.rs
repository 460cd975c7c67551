//! Steps undone by the executor where no operation of the suite comes to it: in plans of the test's own making.

use std::{rc::Rc, time::Duration};

use freezeframe::{
    play,
    world::{World as _, sim::SimWorld},
};
use freezeframe_driver::{
    Patience,
    capabilities::InternalMethod,
    domain::{Domain, DomainDisk},
    env::Ownership,
    error::OperationError,
    plan::{Plan, Stage},
    step::{ReserveFile, SaveSnapshot, Step},
};
use freezeframe_sim::{Machine, Oracle, Release, Simulation};
use rstest::rstest;

/// A full snapshot, and then a step that cannot be: its file exists.
fn save_then_fail(method: InternalMethod) -> Plan {
    let save = SaveSnapshot {
        method,
        job: "save".into(),
        tag: "s1".into(),
        vmstate: "vda".into(),
        devices: vec!["vda".into(), "vdb".into()],
    };
    let reserve = ReserveFile { path: "/images/vda.qcow2".into(), ownership: Ownership::Own };
    let stage = |step: Step| Stage { steps: vec![step] };
    Plan {
        title: "save, then fail".into(),
        disks: vec!["vda".into(), "vdb".into()],
        manual: Vec::new(),
        stages: vec![stage(save.into()), stage(reserve.into())],
        no_return: 1,
    }
}

#[rstest]
#[case(Release::V5_2, InternalMethod::HumanMonitor)]
#[case(Release::V7_2, InternalMethod::Jobs)]
#[case(Release::V10_0, InternalMethod::Jobs)]
#[case(Release::V11_1, InternalMethod::Jobs)]
fn a_snapshot_that_was_saved_is_deleted_again_when_a_later_step_fails(
    #[case] release: Release,
    #[case] method: InternalMethod,
) {
    let described = Machine::new().disk("vda").disk("vdb");
    let simulation = Simulation::new(&described, release, Oracle::default_order());
    let handle = simulation.handle();
    let error = simulation.run(async {
        let world = SimWorld::new(&described, handle.sockets(), handle.spawner());
        let capabilities = Rc::new(play::capabilities(&world).await.unwrap());
        let disk = |target: &str| DomainDisk::new(target, &format!("{target}-device"));
        let domain = Domain::new("vm", vec![disk("vda"), disk("vdb")]);
        let env = world.env().clone();
        let patience = Patience::default();
        let machine =
            freezeframe_driver::Machine::connect(env, world.monitor(), domain, Some(capabilities), patience)
                .await
                .unwrap();
        let failed = machine.carry_out(&save_then_fail(method), Duration::from_secs(5)).await.unwrap_err();
        let observed = machine.observe().await.unwrap();
        assert!(observed.disks.iter().all(|disk| disk.snapshots.is_empty()), "{:?}", observed.disks);
        assert!(observed.status.running);
        failed
    });
    let error = error.expect("nothing waits for ever");
    assert!(matches!(error, OperationError::RolledBack { .. }), "{error}");
    assert_eq!(simulation.world().qemu().jobs().count(), 0, "no job is left");
    assert!(simulation.world().host().exists("/images/vda.qcow2".into()), "a file that was there stays");
}
