//! The commands that may come next: most of them mean something, about a third is refused.
//!
//! A command is refused for what its schema forbids (a member that is missing, too much or of a wrong type:
//! [`spoilt`]), for a name that is nothing's or something else's ([`Model`] knows only so much), or because the machine
//! or the job does not stand as it must.

use proptest::{
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::{Index, select},
    strategy::{BoxedStrategy, Union},
};
use serde_json::{Map, Value, json};

use super::{
    model::{DISK_SIZE, Model},
    server::Program,
};

/// What stands for the folder of the images: each side has its own.
pub const FOLDER: &str = "$DIR";

/// A command of QMP.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Its name.
    pub execute: &'static str,
    /// Its arguments: an object, or whatever a client may have put there.
    pub arguments: Value,
}

impl Command {
    /// The line that a client sends.
    pub fn line(&self, id: impl Into<Value>) -> String {
        let Self { execute, arguments } = self;
        json!({ "execute": execute, "arguments": arguments, "id": id.into() }).to_string()
    }
}

/// What may come next.
pub fn next(model: &Model) -> BoxedStrategy<Command> {
    let mut kinds: Vec<(u32, &'static str, BoxedStrategy<Value>)> = vec![
        (8, "blockdev-create", create(model)),
        (10, "blockdev-add", add(model)),
        (3, "blockdev-del", object(vec![("node-name", always(any_node(model)))])),
        (5, "blockdev-snapshot", snapshot(model)),
        (4, "block-commit", commit(model)),
        (4, "block-stream", stream(model)),
        (3, "blockdev-mirror", copy(model)),
        (3, "blockdev-backup", copy(model)),
        (2, "blockdev-snapshot-internal-sync", internal(model)),
        (2, "blockdev-snapshot-delete-internal-sync", delete_internal(model)),
        (4, "transaction", transaction(model)),
        (
            1,
            "query-named-block-nodes",
            object(vec![("flat", maybe(select(vec![json!(true), json!(false)])))]),
        ),
        (1, "query-block-jobs", object(Vec::new())),
        (1, "query-jobs", object(Vec::new())),
        (1, "nosuch-command", object(Vec::new())),
    ];
    let job = || job(model);
    for verb in ["job-pause", "job-resume", "job-complete", "job-finalize", "job-dismiss", "job-cancel"] {
        kinds.push((if verb == "job-dismiss" { 4 } else { 1 }, verb, object(vec![("id", always(job()))])));
    }
    for verb in ["block-job-pause", "block-job-resume", "block-job-complete", "block-job-cancel"] {
        kinds.push((1, verb, object(vec![("device", always(job()))])));
    }
    kinds.push((
        1,
        "block-job-set-speed",
        object(vec![("device", always(job())), ("speed", always(speed()))]),
    ));
    kinds.push((1, "block-job-finalize", object(vec![("id", always(job()))])));
    kinds.push((1, "block-job-dismiss", object(vec![("id", always(job()))])));
    if model.program == Program::Machine {
        kinds.extend(of_machines(model));
    }
    Union::new_weighted(
        kinds
            .into_iter()
            .map(|(weight, execute, arguments)| {
                let command = spoilt(arguments).prop_map(move |arguments| Command { execute, arguments });
                (weight, command.boxed())
            })
            .collect(),
    )
    .boxed()
}

/// Commands that a storage daemon does not have.
fn of_machines(model: &Model) -> Vec<(u32, &'static str, BoxedStrategy<Value>)> {
    let nothing = || object(Vec::new());
    vec![
        (3, "snapshot-save", save(model, true)),
        (3, "snapshot-load", save(model, true)),
        (2, "snapshot-delete", save(model, false)),
        (5, "human-monitor-command", human(model)),
        (2, "stop", nothing()),
        (2, "cont", nothing()),
        (1, "system_reset", nothing()),
        (1, "system_powerdown", nothing()),
        (1, "query-status", nothing()),
        (1, "query-block", nothing()),
    ]
}

type Texts = BoxedStrategy<Value>;
type Member = BoxedStrategy<Option<Value>>;

fn always(value: impl Strategy<Value = Value> + 'static) -> Member {
    value.prop_map(Some).boxed()
}

/// In one of three cases.
fn maybe(value: impl Strategy<Value = Value> + 'static) -> Member {
    prop_oneof![2 => Just(None), 1 => value.prop_map(Some)].boxed()
}

fn object(members: Vec<(&'static str, Member)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    let with_names = move |values: Vec<Option<Value>>| {
        let members = names.iter().zip(values);
        let members = members.filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Value::Object(members.collect::<Map<_, _>>())
    };
    values.prop_map(with_names).boxed()
}

