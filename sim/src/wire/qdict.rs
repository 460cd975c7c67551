//! Values to bytes, as QEMU writes them.
//!
//! `", "` and `": "`, ASCII only, and the members of an object in the order of QEMU's own hash table: 512
//! buckets, and in one bucket the member put in last comes first. So `{"return": .., "id": ..}`, but
//! `{"id": .., "error": ..}`. Checked against every line recorded from all four releases.
//!
//! The order is worked out anew for each object. Hashing a key takes about as long as copying it, and it keeps
//! the model free to build its replies in whatever order reads best.

use serde_json::{Map, Number, Value};

use super::{INFINITY, text::is_noncharacter};
use crate::{
    qobject::{QDict, QObject, bucket},
    release::Release,
};

/// Writes a value behind what is in `out`. The release decides how floats look.
pub fn write(out: &mut Vec<u8>, value: &Value, release: Release) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(out, number, release),
        Value::String(text) => write_text(out, text),
        Value::Array(elements) => {
            out.push(b'[');
            for (place, element) in elements.iter().enumerate() {
                if place > 0 {
                    out.extend_from_slice(b", ");
                }
                write(out, element, release);
            }
            out.push(b']');
        }
        Value::Object(members) => write_object(out, members, release),
    }
}

/// Writes an object behind what is in `out`.
pub fn write_object(out: &mut Vec<u8>, members: &Map<String, Value>, release: Release) {
    // The order must not cost an allocation for each of the hundred small objects of a large reply.
    const FEW: usize = 16;
    static NOTHING: Value = Value::Null;
    let mut few = [(0, 0, "", &NOTHING); FEW];
    let mut many;
    let order = if members.len() <= FEW {
        &mut few[..members.len()]
    } else {
        many = vec![(0, 0, "", &NOTHING); members.len()];
        &mut many[..]
    };
    for (place, (slot, (key, value))) in order.iter_mut().zip(members).enumerate() {
        *slot = (bucket(key), members.len() - place, key.as_str(), value);
    }
    order.sort_unstable_by_key(|&(bucket, from_behind, ..)| (bucket, from_behind));

    out.push(b'{');
    for (written, &(_, _, key, value)) in order.iter().enumerate() {
        if written > 0 {
            out.extend_from_slice(b", ");
        }
        write_text(out, key);
        out.extend_from_slice(b": ");
        write(out, value, release);
    }
    out.push(b'}');
}

/// Writes what QEMU says behind what is in `out`.
pub fn write_qobject(out: &mut Vec<u8>, object: &QObject) {
    match object {
        QObject::Bool(true) => out.extend_from_slice(b"true"),
        QObject::Bool(false) => out.extend_from_slice(b"false"),
        QObject::MinusOne => out.extend_from_slice(b"-1"),
        QObject::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
        QObject::Text(text) => write_text(out, text),
        QObject::List(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.extend_from_slice(b", ");
                }
                write_qobject(out, item);
            }
            out.push(b']');
        }
        QObject::Dict(dict) => write_dict(out, dict),
        QObject::Written(text) => out.extend_from_slice(text.as_bytes()),
    }
}

/// Writes a dictionary that QEMU says behind what is in `out`.
pub fn write_dict(out: &mut Vec<u8>, dict: &QDict) {
    // More than the statistics of a node have; an order on the stack costs nothing.
    const MANY: usize = 40;
    let members = dict.members();
    assert!(members.len() <= MANY, "a dictionary of {} members", members.len());
    let mut order = [(0, 0_u16); MANY];
    let order = &mut order[..members.len()];
    for ((slot, (key, _)), from_behind) in order.iter_mut().zip(members.iter().rev()).zip(0..) {
        *slot = (key.bucket, from_behind);
    }
    order.sort_unstable();

    out.push(b'{');
    for (written, &(_, from_behind)) in order.iter().enumerate() {
        let (key, value) = &members[members.len() - 1 - usize::from(from_behind)];
        if written > 0 {
            out.extend_from_slice(b", ");
        }
        out.push(b'"');
        out.extend_from_slice(key.name.as_bytes());
        out.extend_from_slice(b"\": ");
        write_qobject(out, value);
    }
    out.push(b'}');
}

/// The members of what QEMU says, in the order in which it comes by them.
pub(crate) fn members_in_order(dict: &QDict) -> Vec<(&'static str, &QObject)> {
    let mut members: Vec<_> = dict.members().iter().rev().collect();
    members.sort_by_key(|(key, _)| key.bucket);
    members.into_iter().map(|(key, value)| (key.name, value)).collect()
}

/// The members in the order in which QEMU comes by them.
pub fn in_order(members: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = members.iter().rev().collect();
    members.sort_by_key(|(key, _)| bucket(key));
    members
}

/// Writes a text in its quotes.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    out.push(b'"');
    let mut rest = text;
    // Nearly all texts are plain throughout, and copied as they are.
    while let Some(plain) = rest.bytes().position(|byte| !is_plain(byte)) {
        out.extend_from_slice(&rest.as_bytes()[..plain]);
        let mut characters = rest[plain..].chars();
        characters.next().into_iter().for_each(|character| write_escaped(out, character));
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, character: char) {
    let short = match character {
        '"' => b'"',
        '\\' => b'\\',
        '\u{8}' => b'b',
        '\u{C}' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ => {
            let shown = if is_noncharacter(character.into()) { '\u{FFFD}' } else { character };
            for unit in shown.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(format!("\\u{unit:04X}").as_bytes());
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn write_number(out: &mut Vec<u8>, number: &Number, release: Release) {
    let text = match number.as_f64() {
        Some(INFINITY) => "inf".into(),
        Some(float) if float == -INFINITY => "-inf".into(),
        Some(float) if number.is_f64() && release < Release::V7_2 => six_decimals(float),
        Some(float) if number.is_f64() => seventeen_digits(float),
        _ => number.to_string(),
    };
    out.extend_from_slice(text.as_bytes());
}

/// C's `%f` without what trails: how 5.2 writes a float.
fn six_decimals(float: f64) -> String {
    without_trailing_zeros(&format!("{float:.6}")).into()
}

/// C's `%.17g`: how later releases do.
fn seventeen_digits(float: f64) -> String {
    const DIGITS: i32 = 17;
    let scientific = format!("{float:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("Rust writes an exponent when asked to");
    let exponent: i32 = exponent.parse().expect("and it is a number");
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent) as usize;
        without_trailing_zeros(&format!("{float:.decimals$}")).into()
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", without_trailing_zeros(mantissa), exponent.abs())
    }
}

fn without_trailing_zeros(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}
