//! What is merged, what the records say meanwhile, and what stands in the way.

use camino::{Utf8Path, Utf8PathBuf};

use super::*;
use crate::{
    capabilities::Capabilities,
    commands::{DirtyBitmap, InternalSnapshot, Status},
    domain::{Domain, DomainDisk},
    domain_snapshot::{Memory, Purpose},
    name::SnapshotName,
    observed::Observed,
    plan::{HostFiles, plan},
    request::{Delete, DeleteFlag, DeleteFlags, Request, WITHIN},
    step::Step,
    xml::Element,
};

/// A machine with two disks, its chains and its records.
#[derive(Clone)]
struct World {
    observed: Observed,
    tree: SnapshotTree,
    document: Option<DomainXml>,
}

fn file(target: &str, end: &str) -> Utf8PathBuf {
    format!("/images/{target}.{end}").into()
}

fn image(target: &str, end: &str) -> ObservedImage {
    let node = ObservedNode { name: format!("{target}-{end}"), format: "qcow2".into(), bitmaps: Vec::new() };
    ObservedImage { file: file(target, end), nodes: vec![node], ..ObservedImage::default() }
}

fn disk(target: &str, chain: &[&str]) -> ObservedDisk {
    ObservedDisk {
        target: target.into(),
        place: 0,
        node: format!("{target}-{}", chain[0]),
        format: "qcow2".into(),
        file: file(target, chain[0]),
        size: 16 << 20,
        readonly: false,
        given_away: false,
        snapshots: Vec::new(),
        depth: chain.len(),
        chain: chain.iter().map(|end| image(target, end)).collect(),
        busy: None,
        bitmaps: Vec::new(),
        transient: false,
    }
}

/// A record of an external snapshot of both disks, taken while they were in the images of that end.
fn record(name: &str, parent: Option<&str>, taken_in: &str) -> DomainSnapshot {
    let mut devices = Element::new("devices");
    let mut disks = Vec::new();
    for target in ["vda", "vdb"] {
        let source = |end| Element::new("source").with("file", file(target, end).as_str());
        let mut disk = Element::new("disk").with("type", "file");
        disk.push(Element::new("driver").with("type", "qcow2"));
        disk.push(source(taken_in));
        disk.push(Element::new("target").with("dev", target));
        devices.push(disk);
        disks.push(SnapshotDisk {
            location: Some(Location::External),
            source: Some(source(name)),
            ..SnapshotDisk::new(target)
        });
    }
    let mut domain = Element::new("domain");
    domain.push(Element::of_text("name", "vm"));
    domain.push(devices);
    DomainSnapshot {
        name: Some(name.into()),
        parent: parent.map(str::to_owned),
        creation_time: Some(1),
        state: Some(crate::domain_snapshot::State::DiskSnapshot),
        disks,
        domain: Some(domain),
        ..DomainSnapshot::default()
    }
}

/// `qcow2 <- s1 <- s2`, both disks.
fn world() -> World {
    let records = vec![record("s1", None, "qcow2"), record("s2", Some("s1"), "s1")];
    World {
        observed: Observed {
            status: Status { status: "running".into(), running: true },
            disks: ["vda", "vdb"].map(|target| disk(target, &["s2", "s1", "qcow2"])).to_vec(),
            missing: Vec::new(),
            undescribed: Vec::new(),
            nvram: None,
        },
        tree: SnapshotTree::new(records, Some("s2".into())).0,
        document: None,
    }
}

impl World {
    fn chain(mut self, index: usize, chain: &[&str]) -> Self {
        self.observed.disks[index] = disk(["vda", "vdb"][index], chain);
        self
    }

    fn image(mut self, disk: usize, place: usize, change: impl FnOnce(&mut ObservedImage)) -> Self {
        change(&mut self.observed.disks[disk].chain[place]);
        self
    }

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

    fn described(mut self, document: DomainXml) -> Self {
        self.document = Some(document);
        self
    }

    fn delete(&self, name: &str) -> Result<Planned, Refusal> {
        self.delete_with(name, DeleteFlags::default())
    }