/// One of these texts; lists without any count for nothing.
fn one_of(weighted: Vec<(u32, Vec<String>)>) -> Texts {
    let weighted = weighted.into_iter().filter(|(_, texts)| !texts.is_empty());
    let options = weighted.map(|(weight, texts)| (weight, select(texts).prop_map(Value::from).boxed()));
    Union::new_weighted(options.collect()).boxed()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A format node that may be put on top of another, mostly.
fn free_format_node(model: &Model) -> Texts {
    one_of(vec![
        (8, model.nodes_that(|node| node.driver != "file" && !node.used)),
        (1, model.nodes_that(|_| true)),
        (1, texts(&["nosuch", "vda-device", ""])),
    ])
}

/// The top node of a disk, mostly.
fn disk(model: &Model) -> Texts {
    one_of(vec![
        (8, model.disks.clone()),
        (3, model.nodes_that(|node| node.driver != "file")),
        (1, model.nodes_that(|_| true)),
        (1, texts(&["nosuch", "vda-device", ""])),
    ])
}

fn any_node(model: &Model) -> Texts {
    one_of(vec![
        (4, model.nodes_that(|node| !node.used)),
        (4, model.nodes_that(|_| true)),
        (1, texts(&["nosuch", "vda-device", ""])),
    ])
}

/// A name for something new, mostly.
fn fresh(model: &Model, kind: &str, taken: Vec<String>) -> Texts {
    one_of(vec![(12, vec![model.fresh(kind)]), (1, taken), (1, texts(&["1bad", "a b", "", "#auto"]))])
}

fn job_id(model: &Model) -> Texts {
    fresh(model, "job", model.jobs.clone())
}

fn job(model: &Model) -> Texts {
    let latest = model.jobs.iter().rev().take(3).cloned().collect();
    one_of(vec![(6, latest), (2, model.jobs.clone()), (1, texts(&["nosuch", "vda"]))])
}

fn tag(model: &Model) -> Texts {
    one_of(vec![
        (4, texts(&["s1", "s2", "s3"])),
        (2, model.tags.clone()),
        (1, texts(&["nosuch", "", "1", "2", "a b"])),
    ])
}

fn size() -> BoxedStrategy<Value> {
    prop_oneof![
        8 => Just(json!(DISK_SIZE)),
        1 => select(vec![json!(0), json!(512), json!(513), json!(2 * DISK_SIZE), json!(-1), json!(65536)])
    ]
    .boxed()
}

/// Either none, or so low that the job does not end by itself.
fn speed() -> BoxedStrategy<Value> {
    prop_oneof![4 => Just(json!(1)), 2 => Just(json!(0)), 1 => Just(json!(-1))].boxed()
}

fn flag() -> BoxedStrategy<Value> {
    prop_oneof![3 => Just(json!(false)), 1 => Just(json!(true))].boxed()
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
    let filename = one_of(vec![
        (8, model.files.iter().rev().take(2).cloned().collect()),
        (2, model.files.clone()),
        (1, texts(&["$DIR/vda.img", "$DIR/nosuch", "$DIR"])),
    ]);
    let file = object(vec![
        ("driver", always(Just(json!("file")))),
        ("node-name", name()),
        ("filename", always(filename)),
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
        ("file", always(child)),
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

fn snapshot(model: &Model) -> BoxedStrategy<Value> {
    object(vec![("node", always(disk(model))), ("overlay", always(free_format_node(model)))])
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

fn save(model: &Model, with_state: bool) -> BoxedStrategy<Value> {
    let devices = prop_oneof![
        4 => Just(json!(model.disks.iter().take(2).collect::<Vec<_>>())),
        2 => proptest::collection::vec(disk(model), 0..3).prop_map(Value::from),
    ];
    let mut members =
        vec![("job-id", always(job_id(model))), ("tag", always(tag(model))), ("devices", always(devices))];
    if with_state {
        members.push(("vmstate", always(disk(model))));
    }
    object(members)
}

fn internal(model: &Model) -> BoxedStrategy<Value> {
    object(vec![("device", always(disk(model))), ("name", always(tag(model)))])
}

fn delete_internal(model: &Model) -> BoxedStrategy<Value> {
    object(vec![("device", always(disk(model))), ("name", maybe(tag(model))), ("id", maybe(tag(model)))])
}

fn transaction(model: &Model) -> BoxedStrategy<Value> {
    let action = |kind: &'static str, data: BoxedStrategy<Value>| {
        data.prop_map(move |data| json!({ "type": kind, "data": data })).boxed()
    };
    let actions = prop_oneof![
        6 => action("blockdev-snapshot", snapshot(model)),
        2 => action("blockdev-snapshot-internal-sync", internal(model)),
        1 => action("abort", object(Vec::new())),
    ];
    object(vec![("actions", always(proptest::collection::vec(actions, 0..4).prop_map(Value::from)))])
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

/// What is done to arguments that were right.
#[derive(Debug, Clone)]
enum Spoil {
    Nothing,
    Drop(Index),
    Extra,
    Retype(Index, Value),
}

/// One time in eight something is wrong with the arguments.
fn spoilt(arguments: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let junk =
        select(vec![json!(7), json!("text"), json!(true), json!([]), json!({}), Value::Null, json!(1.5)]);
    let spoil = prop_oneof![
        21 => Just(Spoil::Nothing),
        1 => any::<Index>().prop_map(Spoil::Drop),
        1 => Just(Spoil::Extra),
        1 => (any::<Index>(), junk).prop_map(|(at, junk)| Spoil::Retype(at, junk)),
    ];
    (arguments, spoil).prop_map(|(arguments, spoil)| spoil.applied_to(arguments)).boxed()
}

impl Spoil {
    fn applied_to(self, mut arguments: Value) -> Value {
        let Some(members) = arguments.as_object_mut() else { return arguments };
        let names: Vec<_> = members.keys().cloned().collect();
        match self {
            Self::Extra => {
                members.insert("bogus".to_owned(), json!(1));
            }
            Self::Drop(at) if !names.is_empty() => {
                members.shift_remove(at.get(&names));
            }
            Self::Retype(at, junk) if !names.is_empty() => {
                members.insert(at.get(&names).clone(), junk);
            }
            _ => {}
        }
        arguments
    }
}
