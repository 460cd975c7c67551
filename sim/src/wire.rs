//! QEMU's JSON, byte for byte: what it reads, what it says when it cannot, and what it writes.
//!
//! QEMU's reader is not line based and is laxer than JSON in some places, stricter in others; clients depend
//! on both without knowing it. So nothing here is left to a JSON library but the type that holds a value.
//!
//! ```text
//! bytes -> lexer -> tokens -> parser -> messages, or the text of an error
//! ```
//!
//! It knows nothing of QMP: what a message means is for [`crate::monitor`].
//!
//! | module | |
//! | --- | --- |
//! | `lexer` | bytes to tokens, and where to go on after bytes that are none |
//! | `parser` | tokens to messages; 11.1 complains at once, the releases before at the end of the message |
//! | `text` | what stands between quotes |
//! | [`qdict`] | values to bytes, in QEMU's order of members |

pub mod qdict;

mod lexer;
mod parser;
mod text;

use serde_json::{Map, Value};

use crate::release::Release;

/// What stands for infinity, which JSON does not have: the largest float but one, that nobody sends.
const INFINITY: f64 = f64::MAX.next_down();

/// What a client sent, as far as JSON goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A complete JSON value.
    Message(Value),
    /// None: the text of QEMU's error.
    Error(String),
}

/// Reads what one connection sends. Keeps what is incomplete for the next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    lexer: lexer::Lexer,
    parser: parser::Parser,
}

impl Reader {
    /// A reader for a fresh connection.
    pub fn new(release: Release) -> Self {
        Self { lexer: lexer::Lexer::default(), parser: parser::Parser::new(release) }
    }

    /// Takes in bytes, cut anywhere, and gives what they complete.
    pub fn receive(&mut self, bytes: &[u8], mut each: impl FnMut(Incoming)) {
        let Self { lexer, parser } = self;
        lexer.feed(bytes, |token| {
            if let Some(incoming) = parser.push(&token) {
                each(incoming);
            }
        });
    }
}

/// The member of that name. A client sends few: to look through them is faster than to work out where a table has them.
pub(crate) fn member<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m Value> {
    members.iter().find(|(called, _)| *called == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
