//! Jobs that make and open their target by themselves, and what outlives a node in its image.

use super::*;

fn drive(command: &str, sync: &str) -> (String, Value) {
    (command.into(), json!({ "job-id": "j", "device": "vda", "target": "t", "sync": sync }))
}

#[rstest]
#[case("drive-mirror")]
#[case("drive-backup")]
fn a_job_that_is_refused_leaves_its_file_and_no_node(#[case] command: &str) {
    let mut bench = one_disk();
    let graph = bench.qemu.graph().clone();
    let (command, mut arguments) = drive(command, "full");
    arguments["job-id"] = "1".into();
    assert_eq!(bench.refused(&command, arguments), "Invalid job ID '1'");
    assert!(bench.qemu.graph().newest_first().eq(graph.newest_first()));
    assert!(bench.host.exists("t".into()));
}

#[test]
fn the_target_of_a_backup_is_closed_when_the_job_ends() {
    let mut bench = one_disk();
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(3, 1);
    let nodes = bench.qemu.graph().newest_first().count();
    let (command, arguments) = drive("drive-backup", "full");
    bench.ok(&command, arguments);
    assert_eq!(bench.qemu.graph().newest_first().count(), nodes + 3, "the target, its file, the filter");
    bench.settle();
    assert_eq!(bench.qemu.graph().newest_first().count(), nodes);
    assert_eq!(bench.host.image("t".into()).unwrap().blocks(), &Blocks::from([(3, 1)]));
}

#[test]
fn a_backup_without_sync_keeps_what_is_overwritten_until_it_is_cancelled() {
    let mut bench = one_disk();
    for block in [1, 2] {
        bench.host.image_mut("vda.qcow2".into()).unwrap().write(block, 1);
    }
    let (command, arguments) = drive("drive-backup", "none");
    bench.ok(&command, arguments);
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(2, 5);
    assert_eq!(bench.settle(), Vec::<String>::new());
    bench.ok("job-cancel", json!({ "id": "j" }));
    bench.settle();
    let target = bench.host.image("t".into()).unwrap();
    assert_eq!(target.blocks(), &Blocks::from([(2, 1)]));
    assert_eq!(target.as_qcow2().unwrap().backing.as_ref().unwrap().file, "/images/vda.qcow2");
}

/// A real file has holes where nothing was written: to QEMU they are data all the same.
#[rstest]
#[case("drive-mirror", "full")]
#[case("drive-mirror", "top")]
#[case("drive-backup", "top")]
fn a_job_on_a_raw_disk_is_as_long_as_the_disk(#[case] command: &str, #[case] sync: &str) {
    let mut machine = Machine::new().disk("vda");
    machine.disks[0].format = Format::Raw;
    let mut bench = Bench::new(machine);
    let (command, arguments) = drive(command, sync);
    bench.ok(&command, arguments);
    assert_eq!(length_of_job(&mut bench), size_of_disk(&mut bench));
}

#[rstest]
#[case("full", true)]
#[case("top", false)]
fn only_what_is_copied_of_a_chain_over_a_raw_disk_counts(#[case] sync: &str, #[case] all: bool) {
    let mut machine = Machine::new().disk("vda");
    machine.disks[0].format = Format::Raw;
    let mut bench = Bench::new(machine);
    bench.add_overlay("ov");
    bench.ok("blockdev-snapshot", json!({ "node": "vda", "overlay": "ov" }));
    bench.ok("drive-mirror", json!({ "job-id": "j", "device": "ov", "target": "t", "sync": sync }));
    let expected = if all { size_of_disk(&mut bench) } else { 0 };
    assert_eq!(length_of_job(&mut bench), expected);
}

#[test]
fn a_layer_that_is_shorter_than_the_top_counts_as_allocated_behind_its_end() {
    let mut bench = one_disk();
    let size = size_of_disk(&mut bench);
    bench.add_overlay("ov");
    bench.ok("blockdev-snapshot", json!({ "node": "vda", "overlay": "ov" }));
    bench.ok("block_resize", json!({ "node-name": "ov", "size": size + (3 << 16) }));
    bench.ok("drive-mirror", json!({ "job-id": "j", "device": "ov", "target": "t", "sync": "full" }));
    assert_eq!(length_of_job(&mut bench), 3 << 16);
}

fn length_of_job(bench: &mut Bench) -> u64 {
    bench.ok("query-block-jobs", json!({}))[0]["len"].as_u64().unwrap()
}

fn size_of_disk(bench: &mut Bench) -> u64 {
    bench.ok("query-block", json!({}))[0]["inserted"]["image"]["virtual-size"].as_u64().unwrap()
}

#[test]
fn a_mirror_with_a_target_of_another_size_fails_by_itself() {
    let mut bench = one_disk();
    bench.host.create_new("t".into(), Image::qcow2(512)).unwrap();
    let (command, mut arguments) = drive("drive-mirror", "full");
    arguments["mode"] = "existing".into();
    bench.ok(&command, arguments);
    assert_eq!(bench.settle(), ["aborting", "BLOCK_JOB_COMPLETED", "concluded", "null"]);
    assert_eq!(bench.qemu.chain("vda-device"), ["vda"]);
}

