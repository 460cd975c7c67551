//! Arguments against a type, in the words and the order of QEMU's input visitor.
//!
//! Members are looked at in the order of the schema, not in that of the message; an object's unknown members
//! are told last, when all that belongs there has been looked at. Most errors give the whole way to the value
//! (`actions[0].data.node`); those about an enum's value or an alternate give the member alone, and `null` for
//! an element of a list. Source: recorded answers of all releases (`arguments`).
//!
//! Of several unknown members QEMU names one by the order of a hash table; here it is the first sent.

use serde_json::{Map, Value};

use super::types::{Object, Type, TypeId, Types};
use crate::{qemu::QmpError, release::Release, wire};

/// Checks what a command was sent.
pub(super) fn arguments(
    release: Release,
    types: &Types,
    id: TypeId,
    arguments: &Map<String, Value>,
) -> Result<(), QmpError> {
    let visit = Visit { release, types };
    match &types[id] {
        Type::Object(object) => visit.object(object, arguments, &Way::Root),
        _ => Ok(()),
    }
}

/// How a value is reached from the arguments.
enum Way<'w> {
    Root,
    Member(&'w Way<'w>, &'w str),
    Element(&'w Way<'w>, usize),
}

impl Way<'_> {
    /// `actions[0].data.node`
    fn whole(&self) -> String {
        match self {
            Way::Root => String::new(),
            Way::Member(Way::Root, name) => (*name).into(),
            Way::Member(parent, name) => format!("{}.{name}", parent.whole()),
            Way::Element(parent, place) => format!("{}[{place}]", parent.whole()),
        }
    }

    /// The largest value of a member that is unsigned, which introspection does not tell: it calls all integers the same.
    fn most(&self) -> Option<u64> {
        match self {
            Way::Member(_, "granularity") => Some(u32::MAX.into()),
            Way::Member(Way::Member(Way::Root, "options"), "size")
            | Way::Member(Way::Member(_, "addr"), "offset") => Some(u64::MAX),
            _ => None,
        }
    }

    /// `node`
    fn last(&self) -> &str {
        match self {
            Way::Member(_, name) => name,
            Way::Root | Way::Element(..) => "null",
        }
    }
}

struct Visit<'s> {
    release: Release,
    types: &'s Types,
}

impl Visit<'_> {
    fn value(&self, id: TypeId, value: &Value, way: &Way<'_>) -> Result<(), QmpError> {
        if let (Type::Integer, Some(most)) = (&self.types[id], way.most()) {
            return unsigned(value, most, way);
        }
        match (&self.types[id], value) {
            (Type::Any, _)
            | (Type::Null, Value::Null)
            | (Type::Boolean, Value::Bool(_))
            | (Type::String, Value::String(_))
            | (Type::Number, Value::Number(_)) => Ok(()),
            (Type::Integer, Value::Number(number)) if number.is_i64() => Ok(()),
            (Type::Enum(values), Value::String(text)) => self.one_of(values, text, way),
            (Type::Array(element), Value::Array(values)) => {
                let mut elements = values.iter().enumerate();
                elements.try_for_each(|(place, value)| self.value(*element, value, &Way::Element(way, place)))
            }
            (Type::Object(object), Value::Object(members)) => self.object(object, members, way),
            (Type::Alternate { name, choices }, _) => {
                match choices.iter().find(|choice| has_json_type(&self.types[**choice], value)) {
                    Some(choice) => self.value(*choice, value, way),
                    None => Err(wrong_type(way.last(), name)),
                }
            }
            (expected, _) => Err(wrong_type(&way.whole(), type_name(expected))),
        }
    }

    fn object(&self, object: &Object, members: &Map<String, Value>, way: &Way<'_>) -> Result<(), QmpError> {
        self.members(object, members, way)?;
        match members.keys().find(|name| !self.knows(object, members, name)) {
            Some(name) => {
                let whole = Way::Member(way, name).whole();
                Err(QmpError::generic(format!("Parameter '{whole}' is unexpected")))
            }
            None => Ok(()),
        }
    }

    /// The members that belong to an object, with those that its tag adds.
    fn members(&self, object: &Object, members: &Map<String, Value>, way: &Way<'_>) -> Result<(), QmpError> {
        for member in &object.members {
            let way = Way::Member(way, &member.name);
            match wire::member(members, &member.name) {
                Some(value) => self.value(member.type_id, value, &way)?,
                None if member.optional => {}
                None => return Err(QmpError::generic(format!("Parameter '{}' is missing", way.whole()))),
            }
        }
        self.variant(object, members).map_or(Ok(()), |variant| self.members(variant, members, way))
    }

    fn knows(&self, object: &Object, members: &Map<String, Value>, name: &str) -> bool {
        object.members.iter().any(|member| member.name == name)
            || self.variant(object, members).is_some_and(|variant| self.knows(variant, members, name))
    }

    /// What the tag's value adds to an object.
    fn variant(&self, object: &Object, members: &Map<String, Value>) -> Option<&Object> {
        let (tag, variants) = object.union.as_ref()?;
        match &self.types[*variants.get(wire::member(members, tag)?.as_str()?)?] {
            Type::Object(variant) => Some(variant),
            _ => None,
        }
    }

    fn one_of(&self, values: &[String], text: &str, way: &Way<'_>) -> Result<(), QmpError> {
        if values.iter().any(|value| value == text) {
            return Ok(());
        }
        Err(QmpError::generic(if self.release < Release::V7_2 {
            format!("Invalid parameter '{text}'")
        } else {
            format!("Parameter '{}' does not accept value '{text}'", way.last())
        }))
    }
}

/// A negative number is read as the unsigned one of the same 64 bits.
fn unsigned(value: &Value, most: u64, way: &Way<'_>) -> Result<(), QmpError> {
    let read = value.as_u64().or(value.as_i64().map(i64::cast_unsigned));
    let expected = match read {
        Some(number) if number <= most => return Ok(()),
        Some(_) => "uint32_t",
        None => "uint64",
    };
    Err(QmpError::generic(format!("Parameter '{}' expects {expected}", way.whole())))
}

fn wrong_type(name: &str, expected: &str) -> QmpError {
    QmpError::generic(format!("Invalid parameter type for '{name}', expected: {expected}"))
}

/// Whether JSON alone tells that a value is meant for this choice of an alternate.
fn has_json_type(choice: &Type, value: &Value) -> bool {
    match value {
        Value::Null => matches!(choice, Type::Null),
        Value::Bool(_) => matches!(choice, Type::Boolean),
        Value::Number(_) => matches!(choice, Type::Integer | Type::Number),
        Value::String(_) => matches!(choice, Type::String | Type::Enum(_)),
        Value::Array(_) => matches!(choice, Type::Array(_)),
        Value::Object(_) => matches!(choice, Type::Object(_)),
    }
}

fn type_name(expected: &Type) -> &'static str {
    match expected {
        Type::Any => "any",
        Type::Null => "null",
        Type::Boolean => "boolean",
        Type::String | Type::Enum(_) => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Array(_) => "array",
        Type::Object(_) => "object",
        Type::Alternate { name, .. } => name,
    }
}
