//! Going back to snapshots whose records no scenario can hold: of another machine, of one that was off, or of states that a running
//! machine never has; and what lies aside is gone. On the simulator, on every release.

use std::rc::Rc;

use camino::Utf8Path;
use freezeframe::world::{
    World as _,
    sim::{SimEnv, SimWorld, Simulator},
};
use freezeframe_driver::{
    Machine, Patience,
    capabilities::Capabilities,
    commands::QueryStatus,
    domain::Domain,
    domain_snapshot::{DomainSnapshot, Location, State},
    domain_xml::DomainXml,
    env::Env as _,
    error::{Code, OperationError},
    launch::Launcher,
    name::SnapshotName,
    report::{Anew, Deed, Report},
    request::{Create, CreateFlag, Request, Revert, RevertFlag, WITHIN},
    step::{Naming, Step},
    store::Store,
    xml::Limits,
};
use freezeframe_sim::{Machine as Described, Oracle, Release, Simulation, exec::Spawner};
use rstest::rstest;

const STATE: &str = "/images/state";

type Env = SimEnv<Spawner>;

/// A machine with one disk, described with so much memory; what QEMU really has is not asked for.
fn document(mebibytes: u32) -> DomainXml {
    let text = format!(
        "<domain type='qemu'><name>vm</name><memory unit='MiB'>{mebibytes}</memory>
         <os><type machine='q35'>hvm</type></os><features><acpi/></features><devices>
         <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/vda.qcow2'/>
         <target dev='vda' bus='virtio'/><alias name='vda-device'/></disk></devices></domain>"
    );
    DomainXml::read(text.as_bytes()).unwrap()
}

/// A machine of which records are kept, in a simulated world.
struct Bench {
    world: SimWorld<Spawner>,
    capabilities: Rc<Capabilities>,
}

impl Bench {
    /// The machine as it is described now.
    async fn machine(&self, document: DomainXml) -> Machine<Env> {
        let (env, patience) = (self.world.env().clone(), Patience::default());
        let capabilities = Some(self.capabilities.clone());
        let domain = Domain::from(document);
        let machine =
            Machine::connect(env.clone(), self.world.monitor(), domain, capabilities, patience).await;
        let (store, _) = Store::open(env, STATE.into(), "vm").await.unwrap();
        machine.unwrap().with_records(store).with_launcher(self.world.launcher())
    }

    /// Changes a record, while no driver is at work.
    async fn record(&self, change: impl FnOnce(&mut DomainSnapshot)) {
        let (mut store, _) = Store::open(self.world.env().clone(), STATE.into(), "vm").await.unwrap();
        let mut tree = store.tree().clone();
        let mut record = tree.get("s1").unwrap().clone();
        change(&mut record);
        tree.insert(record);
        store.save(tree).await.unwrap();
    }

    async fn exists(&self, path: &str) -> bool {
        let kind = self.world.env().file_kind(Utf8Path::new(path)).await.unwrap();
        kind != freezeframe_driver::env::FileKind::Absent
    }
}

/// Takes `s1` of a machine with 64 MiB and lets a story begin.
fn after<R>(release: Release, kind: Kind, story: impl AsyncFnOnce(Bench) -> R) -> R {
    let capabilities = Simulator::new().capabilities(release).unwrap();
    let described = Described::new().disk("vda");
    let simulation = Simulation::new(&described, release, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&described, handle.sockets(), handle.spawner());
    let told = simulation.run(async {
        let bench = Bench { world, capabilities };
        let machine = bench.machine(document(64)).await;
        machine.perform(&kind.create()).await.unwrap();
        machine.client().close();
        drop(machine);
        story(bench).await
    });
    simulation.world().check_invariants().unwrap();
    told.unwrap()
}

/// What is done to a record.
type Change = fn(&mut DomainSnapshot);

/// What kind of snapshot `s1` is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Internal,
    Overlays,
    Memory,
}

