//! `human-monitor-command`: the few commands of the human monitor that snapshot drivers use.
//!
//! `savevm`, `loadvm`, `delvm`, `stop`, `cont`, `system_reset`, `qemu-io`, `info snapshots`, `info block`,
//! `info block-jobs`, `info status`, `info version`. What goes wrong, even a command that does not exist, is part of the text that is returned: the command
//! succeeds.
//! Other commands of the human monitor are not simulated.

use std::time::Duration;

use super::{
    Context, Qemu, QmpError, Request, Timer,
    arguments::Arguments,
    not_simulated,
    run_state::RunState,
    vm_snapshot::{Disks, Machine, NotLoaded},
};
use crate::{Release, host::Host, qobject::QObject};

mod names;
mod qemu_io;
mod tables;

/// A command that is simulated.
struct Command {
    /// The name as QEMU's texts give it, with its abbreviation.
    name: &'static str,
    /// Whether it takes an argument: at most one is simulated.
    argument: Argument,
    act: fn(&mut Qemu, Option<&str>, &mut Context<'_>) -> String,
}

impl Command {
    fn name(&self, release: Release) -> &'static str {
        if self.name == "stop|s" && !release.stop_has_an_abbreviation() { "stop" } else { self.name }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Argument {
    None,
    Optional,
    Required,
}

const COMMANDS: [Command; 6] = [
    Command { name: "savevm", argument: Argument::Optional, act: savevm },
    Command {
        name: "loadvm",
        argument: Argument::Required,
        act: |qemu, tag, cx| loadvm(qemu, tag.unwrap_or(""), cx),
    },
    Command {
        name: "delvm",
        argument: Argument::Required,
        act: |qemu, tag, cx| delvm(qemu, tag.unwrap_or(""), cx),
    },
    Command { name: "stop|s", argument: Argument::None, act: |qemu, _, cx| stop(qemu, cx) },
    Command { name: "cont|c", argument: Argument::None, act: |qemu, _, cx| cont(qemu, cx) },
    Command { name: "system_reset", argument: Argument::None, act: |qemu, _, cx| system_reset(qemu, cx) },
];

const INFO: [Command; 7] = [
    Command { name: "block", argument: Argument::None, act: |qemu, _, cx| tables::block(qemu, cx) },
    Command { name: "block-jobs", argument: Argument::None, act: |_, _, _| "No active jobs\r\n".into() },
    Command { name: "name", argument: Argument::None, act: |qemu, _, _| qemu.about.name_line() },
    Command { name: "snapshots", argument: Argument::None, act: |qemu, _, cx| tables::snapshots(qemu, cx) },
    Command { name: "status", argument: Argument::None, act: |qemu, _, _| status(qemu) },
    Command { name: "uuid", argument: Argument::None, act: |qemu, _, _| qemu.about.uuid_line() },
    Command { name: "version", argument: Argument::None, act: |_, _, cx| version(cx.release()) },
];

/// `human-monitor-command`.
pub(crate) fn command(
    qemu: &mut Qemu,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let line = arguments.text("command-line");
    // One processor is simulated.
    if arguments.0.get("cpu-index").is_some_and(|index| index.as_i64() != Some(0)) {
        return Err(QmpError::generic("Parameter 'cpu-index' expects a CPU number"));
    }
    let (words, is_whole) = words(line);
    let Some((name, rest)) = words.split_first() else { return Ok("".into()) };
    if name == "qemu-io" {
        return qemu_io::command(qemu, rest, cx).map(QObject::from);
    }
    let (known, help, name, rest) = match rest.split_first() {
        Some((topic, rest)) if name == "info" => (INFO.as_slice(), "info ", topic, rest),
        _ => (COMMANDS.as_slice(), "", name, rest),
    };
    let release = cx.release();
    let Some(found) = known.iter().find(|command| command.name(release).split('|').any(|each| each == name))
    else {
        if names::exists(name, !help.is_empty()) {
            return Err(not_simulated(&format!("human monitor command `{help}{name}`")));
        }
        return Ok(format!("unknown command: '{help}{name}'\r\n").into());
    };
    let complaint = match rest.len() {
        1.. if !is_whole && found.argument != Argument::None => Some("string expected"),
        0 if found.argument == Argument::Required => Some("string expected"),
        1 if found.argument == Argument::None => Some("extraneous characters at the end of line"),
        2.. => Some("extraneous characters at the end of line"),
        _ => None,
    };
    if name == "block" && complaint.is_some() {
        return Err(not_simulated("`info block` of one device"));
    }
    if let Some(complaint) = complaint {
        let shown = found.name(release);
        let plain = shown.split('|').next().unwrap_or_default();
        return Ok(
            format!("{shown}: {complaint}\r\nTry \"help {help}{plain}\" for more information\r\n").into()
        );
    }
    Ok((found.act)(qemu, rest.first().map(String::as_str), cx).into())
}

/// Splits a line at blanks; double quotes keep them together. Where a quoted word has no end, or an escape that is none, it is
/// the last, as it stands there, and the line is not whole.
fn words(line: &str) -> (Vec<String>, bool) {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"').map(quoted) {
            Some(Some((word, after))) => (word, after),
            Some(None) => {
                words.push(rest.to_owned());
                return (words, false);
            }
            None => {
                let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                (word.to_owned(), after)
            }
        };
        words.push(word);
        rest = after.trim_start();
    }
    (words, true)
}

