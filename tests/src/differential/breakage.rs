//! A client that breaks every rule of the protocol: what a real QEMU gives it, the simulator gives it, byte for byte.
//!
//! Pieces of bytes are said to both, one after the other, so that a command comes in several writes and several come in
//! one. Nothing is hidden from the comparison: 11.1 tells in which line and column it stopped understanding.

use std::error::Error;

use freezeframe::{
    fidelity::{known::Known, recording::Recording},
    world::qemu::Binary,
};
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::{Index, select},
    strategy::BoxedStrategy,
    test_runner::{TestCaseError, TestError, TestRunner},
};
use tokio::runtime::Builder;

use super::{
    campaign::{config, rng},
    model,
    pair::{Compared, Failure, Pair},
    server::{Program, Server},
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

/// Says so and so many pieces to both; how many connections that took, and the differences.
///
/// # Errors
/// When QEMU cannot be started.
pub fn play(binary: &Binary, pieces: usize, seed: u64) -> Result<(usize, Vec<String>), Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let machine = model::machine(Program::Machine);
    let connections = pieces.div_ceil(LENGTH);
    let mut found = Vec::new();
    for number in 0..connections {
        let mut runner = TestRunner::new_with_rng(config(), rng(seed, number as u64));
        let played = runner.run(&vec(piece(), LENGTH), |pieces| {
            let failed = |failure: Failure| TestCaseError::fail(failure.to_string());
            let real = Server::start(Program::Machine, binary, &machine, &runtime);
            let real = real.map_err(|error| TestCaseError::reject(error.to_string()))?;
            let mut known = Known::default();
            let (arguments, lines) = (Program::Machine.name().to_owned(), Vec::new());
            let about = Recording { release: binary.release, name: "bytes".to_owned(), arguments, lines };
            let mut pair =
                Pair::new(Box::new(real), &machine, about, Compared::Bytes, &mut known).map_err(failed)?;
            pieces.iter().try_for_each(|piece| pair.say(piece)).map_err(failed)?;
            // What comes to rest here shows what state the last piece has left behind.
            pair.say(b"\n{\"execute\": \"query-status\"}\n").map_err(failed)
        });
        match played {
            Ok(()) => {}
            Err(TestError::Fail(reason, pieces)) => {
                let told = pieces.concat().escape_ascii().to_string();
                found.push(format!("{reason}\n  after all of: {told}"));
            }
            Err(TestError::Abort(reason)) => return Err(reason.to_string().into()),
        }
    }
    Ok((connections, found))
}
