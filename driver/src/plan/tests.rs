//! Plans are data: what is planned, and what is refused, can be read without any QEMU.

use super::*;
use crate::{
    commands::{InternalSnapshot, MigrationParameters, Status},
    domain::{DomainDisk, Nvram},
    domain_snapshot::{DomainSnapshot, Location, Memory, SnapshotDisk, SourceType},
    env::FileKind,
    error::Code,
    migration::Settings,
    name::SnapshotName,
    observed::{Missing, ObservedImage},
    qemu_img::Clusters,
    request::{Delete, DeleteFlags, Revert, RevertFlags, WITHIN},
    xml::Element,
};

/// What an old QEMU has, which takes internal snapshots by its human monitor alone.
const OLD: [&str; 6] = [
    "blockdev-add",
    "blockdev-del",
    "blockdev-create",
    "transaction",
    "job-dismiss",
    "human-monitor-command",
];
/// What a newer one has beside.
const JOBS: [&str; 3] = ["snapshot-save", "snapshot-load", "snapshot-delete"];

/// Everything that a planner looks at.
struct World {
    domain: Domain,
    observed: Observed,
    capabilities: Capabilities,
    files: HostFiles,
    /// Why QEMU begins no migration.
    blocked: Vec<String>,
}

/// A running machine on a new QEMU: two writable qcow2 disks, and a read-only one.
fn world() -> World {
    let targets = ["vda", "vdb", "cd0"];
    let disk = |target: &&str| DomainDisk::new(target, &format!("{target}-device"));
    let file = |target: &&str| (format!("/images/{target}.qcow2").into(), FileKind::File { bytes: 196_608 });
    let image = |target: &&str| ObservedDisk {
        target: (*target).into(),
        place: targets.iter().position(|known| known == target).expect("one of these"),
        node: (*target).into(),
        format: "qcow2".into(),
        file: format!("/images/{target}.qcow2").into(),
        size: 16 << 20,
        readonly: *target == "cd0",
        given_away: false,
        snapshots: Vec::new(),
        depth: 1,
        chain: Vec::new(),
        busy: None,
        bitmaps: Vec::new(),
        transient: false,
    };
    World {
        domain: Domain::new("vm", targets.iter().map(disk).collect()),
        observed: Observed {
            status: Status { status: "running".into(), running: true },
            disks: targets.iter().map(image).collect(),
            missing: Vec::new(),
            undescribed: Vec::new(),
            nvram: None,
        },
        capabilities: Capabilities::of_commands(&[OLD.as_slice(), &JOBS].concat()),
        files: targets.iter().map(file).collect(),
        blocked: Vec::new(),
    }
}

impl World {
    fn without_jobs(mut self) -> Self {
        self.capabilities = Capabilities::of_commands(&OLD);
        self
    }

    fn knowing_nothing(mut self) -> Self {
        self.capabilities = Capabilities::default();
        self
    }

    fn disk(mut self, index: usize, change: impl FnOnce(&mut ObservedDisk)) -> Self {
        change(&mut self.observed.disks[index]);
        self
    }

    /// What the description says of the first disk.
    fn described(mut self, change: impl FnOnce(&mut DomainDisk)) -> Self {
        change(&mut self.domain.disks[0]);
        self
    }

    /// What is at a path of the host.
    fn file(mut self, path: &str, kind: FileKind) -> Self {
        self.files.insert(path.into(), kind);
        self
    }

    /// A disk gets an internal snapshot `s1` with so many bytes of machine state.
    fn tagged(self, index: usize, vm_state_size: u64) -> Self {
        let snapshot = InternalSnapshot { id: "1".into(), name: "s1".into(), vm_state_size };
        self.disk(index, |disk| disk.snapshots.push(snapshot))
    }

    /// A disk's device has no image in it.
    fn empty(mut self, index: usize) -> Self {
        self.observed.disks.remove(index);
        self
    }

    fn plan(&self, request: &Request) -> Result<Plan, Refusal> {
        let World { domain, observed, capabilities, files, blocked } = self;
        let parameters = MigrationParameters { max_bandwidth: 0 };
        let facts = Facts {
            has_agent: false,
            below: &[],
            domain,
            observed,
            capabilities,
            unique: "7f",
            files,
            records: None,
            migration: Some(&Before {
                settings: Settings { capabilities: Vec::new(), parameters },
                blocked: blocked.clone(),
            }),
            seconds: 1_767_225_600,
            launcher: None,
            described: None,
            monitor: Some("/monitor".into()),
            aside: None,
            off: None,
            beside: None,
            agent: None,
            no_background: false,
        };
        plan(request, facts).map(|planned| planned.plan)
    }
}