impl Kind {
    fn create(self) -> Request {
        let mut wish = DomainSnapshot { name: Some("s1".into()), ..DomainSnapshot::default() };
        if let Kind::Memory = self {
            wish.memory.location = Some(Location::External);
            wish.memory.file = Some("/images/vm.mem".into());
        }
        let disk_only = matches!(self, Kind::Overlays).then_some(CreateFlag::DiskOnly);
        Request::Create(Box::new(Create::new(wish, disk_only)))
    }
}

fn revert(flags: &[RevertFlag]) -> Request {
    let name = SnapshotName::new("s1").unwrap();
    let flags = flags.iter().copied().collect();
    Request::Revert(Revert::new(name, flags, WITHIN))
}

/// Whether the guest runs, in whatever process.
async fn runs(machine: &Machine<Env>) -> bool {
    let deadline = std::time::Duration::MAX;
    machine.client().execute("test", &QueryStatus {}, deadline).await.unwrap().running
}

fn anew(report: &Report) -> Anew {
    match &report.deed {
        Deed::Reverted(anew) => *anew,
        other => panic!("{other:?}"),
    }
}

/// It was refused with that code, in words that hold these, and the guest runs on.
async fn refused(machine: &Machine<Env>, flags: &[RevertFlag], code: Code, words: &str) {
    let error = machine.perform(&revert(flags)).await.expect_err(words);
    assert!(matches!(error, OperationError::Refused(_)), "{error}");
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(runs(machine).await, "{words}");
}

#[rstest]
fn another_machine_is_gone_back_to_by_force_alone_and_in_a_new_process(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(Kind::Internal, Kind::Overlays, Kind::Memory)] kind: Kind,
) {
    after(release, kind, async |bench| {
        let machine = bench.machine(document(128)).await;
        refused(
            &machine,
            &[RevertFlag::Running],
            Code::SnapshotRevertRisky,
            "the machine that runs is not the one of `s1`: memory: unit='MiB' 128 here, unit='MiB' 64 there",
        )
        .await;
        let report = machine.perform(&revert(&[RevertFlag::Running, RevertFlag::Force])).await.unwrap();
        assert_eq!(anew(&report), Anew::Running);
        assert!(runs(&machine).await);
        assert_eq!(machine.domain().document.unwrap().differs_from(&document(64)), None);
        assert_eq!(machine.tree().unwrap().current(), Some("s1"));
    });
}

#[rstest]
#[case(&[], Anew::Off)]
#[case(&[RevertFlag::Running], Anew::Running)]
#[case(&[RevertFlag::Paused], Anew::Paused)]
fn a_machine_that_was_off_is_gone_back_to_by_force_alone(#[case] flags: &[RevertFlag], #[case] then: Anew) {
    for release in Release::ALL {
        after(release, Kind::Internal, async |bench| {
            bench
                .record(|record| {
                    record.state = Some(State::Shutoff);
                    record.memory.location = Some(Location::No);
                })
                .await;
            let machine = bench.machine(document(64)).await;
            refused(&machine, flags, Code::SnapshotRevertRisky, "taken of a machine that was off").await;
            let report = machine.perform(&revert(&[flags, &[RevertFlag::Force]].concat())).await.unwrap();
            assert_eq!(anew(&report), then, "{release}");
            let reached = machine.observe().await;
            assert_eq!(
                reached.map(|seen| seen.status.running).ok(),
                (then != Anew::Off).then_some(then == Anew::Running)
            );
        });
    }
}

#[test]
fn a_record_that_says_too_little_or_too_much_is_refused() {
    let changes: [(Change, Code, &str); 4] = [
        (
            |record| record.state = Some(State::PmSuspended),
            Code::OperationUnsupported,
            "the guest slept (pmsuspended)",
        ),
        (
            |record| record.state = Some(State::Blocked),
            Code::InternalError,
            "says that the machine was `blocked`: nobody can put it back to that",
        ),
        (|record| record.domain = None, Code::SnapshotRevertRisky, "lacks the machine's <domain>"),
        (
            |record| {
                let os = record.domain.as_mut().unwrap().child_mut("os").unwrap();
                os.push(freezeframe_driver::xml::Element::new("kernel"));
            },
            Code::ConfigUnsupported,
            "the machine of `s1` cannot be started: 23:7: the built-in launcher cannot give `<kernel>` in `<os>`",
        ),
    ];
    for (change, code, words) in changes {
        after(Release::V10_0, Kind::Overlays, async |bench| {
            bench.record(change).await;
            let flags = [RevertFlag::Running, RevertFlag::Force];
            refused(&bench.machine(document(64)).await, &flags, code, words).await;
        });
    }
}

