//! The conversations: on which machine, what is said, and the orders in which the answers and events may come.
//!
//! They stand in the TOML files beside this one, and know nothing of the simulator's code: QEMU's arguments, its
//! commands, and patterns ([`super::grammar`]) of what comes back, in the words of [`word`].

use std::{collections::BTreeMap, time::Duration};

use freezeframe_sim::Release;
use serde::Deserialize;
use serde_json::Value;

use super::grammar;

/// The machines and lines, and the conversations by what they are about.
const FILES: [&str; 7] = [
    include_str!("lines.toml"),
    include_str!("snapshots.toml"),
    include_str!("jobs.toml"),
    include_str!("drains.toml"),
    include_str!("errors.toml"),
    include_str!("devices.toml"),
    include_str!("migrations.toml"),
];

/// Where the machine's images are, in its arguments and in what is said.
pub(crate) const FOLDER: &str = "$DIR";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    machine: BTreeMap<String, Machine>,
    #[serde(default)]
    say: BTreeMap<String, String>,
    #[serde(default)]
    conversation: Vec<Conversation>,
}

/// A machine to talk to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    /// QEMU's arguments.
    pub(crate) arguments: String,
    /// How long its firmware is left alone at the start, in milliseconds: it resets the devices.
    #[serde(default)]
    pub(crate) boot: u64,
}

/// Something that is said, and the orders in which the answers and events may come.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Conversation {
    /// What it is about.
    pub(crate) name: String,
    /// Where the orders come from.
    source: String,
    machine: Option<String>,
    /// How long the machine's firmware is left alone, if not as long as it usually is.
    boot: Option<u64>,
    /// Lines that are said one after the other, each when all is at rest.
    #[serde(default)]
    pub(crate) before: Vec<String>,
    /// Lines that are said in one go.
    pub(crate) then: Vec<String>,
    rest: Option<u64>,
    /// By releases: patterns of all orders that there are. Each must come up.
    orders: BTreeMap<String, Vec<String>>,
    /// By releases: patterns of orders that QEMU's source allows, and that may be too rare to come up.
    #[serde(default)]
    rare: BTreeMap<String, Vec<String>>,
    /// By releases: patterns of orders that real QEMU has and the simulator has not. One that comes up is to be moved.
    #[serde(default, rename = "not-yet")]
    not_yet: BTreeMap<String, Vec<String>>,
    /// A job is left to its client.
    #[serde(default)]
    pub(crate) leaves: bool,
}

/// All that is said.
pub(crate) struct Book {
    machines: BTreeMap<String, Machine>,
    lines: BTreeMap<String, String>,
    /// Every conversation there is.
    pub(crate) conversations: Vec<Conversation>,
}

impl Book {
    /// Reads the files.
    ///
    /// # Panics
    /// When one of them is wrong.
    pub(crate) fn read() -> Self {
        let mut book = Self { machines: BTreeMap::new(), lines: BTreeMap::new(), conversations: Vec::new() };
        for text in FILES {
            let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
            book.machines.extend(file.machine);
            for (name, line) in file.say {
                let mut line: Value = serde_json::from_str(&line).expect("a line is JSON");
                line["id"] = name.as_str().into();
                book.lines.insert(name, line.to_string());
            }
            for conversation in &file.conversation {
                assert!(!conversation.source.is_empty(), "{}: where from?", conversation.name);
            }
            book.conversations.extend(file.conversation);
        }
        book
    }

    /// The machine of a conversation: one that was never started unless it says another.
    pub(crate) fn machine(&self, conversation: &Conversation) -> &Machine {
        &self.machines[conversation.machine.as_deref().unwrap_or("still")]
    }

    /// The bytes of a line.
    pub(crate) fn line(&self, name: &str) -> &str {
        self.lines.get(name).unwrap_or_else(|| panic!("no line `{name}`"))
    }
}

impl Conversation {
    /// The releases that it is held with.
    pub(crate) fn releases(&self) -> impl Iterator<Item = Release> + '_ {
        let of = |key: &str, release: Release| key.split(' ').any(|name| name == release.name());
        Release::ALL.into_iter().filter(move |release| self.orders.keys().any(|key| of(key, *release)))
    }

    /// The orders that a release has, those that it may have beside them, and those that only a real one has.
    ///
    /// # Panics
    /// When a pattern is none.
    pub(crate) fn orders(&self, release: Release) -> [Vec<String>; 3] {
        [&self.orders, &self.rare, &self.not_yet].map(|lists| {
            let of = |key: &str| key.split(' ').any(|name| name == release.name());
            let patterns = lists.iter().filter(|(key, _)| of(key)).flat_map(|(_, patterns)| patterns);
            let orders = patterns.flat_map(|pattern| {
                grammar::expand(pattern).unwrap_or_else(|wrong| panic!("{}: {pattern}: {wrong}", self.name))
            });
            orders.map(|order| order.join(" ")).collect()
        })
    }

    /// How long the firmware of its machine is left alone.
    pub(crate) fn boot(&self, machine: &Machine) -> Duration {
        Duration::from_millis(self.boot.unwrap_or(machine.boot))
    }

    /// How long it is quiet before a conversation is over.
    pub(crate) fn rest(&self) -> Duration {
        Duration::from_millis(self.rest.unwrap_or(250))
    }
}
