//! What the tools say, as they were recorded, is read; and what a name could do is refused before anything is run.

use super::*;

fn name(name: &str) -> SnapshotName {
    SnapshotName::new(name).unwrap()
}

fn names(snapshots: &[Snapshot]) -> Vec<&str> {
    snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect()
}

fn said(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|words| words.as_bytes().to_vec()).collect()
}

/// What is run, one command a line; what undoes it behind it.
fn told(acts: &[Act]) -> String {
    let words = |command: &HostCommand| format!("{} {}", command.program, command.arguments.join(" "));
    let line = |act: &Act| {
        let undo = act.undo.as_ref().map(|undo| format!("  <- {}", words(undo))).unwrap_or_default();
        let decides = if act.decides { "! " } else { "" };
        format!("{decides}{}{undo}\n", words(&act.run))
    };
    acts.iter().map(line).collect()
}

const SHOWN: &str = "pool/vm1\n\tName: \t\t\tvm1\n\tFlags: \t\t\t-\n\tSnapshot(s):\n\t\t\t\tpool/vm1@s1\n";

#[test]
fn snapshots_of_a_subvolume_are_those_beside_it_and_no_other() {
    let listed = "ID 258 gen 9 top level 5 path pool/vm1@s1\nID 260 gen 11 top level 5 path pool/vm1@a b\n\
        ID 261 gen 11 top level 5 path other/vm1@s2\nID 262 gen 11 top level 5 path pool/vm1@s3/vm1\n\
        ID 263 gen 11 top level 5 path pool/vm10@s4\n";
    let volume = Btrfs::new("/mnt/pool/vm1").unwrap();
    assert_eq!(names(&volume.listed(&said(&[SHOWN, listed])).unwrap()), ["s1", "a b"]);
    let garbled = volume.listed(&said(&[SHOWN, "ID 258"]));
    assert!(matches!(garbled, Err(StorageError::Nonsense { .. })), "{garbled:?}");
}

#[test]
fn a_snapshot_of_btrfs_is_made_under_another_name_so_that_it_cannot_land_inside_of_one() {
    let volume = Btrfs::new("/p/vm1").unwrap();
    let aside = "/p/vm1.freezeframe-7";
    let expected = format!(
        "btrfs subvolume snapshot -r /p/vm1 {aside}  <- btrfs subvolume delete {aside}\n! mv -T {aside} /p/vm1@s1\n"
    );
    assert_eq!(told(&volume.snapshot(&name("s1"), "7").unwrap()), expected);
}

#[test]
fn a_reflink_copy_gets_its_name_by_a_link_that_overwrites_nothing() {
    let file = Reflink::new("/i/vda.raw").unwrap();
    let aside = "/i/vda.raw.freezeframe-7";
    let expected = format!(
        "cp --reflink=always --preserve=all /i/vda.raw {aside}  <- rm {aside}\nsync {aside}\n\
         ! ln -T {aside} /i/vda.raw@s1\nrm {aside}\nsync /i\n"
    );
    assert_eq!(told(&file.snapshot(&name("s1"), "7").unwrap()), expected);
}

#[test]
fn a_thick_snapshot_without_room_left_is_listed_as_unfit() {
    let said = said(&[r#"{"report": [{"lv": [
        {"lv_name":"t0", "origin":"", "lv_attr":"owi-a-s---", "lv_device_open":"open"},
        {"lv_name":"t0.s1", "origin":"t0", "lv_attr":"swi-I-s---", "lv_device_open":""},
        {"lv_name":"t0.s2", "origin":"t0", "lv_attr":"swi-a-s---", "lv_device_open":""},
        {"lv_name":"other.s3", "origin":"t0", "lv_attr":"swi-a-s---", "lv_device_open":""},
        {"lv_name":"t0.s4", "origin":"t1", "lv_attr":"Vwi-a-tz--", "lv_device_open":""}
    ]}]}"#]);
    let volume = Lvm::new("vg/t0", None).unwrap();
    let listed = volume.listed(&said).unwrap();
    assert_eq!(names(&listed), ["s1", "s2"]);
    assert_eq!(listed.iter().map(|snapshot| snapshot.fit).collect::<Vec<_>>(), [false, true]);
    assert!(volume.used(&name("s2"), &said).unwrap().is_some_and(|words| words.contains("open")));
    let missing = Lvm::new("vg/t9", None).unwrap().listed(&said);
    assert!(matches!(missing, Err(StorageError::Gone { .. })), "{missing:?}");
}

#[test]
fn thick_and_thin_snapshots_are_made_each_in_its_way() {
    let thick = Lvm::new("vg/t0", lvm::Room::percent(20)).unwrap().snapshot(&name("s1"), "7").unwrap();
    assert_eq!(told(&thick), "lvcreate --yes --snapshot --name t0.s1 --extents 20%ORIGIN vg/t0\n");
    let thin = Lvm::new("vg/t0", None).unwrap().snapshot(&name("s1"), "7").unwrap();
    assert_eq!(told(&thin), "lvcreate --yes --snapshot --name t0.s1 --setactivationskip n vg/t0\n");
}

