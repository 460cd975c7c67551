//! The shape pass: every key, type and form of a file, held against the JSON Schema.
//!
//! It knows the part of JSON Schema that our types come to, and no more; a test fails when a type brings a
//! keyword that this pass would overlook. It does not know what a name stands for: that is the meaning
//! pass's business. One wrong value is reported once, and nothing below it.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;
use serde_json::Value;
use toml::de::{DeInteger, DeValue};

use super::tree::{Key, Node};
use crate::diagnostic::Found;

/// Every mistake in the shape of the tree.
pub(super) fn check(root: Node<'_>, schema: &Value) -> Vec<Found> {
    let mut shape = Shape { schema, patterns: BTreeMap::new(), found: Vec::new() };
    shape.value(root, schema, "a scenario");
    shape.found
}

struct Shape<'s> {
    /// The root, where `$ref` points into.
    schema: &'s Value,
    /// The patterns met so far, compiled once: a list may have a hundred thousand names.
    patterns: BTreeMap<&'s str, Regex>,
    found: Vec<Found>,
}

impl<'s> Shape<'s> {
    /// `name` is what the value is called in a message: its key in backticks, or words.
    fn value(&mut self, node: Node<'_>, schema: &'s Value, name: &str) {
        let schema = self.resolve(schema);
        let Some(value) = node.value() else { return };
        if schema.get("properties").is_none() && schema.get("oneOf").or(schema.get("enum")).is_some() {
            return self.choice(node, schema, name);
        }
        match (schema["type"].as_str().unwrap_or_default(), value) {
            ("string", DeValue::String(text)) => self.text(node, text, schema, name),
            ("integer", DeValue::Integer(number)) => self.integer(node, number, schema, name),
            ("boolean", DeValue::Boolean(_)) => {}
            ("array", DeValue::Array(_)) => self.array(node, schema, name),
            ("object", DeValue::Table(_)) => self.table(node, schema, name),
            (wanted, given) => {
                let message = wrong_type(name, wanted, given);
                self.found.push(Found::new(node.span(), message, self.says(schema).into()));
            }
        }
    }

    fn table(&mut self, node: Node<'_>, schema: &'s Value, name: &str) {
        let properties = schema["properties"].as_object();
        for (key, value) in node.entries() {
            if let Some(property) = properties.and_then(|properties| properties.get(key.name)) {
                self.value(value, property, &called(&key));
            } else if schema["additionalProperties"].is_object() {
                self.value(value, &schema["additionalProperties"], &called(&key));
            } else {
                let known = properties.into_iter().flat_map(|properties| properties.keys());
                let help = suggest(key.name, "keys are", known.map(String::as_str));
                self.found.push(Found::new(key.span, format!("no key `{}` in {name}", key.name), help));
            }
        }
        for missing in strings(&schema["required"]).filter(|key| !node.key(key).is_there()) {
            let property = properties.and_then(|properties| properties.get(missing));
            let help =
                property.map_or(String::new(), |property| format!("{missing}: {}", self.says(property)));
            self.found.push(Found::new(node.span(), format!("{name} needs the key `{missing}`"), help));
        }
        let alternatives = schema["oneOf"].as_array().into_iter().flatten();
        let alternatives: Vec<&str> = alternatives.flat_map(|branch| strings(&branch["required"])).collect();
        if !alternatives.is_empty() {
            self.exactly_one(node, &alternatives, name);
        }
    }

    fn exactly_one(&mut self, node: Node<'_>, alternatives: &[&str], name: &str) {
        let mut present: Vec<Key<'_>> =
            node.entries().map(|(key, _)| key).filter(|key| alternatives.contains(&key.name)).collect();
        present.sort_by_key(|key| key.span.start);
        let help = format!("{name} has exactly one of: {}", alternatives.join(", "));
        match present.as_slice() {
            [] => {
                let message = format!("{name} has none of: {}", alternatives.join(", "));
                self.found.push(Found::new(node.span(), message, "exactly one is needed".into()));
            }
            [first, others @ ..] => {
                for other in others {
                    let message = format!("`{}` beside `{}`", other.name, first.name);
                    self.found.push(Found::new(other.span.clone(), message, help.clone()));
                }
            }
        }
    }

