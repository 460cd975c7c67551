//! The commands that may come next: most of them mean something, about a third is refused.
//!
//! A command is refused for what its schema forbids (a member that is missing, too much or of a wrong type:
//! [`spoilt`]), for a name that is nothing's or something else's ([`Model`] knows only so much), or because the machine
//! or the job does not stand as it must.
//!
//! Each of the modules below is a part of QEMU, with how often each of its commands comes: in the order of what software
//! that takes snapshots uses.

use proptest::{
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::{Index, select},
    strategy::{BoxedStrategy, Union},
};
use serde_json::{Value, json};

use super::{model::Model, server::Program};

mod bitmaps;
mod devices;
mod exports;
mod jobs;
mod machine;
mod members;
mod nodes;
mod snapshots;
mod transactions;

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

/// Commands with how often each comes, and its arguments.
type Kinds = Vec<(u32, &'static str, BoxedStrategy<Value>)>;

/// What may come next.
pub fn next(model: &Model) -> BoxedStrategy<Command> {
    let mut kinds = vec![(1, "nosuch-command", members::object(Vec::new()))];
    kinds.extend(nodes::kinds(model));
    kinds.extend(jobs::kinds(model));
    kinds.extend(bitmaps::kinds(model));
    kinds.extend(exports::kinds(model));
    kinds.extend(transactions::kinds(model));
    kinds.extend(snapshots::of_disks(model));
    if model.program == Program::Machine {
        kinds.extend(snapshots::of_machines(model));
        kinds.extend(devices::kinds(model));
        kinds.extend(machine::kinds());
    }
    let with_arguments = |(weight, execute, arguments)| {
        let command = spoilt(arguments).prop_map(move |arguments| Command { execute, arguments });
        (weight, command.boxed())
    };
    Union::new_weighted(kinds.into_iter().map(with_arguments).collect()).boxed()
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
