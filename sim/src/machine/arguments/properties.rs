//! The value of one of QEMU's options, taken apart.

use std::collections::BTreeMap;

use serde_json::Value;

/// The value of an option: `head,name=value,...`, or the same as a JSON object.
pub(super) struct Properties {
    /// What stands in front of the first property; else the driver, or the type of an object.
    pub(super) head: String,
    pub(super) properties: BTreeMap<String, String>,
}

impl Properties {
    pub(super) fn read(value: &str) -> Self {
        let mut properties = BTreeMap::new();
        let mut head = None;
        if value.starts_with('{') {
            flatten("", &serde_json::from_str(value).unwrap_or_default(), &mut properties);
        } else {
            head = value.split(',').next().filter(|first| !first.contains('='));
            let pairs = value.split(',').filter_map(|part| part.split_once('='));
            properties.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        let named = ["driver", "qom-type"].into_iter().find_map(|name| properties.get(name));
        let head = head.or(named.map(String::as_str)).unwrap_or_default().to_owned();
        Self { head, properties }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.properties.keys().map(String::as_str)
    }
}

/// Names of members within members are joined by points, as in the other notation.
fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, into);
            }
            return;
        }
        Value::Bool(true) => "on".into(),
        Value::Bool(false) => "off".into(),
        Value::Null => return,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    into.insert(prefix.to_owned(), text);
}