    fn array(&mut self, node: Node<'_>, schema: &'s Value, name: &str) {
        let count = node.items().count() as u64;
        if count < schema["minItems"].as_u64().unwrap_or(0) {
            let help = self.says(schema).into();
            self.found.push(Found::new(node.span(), format!("{name} is empty"), help));
        }
        if schema["maxItems"].as_u64().is_some_and(|most| count > most) {
            let help = self.says(schema).into();
            self.found.push(Found::new(node.span(), format!("{name} has {count} items"), help));
        }
        // A table in a list goes by the list's key, as in `[[step]]`.
        let tables = self.resolve(&schema["items"])["type"] == "object";
        let item_name = if tables { name.to_owned() } else { format!("an item of {name}") };
        let mut seen = BTreeSet::new();
        for item in node.items() {
            self.value(item, &schema["items"], &item_name);
            let twice = item.text().is_some_and(|text| !seen.insert(text));
            if twice && schema["uniqueItems"] == true {
                let message = format!("`{}` is twice in {name}", item.text().unwrap_or_default());
                self.found.push(Found::new(item.span(), message, "once is enough".into()));
            }
        }
    }

    fn text(&mut self, node: Node<'_>, text: &str, schema: &'s Value, name: &str) {
        if text.is_empty() && schema["minLength"].as_u64().unwrap_or(0) > 0 {
            return self.found.push(Found::new(
                node.span(),
                format!("{name} is empty"),
                self.says(schema).into(),
            ));
        }
        let Some(pattern) = schema["pattern"].as_str() else { return };
        let compile = || Regex::new(pattern).expect("a test compiles every pattern of the schema");
        if !self.patterns.entry(pattern).or_insert_with(compile).is_match(text) {
            let title = schema["title"].as_str().unwrap_or("such text");
            let message = format!("`{text}` is no {title}");
            self.found.push(Found::new(node.span(), message, self.says(schema).into()));
        }
    }

    fn integer(&mut self, node: Node<'_>, number: &DeInteger<'_>, schema: &'s Value, name: &str) {
        let least = schema["minimum"].as_i64().map_or(i128::MIN, i128::from);
        let of_the_format = if schema["format"] == "uint32" { i128::from(u32::MAX) } else { i128::MAX };
        let most = schema["maximum"].as_i64().map_or(of_the_format, i128::from);
        let value = i128::from_str_radix(number.as_str(), number.radix());
        if !value.is_ok_and(|value| (least..=most).contains(&value)) {
            let help = format!("a whole number from {least} to {most}");
            self.found.push(Found::new(node.span(), format!("{name} cannot be {number}"), help));
        }
    }

    /// An externally tagged enum: a word, or a table of one key.
    fn choice(&mut self, node: Node<'_>, schema: &'s Value, name: &str) {
        let Choices { words, tagged } = choices(schema);
        let shown = words.iter().map(|word| word.to_string());
        let shown: Vec<String> =
            shown.chain(tagged.iter().map(|(tag, _)| format!("{{ {tag} = … }}"))).collect();
        let values = format!("values are: {}", shown.join(", "));
        let tag_of = |name: &str| tagged.iter().find(|(tag, _)| *tag == name);
        match node.value() {
            Some(DeValue::String(word)) if words.contains(&word.as_ref()) => {}
            Some(DeValue::String(word)) if tag_of(word).is_some() => {
                let help = format!("write {{ {word} = … }}");
                self.found.push(Found::new(node.span(), format!("`{word}` needs a value"), help));
            }
            Some(DeValue::String(word)) => {
                let near = nearest(word, words.iter().copied().chain(tagged.iter().map(|(tag, _)| *tag)));
                let help = near.map_or(values.clone(), |near| format!("did you mean `{near}`? {values}"));
                self.found.push(Found::new(node.span(), format!("{name} cannot be `{word}`"), help));
            }
            Some(DeValue::Table(_)) if !tagged.is_empty() => {
                if node.entries().count() != 1 {
                    let message = format!("{name} is a table of exactly one key");
                    self.found.push(Found::new(node.span(), message, values.clone()));
                }
                for (key, value) in node.entries() {
                    match tag_of(key.name) {
                        Some((tag, schema)) => self.value(value, schema, &format!("`{tag}`")),
                        None => {
                            let message = format!("{name} cannot be {{ {} = … }}", key.name);
                            self.found.push(Found::new(key.span, message, values.clone()));
                        }
                    }
                }
            }
            Some(given) => {
                let wanted = if tagged.is_empty() { "string" } else { "string or table" };
                self.found.push(Found::new(node.span(), wrong_type(name, wanted, given), values));
            }
            None => {}
        }
    }

    /// Follows `$ref`. What the types come to points only below `$defs`.
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/")) {
            Some(name) => &self.schema["$defs"][name],
            None => schema,
        }
    }

    /// What the schema says of a value, in its first sentence: how it is written if it has a form of its
    /// own, else what it is for.
    fn says(&self, schema: &'s Value) -> &'s str {
        let resolved = self.resolve(schema);
        let own = if resolved.get("pattern").is_some() { resolved } else { schema };
        let description = own["description"].as_str().or(resolved["description"].as_str());
        let paragraph = description.unwrap_or_default().split("\n\n").next().unwrap_or_default();
        paragraph.split_once(". ").map_or(paragraph, |(sentence, _)| sentence).trim_end_matches('.')
    }
}

