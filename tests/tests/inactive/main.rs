//! Machines that are off, where no scenario reaches: one that runs after all, descriptions that are older than the records or changed by
//! others, disks that are nowhere, and a driver that is killed between any two stages. On the simulator, on every release.

mod doubts;
mod killed;
mod nvram;
mod records;
mod tpm;

use std::rc::Rc;

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::{
    World as _,
    sim::{SimEnv, SimWorld, Simulator},
};
use freezeframe_driver::{
    Machine, Patience,
    capabilities::Capabilities,
    domain::Domain,
    domain_snapshot::{DomainSnapshot, Location, SourceType},
    domain_xml::DomainXml,
    env::{Endpoint, Env as _, Ownership},
    error::{Code, OperationError},
    images,
    launch::{BuiltIn, Launcher, Start, arguments::Power},
    machine::Off,
    name::SnapshotName,
    plan::{Plan, Stage},
    qemu_img::QemuImg,
    request::{
        Create, CreateFlag, Delete, DeleteFlag, DeleteFlags, Request, Revert, RevertFlag, RevertFlags, WITHIN,
    },
    step::ReserveFile,
    store::Store,
};
use freezeframe_sim::{
    Machine as Described, Oracle, Release, Simulation, exec::Spawner, host::Image, machine,
};
use rstest::rstest;

const STATE: &str = "/images/state";
const FILE: &str = "/images/state/vm.xml";

type Env = SimEnv<Spawner>;

/// A machine with `vda`, a qcow2 image, and `vdb`, a raw one.
fn document() -> DomainXml {
    let disk = |target: &str, format: &str| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='{format}'/>
             <source file='/images/{target}.{format}'/><target dev='{target}' bus='virtio'/>
             <alias name='{target}-device'/></disk>"
        )
    };
    let text = format!(
        "<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os>
         <features><acpi/></features><devices>{}{}</devices></domain>",
        disk("vda", "qcow2"),
        disk("vdb", "raw")
    );
    DomainXml::read(text.as_bytes()).unwrap()
}

/// A simulated world with that machine.
struct Bench {
    world: SimWorld<Spawner>,
    capabilities: Rc<Capabilities>,
}

impl Bench {
    async fn describe(&self, document: &DomainXml) {
        let text = document.element().document();
        self.world.env().create_folder(STATE.into()).await.unwrap();
        self.world.env().replace_file(FILE.into(), text.as_bytes()).await.unwrap();
    }

    async fn described(&self) -> DomainXml {
        let bytes = self.world.env().read_file(FILE.into(), 1 << 20).await.unwrap();
        DomainXml::read(&bytes).unwrap()
    }

    /// The machine as one that is off.
    async fn off(&self) -> Machine<Env> {
        let off =
            Off { domain: document(), monitor: None, capabilities: None, tool: None, managed_save: None };
        self.recorded(Machine::off(self.world.env().clone(), off, Patience::default())).await
    }

    /// Starts it as it is described there.
    async fn start(&self, domain: &DomainXml) {
        let Endpoint::Unix(monitor) = self.world.monitor();
        let start = Start { domain, power: Power::Running, monitor: &monitor, within: WITHIN };
        let built_in = BuiltIn { binary: Some("qemu-system-x86_64".into()), ..BuiltIn::default() };
        Launcher::BuiltIn(built_in).start(self.world.env(), &start).await.unwrap();
    }

    /// The machine as one that runs.
    async fn running(&self) -> Machine<Env> {
        self.running_as(&document()).await
    }

    /// The same, by that description.
    async fn running_as(&self, document: &DomainXml) -> Machine<Env> {
        let domain = Domain::from(document.clone());
        let (env, capabilities) = (self.world.env().clone(), Some(self.capabilities.clone()));
        let machine =
            Machine::connect(env, self.world.monitor(), domain, capabilities, Patience::default()).await;
        self.recorded(machine.unwrap()).await
    }

    async fn recorded(&self, machine: Machine<Env>) -> Machine<Env> {
        let (store, passed) = Store::open(self.world.env().clone(), STATE.into(), "vm").await.unwrap();
        assert!(passed.is_empty(), "{passed:?}");
        machine.with_records(store).with_document(FILE.into())
    }

