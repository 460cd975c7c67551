//! Block jobs, and what is said to jobs of any kind.

use proptest::strategy::BoxedStrategy;
use serde_json::Value;

use super::{
    Kinds,
    members::{
        Member, always, any_node, bitmap, disk, flag, free_format_node, job, job_id, maybe, maybe_not,
        object, one_of, speed, texts,
    },
};
use crate::differential::model::Model;

/// The verbs that jobs of any kind take by their id.
const VERBS: [(u32, &str); 6] = [
    (1, "job-pause"),
    (1, "job-resume"),
    (1, "job-complete"),
    (1, "job-finalize"),
    (4, "job-dismiss"),
    (1, "job-cancel"),
];

/// Commands on jobs.
pub(super) fn kinds(model: &Model) -> Kinds {
    let mut kinds = vec![
        (4, "block-commit", commit(model)),
        (4, "block-stream", stream(model)),
        (3, "blockdev-mirror", copy(model)),
        (3, "blockdev-backup", backup(model)),
        (1, "query-block-jobs", object(Vec::new())),
        (1, "query-jobs", object(Vec::new())),
    ];
    let (id, device) = (|| object(vec![("id", always(job(model)))]), || vec![("device", always(job(model)))]);
    kinds.extend(VERBS.map(|(weight, verb)| (weight, verb, id())));
    for verb in ["block-job-pause", "block-job-resume", "block-job-complete", "block-job-cancel"] {
        kinds.push((1, verb, object(device())));
    }
    let mut with_speed = device();
    with_speed.push(("speed", always(speed())));
    kinds.push((1, "block-job-set-speed", object(with_speed)));
    kinds.extend(["block-job-finalize", "block-job-dismiss"].map(|verb| (1, verb, id())));
    kinds
}

/// The members that all block jobs have.
fn of_jobs(model: &Model) -> Vec<(&'static str, Member)> {
    vec![
        ("job-id", always(job_id(model))),
        ("device", always(disk(model))),
        ("speed", maybe(speed())),
        ("auto-finalize", maybe(flag())),
        ("auto-dismiss", maybe(flag())),
    ]
}

fn commit(model: &Model) -> BoxedStrategy<Value> {
    let mut members = of_jobs(model);
    members.push(("top-node", maybe(any_node(model))));
    members.push(("base-node", maybe(any_node(model))));
    members.push(("backing-file", maybe(one_of(vec![(1, texts(&["elsewhere"]))]))));
    object(members)
}

fn stream(model: &Model) -> BoxedStrategy<Value> {
    let mut members = of_jobs(model);
    members.push(("base-node", maybe(any_node(model))));
    members.push(("backing-file", maybe(one_of(vec![(1, texts(&["elsewhere"]))]))));
    object(members)
}

fn copy(model: &Model) -> BoxedStrategy<Value> {
    let mut members = of_jobs(model);
    members.push(("target", always(free_format_node(model))));
    members.push(("sync", always(one_of(vec![(4, texts(&["full"])), (2, texts(&["top"]))]))));
    object(members)
}

/// A backup, of what a bitmap has recorded too.
pub(super) fn backup(model: &Model) -> BoxedStrategy<Value> {
    let modes = one_of(vec![(2, texts(&["on-success"])), (1, texts(&["never", "always"]))]);
    let mut members = of_jobs(model);
    members.push(("target", always(free_format_node(model))));
    let syncs = [(8, texts(&["full"])), (2, texts(&["top", "none"])), (3, texts(&["bitmap", "incremental"]))];
    members.push(("sync", always(one_of(syncs.to_vec()))));
    members.push(("bitmap", maybe(bitmap(model))));
    members.push(("bitmap-mode", maybe_not(modes)));
    object(members)
}
