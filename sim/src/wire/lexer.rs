//! Bytes to tokens.
//!
//! ```text
//!            quote           \             any
//!   start ----------> string ---> escape ------> string ...
//!         --- 1-9 --> digits -- . --> point --> fraction -- e --> exponent -> sign -> digits
//!         --- 0 ----> zero   -- . --> point ...        (no digit, no exponent may follow a 0)
//!         --- - ----> minus  -> zero | digits
//!         --- a-z --> keyword
//!   any   -- a byte that fits nowhere --> recovery -- { } [ ] : , or a control byte but a tab --> start
//! ```
//!
//! It does not judge what is in a token, only where it ends; one of more than 64 MiB is cut off there, and what follows
//! begins a new one. A number or a keyword is known to have ended by
//! the byte behind it, which is then looked at again; so the last one on a connection needs a byte more.
//!
//! Source: recorded errors of all releases (`proto-errors`) and further inputs tried on the same binaries.

/// How long a token may be, and how much room is kept for the next one, both in bytes.
pub(super) const MAX_TOKEN: usize = 64 << 20;
const ROOM: usize = 64 << 10;

/// Where a byte stands on its connection, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u32,
    pub(super) column: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    OpenObject,
    CloseObject,
    OpenArray,
    CloseArray,
    Colon,
    Comma,
    Integer,
    Float,
    Keyword,
    String,
    /// Bytes that are no token, up to and with the one that made it so.
    Stray,
    /// The beginning of a token that does not end.
    Endless,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    /// The bytes of the token, quotes included.
    pub(super) text: &'a [u8],
    pub(super) start: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Recovery,
    String { quote: u8 },
    Escape { quote: u8 },
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    Keyword,
}

/// What one byte does in one state.
enum Step {
    /// It belongs to the token at hand.
    Take(State),
    /// It ends the token and belongs to it.
    Last(Kind),
    /// It shows that the token has ended before it, and is looked at again.
    Behind(Kind),
    /// It belongs to nothing.
    Skip,
    /// It ends the recovery, and is looked at again.
    Recovered,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lexer {
    state: State,
    /// What the token at hand has so far.
    text: Vec<u8>,
    /// Where the token at hand began.
    start: Position,
    /// Where the next byte stands.
    here: Position,
}

impl Default for Lexer {
    fn default() -> Self {
        let first = Position { line: 1, column: 1 };
        Self { state: State::Start, text: Vec::new(), start: first, here: first }
    }
}

impl Lexer {
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Token<'_>)) {
        while let Some((&byte, rest)) = bytes.split_first() {
            let plain = match self.state {
                State::String { quote } => plain_run(bytes, quote).min(MAX_TOKEN - self.text.len()),
                _ => 0,
            };
            if plain > 0 {
                // Most of what clients send is inside of quotes: taken in one go.
                self.text.extend_from_slice(&bytes[..plain]);
                self.here.column += plain as u32;
                bytes = &bytes[plain..];
            } else {
                self.feed_byte(byte, &mut each);
                bytes = rest;
            }
        }
    }

    fn feed_byte(&mut self, byte: u8, each: &mut impl FnMut(Token<'_>)) {
        if self.state == State::Start {
            self.start = self.here;
        }
        self.here = match byte {
            b'\n' => Position { line: self.here.line + 1, column: 1 },
            _ => Position { line: self.here.line, column: self.here.column + 1 },
        };
        loop {
            match step(self.state, byte) {
                Step::Take(state) => {
                    self.text.push(byte);
                    self.state = state;
                    if self.text.len() > MAX_TOKEN {
                        self.finish(Kind::Endless, each);
                    }
                    return;
                }
                Step::Last(kind) => {
                    self.text.push(byte);
                    self.finish(kind, each);
                    return;
                }
                Step::Skip => return,
                // 11.1 has by now stepped over the byte that it looks at again, so a token that begins with
                // it is reported one column too far to the right.
                Step::Behind(kind) => {
                    self.finish(kind, each);
                    self.start = self.here;
                }
                Step::Recovered => {
                    self.state = State::Start;
                    self.start = self.here;
                }
            }
        }
    }

    fn finish(&mut self, kind: Kind, each: &mut impl FnMut(Token<'_>)) {
        each(Token { kind, text: &self.text, start: self.start });
        self.text.clear();
        self.text.shrink_to(ROOM);
        self.state = if kind == Kind::Stray { State::Recovery } else { State::Start };
    }
}

/// How many bytes at the front stand for themselves inside of these quotes.
fn plain_run(bytes: &[u8], quote: u8) -> usize {
    let plain = |&byte: &u8| (0x20..=0xFD).contains(&byte) && byte != b'\\' && byte != quote;
    bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len())
}

fn step(state: State, byte: u8) -> Step {
    use State as S;
    match (state, byte) {
        (S::Start, _) => start(byte),

        (S::Recovery, 0..=8 | 10..0x20 | b'{' | b'}' | b'[' | b']' | b':' | b',' | 0xFE..) => Step::Recovered,
        (S::Recovery, _) => Step::Skip,

        (S::String { quote }, _) if byte == quote => Step::Last(Kind::String),
        (S::String { quote }, b'\\') => Step::Take(S::Escape { quote }),
        (S::String { quote } | S::Escape { quote }, 0x20..=0xFD) => Step::Take(S::String { quote }),

        (S::Minus, b'0') => Step::Take(S::Zero),
        (S::Minus, b'1'..=b'9') => Step::Take(S::Digits),
        (S::Zero | S::Digits, b'.') => Step::Take(S::Point),
        (S::Digits, b'0'..=b'9') => Step::Take(S::Digits),
        (S::Point | S::Fraction, b'0'..=b'9') => Step::Take(S::Fraction),
        (S::Digits | S::Fraction, b'e' | b'E') => Step::Take(S::Exponent),
        (S::Exponent, b'+' | b'-') => Step::Take(S::ExponentSign),
        (S::Exponent | S::ExponentSign | S::ExponentDigits, b'0'..=b'9') => Step::Take(S::ExponentDigits),
        (S::Zero, b'0'..=b'9') => Step::Last(Kind::Stray),
        (S::Zero | S::Digits, _) => Step::Behind(Kind::Integer),
        (S::Fraction | S::ExponentDigits, _) => Step::Behind(Kind::Float),

        (S::Keyword, b'a'..=b'z') => Step::Take(S::Keyword),
        (S::Keyword, _) => Step::Behind(Kind::Keyword),

        (S::String { .. } | S::Escape { .. } | S::Minus | S::Point | S::Exponent | S::ExponentSign, _) => {
            Step::Last(Kind::Stray)
        }
    }
}

fn start(byte: u8) -> Step {
    match byte {
        b'"' | b'\'' => Step::Take(State::String { quote: byte }),
        b'{' => Step::Last(Kind::OpenObject),
        b'}' => Step::Last(Kind::CloseObject),
        b'[' => Step::Last(Kind::OpenArray),
        b']' => Step::Last(Kind::CloseArray),
        b':' => Step::Last(Kind::Colon),
        b',' => Step::Last(Kind::Comma),
        b'-' => Step::Take(State::Minus),
        b'0' => Step::Take(State::Zero),
        b'1'..=b'9' => Step::Take(State::Digits),
        b'a'..=b'z' => Step::Take(State::Keyword),
        b' ' | b'\t' | b'\r' | b'\n' => Step::Skip,
        _ => Step::Last(Kind::Stray),
    }
}
