//! The meaning pass: what the shape of a file cannot tell.
//!
//! Do the names stand for something in this machine, do the parts of a step and of a fault go together, is
//! the raw JSON such, is the id the file's? Each check reads the tree by itself and passes over what is
//! missing or of the wrong type, so that one broken place hides no mistake elsewhere.

use std::{collections::BTreeSet, ops::Range};

use camino::Utf8Path;
use toml::de::DeValue;

use super::{
    machine::DISKS_MAX,
    reach,
    shape::{listed, suggest},
    tree::{Key, Node},
};
use crate::diagnostic::Found;

/// The actions of a step that the driver carries out; the others, `qmp` and `agent`, go past it.
const DRIVER_ACTIONS: [&str; 6] = ["snapshot", "revert", "delete", "recover", "probe", "storage"];

/// Every mistake in the meaning of the tree. `codes` are those that the driver's errors have; none given:
/// any code will do.
pub(super) fn check(root: Node<'_>, file: &Utf8Path, source: &str, codes: &[&str]) -> Vec<Found> {
    let mut found = Vec::new();
    id_is_the_path(root.key("id"), file, &mut found);
    disks_have_one_name_each(root, &mut found);
    root_ports_exist(root, root.key("machine").key("disks").items(), &mut found);
    storages_are_simulated(root, &mut found);
    expected_disks_exist(root, &mut found);
    expected_records_are_kept(root, &mut found);
    let reach = if is_for_real_qemu(root) { Reach::Folder } else { Reach::Anything };
    agent_has_a_system(root, &mut found);
    guest_can_boot(root, &mut found);
    for step in root.key("step").items() {
        agent_is_there(root, step, &mut found);
        named_disks_exist(root, step, &mut found);
        description_can_change(root, step.key("describe"), &mut found);
        root_ports_exist(root, step.key("describe").key("disks").items(), &mut found);
        root_ports_exist(root, std::iter::once(step.key("plug")), &mut found);
        later_disks_are_new(root, step.key("describe"), &mut found);
        failure_fits_the_action(step, codes, &mut found);
        only_qemu_does_it(step.key("storage"), &mut found);
        part_is_of_a_freeze(step.key("snapshot"), &mut found);
        what_is_gone_has_no_bytes(step.key("tamper"), &mut found);
        json_is_a_command(step.key("qmp").key("json"), source, reach, &mut found);
    }
    orders_are_simulated(root, &mut found);
    for fault in root.key("fault").items() {
        added_to_a_regression(root, fault, &mut found);
        faults_have_a_monitor(root, fault, &mut found);
        faults_have_an_agent(root, fault, &mut found);
        point_fits_the_moment(fault.key("at"), &mut found);
        kind_fits_the_moment(fault, &mut found);
        json_is_a_command(fault.key("do").key("qmp"), source, reach, &mut found);
        garbage_is_no_command(fault, reach, &mut found);
        guest_can_do_it(root, fault.key("do"), reach, &mut found);
        host_can_be_filled(fault.key("do"), reach, &mut found);
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

/// The machine with the disks that are described later has each of them once.
fn later_disks_are_new(root: Node<'_>, describe: Node<'_>, found: &mut Vec<Found>) {
    let mut names: BTreeSet<&str> = targets(root).filter_map(Node::text).collect();
    for target in describe.key("disks").items().map(|disk| disk.key("target")) {
        if let Some(name) = target.text().filter(|name| !names.insert(name)) {
            let message = format!("a second disk `{name}` in this machine");
            found.push(Found::new(target.span(), message, "each disk has a target of its own".into()));
        }
    }
    for (disk, _) in describe.key("formats").entries() {
        disk_exists(root, disk, found);
    }
}

fn expected_disks_exist(root: Node<'_>, found: &mut Vec<Found>) {
    for table in ["chain", "internal"] {
        for (disk, _) in root.key("expect").key(table).entries() {
            // The firmware's variables have snapshots, and never another image.
            if table == "internal" && disk.name == "nvram" && root.key("machine").key("nvram").is_there() {
                continue;
            }
            disk_exists(root, disk, found);
        }
    }
}

/// What records are to say is compared with nothing where none are kept.
fn expected_records_are_kept(root: Node<'_>, found: &mut Vec<Found>) {
    if matches!(root.key("machine").key("records").value(), Some(DeValue::Boolean(true))) {
        return;
    }
    for (key, _) in root.key("expect").entries() {
        if matches!(key.name, "records" | "current" | "record-holds") {
            let message = "no records of this machine's snapshots are kept".into();
            found.push(Found::new(key.span, message, "[machine] records = true".into()));
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
        let tables = ["files", "places", "formats", "providers"].map(|table| action.key(table));
        for (disk, _) in tables.iter().flat_map(|table| table.entries()) {
            disk_exists(root, disk, found);
        }
    }
}

fn disk_exists(root: Node<'_>, disk: Key<'_>, found: &mut Vec<Found>) {
    let known: BTreeSet<&str> = targets(root).chain(later_targets(root)).filter_map(Node::text).collect();
    if !known.contains(disk.name) {
        let message = format!("no disk `{}` in this machine", disk.name);
        found.push(Found::new(disk.span, message, listed("disks are", known)));
    }
}

/// What no storage knows: snapshots inside images, and exports by the machine's QEMU.
fn only_qemu_does_it(storage: Node<'_>, found: &mut Vec<Found>) {
    let export = Some(storage.key("do")).filter(|verb| verb.text() == Some("export"));
    let internal = Some(storage.key("internal")).filter(|internal| internal.is_there());
    for place in export.into_iter().chain(internal).filter(|_| !storage.key("method").is_there()) {
        let message = "the storage below the disks cannot do this".into();
        found.push(Found::new(place.span(), message, "method = \"qemu\"".into()));
    }
}

/// What was frozen in part, somebody has frozen.
fn part_is_of_a_freeze(snapshot: Node<'_>, found: &mut Vec<Found>) {
    let part = snapshot.key("frozen-in-part");
    if part.is_there() && !snapshot.key("frozen-by").is_there() {
        let message = "nobody has left word of this freeze".into();
        found.push(Found::new(part.span(), message, "frozen-by = \"...\"".into()));
    }
}

/// What is written somewhere into a file is said.
fn what_is_gone_has_no_bytes(tamper: Node<'_>, found: &mut Vec<Found>) {
    let at = tamper.key("at");
    if at.is_there() && !tamper.key("with").is_there() {
        let message = "nothing is written there: without `with` the file is removed".into();
        found.push(Found::new(at.span(), message, "with = \"...\"".into()));
    }
}

/// The machine's disks, as many as it may have: a name is looked up, and all are listed, for each use of one.
fn targets<'t>(root: Node<'t>) -> impl Iterator<Item = Node<'t>> {
    root.key("machine").key("disks").items().take(DISKS_MAX).map(|disk| disk.key("target"))
}

/// Those of the disks that somebody describes later.
fn later_targets<'t>(root: Node<'t>) -> impl Iterator<Item = Node<'t>> {
    let described = root.key("step").items().map(|step| step.key("describe"));
    described.flat_map(|describe| describe.key("disks").items()).map(|disk| disk.key("target"))
}

