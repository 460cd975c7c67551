//! The members of one message, found without reading what is in them.
//!
//! Some replies have many thousands of bytes, and who asked for them reads them anyway. So brackets and quotes are counted
//! here, no more; whether a payload is sound is found by who reads it.

use memchr::memchr2;

/// Every member that a message can have, as it stands in the line; which are there tells what it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope<'l> {
    /// `QMP`
    pub(super) greeting: Option<&'l str>,
    /// `return`
    pub(super) returned: Option<&'l str>,
    pub(super) error: Option<&'l str>,
    pub(super) event: Option<&'l str>,
    pub(super) data: Option<&'l str>,
    pub(super) timestamp: Option<&'l str>,
    pub(super) id: Option<&'l str>,
}

impl<'l> Envelope<'l> {
    /// Takes a line apart; none if it is no object, or has a member twice.
    pub(super) fn open(line: &'l [u8]) -> Option<Self> {
        let mut envelope = Self::default();
        let mut rest = std::str::from_utf8(line).ok()?.trim_ascii().strip_prefix('{')?.strip_suffix('}')?;
        loop {
            let (name, after) = split_value(rest)?;
            let (value, after) = split_value(after.trim_ascii_start().strip_prefix(':')?)?;
            let member = match name {
                r#""QMP""# => Some(&mut envelope.greeting),
                r#""return""# => Some(&mut envelope.returned),
                r#""error""# => Some(&mut envelope.error),
                r#""event""# => Some(&mut envelope.event),
                r#""data""# => Some(&mut envelope.data),
                r#""timestamp""# => Some(&mut envelope.timestamp),
                r#""id""# => Some(&mut envelope.id),
                _ => None,
            };
            if member.is_some_and(|member| member.replace(value).is_some()) {
                return None;
            }
            let after = after.trim_ascii_start();
            if after.is_empty() {
                return Some(envelope);
            }
            rest = after.strip_prefix(',')?;
        }
    }
}

/// The value at the front, and what is behind it.
fn split_value(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_ascii_start();
    let end = match text.as_bytes().first()? {
        b'"' => end_of_string(text.as_bytes(), 1)?,
        b'{' | b'[' => end_of_brackets(text.as_bytes())?,
        _ => text.find([',', ':', ' ', '\t', '{', '[', '}', ']', '"']).unwrap_or(text.len()),
    };
    (end > 0).then(|| text.split_at(end))
}

/// Where what is opened by the first byte is closed again.
fn end_of_brackets(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        match byte {
            b'"' => at = end_of_string(bytes, at)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
}

/// Where a string ends whose inside begins at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        // Whatever is escaped does not end it.
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_in_any_order_and_with_any_blanks() {
        let line = br#" { "id":"a#1" , "return" : [{"a": "]}\""}, [] ], "other": -1.5e3 } "#;
        let envelope = Envelope::open(line);
        let returned = r#"[{"a": "]}\""}, [] ]"#;
        assert_eq!(
            envelope,
            Some(Envelope { id: Some(r#""a#1""#), returned: Some(returned), ..Envelope::default() })
        );
    }

    #[test]
    fn what_is_no_object_is_no_message() {
        let lines = [
            "",
            "{",
            "}",
            "{}",
            "[]",
            "{\"return\"}",
            "{\"return\": }",
            "{\"return\": {}",
            "{\"return\": {]}, }",
            "{\"return\": \"}",
            "{\"return\": \"\\\"}",
            "{\"return\": 1 2}",
            "{\"return\": {}} {}",
            "{\"return\": {}, \"return\": {}}",
            "{\"return\": {} \"id\": 1}",
        ];
        for line in lines {
            assert_eq!(Envelope::open(line.as_bytes()), None, "{line}");
        }
        assert_eq!(Envelope::open(b"{\"return\": \"\xFF\"}"), None, "not UTF-8");
    }
}
