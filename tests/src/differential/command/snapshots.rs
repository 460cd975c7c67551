//! Snapshots inside images, of one disk and of the whole machine.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy},
    prop_oneof,
    sample::select,
    strategy::BoxedStrategy,
};
use serde_json::{Value, json};

use super::{
    Kinds,
    members::{always, disk, job_id, maybe, object, tag},
};
use crate::differential::model::Model;

/// Snapshots of one disk.
pub(super) fn of_disks(model: &Model) -> Kinds {
    vec![
        (2, "blockdev-snapshot-internal-sync", internal(model)),
        (2, "blockdev-snapshot-delete-internal-sync", delete_internal(model)),
    ]
}

/// Snapshots of the whole machine, which a storage daemon does not take.
pub(super) fn of_machines(model: &Model) -> Kinds {
    vec![
        (3, "snapshot-save", save(model, true)),
        (3, "snapshot-load", save(model, true)),
        (2, "snapshot-delete", save(model, false)),
        (5, "human-monitor-command", human(model)),
    ]
}

fn save(model: &Model, with_state: bool) -> BoxedStrategy<Value> {
    let devices = prop_oneof![
        4 => Just(json!(model.disks.iter().take(2).collect::<Vec<_>>())),
        2 => vec(disk(model), 0..3).prop_map(Value::from),
    ];
    let mut members =
        vec![("job-id", always(job_id(model))), ("tag", always(tag(model))), ("devices", always(devices))];
    if with_state {
        members.push(("vmstate", always(disk(model))));
    }
    object(members)
}

pub(super) fn internal(model: &Model) -> BoxedStrategy<Value> {
    object(vec![("device", always(disk(model))), ("name", always(tag(model)))])
}

fn delete_internal(model: &Model) -> BoxedStrategy<Value> {
    object(vec![("device", always(disk(model))), ("name", maybe(tag(model))), ("id", maybe(tag(model)))])
}

fn human(model: &Model) -> BoxedStrategy<Value> {
    let tagged = |command: &'static str| {
        tag(model).prop_map(move |tag| json!(format!("{command} {}", tag.as_str().unwrap_or_default())))
    };
    let line = prop_oneof![
        3 => tagged("savevm"),
        2 => tagged("loadvm"),
        2 => tagged("delvm"),
        4 => select(vec!["info snapshots", "info status", "info block", "stop", "cont", "nosuch", "", "loadvm", "info nosuch"])
            .prop_map(Value::from),
    ];
    object(vec![("command-line", always(line))])
}
