//! Block jobs beyond what the recordings show: what they do to images, and their verbs.

use super::*;

/// `vda` with overlays `a` and `b` on top; block 1 was written in each layer, block 2 in `a` alone.
fn chain() -> Bench {
    chain_on(one_disk())
}

fn chain_on(mut bench: Bench) -> Bench {
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(1, 10);
    for (below, overlay, write) in [("vda", "a", 20), ("a", "b", 30)] {
        bench.add_overlay(overlay);
        bench.ok("blockdev-snapshot", json!({ "node": below, "overlay": overlay }));
        bench.host.image_mut(overlay.into()).unwrap().write(1, write);
    }
    bench.host.image_mut("a".into()).unwrap().write(2, 21);
    bench
}

fn blocks(bench: &Bench, file: &str) -> Blocks {
    bench.host.image(file.into()).unwrap().blocks().clone()
}

fn status(bench: &mut Bench) -> Value {
    bench.ok("query-jobs", json!({}))[0]["status"].clone()
}

/// A commit of `a` into `vda` that takes minutes.
fn slow_commit() -> Bench {
    slow_commit_on(one_disk())
}

fn slow_commit_on(bench: Bench) -> Bench {
    let mut bench = chain_on(bench);
    let arguments =
        json!({ "job-id": "j", "device": "b", "top-node": "a", "speed": 65536, "auto-dismiss": false });
    let image = bench.host.image_mut("a".into()).unwrap();
    image.grow(16 << 20);
    // What is not written takes no time.
    (0..256).for_each(|block| image.write(block, 21));
    bench.ok("block-commit", arguments);
    bench
}

#[test]
fn an_active_commit_ends_with_the_base_under_the_device() {
    let mut bench = chain();
    bench.ok("block-commit", json!({ "job-id": "j", "device": "b" }));
    assert_eq!(bench.settle(), ["ready", "BLOCK_JOB_READY"]);
    bench.ok("job-complete", json!({ "id": "j" }));
    assert_eq!(bench.settle(), ["waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"]);
    assert_eq!(bench.qemu.chain("vda-device"), ["vda"]);
    assert!(!bench.qemu.graph().node("vda").unwrap().read_only);
    assert_eq!(blocks(&bench, "vda.qcow2"), Blocks::from([(1, 30), (2, 21)]));
}

#[test]
fn a_cancel_without_force_of_a_ready_commit_succeeds_but_does_not_pivot() {
    let mut bench = chain();
    bench.ok("block-commit", json!({ "job-id": "j", "device": "b" }));
    bench.settle();
    bench.ok("block-job-cancel", json!({ "device": "j" }));
    assert_eq!(
        bench.refused("job-complete", json!({ "id": "j" })),
        "The active block job 'j' cannot be completed"
    );
    assert_eq!(bench.settle(), ["waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"]);
    assert_eq!(bench.qemu.chain("vda-device"), ["b", "a", "vda"]);
    // Every release leaves the base as the job had it: `commit-cancelled-base` of the differential recordings.
    assert!(!bench.qemu.graph().node("vda").unwrap().read_only);
    assert_eq!(blocks(&bench, "vda.qcow2"), Blocks::from([(1, 30), (2, 21)]));
}

#[test]
fn a_cancel_by_force_of_a_ready_commit_leaves_the_chain_and_in_the_base_what_was_copied() {
    let mut bench = chain();
    bench.ok("block-commit", json!({ "job-id": "j", "device": "b" }));
    bench.settle();
    bench.ok("job-cancel", json!({ "id": "j" }));
    assert_eq!(bench.settle(), ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]);
    assert_eq!(bench.qemu.chain("vda-device"), ["b", "a", "vda"]);
    assert_eq!(blocks(&bench, "vda.qcow2"), Blocks::from([(1, 30), (2, 21)]));
}

#[test]
fn an_intermediate_commit_moves_blocks_down_and_takes_the_layer_out() {
    let mut bench = chain();
    bench.ok("block-commit", json!({ "job-id": "j", "device": "b", "top-node": "a" }));
    bench.settle();
    assert_eq!(bench.qemu.chain("vda-device"), ["b", "vda"]);
    assert_eq!(blocks(&bench, "vda.qcow2"), Blocks::from([(1, 20), (2, 21)]));
    let header = bench.host.image("b".into()).unwrap().as_qcow2().unwrap().backing.clone().unwrap();
    assert_eq!(header.file, "/images/vda.qcow2");
    bench.ok("blockdev-del", json!({ "node-name": "a" }));
}