#[test]
fn the_oldest_release_leaves_a_disk_drained_whose_backup_it_could_not_open() {
    let mut bench = one_disk();
    bench.release = Release::V5_2;
    let (command, mut arguments) = drive("drive-backup", "full");
    arguments["target"] = "/nowhere/t".into();
    bench.refused(&command, arguments.clone());
    arguments["target"] = "t".into();
    assert!(bench.refused(&command, arguments).starts_with("not simulated: "));
}

#[rstest]
#[case(Release::V5_2)]
#[case(Release::V11_1)]
fn a_node_that_a_transaction_puts_an_overlay_on_still_takes_a_bitmap_and_stores_it(#[case] release: Release) {
    let mut bench = one_disk();
    bench.release = release;
    bench.add_overlay("ov");
    let bitmap = json!({ "node": "vda", "name": "b", "persistent": true });
    bench.ok(
        "transaction",
        json!({ "actions": [
            { "type": "blockdev-snapshot", "data": { "node": "vda", "overlay": "ov" } },
            { "type": "block-dirty-bitmap-add", "data": bitmap },
        ] }),
    );
    assert!(bench.qemu.graph().node("vda").unwrap().read_only);
    let image = bench.host.image("vda.qcow2".into()).unwrap().as_qcow2().unwrap();
    assert_eq!(image.bitmaps.iter().map(|stored| &*stored.name).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_persistent_bitmap_is_there_at_the_next_start() {
    let machine = Machine::new().disk("vda");
    let mut bench = Bench::new(machine.clone());
    for (name, persistent) in [("kept", true), ("lost", false)] {
        let arguments = json!({ "node": "vda", "name": name, "persistent": persistent });
        bench.ok("block-dirty-bitmap-add", arguments);
    }
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(7, 1);
    bench.ok("quit", json!({}));
    bench.qemu = Qemu::new(&machine, Release::V10_0, &mut bench.host);
    let nodes = bench.ok("query-named-block-nodes", json!({ "flat": true }));
    let bitmaps = nodes[0]["dirty-bitmaps"].as_array().unwrap();
    assert_eq!(bitmaps.len(), 1);
    assert_eq!((&bitmaps[0]["name"], &bitmaps[0]["count"]), (&json!("kept"), &json!(65536)));
}

/// Asked of the four releases.
#[test]
fn a_bitmap_sees_what_its_own_node_writes_and_not_another_of_the_same_file() {
    let mut bench = one_disk();
    let file = json!({ "driver": "file", "filename": "x", "size": 1_048_576 });
    bench.ok("blockdev-create", json!({ "job-id": "c", "options": file }));
    bench.settle();
    for (node, bitmap) in [("f1", "a"), ("f2", "b")] {
        bench.ok("blockdev-add", json!({ "driver": "file", "node-name": node, "filename": "x" }));
        bench.ok("block-dirty-bitmap-add", json!({ "node": node, "name": bitmap }));
    }
    let format = json!({ "driver": "qcow2", "file": "f2", "size": 1_048_576 });
    bench.ok("blockdev-create", json!({ "job-id": "d", "options": format }));
    bench.settle();
    let nodes = bench.ok("query-named-block-nodes", json!({ "flat": true }));
    let count = |name: &str| {
        let node = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == name).unwrap();
        node["dirty-bitmaps"][0]["count"].as_u64().unwrap()
    };
    assert_eq!(count("f1"), 0);
    assert_ne!(count("f2"), 0);
}

/// A machine with a disk that the command line gave as a drive of that format.
fn named_drive(format: Format) -> Bench {
    let mut machine = Machine::new().disk("vda");
    machine.disks[0].drive = "drive0".into();
    machine.disks[0].format = format;
    Bench::new(machine)
}

#[test]
fn a_drive_is_throttled_by_its_name_or_by_its_path() {
    let mut bench = named_drive(Format::Qcow2);
    let limits = |of: &str, named: &str, bps: u64| {
        let mut limits =
            json!({ "bps": bps, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0 });
        limits[of] = named.into();
        limits
    };
    let shown = |bench: &mut Bench| bench.ok("query-block", json!({}))[0]["inserted"]["bps"].clone();
    bench.ok("block_set_io_throttle", limits("device", "drive0", 1000));
    assert_eq!(shown(&mut bench), 1000);
    bench.ok("block_set_io_throttle", limits("id", "/machine/peripheral/vda-device/virtio-backend", 0));
    assert_eq!(shown(&mut bench), 0);
}

#[test]
fn the_disk_of_a_drive_is_not_removable_and_an_unknown_drive_is_not_found() {
    let mut bench = named_drive(Format::Qcow2);
    assert_eq!(bench.refused("eject", json!({ "device": "drive0" })), "Device 'drive0' is not removable");
    assert_eq!(bench.refused("eject", json!({ "device": "drive1" })), "Device 'drive1' not found");
    assert_eq!(bench.refused("eject", json!({ "device": "" })), "Device '' not found");
}

#[test]
fn a_snapshot_that_a_drive_does_not_support_names_the_drive() {
    let mut bench = named_drive(Format::Raw);
    let said = bench.ok("human-monitor-command", json!({ "command-line": "savevm a" }));
    assert_eq!(said, "Error: Device 'drive0' is writable but does not support snapshots\r\n");
}
