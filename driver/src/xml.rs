//! XML as a tree: what libvirt's documents are made of.
//!
//! A document is read whole into [`Element`]s ([`read`]), looked at and changed, and written as libvirt writes
//! ([`write`](Element::document)). What the driver does not understand stays in the tree and is written back as it came: other
//! elements, attributes, prefixes, comments. Only the white space that lays elements out is made anew.
//!
//! Documents may come from strangers. There are no entities but XML's own five, no document type, nothing external, and every
//! dimension is bounded ([`Limits`]).

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;

pub use read::{Limits, Unreadable, Why, read};

/// A place in a document, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The line, from 1; 0 in an element that was not read but made.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One element with all that is in it. Two are equal if they say the same; where they stood does not count.
#[derive(Debug, Clone)]
pub struct Element {
    /// Its name, with its prefix if it has one: `disk`, `qemu:commandline`.
    pub name: String,
    /// Its attributes, in order.
    pub attributes: Vec<(String, String)>,
    /// What it holds, in order.
    pub children: Vec<Node>,
    /// Where it began.
    pub at: Position,
}

/// A part of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Another element.
    Element(Element),
    /// Text, unescaped.
    Text(String),
    /// What stands between `<!--` and `-->`.
    Comment(String),
    /// What stands between `<?` and `?>`.
    Instruction(String),
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.attributes == other.attributes && self.children == other.children
    }
}

impl Eq for Element {}

impl Element {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), attributes: Vec::new(), children: Vec::new(), at: Position::default() }
    }

    /// One that holds a text alone: `<name>vda</name>`.
    pub fn of_text(name: &str, text: &str) -> Self {
        let mut element = Self::new(name);
        element.children.push(Node::Text(text.into()));
        element
    }

    /// The same with an attribute more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether an attribute of it, or of anything in it, has this value.
    pub fn names(&self, value: &str) -> bool {
        let mut open = vec![self];
        while let Some(element) = open.pop() {
            if element.attributes.iter().any(|(_, known)| known == value) {
                return true;
            }
            open.extend(element.elements());
        }
        false
    }

    /// Gives an attribute a value, in its old place if it has one.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.attributes.push((name.into(), value.into())),
        }
    }

    /// Takes an attribute out.
    pub fn unset(&mut self, name: &str) {
        self.attributes.retain(|(known, _)| known != name);
    }

    /// The elements in it.
    pub fn elements(&self) -> impl DoubleEndedIterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            _ => None,
        })
    }

    /// The first element of that name in it.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|element| element.name == name)
    }

    /// The elements in it, to be changed.
    pub fn elements_mut(&mut self) -> impl Iterator<Item = &mut Element> {
        self.children.iter_mut().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            _ => None,
        })
    }

    /// The first element of that name in it, to be changed.
    pub fn child_mut(&mut self, name: &str) -> Option<&mut Element> {
        self.elements_mut().find(|element| element.name == name)
    }

    /// Takes the elements of that name out.
    pub fn remove(&mut self, name: &str) {
        self.children.retain(|node| !matches!(node, Node::Element(element) if element.name == name));
    }

    /// Puts an element in, last.
    pub fn push(&mut self, element: Element) {
        self.children.push(Node::Element(element));
    }

    /// Its own text, without that of the elements in it.
    pub fn text(&self) -> String {
        self.children
            .iter()
            .filter_map(|node| match node {
                Node::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The text of the first element of that name in it.
    pub fn text_of(&self, name: &str) -> Option<String> {
        self.child(name).map(Element::text)
    }
}
