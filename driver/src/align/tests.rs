//! libvirt's rules of what a wish means, row by row.

use super::*;
use crate::{
    commands::Status,
    domain_snapshot::{DomainSnapshot, Memory},
    observed::ObservedDisk,
    request::CreateFlags,
    xml::Element,
};

const FOLDER: &str = "/images";

fn domain() -> Domain {
    let disk = |target: &str| DomainDisk {
        source: Some(format!("{FOLDER}/{target}.qcow2").into()),
        ..DomainDisk::new(target, target)
    };
    Domain::new("vm", vec![disk("vda"), disk("vdb")])
}

fn observed(status: &str) -> Observed {
    let disk = |(place, target): (usize, &str)| ObservedDisk {
        target: target.into(),
        place,
        node: target.into(),
        format: "qcow2".into(),
        file: format!("{FOLDER}/{target}.qcow2").into(),
        size: 1 << 20,
        readonly: false,
        given_away: false,
        snapshots: Vec::new(),
        depth: 1,
        chain: Vec::new(),
        busy: None,
        bitmaps: Vec::new(),
        transient: false,
    };
    Observed {
        status: Status { status: status.into(), running: status == "running" },
        disks: ["vda", "vdb"].into_iter().enumerate().map(disk).collect(),
        missing: Vec::new(),
        undescribed: Vec::new(),
        nvram: None,
    }
}

fn wish(flags: &[CreateFlag], disks: Vec<SnapshotDisk>) -> Create {
    let wish = DomainSnapshot { name: Some("s1".into()), disks, ..DomainSnapshot::default() };
    Create::new(wish, flags.iter().copied())
}

fn memory(mut create: Create, location: Location, file: Option<&str>) -> Create {
    create.wish.memory = Memory { location: Some(location), file: file.map(Into::into) };
    create
}

fn disk(name: &str, location: Location) -> SnapshotDisk {
    SnapshotDisk { location: Some(location), ..SnapshotDisk::new(name) }
}

fn in_file(name: &str, path: &str) -> SnapshotDisk {
    SnapshotDisk { source: Some(Element::new("source").with("file", path)), ..SnapshotDisk::new(name) }
}

fn places(aligned: &Aligned) -> Vec<String> {
    let word = |place: &Place| match place {
        Place::No => "no".to_owned(),
        Place::Internal => "internal".to_owned(),
        Place::Manual => "manual".to_owned(),
        Place::Storage(_) => "storage".to_owned(),
        Place::External(overlay) => overlay.path.to_string(),
    };
    aligned.disks.iter().map(|disk| word(&disk.place)).collect()
}

fn running(create: &Create) -> Result<Aligned, Refusal> {
    align(create, &domain(), Some(&observed("running")))
}

const DISK_ONLY: &[CreateFlag] = &[CreateFlag::DiskOnly];

#[test]
fn a_disk_that_is_said_to_be_taken_by_its_storage_is_no_disk_of_qemus() {
    let said = Element::new("diskSnapshot").with("method", "btrfs");
    let stated = |mut create: Create| {
        create.by_storage.stated.insert("vda".into(), said.clone());
        running(&create)
    };
    assert_eq!(places(&stated(wish(DISK_ONLY, vec![])).unwrap()), ["storage", "/images/vdb.s1"]);
    let manual = vec![disk("vda", Location::Manual)];
    assert_eq!(places(&stated(wish(DISK_ONLY, manual)).unwrap()), ["storage", "/images/vdb.s1"]);
    for (flags, disks) in [
        (&[][..], vec![]),
        (DISK_ONLY, vec![disk("vda", Location::No)]),
        (DISK_ONLY, vec![disk("vda", Location::External)]),
    ] {
        assert_eq!(stated(wish(flags, disks)), Err(UnusedRefusal::Provider("vda".into()).into()));
    }
}

#[test]
fn a_hook_takes_what_would_be_left_to_the_caller() {
    let mut create = wish(DISK_ONLY, vec![disk("vdb", Location::Manual)]);
    assert_eq!(places(&running(&create).unwrap()), ["/images/vda.s1", "manual"]);
    create.by_storage.hook = Some("/bin/hook".into());
    assert_eq!(places(&running(&create).unwrap()), ["/images/vda.s1", "storage"]);
}

#[test]
fn a_running_machine_is_taken_inside_its_images_with_its_memory() {
    let aligned = running(&wish(&[], vec![])).unwrap();
    assert_eq!(places(&aligned), ["internal", "internal"]);
    assert_eq!((aligned.state, aligned.memory), (State::Running, MemoryPlace::Internal));
}

