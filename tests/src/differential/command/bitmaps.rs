//! Dirty bitmaps, on which incremental backups rest.

use proptest::{collection::vec, prelude::Strategy, prop_oneof, sample::select, strategy::BoxedStrategy};
use serde_json::{Value, json};

use super::{
    Kinds,
    members::{always, bitmap, disk, flag, fresh, maybe, maybe_not, object},
};
use crate::differential::model::Model;

/// Commands on bitmaps.
pub(super) fn kinds(model: &Model) -> Kinds {
    vec![
        (4, "block-dirty-bitmap-add", add(model)),
        (1, "block-dirty-bitmap-remove", one(model)),
        (1, "block-dirty-bitmap-clear", one(model)),
        (1, "block-dirty-bitmap-enable", one(model)),
        (1, "block-dirty-bitmap-disable", one(model)),
        (2, "block-dirty-bitmap-merge", merge(model)),
    ]
}

pub(super) fn add(model: &Model) -> BoxedStrategy<Value> {
    let granularity = select(vec![json!(65536), json!(4096), json!(512), json!(256), json!(1000)]);
    object(vec![
        ("node", always(disk(model))),
        ("name", always(fresh(model, "bitmap", model.bitmaps.clone()))),
        ("granularity", maybe_not(granularity)),
        ("persistent", maybe(flag())),
        ("disabled", maybe(flag())),
    ])
}

/// One that is there, mostly.
pub(super) fn one(model: &Model) -> BoxedStrategy<Value> {
    object(vec![("node", always(disk(model))), ("name", always(bitmap(model)))])
}

pub(super) fn merge(model: &Model) -> BoxedStrategy<Value> {
    let elsewhere =
        (disk(model), bitmap(model)).prop_map(|(node, name)| json!({ "node": node, "name": name }));
    let source = prop_oneof![4 => bitmap(model), 1 => elsewhere];
    object(vec![
        ("node", always(disk(model))),
        ("target", always(bitmap(model))),
        ("bitmaps", always(vec(source, 1..3).prop_map(Value::from))),
    ])
}