    /// The images of a disk of the machine that is off, the topmost first.
    async fn chain(&self, target: &str) -> Vec<Utf8PathBuf> {
        let tool = QemuImg::new(self.world.env().clone());
        let observed = images::observe(&tool, &self.described().await, |_| true).await.unwrap();
        observed.disk(target).unwrap().chain.iter().map(|image| image.file.clone()).collect()
    }

    async fn files(&self) -> Vec<String> {
        self.world.files().await.unwrap().into_iter().collect()
    }
}

/// Lets a story happen to the machine, which runs at first.
fn on<R>(release: Release, story: impl AsyncFnOnce(&Bench) -> R) -> R {
    let capabilities = Simulator::new().capabilities(release).unwrap();
    let raw =
        machine::Disk { format: machine::Format::Raw, ..machine::Disk::new("vdb", "/images/vdb.raw".into()) };
    let described = Described::new().disk("vda").with_disk(raw).power(machine::Power::Prelaunch);
    let simulation = Simulation::new(&described, release, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&described, handle.sockets(), handle.spawner());
    let told = simulation.run(async {
        let bench = Bench { world, capabilities };
        bench.describe(&document()).await;
        story(&bench).await
    });
    simulation.world().check_invariants().unwrap();
    told.unwrap()
}

/// Lets a story happen to the machine when it is off.
fn off<R>(release: Release, story: impl AsyncFnOnce(&Bench) -> R) -> R {
    on(release, async |bench: &Bench| {
        bench.world.kill_qemu().await;
        story(bench).await
    })
}

/// What is done to a snapshot once it is taken.
#[derive(Debug, Clone, Copy)]
enum Then {
    Delete,
    Revert,
}

fn create(name: &str, disk_only: bool) -> Request {
    let wish = DomainSnapshot { name: Some(name.into()), ..DomainSnapshot::default() };
    Request::Create(Box::new(Create::new(wish, disk_only.then_some(CreateFlag::DiskOnly))))
}

fn revert(name: &str, flags: &[RevertFlag]) -> Request {
    let (name, flags) = (SnapshotName::new(name).unwrap(), flags.iter().copied().collect::<RevertFlags>());
    Request::Revert(Revert::new(name, flags, WITHIN))
}

fn delete(name: &str) -> Request {
    let name = SnapshotName::new(name).unwrap();
    Request::Delete(Delete::new(name, DeleteFlags::default(), WITHIN))
}

/// Removes the record alone.
fn forget(name: &str) -> Request {
    let flags = [DeleteFlag::MetadataOnly].into_iter().collect();
    Request::Delete(Delete::new(SnapshotName::new(name).unwrap(), flags, WITHIN))
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(done: Result<T, OperationError>, code: Code, words: &str) {
    let error = done.unwrap_err();
    assert!(matches!(error, OperationError::Refused(_)), "{error}");
    assert!(error.code() == code && error.to_string().contains(words), "{} {error}", error.code());
}

#[rstest]
fn one_that_runs_after_all_is_left_alone(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(&[], &["vda"])] without: &[&str],
) {
    on(release, async |bench: &Bench| {
        // A raw image alone is found in use too, though to read it takes no lock.
        let domain = document().with_disks(|target| !without.contains(&target));
        bench.describe(&domain).await;
        let before = (bench.files().await, bench.described().await);
        let machine = bench.off().await;
        for request in [create("s1", true), create("s1", false), delete("s1")] {
            assert_refused(
                machine.perform(&request).await,
                Code::OperationInvalid,
                "is in use: the machine is not off",
            );
        }
        assert_eq!((bench.files().await, bench.described().await), before);
        assert_eq!(machine.tree().unwrap().topological(), Vec::<&str>::new());
    });
}

