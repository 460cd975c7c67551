//! A machine's memory saved to a file and loaded from it, in plans of the test's own making, on the simulator: with everything
//! that can go wrong on the way. `memory_on_real_qemu` does it on real ones.

use std::{rc::Rc, time::Duration};

use freezeframe::{
    language::{Fault, FaultKind, Moment, Point},
    transcript::{lines, render},
    world::{
        World as _,
        sim::{SimWorld, Simulator},
    },
};
use freezeframe_driver::{
    capabilities::Capabilities,
    error::{Code, OperationError, StepError},
    migration::Settings,
    plan::Plan,
    save_image::{BadSaveImage, Format, SaveImage},
    step::{BeginSaveImage, Meanwhile, Step},
};
use freezeframe_sim::{
    Machine, Oracle, Release, Simulation,
    exec::Spawner,
    host::{Host, Image},
    machine::Power,
};
use freezeframe_tests::memory::{
    self, DOCUMENT, Rig, SLOW, another_client_does, fault, slow, slow_and_cancelled,
};
use rstest::rstest;

const DISKS: [&str; 2] = ["vda", "vdb"];
const PATH: &str = "/images/vm.mem";

type Sim = SimWorld<Spawner>;

/// A release, what the guest does meanwhile, and how its memory is laid out.
type Way = (Release, Meanwhile, Format);

/// Every release with every way that it has.
fn ways() -> Vec<Way> {
    let ways =
        |release| memory::ways(release).into_iter().map(move |(guest, format)| (release, guest, format));
    Release::ALL.into_iter().flat_map(ways).collect()
}

/// Simulated machines, and what each release can do.
#[derive(Default)]
struct Bench {
    simulator: Simulator,
}

/// What came of an operation.
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

    /// All that a failing test wants to know.
    fn told(&self, of: &dyn std::fmt::Debug) -> String {
        format!("{of:?}: {:?}, {:?}, saved {:?}\n{}", self.result, self.after, self.saved, self.said)
    }
}

impl Bench {
    fn capabilities(&mut self, release: Release) -> Rc<Capabilities> {
        self.simulator.capabilities(release).expect("a simulated QEMU tells what it can do")
    }

    /// Saves the memory of a running machine; disks that are named go on in overlays.
    fn save(&mut self, way: Way, disks: &[&str], faults: &[Fault]) -> After {
        self.save_after(way, disks, faults, |_| {}, |plan| plan)
    }

    /// The same after something was prepared, and with another plan.
    fn save_after(
        &mut self,
        way: Way,
        disks: &[&str],
        faults: &[Fault],
        prepare: impl Fn(&Simulation),
        change: impl Fn(Plan) -> Plan,
    ) -> After {
        let (release, guest, format) = way;
        let capabilities = self.capabilities(release);
        let described = Machine::new().disk("vda").disk("vdb");
        let simulation = Simulation::new(&described, release, Oracle::default_order());
        prepare(&simulation);
        let handle = simulation.handle();
        let run = simulation.run(async {
            let world = Sim::new(&described, handle.sockets(), handle.spawner());
            let rig = Rig::new(&world, capabilities, &DISKS, faults).await;
            let before = rig.settings().await;
            let plan = change(rig.saving(guest, format, disks).await);
            let result = rig.carry_out(&plan).await;
            let alive = rig.control.lost().is_none();
            let after = if alive { Some((rig.settings().await, rig.status().await.running)) } else { None };
            let record = rig.record.take();
            let said = render(&lines(&record, world.folder()));
            (result, before, after, rig.saved().await.ok(), rig.faults.missed(), said)
        });
        let (result, before, after, saved, missed, said) = run.expect("nothing waits for ever");
        After { simulation, result, before, after, saved, missed, said }
    }

