//! The meaning pass: what the shape of a file cannot tell.
//!
//! Do the names stand for something in this machine, do the parts of a step and of a fault go together, is
//! the raw JSON such, is the id the file's? Each check reads the tree by itself and passes over what is
//! missing or of the wrong type, so that one broken place hides no mistake elsewhere.

use std::{collections::BTreeSet, ops::Range};

use camino::Utf8Path;

use super::{
    machine::DISKS_MAX,
    reach,
    shape::{listed, suggest},
    tree::{Key, Node},
};
use crate::diagnostic::Found;

/// The actions of a step that the driver carries out; the others, `qmp` and `agent`, go past it.
const DRIVER_ACTIONS: [&str; 4] = ["snapshot", "revert", "delete", "probe"];

/// Every mistake in the meaning of the tree. `codes` are those that the driver's errors have; none given:
/// any code will do.
pub(super) fn check(root: Node<'_>, file: &Utf8Path, source: &str, codes: &[&str]) -> Vec<Found> {
    let mut found = Vec::new();
    id_is_the_path(root.key("id"), file, &mut found);
    disks_have_one_name_each(root, &mut found);
    expected_disks_exist(root, &mut found);
    let reach = if is_for_real_qemu(root) { Reach::Folder } else { Reach::Anything };
    agent_is_simulated(root, reach, &mut found);
    for step in root.key("step").items() {
        agent_is_there(root, step, &mut found);
        named_disks_exist(root, step, &mut found);
        failure_fits_the_action(step, codes, &mut found);
        json_is_a_command(step.key("qmp").key("json"), source, reach, &mut found);
    }
    for fault in root.key("fault").items() {
        point_fits_the_moment(fault.key("at"), &mut found);
        kind_fits_the_moment(fault, &mut found);
        json_is_a_command(fault.key("do").key("qmp"), source, reach, &mut found);
        garbage_is_no_command(fault, reach, &mut found);
    }
    found
}

/// Below a folder named `suite`, a scenario is found by its id: the id is the path.
fn id_is_the_path(id: Node<'_>, file: &Utf8Path, found: &mut Vec<Found>) {
    let Some(written) = id.text().filter(|id| !id.is_empty()) else { return };
    let Some(expected) = id_of(file) else { return };
    if written != expected {
        let message = format!("`{written}` is not where this file lies");
        found.push(Found::new(id.span(), message, format!("the id here is \"{expected}\"")));
    }
}

/// `external/two-disks` for `scenarios/suite/external/two-disks.toml`; nothing outside a suite.
fn id_of(file: &Utf8Path) -> Option<String> {
    let components: Vec<&str> = file.components().map(|component| component.as_str()).collect();
    let (_, folders) = components.split_last()?;
    let suite = folders.iter().rposition(|folder| *folder == "suite")?;
    let path = components[suite + 1..].join("/");
    Some(path.strip_suffix(".toml").unwrap_or(&path).to_owned())
}

fn disks_have_one_name_each(root: Node<'_>, found: &mut Vec<Found>) {
    let mut names = BTreeSet::new();
    for target in targets(root) {
        let Some(name) = target.text() else { continue };
        if !names.insert(name) {
            let message = format!("a second disk `{name}` in this machine");
            found.push(Found::new(target.span(), message, "each disk has a target of its own".into()));
        }
    }
}

fn expected_disks_exist(root: Node<'_>, found: &mut Vec<Found>) {
    for table in ["chain", "internal"] {
        for (disk, _) in root.key("expect").key(table).entries() {
            disk_exists(root, disk, found);
        }
    }
}

fn named_disks_exist(root: Node<'_>, step: Node<'_>, found: &mut Vec<Found>) {
    for action in DRIVER_ACTIONS.map(|action| step.key(action)) {
        for named in action.key("disks").items().chain([action.key("vmstate")]) {
            if let Some(name) = named.text() {
                disk_exists(root, Key { name, span: named.span() }, found);
            }
        }
        let tables = ["files", "places", "formats"].map(|table| action.key(table));
        for (disk, _) in tables.iter().flat_map(|table| table.entries()) {
            disk_exists(root, disk, found);
        }
    }
}

