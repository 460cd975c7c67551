//! A scenario as the tree of its text: parts can be taken out of it, numbers lowered, and it is written again as a person would.
//!
//! Nothing in here knows what the parts mean: whether what is left is a scenario, its reader says.

use std::fmt::Write as _;

use toml::{Table, Value};

/// Keys that stand first in their table, in this order; all others follow by name.
const FIRST: [&str; 18] = [
    "id", "title", "why", "releases", "targets", "machine", "target", "name", "qmp", "event", "job", "run",
    "agent", "file", "at", "do", "choice", "shows",
];

/// Tables of which there are many, in the order in which they are written.
const LISTS: [&str; 3] = ["step", "fault", "schedule"];

/// One turn on the way to a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    Key(String),
    Item(usize),
}

/// The way to a part.
pub(super) type Way = Vec<Turn>;

/// The way to an item of one of the lists.
pub(super) fn item(list: &str, number: usize) -> Way {
    vec![Turn::Key(list.to_owned()), Turn::Item(number)]
}

/// How many items a list has.
pub(super) fn count(table: &Table, list: &str) -> usize {
    table.get(list).and_then(Value::as_array).map_or(0, Vec::len)
}

/// The part at the end of a way.
pub(super) fn part<'t>(table: &'t mut Table, way: &[Turn]) -> Option<&'t mut Value> {
    let (Turn::Key(first), rest) = way.split_first()? else { return None };
    rest.iter().try_fold(table.get_mut(first)?, |value, turn| match turn {
        Turn::Key(key) => value.as_table_mut()?.get_mut(key),
        Turn::Item(number) => value.as_array_mut()?.get_mut(*number),
    })
}

/// The same without a part. A list of which nothing is left goes too.
pub(super) fn without(table: &Table, way: &[Turn]) -> Table {
    let mut without = table.clone();
    let Some((last, before)) = way.split_last() else { return without };
    match (last, before) {
        (Turn::Key(key), []) => drop(without.remove(key)),
        (Turn::Key(key), _) => {
            if let Some(holder) = part(&mut without, before).and_then(Value::as_table_mut) {
                holder.remove(key);
            }
        }
        (Turn::Item(number), _) => {
            let Some(list) = part(&mut without, before).and_then(Value::as_array_mut) else { return without };
            list.remove(*number);
            if list.is_empty() {
                return self::without(&without, before);
            }
        }
    }
    without
}

/// The ways to all parts below a value, those that hold others before them, and later ones before earlier ones.
pub(super) fn parts(value: &Value, way: &Way, found: &mut Vec<Way>) {
    let turns: Vec<(Turn, &Value)> = match value {
        Value::Table(table) => table.iter().map(|(key, value)| (Turn::Key(key.clone()), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(number, value)| (Turn::Item(number), value)).collect()
        }
        _ => Vec::new(),
    };
    for (turn, value) in turns.into_iter().rev() {
        let mut below = way.clone();
        below.push(turn);
        found.push(below.clone());
        parts(value, &below, found);
    }
}

/// Takes out whatever names a disk: keys and items of that name.
pub(super) fn forget(value: &mut Value, name: &str) {
    match value {
        Value::Table(table) => {
            table.retain(|key, value| {
                forget(value, name);
                key != name && !is_emptied(value)
            });
        }
        Value::Array(items) => {
            let were = items.len();
            items.retain(|item| item.as_str() != Some(name));
            if items.is_empty() && were > 0 {
                *value = Value::Table(Table::from_iter([(EMPTIED.to_owned(), Value::Boolean(true))]));
                return;
            }
            items.iter_mut().for_each(|item| forget(item, name));
        }
        _ => {}
    }
}

/// What stands for a list of which nothing is left, until the table that holds it lets go of it.
const EMPTIED: &str = "\u{0}";

fn is_emptied(value: &Value) -> bool {
    value.as_table().is_some_and(|table| table.contains_key(EMPTIED))
}

/// The text of a scenario file.
pub(super) fn text(table: &Table) -> String {
    let mut text = String::new();
    let (lists, rest): (Vec<_>, Vec<_>) =
        sorted(table).into_iter().partition(|(key, _)| LISTS.contains(&key.as_str()));
    let (tables, plain): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, value)| value.is_table());
    let _ = write!(text, "{}", lines(&plain));
    for (key, value) in tables {
        let _ = write!(text, "\n[{}]\n{}", quoted(key), lines(&sorted(value.as_table().expect("a table"))));
    }
    for list in LISTS {
        let items = lists.iter().filter(|(key, _)| *key == list).filter_map(|(_, value)| value.as_array());
        for item in items.flatten().filter_map(Value::as_table) {
            let _ = write!(text, "\n[[{list}]]\n{}", lines(&sorted(item)));
        }
    }
    text
}

fn lines(entries: &[(&String, &Value)]) -> String {
    entries.iter().map(|(key, value)| format!("{} = {}\n", quoted(key), inline(value))).collect()
}

fn sorted(table: &Table) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = table.iter().collect();
    let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
    entries.sort_by_key(|(key, _)| (rank(key), key.as_str()));
    entries
}

fn quoted(key: &str) -> String {
    let is_bare = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    match !key.is_empty() && key.chars().all(is_bare) {
        true => key.to_owned(),
        false => Value::from(key).to_string(),
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let entries =
                sorted(table).into_iter().map(|(key, value)| format!("{} = {}", quoted(key), inline(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"id = "a"
title = "t"
why = """
Two lines:
the second."""

[machine]
disks = [{ target = "vda" }, { target = "vdb", format = "raw" }]

[[step]]
snapshot = { name = "s1", disk-only = true, disks = ["vdb"], files = { vdb = "o", "v.a" = "p" } }

[[fault]]
at = { qmp = "transaction", nth = 2 }
do = "lose-reply"
"#;

    fn table() -> Table {
        TEXT.parse().expect("it is TOML")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = text(&table());
        assert_eq!(written.parse::<Table>().as_ref(), Ok(&table()), "{written}");
        assert!(written.contains("\n[[step]]\nsnapshot = { name = \"s1\", "), "{written}");
    }

    #[test]
    fn every_part_can_be_taken_out_by_itself() {
        let mut ways = Vec::new();
        parts(&Value::Table(table()), &Vec::new(), &mut ways);
        assert!(ways.len() > 20, "{} are too few", ways.len());
        for way in &ways {
            let mut less = without(&table(), way);
            assert_ne!(less, table(), "{way:?}");
            let key_is_gone = part(&mut less, way).is_none();
            assert!(key_is_gone || matches!(way.last(), Some(Turn::Item(_))), "{way:?}");
        }
    }

    #[test]
    fn a_disk_is_forgotten_wherever_it_is_named() {
        let mut whole = Value::Table(table());
        forget(&mut whole, "vdb");
        let step = whole["step"][0]["snapshot"].as_table().expect("a table");
        assert_eq!(step.keys().collect::<Vec<_>>(), ["disk-only", "files", "name"]);
        assert_eq!(step["files"].as_table().map(Table::len), Some(1));
    }
}
