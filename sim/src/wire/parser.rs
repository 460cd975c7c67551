//! Tokens to messages.
//!
//! A message ends where its brackets balance, never at a newline. What is wrong in it is told once: the
//! releases up to 10.0 look at a message when it has ended; 11.1 looks at each token as it comes, complains at
//! once with the place of the token, and drops what follows up to the balance.
//!
//! ```text
//!   reading -- balanced --> a message, or (up to 10.0) the first error in it
//!           -- an error --> 11.1: told at once, then dropping -- balanced --> reading
//!   reading -- stray bytes, or up to 10.0 a limit --> told at once, all forgotten --> reading
//!   dropping -- stray bytes --> reading
//! ```
//!
//! Limits: nesting 1024, 2 Mi tokens and 64 MiB of token text a message. Source: QEMU's texts as recorded in
//! `proto-errors`, and what the same binaries answered to further inputs.

use serde_json::{Map, Number, Value};

use super::INFINITY;
use super::{
    Incoming,
    lexer::{Kind, MAX_TOKEN, Token},
    text,
};
use crate::release::Release;

const MAX_NESTING: i64 = 1024;

/// Bytes of what is told about a mistake.
const MAX_ERROR: usize = 1023;
const MAX_TOKENS: usize = 2 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parser {
    /// 11.1 and later: errors are told at once and with their place.
    prompt: bool,
    message: Progress,
}

/// How far the message at hand is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Progress {
    open: Vec<Open>,
    expect: Expect,
    braces: i64,
    brackets: i64,
    tokens: usize,
    token_bytes: usize,
    /// The value, once it is complete.
    value: Option<Value>,
    /// What was first found wrong, until it is told.
    error: Option<String>,
    /// Something was found wrong: what follows is counted, not read.
    broken: bool,
}