/// What the value of a key is called: the key. One chosen by the file may be of any length.
fn called(key: &Key<'_>) -> String {
    const CHARS_MAX: usize = 40;
    format!("`{}`", key.name.chars().take(CHARS_MAX).collect::<String>())
}

/// What an enum can be.
struct Choices<'s> {
    /// Variants without a value.
    words: Vec<&'s str>,
    /// Variants with one: the tag and the value's schema.
    tagged: Vec<(&'s str, &'s Value)>,
}

fn choices(schema: &Value) -> Choices<'_> {
    let mut choices = Choices { words: strings(&schema["enum"]).collect(), tagged: Vec::new() };
    for branch in schema["oneOf"].as_array().into_iter().flatten() {
        choices.words.extend(branch["const"].as_str());
        choices.words.extend(strings(&branch["enum"]));
        let properties = branch["properties"].as_object().into_iter().flatten();
        choices.tagged.extend(properties.map(|(tag, schema)| (tag.as_str(), schema)));
    }
    choices
}

/// The strings of a JSON array; none if it is none.
fn strings(array: &Value) -> impl Iterator<Item = &str> {
    array.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn wrong_type(name: &str, wanted: &str, given: &DeValue<'_>) -> String {
    format!("{name} must be {}, not {}", in_words(wanted), in_words(given.type_str()))
}

/// What a type of JSON Schema or of TOML is called in a message.
fn in_words(type_name: &str) -> &str {
    match type_name {
        "string" => "a string",
        "integer" => "a whole number",
        "float" => "a fraction",
        "boolean" => "true or false",
        "datetime" => "a date",
        "array" => "a list",
        "object" | "table" => "a table",
        "string or table" => "a string or a table",
        other => other,
    }
}

/// `disks are: vda, vdb`
pub(super) fn listed<'a>(are: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    format!("{are}: {}", if known.is_empty() { "none".into() } else { known.join(", ") })
}

/// The same, after the word that was meant if one is near: ``did you mean `chain`? keys are: chain, files``
pub(super) fn suggest<'a>(wrong: &str, are: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(wrong, known.clone()) {
        Some(near) => format!("did you mean `{near}`? {}", listed(are, known)),
        None => listed(are, known),
    }
}

/// The known word that the wrong one was most likely meant to be: a third of its letters may be wrong.
fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const WORD_BYTES_MAX: usize = 40; // no known word is longer, and the comparison costs the product of both
    if wrong.len() > WORD_BYTES_MAX {
        return None;
    }
    let wrong = wrong.to_lowercase();
    known
        .map(|word| (strsim::osa_distance(&wrong, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= word.len().div_ceil(3) && *distance < word.len())
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::schema;

    /// Keywords that the pass obeys, and those that only speak to people.
    const KNOWN: [&str; 20] = [
        "$ref",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minLength",
        "pattern",
        "minimum",
        "maximum",
        "format",
        "oneOf",
        "enum",
        "const",
        "title",
        "description",
        "default",
    ];

    fn assert_known(schema: &Value, path: &str) {
        for (keyword, value) in schema.as_object().expect("a schema is a table") {
            let at = format!("{path}/{keyword}");
            match keyword.as_str() {
                "$schema" => {}
                "properties" | "$defs" => {
                    value
                        .as_object()
                        .unwrap()
                        .iter()
                        .for_each(|(k, v)| assert_known(v, &format!("{at}/{k}")));
                }
                "oneOf" => value.as_array().unwrap().iter().for_each(|branch| assert_known(branch, &at)),
                "items" => assert_known(value, &at),
                "additionalProperties" if value.is_object() => assert_known(value, &at),
                "format" => {
                    let bounded = value == "uint32" || schema.get("maximum").is_some();
                    assert!(bounded, "{at}: the pass does not know how far it goes");
                }
                "pattern" => {
                    Regex::new(value.as_str().unwrap()).expect(&at);
                }
                known => assert!(KNOWN.contains(&known), "{at}: the pass would overlook this keyword"),
            }
        }
    }

    #[test]
    fn no_keyword_of_the_schema_is_overlooked() {
        assert_known(schema::schema(), "#");
    }

    #[test]
    fn a_near_miss_is_recognised_and_a_stranger_is_not() {
        let known = || ["snapshot", "revert", "delete"].into_iter();
        assert_eq!(nearest("snapshoot", known()), Some("snapshot"));
        assert_eq!(nearest("Revert", known()), Some("revert"));
        assert_eq!(nearest("merge", known()), None);
        assert_eq!(nearest(&"s".repeat(1_000_000), known()), None);
    }
}
