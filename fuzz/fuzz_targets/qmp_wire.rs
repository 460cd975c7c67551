//! Any bytes from a monitor: the wire never panics, and reads the same messages however the stream was cut.
//!
//! The corpus is plain QMP text, as a monitor would send it; the cuts are not part of the input but follow from it.

#![no_main]

use std::iter;

use freezeframe_driver::wire::{Incoming, Session, WireError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| {
    let whole = read(iter::once(stream));
    assert_eq!(read(stream.chunks(1)), whole, "byte by byte");
    assert_eq!(read(ragged(stream)), whole, "in uneven pieces");
});

/// The messages in a stream that arrives in these pieces, and what ended it if something did.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Incoming>, Option<WireError>) {
    let mut session = Session::new();
    let mut messages = Vec::new();
    for piece in pieces {
        session.receive(piece);
        loop {
            match session.poll() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Pieces of 1 to 64 bytes, each as long as its own first byte says: the fuzzer steers the cuts by its bytes.
fn ragged(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = stream;
    iter::from_fn(move || {
        let size = 1 + usize::from(rest.first()? % 64);
        let (piece, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        Some(piece)
    })
}
