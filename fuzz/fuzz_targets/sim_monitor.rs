//! A hostile client against the simulator: whatever comes over a monitor, in whatever pieces and orders, it never panics, and each
//! line that it says is one JSON object.
//!
//! The first eight bytes of an input say in what pieces the stream arrives and what else could go otherwise; the rest is the stream,
//! plain text in the corpus, as a client would send it.

#![no_main]

mod pieces;

use std::time::Duration;

use freezeframe_sim::{Machine, Oracle, Port, Release, World};
use libfuzzer_sys::fuzz_target;
use pieces::Input;

/// How many things may happen between two pieces: a guest that reboots for ever never comes to rest.
const EVENTS_MOST: usize = 64;

fuzz_target!(|input: Input<'_>| {
    for release in Release::ALL {
        hear(&input, release);
    }
});

fn hear(input: &Input<'_>, release: Release) {
    let machine = Machine::new().disk("vda").disk("vdb");
    let mut world = World::new(&machine, release, Oracle::bytes(input.choices().to_vec()));
    let mut now = Duration::ZERO;
    let Ok(connection) = world.connect(now, Port::Monitor(0)) else { return };
    world.advance(now);
    for piece in input.cut() {
        if world.receive(now, connection, piece).is_err() {
            break;
        }
        for _ in 0..EVENTS_MOST {
            let Some(next) = world.next_event() else { break };
            now = now.max(next);
            world.advance(now);
        }
        let said = world.output(connection).to_vec();
        if said.is_empty() {
            continue;
        }
        world.consume(connection, said.len());
        let said = String::from_utf8(said).expect("QEMU says text");
        for line in said.split_terminator("\r\n") {
            let read: Result<serde_json::Map<_, _>, _> = serde_json::from_str(line);
            assert!(read.is_ok(), "{release}: no object: {line}");
        }
    }
}