fn disk_exists(root: Node<'_>, disk: Key<'_>, found: &mut Vec<Found>) {
    let known: BTreeSet<&str> = targets(root).filter_map(Node::text).collect();
    if !known.contains(disk.name) {
        let message = format!("no disk `{}` in this machine", disk.name);
        found.push(Found::new(disk.span, message, listed("disks are", known)));
    }
}

/// The machine's disks, as many as it may have: a name is looked up, and all are listed, for each use of one.
fn targets<'t>(root: Node<'t>) -> impl Iterator<Item = Node<'t>> {
    root.key("machine").key("disks").items().take(DISKS_MAX).map(|disk| disk.key("target"))
}

/// A real guest would have to be booted for it.
fn agent_is_simulated(root: Node<'_>, reach: Reach, found: &mut Vec<Found>) {
    let agent = root.key("machine").key("agent");
    if agent.is_there() && reach == Reach::Folder {
        let message = "no agent in the guest of a real QEMU: it has no operating system".into();
        found.push(Found::new(agent.span(), message, "targets = [\"sim\"]".into()));
    }
}

fn agent_is_there(root: Node<'_>, step: Node<'_>, found: &mut Vec<Found>) {
    let request = step.key("agent");
    if request.is_there() && !root.key("machine").key("agent").is_there() {
        let message = "no agent in this machine".into();
        found.push(Found::new(request.span(), message, "[machine] agent = \"linux\"".into()));
    }
}

/// The driver's errors have a code, QEMU's a class.
fn failure_fits_the_action(step: Node<'_>, codes: &[&str], found: &mut Vec<Found>) {
    let by_driver = DRIVER_ACTIONS.iter().any(|action| step.key(action).is_there());
    let by_qemu = step.key("qmp").is_there() || step.key("agent").is_there();
    for (key, value) in step.key("fails").entries() {
        match (key.name, value.text()) {
            ("class", _) if by_driver && !by_qemu => {
                let message = "the driver's errors have no `class`".into();
                found.push(Found::new(key.span, message, "they have a `code`".into()));
            }
            ("code", _) if by_qemu && !by_driver => {
                let message = "QEMU's errors have no `code`".into();
                found.push(Found::new(key.span, message, "they have a `class`: GenericError …".into()));
            }
            ("code", Some(code)) if !codes.is_empty() && !codes.contains(&code) => {
                let help = suggest(code, "codes are", codes.iter().copied());
                found.push(Found::new(
                    value.span(),
                    format!("no error of the driver has the code `{code}`"),
                    help,
                ));
            }
            _ => {}
        }
    }
}

/// A command has no `after`, an event no `applied`.
fn point_fits_the_moment(at: Node<'_>, found: &mut Vec<Found>) {
    let point = at.key("point");
    let (message, points) = match point.text() {
        Some("after") if at.key("qmp").is_there() => ("a command has no point `after`", "before, applied"),
        Some("applied") if is_event(at) => ("an event has no point `applied`", "before, after"),
        _ => return,
    };
    found.push(Found::new(point.span(), message.into(), format!("points are: {points}")));
}

/// Only a command can be answered with an error; what was sent cannot be lost or cut any more.
fn kind_fits_the_moment(fault: Node<'_>, found: &mut Vec<Found>) {
    let (at, kind) = (fault.key("at"), fault.key("do"));
    if !is_event(at) {
        return;
    }
    if kind.key("error").is_there() {
        let message = "an event cannot be answered with an error".into();
        found.push(Found::new(kind.span(), message, "an error is for at = { qmp = … }".into()));
    }
    let of_the_line =
        kind.text() == Some("lose-reply") || ["split", "delay"].iter().any(|k| kind.key(k).is_there());
    if of_the_line && at.key("point").text() == Some("after") {
        let message = "after the event was sent it cannot be lost, cut or delayed".into();
        found.push(Found::new(kind.span(), message, "the point for that is before".into()));
    }
}