    /// Loads a save image of `host` into a machine of this memory that waits for it. Tells how that went and how the machine
    /// stands then, if it still does.
    fn load(
        &mut self,
        release: Release,
        host: &Host,
        memory: u64,
        faults: &[Fault],
    ) -> (Result<(), OperationError>, Option<String>) {
        let capabilities = self.capabilities(release);
        let described = Machine::new().disk("vda").disk("vdb").power(Power::Prelaunch);
        let described = Machine { incoming: true, memory, ..described };
        let simulation = Simulation::new(&described, release, Oracle::default_order());
        let handle = simulation.handle();
        {
            let sockets = handle.sockets();
            let mut world = sockets.world_mut();
            let path = PATH.into();
            let image = host.image(path).cloned().unwrap_or(Image::raw(0));
            world.host_mut().create(path, image).unwrap();
            world.host_mut().replace_document(path, host.document(path).unwrap_or_default()).unwrap();
        }
        let run = simulation.run(async {
            let world = Sim::new(&described, handle.sockets(), handle.spawner());
            let rig = Rig::new(&world, capabilities, &DISKS, faults).await;
            let result = rig.carry_out(&rig.loading(&rig.path())).await;
            let stands = if rig.control.lost().is_none() { Some(rig.status().await.status) } else { None };
            (result, stands)
        });
        run.expect("nothing waits for ever")
    }
}

#[test]
fn memory_is_saved_behind_libvirts_header_and_the_guest_goes_on_in_its_overlays() {
    let mut bench = Bench::default();
    for way in ways() {
        let after = bench.save(way, &DISKS, &[]);
        let told = after.told(&way);
        let (_, _, format) = way;
        assert!(after.result.is_ok() && after.as_before(), "{told}");
        let (image, length) = after.saved.clone().expect("a save image");
        assert!(image.complete && image.was_running && image.format == format, "{told}");
        assert_eq!((image.document.as_str(), image.cookie.as_deref()), (DOCUMENT, Some("<cookie/>")));
        let world = after.simulation.world();
        let state = world.host().image(PATH.into()).and_then(Image::as_machine_state).expect("a state");
        assert!(state.is_whole() && state.mapped == (format == Format::Sparse), "{told}");
        assert_eq!((state.at % 65536, state.at + state.size), (0, length), "{told}");
        for disk in DISKS {
            assert!(world.host().exists(format!("/images/{disk}.s1").as_str().into()), "{told}");
        }
        world.check_invariants().unwrap_or_else(|broken| panic!("{broken:?} {told}"));
    }
}

/// Faults at every command that is sent on the way, and at every event.
fn faults() -> Vec<Fault> {
    const COMMANDS: [(&str, u32); 8] = [
        ("migrate-set-capabilities", 2),
        ("migrate-set-parameters", 2),
        ("stop", 1),
        ("getfd", 1),
        ("migrate", 1),
        ("query-migrate", 2),
        ("query-status", 1),
        ("cont", 1),
    ];
    let kinds = || [FaultKind::Disconnect, FaultKind::LoseReply, FaultKind::KillQemu].into_iter();
    let mut faults = Vec::new();
    for (command, times) in COMMANDS {
        let moment = || Moment::Command(command.into());
        for nth in 1..=times {
            faults.extend(kinds().map(|kind| fault(moment(), nth, Point::Before, kind)));
            faults.extend(kinds().map(|kind| fault(moment(), nth, Point::Applied, kind)));
        }
    }
    let moment = || Moment::Event("MIGRATION".into());
    for nth in 1..=4 {
        faults.extend(kinds().map(|kind| fault(moment(), nth, Point::Before, kind)));
    }
    faults
}

/// Whatever goes wrong: the memory is saved whole, or nothing of it is left; and the guest runs, set as it was.
#[test]
fn every_fault_on_the_way_leaves_the_whole_or_nothing_and_a_guest_that_runs() {
    let mut bench = Bench::default();
    let (mut whole, mut nothing, mut gone) = (0, 0, 0);
    for way in ways() {
        for fault in faults() {
            let after = bench.save(way, &[], std::slice::from_ref(&fault));
            let told = after.told(&(way, &fault));
            let complete = after.saved.as_ref().is_some_and(|(image, _)| image.complete);
            let alive = after.simulation.world().qemu_is_running();
            assert_eq!(after.as_before(), alive, "{told}");
            match &after.result {
                Ok(()) => {
                    assert!(complete, "{told}");
                    whole += usize::from(after.missed.is_empty());
                }
                Err(OperationError::RolledBack { .. }) => {
                    assert!(after.saved.is_none() && alive, "{told}");
                    nothing += 1;
                }
                Err(OperationError::MachineGone { .. }) => {
                    assert!(after.saved.is_none() && !alive, "{told}");
                    gone += 1;
                }
                // Its memory is saved: only the settings of a QEMU that is gone could not be put back.
                Err(OperationError::Unfinished { .. }) => {
                    assert!(complete && !alive, "{told}");
                    gone += 1;
                }
                Err(_) => panic!("{told}"),
            }
        }
    }
    assert!(whole > 100 && nothing > 100 && gone > 100, "{whole} {nothing} {gone}");
}