#[test]
fn one_whose_monitor_answers_is_left_alone() {
    on(Release::V10_0, async |bench: &Bench| {
        let Endpoint::Unix(monitor) = bench.world.monitor();
        let off = Off {
            domain: document(),
            monitor: Some(monitor),
            capabilities: None,
            tool: None,
            managed_save: None,
        };
        let machine = Machine::off(bench.world.env().clone(), off, Patience::default());
        let machine = bench.recorded(machine).await;
        assert_refused(
            machine.perform(&create("s1", true)).await,
            Code::OperationInvalid,
            "something listens",
        );
    });
}

/// The refusal says what to do, and that can be done.
#[test]
fn what_stands_on_an_internal_snapshot_can_be_given_up_for_it() {
    off(Release::V10_0, async |bench: &Bench| {
        let domain = document().with_disks(|target| target == "vda");
        bench.describe(&domain).await;
        let machine = bench.off().await;
        machine.perform(&create("i1", false)).await.unwrap();
        machine.perform(&create("e1", true)).await.unwrap();
        let words = "forget the snapshots above with `delete --metadata`, say `/images/vda.qcow2` in the machine's \
                     description, and remove the overlays";
        assert_refused(machine.perform(&revert("i1", &[])).await, Code::OperationUnsupported, words);
        machine.perform(&forget("e1")).await.unwrap();
        bench.describe(&domain).await;
        bench.world.env().remove_file("/images/vda.e1".into()).await.unwrap();
        machine.perform(&revert("i1", &[])).await.unwrap();
    });
}

/// What a tag was taken in is what its record says; the same name in another image is somebody else's.
#[test]
fn a_tag_is_deleted_from_the_image_that_its_record_names() {
    off(Release::V10_0, async |bench: &Bench| {
        bench.describe(&document().with_disks(|target| target == "vda")).await;
        let machine = bench.off().await;
        machine.perform(&create("i1", false)).await.unwrap();
        machine.perform(&create("e1", true)).await.unwrap();
        let tool = QemuImg::new(bench.world.env().clone());
        let [below, above] = ["/images/vda.qcow2", "/images/vda.e1"].map(Utf8Path::new);
        let held = async |file: &Utf8Path| tool.snapshot_list(file).await.unwrap().len();
        tool.snapshot_create(above, "i1").await.unwrap();
        machine.perform(&delete("i1")).await.unwrap();
        assert_eq!((held(below).await, held(above).await), (0, 1));

        // Nor is one deleted below that nobody has recorded: that image may be another machine's too.
        tool.snapshot_delete(above, "i1").await.unwrap();
        tool.snapshot_create(below, "i1").await.unwrap();
        assert_refused(machine.perform(&delete("i1")).await, Code::NoDomainSnapshot, "i1");
        assert_eq!(held(below).await, 1);
    });
}

#[test]
fn a_description_is_read_anew_for_each_operation() {
    off(Release::V10_0, async |bench: &Bench| {
        let machine = bench.off().await;
        let changed = document().with_disks(|target| target == "vda");
        bench.describe(&changed).await;
        let report = machine.perform(&create("s1", true)).await.unwrap();
        assert_eq!(report.disks, ["vda"]);
        bench.world.env().replace_file(FILE.into(), b"<domain>").await.unwrap();
        assert_refused(machine.perform(&create("s2", true)).await, Code::SystemError, "cannot be read");
    });
}

#[test]
fn of_a_machine_that_runs_too_a_description_that_cannot_be_read_is_told_of_before_anything_is_touched() {
    on(Release::V10_0, async |bench: &Bench| {
        let machine = bench.running().await;
        bench.world.env().replace_file(FILE.into(), b"<domain>").await.unwrap();
        assert_refused(machine.perform(&create("s1", true)).await, Code::SystemError, "cannot be read");
        assert_eq!(bench.files().await, ["vda.qcow2", "vdb.raw"]);
    });
}

