//! A machine's memory saved to a file and loaded from it, in plans of the test's own making, on the simulator: with everything
//! that can go wrong on the way. `memory_on_real_qemu` does it on real ones.

use std::time::Duration;

use freezeframe::{
    language::{At, Fault, FaultKind, Moment, Point},
    world::sim::SimWorld,
};
use freezeframe_driver::{
    commands::QueryStatus,
    error::{OperationError, StepError},
    migration::Settings,
    save_image::{Format, SaveImage},
    step::Meanwhile,
};
use freezeframe_sim::{Machine, Oracle, Release, Simulation, exec::Spawner, host::Image};
use freezeframe_tests::memory::{DOCUMENT, Rig};

type Sim = SimWorld<Spawner>;

const DISKS: [&str; 2] = ["vda", "vdb"];

/// A machine that was simulated, and what came of it.
struct After {
    simulation: Simulation,
    result: Result<(), OperationError>,
    /// Migration settings before; and afterwards, with whether the guest runs: if QEMU still lives.
    before: Settings,
    after: Option<(Settings, bool)>,
    /// What the save image says, and its length; none if it is not there.
    saved: Option<(SaveImage, u64)>,
    /// Faults that never struck.
    missed: Vec<String>,
    said: String,
}

impl After {
    /// Whether the guest runs in a QEMU that is set as before.
    fn as_before(&self) -> bool {
        self.after.as_ref() == Some(&(self.before.clone(), true))
    }
}

fn described() -> Machine {
    Machine::new().disk("vda").disk("vdb")
}

fn save(way: Way, disks: &[&str], faults: &[Fault]) -> After {
    prepared_save(way, disks, faults, |_| {})
}

fn prepared_save(way: Way, disks: &[&str], faults: &[Fault], prepare: impl Fn(&Simulation)) -> After {
    let (release, guest, format) = way;
    let described = described();
    let simulation = Simulation::new(&described, release, Oracle::default_order());
    prepare(&simulation);
    let handle = simulation.handle();
    let run = simulation.run(async {
        let world = Sim::new(&described, handle.sockets(), handle.spawner());
        let rig = Rig::new(&world, &DISKS, faults).await;
        let before = rig.settings().await;
        let plan = rig.saving(guest, format, disks).await;
        let result = rig.carry_out(&plan).await;
        let after = if rig.control.lost().is_none() {
            let status = rig.control.execute("test", &QueryStatus {}, Duration::MAX).await.unwrap();
            Some((rig.settings().await, status.running))
        } else {
            None
        };
        let said = rig.record.take();
        let said: String = said.iter().map(|(at, entry)| format!("{at:?} {entry:?}\n")).collect();
        (result, before, after, rig.saved().await.ok(), rig.faults.missed(), said)
    });
    let (result, before, after, saved, missed, said) = run.expect("nothing waits for ever");
    After { simulation, result, before, after, saved, missed, said }
}

/// A release, what the guest does meanwhile, and how the memory is laid out.
type Way = (Release, Meanwhile, Format);

/// Every release with every way that it has.
fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for release in Release::ALL {
        ways.push((release, Meanwhile::Paused, Format::Raw));
        ways.push((release, Meanwhile::Live, Format::Raw));
        if release > Release::V5_2 {
            ways.push((release, Meanwhile::Background, Format::Raw));
        }
        if release > Release::V7_2 {
            ways.push((release, Meanwhile::Paused, Format::Sparse));
            ways.push((release, Meanwhile::Live, Format::Sparse));
        }
    }
    ways
}

#[test]
fn memory_is_saved_behind_libvirts_header_and_the_guest_goes_on_in_its_overlays() {
    for way in ways() {
        let after = save(way, &DISKS, &[]);
        let (_, _, format) = way;
        let way = format!("{way:?}");
        after.result.as_ref().unwrap_or_else(|error| panic!("{way}: {error}\n{}", after.said));
        let (image, length) = after.saved.clone().expect("a save image");
        assert!(image.complete && image.was_running, "{way}");
        assert_eq!((image.document.as_str(), image.format), (DOCUMENT, format), "{way}");
        let world = after.simulation.world();
        let state = world.host().image("/images/vm.mem".into()).and_then(Image::as_machine_state);
        let state = state.unwrap_or_else(|| panic!("{way}: no state"));
        assert!(state.whole && state.mapped == (format == Format::Sparse), "{way}");
        assert_eq!((state.at % 65536, state.at + state.size), (0, length), "{way}");
        assert!(after.as_before(), "{way} {:?}", after.after);
        for disk in DISKS {
            let overlay = world.host().image(format!("/images/{disk}.s1").as_str().into());
            assert!(overlay.is_some(), "{way}");
        }
        world.check_invariants().unwrap_or_else(|broken| panic!("{way}: {broken:?}"));
    }
}