#[test]
fn a_stream_moves_blocks_up_and_keeps_what_the_overlay_has() {
    let mut bench = chain();
    bench.ok("block-stream", json!({ "job-id": "j", "device": "b", "base-node": "vda" }));
    bench.settle();
    assert_eq!(bench.qemu.chain("vda-device"), ["b", "vda"]);
    assert_eq!(blocks(&bench, "b"), Blocks::from([(1, 30), (2, 21)]));
    bench.ok("block-stream", json!({ "job-id": "j", "device": "b" }));
    bench.settle();
    assert_eq!(bench.qemu.chain("vda-device"), ["b"]);
    assert!(bench.host.image("b".into()).unwrap().as_qcow2().unwrap().backing.is_none());
}

#[test]
fn a_job_to_be_finalized_changes_the_graph_only_then() {
    let mut bench = chain();
    let arguments = json!({ "job-id": "j", "device": "b", "auto-finalize": false, "auto-dismiss": false });
    bench.ok("block-stream", arguments);
    assert_eq!(bench.settle(), ["waiting", "pending", "BLOCK_JOB_PENDING"]);
    assert_eq!(bench.qemu.chain("vda-device"), ["b", "a", "vda"]);
    let (events, _) = bench.send("job-finalize", json!({ "id": "j" }));
    assert_eq!(events, ["BLOCK_JOB_COMPLETED", "concluded"]);
    assert_eq!(bench.qemu.chain("vda-device"), ["b"]);
    assert_eq!(bench.send("job-dismiss", json!({ "id": "j" })).0, ["null"]);
}

#[test]
fn a_pending_job_that_is_cancelled_changes_nothing() {
    let mut bench = chain();
    bench.ok("block-stream", json!({ "job-id": "j", "device": "b", "auto-finalize": false }));
    bench.settle();
    let (events, _) = bench.send("job-cancel", json!({ "id": "j" }));
    assert_eq!(events, ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]);
    assert_eq!(bench.qemu.chain("vda-device"), ["b", "a", "vda"]);
}

#[test]
fn a_paused_job_copies_nothing_and_goes_on_where_it_was() {
    let mut bench = slow_commit();
    bench.now = Duration::from_secs(9);
    assert_eq!(bench.send("job-pause", json!({ "id": "j" })).0, ["paused"]);
    assert_eq!(bench.refused("job-pause", json!({ "id": "j" })), "Job is already paused");
    let at_pause = bench.ok("query-block-jobs", json!({}))[0].clone();
    assert_eq!((&at_pause["offset"], &at_pause["paused"]), (&json!(1 << 20), &json!(true)));
    bench.now = Duration::from_secs(100);
    assert_eq!(bench.ok("query-block-jobs", json!({}))[0], at_pause);
    assert_eq!(
        bench.refused("block-job-cancel", json!({ "device": "j" })),
        "The block job for device 'j' is currently paused"
    );
    assert_eq!(bench.send("job-resume", json!({ "id": "j" })).0, ["running"]);
    bench.settle();
    assert_eq!(status(&mut bench), "concluded");
    assert_eq!(bench.qemu.chain("vda-device"), ["b", "vda"]);
}

#[test]
fn a_paused_job_that_is_cancelled_runs_once_more_before_it_aborts() {
    let mut bench = slow_commit();
    bench.ok("job-pause", json!({ "id": "j" }));
    let (events, _) = bench.send("job-cancel", json!({ "id": "j" }));
    assert_eq!(events, ["running", "aborting", "BLOCK_JOB_CANCELLED", "concluded"]);
}

#[test]
fn the_oldest_release_pauses_a_sleeping_job_when_it_next_wakes() {
    let mut bench = slow_commit();
    bench.release = Release::V5_2;
    assert!(bench.send("job-pause", json!({ "id": "j" })).0.is_empty());
    bench.timers.sort_by_key(|(at, _)| *at);
    let (wakes, _) = bench.timers[0];
    assert_eq!(wakes, bench.now + Duration::from_secs(8), "half a mebibyte at 64 KiB a second");
    assert_eq!(bench.settle()[0], "paused");
}