/// libvirt ends the machine first and looks then.
#[rstest]
#[case(
    Kind::Overlays,
    "/images/vda.qcow2",
    Code::ConfigUnsupported,
    "`/images/vda.qcow2` of disk `vda` is not there, or is no regular file"
)]
#[case(
    Kind::Memory,
    "/images/vm.mem",
    Code::OperationFailed,
    "the memory in `/images/vm.mem` cannot be loaded: "
)]
fn what_is_gone_is_missed_before_the_machine_is_ended(
    #[case] kind: Kind,
    #[case] path: &str,
    #[case] code: Code,
    #[case] words: &str,
) {
    after(Release::V10_0, kind, async |bench| {
        let machine = bench.machine(document(64)).await;
        let back = bench.world.env().remove_file(Utf8Path::new(path)).await;
        back.unwrap();
        refused(&machine, &[RevertFlag::Running], code, words).await;
        assert!(!bench.exists("/images/vda.s1-2").await);
        // Put back, for what has to hold of the world in the end.
        if let Kind::Overlays = kind {
            let disk = freezeframe_sim::host::Image::qcow2(16 << 20);
            bench.world.add_image(Utf8Path::new(path), disk);
        }
    });
}

#[test]
fn what_the_description_of_then_cannot_be_put_back_to_is_refused() {
    use freezeframe_driver::xml::Element;
    let changes: [(Change, RevertFlag, Code, &str); 2] = [
        (
            |record| {
                let devices = record.domain.as_mut().unwrap().child_mut("devices").unwrap();
                devices.elements_mut().for_each(|disk| disk.set("type", "block"));
            },
            RevertFlag::Running,
            Code::OperationUnsupported,
            "the image of disk `vda` is no file",
        ),
        (
            |record| {
                let os = record.domain.as_mut().unwrap().child_mut("os").unwrap();
                os.push(Element::of_text("nvram", "/images/vars.fd"));
            },
            RevertFlag::ResetNvram,
            Code::OperationUnsupported,
            "the firmware's variables `/images/vars.fd` cannot be made anew: <nvram> names no template",
        ),
    ];
    for (change, flag, code, words) in changes {
        after(Release::V10_0, Kind::Overlays, async |bench| {
            bench.record(change).await;
            let flags = [flag, RevertFlag::Force];
            refused(&bench.machine(document(64)).await, &flags, code, words).await;
        });
    }
}

/// The launcher knows every element of it, and the simulated QEMU no random numbers.
#[test]
fn what_qemu_does_not_take_is_told_while_the_machine_runs() {
    for kind in [Kind::Internal, Kind::Overlays] {
        after(Release::V10_0, kind, async |bench| {
            bench
                .record(|record| {
                    let rng = b"<rng model='virtio'><backend model='random'/></rng>";
                    let rng = freezeframe_driver::xml::read(rng, Limits::default()).unwrap();
                    record.domain.as_mut().unwrap().child_mut("devices").unwrap().push(rng);
                })
                .await;
            let machine = bench.machine(document(64)).await;
            let error =
                machine.perform(&revert(&[RevertFlag::Running, RevertFlag::Force])).await.unwrap_err();
            assert_eq!(error.code(), Code::OperationFailed, "{error:?}");
            assert!(error.to_string().contains("not simulated"), "{error}");
            assert!(runs(&machine).await, "{kind:?}");
            assert!(!bench.exists("/images/vda.s1-2").await);
        });
    }
}

