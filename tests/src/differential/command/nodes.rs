//! Nodes: made, put on top of each other, changed, and taken away.

use freezeframe_sim::Release;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy},
    prop_oneof,
    sample::select,
    strategy::BoxedStrategy,
};
use serde_json::{Value, json};

use super::{
    FOLDER, Kinds,
    members::{
        always, any_node, flag, free_format_node, fresh, job_id, maybe, maybe_not, object, one_of, size,
        texts,
    },
};
use crate::differential::model::{DISK_SIZE, Model};

/// Commands on nodes.
pub(super) fn kinds(model: &Model) -> Kinds {
    let flat = vec![("flat", maybe(select(vec![json!(true), json!(false)])))];
    vec![
        (8, "blockdev-create", create(model)),
        (10, "blockdev-add", add(model)),
        (3, "blockdev-del", object(vec![("node-name", always(any_node(model)))])),
        (5, "blockdev-snapshot", snapshot(model)),
        (4, "blockdev-snapshot-sync", snapshot_sync(model)),
        reopen(model),
        (2, "block_resize", resize(model)),
        (1, "query-named-block-nodes", object(flat)),
    ]
}

fn create(model: &Model) -> BoxedStrategy<Value> {
    let file = fresh(model, &format!("{FOLDER}/file"), model.files.clone());
    let file = object(vec![
        ("driver", always(Just(json!("file")))),
        ("filename", always(file)),
        ("size", always(size())),
    ]);
    let node = one_of(vec![
        (8, model.nodes_that(|node| node.driver == "file" && !node.used && !node.formatted)),
        (1, model.nodes_that(|_| true)),
        (1, texts(&["nosuch"])),
    ]);
    let image = object(vec![
        ("driver", always(Just(json!("qcow2")))),
        ("file", always(node)),
        ("size", always(size())),
        ("backing-file", maybe(one_of(vec![(1, texts(&["$DIR/vda.img", "nosuch.img"]))]))),
        ("backing-fmt", maybe(one_of(vec![(1, texts(&["qcow2", "raw"]))]))),
    ]);
    let options = prop_oneof![1 => file, 1 => image];
    object(vec![("job-id", always(job_id(model))), ("options", always(options))])
}

fn add(model: &Model) -> BoxedStrategy<Value> {
    let names = model.nodes_that(|_| true);
    let name = || always(fresh(model, "node", names.clone()));
    let read_only = || maybe(flag());
    let in_place = filename(model).prop_map(|name| json!({ "driver": "file", "filename": name }));
    let file = object(vec![
        ("driver", always(Just(json!("file")))),
        ("node-name", name()),
        ("filename", always(filename(model))),
        ("read-only", read_only()),
    ]);
    let child = one_of(vec![
        (12, model.nodes_that(|node| node.driver == "file" && !node.used && node.formatted)),
        (2, model.nodes_that(|node| node.driver == "file" && !node.used)),
        (1, names.clone()),
        (1, texts(&["nosuch"])),
    ]);
    let backing = prop_oneof![3 => Just(Value::Null), 1 => any_node(model)];
    let image = object(vec![
        ("driver", always(Just(json!("qcow2")))),
        ("node-name", name()),
        ("file", always(prop_oneof![8 => child, 1 => in_place])),
        ("backing", always(backing)),
        ("read-only", read_only()),
    ]);
    let child = one_of(vec![
        (8, model.nodes_that(|node| node.driver == "file" && !node.used)),
        (1, names.clone()),
        (1, texts(&["nosuch"])),
    ]);
    let raw = object(vec![
        ("driver", always(Just(json!("raw")))),
        ("node-name", name()),
        ("file", always(child)),
        ("read-only", read_only()),
    ]);
    prop_oneof![4 => file, 6 => image, 1 => raw].boxed()
}

/// An image or a disk, not the file of one: an image inside another is not simulated.
fn below(model: &Model) -> BoxedStrategy<Value> {
    one_of(vec![
        (8, model.disks.clone()),
        (3, model.nodes_that(|node| node.driver != "file")),
        (1, texts(&["nosuch", "vda-device", ""])),
    ])
}

pub(super) fn snapshot(model: &Model) -> BoxedStrategy<Value> {
    object(vec![("node", always(below(model))), ("overlay", always(free_format_node(model)))])
}

/// A file that is there, mostly.
fn filename(model: &Model) -> BoxedStrategy<Value> {
    one_of(vec![
        (8, model.files.iter().rev().take(2).cloned().collect()),
        (2, model.files.clone()),
        (1, texts(&["$DIR/vda.img", "$DIR/nosuch", "$DIR"])),
    ])
}

/// An overlay that QEMU makes itself.
pub(super) fn snapshot_sync(model: &Model) -> BoxedStrategy<Value> {
    let file = fresh(model, &format!("{FOLDER}/overlay"), model.files.clone());
    let name = fresh(model, "overlay", model.nodes_that(|_| true));
    object(vec![
        ("node-name", always(below(model))),
        ("snapshot-file", always(file)),
        ("snapshot-node-name", always(name)),
        ("format", maybe(one_of(vec![(4, texts(&["qcow2"])), (1, texts(&["raw", "nosuch"]))]))),
        ("mode", maybe(one_of(vec![(1, texts(&["existing"])), (1, texts(&["absolute-paths"]))]))),
    ])
}

/// The oldest release has it under another name, of one node at a time.
fn reopen(model: &Model) -> (u32, &'static str, BoxedStrategy<Value>) {
    let one = one_to_reopen(model);
    if model.release == Release::V5_2 {
        return (3, "x-blockdev-reopen", one);
    }
    let several = vec(one, 1..3).prop_map(Value::from);
    (3, "blockdev-reopen", object(vec![("options", always(several))]))
}

fn one_to_reopen(model: &Model) -> BoxedStrategy<Value> {
    let images: Vec<_> = model.nodes.iter().filter(|node| node.file.is_some()).cloned().collect();
    if images.is_empty() {
        return object(vec![
            ("driver", always(one_of(vec![(1, texts(&["qcow2"]))]))),
            ("node-name", always(any_node(model))),
        ]);
    }
    let (other, backing) = (any_node(model), below(model));
    let options = (select(images), other, backing, flag(), 0..12_u32, 0..4_u32);
    options
        .prop_map(|(node, other, backing, read_only, file, below)| {
            let mut options =
                json!({ "driver": node.driver, "node-name": node.name, "read-only": read_only });
            options["file"] = if file == 0 { other } else { json!(node.file) };
            match below {
                0 => options["backing"] = backing,
                1 => options["backing"] = Value::Null,
                _ => {}
            }
            options
        })
        .boxed()
}

fn resize(model: &Model) -> BoxedStrategy<Value> {
    let sizes = vec![json!(2 * DISK_SIZE), json!(DISK_SIZE), json!(DISK_SIZE + 512), json!(513), json!(-1)];
    object(vec![
        ("node-name", always(below(model))),
        ("device", maybe_not(one_of(vec![(1, texts(&["vda", "nosuch"]))]))),
        ("size", always(select(sizes))),
    ])
}
