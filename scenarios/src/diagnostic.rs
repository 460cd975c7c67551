//! What is wrong with a file, and where: found by span, shown by line and column with the source.
//!
//! ```text
//! error: no disk `vdc` in this machine
//!   scenarios/suite/external/two-disks.toml:19:7
//!    |
//! 19 | chain.vdc = ["vdc.qcow2"]
//!    |       ^^^ disks are: vda, vdb
//! ```
//!
//! A file may come from a stranger: characters that a terminal would obey are shown as `�`, of a long line
//! only the surroundings of the mistake are shown, and past the fiftieth mistake they are only counted.

use std::{
    fmt::{self, Write},
    ops::Range,
};

use camino::{Utf8Path, Utf8PathBuf};

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its line, counted from 1.
    pub line: usize,
    /// Its column in characters, counted from 1.
    pub column: usize,
    /// Its place in bytes from the start of the file.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// The mistakes of one file, in the order of the file: the first fifty, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    file: Utf8PathBuf,
    placed: Vec<(Diagnostic, Excerpt)>,
    more: usize,
}

impl std::error::Error for Diagnostics {}

/// A mistake that a pass has found, before its line and column are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Found {
    /// An empty help is none.
    pub(crate) fn new(span: Range<usize>, message: String, help: String) -> Self {
        Found { span, message, help: Some(help).filter(|help| !help.is_empty()) }
    }
}

impl From<&toml::de::Error> for Found {
    fn from(error: &toml::de::Error) -> Self {
        Found { span: error.span().unwrap_or(0..0), message: error.message().into(), help: None }
    }
}

/// How many mistakes are kept: more than anyone reads.
const KEPT_MAX: usize = 50;
/// How many characters of a source line are shown.
const LINE_CHARS_MAX: usize = 160;
/// How many characters stand before the mistake where the start of its line is not shown.
const LEAD_CHARS: usize = 60;
/// How many characters of a message or a help are shown.
const TEXT_CHARS_MAX: usize = 600;

impl Diagnostics {
    pub(crate) fn new(file: &Utf8Path, text: &str, mut found: Vec<Found>) -> Self {
        found.sort_by_key(|found| (found.span.start, found.span.end));
        let more = found.len().saturating_sub(KEPT_MAX);
        found.truncate(KEPT_MAX);
        let placed = found.into_iter().map(|found| place(text, found)).collect();
        Diagnostics { file: file.into(), placed, more }
    }

    /// The one mistake of a file whose reader tells line and column, both from 1; what is marked is the word there.
    pub(crate) fn at(file: &Utf8Path, text: &str, (line, column): (usize, usize), message: String) -> Self {
        let line_start = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
        let line = text[line_start..].lines().next().unwrap_or_default();
        let start = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
        let width = line[start..].find([' ', '>']).unwrap_or(line.len() - start);
        let span = line_start + start..line_start + start + width;
        Self::new(file, text, vec![Found { span, message, help: None }])
    }

    /// The file that is wrong.
    pub fn file(&self) -> &Utf8Path {
        &self.file
    }

    /// The mistakes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.placed.iter().map(|(diagnostic, _)| diagnostic)
    }

    /// How many mistakes there are beyond those that [`Diagnostics::iter`] gives.
    pub fn more(&self) -> usize {
        self.more
    }

    /// The text for a terminal that shows colours. `to_string()` gives the same without them.
    pub fn coloured(&self) -> String {
        let mut out = String::new();
        self.render(&mut out, &Paint { mark: "\x1b[1;31m", rule: "\x1b[34m", off: "\x1b[0m" })
            .expect("a String takes all that is written");
        out
    }

    fn render(&self, out: &mut dyn Write, paint: &Paint) -> fmt::Result {
        let file = printable(self.file.as_str());
        let Paint { mark, rule, off } = paint;
        for (index, (diagnostic, excerpt)) in self.placed.iter().enumerate() {
            let Diagnostic { line, column, message, help, .. } = diagnostic;
            let gutter = line.to_string().len();
            let blank = if index > 0 { "\n" } else { "" };
            writeln!(out, "{blank}{mark}error{off}: {}", printable(&clipped(message)))?;
            writeln!(out, "  {file}:{line}:{column}")?;
            writeln!(out, "{:gutter$} {rule}|{off}", "")?;
            writeln!(out, "{rule}{line} |{off} {}", excerpt.line)?;
            let carets = "^".repeat(excerpt.width);
            write!(out, "{:gutter$} {rule}|{off} {}{mark}{carets}{off}", "", excerpt.lead)?;
            match help {
                Some(help) => writeln!(out, " {}", printable(&clipped(help)))?,
                None => writeln!(out)?,
            }
        }
        match self.more {
            0 => Ok(()),
            more => writeln!(out, "\nand {more} more in {file}"),
        }
    }
}

/// Plain text, without colours.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.render(f, &Paint { mark: "", rule: "", off: "" })
    }
}

/// The codes that switch colours on and off.
struct Paint {
    mark: &'static str,
    rule: &'static str,
    off: &'static str,
}

