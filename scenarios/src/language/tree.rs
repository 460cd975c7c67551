//! The spanned tree of a TOML file, and a cursor to read it with.
//!
//! The passes that collect mistakes read this tree and not the types: serde gives up at the first thing
//! that is wrong, and a file with a broken step must still be told of the unknown disk in another.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::diagnostic::Found;

/// A file may be this large, in bytes. The longest scenario that anyone can read is far smaller.
pub(super) const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Reads TOML; the values nest as deep as the `toml` crate allows, 80.
///
/// # Errors
/// Every syntax error of the text. What could be read is then not worth a look: a lost quote makes keys of
/// what was text.
pub(super) fn read(text: &str) -> Result<Spanned<DeValue<'_>>, Vec<Found>> {
    if text.len() > FILE_BYTES_MAX {
        return Err(vec![too_long()]);
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(Spanned::new(root.span(), DeValue::Table(root.into_inner())));
    }
    Err(errors.iter().map(Found::from).collect())
}

/// The mistake of being longer than a scenario may be.
pub(super) fn too_long() -> Found {
    let help = format!("a scenario has at most {FILE_BYTES_MAX} bytes");
    Found::new(0..0, "this file is too long".into(), help)
}

/// A place in the tree. What is missing, or of another type than asked for, reads as empty: whether it may
/// be so is the shape pass's business.
#[derive(Clone, Copy)]
pub(super) struct Node<'t>(Option<&'t Spanned<DeValue<'t>>>);

/// A key with its place.
#[derive(Clone)]
pub(super) struct Key<'t> {
    pub(super) name: &'t str,
    pub(super) span: Range<usize>,
}

impl<'t> Node<'t> {
    pub(super) fn root(tree: &'t Spanned<DeValue<'t>>) -> Self {
        Node(Some(tree))
    }

    /// The value under a key of this table.
    pub(super) fn key(self, name: &str) -> Node<'t> {
        Node(self.table().and_then(|table| table.get(name)))
    }

    /// The keys of this table with their values.
    pub(super) fn entries(self) -> impl Iterator<Item = (Key<'t>, Node<'t>)> {
        self.table().into_iter().flat_map(|table| {
            table.iter().map(|(key, value)| {
                (Key { name: key.get_ref().as_ref(), span: key.span() }, Node(Some(value)))
            })
        })
    }

    /// The values of this array.
    pub(super) fn items(self) -> impl Iterator<Item = Node<'t>> {
        let array = self.0.and_then(|value| value.get_ref().as_array());
        array.into_iter().flat_map(|array| array.iter().map(|value| Node(Some(value))))
    }

    /// This string.
    pub(super) fn text(self) -> Option<&'t str> {
        self.0.and_then(|value| value.get_ref().as_str())
    }

    /// Whether there is anything, of whatever type.
    pub(super) fn is_there(self) -> bool {
        self.0.is_some()
    }

    /// Where it stands: its whole text, or the header of a table that has one.
    pub(super) fn span(self) -> Range<usize> {
        self.0.map_or(0..0, Spanned::span)
    }

    /// The value as TOML has it.
    pub(super) fn value(self) -> Option<&'t DeValue<'t>> {
        self.0.map(Spanned::get_ref)
    }

    fn table(self) -> Option<&'t DeTable<'t>> {
        self.0.and_then(|value| value.get_ref().as_table())
    }
}