#[test]
fn a_disk_that_is_nowhere_on_this_host_takes_no_part_unseen() {
    off(Release::V10_0, async |bench: &Bench| {
        let text = document().with_disks(|target| target == "vda").element().document();
        let network = "<disk type='network'><source protocol='rbd' name='pool/image'/><target dev='vdc'/></disk></devices>";
        let domain = DomainXml::read(text.replace("</devices>", network).as_bytes()).unwrap();
        bench.describe(&domain).await;
        let machine = bench.off().await;
        let words = "no file name can be made up for the overlay of disk `vdc`";
        assert_refused(machine.perform(&create("s1", true)).await, Code::ConfigUnsupported, words);
        let words = "` is neither in a file nor on a device";
        assert_refused(machine.perform(&create("s1", false)).await, Code::OperationInvalid, words);
        assert_eq!(bench.files().await, ["vda.qcow2", "vdb.raw"]);
    });
}

#[test]
fn an_image_that_is_gone_is_no_reason_not_to_go_back_to_an_older_one() {
    off(Release::V10_0, async |bench: &Bench| {
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        bench.world.env().remove_file("/images/vda.s1".into()).await.unwrap();
        assert_refused(machine.perform(&create("s2", true)).await, Code::OperationFailed, "cannot be read");
        machine.perform(&revert("s1", &[])).await.unwrap();
        assert_eq!(bench.chain("vda").await[1], "/images/vda.qcow2");
    });
}

/// What is below `/dev` is not always a device.
#[test]
fn a_machine_whose_images_are_in_shared_memory_stays_one_of_files() {
    off(Release::V10_0, async |bench: &Bench| {
        let folder = Utf8Path::new("/dev/shm/vm");
        bench.world.env().create_folder(folder).await.unwrap();
        bench.world.add_image(&folder.join("vda.qcow2"), Image::qcow2(16 << 20));
        let only_vda = document().with_disks(|target| target == "vda");
        let text = only_vda.element().document().replace("/images/", "/dev/shm/vm/");
        bench.describe(&DomainXml::read(text.as_bytes()).unwrap()).await;
        let machine = bench.off().await;
        for name in ["s1", "s2"] {
            machine.perform(&create(name, true)).await.unwrap();
            let described = bench.described().await;
            let disk = described.disk("vda").unwrap();
            let file = folder.join(format!("vda.{name}"));
            assert_eq!((disk.source_type(), disk.path()), (Some(SourceType::File), Some(&*file)));
        }
        machine.perform(&delete("s2")).await.unwrap();
        assert_eq!(bench.chain("vda").await, ["/dev/shm/vm/vda.s1", "/dev/shm/vm/vda.qcow2"]);
    });
}

#[test]
fn a_backing_file_of_no_stated_format_is_never_guessed() {
    off(Release::V5_2, async |bench: &Bench| {
        let backing = freezeframe_sim::host::Backing { file: "/images/vda.qcow2".into(), format: None };
        bench.world.add_image(Utf8Path::new("/images/top"), Image::overlay(16 << 20, Some(backing)));
        let domain = document().with_sources([("vda", Utf8Path::new("/images/top"), "qcow2")]);
        bench.describe(&domain).await;
        let machine = bench.off().await;
        assert_refused(
            machine.perform(&create("s1", true)).await,
            Code::OperationFailed,
            "the images of disk `vda` cannot be read",
        );
    });
}

#[rstest]
fn memory_is_loaded_into_a_qemu_that_was_asked_what_it_can_do(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    on(release, async |bench: &Bench| {
        let machine = bench.running().await;
        let Request::Create(mut wish) = create("m1", false) else { unreachable!() };
        wish.wish.memory.location = Some(Location::External);
        wish.wish.memory.file = Some("/images/vm.memory".into());
        machine.perform(&Request::Create(wish)).await.unwrap();
        drop(machine);
        bench.world.kill_qemu().await;
        let Endpoint::Unix(monitor) = bench.world.monitor();
        let at = async |monitor: Option<&Utf8Path>, launcher| {
            let monitor = monitor.map(ToOwned::to_owned);
            let off = Off { domain: document(), monitor, capabilities: None, tool: None, managed_save: None };
            let machine = Machine::off(bench.world.env().clone(), off, Patience::default());
            bench.recorded(machine).await.with_launcher(launcher)
        };
        let unasked = at(Some(&monitor), Launcher::Program("/launch".into())).await;
        let words = "is not known while it is off";
        assert_refused(unasked.perform(&revert("m1", &[])).await, Code::OperationUnsupported, words);
        drop(unasked);
        let nowhere = at(None, bench.world.launcher()).await;
        let words = "where its monitor is to listen";
        assert_refused(nowhere.perform(&revert("m1", &[])).await, Code::OperationUnsupported, words);
        drop(nowhere);
        let machine = at(Some(&monitor), bench.world.launcher()).await;
        machine.plan(&revert("m1", &[])).await.unwrap();
        assert!(machine.is_off(), "what was asked was ended");
        machine.perform(&revert("m1", &[])).await.unwrap();
        assert!(!machine.is_off());
        assert_eq!(machine.observe().await.unwrap().status.status, "paused", "as it was taken");
    });
}

