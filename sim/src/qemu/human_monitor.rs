//! `human-monitor-command`: the commands of the human monitor that snapshot drivers use.
//!
//! | where | what |
//! | --- | --- |
//! | here | `savevm`, `loadvm`, `delvm`, `stop`, `cont`, `system_reset`, `commit` |
//! | [`tables`] | `info snapshots`, `info block` |
//! | [`info`] | what else `info` shows of things that change |
//! | [`translated`] | QMP commands in other words |
//! | [`qemu_io`] | `qemu-io` |
//! | [`port`] | `o` |
//! | [`help`] | `help`, and what `info` shows of things that never change |
//!
//! What goes wrong, even a command that does not exist, is part of the text that is returned: the command succeeds.
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

mod help;
mod info;
mod port;
mod qemu_io;
mod tables;
mod translated;

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

    /// What is said where its argument is missing.
    fn expects(&self) -> &'static str {
        if self.name == "commit" { "block device name expected" } else { "string expected" }
    }
}

/// What `info` shows of something that changes.
struct Shown {
    name: &'static str,
    show: fn(&mut Qemu, &mut Context<'_>) -> String,
}

impl Shown {
    const fn new(name: &'static str, show: fn(&mut Qemu, &mut Context<'_>) -> String) -> Self {
        Self { name, show }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Argument {
    None,
    Optional,
    Required,
}

const COMMANDS: [Command; 7] = [
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
    Command { name: "commit", argument: Argument::Required, act: commit },
];

const INFO: [Shown; 13] = [
    Shown::new("block-jobs", |qemu, cx| info::block_jobs(qemu, cx)),
    Shown::new("blockstats", |qemu, cx| info::blockstats(qemu, cx)),
    Shown::new("chardev", |qemu, cx| info::chardev(qemu, cx)),
    Shown::new("cpus", |qemu, cx| info::cpus(qemu, cx)),
    Shown::new("iothreads", |qemu, cx| info::iothreads(qemu, cx)),
    Shown::new("memdev", |qemu, cx| info::memdev(qemu, cx)),
    Shown::new("memory_size_summary", |qemu, cx| info::memory_size_summary(qemu, cx)),
    Shown::new("migrate_capabilities", |qemu, cx| info::migrate_capabilities(qemu, cx)),
    Shown::new("name", |qemu, _| qemu.about.name_line()),
    Shown::new("snapshots", tables::snapshots),
    Shown::new("status", |qemu, _| status(qemu)),
    Shown::new("uuid", |qemu, _| qemu.about.uuid_line()),
    Shown::new("version", |_, cx| version(cx.release())),
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
    match name.as_str() {
        "o" => return port::command(qemu, rest, cx).map(QObject::from),
        "help" | "?" => return Ok(help::help(cx.release(), rest).into()),
        "info" => return info(qemu, rest, cx).map(QObject::from),
        _ => {}
    }
    let release = cx.release();
    let Some(found) =
        COMMANDS.iter().find(|command| command.name(release).split('|').any(|each| each == name))
    else {
        return match translated::command(qemu, name, rest, cx) {
            _ if !help::exists(release, name, false) => Ok(format!("unknown command: '{name}'\r\n").into()),
            Some(said) => said.map(QObject::from),
            None => Err(not_simulated(&format!("human monitor command `{name}`"))),
        };
    };
    let complaint = match rest.len() {
        1.. if !is_whole && found.argument != Argument::None => Some("string expected"),
        0 if found.argument == Argument::Required => Some(found.expects()),
        1 if found.argument == Argument::None => Some(EXTRANEOUS),
        2.. => Some(EXTRANEOUS),
        _ => None,
    };
    Ok(match complaint {
        Some(complaint) => self::complaint("", found.name(release), complaint),
        None => (found.act)(qemu, rest.first().map(String::as_str), cx),
    }
    .into())
}

/// Words that no command takes.
const EXTRANEOUS: &str = "extraneous characters at the end of line";

fn complaint(prefix: &str, shown: &str, complaint: &str) -> String {
    let plain = shown.split('|').next().unwrap_or_default();
    format!("{shown}: {complaint}\r\nTry \"help {prefix}{plain}\" for more information\r\n")
}

/// `info`.
fn info(qemu: &mut Qemu, words: &[String], cx: &mut Context<'_>) -> Result<String, QmpError> {
    let release = cx.release();
    let Some((topic, rest)) = words.split_first() else {
        return Ok(help::help(release, &["info".to_owned()]));
    };
    if topic == "block" {
        return Ok(tables::block(qemu, rest, cx));
    }
    if !help::exists(release, topic, true) {
        return Ok(format!("unknown command: 'info {topic}'\r\n"));
    }
    let line = format!("info {topic}");
    let changes = INFO.iter().find(|shown| shown.name == topic);
    let always = help::always(release, &line).filter(|_| topic != "migrate" || !qemu.migration.has_begun());
    match (changes, always) {
        (None, None) => Err(not_simulated(&format!("human monitor command `{line}`"))),
        _ if !rest.is_empty() => Ok(complaint("info ", topic, EXTRANEOUS)),
        (Some(shown), _) => Ok((shown.show)(qemu, cx)),
        (None, Some(always)) => Ok(always),
    }
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

/// `commit`: what stands in the images of drives goes into those below them.
fn commit(qemu: &mut Qemu, drive: Option<&str>, cx: &mut Context<'_>) -> String {
    let drive = drive.unwrap_or_default();
    let known = qemu.graph.devices().iter().any(|device| !device.drive.is_empty() && device.drive == drive);
    if drive == "all" || known { String::new() } else { cx.release().no_drive_to_commit(drive) }
}

/// A number of bytes, in MiB if it has no unit.
fn size(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &word[digits.len()..] {
        "b" | "B" => 0,
        "k" | "K" => 10,
        "" | "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
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