fn fault(moment: Moment, nth: u32, point: Point, kind: FaultKind) -> Fault {
    let one = |number: u32| number.try_into().expect("not 0");
    Fault { at: At { moment, point, with: None, nth: one(nth) }, kind, times: one(1) }
}

/// Faults at every command that is sent on the way, and at every event.
fn faults() -> Vec<Fault> {
    let commands = [
        ("migrate-set-capabilities", 2),
        ("migrate-set-parameters", 2),
        ("stop", 1),
        ("getfd", 1),
        ("migrate", 1),
        ("query-migrate", 2),
        ("query-status", 1),
        ("cont", 1),
        ("transaction", 1),
    ];
    let mut faults = Vec::new();
    for (command, times) in commands {
        for nth in 1..=times {
            for point in [Point::Before, Point::Applied] {
                for kind in [FaultKind::Disconnect, FaultKind::LoseReply, FaultKind::KillQemu] {
                    faults.push(fault(Moment::Command(command.into()), nth, point, kind));
                }
            }
        }
    }
    for nth in 1..=4 {
        for kind in [FaultKind::Disconnect, FaultKind::LoseReply, FaultKind::KillQemu] {
            faults.push(fault(Moment::Event("MIGRATION".into()), nth, Point::Before, kind));
        }
    }
    faults
}

/// Whatever goes wrong: the memory is saved whole, or nothing of it is left; and the guest runs, set as it was.
#[test]
fn every_fault_on_the_way_leaves_the_whole_or_nothing_and_a_guest_that_runs() {
    let mut struck = 0;
    for way in ways() {
        for fault in faults() {
            let after = save(way, &[], std::slice::from_ref(&fault));
            let way = format!("{way:?} {fault:?}: {:?} {:?}\n{}", after.result, after.after, after.said);
            if !after.missed.is_empty() {
                assert!(after.result.is_ok(), "{way}");
                continue;
            }
            struck += 1;
            let alive = after.simulation.world().qemu_is_running();
            let whole = after.saved.as_ref().is_some_and(|(image, _)| image.complete);
            match &after.result {
                Ok(()) => assert!(whole, "{way}"),
                Err(OperationError::RolledBack { .. }) => assert!(after.saved.is_none() && alive, "{way}"),
                Err(OperationError::MachineGone { .. }) => assert!(after.saved.is_none() && !alive, "{way}"),
                Err(_) => panic!("{way}"),
            }
            assert_eq!(after.as_before(), alive, "{way}");
        }
    }
    assert!(struck > 400, "{struck} faults struck");
}

/// It gets full between the header and the memory.
#[test]
fn memory_that_finds_no_space_is_not_saved() {
    for way in ways() {
        let after = prepared_save(way, &[], &[], |simulation| {
            let handle = simulation.handle();
            let (sockets, time) = (handle.sockets(), handle.spawner());
            handle.spawner().spawn_local("host", async move {
                let path = "/images/vm.mem".into();
                while sockets.world().host().length(path).is_none_or(|length| length == 0) {
                    time.sleep_until(time.now() + Duration::from_millis(1)).await;
                }
                sockets.world_mut().host_mut().set_full(path, true);
            });
        });
        let way = format!("{way:?}: {:?} {:?}\n{}", after.result, after.after, after.said);
        let Err(error @ OperationError::RolledBack { .. }) = &after.result else { panic!("{way}") };
        assert!(error.to_string().contains("No space left on device"), "{way}");
        assert!(after.saved.is_none() && after.as_before(), "{way}");
    }
}

/// What another client does right after `migrate` was carried out.
fn another_client_does(command: &str) -> Fault {
    let kind = FaultKind::Qmp(format!("{{\"execute\": \"{command}\"}}"));
    fault(Moment::Command("migrate".into()), 1, Point::Applied, kind)
}

#[test]
fn memory_whose_saving_somebody_else_cancels_is_not_saved() {
    for way in ways() {
        let after = save(way, &[], &[another_client_does("migrate_cancel")]);
        let way = format!("{way:?}: {:?} {:?}\n{}", after.result, after.after, after.said);
        let Err(OperationError::RolledBack { cause, .. }) = &after.result else { panic!("{way}") };
        assert!(matches!(cause, StepError::MigrationCancelled), "{way}");
        assert!(after.saved.is_none() && after.as_before(), "{way}");
    }
}
