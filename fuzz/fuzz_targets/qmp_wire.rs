//! Any bytes from a monitor: the wire never panics, reads the same messages however the stream was cut, and once it has
//! found an error says so for ever.
//!
//! The first eight bytes of an input say in what pieces the stream arrives; the rest is the stream, plain text in the
//! corpus, as a monitor would send it.

#![no_main]

mod pieces;

use freezeframe_driver::wire::{Incoming, Session, WireError};
use libfuzzer_sys::fuzz_target;
use pieces::Input;

fuzz_target!(|input: Input<'_>| input.reads_the_same(read));

/// The messages in a stream that arrives in these pieces, and what ended it if something did.
fn read<'a>(pieces: &mut dyn Iterator<Item = &'a [u8]>) -> (Vec<Incoming>, Option<WireError>) {
    let mut session = Session::new();
    let (mut messages, mut over) = (Vec::new(), None);
    for piece in pieces {
        session.receive(piece);
        loop {
            match session.poll() {
                Ok(Some(message)) => {
                    assert_eq!(over, None, "a message after the end");
                    messages.push(message);
                }
                Ok(None) => {
                    assert_eq!(over, None, "the end is forgotten");
                    break;
                }
                Err(error) => {
                    assert_eq!(over.get_or_insert_with(|| error.clone()), &error, "another end");
                    break;
                }
            }
        }
    }
    (messages, over)
}
