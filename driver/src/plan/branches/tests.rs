//! What goes up, what is removed, what the records say then, and what stands in the way.

use super::*;
use crate::{
    capabilities::Capabilities,
    commands::{DirtyBitmap, Status},
    domain::{Domain, DomainDisk},
    domain_snapshot::{Memory, State},
    error::{ImageRefusal, OffRefusal},
    name::SnapshotName,
    observed::{ObservedImage, ObservedNode},
    plan::{HostFiles, Off, plan},
    qemu_img::SnapshotInfo,
    request::{Delete, DeleteFlags, WITHIN},
    step::Step,
    tree::overlay,
    xml::Element,
};

/// A machine with one disk, its chain, the images beside it and its records.
#[derive(Clone)]
struct World {
    document: Option<DomainXml>,
    observed: Observed,
    beside: BTreeMap<Utf8PathBuf, Result<ImageInfo, String>>,
    tree: SnapshotTree,
}

fn file(end: &str) -> Utf8PathBuf {
    format!("/images/vda.{end}").into()
}

fn image(end: &str) -> ObservedImage {
    let node = ObservedNode { name: format!("vda-{end}"), format: "qcow2".into(), bitmaps: Vec::new() };
    ObservedImage { file: file(end), nodes: vec![node], ..ObservedImage::default() }
}

fn chain(ends: &[&str]) -> ObservedDisk {
    ObservedDisk {
        target: "vda".into(),
        place: 0,
        node: format!("vda-{}", ends[0]),
        format: "qcow2".into(),
        file: file(ends[0]),
        size: 16 << 20,
        readonly: false,
        given_away: false,
        snapshots: Vec::new(),
        depth: ends.len(),
        chain: ends.iter().map(|end| image(end)).collect(),
        busy: None,
        bitmaps: Vec::new(),
        transient: false,
    }
}

fn info(end: &str, on: Option<&str>) -> ImageInfo {
    ImageInfo {
        filename: file(end).into_string(),
        format: "qcow2".into(),
        virtual_size: 16 << 20,
        actual_size: None,
        backing_filename: on.map(|on| file(on).into_string()),
        full_backing_filename: None,
        backing_filename_format: on.map(|_| "qcow2".into()),
        snapshots: Vec::new(),
        cluster_size: None,
        format_specific: None,
    }
}

/// A record of an external snapshot, taken while the disk was in the image of that end: it went on in that of its own name.
fn record(name: &str, parent: Option<&str>, taken_in: &str) -> DomainSnapshot {
    let source = |end| Element::new("source").with("file", file(end).as_str());
    let mut disk = Element::new("disk").with("type", "file");
    disk.push(Element::new("driver").with("type", "qcow2"));
    disk.push(source(taken_in));
    disk.push(Element::new("target").with("dev", "vda"));
    let mut devices = Element::new("devices");
    devices.push(disk);
    let mut domain = Element::new("domain");
    domain.push(Element::of_text("name", "vm"));
    domain.push(devices);
    DomainSnapshot {
        name: Some(name.into()),
        parent: parent.map(str::to_owned),
        creation_time: Some(1),
        state: Some(State::DiskSnapshot),
        disks: vec![overlay("vda", &file(name))],
        domain: Some(domain),
        ..DomainSnapshot::default()
    }
}

/// `base <- s0 <- s1 <- s2` aside, and `base <- s0 <- s1-2 <- s3` in use: s2 and s3 descend from s1, which was taken in `s0`.
fn world() -> World {
    let records = vec![
        record("s0", None, "base"),
        record("s1", Some("s0"), "s0"),
        record("s2", Some("s1"), "s1"),
        record("s3", Some("s1"), "s1-2"),
    ];
    World {
        document: None,
        observed: Observed {
            status: Status { status: "running".into(), running: true },
            disks: vec![chain(&["s3", "s1-2", "s0", "base"])],
            missing: Vec::new(),
            undescribed: Vec::new(),
            nvram: None,
        },
        beside: [(file("s1"), Ok(info("s1", Some("s0"))))].into(),
        tree: SnapshotTree::new(records, Some("s3".into())).0,
    }
}

impl World {
    fn record(mut self, name: &str, change: impl FnOnce(&mut DomainSnapshot)) -> Self {
        let mut record = self.tree.get(name).unwrap().clone();
        change(&mut record);
        self.tree.insert(record);
        self
    }

    fn and(mut self, record: DomainSnapshot) -> Self {
        self.tree.insert(record);
        self
    }

    fn beside(mut self, end: &str, found: Result<ImageInfo, String>) -> Self {
        self.beside.insert(file(end), found);
        self
    }

