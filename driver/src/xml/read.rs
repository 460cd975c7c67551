//! Reads a document, within bounds.

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
};

use super::{Element, Node, Position};

/// How large a document may be in each dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in all.
    pub bytes: usize,
    /// Elements within elements.
    pub depth: usize,
    /// Elements, texts and comments together.
    pub nodes: usize,
    /// Attributes of one element.
    pub attributes: usize,
}

impl Default for Limits {
    /// As many bytes as libvirt takes as one text (4 MiB); a domain with a thousand disks needs a tenth of each.
    fn default() -> Self {
        Self { bytes: 4 << 20, depth: 128, nodes: 200_000, attributes: 256 }
    }
}

/// A document that cannot be read, and where that shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct Unreadable {
    /// Where.
    pub at: Position,
    /// Why.
    pub why: Why,
}

/// Why a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// More bytes than [`Limits::bytes`].
    #[error("the document is larger than {0} bytes")]
    TooLong(usize),
    /// Deeper than [`Limits::depth`].
    #[error("more than {0} elements within one another")]
    TooDeep(usize),
    /// More parts than [`Limits::nodes`].
    #[error("more than {0} elements and texts")]
    TooMany(usize),
    /// More than [`Limits::attributes`] at one element.
    #[error("more than {0} attributes at one element")]
    TooManyAttributes(usize),
    /// A byte that is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A declaration that names another encoding.
    #[error("the document says that its encoding is `{0}`; only UTF-8 is read")]
    Encoding(String),
    /// A character that XML does not have, written out or as a reference.
    #[error("the character U+{0:04X} is not allowed in XML")]
    Character(u32),
    /// `<!DOCTYPE`.
    #[error("a document type is not allowed here: entities are not expanded and nothing external is read")]
    DocType,
    /// `&name;` that is not one of XML's five.
    #[error("the entity `&{0};` is not known; write the text itself")]
    Entity(String),
    /// Not well-formed, in the words of the parser.
    #[error("{0}")]
    Malformed(String),
    /// Text before, between or behind.
    #[error("text outside the root element")]
    Outside,
    /// A second root.
    #[error("a second root element `<{0}>`: a document has one")]
    SecondRoot(String),
    /// No root.
    #[error("the document holds no element")]
    Empty,
    /// It ended inside an element.
    #[error("the document ends inside `<{0}>`")]
    Unfinished(String),
}