fn named(name: &str) -> SnapshotName {
    SnapshotName::new(name).unwrap()
}

/// Of these disks alone, or of all if none is named.
fn create(name: &str, only: &[&str], flags: &[CreateFlag]) -> Create {
    let others = ["vda", "vdb"].iter().filter(|disk| !only.is_empty() && !only.contains(disk));
    let left_out =
        others.map(|disk| SnapshotDisk { location: Some(Location::No), ..SnapshotDisk::new(disk) });
    let disks = only.iter().map(|disk| SnapshotDisk::new(disk)).chain(left_out).collect();
    let wish = DomainSnapshot { name: Some(name.into()), disks, ..DomainSnapshot::default() };
    Create::new(wish, flags.iter().copied())
}

fn internal(disks: &[&str], vmstate: Option<&str>) -> Request {
    let vmstate = vmstate.map(str::to_owned);
    Request::Create(Box::new(Create { vmstate, ..create("s1", disks, &[]) }))
}

fn disk_only(disks: &[&str], files: &[(&str, &str)]) -> Request {
    let mut create = create("s1", disks, &[CreateFlag::DiskOnly]);
    create.wish.disks.extend(files.iter().map(|(disk, file)| SnapshotDisk {
        source: Some(Element::new("source").with("file", file)),
        ..SnapshotDisk::new(disk)
    }));
    Request::Create(Box::new(create))
}

fn revert() -> Request {
    Request::Revert(Revert::new(named("s1"), RevertFlags::default(), WITHIN))
}

fn delete() -> Request {
    Request::Delete(Delete::new(named("s1"), DeleteFlags::default(), WITHIN))
}

/// One plan of every kind, and how it is printed.
fn plans() -> [(World, Request, &'static str); 5] {
    [
        (
            world(),
            internal(&[], Some("vdb")),
            "\
snapshot s1 of vm: internal with memory on vdb, disks vda vdb
  1  save machine and disks as s1                   point of no return
",
        ),
        (
            world().without_jobs(),
            internal(&[], None),
            "\
snapshot s1 of vm: internal with memory on vda, disks vda vdb
  1  save machine and disks as s1                   point of no return
",
        ),
        (
            world(),
            disk_only(&[], &[("vdb", "/other/b.qcow2")]),
            "\
snapshot s1 of vm: disk-only, disks vda vdb
  1  reserve vda.s1                                 undo: unlink
  2  reserve b.qcow2                                undo: unlink
  3  prepare overlay vda -> vda.s1                  undo: drop nodes
  4  prepare overlay vdb -> b.qcow2                 undo: drop nodes
  5  switch 2 disks in one transaction              point of no return
",
        ),
        (
            world().tagged(0, 0).tagged(1, 9),
            revert(),
            "\
revert vm to s1: internal, disks vda vdb
  1  mark the process                               undo: drop the mark
  2  put machine and disks back to s1               point of no return
  3  dismiss the load's job
",
        ),
        (
            world().tagged(1, 0),
            delete(),
            "\
delete snapshot s1 of vm: internal, disks vdb
  1  delete s1 from its disks                       point of no return
",
        ),
    ]
}

#[test]
fn a_plan_is_printed_step_by_step_with_its_point_of_no_return() {
    for (world, request, printed) in plans() {
        assert_eq!(world.plan(&request).unwrap().to_string(), printed);
    }
}

#[test]
fn a_plan_written_down_is_read_back_the_same() {
    for (world, request, _) in plans() {
        let plan = world.plan(&request).unwrap();
        let written = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&written).unwrap(), plan, "{written}");
    }
}

#[test]
fn a_plan_is_made_of_the_facts_alone() {
    for (world, request, _) in plans() {
        assert_eq!(world.plan(&request), world.plan(&request));
    }
}

