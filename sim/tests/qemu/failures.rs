//! Requests that fail: policies of jobs, overlays that were made in vain, guests that are stopped.

use super::*;
use freezeframe_sim::machine::{Injected, OnError};

/// A disk with data and a target below which writes fail with this rule.
fn with_bad_target(rule: Value) -> Bench {
    let mut bench = one_disk();
    (0..32).for_each(|block| bench.host.image_mut("vda.qcow2".into()).unwrap().write(block, 1));
    bench.host.create_new("t".into(), Image::qcow2(Machine::DISK_SIZE)).unwrap();
    let image = json!({ "driver": "file", "filename": "t" });
    let file = json!({ "driver": "blkdebug", "image": image, "inject-error": [rule] });
    bench.ok("blockdev-add", json!({ "driver": "qcow2", "node-name": "bad", "file": file }));
    bench
}

fn start_backup(bench: &mut Bench, policy: &str) {
    let arguments = json!({
        "job-id": "j", "device": "vda", "target": "bad", "sync": "full", "on-target-error": policy,
        "auto-dismiss": false,
    });
    bench.ok("blockdev-backup", arguments);
}

#[test]
fn a_backup_that_is_stopped_by_an_error_goes_on_when_it_is_resumed() {
    let mut bench = with_bad_target(json!({ "event": "write_aio", "errno": 28, "once": true }));
    start_backup(&mut bench, "enospc");
    assert_eq!(bench.settle(), ["BLOCK_JOB_ERROR", "paused"]);
    let job = bench.ok("query-block-jobs", json!({}))[0].clone();
    assert_eq!(
        (&job["io-status"], &job["paused"], &job["offset"]),
        (&json!("nospace"), &json!(true), &json!(15 << 20))
    );
    bench.ok("job-resume", json!({ "id": "j" }));
    assert_eq!(bench.ok("query-block-jobs", json!({}))[0]["io-status"], "ok");
    assert_eq!(bench.settle(), ["waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded"]);
    assert_eq!(bench.host.image("t".into()).unwrap().blocks().len(), 32);
}

#[test]
fn no_space_is_all_that_enospc_stops_for() {
    let mut bench = with_bad_target(json!({ "event": "write_aio", "errno": 5, "once": true }));
    start_backup(&mut bench, "enospc");
    assert_eq!(bench.settle(), ["BLOCK_JOB_ERROR", "aborting", "BLOCK_JOB_COMPLETED", "concluded"]);
    assert_eq!(bench.ok("query-jobs", json!({}))[0]["error"], "Input/output error");
}

#[test]
fn a_drain_may_hide_an_error_that_comes_once() {
    let hidden = (0..200).find(|seed| {
        let mut bench = with_bad_target(json!({ "event": "write_aio", "errno": 28, "once": true }));
        bench.oracle = Oracle::seeded(*seed);
        start_backup(&mut bench, "stop");
        !bench.settle().contains(&"BLOCK_JOB_ERROR".to_owned())
    });
    assert!(hidden.is_some(), "some seed reaches it");
}

#[test]
fn a_file_made_for_an_overlay_stays_when_the_transaction_fails() {
    let mut bench = one_disk();
    let data = json!({ "node-name": "vda", "snapshot-file": "o", "snapshot-node-name": "o" });
    let overlay = json!({ "type": "blockdev-snapshot-sync", "data": data });
    let abort = json!({ "type": "abort", "data": {} });
    bench.refused("transaction", json!({ "actions": [overlay, abort] }));
    assert!(bench.host.exists("o".into()));
    assert!(bench.qemu.graph().node("o").is_none());
    assert_eq!(bench.qemu.chain("vda-device"), ["vda"]);
}

#[test]
fn an_overlay_that_qemu_made_belongs_to_its_device_and_goes_with_its_commit() {
    let mut bench = one_disk();
    bench.ok(
        "blockdev-snapshot-sync",
        json!({ "node-name": "vda", "snapshot-file": "o", "snapshot-node-name": "o" }),
    );
    assert_eq!(bench.refused("blockdev-del", json!({ "node-name": "o" })), "Node o is in use");
    bench.ok("block-commit", json!({ "job-id": "j", "device": "o" }));
    bench.settle();
    bench.ok("job-complete", json!({ "id": "j" }));
    bench.settle();
    let names: Vec<_> = bench.qemu.graph().newest_first().map(|node| node.name.clone()).collect();
    assert_eq!(names, ["vda", "vda-file"]);
}

/// A machine whose guest writes to a disk on which all writes fail.
fn guest_with(policy: OnError) -> Bench {
    let mut machine = Machine::new().disk("vda");
    let rules = [("event", json!("write_aio")), ("errno", json!(28))];
    let rules = rules.map(|(name, value)| (format!("inject-error.0.{name}"), value)).to_vec();
    machine.disks[0].injected = Some(Injected { node: "dbg".into(), rules });
    machine.disks[0].guest_writes = true;
    machine.disks[0].on_write_error = policy;
    let mut bench = Bench::new(machine);
    bench.timers = bench.qemu.first_timers();
    bench
}

#[test]
fn a_guest_whose_disk_is_full_is_stopped_and_tries_again_after_cont() {
    let mut bench = guest_with(OnError::Enospc);
    assert_eq!(bench.settle(), ["BLOCK_IO_ERROR", "STOP"]);
    assert_eq!(bench.qemu.run_state(), RunState::IoError);
    assert_eq!(bench.ok("query-block", json!({}))[0]["io-status"], "nospace");
    assert_eq!(bench.send("cont", json!({})).0, ["RESUME"]);
    assert_eq!(bench.settle(), ["BLOCK_IO_ERROR", "STOP"]);
}

#[test]
fn a_guest_that_is_told_of_an_error_runs_on_and_gives_up() {
    let mut bench = guest_with(OnError::Report);
    assert_eq!(bench.settle(), ["BLOCK_IO_ERROR"]);
    assert_eq!(bench.qemu.run_state(), RunState::Running);
    assert!(bench.ok("query-block", json!({}))[0].get("io-status").is_none());
}

#[test]
fn qemu_aborts_at_its_end_after_a_machine_state_that_could_not_be_written() {
    let mut bench = guest_with(OnError::Report);
    bench.timers.clear();
    let error = bench.snapshot("snapshot-save", "s");
    assert_eq!(error.as_deref(), Some("ram_save_setup failed: Input/output error"));
    bench.ok("quit", json!({}));
    assert!(bench.qemu.gone() && bench.qemu.aborted());
}

#[test]
fn qemu_aborts_at_a_node_of_negative_size() {
    let mut bench = one_disk();
    bench.ok("blockdev-add", json!({ "driver": "null-co", "node-name": "n", "size": -1 }));
    assert!(bench.qemu.gone() && bench.qemu.aborted());
}