/// A real host's volumes and programs are nobody's to name in a file, and nobody lets a real host fail.
fn storages_are_simulated(root: Node<'_>, found: &mut Vec<Found>) {
    if !is_for_real_qemu(root) {
        return;
    }
    let later = root.key("step").items().flat_map(|step| step.key("describe").key("disks").items());
    let disks = root.key("machine").key("disks").items().chain(later).map(|disk| disk.key("storage"));
    let acts = root.key("step").items().map(|step| step.key("host"));
    for place in disks.chain(acts).filter(|place| place.is_there()) {
        let message = "no storage below the disks of a real QEMU".into();
        found.push(Found::new(place.span(), message, "targets = [\"sim\"]".into()));
    }
}

/// In which order a real QEMU does things is nobody's to choose, and what must hold in any case is asked of simulated machines.
fn orders_are_simulated(root: Node<'_>, found: &mut Vec<Found>) {
    let tables = root.key("schedule").items().chain([root.key("regression")]);
    for table in tables.filter(|table| table.is_there() && is_for_real_qemu(root)) {
        let message = "a real QEMU takes the order that it takes".into();
        found.push(Found::new(table.span(), message, "targets = [\"sim\"]".into()));
    }
}

/// Only what is kept for what it showed is held against how it goes without what was added.
fn added_to_a_regression(root: Node<'_>, fault: Node<'_>, found: &mut Vec<Found>) {
    let added = fault.key("added");
    if added.is_there() && !root.key("regression").is_there() {
        let message = "this scenario is not held against how it goes without the fault".into();
        found.push(Found::new(added.span(), message, "[regression] shows = \"...\"".into()));
    }
}

