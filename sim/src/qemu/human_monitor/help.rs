//! `help`, and what is known of the commands by it: told as the release tells it, from stored answers.

use serde_json::Value;

use crate::{Release, introspection};

/// What the release always says to a line of the human monitor.
pub(super) fn always(release: Release, line: &str) -> Option<String> {
    let said = introspection::human_monitor_says(release, line)?;
    serde_json::from_str::<Value>(said).ok()?.as_str().map(str::to_owned)
}

/// Whether the release knows such a command, of its own or of `info`.
pub(super) fn exists(release: Release, name: &str, of_info: bool) -> bool {
    entries(release, of_info).iter().any(|entry| is_named(entry, name))
}

/// `help` of everything, of one command, or of one that `info` shows.
pub(super) fn help(release: Release, topic: &[String]) -> String {
    let (of_info, name) = match topic {
        [] => return always(release, "help").unwrap_or_default(),
        [info] if info == "info" => return always(release, "info").unwrap_or_default(),
        [info, name, ..] if info == "info" => (true, name),
        [name, ..] => (false, name),
    };
    let entries: String =
        entries(release, of_info).into_iter().filter(|entry| is_named(entry, name)).collect();
    if entries.is_empty() {
        return format!("unknown command: '{}'\r\n", topic.join(" "));
    }
    entries
}

/// Whether an entry is that of a command, by its name or its abbreviation.
fn is_named(entry: &str, name: &str) -> bool {
    let entry = entry.strip_prefix("info ").filter(|_| !entry.starts_with("info [")).unwrap_or(entry);
    entry.split_whitespace().next().is_some_and(|names| names.split('|').any(|known| known == name))
}

/// What `help` says of each command: an entry begins with a name, and may have more lines.
fn entries(release: Release, of_info: bool) -> Vec<String> {
    let text = always(release, if of_info { "info" } else { "help" }).unwrap_or_default();
    let mut entries: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        match entries.last_mut() {
            Some(entry) if !line.starts_with(|first: char| first.is_ascii_lowercase()) => *entry += line,
            _ => entries.push(line.to_owned()),
        }
    }
    entries
}