/// What is behind the image of then is asked of `qemu-img`, which cannot tell.
#[test]
fn an_image_that_is_none_of_its_format_is_missed_before_the_machine_is_ended() {
    after(Release::V10_0, Kind::Overlays, async |bench| {
        let machine = bench.machine(document(64)).await;
        let image = Utf8Path::new("/images/vda.qcow2");
        bench.world.env().remove_file(image).await.unwrap();
        bench.world.add_image(image, freezeframe_sim::host::Image::raw(16 << 20));
        let words = "the images of the snapshot cannot be read";
        refused(&machine, &[RevertFlag::Running], Code::OperationFailed, words).await;
        bench.world.env().remove_file(image).await.unwrap();
        bench.world.add_image(image, freezeframe_sim::host::Image::qcow2(16 << 20));
    });
}

/// It has names of its own for its nodes, which the plan cannot know. The test `the_command_works_on_any_real_qemu` goes back so.
#[test]
fn a_snapshot_inside_the_images_is_loaded_by_their_files_where_a_program_starts_the_machine() {
    after(Release::V10_0, Kind::Internal, async |bench| {
        let machine = bench.machine(document(128)).await.with_launcher(Launcher::Program("/start".into()));
        let plan = machine.plan(&revert(&[RevertFlag::Force])).await.unwrap();
        let loads = plan.steps().filter_map(|step| match step {
            Step::LoadSnapshot(load) => Some((load.naming, load.vmstate.clone(), load.devices.clone())),
            _ => None,
        });
        let file = "/images/vda.qcow2".to_owned();
        assert_eq!(loads.collect::<Vec<_>>(), [(Naming::Files, file.clone(), vec![file])]);
    });
}

/// Somebody has merged an overlay, and the guest writes to what was to stay as it was.
#[test]
fn an_image_that_the_guest_writes_to_is_nothing_to_go_back_to() {
    after(Release::V10_0, Kind::Overlays, async |bench| {
        let live = [("vda", Utf8Path::new("/images/vda.s1"), "qcow2")];
        bench.record(|record| record.domain = Some(document(64).with_sources(live).element().clone())).await;
        let machine = bench.machine(document(64)).await;
        refused(
            &machine,
            &[RevertFlag::Running],
            Code::OperationInvalid,
            "the guest writes to `/images/vda.s1`",
        )
        .await;
    });
}

#[test]
fn memory_of_another_machine_than_the_record_s_is_refused() {
    after(Release::V10_0, Kind::Memory, async |bench| {
        bench
            .record(|record| {
                record.domain = Some(
                    document(128)
                        .with_sources([("vda", Utf8Path::new("/images/vda.qcow2"), "qcow2")])
                        .element()
                        .clone(),
                )
            })
            .await;
        let machine = bench.machine(document(128)).await;
        refused(&machine, &[], Code::ConfigUnsupported, "is not of the machine that the record describes: memory: unit='MiB' 64 here, unit='MiB' 128 there")
            .await;
    });
}

/// In an overlay the disk goes on; what else its part of the record says is somebody's all the same.
#[test]
fn what_is_not_understood_of_a_disk_outlives_the_way_back() {
    after(Release::V10_0, Kind::Overlays, async |bench| {
        bench
            .record(|record| {
                record.disks[0].rest.attributes.push(("tag".into(), "theirs".into()));
                record.disks[0].rest.push(freezeframe_driver::xml::Element::of_text("note", "theirs"));
            })
            .await;
        let machine = bench.machine(document(64)).await;
        machine.perform(&revert(&[RevertFlag::Running])).await.unwrap();
        let tree = machine.tree().unwrap();
        let part = &tree.get("s1").unwrap().disks[0];
        assert!(part.path().unwrap().as_str().starts_with("/images/vda.s1-"), "{part:?}");
        assert_eq!(part.rest.attributes, [("tag".into(), "theirs".into())]);
        assert_eq!(part.rest.child("note").unwrap().text(), "theirs");
    });
}