#[test]
fn what_must_not_or_cannot_be_done_is_refused_before_anything_is_sent() {
    let refused = |world: World, request: Request| world.plan(&request).unwrap_err();
    let s1 = || "s1".to_owned();

    let digits = Request::Create(Box::new(create("42", &[], &[])));
    assert_eq!(refused(world(), digits), Refusal::AllDigits("42".into()));
    let second = Request::Create(Box::new(create("1767225600", &[], &[])));
    assert!(world().plan(&second).is_ok(), "a name made of the second");
    let no_such_disk = || Refusal::NoSuchDisk {
        disk: "sda".into(),
        domain: "vm".into(),
        known: ["vda", "vdb", "cd0"].map(str::to_owned).to_vec(),
    };
    assert_eq!(refused(world(), internal(&["sda"], None)), no_such_disk());
    assert_eq!(refused(world(), internal(&[], Some("sda"))), no_such_disk());
    assert_eq!(refused(world(), disk_only(&[], &[("sda", "/x")])), no_such_disk());
    assert_eq!(refused(world().empty(1), disk_only(&["vdb"], &[])), Refusal::NoImage("vdb".into()));
    assert_eq!(refused(world(), disk_only(&["vda", "vda"], &[])), Refusal::DiskTwice("vda".into()));
    assert_eq!(
        refused(world(), disk_only(&[], &[("vda", "/x/y"), ("vdb", "/x/y")])),
        Refusal::SameFile("vda".into(), "vdb".into(), "/x/y".into())
    );
    let mut cd = create("s1", &[], &[CreateFlag::DiskOnly]);
    cd.wish.disks = vec![SnapshotDisk { location: Some(Location::External), ..SnapshotDisk::new("cd0") }];
    assert_eq!(refused(world(), Request::Create(Box::new(cd))), Refusal::ReadOnly("cd0".into()));
    let mut detached = world();
    detached.observed.missing = vec![Missing { target: "vdb".into(), device: None, sought: None }];
    assert_eq!(refused(detached, disk_only(&[], &[])), Refusal::NoImage("vdb".into()));
    let read_only = |disk: &mut ObservedDisk| disk.readonly = true;
    assert_eq!(
        refused(world().disk(0, read_only).disk(1, read_only), disk_only(&[], &[])),
        Refusal::NothingSelected
    );
    assert_eq!(refused(world(), internal(&["vda"], None)), Refusal::MustTakeAll("vdb".into()));
    assert_eq!(
        refused(world().disk(1, |disk| disk.format = "raw".into()), internal(&[], None)),
        Refusal::FormatKeepsNone { disk: "vdb".into(), format: "raw".into() }
    );
    assert_eq!(refused(world(), internal(&[], Some("cd0"))), Refusal::VmstateElsewhere("cd0".into()));
    assert_eq!(
        refused(world().tagged(1, 0), internal(&[], None)),
        Refusal::Exists { name: s1(), disk: "vdb".into() }
    );
    assert_eq!(refused(world(), revert()), Refusal::NoSuchSnapshot(s1()));
    assert_eq!(refused(world(), delete()), Refusal::NoSuchSnapshot(s1()));
    assert_eq!(
        refused(world().tagged(0, 9), revert()),
        Refusal::NotOnDisk { name: s1(), disk: "vdb".into() }
    );
    for (on_vda, on_vdb, found) in [(0, 0, 0), (9, 9, 2)] {
        assert_eq!(
            refused(world().tagged(0, on_vda).tagged(1, on_vdb), revert()),
            Refusal::MachineState { name: s1(), found }
        );
    }
    for request in [internal(&[], None), revert(), delete(), disk_only(&[], &[])] {
        assert!(matches!(refused(world().knowing_nothing(), request), Refusal::Unsupported(_)));
    }
    assert_eq!(
        refused(world().without_jobs(), internal(&[], Some("vdb"))),
        Refusal::VmstateNotChoosable("vda".into())
    );
    for bad in ["relative", "/folder/", "/"] {
        assert_eq!(refused(world(), disk_only(&[], &[("vda", bad)])), Refusal::BadOverlayPath(bad.into()));
    }
}

#[test]
fn a_name_that_is_not_allowed_is_a_refusal_too() {
    let refused = SnapshotName::new("../s1").map_err(Refusal::from).unwrap_err();
    assert!(matches!(refused, Refusal::Name(_)));
    assert_eq!(refused.code().name(), "XML_DETAIL");
}