/// A job's status is told by an event.
fn is_event(at: Node<'_>) -> bool {
    at.key("event").is_there() || at.key("job").is_there()
}

/// What raw JSON may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// A simulator has nothing that it could harm.
    Anything,
    /// On a real QEMU: what [`reach`] lets through.
    Folder,
}

/// Both worlds are meant where none is named.
fn is_for_real_qemu(root: Node<'_>) -> bool {
    let targets = root.key("targets");
    !targets.is_there() || targets.items().any(|target| target.text() == Some("qemu"))
}

/// Raw JSON is an object; whether it is a good command is for QEMU to say.
fn json_is_a_command(json: Node<'_>, source: &str, reach: Reach, found: &mut Vec<Found>) {
    let Some(text) = json.text() else { return };
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => {
            let beyond = (reach == Reach::Folder).then(|| reach::beyond(&value)).flatten();
            found.extend(beyond.map(|beyond| {
                let quoted = format!("\"{}\"", beyond.text);
                let whole = place_of_text(json.span(), source, &quoted);
                Found::new(whole, beyond.message, beyond.help)
            }));
        }
        Ok(_) => {
            let help = "a command is {\"execute\": …}".into();
            found.push(Found::new(json.span(), "this JSON is no object".into(), help));
        }
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
            let span = place_within(json.span(), source, text, offset_of(&error, text));
            found.push(Found::new(span, "this is no JSON".into(), reason));
        }
    }
}

/// Garbage before a command goes to QEMU; a `{` in it could begin a command of its own.
fn garbage_is_no_command(fault: Node<'_>, reach: Reach, found: &mut Vec<Found>) {
    let (at, garbage) = (fault.key("at"), fault.key("do").key("garbage"));
    let to_qemu = at.key("qmp").is_there() && at.key("point").text() == Some("before");
    if reach == Reach::Folder && to_qemu && garbage.text().is_some_and(|text| text.contains('{')) {
        let message = "garbage with a `{` may not be sent to a real QEMU".into();
        let help = "it could be a command; or targets = [\"sim\"]".into();
        found.push(Found::new(garbage.span(), message, help));
    }
}

/// Where a text stands in a string of the file; the whole string if it does not stand there as it is.
fn place_of_text(string: Range<usize>, source: &str, text: &str) -> Range<usize> {
    match source.get(string.clone()).and_then(|written| written.find(text)) {
        Some(start) => string.start + start..string.start + start + text.len(),
        None => string,
    }
}

/// Where in the text serde_json stopped, in bytes. It counts lines from 1 and a line's bytes from 1.
fn offset_of(error: &serde_json::Error, text: &str) -> usize {
    if error.is_eof() {
        return text.trim_end().len();
    }
    let lines_before = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    lines_before.map(str::len).sum::<usize>() + error.column().saturating_sub(1)
}

/// Where a byte of a string's text stands in the file: exactly, if the string is written without escapes so
/// that its text stands there as it is; else the whole string.
fn place_within(string: Range<usize>, source: &str, text: &str, offset: usize) -> Range<usize> {
    match source.get(string.clone()).and_then(|written| written.find(text)) {
        Some(start) => string.start + start + offset..string.start + start + offset + 1,
        None => string,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_path_below_the_innermost_suite() {
        let id = |file: &str| id_of(file.into());
        assert_eq!(id("scenarios/suite/external/two-disks.toml").as_deref(), Some("external/two-disks"));
        assert_eq!(id("/home/suite/suite/a.toml").as_deref(), Some("a"));
        assert_eq!(id("two-disks.toml"), None);
        assert_eq!(id("suite"), None);
        assert_eq!(id(""), None);
    }
}
