//! The schema as data: what an argument may be.
//!
//! `query-qmp-schema` names types by number and lists them flat; here they are looked up by place.

use std::collections::BTreeMap;

use serde_json::Value;

use super::alternate;
use crate::release::Release;

/// The place of a type among all of them.
pub(super) type TypeId = usize;

pub(super) type Types = Vec<Type>;

/// One type.
#[derive(Debug)]
pub(super) enum Type {
    Any,
    Null,
    Boolean,
    String,
    Integer,
    Number,
    Enum(Vec<String>),
    Array(TypeId),
    Object(Object),
    Alternate {
        /// What QEMU calls it when nothing fits.
        name: &'static str,
        choices: Vec<TypeId>,
    },
}

/// An object, in the order in which QEMU looks at its members.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) members: Vec<Member>,
    /// The member whose value decides what else there is, and what that is.
    pub(super) union: Option<(String, BTreeMap<String, TypeId>)>,
}

/// One member of an object.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) type_id: TypeId,
    pub(super) optional: bool,
}

/// Reads all types. Also gives the place of each by the name that the schema has for it.
pub(super) fn read(release: Release, entities: &[Value]) -> (Types, BTreeMap<&str, TypeId>) {
    let is_type = |entity: &&Value| entity["meta-type"] != "command" && entity["meta-type"] != "event";
    let entities: BTreeMap<&str, &Value> =
        entities.iter().filter(is_type).map(|entity| (text(&entity["name"]), entity)).collect();
    let ids: BTreeMap<&str, TypeId> = entities.keys().enumerate().map(|(id, name)| (*name, id)).collect();
    let types = entities.values().map(|entity| read_type(release, entity, &entities, &ids)).collect();
    (types, ids)
}

fn read_type(
    release: Release,
    entity: &Value,
    entities: &BTreeMap<&str, &Value>,
    ids: &BTreeMap<&str, TypeId>,
) -> Type {
    let id = |name: &Value| ids[text(name)];
    match text(&entity["meta-type"]) {
        "builtin" => match text(&entity["json-type"]) {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "string" => Type::String,
            "int" => Type::Integer,
            "number" => Type::Number,
            _ => Type::Any,
        },
        "enum" => Type::Enum(list(&entity["values"]).map(|value| text(value).to_owned()).collect()),
        "array" => Type::Array(id(&entity["element-type"])),
        "alternate" => Type::Alternate {
            name: alternate::name(
                release,
                list(&entity["members"]).map(|member| entities[text(&member["type"])]),
            ),
            choices: list(&entity["members"]).map(|member| id(&member["type"])).collect(),
        },
        _ => {
            let member = |member: &Value| Member {
                name: text(&member["name"]).to_owned(),
                type_id: id(&member["type"]),
                optional: member.get("default").is_some(),
            };
            let variant = |variant: &Value| (text(&variant["case"]).to_owned(), id(&variant["type"]));
            Type::Object(Object {
                members: list(&entity["members"]).map(member).collect(),
                union: entity["tag"]
                    .as_str()
                    .map(|tag| (tag.to_owned(), list(&entity["variants"]).map(variant).collect())),
            })
        }
    }
}

/// A text of the schema. QEMU's own introspection has no other type in its place.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