#[test]
fn memory_that_is_saved_is_not_loaded_over_other_disks() {
    off(Release::V10_0, async |bench: &Bench| {
        let machine = bench.off().await;
        // libvirt takes snapshots beside it: they are of the disks that go with it.
        bench.world.env().create_folder("/images/save".into()).await.unwrap();
        bench.world.env().replace_file("/images/save/vm.save".into(), b"memory").await.unwrap();
        machine.perform(&create("s1", true)).await.unwrap();
        let words = "the machine's memory is saved in `/images/save/vm.save`";
        assert_refused(machine.perform(&revert("s1", &[])).await, Code::SnapshotRevertRisky, words);
        drop(machine);

        let elsewhere = Some("/images/elsewhere".into());
        let named = Off {
            domain: document(),
            monitor: None,
            capabilities: None,
            tool: None,
            managed_save: elsewhere,
        };
        let named = bench.recorded(Machine::off(bench.world.env().clone(), named, Patience::default())).await;
        bench.world.env().replace_file("/images/elsewhere".into(), b"memory").await.unwrap();
        let words = "the machine's memory is saved in `/images/elsewhere`";
        assert_refused(named.perform(&revert("s1", &[])).await, Code::SnapshotRevertRisky, words);
        named.perform(&revert("s1", &[RevertFlag::Force])).await.unwrap();
    });
}

#[test]
fn a_bitmap_is_not_merged_away_while_the_machine_is_off() {
    off(Release::V10_0, async |bench: &Bench| {
        bench.describe(&document().with_disks(|target| target == "vda")).await;
        let file = "/images/vda.qcow2".into();
        let backing = freezeframe_sim::host::Backing { file, format: Some("qcow2".into()) };
        let mut overlay = Image::overlay(16 << 20, Some(backing));
        let (name, dirty) = ("b0".into(), std::collections::BTreeSet::new());
        let bitmap =
            freezeframe_sim::host::StoredBitmap { name, granularity: 65_536, recording: true, dirty };
        overlay.as_qcow2_mut().unwrap().store_bitmaps(vec![bitmap]);
        bench.world.add_image(Utf8Path::new("/images/vda.s1"), overlay);
        let machine = bench.off().await;
        let Request::Create(mut wish) = create("s1", true) else { unreachable!() };
        wish.flags = [CreateFlag::DiskOnly, CreateFlag::ReuseExternal].into_iter().collect();
        machine.perform(&Request::Create(wish)).await.unwrap();
        let words = "the machine is off: start it first";
        assert_refused(machine.perform(&delete("s1")).await, Code::OperationUnsupported, words);
        assert_eq!(bench.chain("vda").await, ["/images/vda.s1", "/images/vda.qcow2"]);
    });
}

#[rstest]
fn while_it_runs_its_description_is_kept_in_step(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(Then::Delete, Then::Revert)] then: Then,
) {
    on(release, async |bench: &Bench| {
        let machine = bench.running().await;
        let named = async || bench.described().await.disk("vda").unwrap().path().unwrap().to_owned();
        machine.perform(&create("s1", true)).await.unwrap();
        assert_eq!(named().await, "/images/vda.s1");
        match then {
            Then::Delete => {
                machine.perform(&delete("s1")).await.unwrap();
                assert_eq!(named().await, "/images/vda.qcow2");
            }
            Then::Revert => {
                machine.perform(&revert("s1", &[])).await.unwrap();
                assert_eq!(named().await, "/images/vda.s1-sim");
            }
        }
    });
}