/// Reads a document; gives its root.
///
/// # Errors
/// [`Unreadable`] with the first reason why.
pub fn read(bytes: &[u8], limits: Limits) -> Result<Element, Unreadable> {
    let start = Position { line: 1, column: 1 };
    if bytes.len() > limits.bytes {
        return Err(Unreadable { at: start, why: Why::TooLong(limits.bytes) });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
        Unreadable { at: advanced(start, valid), why: Why::NotUtf8 }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // A second one is text; the parser would leave it out without counting it, and no place behind it would be right.
    if text.starts_with('\u{feff}') {
        return Err(Unreadable { at: start, why: Why::Outside });
    }
    if let Some((offset, wrong)) = text.char_indices().find(|(_, c)| !is_xml(*c)) {
        return Err(Unreadable { at: advanced(start, &text[..offset]), why: Why::Character(wrong.into()) });
    }
    let mut building = Building { limits, open: Vec::new(), root: None, nodes: 0 };
    let mut reader = Reader::from_str(text);
    reader.config_mut().enable_all_checks(true);
    let (mut at, mut read_to) = (start, 0);
    loop {
        let event = reader.read_event();
        match event {
            Ok(Event::Eof) => return building.finished(at),
            Ok(event) => building.take(event, at).map_err(|why| Unreadable { at, why })?,
            Err(error) => {
                let offset = usize::try_from(reader.error_position()).unwrap_or(read_to).max(read_to);
                let at = advanced(at, text.get(read_to..offset).unwrap_or_default());
                return Err(Unreadable { at, why: Why::Malformed(error.to_string()) });
            }
        }
        let next = usize::try_from(reader.buffer_position()).unwrap_or(text.len());
        at = advanced(at, &text[read_to..next]);
        read_to = next;
    }
}

/// Where one is behind a text.
fn advanced(from: Position, text: &str) -> Position {
    let lines = u32::try_from(text.bytes().filter(|byte| *byte == b'\n').count()).unwrap_or(u32::MAX);
    let last = text.rsplit('\n').next().unwrap_or_default();
    let columns = u32::try_from(last.chars().count()).unwrap_or(u32::MAX);
    let column = if lines == 0 { from.column.saturating_add(columns) } else { columns.saturating_add(1) };
    Position { line: from.line.saturating_add(lines), column }
}

/// XML 1.0's `Char`.
fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The tree as far as it has come.
struct Building {
    limits: Limits,
    open: Vec<Element>,
    root: Option<Element>,
    nodes: usize,
}

impl Building {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), Why> {
        match event {
            Event::Start(start) => {
                let element = self.element(&start, at)?;
                if self.open.len() == self.limits.depth {
                    return Err(Why::TooDeep(self.limits.depth));
                }
                self.open.push(element);
            }
            Event::Empty(start) => {
                let element = self.element(&start, at)?;
                self.close(element);
            }
            Event::End(_) => {
                if let Some(element) = self.open.pop() {
                    self.close(element.laid_out());
                }
            }
            Event::Text(text) => self.text(&text.xml10_content())?,
            Event::CData(text) => self.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => self.text(&character(&reference)?.to_string())?,
            Event::Comment(text) => self.beside(Node::Comment(text.xml10_content().into()))?,
            Event::PI(text) => self.beside(Node::Instruction(text.into_inner().into()))?,
            Event::Decl(declaration) => match declaration.encoding() {
                Some(Ok(name)) if !name.eq_ignore_ascii_case("utf-8") => {
                    return Err(Why::Encoding(name.into()));
                }
                Some(Err(error)) => return Err(Why::Malformed(error.to_string())),
                _ => {}
            },
            Event::DocType(_) => return Err(Why::DocType),
            Event::Eof => {}
        }
        Ok(())
    }

    fn finished(mut self, at: Position) -> Result<Element, Unreadable> {
        match (self.open.pop(), self.root) {
            (Some(open), _) => Err(Unreadable { at, why: Why::Unfinished(open.name) }),
            (None, None) => Err(Unreadable { at, why: Why::Empty }),
            (None, Some(root)) => Ok(root),
        }
    }

    fn count(&mut self) -> Result<(), Why> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes { Err(Why::TooMany(self.limits.nodes)) } else { Ok(()) }
    }

    fn element(&mut self, start: &BytesStart<'_>, at: Position) -> Result<Element, Why> {
        self.count()?;
        let name = start.name().as_ref().to_owned();
        if self.open.is_empty() && self.root.is_some() {
            return Err(Why::SecondRoot(name));
        }
        let mut element = Element { name, attributes: Vec::new(), children: Vec::new(), at };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| Why::Malformed(error.to_string()))?;
            // Each is compared with all before it: without a bound that would be quadratic.
            if element.attributes.len() == self.limits.attributes {
                return Err(Why::TooManyAttributes(self.limits.attributes));
            }
            let value = attribute
                .normalized_value(XmlVersion::Explicit1_0)
                .map_err(|error| Why::Malformed(error.to_string()))?;
            if let Some(wrong) = value.chars().find(|c| !is_xml(*c)) {
                return Err(Why::Character(wrong.into()));
            }
            element.attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        Ok(element)
    }

    fn close(&mut self, element: Element) {
        match self.open.last_mut() {
            Some(parent) => parent.push(element),
            None => self.root = Some(element),
        }
    }

    /// Text next to text is one: references come piece by piece.
    fn text(&mut self, text: &str) -> Result<(), Why> {
        let Some(parent) = self.open.last_mut() else {
            return if text.trim().is_empty() { Ok(()) } else { Err(Why::Outside) };
        };
        if let Some(Node::Text(known)) = parent.children.last_mut() {
            known.push_str(text);
            return Ok(());
        }
        parent.children.push(Node::Text(text.into()));
        self.count()
    }

    /// A comment or instruction; those outside the root belong to the file and are not kept.
    fn beside(&mut self, node: Node) -> Result<(), Why> {
        if let Some(parent) = self.open.last_mut() {
            parent.children.push(node);
        }
        self.count()
    }
}

impl Element {
    /// Without the white space that lays its elements out; a text that is text stays as it is.
    fn laid_out(mut self) -> Self {
        let is_text = |node: &Node| matches!(node, Node::Text(text) if !text.trim().is_empty());
        if self.elements().next().is_some() && !self.children.iter().any(is_text) {
            self.children.retain(|node| !matches!(node, Node::Text(_)));
        }
        self
    }
}

/// What a reference in a text stands for.
fn character(reference: &BytesRef<'_>) -> Result<char, Why> {
    if reference.is_char_ref() {
        let malformed = |error: quick_xml::Error| Why::Malformed(error.to_string());
        let named = || Why::Entity(reference.xml10_content().into());
        let c = reference.resolve_char_ref().map_err(malformed)?.ok_or_else(named)?;
        return if is_xml(c) { Ok(c) } else { Err(Why::Character(c.into())) };
    }
    match reference.xml10_content().as_ref() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        other => Err(Why::Entity(other.into())),
    }
}