/// Each disk is plugged into a root port that is there.
fn root_ports_exist<'t>(root: Node<'t>, disks: impl Iterator<Item = Node<'t>>, found: &mut Vec<Found>) {
    let ports = root.key("machine").key("root-ports");
    let known: BTreeSet<&str> = ports.items().filter_map(Node::text).collect();
    for port in disks.map(|disk| disk.key("root-port")) {
        if let Some(name) = port.text().filter(|name| !known.contains(name)) {
            let message = format!("no root port `{name}` in this machine");
            found.push(Found::new(port.span(), message, listed("root ports are", known.clone())));
        }
    }
}

/// The guest of a plain real QEMU runs nothing.
fn agent_has_a_system(root: Node<'_>, found: &mut Vec<Found>) {
    let machine = root.key("machine");
    let (agent, hook) = (machine.key("agent"), machine.key("agent-hook"));
    if agent.is_there() && is_for(root, "qemu") {
        let message = "no agent in the guest of a real QEMU: it has no operating system".into();
        let help = "targets = [\"sim\"], or [\"sim\", \"guest\"]".into();
        found.push(Found::new(agent.span(), message, help));
    }
    if hook.is_there() && !agent.is_there() {
        found.push(no_agent(hook));
    }
    let frozen = machine.key("frozen-before");
    if frozen.is_there() && !agent.is_there() {
        found.push(no_agent(frozen));
    }
    if frozen.is_there() && is_for_real_qemu(root) {
        let message = "nobody else in a guest that boots freezes its file systems".into();
        found.push(Found::new(frozen.span(), message, "targets = [\"sim\"]".into()));
    }
    for disk in frozen.items() {
        if let Some(name) = disk.text() {
            disk_exists(root, Key { name, span: disk.span() }, found);
        }
    }
}

/// A guest that boots is Linux with an agent, and is started by the runner alone: the driver knows nothing of its kernel.
fn guest_can_boot(root: Node<'_>, found: &mut Vec<Found>) {
    if !is_for(root, "guest") {
        return;
    }
    let machine = root.key("machine");
    let (agent, state, launcher) = (machine.key("agent"), machine.key("state"), machine.key("launcher"));
    let targets = root.key("targets");
    let mut refuse = |at: Node<'_>, message: &str| {
        let help = "targets = [\"sim\"]".into();
        found.push(Found::new(at.span(), format!("a guest that boots {message}"), help));
    };
    match agent.text() {
        None if !agent.is_there() => refuse(targets, "has an agent, and this machine none"),
        Some("windows") => refuse(agent, "is Linux"),
        _ => {}
    }
    if matches!(state.text(), Some("prelaunch" | "off")) {
        refuse(state, "has booted before the first step");
    }
    if matches!(launcher.value(), Some(DeValue::Boolean(true))) {
        refuse(launcher, "is started by the runner, and by no launcher");
    }
}

fn agent_is_there(root: Node<'_>, step: Node<'_>, found: &mut Vec<Found>) {
    let there = root.key("machine").key("agent").is_there();
    let wanted = ["agent", "guest"].map(|action| step.key(action)).into_iter().filter(|key| key.is_there());
    found.extend(wanted.filter(|_| !there).map(no_agent));
}

/// What a machine is described as is held against its records alone; one that is off has its description in a file.
fn description_can_change(root: Node<'_>, describe: Node<'_>, found: &mut Vec<Found>) {
    let machine = root.key("machine");
    let (state, records) = (machine.key("state"), machine.key("records"));
    if describe.is_there() && state.text() == Some("off") {
        let message = "the description of a machine that is off is its driver's alone".into();
        found.push(Found::new(describe.span(), message, "[machine] state = \"running\"".into()));
    }
    if describe.is_there() && describe.entries().count() == 0 {
        found.push(Found::new(
            describe.span(),
            "nothing is described anew".into(),
            "memory, cpu, tpm, disks".into(),
        ));
    }
    if describe.is_there() && !matches!(records.value(), Some(DeValue::Boolean(true))) {
        let message = "no records, against which this description could be held".into();
        found.push(Found::new(describe.span(), message, "[machine] records = true".into()));
    }
}

fn no_agent(at: Node<'_>) -> Found {
    Found::new(at.span(), "no agent in this machine".into(), "[machine] agent = \"linux\"".into())
}