/// What no machine of a scenario has: other devices than files, and long chains.
#[test]
fn an_overlay_is_not_put_where_none_can_be() {
    let refused = |world: World, request: Request| world.plan(&request).unwrap_err();
    let (vda, all) = (|| "vda".to_owned(), || disk_only(&[], &[]));
    let lun = world().described(|disk| disk.lun = true);
    assert_eq!(refused(lun, all()), Refusal::Passthrough(vda()));
    let shared = world().described(|disk| disk.shareable = true);
    assert_eq!(refused(shared, all()), Refusal::Shared(vda()));
    for other in [Some(SourceType::Block), Some(SourceType::Network), Some(SourceType::Nvme), None] {
        let other = world().described(|disk| disk.source_type = other);
        let refused = refused(other, all());
        assert!(matches!(&refused, Refusal::NameNotGenerated { disk, .. } if disk == "vda"), "{refused}");
        assert_eq!(refused.code(), Code::ConfigUnsupported);
    }
    let device = world().file("/images/vda.qcow2", FileKind::Device);
    assert!(matches!(refused(device, all()), Refusal::NameNotGenerated { .. }));
    let long = |depth| world().disk(0, |disk| disk.depth = depth);
    assert_eq!(refused(long(200), all()), Refusal::ChainTooLong { disk: vda(), depth: 200 });
    assert!(long(199).plan(&all()).is_ok());
}

#[test]
fn a_block_device_for_an_overlay_is_there_and_is_one() {
    let (vda, path) = (|| "vda".to_owned(), "/dev/overlay");
    let mut wish = create("s1", &[], &[CreateFlag::DiskOnly]);
    wish.wish.disks = vec![SnapshotDisk {
        source_type: SourceType::Block,
        source: Some(Element::new("source").with("dev", path)),
        ..SnapshotDisk::new("vda")
    }];
    let request = Request::Create(Box::new(wish.clone()));
    let missing = Refusal::DeviceMissing { disk: vda(), path: path.into() };
    assert_eq!(world().plan(&request), Err(missing));
    let none = Refusal::OtherKind { disk: vda(), said: "block device", path: path.into() };
    assert_eq!(world().file(path, FileKind::File { bytes: 0 }).plan(&request), Err(none));
    assert!(world().file(path, FileKind::Device).plan(&request).is_ok());
    wish.wish.disks[0].source_type = SourceType::Network;
    wish.wish.disks[0].source = Some(Element::new("source").with("name", path));
    let refused = world().plan(&Request::Create(Box::new(wish))).unwrap_err();
    assert!(matches!(refused, Refusal::OverlayType { source_type: "network", .. }), "{refused}");
}

#[test]
fn a_disk_that_another_process_serves_takes_no_part() {
    let served = || world().described(|disk| disk.source_type = Some(SourceType::VhostUser)).empty(0);
    let plan = served().plan(&disk_only(&[], &[])).unwrap();
    assert_eq!(plan.disks, ["vdb"]);
    assert!(served().plan(&internal(&[], None)).is_ok());
    let says_so = served().described(|disk| disk.snapshot = Some(Location::External));
    assert_eq!(says_so.plan(&disk_only(&[], &[])), Err(Refusal::VhostUser("vda".into())));
    let mut named = create("s1", &[], &[CreateFlag::DiskOnly]);
    named.wish.disks = vec![SnapshotDisk { location: Some(Location::Manual), ..SnapshotDisk::new("vda") }];
    assert_eq!(served().plan(&Request::Create(Box::new(named))), Err(Refusal::VhostUser("vda".into())));
}

#[test]
fn an_overlay_is_laid_out_as_its_image() {
    let clusters = |size| Clusters::of("qcow2", Some(size), false);
    let laid_out = |disk: &mut ObservedDisk| {
        let file = disk.file.clone();
        disk.chain = vec![ObservedImage { file, clusters: clusters(32_768), ..ObservedImage::default() }];
    };
    let plan = world().disk(0, laid_out).plan(&disk_only(&[], &[])).unwrap();
    let made: Vec<_> = plan
        .steps()
        .filter_map(|step| match step {
            Step::PrepareOverlay(overlay) => Some((overlay.target.as_str(), overlay.clusters)),
            _ => None,
        })
        .collect();
    // What QEMU does by itself it is not told.
    assert_eq!(made, [("vda", clusters(32_768)), ("vdb", Clusters::default())]);
    assert_eq!(clusters(65_536), Clusters::default());
}

