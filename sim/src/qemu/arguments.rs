//! The arguments of a command, read by name.
//!
//! They were checked against the release's schema before they came here; what the schema lets through and the
//! model does not know is the reader's to refuse with [`Arguments::only`].

use serde_json::{Map, Value};

use super::{QmpError, not_simulated};
use crate::wire;

/// The arguments of a command, or of one action of a transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arguments<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Arguments<'a> {
    /// A member as it was sent.
    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        wire::member(self.0, name)
    }

    /// A member that the schema makes mandatory; the empty string if it is not there after all.
    pub(crate) fn text(self, name: &str) -> &'a str {
        self.optional_text(name).unwrap_or_default()
    }

    /// A member that may be absent.
    pub(crate) fn optional_text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str)
    }

    /// A flag that is off when absent.
    pub(crate) fn flag(self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// A flag that is `default` when absent.
    pub(crate) fn flag_or(self, name: &str, default: bool) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// A whole number of either sign; 0 when absent.
    pub(crate) fn integer(self, name: &str) -> i64 {
        self.get(name).and_then(Value::as_i64).unwrap_or(0)
    }

    /// A size in bytes. A negative one wraps around, as it does in QEMU.
    pub(crate) fn size(self, name: &str) -> u64 {
        let size = self.get(name);
        size.and_then(|size| size.as_u64().or(size.as_i64().map(i64::cast_unsigned))).unwrap_or(0)
    }

    /// A list of names.
    pub(crate) fn texts(self, name: &str) -> Vec<&'a str> {
        self.list(name).iter().filter_map(Value::as_str).collect()
    }

    /// A list.
    pub(crate) fn list(self, name: &str) -> &'a [Value] {
        self.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// A structure.
    ///
    /// # Errors
    /// "not simulated" for anything else.
    pub(crate) fn structure(self, name: &str) -> Result<Arguments<'a>, QmpError> {
        let structure = self.get(name).and_then(Value::as_object);
        structure.map(Arguments).ok_or_else(|| not_simulated(&format!("`{name}` that is no structure")))
    }

    /// Refuses members beyond those that the model knows.
    ///
    /// # Errors
    /// "not simulated" with the first such member.
    pub(crate) fn only(self, known: &[&str]) -> Result<(), QmpError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(not_simulated(&format!("member `{name}`"))),
            None => Ok(()),
        }
    }
}