/// The word up to the closing quote, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut left = text.chars();
    loop {
        word.push(match left.next()? {
            '"' => return Some((word, left.as_str())),
            '\\' => match left.next()? {
                'n' => '\n',
                'r' => '\r',
                c @ ('\\' | '\'' | '"') => c,
                _ => return None,
            },
            c => c,
        });
    }
}

fn savevm(qemu: &mut Qemu, tag: Option<&str>, cx: &mut Context<'_>) -> String {
    let stamp = tables::civil(Host::EPOCH + cx.now());
    let tag = tag.map_or_else(|| stamp.tag(), str::to_owned);
    or_error(machine(qemu).save(&tag, Disks::All, cx))
}

fn loadvm(qemu: &mut Qemu, tag: &str, cx: &mut Context<'_>) -> String {
    let loaded = machine(qemu).load(tag, Disks::All, cx);
    report_ports(qemu, cx);
    match loaded {
        Ok(()) => String::new(),
        Err(NotLoaded { detail, text }) => format!("{detail}{}", or_error(Err(text))),
    }
}

fn delvm(qemu: &mut Qemu, tag: &str, cx: &mut Context<'_>) -> String {
    or_error(machine(qemu).delete(tag, Disks::All, cx))
}

fn stop(qemu: &mut Qemu, cx: &mut Context<'_>) -> String {
    qemu.stop(cx);
    String::new()
}

fn cont(qemu: &mut Qemu, cx: &mut Context<'_>) -> String {
    or_error(qemu.cont(cx).map_err(|error| error.desc))
}

fn system_reset(qemu: &mut Qemu, cx: &mut Context<'_>) -> String {
    qemu.request(Request::Reset, cx);
    String::new()
}

/// The version, and the package straight behind it.
fn version(release: Release) -> String {
    let (major, minor, micro) = release.version();
    format!("{major}.{minor}.{micro}{}\r\n", release.package())
}

fn status(qemu: &Qemu) -> String {
    match qemu.cpus.state() {
        RunState::Running => "VM status: running\r\n".into(),
        RunState::Paused => "VM status: paused\r\n".into(),
        other => format!("VM status: paused ({})\r\n", other.name()),
    }
}

/// Closed ports are reported before the reply, or behind it by the oldest release.
fn report_ports(qemu: &mut Qemu, cx: &mut Context<'_>) {
    if cx.release().ports_report_before_the_reply() {
        qemu.cpus.report_ports(cx);
    } else if qemu.cpus.owes_a_port_report() {
        cx.schedule(Duration::ZERO, Timer::SerialPorts);
    }
}

fn machine(qemu: &mut Qemu) -> Machine<'_> {
    Machine {
        graph: &mut qemu.graph,
        cpus: &mut qemu.cpus,
        jobs: &mut qemu.jobs,
        migration: &mut qemu.migration,
        firmware: &mut qemu.firmware,
        chipset: qemu.devices.chipset(),
    }
}

fn or_error(outcome: Result<(), String>) -> String {
    outcome.map_or_else(|error| format!("Error: {error}\r\n"), |()| String::new())
}