/// A fault strikes on the way to the first QEMU.
fn faults_have_a_monitor(root: Node<'_>, fault: Node<'_>, found: &mut Vec<Found>) {
    let is_off = root.key("machine").key("state").text() == Some("off");
    let at = fault.key("at");
    if is_off && !at.key("run").is_there() && !at.key("file").is_there() {
        let message = "no monitor of this machine, which is off, on which a fault could strike".into();
        found.push(Found::new(fault.key("at").span(), message, "at = { run = \"qemu-img\" }".into()));
    }
}

/// A fault at the agent strikes at one that is there, and one in the guest too.
fn faults_have_an_agent(root: Node<'_>, fault: Node<'_>, found: &mut Vec<Found>) {
    let there = root.key("machine").key("agent").is_there();
    let wanted = [fault.key("at").key("agent"), fault.key("do").key("guest")];
    found.extend(wanted.into_iter().filter(|key| key.is_there() && !there).map(no_agent));
}

/// What the guest does takes a device, and a real guest has no program that would write to a disk.
fn guest_can_do_it(root: Node<'_>, kind: Node<'_>, reach: Reach, found: &mut Vec<Found>) {
    let machine = root.key("machine");
    let lacks = match kind.text() {
        Some("guest-panics") if !machine.key("panic").is_there() => Some(("`pvpanic`", "panic = \"pause\"")),
        Some("watchdog-fires") if !machine.key("watchdog").is_there() => {
            Some(("watchdog", "watchdog = \"pause\""))
        }
        _ => None,
    };
    if let Some((device, help)) = lacks {
        let message = format!("no {device} in this machine");
        found.push(Found::new(kind.span(), message, format!("[machine] {help}")));
    }
    let disk = kind.key("guest-write-fails");
    if let Some(name) = disk.text() {
        disk_exists(root, Key { name, span: disk.span() }, found);
        if reach == Reach::Folder {
            let message = "no program in the guest of a real QEMU that would write".into();
            found.push(Found::new(kind.span(), message, "targets = [\"sim\"]".into()));
        }
    }
}

/// A real host has what space it has.
fn host_can_be_filled(kind: Node<'_>, reach: Reach, found: &mut Vec<Found>) {
    if kind.key("no-space").is_there() && reach == Reach::Folder {
        let message = "no way to fill a real host".into();
        found.push(Found::new(kind.span(), message, "targets = [\"sim\"]".into()));
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
        Some("after") if at.key("agent").is_there() => {
            ("a request to the agent has no point `after`", "before, applied")
        }
        Some("after") if at.key("run").is_there() => ("a program has no point `after`", "before, applied"),
        Some("after") if at.key("file").is_there() => ("a file has no point `after`", "before, applied"),
        Some("applied") if is_event(at) => ("an event has no point `applied`", "before, after"),
        _ => return,
    };
    found.push(Found::new(point.span(), message.into(), format!("points are: {points}")));
}

/// Only a command can be answered with an error; what was sent cannot be lost or cut any more.
fn kind_fits_the_moment(fault: Node<'_>, found: &mut Vec<Found>) {
    let (at, kind) = (fault.key("at"), fault.key("do"));
    let kills_the_driver = kind.text() == Some("kill-driver");
    let refuses = kind.key("refuse").is_there();
    if at.key("file").is_there() != refuses && !kills_the_driver && kind.is_there() {
        let help = "at = { file = \"pending\" }, do = \"kill-driver\" or { refuse = \"no-space\" }".into();
        let message =
            "the host refuses to change a file, or the driver is killed at it, and nothing else".into();
        found.push(Found::new(kind.span(), message, help));
        return;
    }
    if kills_the_driver || refuses {
        return;
    }
    let of_a_program = kind.key("fail").is_there()
        || matches!(kind.text(), Some("missing-program" | "kill-program" | "hang-program"));
    if at.key("run").is_there() != of_a_program && kind.is_there() {
        let help =
            "at = { run = \"qemu-img\" }, do = { fail = \"its words\" }, \"missing-program\", \"kill-program\", \"hang-program\" or \"kill-driver\""
                .into();
        found.push(Found::new(kind.span(), "programs fail or are killed, or their driver is".into(), help));
    }
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

/// Whether a world is among the targets. Where none is named the simulator and a plain real QEMU are meant.
fn is_for(root: Node<'_>, world: &str) -> bool {
    let targets = root.key("targets");
    match targets.is_there() {
        true => targets.items().any(|target| target.text() == Some(world)),
        false => world != "guest",
    }
}

fn is_for_real_qemu(root: Node<'_>) -> bool {
    is_for(root, "qemu") || is_for(root, "guest")
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