#[test]
fn a_machine_that_is_off_has_no_memory_to_take() {
    let aligned = align(&wish(&[], vec![]), &domain(), None).unwrap();
    assert_eq!(places(&aligned), ["internal", "internal"]);
    assert_eq!((aligned.state, aligned.memory), (State::Shutoff, MemoryPlace::No));
    let external = wish(&[], vec![disk("vda", Location::External)]);
    let aligned = align(&external, &domain(), None).unwrap();
    assert_eq!(places(&aligned), ["/images/vda.s1", "/images/vdb.s1"]);
}

#[test]
fn disks_alone_go_on_in_overlays_beside_their_images() {
    let aligned = running(&wish(DISK_ONLY, vec![in_file("vdb", "/other/b")])).unwrap();
    assert_eq!(places(&aligned), ["/images/vda.s1", "/other/b"]);
    assert_eq!((aligned.state, aligned.memory), (State::DiskSnapshot, MemoryPlace::No));
}

#[test]
fn memory_in_a_file_makes_all_disks_external() {
    let wish = memory(wish(&[], vec![]), Location::External, Some("/m/s1.mem"));
    let aligned = running(&wish).unwrap();
    assert_eq!(places(&aligned), ["/images/vda.s1", "/images/vdb.s1"]);
    assert_eq!((aligned.state, aligned.memory), (State::Running, MemoryPlace::External("/m/s1.mem".into())));
}

#[test]
fn the_name_of_an_overlay_takes_the_place_of_the_images_ending() {
    let mut later = observed("running");
    later.disks[0].file = "/images/vda.s0".into();
    let aligned = align(&wish(DISK_ONLY, vec![]), &domain(), Some(&later)).unwrap();
    assert_eq!(places(&aligned), ["/images/vda.s1", "/images/vdb.s1"]);
    later.disks[0].file = "/images.d/vda".into();
    let aligned = align(&wish(DISK_ONLY, vec![]), &domain(), Some(&later)).unwrap();
    assert_eq!(places(&aligned), ["/images.d/vda.s1", "/images/vdb.s1"], "a dot in a folder is no ending");
}

#[test]
fn a_disk_is_named_by_its_source_too() {
    let wished = wish(DISK_ONLY, vec![disk("/images/vdb.qcow2", Location::No)]);
    assert_eq!(places(&running(&wished).unwrap()), ["/images/vda.s1", "no"]);
}

#[test]
fn what_the_machine_says_of_a_disk_counts_where_the_wish_says_nothing() {
    let mut domain = domain();
    domain.disks[0].snapshot = Some(Location::No);
    domain.disks[1].snapshot = Some(Location::External);
    let of = |create: &Create| align(create, &domain, Some(&observed("running")));
    assert_eq!(places(&of(&wish(DISK_ONLY, vec![])).unwrap()), ["no", "/images/vdb.s1"]);
    // Of an internal snapshot only `no` is heard: it is one as a whole.
    assert_eq!(places(&of(&wish(&[], vec![])).unwrap()), ["no", "internal"]);
    let asked = wish(DISK_ONLY, vec![disk("vda", Location::External)]);
    assert_eq!(places(&of(&asked).unwrap()), ["/images/vda.s1", "/images/vdb.s1"]);
}

#[test]
fn an_empty_drive_takes_no_part() {
    let mut without = observed("running");
    without.disks.remove(1);
    let aligned = align(&wish(&[], vec![]), &domain(), Some(&without)).unwrap();
    assert_eq!(places(&aligned), ["internal", "no"]);
}

