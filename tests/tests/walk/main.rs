//! A walk through runs by seed: whatever the seed, only orders come up that recordings show, and all of those do.
//!
//! What is allowed stands beside this as data, from recordings of the four releases and QEMU's own table of job states,
//! and knows nothing of the simulator's code: [`conversation`] for whole orders, [`rules`] for what holds in any.
//!
//! How many runs: `FREEZEFRAME_WALK_RUNS`, 4,000 unless it is set; the gate makes 100,000. An order that none of them
//! brings is looked for further, with [`SEEDS`] of its conversation.
#![allow(clippy::disallowed_methods, reason = "asks how much is to be done")]

use std::{collections::BTreeSet, env, time::Duration};

use freezeframe_sim::{Machine, Oracle, Port, Release, World, world::Connection};
use freezeframe_tests::words;
use serde_json::Value;

use conversation::{Book, Conversation, FOLDER};
use rules::Rules;

mod conversation;
mod grammar;
mod rules;
mod varied;

/// How many seeds of a conversation are tried before an order that does not come up is given up.
const SEEDS: u64 = 400;

/// The folder of the images on the simulated host.
const IMAGES: &str = "/images";

#[test]
fn no_seed_brings_an_order_that_recordings_do_not_show_and_some_seed_brings_each_that_they_do() {
    let wanted: u64 = env::var("FREEZEFRAME_WALK_RUNS").map_or(4_000, |runs| runs.parse().expect("a number"));
    let book = Book::read();
    let mut cases: Vec<Case<'_>> = book
        .conversations
        .iter()
        .flat_map(|conversation| {
            conversation.releases().map(|release| Case::new(&book, conversation, release))
        })
        .collect();
    let count = cases.len() as u64;
    let mut found = Vec::new();
    for run in 0..wanted {
        found.extend(cases[(run % count) as usize].walk(&book, run / count));
    }
    for case in &mut cases {
        for seed in wanted / count + 1..SEEDS {
            if case.missing().is_none() {
                break;
            }
            found.extend(case.walk(&book, seed));
        }
        found.extend(case.missing().map(|order| format!("{case}: never: {order}")));
    }
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A conversation with one release.
struct Case<'b> {
    conversation: &'b Conversation,
    release: Release,
    machine: Machine,
    boot: Duration,
    orders: Vec<String>,
    rare: Vec<String>,
    not_yet: Vec<String>,
    reached: BTreeSet<String>,
}

impl std::fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.conversation.name, self.release)
    }
}

impl<'b> Case<'b> {
    fn new(book: &Book, conversation: &'b Conversation, release: Release) -> Self {
        let of = book.machine(conversation);
        let arguments = of.arguments.replace(FOLDER, IMAGES);
        let machine = Machine::from_arguments(arguments.split_ascii_whitespace()).expect("a machine");
        let [orders, rare, not_yet] = conversation.orders(release);
        let boot = conversation.boot(of).max(conversation.rest());
        Self { conversation, release, machine, boot, orders, rare, not_yet, reached: BTreeSet::new() }
    }

    /// An order that has not come up.
    fn missing(&self) -> Option<&String> {
        self.orders.iter().find(|order| !self.reached.contains(*order))
    }

    /// Holds the conversation; what is wrong with how it went.
    fn walk(&mut self, book: &Book, seed: u64) -> Option<String> {
        match self.hold(book, seed) {
            Ok(order) if self.orders.contains(&order) || self.rare.contains(&order) => {
                self.reached.insert(order);
                None
            }
            Ok(order) if self.not_yet.contains(&order) => {
                Some(format!("{self}: the simulator has it now: {order}"))
            }
            Ok(order) => Some(format!("{self}: not listed: {order}")),
            Err(broken) => Some(format!("{self}: seed {seed}: {broken}")),
        }
    }

    /// Holds the conversation; in which order what was said last was answered.
    fn hold(&self, book: &Book, seed: u64) -> Result<String, String> {
        let mut client = Client::new(World::new(&self.machine, self.release, Oracle::seeded(seed)));
        client.say(r#"{"execute": "qmp_capabilities"}"#, self.boot)?;
        let rest = self.conversation.rest();
        for name in &self.conversation.before {
            let words = client.say(book.line(name), rest)?;
            if words.iter().any(|word| *word == format!("{name}!")) {
                return Err(format!("{name} was refused"));
            }
        }
        let lines: String = self.conversation.then.iter().map(|name| book.line(name)).collect();
        let order = client.say(&lines, rest)?;
        if !self.conversation.leaves {
            client.world.check_invariants().map_err(|broken| broken.to_string())?;
        }
        Ok(order.join(" "))
    }
}

/// A client that waits until all is at rest.
struct Client {
    world: World,
    connection: Connection,
    now: Duration,
    rules: Rules,
}

impl Client {
    fn new(mut world: World) -> Self {
        let connection = world.connect(Duration::ZERO, Port::Monitor(0)).expect("QEMU runs");
        Self { world, connection, now: Duration::ZERO, rules: Rules::default() }
    }

    /// Says lines in one go, and tells what comes back within some time in a word each.
    fn say(&mut self, lines: &str, rest: Duration) -> Result<Vec<String>, String> {
        let text = lines.replace(FOLDER, IMAGES);
        self.world.receive(self.now, self.connection, text.as_bytes()).map_err(|error| error.to_string())?;
        self.now += rest;
        self.world.advance(self.now);
        let output = String::from_utf8_lossy(self.world.output(self.connection)).into_owned();
        self.world.consume(self.connection, output.len());
        let mut words = Vec::new();
        for line in output.lines() {
            let message: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            self.rules.hear(&message)?;
            words::push(&mut words, &message);
        }
        if self.world.at_end(self.connection) {
            words.push("EOF".to_owned());
        }
        Ok(words)
    }
}