#[test]
fn a_thick_snapshot_is_not_taken_where_the_group_has_less_room_than_it_is_to_have() {
    let thick = Lvm::new("vg/t0", lvm::Room::percent(25)).unwrap();
    // A volume of 32 MiB in extents of 4 MiB, as LVM itself reckons: 9, 5 and 3 of them.
    let sizes = |size: &str, of: &str, free: &str| {
        let all = format!(
            r#""lv_size":"{size}", "origin_size":"{of}", "vg_free":"{free}", "vg_extent_size":"4194304""#
        );
        vec![format!(r#"{{"report": [{{"lv": [{{{all}}}]}}]}}"#).into_bytes()]
    };
    let left = |bytes: &str| thick.check_room(&sizes("33554432", "", bytes));
    assert!(left("12582912").is_ok());
    let error = left("8388608").unwrap_err();
    assert!(
        matches!(&error, StorageError::NoSpace { words } if words.contains("12582912 bytes, and 8388608")),
        "{error}"
    );
    assert!(matches!(left("4.00m"), Err(StorageError::Nonsense { .. })));
    let given = |bytes: &str| thick.check_given(&sizes(bytes, "33554432", "0"));
    assert!(given("12582912").is_ok());
    assert!(matches!(given("8388608"), Err(StorageError::NoSpace { .. })), "another was faster");
    for (percent, bytes) in [(100, 9 << 22), (50, 5 << 22), (25, 3 << 22)] {
        let thick = Lvm::new("vg/t0", lvm::Room::percent(percent)).unwrap();
        assert!(thick.check_room(&sizes("33554432", "", &format!("{bytes}"))).is_ok(), "{percent} %");
        assert!(thick.check_room(&sizes("33554432", "", &format!("{}", bytes - 1))).is_err(), "{percent} %");
    }
    let thin = Lvm::new("vg/t0", None).unwrap();
    assert!(thin.room().is_empty() && thin.given(&name("s1")).is_empty(), "a thin one shares its pool's");
}

#[test]
fn a_logical_volume_goes_back_to_its_only_snapshot_and_while_nobody_has_either_open() {
    let volume = Lvm::new("vg/t0", None).unwrap();
    let why = |live: &str, s1: &str, other: &str| {
        let said = said(&[&format!(
            r#"{{"report": [{{"lv": [
                {{"lv_name":"t0", "origin":"", "lv_attr":"Vwi-a-tz--", "lv_device_open":"{live}"}},
                {{"lv_name":"t0.s1", "origin":"t0", "lv_attr":"Vwi-a-tz--", "lv_device_open":"{s1}"}},
                {{"lv_name":"t0.s2", "origin":"{other}", "lv_attr":"Vwi-a-tz--", "lv_device_open":"open"}}
            ]}}]}}"#
        )]);
        volume.used(&name("s1"), &said).unwrap()
    };
    assert_eq!(why("", "", "t1"), None);
    assert!(why("open", "", "t1").is_some_and(|words| words.contains("vg/t0 is open")));
    assert!(
        why("", "open", "t1").is_some_and(|words| words.contains("vg/t0.s1 is open")),
        "it would be put off"
    );
    assert!(
        why("", "", "t0").is_some_and(|words| words.contains("t0.s2") && words.contains("delete them first"))
    );
    let put_off =
        volume.understood(b"  Merging of thin snapshot vg/t0.s1 will occur on next activation of vg/t0.");
    assert!(matches!(put_off, Err(StorageError::Unfinished { .. })), "it cannot be called off: {put_off:?}");
}

