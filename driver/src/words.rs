//! Words from outside, of a guest, of QEMU or of a tool, as they may be shown: on one line, and with nothing that a terminal obeys.
//!
//! They end up in errors and reports, and these on terminals and in logs. An escape would clear what was said before, and a
//! line of their own would be taken for one of ours: so they are made harmless where they come in. Some are written into records too,
//! which must be read again: so they come to an end.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// The words, with control characters written out: `\n`, `\u{1b}`; and those that turn a line around or end it.
pub(crate) fn plain(words: &str) -> String {
    let is_obeyed = |character: char| {
        character.is_control()
            || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    let mut shown = String::with_capacity(words.len());
    for character in words.chars() {
        match is_obeyed(character) {
            true => shown.extend(character.escape_debug()),
            false => shown.push(character),
        }
    }
    shown
}

/// How much is shown of an error that may repeat what was said, in characters.
const SHOWN: usize = 300;

/// What is wrong with something that was said, as a parser tells it: it may repeat a part of that, of whatever length.
pub(crate) fn of_error(error: &impl fmt::Display) -> String {
    cut(plain(&error.to_string()), SHOWN)
}

/// How much is taken of a text from outside, in characters: more than anybody has to say.
const TAKEN: usize = 4096;

/// At most so many characters of words, and that there are more.
pub(crate) fn cut(words: String, most: usize) -> String {
    match words.char_indices().nth(most) {
        Some((end, _)) => format!("{} ...", &words[..end]),
        None => words,
    }
}

/// Reads a text as [`plain`] shows it, as far as anybody would read it.
///
/// # Errors
/// Those of `from`.
pub(crate) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(cut(plain(&String::deserialize(from)?), TAKEN))
}

/// Reads a text that may be missing as [`plain`] shows it.
///
/// # Errors
/// Those of `from`.
pub(crate) fn maybe<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(|words| cut(plain(&words), TAKEN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::QmpError;

    #[test]
    fn nothing_of_them_is_obeyed_and_all_of_it_is_shown() {
        assert_eq!(plain("\u{1b}[2J\u{7}no\r\nsnapshot s1 taken"), r"\u{1b}[2J\u{7}no\r\nsnapshot s1 taken");
        assert_eq!(plain("a\u{202e}b\u{2028}c\u{9b}d\te"), r"a\u{202e}b\u{2028}c\u{9b}d\te");
        assert_eq!(plain("»é\\ 'x'"), "»é\\ 'x'");
    }

    #[test]
    fn an_error_that_repeats_what_was_said_obeys_nothing_either_and_comes_to_an_end() {
        #[derive(Debug, Deserialize)]
        enum Status {}
        let told = |said: &str| of_error(&serde_json::from_value::<Status>(said.into()).unwrap_err());
        let forged = told("x`\r\u{1b}[2Ktaken\nerror: forged");
        assert!(forged.contains(r"x`\r\u{1b}[2Ktaken\nerror: forged`"), "{forged}");
        assert!(told(&"x".repeat(1 << 20)).len() < 400);
    }

    #[test]
    fn an_error_from_outside_is_read_so() {
        let error: QmpError = serde_json::from_str(r#"{"class": "a\u001b[31m", "desc": "x\ny"}"#).unwrap();
        assert_eq!((error.class.as_str(), error.desc.as_str()), (r"a\u{1b}[31m", r"x\ny"));
        let flood = format!(r#"{{"class": "a", "desc": "{}"}}"#, "&".repeat(1_000_000));
        let error: QmpError = serde_json::from_str(&flood).unwrap();
        assert!(
            error.desc.ends_with("& ...") && error.desc.len() < 5000,
            "what is written down is read again"
        );
    }
}
