//! Transactions: several actions, all of them or none.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy},
    prop_oneof,
    strategy::BoxedStrategy,
};
use serde_json::{Value, json};

use super::{
    Kinds, bitmaps, jobs,
    members::{always, maybe_not, object},
    nodes, snapshots,
};
use crate::differential::model::Model;

/// The one command.
pub(super) fn kinds(model: &Model) -> Kinds {
    vec![(6, "transaction", transaction(model))]
}

fn transaction(model: &Model) -> BoxedStrategy<Value> {
    let action = |kind: &'static str, data: BoxedStrategy<Value>| {
        data.prop_map(move |data| json!({ "type": kind, "data": data })).boxed()
    };
    let actions = prop_oneof![
        6 => action("blockdev-snapshot", nodes::snapshot(model)),
        3 => action("blockdev-snapshot-sync", nodes::snapshot_sync(model)),
        3 => action("blockdev-backup", jobs::backup(model)),
        3 => action("block-dirty-bitmap-add", bitmaps::add(model)),
        1 => action("block-dirty-bitmap-remove", bitmaps::one(model)),
        1 => action("block-dirty-bitmap-clear", bitmaps::one(model)),
        1 => action("block-dirty-bitmap-merge", bitmaps::merge(model)),
        2 => action("blockdev-snapshot-internal-sync", snapshots::internal(model)),
        1 => action("abort", object(Vec::new())),
    ];
    let properties = Just(json!({ "completion-mode": "grouped" }));
    object(vec![
        ("actions", always(vec(actions, 0..4).prop_map(Value::from))),
        ("properties", maybe_not(properties)),
    ])
}