/// What has been opened and not closed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    Array(Vec<Value>),
    Object {
        members: Map<String, Value>,
        key: String,
    },
    /// Up to 10.0: a value where a key belongs, which is read to its end before that is told.
    NoKey,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Expect {
    #[default]
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

impl Parser {
    pub(super) fn new(release: Release) -> Self {
        Self { prompt: release >= Release::V11_1, message: Progress::default() }
    }

    /// Takes in one token, and gives what is told because of it.
    pub(super) fn push(&mut self, token: &Token<'_>) -> Option<Incoming> {
        if token.kind == Kind::Stray {
            let dropped = std::mem::take(&mut self.message);
            if self.prompt && dropped.broken {
                return None;
            }
            return Some(Incoming::Error(self.stray(token)));
        }
        let limit = self.message.count(token);
        // Up to 10.0 a message is parsed when it is whole; until then only the limits count.
        if self.message.broken && (self.prompt || limit.is_none()) {
            return self.end_if_balanced();
        }
        if let Some(limit) = limit {
            self.message.broken = true;
            if !self.prompt || self.message.balanced() {
                self.message = Progress::default();
            }
            return Some(Incoming::Error(limit.into()));
        }
        if let Err(mut error) = self.message.read(token, self.prompt) {
            cut(&mut error);
            self.message.broken = true;
            self.message.error = Some(self.located(token, &error));
        }
        if self.prompt && self.message.broken {
            let told = self.message.error.take().map(Incoming::Error);
            self.end_if_balanced();
            return told;
        }
        self.end_if_balanced()
    }

    fn end_if_balanced(&mut self) -> Option<Incoming> {
        if !self.message.balanced() {
            return None;
        }
        let ended = std::mem::take(&mut self.message);
        match ended.error {
            Some(error) => Some(Incoming::Error(error)),
            None => ended.value.map(Incoming::Message),
        }
    }

    fn stray(&self, token: &Token<'_>) -> String {
        let mut error = self.located(token, "stray '");
        let text = token.text.split(|&byte| byte == 0).next().unwrap_or_default();
        let room = if self.prompt { MAX_ERROR - "stray '".len() } else { usize::MAX };
        text::show(&mut error, &text[..text.len().min(room)]);
        if text.len() < room {
            error.push('\'');
        }
        error
    }

    fn located(&self, token: &Token<'_>, error: &str) -> String {
        if self.prompt {
            format!("{}:{}: JSON parse error, {error}", token.start.line, token.start.column)
        } else {
            format!("JSON parse error, {error}")
        }
    }
}

impl Progress {
    fn balanced(&self) -> bool {
        (self.braces <= 0 && self.brackets <= 0) || self.braces < 0 || self.brackets < 0
    }

    /// Counts a token, and names the limit that it breaks.
    fn count(&mut self, token: &Token<'_>) -> Option<&'static str> {
        match token.kind {
            Kind::OpenObject => self.braces += 1,
            Kind::CloseObject => self.braces -= 1,
            Kind::OpenArray => self.brackets += 1,
            Kind::CloseArray => self.brackets -= 1,
            _ => {}
        }
        self.tokens += 1;
        self.token_bytes += token.text.len();
        if self.token_bytes >= MAX_TOKEN {
            Some("JSON token size limit exceeded")
        } else if self.tokens > MAX_TOKENS {
            Some("JSON token count limit exceeded")
        } else if self.braces + self.brackets > MAX_NESTING {
            Some("JSON nesting depth limit exceeded")
        } else {
            None
        }
    }

    fn read(&mut self, token: &Token<'_>, prompt: bool) -> Result<(), String> {
        match (self.expect, token.kind) {
            (Expect::Colon, Kind::Colon) => {
                self.expect = Expect::Value;
                Ok(())
            }
            (Expect::Colon, _) if prompt => Err("expecting ':'".into()),
            (Expect::Colon, _) => Err("missing : in object pair".into()),
            (Expect::CommaOrEnd, _) => self.read_after_value(token.kind, prompt),
            (Expect::KeyOrEnd, Kind::CloseObject) | (Expect::ValueOrEnd, Kind::CloseArray) => {
                self.close(prompt)
            }
            (Expect::Key | Expect::KeyOrEnd, Kind::String) => self.read_key(token),
            (Expect::Key | Expect::KeyOrEnd, _) if prompt => Err("expecting key".into()),
            (Expect::Key | Expect::KeyOrEnd, _) => {
                self.open.push(Open::NoKey);
                self.read_value(token, prompt)
            }
            (Expect::Value | Expect::ValueOrEnd, _) => self.read_value(token, prompt),
        }
    }

    fn read_key(&mut self, token: &Token<'_>) -> Result<(), String> {
        let decoded = text::decode(token.text)?;
        if let Some(Open::Object { key, .. }) = self.open.last_mut() {
            *key = decoded;
        }
        self.expect = Expect::Colon;
        Ok(())
    }

    fn read_value(&mut self, token: &Token<'_>, prompt: bool) -> Result<(), String> {
        let value = match token.kind {
            Kind::OpenObject => {
                self.open.push(Open::Object { members: Map::new(), key: String::new() });
                self.expect = Expect::KeyOrEnd;
                return Ok(());
            }
            Kind::OpenArray => {
                self.open.push(Open::Array(Vec::new()));
                self.expect = Expect::ValueOrEnd;
                return Ok(());
            }
            Kind::String => Value::String(text::decode(token.text)?),
            Kind::Integer => Value::Number(integer(token.text)),
            Kind::Float => Value::Number(float(token.text)),
            Kind::Keyword => keyword(token.text)?,
            _ => return Err("expecting value".into()),
        };
        self.complete(value, prompt)
    }

    fn read_after_value(&mut self, kind: Kind, prompt: bool) -> Result<(), String> {
        let in_object = matches!(self.open.last(), Some(Open::Object { .. }));
        match (kind, in_object) {
            (Kind::Comma, true) => self.expect = Expect::Key,
            (Kind::Comma, false) => self.expect = Expect::Value,
            (Kind::CloseObject, true) | (Kind::CloseArray, false) => return self.close(prompt),
            _ => {
                let text = match (prompt, in_object) {
                    (true, true) => "expected ',' or '}'",
                    (true, false) => "expected ',' or ']'",
                    (false, true) => "expected separator in dict",
                    (false, false) => "expected separator in list",
                };
                return Err(text.into());
            }
        }
        Ok(())
    }

    fn close(&mut self, prompt: bool) -> Result<(), String> {
        match self.open.pop() {
            Some(Open::Array(mut elements)) => {
                // A million small ones would take several times the room.
                elements.shrink_to_fit();
                self.complete(Value::Array(elements), prompt)
            }
            Some(Open::Object { members, .. }) => self.complete(Value::Object(members), prompt),
            Some(Open::NoKey) | None => unreachable!("nothing but an array or an object expects its end"),
        }
    }

    /// Puts a complete value where it belongs.
    fn complete(&mut self, complete: Value, prompt: bool) -> Result<(), String> {
        self.expect = Expect::CommaOrEnd;
        match self.open.last_mut() {
            None => self.value = Some(complete),
            Some(Open::Array(elements)) => elements.push(complete),
            Some(Open::Object { members, key }) => {
                if members.insert(std::mem::take(key), complete).is_some() {
                    return Err("duplicate key".into());
                }
            }
            Some(Open::NoKey) => {
                debug_assert!(!prompt, "11.1 complains about the token itself");
                return Err("key is not a string in object".into());
            }
        }
        Ok(())
    }
}

/// Cuts a text to what QEMU has room for.
fn cut(error: &mut String) {
    error.truncate(error.floor_char_boundary(MAX_ERROR));
}

fn keyword(word: &[u8]) -> Result<Value, String> {
    match word {
        b"true" => Ok(Value::Bool(true)),
        b"false" => Ok(Value::Bool(false)),
        b"null" => Ok(Value::Null),
        _ => Err(format!("invalid keyword '{}'", String::from_utf8_lossy(word))),
    }
}

/// An integer is 64 bits wide with a sign, or else without; one that fits neither is a float.
fn integer(digits: &[u8]) -> Number {
    let digits = String::from_utf8_lossy(digits);
    if let Ok(signed) = digits.parse::<i64>() {
        signed.into()
    } else if let Ok(unsigned) = digits.parse::<u64>() {
        unsigned.into()
    } else {
        float(digits.as_bytes())
    }
}

/// A float. QEMU holds one that is too large as infinity; here it is [`INFINITY`].
fn float(digits: &[u8]) -> Number {
    let value: f64 = String::from_utf8_lossy(digits).parse().unwrap_or_default();
    let value = if value.is_infinite() { INFINITY.copysign(value) } else { value };
    Number::from_f64(value).unwrap_or_else(|| 0.into())
}
