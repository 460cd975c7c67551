//! What QEMU says, before it is bytes: QEMU's own `QObject` and `QDict`, as far as replies and events need them.
//!
//! Made to be built quickly and thrown away: keys are known when the program is compiled, and with them the bucket of
//! QEMU's hash table that decides the order on the wire. What clients send is a [`serde_json::Value`] instead.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A value that QEMU says.
#[derive(Debug, Clone, PartialEq)]
pub enum QObject {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number. QEMU's sizes and counts are unsigned.
    Number(u64),
    /// `-1`: QEMU's word for no address.
    MinusOne,
    /// A text.
    Text(Cow<'static, str>),
    /// A list.
    List(Vec<QObject>),
    /// A dictionary.
    Dict(QDict),
    /// Any value, as QEMU wrote it.
    Written(Cow<'static, str>),
}

/// A dictionary that QEMU says, in the order in which it was filled.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QDict {
    members: Vec<(Key, QObject)>,
}

/// A name in a [`QDict`], and where QEMU's hash table puts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub(crate) name: &'static str,
    pub(crate) bucket: u16,
}

impl Key {
    /// A name. In a `const` the bucket is worked out by the compiler.
    pub const fn new(name: &'static str) -> Self {
        Self { name, bucket: bucket(name) }
    }
}

/// Which of QEMU's 512 buckets a key falls into. The hash is that of Samba's "trivial database".
pub(crate) const fn bucket(key: &str) -> u16 {
    let bytes = key.as_bytes();
    let mut hash = 0x238F_13AF_u32.wrapping_mul(bytes.len() as u32);
    let (mut index, mut shift) = (0, 0);
    while index < bytes.len() {
        hash = hash.wrapping_add((bytes[index] as u32) << shift);
        shift = (shift + 5) % 24;
        index += 1;
    }
    (1_103_515_243_u32.wrapping_mul(hash).wrapping_add(12_345) % 512) as u16
}

/// Builds a [`QDict`]: `qdict! { "status": "running", "running": true }`.
macro_rules! qdict {
    ($($name:literal : $value:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "an empty one is never filled")]
        let mut dict = $crate::qobject::QDict::default();
        $(dict.put(const { $crate::qobject::Key::new($name) }, $value);)*
        dict
    }};
}
pub(crate) use qdict;

/// A [`Key`] whose bucket the compiler works out: `key!("status")`.
macro_rules! key {
    ($name:literal) => {
        const { $crate::qobject::Key::new($name) }
    };
}
pub(crate) use key;

impl QDict {
    /// Puts a member in, behind those that are there. A name is put in once.
    pub fn put(&mut self, key: Key, value: impl Into<QObject>) {
        debug_assert!(self.get(key.name).is_none(), "{} is there already", key.name);
        if self.members.is_empty() {
            // Most have a few members, and a node has two dozen: one step instead of four.
            self.members.reserve(8);
        }
        self.members.push((key, value.into()));
    }

    /// A member.
    pub fn get(&self, name: &str) -> Option<&QObject> {
        self.members.iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// A member that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            QObject::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All members in the order in which QEMU writes them.
    pub(crate) fn in_written_order(&self) -> Vec<(&'static str, &QObject)> {
        let mut members: Vec<_> = self.members.iter().rev().collect();
        members.sort_by_key(|(key, _)| key.bucket);
        members.into_iter().map(|(key, value)| (key.name, value)).collect()
    }

    /// All members, in the order in which they were put in.
    pub(crate) fn members(&self) -> &[(Key, QObject)] {
        &self.members
    }
}

impl QObject {
    /// `{}`: what most commands return.
    pub fn empty() -> Self {
        QObject::Dict(QDict::default())
    }
}

impl From<bool> for QObject {
    fn from(value: bool) -> Self {
        QObject::Bool(value)
    }
}

impl From<u64> for QObject {
    fn from(value: u64) -> Self {
        QObject::Number(value)
    }
}

impl From<&'static str> for QObject {
    fn from(text: &'static str) -> Self {
        QObject::Text(Cow::Borrowed(text))
    }
}

impl From<String> for QObject {
    fn from(text: String) -> Self {
        QObject::Text(Cow::Owned(text))
    }
}

impl From<QDict> for QObject {
    fn from(dict: QDict) -> Self {
        QObject::Dict(dict)
    }
}

impl FromIterator<QObject> for QObject {
    fn from_iter<I: IntoIterator<Item = QObject>>(items: I) -> Self {
        QObject::List(items.into_iter().collect())
    }
}

impl From<QDict> for Map<String, Value> {
    fn from(dict: QDict) -> Self {
        dict.members.into_iter().map(|(key, value)| (key.name.to_owned(), value.into())).collect()
    }
}

impl From<QObject> for Value {
    fn from(object: QObject) -> Self {
        match object {
            QObject::Bool(value) => value.into(),
            QObject::Number(value) => value.into(),
            QObject::MinusOne => (-1).into(),
            QObject::Text(text) => text.into_owned().into(),
            QObject::List(items) => items.into_iter().map(Value::from).collect(),
            QObject::Dict(dict) => Value::Object(dict.into()),
            QObject::Written(text) => serde_json::from_str(&text).unwrap_or_default(),
        }
    }
}