#[test]
fn what_lvm_refuses_in_these_words_means_this() {
    let volume = Lvm::new("vg/t0", None).unwrap();
    for (words, meant) in [
        (r#"  Logical Volume "t0_s1" already exists in volume group "vg""#, Refusal::Exists),
        ("  Snapshot origin LV nope not found in Volume group vg.", Refusal::Gone),
        (r#"  Failed to find logical volume "vg/nope""#, Refusal::Gone),
        (r#"  Volume group "vg" has insufficient free space (77 extents): 2560 required."#, Refusal::NoSpace),
        ("  Insufficient suitable allocatable extents found for logical volume t0.s1.", Refusal::NoSpace),
        (
            "  Cannot create new thin volume, free space in thin pool vg/pool reached threshold.",
            Refusal::NoSpace,
        ),
        ("  Logical volume vg/t1 contains a filesystem in use.", Refusal::Busy),
        ("  Unable to merge invalidated snapshot LV vg/thick_s1.", Refusal::Gone),
        ("  Can't create snapshot without using device-mapper kernel driver.", Refusal::NotSupported),
        ("  Please specify either size or extents with snapshots.", Refusal::NotSupported),
        ("  something new", Refusal::Other),
    ] {
        assert_eq!(volume.refusal(5, words), meant, "{words}");
    }
}

#[test]
fn a_group_of_data_sets_has_the_snapshots_that_all_of_them_have() {
    let sets = Zfs::new(&["tank/vm1", "tank/vm2"]).unwrap();
    let said = said(&["tank/vm1@s1\ntank/vm1@s2\n", "tank/vm2@s2\ntank/vm2@s3\n"]);
    assert_eq!(names(&sets.listed(&said).unwrap()), ["s2"]);
    assert_eq!(told(&sets.snapshot(&name("s4"), "7").unwrap()), "zfs snapshot tank/vm1@s4 tank/vm2@s4\n");
}

#[test]
fn an_image_is_asked_with_a_bound_and_what_rbd_says_is_read() {
    let image = Rbd::image("rbd/vda").unwrap();
    let asked = &image.list()[0];
    for word in ["--rados-osd-op-timeout", "--client-mount-timeout"] {
        assert!(asked.arguments.iter().any(|argument| argument == word), "{word} in {asked:?}");
    }
    let listed = r#"[{"id":4,"name":"s1","size":16777216,"protected":"false","timestamp":"Sat Nov 21 22:12:10 2026"}]"#;
    assert_eq!(names(&image.listed(&said(&[listed])).unwrap()), ["s1"]);
    let watched = r#"{"watchers":[{"address":"10.0.0.1:0/123","client":4123,"cookie":1}]}"#;
    assert!(
        image.used(&name("s1"), &said(&[watched])).unwrap().is_some_and(|words| words.contains("10.0.0.1"))
    );
    assert_eq!(image.used(&name("s1"), &said(&[r#"{"watchers":[]}"#])).unwrap(), None);
}

#[test]
fn a_group_of_images_is_the_one_that_is_meant_or_none() {
    let members = r#"[{"image":"vda","pool":"rbd","namespace":"","state":0},{"image":"vdb","pool":"rbd","namespace":"","state":0}]"#;
    let snapshots = r#"[{"snapshot":"s1","state":"ok"},{"snapshot":"s2","state":"incomplete"}]"#;
    let group = |images: &[&str]| Rbd::group("rbd/g", images).unwrap();
    let listed = group(&["rbd/vdb", "rbd/vda"]).listed(&said(&[members, snapshots])).unwrap();
    assert_eq!(listed.iter().map(|snapshot| snapshot.fit).collect::<Vec<_>>(), [true, false]);
    for (wanted, members) in [(&["rbd/vda"][..], members), (&["rbd/vda", "rbd/vdb"], "[]")] {
        let other = group(wanted).listed(&said(&[members, "[]"]));
        assert!(matches!(other, Err(StorageError::Gone { .. })), "{other:?}");
    }
}

#[test]
fn what_a_program_says_is_read_and_what_it_says_beyond_is_passed_over() {
    let program = Exec::new("/p", &["volume-1"]).unwrap();
    let asked = program.snapshot(&name("s1"), "7").unwrap()[0].run.input.clone().unwrap();
    let expected = r#"{"version":1,"operation":"snapshot","volumes":["volume-1"],"name":"s1"}"#;
    assert_eq!(String::from_utf8(asked).unwrap(), expected);
    assert_eq!(names(&program.listed(&said(&[r#"{"snapshots":["s1"],"x":[1]}"#])).unwrap()), ["s1"]);
    for nonsense in ["", "[]", "done", "{}", r#"{"snapshots":"s1"}"#] {
        let told = program.listed(&said(&[nonsense]));
        assert!(matches!(told, Err(StorageError::Nonsense { .. })), "{nonsense}: {told:?}");
    }
    let busy = program.understood(br#"{"error":{"kind":"busy","message":"in a backup"}}"#);
    assert!(matches!(busy, Err(StorageError::Busy { .. })), "{busy:?}");
}

#[test]
fn a_name_that_a_storage_cannot_have_is_refused_before_anything_is_run() {
    for bad in ["a@b", "a b", "käse", "a,b"] {
        let bad = name(bad);
        assert!(Zfs::new(&["tank/vm1"]).unwrap().snapshot(&bad, "7").is_err(), "{bad}");
        assert!(Rbd::image("rbd/vda").unwrap().snapshot(&bad, "7").is_err(), "{bad}");
        assert!(Lvm::new("vg/t0", None).unwrap().snapshot(&bad, "7").is_err(), "{bad}");
    }
    let long = name(&"a".repeat(126));
    assert!(Lvm::new("vg/t0", None).unwrap().snapshot(&long, "7").is_err());
}