#[test]
fn a_job_keeps_others_off_its_nodes() {
    let mut bench = one_disk();
    bench.add_overlay("c");
    bench = slow_commit_on(bench);
    let busy = "Node 'b' is busy: block device is in use by block job: commit";
    assert_eq!(bench.refused("blockdev-snapshot", json!({ "node": "b", "overlay": "c" })), busy);
    assert_eq!(bench.refused("block-stream", json!({ "device": "b", "job-id": "s" })), busy);
    assert_eq!(bench.refused("blockdev-del", json!({ "node-name": "a" })), "Node a is in use");
}

#[test]
fn other_jobs_are_unknown_to_the_commands_of_block_jobs() {
    let mut bench = one_disk();
    bench.ok(
        "blockdev-create",
        json!({ "job-id": "c", "options": { "driver": "file", "filename": "n", "size": 0 } }),
    );
    for command in ["block-job-pause", "block-job-cancel", "block-job-set-speed"] {
        let error = bench.send(command, json!({ "device": "c", "speed": -1 })).1.unwrap_err();
        assert_eq!((error.class, &*error.desc), ("DeviceNotActive", "Block job 'c' not found"), "{command}");
    }
}

/// `vda` with two written blocks, and an empty node `t` of the same size.
fn disk_and_target() -> Bench {
    let mut bench = one_disk();
    bench.host.create_new("t".into(), Image::qcow2(Machine::DISK_SIZE)).unwrap();
    bench.ok("blockdev-add", json!({ "driver": "file", "node-name": "t-file", "filename": "t" }));
    bench.ok("blockdev-add", json!({ "driver": "qcow2", "node-name": "t", "file": "t-file" }));
    let disk = bench.host.image_mut("vda.qcow2".into()).unwrap();
    disk.write(1, 10);
    disk.write(2, 20);
    bench
}

#[test]
fn a_mirror_that_is_completed_has_the_last_write_and_the_device() {
    let mut bench = disk_and_target();
    bench.ok("blockdev-mirror", json!({ "job-id": "j", "device": "vda", "target": "t", "sync": "full" }));
    assert_eq!(bench.settle(), ["ready", "BLOCK_JOB_READY"]);
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(3, 30);
    bench.ok("job-complete", json!({ "id": "j" }));
    bench.settle();
    assert_eq!(bench.qemu.chain("vda-device"), ["t"]);
    assert_eq!(blocks(&bench, "t"), Blocks::from([(1, 10), (2, 20), (3, 30)]));
}

#[test]
fn a_backup_holds_what_the_disk_held_when_it_began() {
    let mut bench = disk_and_target();
    let arguments = json!({ "job-id": "j", "device": "vda", "target": "t", "sync": "full" });
    let (events, _) = bench.send("blockdev-backup", arguments);
    assert_eq!(events, ["created", "running", "paused", "running"]);
    bench.host.image_mut("vda.qcow2".into()).unwrap().write(1, 99);
    bench.settle();
    assert_eq!(bench.qemu.chain("vda-device"), ["vda"]);
    assert_eq!(blocks(&bench, "t"), Blocks::from([(1, 10), (2, 20)]));
}

#[test]
fn a_cancelled_backup_says_so_before_the_reply_and_leaves_what_it_has_copied() {
    let mut bench = disk_and_target();
    bench.ok(
        "blockdev-backup",
        json!({ "job-id": "j", "device": "vda", "target": "t", "sync": "full", "speed": 1 }),
    );
    let (events, _) = bench.send("block-job-cancel", json!({ "device": "j" }));
    assert_eq!(events, ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]);
    assert_eq!(blocks(&bench, "t"), Blocks::from([(1, 10), (2, 20)]));
}

#[test]
fn a_paused_mirror_that_is_cancelled_runs_before_the_reply_and_aborts_behind_it() {
    let mut bench = disk_and_target();
    let arguments = json!({ "job-id": "j", "device": "vda", "target": "t", "sync": "full", "speed": 1 });
    bench.ok("blockdev-mirror", arguments);
    bench.ok("job-pause", json!({ "id": "j" }));
    assert_eq!(bench.send("job-cancel", json!({ "id": "j" })).0, ["running"]);
    assert_eq!(bench.settle(), ["aborting", "BLOCK_JOB_CANCELLED", "concluded", "null"]);
}