/// It gets full between the header and the memory.
#[test]
fn memory_that_finds_no_space_is_not_saved() {
    let mut bench = Bench::default();
    for way in ways() {
        let gets_full = |simulation: &Simulation| {
            let handle = simulation.handle();
            let (sockets, time) = (handle.sockets(), handle.spawner());
            handle.spawner().spawn_local("host", async move {
                while sockets.world().host().length(PATH.into()).is_none_or(|length| length == 0) {
                    time.sleep_until(time.now() + Duration::from_millis(1)).await;
                }
                sockets.world_mut().host_mut().set_full(PATH.into(), true);
            });
        };
        let after = bench.save_after(way, &[], &[], gets_full, |plan| plan);
        let told = after.told(&way);
        let Err(error @ OperationError::RolledBack { .. }) = &after.result else { panic!("{told}") };
        assert!(error.to_string().contains("No space left on device"), "{told}");
        assert!(after.saved.is_none() && after.as_before(), "{told}");
    }
}

#[test]
fn a_header_that_finds_no_space_is_the_end_before_the_guest_is_stopped() {
    let full = |simulation: &Simulation| {
        simulation.handle().sockets().world_mut().host_mut().set_full(PATH.into(), true);
    };
    let way = (Release::V10_0, Meanwhile::Paused, Format::Raw);
    let after = Bench::default().save_after(way, &[], &[], full, |plan| plan);
    let told = after.told(&way);
    let Err(OperationError::RolledBack { cause, .. }) = &after.result else { panic!("{told}") };
    assert_eq!(cause.code(), Code::SystemError, "{told}");
    assert!(after.saved.is_none() && after.as_before() && !after.said.contains("STOP"), "{told}");
}

#[test]
fn memory_whose_saving_somebody_else_cancels_is_not_saved() {
    let mut bench = Bench::default();
    for way in ways() {
        let after = bench.save(way, &[], &slow_and_cancelled());
        let told = after.told(&way);
        let Err(OperationError::RolledBack { cause, .. }) = &after.result else { panic!("{told}") };
        assert!(matches!(cause, StepError::MigrationCancelled), "{told}");
        // What the other client had set is the other client's.
        assert!(after.saved.is_none() && after.as_before(), "{told}");
    }
}

#[rstest]
#[case(Release::V5_2)]
#[case(Release::V7_2)]
fn memory_that_takes_too_long_is_not_saved(#[case] release: Release) {
    for guest in [Meanwhile::Paused, Meanwhile::Live] {
        let way = (release, guest, Format::Raw);
        let after = Bench::default().save(way, &[], &[slow()]);
        let told = after.told(&way);
        let Err(OperationError::RolledBack { cause, .. }) = &after.result else { panic!("{told}") };
        assert_eq!(cause.code(), Code::OperationTimeout, "{told}");
        assert!(after.saved.is_none() && after.as_before(), "{told}");
    }
}

/// Another client's migration is under way when this is to begin: it is neither joined nor stopped.
#[test]
fn somebody_elses_migration_is_left_alone() {
    let mut bench = Bench::default();
    let theirs = r#"{"execute": "migrate", "arguments": {"uri": "exec:cat >/images/theirs"}}"#;
    let begin = Moment::Command("migrate-set-capabilities".into());
    let theirs = fault(begin, 1, Point::Before, FaultKind::Qmp(theirs.into()));
    let slow = another_client_does("qmp_capabilities", SLOW);
    for way in ways() {
        let after = bench.save(way, &[], &[slow.clone(), theirs.clone()]);
        let told = after.told(&way);
        let Err(error @ OperationError::RolledBack { .. }) = &after.result else { panic!("{told}") };
        assert!(error.to_string().contains("There's a migration process in progress"), "{told}");
        assert!(after.saved.is_none() && !after.said.contains("cancel"), "{told}");
    }
}

