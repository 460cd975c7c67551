//! Any bytes from a guest's agent: the wire never panics, and reads the same replies however the stream was cut.
//!
//! The first eight bytes of an input say in what pieces the stream arrives; the rest is the stream, plain text in the
//! corpus, as an agent would answer the sync 42 and what follows it.

#![no_main]

mod pieces;

use freezeframe_driver::wire::{AgentSays, AgentSession, AgentWireError};
use libfuzzer_sys::fuzz_target;
use pieces::Input;

fuzz_target!(|input: Input<'_>| input.reads_the_same(read));

/// What is said in a stream that arrives in these pieces, and what is no reply in it.
fn read<'a>(pieces: &mut dyn Iterator<Item = &'a [u8]>) -> Vec<Result<AgentSays, AgentWireError>> {
    let mut session = AgentSession::new();
    session.sync(42);
    let mut said = Vec::new();
    for piece in pieces {
        session.receive(piece);
        while let Some(next) = session.poll().transpose() {
            assert_eq!(session.is_synced(), next.is_ok(), "what is no reply ends the sync");
            said.push(next);
        }
    }
    said
}
