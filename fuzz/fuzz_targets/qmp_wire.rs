//! Any bytes from a monitor: the wire never panics, reads the same messages however the stream was cut, and once it has
//! found an error says so for ever.
//!
//! The first eight bytes of an input say in what pieces the stream arrives; the rest is the stream, plain text in the
//! corpus, as a monitor would send it.

#![no_main]

use std::iter;

use arbitrary::Arbitrary;
use freezeframe_driver::wire::{Incoming, Session, WireError};
use libfuzzer_sys::fuzz_target;

/// What a monitor sends, and in what pieces it arrives.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// The lengths of the pieces, over and over; 0 stands for all that is left.
    pieces: [u8; 8],
    stream: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let whole = read(iter::once(input.stream));
    assert_eq!(read(input.stream.chunks(1)), whole, "byte by byte");
    assert_eq!(read(cut(&input)), whole, "in pieces");
});

/// The messages in a stream that arrives in these pieces, and what ended it if something did.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Incoming>, Option<WireError>) {
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

/// The stream in pieces, as the input says.
fn cut<'a>(input: &Input<'a>) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = input.stream;
    let mut lengths = input.pieces.into_iter().cycle();
    iter::from_fn(move || {
        let length = match lengths.next()? {
            _ if rest.is_empty() => return None,
            0 => rest.len(),
            length => usize::from(length).min(rest.len()),
        };
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some(piece)
    })
}