#[test]
fn variables_of_the_firmware_are_kept_in_qcow2_alone() {
    let firmware = |format: &str| {
        let nvram = Nvram { file: "/images/vars".into(), format: format.into() };
        World { domain: Domain { nvram: Some(nvram), ..world().domain }, ..world() }
    };
    assert_eq!(firmware("raw").plan(&internal(&[], None)), Err(Refusal::NvramKeepsNone("raw".into())));
    let unseen = firmware("qcow2");
    assert_eq!(unseen.plan(&internal(&[], None)), Err(Refusal::NvramUnknown("/images/vars".into())));
    let nvram =
        ObservedDisk { target: "nvram".into(), node: "pflash1".into(), ..unseen.observed.disks[0].clone() };
    let seen = World { observed: Observed { nvram: Some(nvram), ..unseen.observed.clone() }, ..unseen };
    let plan = seen.plan(&internal(&[], None)).unwrap();
    assert_eq!(plan.disks, ["vda", "vdb", "nvram"]);
    let saved = plan.steps().find_map(|step| match step {
        Step::SaveSnapshot(save) => Some(save.devices.join(" ")),
        _ => None,
    });
    assert_eq!(saved.as_deref(), Some("vda vdb pflash1"));
    assert!(firmware("raw").plan(&disk_only(&[], &[])).is_ok());
}

#[test]
fn a_file_for_memory_is_one_that_can_hold_it() {
    let saving = |file: Option<&str>| {
        let mut wish = create("s1", &[], &[]);
        wish.wish.memory = Memory { location: Some(Location::External), file: file.map(Into::into) };
        Request::Create(Box::new(wish))
    };
    assert_eq!(world().plan(&saving(None)), Err(Refusal::MemoryWithoutFile));
    for bad in ["relative", "/folder/", "/"] {
        assert_eq!(world().plan(&saving(Some(bad))), Err(Refusal::BadMemoryPath(bad.into())));
    }
    let device = world().file("/vm.mem", FileKind::Device);
    assert_eq!(device.plan(&saving(Some("/vm.mem"))), Err(Refusal::MemoryNoFile("/vm.mem".into())));
    assert_eq!(world().plan(&saving(Some("/vm.mem"))), Err(Refusal::MemoryWithoutDocument));
    let mut named = Element::new("domain");
    named.push(Element::of_text("name", "v\0m"));
    let document = DomainXml::of(named).ok();
    let unsayable = World { domain: Domain { document, ..world().domain }, ..world() };
    assert!(matches!(unsayable.plan(&saving(Some("/vm.mem"))), Err(Refusal::SaveImage(_))));
}

#[test]
fn memory_that_qemu_will_not_let_go_of_is_refused_before_the_guest_stands_still() {
    let mut wish = create("s1", &[], &[]);
    wish.wish.memory = Memory { location: Some(Location::External), file: Some("/vm.mem".into()) };
    let document = DomainXml::read(b"<domain><name>vm</name><devices/></domain>").ok();
    let mut world = World { domain: Domain { document, ..world().domain }, ..world() };
    let request = Request::Create(Box::new(wish));
    assert!(world.plan(&request).is_ok());
    let why = "The vmdk format used by node 'vda' does not support live migration";
    world.blocked.push(why.into());
    let refusal = world.plan(&request).unwrap_err();
    assert_eq!(refusal, Refusal::MemoryBlocked(why.into()));
    assert_eq!(refusal.code(), Code::OperationInvalid);
}

#[test]
fn the_state_of_a_tpm_goes_with_the_memory_alone_and_else_is_told_to_be_left_out() {
    let text = "<domain type='qemu'><name>vm</name><os><type machine='q35'>hvm</type></os><devices>
        <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices></domain>";
    let with = |text: &str| {
        let document = Some(DomainXml::read(text.as_bytes()).unwrap());
        World { domain: Domain { document, ..world().domain }, ..world() }
    };
    let without = text.replace("<tpm", "<nothing").replace("</tpm>", "</nothing>");
    for (text, request, is_told) in [
        (text, disk_only(&[], &[]), true),
        (text, internal(&[], None), false),
        (&without, disk_only(&[], &[]), false),
    ] {
        let plan = with(text).plan(&request).unwrap();
        assert_eq!(plan.to_string().contains(TPM_LEFT_OUT), is_told, "{plan}");
    }
}
