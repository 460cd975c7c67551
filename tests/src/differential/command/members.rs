//! What arguments are made of: members that are there or not, and names that are mostly those of something.

use proptest::{
    prelude::{Just, Strategy},
    prop_oneof,
    sample::select,
    strategy::{BoxedStrategy, Union},
};
use serde_json::{Map, Value, json};

use crate::differential::model::{DISK_SIZE, Model};

pub(super) type Texts = BoxedStrategy<Value>;
pub(super) type Member = BoxedStrategy<Option<Value>>;

pub(super) fn always(value: impl Strategy<Value = Value> + 'static) -> Member {
    value.prop_map(Some).boxed()
}

/// In one of three cases.
pub(super) fn maybe(value: impl Strategy<Value = Value> + 'static) -> Member {
    prop_oneof![2 => Just(None), 1 => value.prop_map(Some)].boxed()
}

/// In one of ten cases.
pub(super) fn maybe_not(value: impl Strategy<Value = Value> + 'static) -> Member {
    prop_oneof![9 => Just(None), 1 => value.prop_map(Some)].boxed()
}

pub(super) fn object(members: Vec<(&'static str, Member)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    let with_names = move |values: Vec<Option<Value>>| {
        let members = names.iter().zip(values);
        let members = members.filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Value::Object(members.collect::<Map<_, _>>())
    };
    values.prop_map(with_names).boxed()
}

/// One of these texts; lists without any count for nothing.
pub(super) fn one_of(weighted: Vec<(u32, Vec<String>)>) -> Texts {
    let weighted = weighted.into_iter().filter(|(_, texts)| !texts.is_empty());
    let options = weighted.map(|(weight, texts)| (weight, select(texts).prop_map(Value::from).boxed()));
    Union::new_weighted(options.collect()).boxed()
}

pub(super) fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A format node that may be put on top of another, mostly.
pub(super) fn free_format_node(model: &Model) -> Texts {
    one_of(vec![
        (8, model.nodes_that(|node| node.driver != "file" && !node.used)),
        (1, model.nodes_that(|_| true)),
        (1, texts(&["nosuch", "vda-device", ""])),
    ])
}

/// The top node of a disk, mostly.
pub(super) fn disk(model: &Model) -> Texts {
    one_of(vec![
        (8, model.disks.clone()),
        (3, model.nodes_that(|node| node.driver != "file")),
        (1, model.nodes_that(|_| true)),
        (1, texts(&["nosuch", "vda-device", ""])),
    ])
}

pub(super) fn any_node(model: &Model) -> Texts {
    one_of(vec![
        (4, model.nodes_that(|node| !node.used)),
        (4, model.nodes_that(|_| true)),
        (1, texts(&["nosuch", "vda-device", ""])),
    ])
}

/// A name for something new, mostly.
pub(super) fn fresh(model: &Model, kind: &str, taken: Vec<String>) -> Texts {
    one_of(vec![(12, vec![model.fresh(kind)]), (1, taken), (1, texts(&["1bad", "a b", "", "#auto"]))])
}

pub(super) fn job_id(model: &Model) -> Texts {
    fresh(model, "job", model.jobs.clone())
}

pub(super) fn job(model: &Model) -> Texts {
    let latest = model.jobs.iter().rev().take(3).cloned().collect();
    one_of(vec![(6, latest), (2, model.jobs.clone()), (1, texts(&["nosuch", "vda"]))])
}

pub(super) fn tag(model: &Model) -> Texts {
    one_of(vec![
        (4, texts(&["s1", "s2", "s3"])),
        (2, model.tags.clone()),
        (1, texts(&["nosuch", "", "1", "2", "a b"])),
    ])
}

pub(super) fn bitmap(model: &Model) -> Texts {
    one_of(vec![(8, model.bitmaps.clone()), (4, texts(&["b1", "b2"])), (1, texts(&["nosuch", ""]))])
}

pub(super) fn size() -> BoxedStrategy<Value> {
    prop_oneof![
        8 => Just(json!(DISK_SIZE)),
        1 => select(vec![json!(0), json!(512), json!(513), json!(2 * DISK_SIZE), json!(-1), json!(65536)])
    ]
    .boxed()
}

/// Either none, or so low that the job does not end by itself.
pub(super) fn speed() -> BoxedStrategy<Value> {
    prop_oneof![4 => Just(json!(1)), 2 => Just(json!(0)), 1 => Just(json!(-1))].boxed()
}

pub(super) fn flag() -> BoxedStrategy<Value> {
    prop_oneof![3 => Just(json!(false)), 1 => Just(json!(true))].boxed()
}
