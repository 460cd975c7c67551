//! Nodes that are offered to others: the NBD server and its exports.

use proptest::{prelude::Just, sample::select, strategy::BoxedStrategy};
use serde_json::{Value, json};

use super::{
    FOLDER, Kinds,
    members::{always, bitmap, disk, flag, fresh, maybe, maybe_not, object, one_of, texts},
};
use crate::differential::model::Model;

/// Commands on exports.
pub(super) fn kinds(model: &Model) -> Kinds {
    let nothing = || object(Vec::new());
    let address = json!({ "type": "unix", "data": { "path": format!("{FOLDER}/nbd") } });
    let modes = || maybe(select(vec![json!("safe"), json!("hard")]));
    vec![
        (2, "nbd-server-start", object(vec![("addr", always(Just(address)))])),
        (2, "nbd-server-add", nbd(model)),
        (2, "block-export-add", export(model)),
        (1, "nbd-server-remove", object(vec![("name", always(one_that_is_there(model))), ("mode", modes())])),
        (1, "block-export-del", object(vec![("id", always(one_that_is_there(model))), ("mode", modes())])),
        (1, "nbd-server-stop", nothing()),
        (1, "query-block-exports", nothing()),
    ]
}

fn one_that_is_there(model: &Model) -> BoxedStrategy<Value> {
    one_of(vec![(6, model.exports.clone()), (2, model.disks.clone()), (1, texts(&["nosuch", ""]))])
}

/// By the old command, which names an export after its node.
fn nbd(model: &Model) -> BoxedStrategy<Value> {
    object(vec![
        ("device", always(disk(model))),
        ("name", maybe(fresh(model, "export", model.exports.clone()))),
        ("writable", maybe(flag())),
        ("bitmap", maybe_not(bitmap(model))),
    ])
}

fn export(model: &Model) -> BoxedStrategy<Value> {
    object(vec![
        ("type", always(one_of(vec![(12, texts(&["nbd"])), (1, texts(&["nosuch"]))]))),
        ("id", always(fresh(model, "export", model.exports.clone()))),
        ("node-name", always(disk(model))),
        ("name", maybe_not(fresh(model, "name", model.exports.clone()))),
        ("writable", maybe(flag())),
    ])
}
