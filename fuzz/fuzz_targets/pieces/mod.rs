//! A stream of bytes that arrives in pieces, as a fuzzer has it.

use std::iter;

use arbitrary::Arbitrary;

/// What a peer sends, and in what pieces it arrives.
#[derive(Debug, Arbitrary)]
pub struct Input<'a> {
    /// The lengths of the pieces, over and over; 0 stands for all that is left.
    pieces: [u8; 8],
    /// All that it sends.
    pub stream: &'a [u8],
}

impl<'a> Input<'a> {
    /// Asserts that a reader reads the same however the stream is cut.
    #[allow(dead_code, reason = "not every target reads")]
    pub fn reads_the_same<T: std::fmt::Debug + PartialEq>(
        &self,
        read: impl Fn(&mut dyn Iterator<Item = &'a [u8]>) -> T,
    ) {
        let whole = read(&mut iter::once(self.stream));
        assert_eq!(read(&mut self.stream.chunks(1)), whole, "byte by byte");
        assert_eq!(read(&mut self.cut()), whole, "in pieces");
    }

    /// The same bytes as answers to what could go otherwise.
    #[allow(dead_code, reason = "not every target has something that could")]
    pub fn choices(&self) -> &[u8] {
        &self.pieces
    }

    /// The stream in pieces.
    pub fn cut(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.stream;
        let mut lengths = self.pieces.into_iter().cycle();
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
}