/// The same, begun when this had set all and was about to begin.
#[test]
fn somebody_elses_migration_that_was_quicker_is_not_stopped() {
    let mut bench = Bench::default();
    let theirs = r#"{"execute": "migrate", "arguments": {"uri": "exec:cat >/images/theirs"}}"#;
    for release in Release::ALL {
        let way = (release, Meanwhile::Paused, Format::Raw);
        let after = bench.save(way, &[], &[slow(), another_client_does("stop", theirs)]);
        let told = after.told(&way);
        // What migrations are set to cannot be put back meanwhile, and that is said.
        let Err(error @ OperationError::NotRolledBack { .. }) = &after.result else { panic!("{told}") };
        assert!(error.to_string().contains("There's a migration process in progress"), "{told}");
        assert!(after.saved.is_none() && !after.said.contains("migrate_cancel"), "{told}");
    }
}

/// QEMU says `completed` of the migration before.
#[test]
fn memory_of_which_nothing_was_written_is_not_taken_for_saved() {
    let mut bench = Bench::default();
    let lost = fault(Moment::Command("migrate".into()), 2, Point::Before, FaultKind::Disconnect);
    for (release, guest, format) in ways() {
        let capabilities = bench.capabilities(release);
        let described = Machine::new().disk("vda").disk("vdb");
        let simulation = Simulation::new(&described, release, Oracle::default_order());
        let handle = simulation.handle();
        let run = simulation.run(async {
            let world = Sim::new(&described, handle.sockets(), handle.spawner());
            let rig = Rig::new(&world, capabilities, &DISKS, std::slice::from_ref(&lost)).await;
            rig.carry_out(&rig.saving(guest, format, &[]).await).await.expect("nothing goes wrong at first");
            handle.sockets().world_mut().host_mut().remove(PATH.into()).unwrap();
            let result = rig.carry_out(&rig.saving(guest, format, &[]).await).await;
            (result, rig.status().await.running, rig.saved().await.is_ok())
        });
        let after = run.expect("nothing waits for ever");
        assert!(
            matches!(after, (Err(OperationError::RolledBack { .. }), true, false)),
            "{release} {after:?}"
        );
    }
}

/// A file that holds something stays as it is, unless it may be overwritten; an empty one is used.
#[rstest]
#[case::empty("", false, true)]
#[case::full("precious", false, false)]
#[case::full_and_given_up("worthless", true, true)]
fn a_file_that_is_there(#[case] holds: &str, #[case] overwrite: bool, #[case] used: bool) {
    let there = |simulation: &Simulation| {
        let sockets = simulation.handle().sockets();
        sockets.world_mut().host_mut().replace_document(PATH.into(), holds.as_bytes()).unwrap();
    };
    let without_reserving = |mut plan: Plan| {
        plan.stages.remove(0);
        plan.no_return -= 1;
        for step in &mut plan.stages[0].steps {
            if let Step::BeginSaveImage(begin) = step {
                *begin = BeginSaveImage { overwrite, ..begin.clone() };
            }
        }
        plan
    };
    let way = (Release::V10_0, Meanwhile::Paused, Format::Raw);
    let after = Bench::default().save_after(way, &[], &[], there, without_reserving);
    let told = after.told(&way);
    assert!(after.as_before(), "{told}");
    assert_eq!(after.result.is_ok(), used, "{told}");
    if !used {
        let world = after.simulation.world();
        assert_eq!(world.host().document(PATH.into()), Some(holds.as_bytes()));
    }
}

#[test]
fn a_file_that_was_there_is_empty_again_when_it_could_not_be_saved() {
    let there = |simulation: &Simulation| {
        simulation.handle().sockets().world_mut().host_mut().replace_document(PATH.into(), b"").unwrap();
    };
    let without_reserving = |mut plan: Plan| {
        plan.stages.remove(0);
        plan.no_return -= 1;
        plan
    };
    let mut bench = Bench::default();
    for way in ways() {
        let after = bench.save_after(way, &[], &slow_and_cancelled(), there, without_reserving);
        let told = after.told(&way);
        assert!(matches!(after.result, Err(OperationError::RolledBack { .. })), "{told}");
        assert_eq!(after.simulation.world().host().length(PATH.into()), Some(0), "{told}");
    }
}

