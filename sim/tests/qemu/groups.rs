//! Jobs of one transaction, in the orders that were probed on real QEMUs.

use super::*;

/// Two disks, each with a target, on a QEMU of a release.
fn bench(release: Release) -> Bench {
    let mut bench = Bench::new(Machine::new().disk("vda").disk("vdb"));
    bench.release = release;
    for (disk, target) in [("vda.qcow2", "ta"), ("vdb.qcow2", "tb")] {
        bench.host.image_mut(disk.into()).unwrap().write(0, 1);
        bench.host.create_new(target.into(), Image::qcow2(Machine::DISK_SIZE)).unwrap();
        let file = json!({ "driver": "file", "filename": target });
        bench.ok("blockdev-add", json!({ "driver": "qcow2", "node-name": target, "file": file }));
    }
    bench
}

fn backup(id: &str, device: &str, target: &str, speed: u64) -> Value {
    let data = json!({ "job-id": id, "device": device, "target": target, "sync": "full", "speed": speed });
    json!({ "type": "blockdev-backup", "data": data })
}

/// Starts backups `A` and `B` as a group.
fn start(bench: &mut Bench, speeds: [u64; 2]) -> Vec<String> {
    let actions = json!([backup("A", "vda", "ta", speeds[0]), backup("B", "vdb", "tb", speeds[1])]);
    let properties = json!({ "completion-mode": "grouped" });
    let (events, reply) =
        bench.send_with_ids("transaction", json!({ "actions": actions, "properties": properties }));
    reply.unwrap();
    events
}

#[rstest]
#[case(Release::V5_2, ["A", "B"])]
#[case(Release::V7_2, ["A", "B"])]
#[case(Release::V10_0, ["B", "A"])]
#[case(Release::V11_1, ["B", "A"])]
fn jobs_of_a_transaction_start_in_the_order_of_the_release(
    #[case] release: Release,
    #[case] order: [&str; 2],
) {
    let [first, second] = order;
    let started = start(&mut bench(release), [0, 0]);
    let expected = [
        ("created", "A"),
        ("created", "B"),
        ("running", first),
        ("paused", first),
        ("running", second),
        ("paused", second),
        ("running", first),
        ("running", second),
    ];
    assert_eq!(started, expected.map(|(status, id)| format!("{status}.{id}")));
}

#[test]
fn a_group_ends_together_the_newest_first() {
    let mut bench = bench(Release::V10_0);
    start(&mut bench, [0, 16 << 20]);
    let ended = bench.settle_with_ids().join(" ");
    let expected = "waiting.A waiting.B pending.B pending.A BLOCK_JOB_COMPLETED.B concluded.B null.B \
                    BLOCK_JOB_COMPLETED.A concluded.A null.A";
    assert_eq!(ended, expected);
    assert_eq!(bench.host.image("ta".into()).unwrap().blocks(), &Blocks::from([(0, 1)]));
}

#[rstest]
#[case(Release::V7_2, "aborting.B BLOCK_JOB_CANCELLED.B concluded.B null.B aborting.A BLOCK_JOB_CANCELLED.A")]
#[case(
    Release::V10_0,
    "aborting.B aborting.A BLOCK_JOB_CANCELLED.B concluded.B null.B BLOCK_JOB_CANCELLED.A"
)]
fn a_cancelled_job_takes_its_group_along(#[case] release: Release, #[case] expected: &str) {
    let mut bench = bench(release);
    start(&mut bench, [65536, 65536]);
    let (events, reply) = bench.send_with_ids("job-cancel", json!({ "id": "B" }));
    reply.unwrap();
    assert_eq!(events.join(" "), format!("{expected} concluded.A null.A"));
}

#[test]
fn a_job_that_waits_is_cancelled_with_its_group_and_leaves_its_copy() {
    let mut bench = bench(Release::V10_0);
    start(&mut bench, [0, 65536]);
    bench.settle_until("waiting");
    let (events, reply) = bench.send_with_ids("job-cancel", json!({ "id": "B" }));
    reply.unwrap();
    let expected = "aborting.B BLOCK_JOB_CANCELLED.B concluded.B null.B aborting.A BLOCK_JOB_CANCELLED.A";
    assert_eq!(events.join(" "), format!("{expected} concluded.A null.A"));
    assert_eq!(
        bench.host.image("ta".into()).unwrap().blocks(),
        bench.host.image("vda.qcow2".into()).unwrap().blocks()
    );
}

#[test]
fn jobs_of_a_transaction_that_fails_are_undone_and_never_ran() {
    let mut bench = bench(Release::V10_0);
    let abort = json!({ "type": "abort", "data": {} });
    let actions = json!([backup("A", "vda", "ta", 0), backup("B", "vdb", "tb", 0), abort]);
    let (events, reply) = bench.send_with_ids("transaction", json!({ "actions": actions }));
    let expected = "created.A created.B aborting.B concluded.B null.B aborting.A concluded.A null.A";
    assert_eq!(events.join(" "), expected);
    assert_eq!(reply.unwrap_err().desc, "Transaction aborted using Abort action");
    assert_eq!(bench.ok("query-jobs", json!({})), json!([]));
}

#[rstest]
#[case(
    Release::V7_2,
    "Action 'blockdev-snapshot' does not support Transaction property completion-mode = grouped"
)]
#[case(
    Release::V10_0,
    "Action 'blockdev-snapshot' does not support transaction property completion-mode = grouped"
)]
fn a_snapshot_cannot_be_in_a_group(#[case] release: Release, #[case] text: &str) {
    let snapshot = json!({ "type": "blockdev-snapshot", "data": { "node": "vda", "overlay": "ta" } });
    let properties = json!({ "completion-mode": "grouped" });
    let arguments = json!({ "actions": [snapshot], "properties": properties });
    assert_eq!(bench(release).refused("transaction", arguments), text);
}

#[test]
fn qemu_waits_for_ever_when_it_undoes_a_group() {
    let mut bench = bench(Release::V10_0);
    let nowhere = backup("C", "nowhere", "ta", 0);
    let actions = json!([backup("A", "vda", "ta", 0), backup("B", "vdb", "tb", 0), nowhere]);
    let properties = json!({ "completion-mode": "grouped" });
    let (events, _) =
        bench.send_with_ids("transaction", json!({ "actions": actions, "properties": properties }));
    assert_eq!(events, ["created.A", "created.B", "aborting.B", "concluded.B", "null.B"]);
    assert!(bench.qemu.hung());
}