    fn delete_with(&self, name: &str, flags: DeleteFlags) -> Result<Planned, Refusal> {
        let mut domain =
            Domain::new("vm", ["vda", "vdb"].map(|target| DomainDisk::new(target, target)).to_vec());
        domain.document = self.document.clone();
        let commands = ["block-commit", "job-complete", "job-finalize", "job-dismiss", "blockdev-del"];
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
            aside: None,
            off: None,
            beside: None,
            agent: None,
            no_background: false,
        };
        let name = SnapshotName::new(name).unwrap();
        plan(&Request::Delete(Delete::new(name, flags, WITHIN)), facts)
    }

    fn refused(&self, name: &str) -> Refusal {
        self.delete(name).expect_err("it was to be refused")
    }
}

/// What the record of a snapshot is after each stage of a plan that writes it.
fn written(plan: &Plan, name: &str) -> Vec<DomainSnapshot> {
    let changes = plan.steps().filter_map(|step| match step {
        Step::RecordDeletion(step) => Some(&step.changes),
        Step::WriteRecords(step) => Some(&step.changes),
        _ => None,
    });
    let files = changes.flat_map(|changes| changes.writes().to_vec());
    let of = files.filter(|(path, _)| path.file_stem() == Some(name));
    of.map(|(_, text)| DomainSnapshot::read(text.as_bytes(), Purpose::Load).unwrap()).collect()
}

fn printed(planned: &Planned) -> String {
    planned.plan.to_string()
}

fn bitmap() -> DirtyBitmap {
    DirtyBitmap {
        name: Some("b0".into()),
        granularity: 65_536,
        recording: true,
        persistent: true,
        inconsistent: false,
        busy: false,
    }
}

#[test]
fn the_newest_is_merged_disk_by_disk_behind_commits_side_by_side() {
    assert_eq!(
        printed(&world().delete("s2").unwrap()),
        "\
delete snapshot s2 of vm: external, disks vda vdb
  1  record that s2 is being deleted
  2  commit vda: vda-s2 -> vda-s1                   undo: end the job
  3  commit vdb: vdb-s2 -> vdb-s1                   undo: end the job
  4  take vda.s2 out of vda
  5  record that vda is done
  6  take vdb.s2 out of vdb
  7  record that vdb is done
  8  write the records                              point of no return
  9  remove vda.s2
 10  remove vdb.s2
"
    );
}

#[test]
fn the_record_says_of_each_disk_how_far_it_is() {
    let plan = world().delete("s1").unwrap().plan;
    let [begun, halfway, whole] = written(&plan, "s1").try_into().unwrap();
    for part in &begun.disks {
        assert!(part.delete_in_progress && part.location == Some(Location::External));
        let note = note(part).unwrap();
        assert_eq!((note.into, note.done), (file(&part.name, "qcow2").as_str(), false));
    }
    let [vda, vdb] = &*halfway.disks else { panic!("two disks") };
    assert_eq!(vda.location, Some(Location::No));
    let note = note(vda).unwrap();
    assert_eq!((note.file.as_str(), note.done), ("/images/vda.s1", true));
    assert_eq!(vdb, &begun.disks[1]);
    assert!(whole.disks.iter().all(|part| self::note(part).unwrap().done));
}

#[test]
fn who_was_taken_of_the_overlay_is_of_the_image_below_then() {
    let planned = world().delete("s1").unwrap();
    let [vda_done, all_done, _] = written(&planned.plan, "s2").try_into().unwrap();
    let sources =
        |record: &DomainSnapshot| ["vda", "vdb"].map(|target| source(record, target).unwrap().to_string());
    assert_eq!(sources(&vda_done), ["/images/vda.qcow2", "/images/vdb.s1"]);
    assert_eq!(sources(&all_done), ["/images/vda.qcow2", "/images/vdb.qcow2"]);
    let tree = planned.tree.unwrap();
    assert_eq!(tree.topological(), ["s2"]);
    assert_eq!(tree.get("s2").unwrap().parent, None);
    assert_eq!(tree.current(), Some("s2"));
}