    fn delete(&self, name: &str) -> Result<Planned, Refusal> {
        let mut domain = Domain::new("vm", vec![DomainDisk::new("vda", "vda")]);
        domain.document = self.document.clone();
        let commands =
            ["block-stream", "block-commit", "job-complete", "job-finalize", "job-dismiss", "blockdev-del"];
        let name = SnapshotName::new(name).unwrap();
        let request = Request::Delete(Delete::new(name, DeleteFlags::default(), WITHIN));
        let beside = Beside {
            tool: "qemu-img".into(),
            images: self.beside.clone(),
            canonical: BTreeMap::new(),
            strangers: Vec::new(),
            recorded: Vec::new(),
            standing: Vec::new(),
        };
        let off = Off { tool: "qemu-img".into(), document: None, knows_qemu: false, managed_save: None };
        let off = Some(off);
        let facts = Facts {
            has_agent: false,
            below: &[],
            domain: &domain,
            observed: &self.observed,
            capabilities: &Capabilities::of_commands(&commands),
            unique: "7f",
            files: &HostFiles::new(),
            records: Some(Records { folder: Utf8Path::new("/state"), tree: &self.tree, unread: &[] }),
            seconds: 0,
            migration: None,
            launcher: None,
            described: None,
            monitor: Some("/monitor".into()),
            off: off.filter(|_| self.observed.is_off()),
            aside: None,
            beside: Some(&beside),
            agent: None,
            no_background: false,
        };
        plan(&request, facts)
    }

    fn refused(&self, name: &str) -> Refusal {
        self.delete(name).expect_err("it was to be refused")
    }
}

fn steps(planned: &Planned) -> Vec<String> {
    planned.plan.steps().map(ToString::to_string).collect()
}

fn overlay_of(planned: &Planned, name: &str) -> Utf8PathBuf {
    let tree = planned.tree.as_ref().unwrap();
    tree.get(name).unwrap().disks[0].path().unwrap().to_owned()
}

#[test]
fn what_it_holds_goes_up_into_every_branch_and_the_image_goes_when_the_records_are_written() {
    let planned = world().delete("s1").unwrap();
    assert_eq!(
        planned.plan.to_string(),
        "\
delete snapshot s1 of vm: external, upwards, disks vda
  1  base vda.s1 on vda.base
  2  copy vda.s0 of vda upwards                     undo: end the job
  3  write the records                              point of no return
  4  remove vda.s0
"
    );
    let stream = planned.plan.steps().find_map(|step| match step {
        Step::StreamImage(stream) => Some((stream.node.clone(), stream.base.clone())),
        _ => None,
    });
    assert_eq!(stream, Some(("vda-s1-2".into(), Some(("vda-base".into(), file("base"))))));
    // The one before says in which overlay its disks went on.
    assert_eq!(overlay_of(&planned, "s0"), file("s1-2"));
}

#[test]
fn what_was_begun_before_is_not_done_again() {
    let rebased = world().beside("s1", Ok(info("s1", Some("base"))));
    assert_eq!(
        steps(&rebased.delete("s1").unwrap()),
        ["copy vda.s0 of vda upwards", "write the records", "remove vda.s0"]
    );
    let mut streamed = rebased;
    streamed.observed.disks = vec![chain(&["s3", "s1-2", "base"])];
    let both = streamed.beside("s0", Ok(info("s0", Some("base"))));
    assert_eq!(steps(&both.delete("s1").unwrap()), ["write the records", "remove vda.s0"]);
}

#[test]
fn the_last_of_a_branch_that_is_not_in_use_takes_its_image_along() {
    let planned = world().delete("s2").unwrap();
    // Nothing was found of its own overlay: should it be there all the same it is told.
    let told = "keep vda.s2, which disk vda was in and no record knows";
    assert_eq!(steps(&planned), ["write the records", "remove vda.s1", told]);
    assert_eq!(overlay_of(&planned, "s1"), file("s1-2"));
    // An overlay of its own that was left with nothing in it goes too; but not one that something stands on.
    let left = world().beside("s2", Ok(info("s2", Some("s1"))));
    assert_eq!(steps(&left.delete("s2").unwrap()), ["write the records", "remove vda.s1", "remove vda.s2"]);
    let stood_on = left.beside("x", Ok(info("x", Some("s2"))));
    assert_eq!(
        steps(&stood_on.delete("s2").unwrap()),
        ["base vda.s2 on vda.s0", "write the records", "remove vda.s1"]
    );
}

#[test]
fn an_image_that_the_machine_was_given_is_not_removed_for_a_snapshot_that_nothing_grew_from() {
    let other = world().and(record("r", None, "given")).beside("given", Ok(info("given", None)));
    // Of its own overlay nothing was found.
    let told = "keep vda.r, which disk vda was in and no record knows";
    assert_eq!(steps(&other.delete("r").unwrap()), ["write the records", told]);
    let mut described = other.clone();
    described.document = DomainXml::of(record("x", None, "given").domain.unwrap()).ok();
    assert_eq!(steps(&described.delete("r").unwrap()), ["write the records", told]);
    // The description says that it was given another.
    described.document = DomainXml::of(record("x", None, "base").domain.unwrap()).ok();
    assert_eq!(steps(&described.delete("r").unwrap()), ["write the records", "remove vda.given", told]);
    let memory = Memory { location: Some(Location::External), file: Some("/images/r.mem".into()) };
    let other = other.record("r", |record| record.memory = memory);
    assert_eq!(steps(&other.delete("r").unwrap()), ["write the records", "remove r.mem", told]);
}

