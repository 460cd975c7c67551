//! A client that breaks every rule of the protocol: what a real QEMU gives it, the simulator gives it, byte for byte.
//!
//! Pieces of bytes are said to both, one after the other, so that a command comes in several writes and several come in
//! one. Nothing is hidden from the comparison: 11.1 tells in which line and column it stopped understanding.

use std::{
    cell::{Cell, RefCell},
    error::Error,
};

use freezeframe::fidelity::{known::Known, recording::Recording};
use freezeframe_sim::Release;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::{Index, select},
    strategy::BoxedStrategy,
    test_runner::{TestCaseError, TestError, TestRunner},
};

use super::{
    campaign::{Start, config, rng},
    model,
    pair::{Compared, Failure, Pair},
    server::Program,
    verdict::{self, Verdict},
};

/// How many pieces one connection gets.
const LENGTH: usize = 40;

/// Commands whose replies hold no time.
const COMMANDS: [&str; 8] = [
    r#"{"execute": "query-status"}"#,
    r#"{"execute": "query-status", "id": {"a": [1, null, "\u00e9"], "b": 1.5}}"#,
    r#"{'execute': 'query-jobs', 'id': 'single'}"#,
    r#"{"execute": "stop", "arguments": {"bogus": 1}, "id": 18446744073709551615}"#,
    r#"{"execute": "nosuch", "id": -9223372036854775808}"#,
    r#"{"execute": "query-status", "extra": true}"#,
    r#"{"exec-oob": "query-status", "id": 1}"#,
    r#"{"execute": "job-pause", "arguments": {"id": "\ud83d\ude00\u0001\n"}, "id": 1e3}"#,
];

/// What stands where JSON, or another kind of it, should.
const TOKENS: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "{}",
    "[]",
    "{\"a\":1,}",
    "[1,]",
    "{\"a\" 1}",
    "{1:2}",
    "{\"a\":1,\"a\":2}",
    "01",
    "-",
    "-0",
    "1.",
    ".5",
    "1e",
    "1e5",
    "1e400",
    "18446744073709551616",
    "-9223372036854775809",
    "0x10",
    "true",
    "tru",
    "TRUE",
    "null",
    "nul",
    "nan",
    "\"",
    "'",
    "\"text\"",
    "'it''s'",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "%",
    "%d",
    "%s",
    "/*",
    "#",
    "é",
];

/// Bytes that are no text, or not allowed in one.
const BYTES: [&[u8]; 12] = [
    b"\x00",
    b"\x01",
    b"\x1f",
    b"\x7f",
    b"\xff",
    b"\xc3(",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
    b"\xc0\x80",
    b"\"\t\"",
    b"\"a\xffb\"",
    b"\xef\xbb\xbf",
];

/// Something that a client may say.
fn piece() -> BoxedStrategy<Vec<u8>> {
    let command = || select(COMMANDS.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    let cut = (command(), any::<Index>()).prop_map(|(mut text, at)| {
        text.truncate(at.index(text.len()));
        text
    });
    let nested = (select(vec!["[", "{\"a\":", "]", "}"]), select(vec![3_usize, 1023, 1024, 1025, 1100]));
    prop_oneof![
        6 => command(),
        3 => cut,
        6 => select(TOKENS.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        3 => select(BYTES.to_vec()).prop_map(<[u8]>::to_vec),
        4 => select(vec!["\n", "\r\n", " ", "\t"]).prop_map(|text| text.as_bytes().to_vec()),
        1 => nested.prop_map(|(text, count)| text.repeat(count).into_bytes()),
        1 => select(vec!["x", "1", "\"-"]).prop_map(|text| text.repeat(1100).into_bytes()),
        1 => Just(b"{\"execute\": \"qmp_capabilities\"}".to_vec()),
    ]
    .boxed()
}

/// What came of saying bytes.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Connections that it took.
    pub connections: usize,
    /// The differences that were seen once.
    pub seen_once: Vec<String>,
    /// The differences that were seen again.
    pub found: Vec<String>,
}

impl Outcome {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        Verdict { differ: self.found.len(), seen_once: self.seen_once.len() }
    }
}

/// Says so and so many pieces to both.
///
/// # Errors
/// When QEMU cannot be started.
pub fn play(release: Release, start: Start<'_>, pieces: usize, seed: u64) -> Result<Outcome, Box<dyn Error>> {
    let mut outcome = Outcome { connections: pieces.div_ceil(LENGTH), ..Outcome::default() };
    let described = |failure: &str, pieces: &[Vec<u8>]| {
        format!("{failure}\n  after all of: {}", pieces.concat().escape_ascii())
    };
    for number in 0..outcome.connections {
        let mut runner = TestRunner::new_with_rng(config(), rng(seed, number as u64));
        let (first, once) = (Cell::new(true), RefCell::new(&mut outcome.seen_once));
        let played = runner.run(&vec(piece(), LENGTH), |pieces| {
            let Some(failure) = say(release, start, &pieces)? else { return Ok(()) };
            let again = || say(release, start, &pieces).map_or(Ok(()), |failure| failure.map_or(Ok(()), Err));
            // What is shrunk was seen again before.
            if first.replace(false) && !verdict::is_seen_again(again) {
                once.borrow_mut().push(described(&failure.to_string(), &pieces));
                return Ok(());
            }
            Err(TestCaseError::fail(failure.to_string()))
        });
        match played {
            Ok(()) => {}
            Err(TestError::Fail(reason, pieces)) => {
                outcome.found.push(described(&reason.to_string(), &pieces))
            }
            Err(TestError::Abort(reason)) => return Err(reason.to_string().into()),
        }
    }
    Ok(outcome)
}

/// Says pieces to both, on a connection of their own; the difference, if there is one.
fn say(release: Release, start: Start<'_>, pieces: &[Vec<u8>]) -> Result<Option<Failure>, TestCaseError> {
    let real = start().map_err(|error| TestCaseError::reject(error.to_string()))?;
    let mut known = Known::default();
    let (arguments, lines) = (Program::Machine.name().to_owned(), Vec::new());
    let about = Recording { release, name: "bytes".to_owned(), arguments, lines };
    let machine = model::machine(Program::Machine);
    let said = Pair::new(real, &machine, about, Compared::Bytes, &mut known).and_then(|mut pair| {
        pieces.iter().try_for_each(|piece| pair.say(piece))?;
        // What comes to rest here shows what state the last piece has left behind.
        pair.say(b"\n{\"execute\": \"query-status\"}\n")
    });
    Ok(said.err())
}