#[test]
fn a_deletion_goes_on_from_where_it_was_left() {
    let plan = world().delete("s1").unwrap().plan;
    let [begun, halfway, _] = written(&plan, "s1").try_into().unwrap();
    let rest = "\
delete snapshot s1 of vm: external, disks vdb
  1  commit vdb: vdb-s1 -> vdb-qcow2                undo: end the job
  2  take vdb.s1 out of vdb
  3  record that vdb is done
  4  write the records                              point of no return
  5  remove vda.s1
  6  remove vdb.s1
";
    // The first disk is merged: it was written down, or not even that.
    let merged = world().chain(0, &["s2", "qcow2"]);
    for left in [halfway, begun.clone()] {
        let planned = merged.clone().record("s1", |record| *record = left).delete("s1").unwrap();
        assert_eq!(printed(&planned), rest);
        let tree = planned.tree.unwrap();
        let domain = |target| source(tree.get("s2").unwrap(), target).unwrap().to_string();
        assert_eq!(domain("vdb"), "/images/vdb.qcow2");
    }
    // Both are, and only the record is left.
    let all = merged.chain(1, &["s2", "qcow2"]).record("s1", |record| *record = begun);
    let planned = all.delete("s1").unwrap();
    assert_eq!(
        printed(&planned),
        "\
delete snapshot s1 of vm: external
  1  write the records                              point of no return
  2  remove vda.s1
  3  remove vdb.s1
"
    );
    let tree = planned.tree.unwrap();
    assert_eq!(source(tree.get("s2").unwrap(), "vda").unwrap(), file("vda", "qcow2"));
}

#[test]
fn a_disk_that_is_found_merged_is_written_down_as_merged_before_the_machine_leaves_it() {
    let plan = world().delete("s1").unwrap().plan;
    let [begun, ..] = &*written(&plan, "s1") else { panic!("it is written down") };
    let begun = begun.clone();
    let world = world().chain(0, &["s2", "qcow2"]).record("s1", |record| *record = begun);
    let machine = |end| DomainXml::of(record("x", None, end).domain.unwrap()).unwrap();
    let settled = |goes_to| {
        let mut tree = world.tree.clone();
        settle(&mut tree, &world.observed, &machine(goes_to));
        let done: Vec<bool> =
            tree.get("s1").unwrap().disks.iter().map(|part| note(part).unwrap().done).collect();
        let taken_in = ["vda", "vdb"].map(|target| source(tree.get("s2").unwrap(), target).unwrap());
        (done, taken_in)
    };
    assert_eq!(settled("qcow2"), (vec![true, false], [file("vda", "qcow2"), file("vdb", "s1")]));
    // It goes back to the overlay itself: that may not be taken for one of no use.
    assert_eq!(settled("s1"), (vec![false, false], [file("vda", "s1"), file("vdb", "s1")]));
}

#[test]
fn the_mark_of_another_program_is_not_taken_for_a_merge_of_ours() {
    let world = world().chain(0, &["s2", "qcow2"]);
    let marked = world.record("s1", |record| record.disks[0].delete_in_progress = true);
    assert!(matches!(marked.refused("s1"), Refusal::Delete(DeleteRefusal::NotInChain { .. })));
}

#[test]
fn a_file_of_memory_goes_with_its_snapshot_unless_another_record_names_it() {
    let kept = |record: &mut DomainSnapshot| {
        record.state = Some(crate::domain_snapshot::State::Running);
        record.memory = Memory { location: Some(Location::External), file: Some("/images/s2.mem".into()) };
    };
    let removed = |world: World| {
        let planned = world.delete("s2").unwrap();
        planned.plan.steps().any(|step| step.to_string() == "remove s2.mem")
    };
    assert!(removed(world().record("s2", kept)));
    assert!(!removed(world().record("s2", kept).record("s1", kept)));
}

#[test]
fn an_overlay_that_another_record_names_is_not_removed() {
    let mut other = record("b", None, "b");
    other.disks[0].location = Some(Location::No);
    other.disks[1].location = Some(Location::No);
    other.disks[0].source = Some(Element::new("source").with("file", "/images/vda.s2"));
    let planned = world().and(other).delete("s2").unwrap();
    let removals = planned.plan.steps().filter(|step| matches!(step, Step::RemoveImage(_)));
    assert_eq!(removals.map(Step::to_string).collect::<Vec<_>>(), ["remove vdb.s2"]);
}

