//! What stands between quotes: UTF-8 and escapes.
//!
//! QEMU's rules are its own. Both quotes may be escaped in either kind of string, U+0000 may be written as the
//! two bytes C0 80, and the code points that Unicode keeps for itself (U+FFFE, U+FDD0 ...) are refused.

/// The text of a string token, both quotes included; or what QEMU finds wrong with it.
pub(super) fn decode(token: &[u8]) -> Result<String, String> {
    let inner = &token[1..token.len() - 1];
    if inner.is_ascii() && !inner.contains(&b'\\') {
        return Ok(String::from_utf8(inner.to_vec()).expect("ASCII is UTF-8"));
    }
    let mut decoded = String::with_capacity(inner.len());
    // The closing quote stays: QEMU shows it when an escape runs into it.
    let mut rest = &token[1..];
    while rest.len() > 1 {
        let (character, length) = match rest {
            [b'\\', b'u', ..] => unicode_escape(rest)?,
            [b'\\', escaped, ..] => (simple_escape(*escaped).ok_or("invalid escape sequence in string")?, 2),
            _ => raw(rest).ok_or("invalid UTF-8 sequence in string")?,
        };
        decoded.push(character);
        rest = &rest[length..];
    }
    Ok(decoded)
}

/// Whether Unicode keeps this code point for the inside of programs.
pub(super) fn is_noncharacter(code: u32) -> bool {
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Bytes as QEMU shows them in its texts: U+FFFD stands for each sequence that has the form of a character, whole or cut
/// short, and is none. A standard reader would say it for each byte of some of them.
pub(super) fn show(shown: &mut String, bytes: &[u8]) {
    shown.reserve(bytes.len());
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let length = match first {
            0..0xC0 | 0xFE.. => 1,
            _ => first.leading_ones() as usize,
        };
        let whole =
            rest.iter().skip(1).take(length - 1).take_while(|byte| (0x80..0xC0).contains(*byte)).count() + 1;
        let character = std::str::from_utf8(&rest[..whole]).ok().and_then(|text| text.chars().next());
        let character = character.filter(|character| !is_noncharacter(u32::from(*character)));
        let nul = (rest[..whole] == [0xC0, 0x80]).then_some('\0');
        shown.push(nul.or(character).unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = &rest[whole..];
    }
}

fn simple_escape(escaped: u8) -> Option<char> {
    Some(match escaped {
        b'"' | b'\'' | b'\\' | b'/' => char::from(escaped),
        b'b' => '\u{8}',
        b'f' => '\u{C}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}

/// `\uXXXX`, or two of them that are a surrogate pair.
fn unicode_escape(rest: &[u8]) -> Result<(char, usize), String> {
    let shown = |length: usize| {
        let mut error = String::new();
        show(&mut error, &rest[..length.min(rest.len())]);
        error.push_str(" is not a valid Unicode character");
        Err(error)
    };
    let Some(high) = hex(rest) else { return shown(6) };
    let low = if (0xD800..0xDC00).contains(&high) { hex(&rest[6..]) } else { None };
    let (code, length) = match low {
        Some(low @ 0xDC00..0xE000) => (0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12),
        _ => (high, 6),
    };
    match char::from_u32(code) {
        Some(character) if !is_noncharacter(code) => Ok((character, length)),
        _ => shown(length),
    }
}

/// The number in `\uXXXX` at the front.
fn hex(rest: &[u8]) -> Option<u32> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |code, &digit| Some(code * 16 + char::from(digit).to_digit(16)?))
}

/// One character that stands for itself, and its length in bytes.
fn raw(rest: &[u8]) -> Option<(char, usize)> {
    let length = match rest[0] {
        0xC0 if rest[1] == 0x80 => return Some(('\0', 2)),
        0..0x80 => 1,
        0xC2..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    };
    let character = std::str::from_utf8(rest.get(..length)?).ok()?.chars().next()?;
    (!is_noncharacter(character.into())).then_some((character, length))
}