/// What of the source is shown for one mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    /// The line of the mistake, or the part of it around the mistake.
    line: String,
    /// The blanks that bring the mark under the mistake. Tabs stay tabs, however wide they are.
    lead: String,
    /// How many characters the mark is wide: to the end of the mistake, or of what is shown of its line.
    width: usize,
}

/// Gives a finding its line and column. A span outside the text, or inside a character, is moved to the
/// nearest place that exists: what is shown is then less exact, and nothing fails.
fn place(text: &str, found: Found) -> (Diagnostic, Excerpt) {
    let start = text.floor_char_boundary(found.span.start);
    let end = text.floor_char_boundary(found.span.end).max(start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let line = text[..start].matches('\n').count() + 1;
    let column = text[line_start..start].chars().count() + 1;
    let rest = text[start..line_end].trim_end_matches('\r');
    let excerpt = excerpt(&text[line_start..start], rest, text[start..end].chars().count());
    let Found { message, help, .. } = found;
    (Diagnostic { line, column, span: start..end, message, help }, excerpt)
}

/// Cuts out of a line what is before the mistake and the rest from there on. The mistake may end on a later
/// line: its width is cut to what is shown.
fn excerpt(before: &str, rest: &str, width: usize) -> Excerpt {
    let (mut lead, mut shown) = (before.to_owned(), rest.to_owned());
    if before.chars().count() + rest.chars().count() > LINE_CHARS_MAX {
        if let Some((start, _)) = before.char_indices().rev().nth(LEAD_CHARS) {
            lead = format!("…{}", before[start..].chars().skip(1).collect::<String>());
        }
        if let Some((end, _)) = rest.char_indices().nth(LINE_CHARS_MAX - LEAD_CHARS) {
            shown = format!("{}…", &rest[..end]);
        }
    }
    Excerpt {
        line: printable(&format!("{lead}{shown}")),
        lead: lead.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect(),
        width: width.min(shown.chars().count()).max(1),
    }
}

/// A text as short as it can be read: a key of a megabyte says no more than its start.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

/// Without the characters that would move a terminal's cursor, change its colours or turn its text round.
fn printable(text: &str) -> String {
    let obeyed = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if obeyed(c) { '�' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        let found = Found { span, message: "wrong".into(), help: Some("right".into()) };
        Diagnostics::new("a.toml".into(), text, vec![found]).to_string()
    }

    #[test]
    fn the_mark_stands_under_the_mistake() {
        assert_eq!(
            shown("a = 1\n\tbad = 2\n", 7..10),
            "error: wrong\n  a.toml:2:2\n  |\n2 | \tbad = 2\n  | \t^^^ right\n"
        );
    }

    #[test]
    fn columns_count_characters_and_not_bytes() {
        let text = "é = 'ü' # x";
        let at = text.find('#').unwrap();
        assert!(shown(text, at..at + 1).contains("a.toml:1:9\n"));
    }

    #[test]
    fn a_mistake_over_several_lines_is_marked_to_the_end_of_its_first() {
        assert!(shown("a = '''\nx\n'''\n", 4..13).ends_with("1 | a = '''\n  |     ^^^ right\n"));
    }

    #[test]
    fn a_place_outside_the_text_is_moved_into_it() {
        assert!(shown("", 0..0).contains("a.toml:1:1\n"));
        assert!(shown("a\n", 900..1000).contains("a.toml:2:1\n"));
        assert!(shown("é", 1..1).contains("a.toml:1:1\n"));
    }

    #[test]
    fn of_a_long_line_only_the_surroundings_are_shown() {
        let text = format!("{}BAD{}", "x".repeat(1000), "y".repeat(1000));
        let shown = shown(&text, 1000..1003);
        assert!(shown.contains("a.toml:1:1001\n"), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() < 180), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let column = |line: &str, what: &str| line.find(what).map(|at| line[..at].chars().count());
        assert_eq!(column(lines[3], "BAD"), column(lines[4], "^^^ "));
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_sent_to_it() {
        let shown = shown("a = \"\x1b[2J\u{202e}\"\n", 0..1);
        assert!(!shown.contains('\x1b') && !shown.contains('\u{202e}'), "{shown:?}");
    }

    #[test]
    fn past_the_fiftieth_mistakes_are_counted() {
        let found = (0..60).map(|at| Found { span: at..at, message: "wrong".into(), help: None });
        let diagnostics = Diagnostics::new("a.toml".into(), &"\n".repeat(60), found.collect());
        assert_eq!((diagnostics.iter().count(), diagnostics.more()), (50, 10));
        assert!(diagnostics.to_string().ends_with("\nand 10 more in a.toml\n"));
    }

    #[test]
    fn colours_come_only_when_asked_for() {
        let found = vec![Found { span: 0..1, message: "wrong".into(), help: None }];
        let diagnostics = Diagnostics::new("a.toml".into(), "a", found);
        assert!(!diagnostics.to_string().contains('\x1b'));
        assert!(diagnostics.coloured().contains("\x1b[1;31merror"));
    }
}
