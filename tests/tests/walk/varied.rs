//! The orders in which the recordings themselves vary: each is reached by some seed when the recording is replayed.
//!
//! `varied.toml` holds what came in more than one order, between what a recording's client said in one go and its next
//! words: the recordings that are kept, each repeated on the real QEMU of its release, four of them at once on two cores
//! (`record-again`, `orders-that-vary`). What always came in the same order is not there.
#![allow(clippy::print_stdout, reason = "says how many orders there are")]

use std::collections::{BTreeMap, BTreeSet};

use freezeframe::fidelity::{
    recording::{self, Recording},
    replay::{machine, replay_in_order},
};
use freezeframe_sim::{Oracle, Release};
use freezeframe_tests::words::{goes, order};
use serde::Deserialize;

/// How many seeds a recording is replayed with before an order that does not come up is given up.
const SEEDS: u64 = 400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    varied: Vec<Varied>,
}

/// What came in more than one order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Varied {
    release: String,
    recording: String,
    /// Behind which of the client's lines, counted from 0: up to where it next went on with everything answered.
    from: usize,
    orders: BTreeSet<String>,
    /// Orders that only a real QEMU has so far, and why. One that comes up is to be moved.
    #[serde(default, rename = "not-yet")]
    not_yet: BTreeMap<String, String>,
}

#[test]
fn every_order_in_which_recordings_of_the_same_commands_vary_is_reached_by_some_seed() {
    let File { varied } =
        toml::from_str(include_str!("varied.toml")).unwrap_or_else(|error| panic!("{error}"));
    let mut found = Vec::new();
    let mut by_recording: BTreeMap<(&str, String), Vec<&Varied>> = BTreeMap::new();
    for one in &varied {
        by_recording.entry((&one.release, one.recording.clone())).or_default().push(one);
    }
    for release in Release::ALL {
        let recordings = recording::read_all(&recording::own(), Some(release)).expect("they are kept");
        for recording in &recordings {
            if let Some(varied) = by_recording.remove(&(release.name(), recording.name.clone())) {
                found.extend(missing(recording, &varied));
            }
        }
    }
    assert!(by_recording.is_empty(), "no such recordings: {:?}", by_recording.keys());
    let orders: usize = varied.iter().map(|one| one.orders.len()).sum();
    let not_yet: usize = varied.iter().map(|one| one.not_yet.len()).sum();
    println!("{} answers vary, in {orders} orders and {not_yet} that are not yet reached", varied.len());
    assert!(found.is_empty(), "{} of {orders} orders:\n{}", found.len(), found.join("\n"));
}

/// The orders of a recording that no seed brings, and those that are said not to come and do.
fn missing(recording: &Recording, varied: &[&Varied]) -> Vec<String> {
    let machine = machine(recording).expect("the simulator can be it");
    let goes = goes(recording);
    let mut reached: Vec<BTreeSet<String>> = vec![BTreeSet::new(); varied.len()];
    for seed in 0..SEEDS {
        let replayed = replay_in_order(recording, &machine, None, Oracle::seeded(seed));
        for (one, reached) in varied.iter().zip(&mut reached) {
            let next = goes.iter().find(|go| **go > one.from).and_then(|go| replayed.turns.get(*go));
            let lines =
                &replayed.said[replayed.turns[one.from]..next.copied().unwrap_or(replayed.said.len())];
            reached.insert(order(lines.iter().map(String::as_str)));
        }
        let done = |(one, reached): (&&Varied, &_)| one.not_yet.is_empty() && one.orders.is_subset(reached);
        if varied.iter().zip(&reached).all(done) {
            break;
        }
    }
    let mut found = Vec::new();
    for (one, reached) in varied.iter().zip(&reached) {
        let name = format!("{} from {}", recording.id(), one.from);
        found.extend(one.orders.difference(reached).map(|order| format!("{name}: never: {order}")));
        let now = one.not_yet.keys().filter(|order| reached.contains(*order));
        found.extend(now.map(|order| format!("{name}: the simulator has it now: {order}")));
    }
    found
}