/// The host of a machine whose memory was saved this way.
fn saved(bench: &mut Bench, way: Way) -> Host {
    let after = bench.save(way, &[], &[]);
    assert!(after.result.is_ok(), "{}", after.told(&way));
    after.simulation.world().host().clone()
}

#[test]
fn what_was_saved_is_loaded_and_the_guest_stands_still() {
    let mut bench = Bench::default();
    for way in ways() {
        let host = saved(&mut bench, way);
        let (result, stands) = bench.load(way.0, &host, 64 << 20, &[]);
        assert!(result.is_ok(), "{way:?}: {result:?}");
        assert_eq!(stands.as_deref(), Some("paused"), "{way:?}");
    }
}

#[test]
fn memory_of_another_machine_is_not_loaded() {
    let mut bench = Bench::default();
    for way in ways() {
        let host = saved(&mut bench, way);
        let (result, stands) = bench.load(way.0, &host, 128 << 20, &[]);
        if way.0 <= Release::V7_2 {
            // It ends, and says why on its standard error alone.
            assert!(matches!(result, Err(OperationError::MachineGone { .. })), "{way:?}: {result:?}");
            assert_eq!(stands, None, "{way:?}");
        } else {
            let Err(error @ OperationError::RolledBack { .. }) = &result else {
                panic!("{way:?}: {result:?}")
            };
            assert!(error.to_string().contains("could not be loaded: load of migration failed: "), "{error}");
            assert_eq!(stands.as_deref(), Some("inmigrate"), "{way:?}");
        }
    }
}

#[test]
fn a_save_image_that_was_never_finished_is_not_loaded() {
    let mut bench = Bench::default();
    for way in ways() {
        let mut host = saved(&mut bench, way);
        host.write_document(PATH.into(), 0, b"LibvirtQemudPart").unwrap();
        let (result, stands) = bench.load(way.0, &host, 64 << 20, &[]);
        let Err(OperationError::RolledBack { cause, .. }) = &result else { panic!("{way:?}: {result:?}") };
        assert!(matches!(cause, StepError::SaveImageIncomplete(_)), "{way:?}: {cause}");
        assert_eq!(stands.as_deref(), Some("inmigrate"), "{way:?}");
    }
}

#[test]
fn a_save_image_that_is_cut_off_is_not_loaded_wherever_it_ends() {
    let mut bench = Bench::default();
    for way in ways() {
        let whole = saved(&mut bench, way);
        let length = whole.length(PATH.into()).unwrap();
        for (lost, missing) in [(1, Some(1)), (40, Some(40)), (1000, None), (400_000, None)] {
            let mut host = whole.clone();
            host.set_length(PATH.into(), length - lost).unwrap();
            let (result, stands) = bench.load(way.0, &host, 64 << 20, &[]);
            let Err(OperationError::RolledBack { cause, .. }) = &result else {
                panic!("{way:?}: {result:?}")
            };
            let cut = BadSaveImage::Cut(missing);
            assert!(matches!(cause, StepError::SaveImage { cause, .. } if *cause == cut), "{way:?}: {cause}");
            assert_eq!(stands.as_deref(), Some("inmigrate"), "{way:?}");
        }
    }
}

#[test]
fn a_fault_while_memory_is_loaded_is_never_taken_for_success() {
    let mut bench = Bench::default();
    let mut failed = 0;
    for way in ways() {
        let host = saved(&mut bench, way);
        for command in ["migrate-set-capabilities", "getfd", "migrate-incoming", "query-migrate"] {
            for point in [Point::Before, Point::Applied] {
                for kind in [FaultKind::Disconnect, FaultKind::LoseReply, FaultKind::KillQemu] {
                    let fault = fault(Moment::Command(command.into()), 1, point, kind);
                    let (result, stands) = bench.load(way.0, &host, 64 << 20, std::slice::from_ref(&fault));
                    let told = format!("{way:?} {fault:?}: {result:?} {stands:?}");
                    match (result, stands.as_deref()) {
                        (Ok(()), stands) => assert_eq!(stands, Some("paused"), "{told}"),
                        // It was asked, and had taken in nothing.
                        (Err(OperationError::RolledBack { .. }), Some("inmigrate"))
                        | (Err(OperationError::MachineGone { .. }), None) => failed += 1,
                        _ => panic!("{told}"),
                    }
                }
            }
        }
    }
    assert!(failed > 50, "{failed}");
}