/// The driver is killed once it has begun to merge, or once the first of two disks is merged and that is recorded. What a guest wrote
/// after it had left its overlay must not be lost, nor be written over.
#[rstest]
fn a_deletion_that_was_broken_off_while_it_ran_is_not_gone_on_with_blindly(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(
        ("record that s1 is being deleted", "in which of the two the guest went on is not known"),
        ("record that vda is done", "went on in `/images/vda.qcow2`")
    )]
    (last, words): (&str, &str),
) {
    on(release, async |bench: &Bench| {
        let machine = bench.running().await;
        machine.perform(&create("s1", true)).await.unwrap();
        let whole = machine.plan(&delete("s1")).await.unwrap();
        let is_last = |stage: &Stage| stage.steps.iter().any(|step| step.to_string() == last);
        let reached = whole.stages.iter().position(is_last).unwrap();
        let cut = Plan { stages: whole.stages[..=reached].to_vec(), no_return: reached, ..whole };
        machine.carry_out(&cut, WITHIN).await.unwrap();
        drop(machine);
        bench.world.kill_qemu().await;
        let machine = bench.off().await;
        assert_refused(machine.perform(&create("s2", true)).await, Code::OperationInvalid, words);
        assert_refused(machine.perform(&delete("s1")).await, Code::OperationInvalid, words);
        // Somebody looks, and says so: of the first disk, and of the next one once its turn has come.
        let base =
            (last == "record that vda is done").then_some(("vdb", Utf8Path::new("/images/vdb.raw"), "raw"));
        let bases = [("vda", Utf8Path::new("/images/vda.qcow2"), "qcow2")].into_iter().chain(base);
        bench.describe(&bench.described().await.with_sources(bases)).await;
        let report = machine.perform(&delete("s1")).await.unwrap();
        assert_eq!(bench.chain("vda").await, ["/images/vda.qcow2"]);
        // The machine may have been started in it since.
        let kept: Vec<_> = report.kept.iter().map(|kept| kept.file.as_str()).collect();
        assert!(kept.contains(&"/images/vda.s1"), "{kept:?}");
        assert!(bench.files().await.contains(&"vda.s1".to_owned()));
    });
}

/// Whether an operation is found done, undone, or fit to be done again, when the driver was killed behind each of its stages.
#[rstest]
fn a_driver_that_is_killed_leaves_a_machine_that_can_be_started(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(create("s3", true), delete("s1"), delete("s2"), revert("s1", &[]))] request: Request,
) {
    let mut stages = 1;
    let mut reached = 0;
    while reached < stages {
        (reached, stages) = off(release, async |bench: &Bench| {
            let machine = bench.off().await;
            machine.perform(&create("s1", true)).await.unwrap();
            machine.perform(&create("s2", true)).await.unwrap();
            let whole = machine.plan(&request).await.unwrap();
            let stages = whole.stages.len();
            let mut cut = Plan { stages: whole.stages[..=reached].to_vec(), ..whole };
            cut.no_return = cut.no_return.min(reached);
            machine.carry_out(&cut, WITHIN).await.unwrap();
            drop(machine);
            // Every image that the description names is there, down to the last.
            let chain = bench.chain("vda").await;
            assert_eq!(chain.last().unwrap(), "/images/vda.qcow2", "stage {reached}");
            let machine = bench.off().await;
            if let Request::Delete(delete) = &request
                && machine.tree().unwrap().get(delete.name.as_str()).is_some()
            {
                machine.perform(&request).await.unwrap();
                let left = if delete.name.as_str() == "s1" { "/images/vda.s2" } else { "/images/vda.s1" };
                assert_eq!(bench.chain("vda").await, [left, "/images/vda.qcow2"], "stage {reached}");
            }
            (reached + 1, stages)
        });
    }
    assert!(stages > 3, "{stages}");
}