#[test]
fn a_block_device_is_closed_and_never_removed() {
    let on_device = |record: &mut DomainSnapshot| {
        record.disks[0].source_type = SourceType::Block;
        record.disks[0].source = Some(Element::new("source").with("dev", "/images/vda.s1"));
    };
    let devices = |planned: &Planned| {
        let removals = planned.plan.steps().filter_map(|step| match step {
            Step::RemoveImage(step) => Some(step.device),
            _ => None,
        });
        removals.collect::<Vec<_>>()
    };
    let planned = world().record("s1", on_device).delete("s1").unwrap();
    assert_eq!(devices(&planned), [true, false]);
    for left in written(&planned.plan, "s1") {
        let merged = world().chain(0, &["s2", "qcow2"]).record("s1", |record| *record = left);
        assert_eq!(devices(&merged.delete("s1").unwrap()), [true, false]);
    }
}

/// Whoever asks for several is asked to do them one by one ([`super::super::one_by_one`]): one plan cannot hold them.
#[test]
fn several_external_ones_are_no_plan_of_their_own() {
    let flags = || [DeleteFlag::Children].into_iter().collect();
    let refused = world().delete_with("s1", flags()).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Delete(DeleteRefusal::ExternalAmongMany(name)) if name == "s2"),
        "{refused}"
    );
    assert_eq!(refused.code(), crate::error::Code::ConfigUnsupported);
}

#[test]
fn records_of_another_machine_of_the_same_name_are_left_alone() {
    let domain = |uuid: &str| {
        let text = format!("<domain><name>vm</name><uuid>{uuid}</uuid><devices/></domain>");
        DomainXml::read(text.as_bytes()).unwrap()
    };
    let [ours, theirs] = [1, 2].map(|last| format!("6f2d61a4-0000-4000-8000-00000000000{last}"));
    let taken_of = |uuid: &str| {
        let mut world = world().record("s1", |record| {
            let domain = record.domain.as_mut().unwrap();
            domain.push(Element::of_text("uuid", uuid));
        });
        world.document = Some(domain(&ours));
        world
    };
    let refused = taken_of(&theirs).refused("s2");
    let Refusal::RecordsOfAnother { name, recorded, described } = &refused else { panic!("{refused}") };
    assert_eq!((name.as_str(), recorded, described), ("s1", &theirs, &ours));
    // Who does not say who it is, is believed; and one UUID is written in many ways.
    taken_of(&ours.to_uppercase()).delete("s2").unwrap();
    world().delete("s2").unwrap();
}