#[rstest]
#[case(json!({}), 16 << 20)]
#[case(json!({ "buf-size": 1 << 20 }), 1 << 20)]
#[case(json!({ "buf-size": 1_000_000 }), 1 << 20)]
fn a_throttled_mirror_copies_as_much_at_once_as_its_buffer_holds(#[case] more: Value, #[case] at_once: u64) {
    let mut bench = disk_and_target();
    bench.release = Release::V10_0;
    let disk = bench.host.image_mut("vda.qcow2".into()).unwrap();
    (0..512).for_each(|block| disk.write(block, 1));
    let mut arguments =
        json!({ "job-id": "j", "device": "vda", "target": "t", "sync": "full", "speed": 1 << 20 });
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bench.ok("blockdev-mirror", arguments);
    let jobs = bench.ok("query-block-jobs", json!({}));
    assert_eq!(jobs[0]["offset"], at_once);
}

#[rstest]
#[case(Release::V5_2, &["STOP"], &[])]
#[case(Release::V10_0, &["STOP", "paused", "running"], &["paused", "running"])]
fn a_drain_makes_a_sleeping_job_rest(
    #[case] release: Release,
    #[case] stop: &[&str],
    #[case] transaction: &[&str],
) {
    let mut bench = slow_commit();
    bench.release = release;
    assert_eq!(bench.send("stop", json!({})).0, stop);
    assert_eq!(bench.send("transaction", json!({ "actions": [] })).0, transaction);
    bench.settle();
    assert_eq!(status(&mut bench), "concluded", "it goes on afterwards");
}

#[rstest]
#[case(json!({ "base": "a", "base-node": "a" }), "'base' and 'base-node' cannot be specified at the same time")]
#[case(json!({ "bottom": "a", "base-node": "a" }), "'bottom' and 'base-node' cannot be specified at the same time")]
#[case(json!({ "base": "nofile" }), "Can't find 'nofile' in the backing chain")]
#[case(json!({ "bottom": "vda-file" }), "Node 'vda-file' is not in a chain starting from 'b'")]
fn a_stream_down_to_what_is_not_there_is_refused(#[case] base: Value, #[case] text: &str) {
    let mut arguments = json!({ "job-id": "j", "device": "b" });
    arguments.as_object_mut().unwrap().extend(base.as_object().unwrap().clone());
    assert_eq!(chain().refused("block-stream", arguments), text);
}

#[test]
fn a_stream_with_a_bottom_ends_above_what_is_below_it() {
    let mut bench = chain();
    bench.ok("block-stream", json!({ "job-id": "j", "device": "b", "bottom": "a" }));
    bench.settle();
    assert_eq!(bench.qemu.chain("vda-device"), ["b", "vda"]);
    assert_eq!(blocks(&bench, "b"), Blocks::from([(1, 30), (2, 21)]));
}

#[test]
fn a_stream_that_has_ended_keeps_its_node_busy_until_it_is_dismissed() {
    let mut bench = chain();
    bench.ok("block-stream", json!({ "job-id": "j", "device": "b", "auto-dismiss": false }));
    bench.settle();
    assert_eq!(status(&mut bench), "concluded");
    bench.add_overlay("c");
    let snapshot = json!({ "node": "b", "overlay": "c" });
    assert_eq!(
        bench.refused("blockdev-snapshot", snapshot.clone()),
        "Node 'b' is busy: block device is in use by block job: stream"
    );
    bench.ok("job-dismiss", json!({ "id": "j" }));
    bench.ok("blockdev-snapshot", snapshot);
}

#[test]
fn a_commit_that_has_failed_keeps_nothing_and_one_that_succeeded_its_overlay() {
    for (cancel, free) in [(true, true), (false, false)] {
        let mut bench = chain();
        let commit = json!({ "job-id": "j", "device": "b", "top-node": "a", "auto-dismiss": false, "auto-finalize": false });
        bench.ok("block-commit", commit);
        bench.settle();
        bench.ok(if cancel { "job-cancel" } else { "job-finalize" }, json!({ "id": "j" }));
        bench.settle();
        bench.add_overlay("c");
        let outcome = bench.send("blockdev-snapshot", json!({ "node": "b", "overlay": "c" })).1;
        assert_eq!(outcome.is_ok(), free);
    }
}
