//! More disks than anybody has.

use std::rc::Rc;

use freezeframe::{
    play,
    world::{World as _, sim::SimWorld},
};
use freezeframe_driver::{
    Patience,
    domain::{Domain, DomainDisk},
    domain_snapshot::DomainSnapshot,
    request::{Create, CreateFlag, Request},
    step::Step,
};
use freezeframe_sim::{Machine, Oracle, Release, Simulation};

const DISKS: usize = 1_000;

#[test]
fn a_thousand_disks_are_switched_in_one_transaction() {
    let names: Vec<_> = (0..DISKS).map(|index| format!("d{index}")).collect();
    let described = names.iter().fold(Machine::new(), |machine, name| machine.disk(name));
    let simulation = Simulation::new(&described, Release::V10_0, Oracle::default_order());
    let handle = simulation.handle();
    let (plan, report, observed) = simulation
        .run(async {
            let world = SimWorld::new(&described, handle.sockets(), handle.spawner());
            let capabilities = Rc::new(play::capabilities(&world).await.unwrap());
            let disks = names.iter().map(|name| DomainDisk {
                source: Some(format!("/images/{name}.qcow2").into()),
                ..DomainDisk::new(name, &format!("{name}-device"))
            });
            let domain = Domain::new("vm", disks.collect());
            let (env, patience) = (world.env().clone(), Patience::default());
            let connected = freezeframe_driver::Machine::connect(
                env,
                world.monitor(),
                domain,
                Some(capabilities),
                patience,
            );
            let machine = connected.await.unwrap();
            let wish = DomainSnapshot { name: Some("s1".into()), ..DomainSnapshot::default() };
            let create = Request::Create(Box::new(Create::new(wish, [CreateFlag::DiskOnly])));
            let plan = machine.plan(&create).await.unwrap();
            let report = machine.perform(&create).await.unwrap();
            (plan, report, machine.observe().await.unwrap())
        })
        .expect("nothing waits for ever");
    let switches = plan.steps().filter(|step| matches!(step, Step::SwitchOverlays(_))).count();
    assert_eq!((switches, report.disks.len()), (1, DISKS));
    for name in &names {
        let disk = observed.disk(name).expect("every disk has an image");
        assert_eq!((disk.file.as_str(), disk.depth), (format!("/images/{name}.s1").as_str(), 2));
    }
}