#[test]
fn what_stands_in_the_way_is_refused_before_anything_is_touched() {
    let s1 = || "s1".to_owned();
    // Where branches part, a merge is only finished that was begun before they did.
    let begun = || world().record("s1", |record| record.disks[0].delete_in_progress = true);
    let two = begun().and(record("s3", Some("s1"), "s1"));
    assert_eq!(two.refused("s1"), Refusal::Delete(DeleteRefusal::Branches(s1())));
    let reverted = begun().record("s1", |record| record.revert_disks = vec![SnapshotDisk::new("vda")]);
    assert_eq!(reverted.refused("s1"), Refusal::Delete(DeleteRefusal::Branches(s1())));
    let mut current = begun();
    current.tree.set_current(Some("s1"));
    assert_eq!(current.refused("s1"), Refusal::Delete(DeleteRefusal::Branches(s1())));

    // Its overlay is not in use, and is based on what would be written to, or on what would go.
    for taken_in in ["s1", "s2"] {
        let other = world().and(record("b", Some("s2"), taken_in));
        let mut other = other;
        other.tree.set_current(Some("b"));
        let refused = other.refused("s2");
        let (disk, file, by) = ("vda".to_owned(), file("vda", taken_in), "b".to_owned());
        assert_eq!(refused, Refusal::Delete(DeleteRefusal::OtherBranch { disk, file, by }));
    }
    // Another record says that the overlay is its own, and is of another time.
    let (name, creation_time) = (Some("copy".into()), Some(2));
    let copied = world().and(DomainSnapshot { name, creation_time, ..record("s2", Some("s1"), "s1") });
    for (name, by) in [("s2", "copy"), ("copy", "s2")] {
        let refused = copied.refused(name);
        let [name, by, disk] = [name, by, "vda"].map(str::to_owned);
        let twice = DeleteRefusal::NamedTwice { name, disk, file: file("vda", "s2"), by };
        assert_eq!(refused, Refusal::Delete(twice));
    }

    let unknown = world().and(DomainSnapshot { domain: None, ..record("b", None, "qcow2") });
    assert!(
        matches!(unknown.refused("s2"), Refusal::Delete(DeleteRefusal::OtherBranch { by, .. }) if by == "b")
    );

    let shared = world().image(1, 2, |image| image.file = file("vda", "qcow2"));
    assert!(matches!(shared.refused("s1"), Refusal::Delete(DeleteRefusal::ImageShared { nodes: 2, .. })));
    let unopened = world().image(0, 1, |image| image.nodes.clear());
    assert!(matches!(unopened.refused("s2"), Refusal::Delete(DeleteRefusal::ImageShared { nodes: 1, .. })));
    let alone = world().chain(0, &["s2"]);
    assert!(matches!(alone.refused("s2"), Refusal::Delete(DeleteRefusal::NothingBelow { .. })));
    let held = InternalSnapshot { id: "1".into(), name: "i1".into(), vm_state_size: 0 };
    let holds = world().image(1, 0, |image| image.snapshots.push(held));
    assert!(
        matches!(holds.refused("s2"), Refusal::Delete(DeleteRefusal::HoldsInternal { held, .. }) if held == "i1")
    );
    let inconsistent = DirtyBitmap { inconsistent: true, ..bitmap() };
    let lost = world().image(1, 0, |image| image.nodes[0].bitmaps.push(inconsistent));
    assert!(matches!(
        lost.refused("s2"),
        Refusal::Delete(DeleteRefusal::BitmapLost { why: "it is in use, or inconsistent", .. })
    ));
    let raw = world().image(1, 0, |image| image.nodes[0].bitmaps.push(bitmap()));
    let raw = raw.image(1, 1, |image| image.nodes[0].format = "raw".into());
    assert!(matches!(raw.refused("s2"), Refusal::Delete(DeleteRefusal::BitmapLost { .. })));
    let inside = world().record("s1", |record| record.disks[0].location = Some(Location::Internal));
    assert!(
        matches!(inside.refused("s2"), Refusal::Delete(DeleteRefusal::InternalParent { parent, .. }) if parent == "s1")
    );
    let begun = world().record("s1", |record| record.disks[0].delete_in_progress = true);
    assert_eq!(begun.refused("s2"), Refusal::Delete(DeleteRefusal::DeletionUnfinished(s1())));
    let mut busy = world();
    busy.observed.disks[1].busy = Some("mirror_top".into());
    assert!(matches!(busy.refused("s2"), Refusal::Delete(DeleteRefusal::JobOnDelete { .. })));
}

#[test]
fn what_the_caller_keeps_of_a_disk_is_of_the_images_as_they_were() {
    // A manual snapshot was taken while the disk was in the overlay that goes.
    let mut manual = record("m", Some("s2"), "s2");
    manual.disks[0].location = Some(Location::Manual);
    manual.disks[1].location = Some(Location::No);
    let mut taken = world().and(manual);
    taken.tree.set_current(Some("m"));
    let planned = taken.delete("s2").unwrap();
    let image = |target| source(planned.tree.as_ref().unwrap().get("m").unwrap(), target).unwrap();
    assert_eq!((image("vda"), image("vdb")), (file("vda", "s2"), file("vdb", "s1")));
    let removed = planned.plan.steps().filter(|step| matches!(step, Step::RemoveImage(_)));
    assert_eq!(removed.map(Step::to_string).collect::<Vec<_>>(), ["remove vda.s2", "remove vdb.s2"]);
}

#[test]
fn the_machines_description_does_not_name_an_overlay_that_is_gone() {
    let document = DomainXml::of(record("x", None, "s2").domain.unwrap()).unwrap();
    let planned = world().described(document).delete("s2").unwrap();
    let described = planned.domain.unwrap();
    assert_eq!(described.disk("vda").unwrap().path(), Some(file("vda", "s1").as_path()));
    let document = DomainXml::of(record("x", None, "other").domain.unwrap()).unwrap();
    assert_eq!(world().described(document).delete("s2").unwrap().domain, None);
}