#[test]
fn an_image_that_cannot_be_read_or_stands_elsewhere_is_refused_before_anything_is_touched() {
    let unreadable = world().beside("s1", Err("it is locked".into()));
    assert!(
        matches!(unreadable.refused("s1"), Refusal::Image(ImageRefusal::Unreadable { file: of, .. }) if of == file("s1"))
    );
    // By another name the same image, perhaps.
    let elsewhere = world().beside("s1", Ok(info("s1", Some("link-to-s0"))));
    assert!(
        matches!(elsewhere.refused("s1"), Refusal::Image(ImageRefusal::Unreadable { why, .. }) if why.contains("link-to-s0"))
    );
    let mut unstated = info("s0", Some("base"));
    unstated.backing_filename_format = None;
    let mut streamed = world().beside("s0", Ok(unstated));
    streamed.observed.disks = vec![chain(&["s3", "s1-2", "base"])];
    assert!(
        matches!(streamed.refused("s1"), Refusal::Image(ImageRefusal::Unreadable { why, .. }) if why.contains("format"))
    );
}

#[test]
fn what_else_stands_in_the_way_is_refused_before_anything_is_touched() {
    let inside =
        || SnapshotInfo { id: "1".into(), name: "i1".into(), vm_state_size: 0, date_sec: 0, vm_clock_sec: 0 };
    let held = ImageInfo { snapshots: vec![inside()], ..info("s1", Some("s0")) };
    let holds = world().beside("s1", Ok(held));
    assert!(
        matches!(holds.refused("s1"), Refusal::Delete(DeleteRefusal::HoldsInternal { file: of, .. }) if of == file("s1"))
    );
    let mut bitmap = world();
    bitmap.observed.disks[0].chain[2].nodes[0].bitmaps.push(DirtyBitmap {
        name: Some("b0".into()),
        granularity: 65_536,
        recording: true,
        persistent: true,
        inconsistent: false,
        busy: false,
    });
    assert!(matches!(bitmap.refused("s1"), Refusal::Delete(DeleteRefusal::BitmapLost { .. })));
    let mut shared = world();
    let twin = ObservedDisk { target: "vdb".into(), ..chain(&["x", "s0", "base"]) };
    shared.observed.disks.push(twin);
    assert!(matches!(shared.refused("s1"), Refusal::Delete(DeleteRefusal::ImageShared { .. })));
    // Of another time: it is not known for another record of the same snapshot.
    let frozen_twice =
        world().and(DomainSnapshot { creation_time: Some(2), ..record("t", Some("s0"), "s0") });
    assert!(
        matches!(frozen_twice.refused("s1"), Refusal::Delete(DeleteRefusal::OtherBranch { by, .. }) if by == "t")
    );
    // Handed in without a machine, it does not say what it is based on.
    let copy = DomainSnapshot { name: Some("copy".into()), domain: None, ..record("s1", None, "s0") };
    let copied = world().and(copy);
    assert!(
        matches!(copied.refused("s1"), Refusal::Delete(DeleteRefusal::NamedTwice { by, .. }) if by == "copy")
    );
    let unknown = world().record("s1", |record| record.domain = None);
    assert!(matches!(unknown.refused("s1"), Refusal::Image(ImageRefusal::Unknown { .. })));
    let begun = world().record("s2", |record| record.disks[0].delete_in_progress = true);
    assert_eq!(begun.refused("s1"), Refusal::Delete(DeleteRefusal::DeletionUnfinished("s2".into())));
    let mut given = world();
    given.observed.disks[0].given_away = true;
    assert_eq!(given.refused("s1"), Refusal::Image(ImageRefusal::GivenAway("vda".into())));
    let mut busy = world();
    busy.observed.disks[0].busy = Some("mirror_top".into());
    assert!(matches!(busy.refused("s1"), Refusal::BlockJob { .. }));
    // The machine's chain is not the one that it grew in.
    let mut changed = world();
    changed.observed.disks = vec![chain(&["s3", "base"])];
    assert!(matches!(changed.refused("s1"), Refusal::Delete(DeleteRefusal::NotInChain { .. })));
}

/// As raw it would be a disk of a few clusters, which begins with the overlay's header.
#[test]
fn a_description_that_states_another_format_than_the_records_is_not_believed() {
    let mut off = world();
    off.observed.status = Status::off();
    off.observed.disks = vec![ObservedDisk { format: "raw".into(), ..chain(&["s3"]) }];
    let other = OffRefusal::OtherFormat {
        disk: "vda".into(),
        file: file("s3"),
        described: "raw".into(),
        recorded: "qcow2".into(),
    };
    assert_eq!(off.refused("s3"), other.into());
}
