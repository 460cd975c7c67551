//! What each release accepts: its own `query-qmp-schema`, and the check of arguments against it.
//!
//! The schema is stored as the release's binary gave it (`data/schema`, refreshed by `ci/refresh-introspection.sh`)
//! and read once in a process, when it is first needed. It says which commands there are, and refuses
//! arguments in QEMU's words and in QEMU's order of checks. It does not know what a command does.
//!
//! What a schema cannot tell, because QEMU leaves it out: the widths of integers. An argument that is a size
//! or unsigned is taken for a signed 64-bit integer, and one outside of 32 bits is not refused.
//!
//! | module | |
//! | --- | --- |
//! | `types` | the schema as data |
//! | `check` | arguments against a type |
//! | `alternate` | names of the types that errors name and a schema hides |

mod alternate;
mod check;
mod types;

use std::{collections::BTreeMap, io::Read, sync::OnceLock};

use serde_json::{Map, Value};

use crate::{qemu::QmpError, release::Release};
use types::{TypeId, Types};

/// One release's schema.
#[derive(Debug)]
pub struct Schema {
    release: Release,
    /// The value of `query-qmp-schema`, as QEMU wrote it.
    text: String,
    types: Types,
    commands: BTreeMap<String, Command>,
    /// The names of the commands, in the order of the schema.
    order: Vec<String>,
}

/// A command that a release knows.
#[derive(Debug)]
pub struct Command {
    /// Nothing for a command whose arguments QEMU does not check by its schema.
    arguments: Option<TypeId>,
    /// Whether it may be sent with `exec-oob`.
    pub allow_oob: bool,
}

impl Schema {
    /// The schema of a release.
    pub fn of(release: Release) -> &'static Schema {
        static SCHEMAS: [OnceLock<Schema>; Release::ALL.len()] =
            [const { OnceLock::new() }; Release::ALL.len()];
        SCHEMAS[release as usize].get_or_init(|| Schema::read(release))
    }

    fn read(release: Release) -> Schema {
        let compressed: &[u8] = match release {
            Release::V5_2 => include_bytes!("../data/schema/5.2.json.gz"),
            Release::V7_2 => include_bytes!("../data/schema/7.2.json.gz"),
            Release::V10_0 => include_bytes!("../data/schema/10.0.json.gz"),
            Release::V11_1 => include_bytes!("../data/schema/11.1.json.gz"),
        };
        let mut text = String::new();
        let read = flate2::read::GzDecoder::new(compressed).read_to_string(&mut text);
        read.expect("a stored schema is gzip of UTF-8");
        let entities: Vec<Value> = serde_json::from_str(&text).expect("a stored schema is a JSON list");

        let (types, ids) = types::read(release, &entities);
        let mut commands = BTreeMap::new();
        let mut order = Vec::new();
        for entity in entities.iter().filter(|entity| entity["meta-type"] == "command") {
            let name = types::text(&entity["name"]);
            let checked = !is_unchecked(release, name);
            let command = Command {
                arguments: checked.then(|| ids[types::text(&entity["arg-type"])]),
                allow_oob: entity["allow-oob"] == true,
            };
            commands.insert(name.to_owned(), command);
            order.push(name.to_owned());
        }
        Schema { release, text, types, commands, order }
    }

    /// The value of `query-qmp-schema`, byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// A command, if this release has it.
    pub fn command(&self, name: &str) -> Option<&Command> {
        self.commands.get(name)
    }

    /// The names of all commands in the order of `query-commands`: last registered first. Most are registered
    /// in the order of the schema, and a few after all others.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        let late: &[&str] = match self.release {
            Release::V5_2 => &["object-add", "device_add", "query-qmp-schema"],
            _ => &["device_add"],
        };
        let others = self.order.iter().rev().map(String::as_str).filter(|name| !late.contains(name));
        late.iter().copied().chain(others)
    }

    /// Checks a command's arguments.
    ///
    /// # Errors
    /// The first thing wrong with them, as QEMU says it.
    pub fn check(&self, command: &Command, arguments: &Map<String, Value>) -> Result<(), QmpError> {
        match command.arguments {
            Some(id) => check::arguments(self.release, &self.types, id, arguments),
            None => Ok(()),
        }
    }
}

/// Commands that read their arguments themselves.
fn is_unchecked(release: Release, command: &str) -> bool {
    command == "device_add" || (command == "object-add" && release < Release::V7_2)
}

#[cfg(test)]
mod tests;