#[test]
fn what_contradicts_itself_or_the_machine_is_refused_as_libvirt_refuses_it() {
    let internal = |disks| wish(&[], disks);
    let external_memory = |create| memory(create, Location::External, Some("/m"));
    let rows: Vec<(Create, &str, &str)> = vec![
        (wish(&[CreateFlag::Live], vec![]), "OPERATION_UNSUPPORTED", "`live` is for"),
        (memory(wish(DISK_ONLY, vec![]), Location::Internal, None), "XML_ERROR", "no memory to save"),
        (external_memory(wish(DISK_ONLY, vec![])), "XML_ERROR", "no memory to save"),
        (memory(internal(vec![]), Location::No, None), "OPERATION_UNSUPPORTED", "holds its memory"),
        (
            internal(vec![SnapshotDisk::new("vda"), SnapshotDisk::new("vdb"), SnapshotDisk::new("vdc")]),
            "CONFIG_UNSUPPORTED",
            "3 disks are named, and the machine has 2",
        ),
        (internal(vec![SnapshotDisk::new("vdc")]), "CONFIG_UNSUPPORTED", "no disk `vdc`"),
        (
            internal(vec![SnapshotDisk::new("vda"), SnapshotDisk::new("/images/vda.qcow2")]),
            "CONFIG_UNSUPPORTED",
            "named twice",
        ),
        (
            internal(vec![SnapshotDisk::new("vda"), disk("vda", Location::Manual)]),
            "CONFIG_UNSUPPORTED",
            "named twice",
        ),
        (internal(vec![disk("vda", Location::External)]), "CONFIG_UNSUPPORTED", "cannot be external"),
        (internal(vec![disk("vda", Location::Manual)]), "CONFIG_UNSUPPORTED", "cannot be manual"),
        (internal(vec![disk("vda", Location::No)]), "CONFIG_UNSUPPORTED", "not selected"),
        (internal(vec![in_file("vda", "/x")]), "CONFIG_UNSUPPORTED", "of use to an external"),
        (
            wish(DISK_ONLY, vec![SnapshotDisk { location: Some(Location::No), ..in_file("vda", "/x") }]),
            "CONFIG_UNSUPPORTED",
            "of use to an external",
        ),
        (
            wish(
                DISK_ONLY,
                vec![SnapshotDisk {
                    driver: Some(Element::new("driver").with("type", "raw")),
                    ..SnapshotDisk::new("vda")
                }],
            ),
            "CONFIG_UNSUPPORTED",
            "format raw",
        ),
        (
            wish(
                DISK_ONLY,
                vec![SnapshotDisk { source_type: SourceType::Block, ..SnapshotDisk::new("vda") }],
            ),
            "CONFIG_UNSUPPORTED",
            "no file name can be made up",
        ),
        (
            wish(DISK_ONLY, vec![in_file("vda", "/x"), in_file("vdb", "/x")]),
            "CONFIG_UNSUPPORTED",
            "the same overlay",
        ),
    ];
    for (create, code, says) in rows {
        let refused = running(&create).unwrap_err();
        assert_eq!(refused.code().name(), code, "{refused}");
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn a_machine_in_a_state_of_which_nothing_can_be_kept_is_refused() {
    for (status, why, code) in [
        ("suspended", Refusal::GuestSleeps, "OPERATION_UNSUPPORTED"),
        ("inmigrate", Refusal::BadState("nostate"), "INTERNAL_ERROR"),
    ] {
        let refused = align(&wish(&[], vec![]), &domain(), Some(&observed(status))).unwrap_err();
        assert_eq!((refused.code().name(), &refused), (code, &why), "{status}");
    }
    for status in ["running", "paused", "prelaunch", "io-error", "shutdown", "guest-panicked"] {
        assert!(align(&wish(&[], vec![]), &domain(), Some(&observed(status))).is_ok(), "{status}");
    }
}

#[test]
fn flags_that_do_not_go_together_are_refused_in_libvirts_order() {
    use CreateFlag::{Current, DiskOnly, Halt, Live, NoMetadata, Quiesce, Redefine};
    let check = |flags: &[CreateFlag]| flags.iter().copied().collect::<CreateFlags>().check();
    assert_eq!(check(&[Current]), Err(Refusal::FlagNeeds { flag: Current, needed: Redefine }));
    assert_eq!(check(&[Quiesce]), Err(Refusal::FlagNeeds { flag: Quiesce, needed: DiskOnly }));
    for (other, first) in [(NoMetadata, Redefine), (Halt, Redefine)] {
        assert_eq!(check(&[Redefine, other]), Err(Refusal::FlagsExclude(first, other)));
    }
    assert_eq!(check(&[Redefine, Live]), Err(Refusal::FlagsExclude(Live, Redefine)));
    assert_eq!(check(&[Redefine, Current]), Ok(()));
    assert_eq!(check(&[DiskOnly, Quiesce, Halt]), Ok(()));
}

#[test]
fn no_overlay_is_put_on_an_image_that_is_named_by_a_path_from_elsewhere() {
    let mut relative = observed("running");
    relative.disks[1].file = "images/vdb.qcow2".into();
    let refused =
        Err(ImageRefusal::NotAbsolute { disk: "vdb".into(), file: "images/vdb.qcow2".into() }.into());
    assert_eq!(align(&wish(DISK_ONLY, vec![]), &domain(), Some(&relative)), refused);
    let elsewhere = wish(DISK_ONLY, vec![in_file("vdb", "/other/b")]);
    assert_eq!(align(&elsewhere, &domain(), Some(&relative)), refused);
    // What is no file of the host's has no folder.
    relative.disks[1].file = "nbd://host/vdb".into();
    let mut domain = domain();
    domain.disks[1].source_type = Some(SourceType::Network);
    assert_eq!(places(&align(&elsewhere, &domain, Some(&relative)).unwrap()), ["/images/vda.s1", "/other/b"]);
}
