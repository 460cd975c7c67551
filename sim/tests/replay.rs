//! Recordings of real QEMU, replayed against the model: same commands, same events and replies in the same order.
//!
//! Each recording is the traffic of one monitor, one line of JSON a line; its first line holds QEMU's arguments, from
//! which the machine is made. Commands that the model does not answer itself are left out ([`ANSWERED_OUTSIDE`]); what
//! no model can repeat is masked ([`VOLATILE`]), and so are the digits of `info snapshots`, which shows the same. Resets
//! by the guest's firmware are left out ([`by_the_firmware`]), and so is that it makes jobs rest for a moment
//! ([`without_rests`]). All else must be equal, member by member.
#![allow(clippy::disallowed_methods, reason = "reads the recordings beside it")]

use std::{fmt, path::Path, time::Duration};

use freezeframe_sim::{
    Machine, Oracle, Release,
    host::{Host, Image, Qcow2},
    machine::{Disk, Format, Power},
    qemu::{Context, Event, Qemu, QmpError, Timer},
    qobject::QObject,
};
use rstest::rstest;
use serde_json::{Map, Value, json};

/// Commands that are answered before they reach the model, or that it does not know.
const ANSWERED_OUTSIDE: [(&str, &str); 2] =
    [("qmp_capabilities", "the monitor's"), ("device_del", "not simulated")];

/// Bytes that the recorder's disks held, in recordings of I/O errors and in all others.
const WRITTEN: [u64; 2] = [2 << 20, 8 << 20];

/// Recordings in which sizes on disk differ too: where a machine's state is saved, a job under way has copied already, a
/// snapshot was undone, bitmaps are stored, or the host's file system counts its own.
const SIZES_DIFFER: [&str; 9] = [
    "internal-sync",
    "job-bitmaps",
    "job-filters",
    "overlay-chain",
    "partial-snapshots",
    "resize",
    "snap-",
    "stored-bitmaps",
    "throttle-limits",
];

/// Recordings whose disks were empty.
const EMPTY: [&str; 8] = [
    "create-errors",
    "create-overlay",
    "internal-sync",
    "partial-snapshots",
    "run-state",
    "snapshot-sync",
    "txn-snapshot",
    "overlay-chain",
];

/// A recording so slow that the guest's firmware had not come to the disks: as if the guest had not run.
const BEFORE_THE_FIRMWARE: &str = "11.1/commit-mid.jsonl";

/// Cases that are recorded of later releases alone.
const NOT_OF_THE_OLDEST: [&str; 2] = ["backup-bitmaps", "node-options"];

/// What is due so soon has happened when the recorded client sends its next command: it waited for it.
const SOON: Duration = Duration::from_millis(50);

/// Members that hold what differs from run to run: clocks, and the size of the machine's state.
const VOLATILE: [&str; 8] = [
    "date-sec",
    "date-nsec",
    "vm-clock-sec",
    "vm-clock-nsec",
    "vm-state-size",
    "wr_highest_offset",
    "rd_total_time_ns",
    "idle_time_ns",
];

/// An image that the recorder made beforehand, to copy to.
const TARGET: &str = "t0";

/// How the names of nodes begin that QEMU has named itself.
const NAMED_BY_QEMU: &str = "#block";

/// What the recorder's folder is called here.
const FOLDER: &str = "/images";

/// What goes over the wire towards the client.
#[derive(Clone, PartialEq)]
struct Said(Value);

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A recording: the machine, the commands, and what QEMU said.
struct Recording {
    machine: Machine,
    written: u64,
    commands: Vec<Command>,
    said: Vec<Said>,
}

struct Command {
    at: Duration,
    id: String,
    name: String,
    arguments: Map<String, Value>,
}

#[rstest]
fn the_model_says_what_qemu_said(
    #[values("5.2", "7.2", "10.0", "11.1")] release: &str,
    #[values(
        "backup",
        "backup-bitmaps",
        "backup-manual",
        "bitmaps",
        "blockstats",
        "commit-active",
        "commit-active-manual",
        "commit-errors",
        "commit-mid",
        "create-errors",
        "create-overlay",
        "drive-backup",
        "drive-mirror",
        "exports",
        "filters",
        "hmp",
        "hmp-nodisk",
        "internal-sync",
        "ioerr-ignore",
        "ioerr-mirror",
        "ioerr-report",
        "job-bitmaps",
        "job-filters",
        "mirror",
        "mirror-manual",
        "overlay-chain",
        "node-options",
        "partial-snapshots",
        "permissions",
        "quit",
        "raw-disk",
        "reopen",
        "resize",
        "run-state",
        "snap-concurrent",
        "snap-errors",
        "snap-load-paused",
        "snap-load-prelaunch",
        "snap-load-running",
        "snap-save-paused",
        "snap-save-running",
        "snapshot-sync",
        "stored-bitmaps",
        "stream",
        "throttle-limits",
        "two-users",
        "txn-snapshot"
    )]
    case: &str,
) {
    let path = format!("{}/tests/recordings/{release}/{case}.jsonl", env!("CARGO_MANIFEST_DIR"));
    if !Path::new(&path).exists() {
        assert!(
            release == "5.2" && (case.starts_with("snap-") || NOT_OF_THE_OLDEST.contains(&case)),
            "no recording {path}"
        );
        return;
    }
    let mut recording = read(&path);
    let mut modelled = replay(&recording, release.parse().unwrap());
    if SIZES_DIFFER.iter().any(|differs| case.starts_with(differs)) {
        modelled.iter_mut().chain(&mut recording.said).for_each(|said| mask_sizes(&mut said.0));
    }
    for at in 0..modelled.len().max(recording.said.len()) {
        assert_eq!(modelled.get(at), recording.said.get(at), "{release} {case}: line {at}");
    }
}

/// Feeds the commands to the model; a command's events come before its reply. What it leaves for later is done before
/// the next command, as the recorded client let QEMU do.
fn replay(recording: &Recording, release: Release) -> Vec<Said> {
    let mut host = Host::new();
    let mut oracle = Oracle::default();
    let mut qemu = Qemu::new(&recording.machine, release, &mut host);
    for disk in &recording.machine.disks {
        let image = host.image_mut(&disk.path).unwrap();
        (0..recording.written / Qcow2::CLUSTER).for_each(|block| image.write(block, 1));
    }
    host.create_new(TARGET.into(), Image::qcow2(Machine::DISK_SIZE)).unwrap();
    let mut said = Vec::new();
    let mut timers: Vec<(Duration, Timer)> = Vec::new();
    for command in &recording.commands {
        let happened = |(at, _): &(Duration, Timer)| *at <= command.at;
        said.extend(run_timers(&mut qemu, release, &mut oracle, &mut host, &mut timers, happened));
        let mut cx = Context::new(command.at, release, &mut oracle, &mut host);
        let reply = qemu.execute(&command.name, command.arguments.clone(), &mut cx);
        let (events, asked) = cx.finish();
        timers.extend(asked);
        said.extend(lines(events));
        said.push(reply_line(&command.id, reply.map(Value::from)));
        let soon = |(at, _): &(Duration, Timer)| *at <= command.at + SOON;
        said.extend(run_timers(&mut qemu, release, &mut oracle, &mut host, &mut timers, soon));
    }
    assert!(qemu.gone(), "the recording ends with `quit`");
    without_rests(said)
}

fn run_timers(
    qemu: &mut Qemu,
    release: Release,
    oracle: &mut Oracle,
    host: &mut Host,
    timers: &mut Vec<(Duration, Timer)>,
    due: impl Fn(&(Duration, Timer)) -> bool,
) -> Vec<Said> {
    let mut said = Vec::new();
    while let Some(next) = timers.iter().position(&due) {
        let (at, timer) = timers.remove(next);
        let mut cx = Context::new(at, release, oracle, host);
        qemu.timer(timer, &mut cx);
        let (events, asked) = cx.finish();
        said.extend(lines(events));
        timers.extend(asked);
    }
    said
}

/// Leaves out that a job rested and went on at once behind a reply: the guest's firmware resets its devices in the
/// first second, QEMU then drains their nodes, and when that is differs from run to run.
fn without_rests(said: Vec<Said>) -> Vec<Said> {
    let status = |said: &Said| said.0["data"]["status"].as_str().map(str::to_owned);
    let mut left: Vec<Said> = Vec::new();
    for line in said {
        let rested = left.last().and_then(status);
        let goes_on = match status(&line).as_deref() {
            Some("running") => rested.as_deref() == Some("paused"),
            Some("ready") => rested.as_deref() == Some("standby"),
            _ => false,
        };
        if goes_on {
            left.pop();
        } else {
            left.push(line);
        }
    }
    left
}

/// The events that are compared.
fn lines(events: Vec<Event>) -> impl Iterator<Item = Said> {
    events.into_iter().map(event_line).filter(|line| !by_the_firmware(&line.0))
}

fn event_line(event: Event) -> Said {
    let mut line = json!({ "event": event.name });
    if let Some(data) = event.data {
        line["data"] = QObject::from(data).into();
    }
    masked(line)
}

fn reply_line(id: &str, reply: Result<Value, QmpError>) -> Said {
    masked(match reply {
        Ok(value) => json!({ "id": id, "return": value }),
        Err(QmpError { class, desc }) => json!({ "id": id, "error": { "class": class, "desc": desc } }),
    })
}

/// Hides what is volatile, in whatever depth. A machine state of no size stays: it tells that there is none.
fn masked(mut line: Value) -> Said {
    mask(&mut line);
    Said(line)
}

fn mask(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::String(text) if text.contains("ICOUNT") || text.contains("vm-20") => {
            *text = text.replace(|c: char| c.is_ascii_digit(), "#");
        }
        Value::String(text) if text.contains(NAMED_BY_QEMU) => {
            let named =
                text.split(NAMED_BY_QEMU).map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
            // What comes before the first name is no rest of one.
            let first = text.split(NAMED_BY_QEMU).next().unwrap_or_default();
            let rests: Vec<_> = std::iter::once(first).chain(named.skip(1)).collect();
            *text = rests.join(NAMED_BY_QEMU);
        }
        Value::Object(members) => {
            for (name, member) in members {
                let volatile = VOLATILE.contains(&name.as_str());
                let says_there_is_none = name == "vm-state-size" && *member == 0;
                if volatile && !says_there_is_none {
                    *member = "volatile".into();
                } else {
                    mask(member);
                }
            }
        }
        _ => {}
    }
}

/// Hides how long files are, and how much of them is on disk.
fn mask_sizes(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask_sizes),
        Value::Object(members) => {
            let is_file = members.get("format").is_some_and(|format| format == "file");
            for (name, member) in members {
                if name == "actual-size" || (is_file && name == "virtual-size") {
                    *member = "volatile".into();
                } else {
                    mask_sizes(member);
                }
            }
        }
        _ => {}
    }
}

fn read(path: &str) -> Recording {
    let text = std::fs::read_to_string(path).unwrap().replace("$DIR", FOLDER);
    let is_one_of = |cases: &[&str]| cases.iter().any(|case| path.contains(&format!("/{case}")));
    let written = match path.contains("/ioerr-") {
        _ if is_one_of(&EMPTY) => 0,
        true => WRITTEN[0],
        false => WRITTEN[1],
    };
    let mut recording =
        Recording { machine: Machine::new(), written, commands: Vec::new(), said: Vec::new() };
    let mut outside = Vec::new();
    for record in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let line = record["line"].as_str().unwrap();
        if let Some(arguments) = line.strip_prefix("args ") {
            recording.machine = machine(arguments);
            if path.ends_with(BEFORE_THE_FIRMWARE) {
                recording.machine.power = Power::Prelaunch;
            }
        }
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        if let Some(name) = message["execute"].as_str() {
            let no_such = name.starts_with("snapshot-") && path.contains("/5.2/");
            if no_such || ANSWERED_OUTSIDE.iter().any(|(known, _)| *known == name) {
                outside.push(id);
                continue;
            }
            let at = Duration::from_millis(record["t"].as_f64().unwrap() as u64);
            let arguments = message["arguments"].as_object().cloned().unwrap_or_default();
            recording.commands.push(Command { at, id, name: name.into(), arguments });
        } else if message.get("QMP").is_none() && !outside.contains(&id) && !by_the_firmware(&message) {
            let mut message = message;
            message.as_object_mut().unwrap().remove("timestamp");
            recording.said.push(masked(message));
        }
    }
    recording.said = without_rests(recording.said);
    recording
}

/// Events that the guest's firmware causes when it finds its devices reset: how many varies.
fn by_the_firmware(message: &Value) -> bool {
    message["event"] == "RESET" && message["data"]["guest"] == true
}

/// The machine of QEMU's arguments: `-blockdev`s come in pairs, each followed by its device.
fn machine(arguments: &str) -> Machine {
    let mut machine = Machine::new();
    machine.folder = FOLDER.into();
    let mut disks: Vec<Disk> = Vec::new();
    let words: Vec<_> = arguments.split(' ').collect();
    for (at, word) in words.iter().enumerate() {
        let options = words.get(at + 1).copied().unwrap_or_default();
        let option =
            |name: &str| options.split(',').find_map(|each| each.strip_prefix(name)).unwrap_or_default();
        match *word {
            "-S" => machine.power = Power::Prelaunch,
            "-blockdev" if option("driver=") == "file" => {
                disks.push(Disk::new("", option("filename=").into()));
                disks.last_mut().unwrap().file_node = option("node-name=").into();
            }
            "-blockdev" => {
                let disk = disks.last_mut().unwrap();
                disk.target = option("node-name=").into();
                disk.format = if option("driver=") == "raw" { Format::Raw } else { Format::Qcow2 };
            }
            "-device" if options.starts_with("virtio-blk-pci") => {
                disks.last_mut().unwrap().device = option("id=").into()
            }
            "-device" if options.starts_with("virtserialport") => {
                machine = machine.serial_port(option("id="))
            }
            _ => {}
        }
    }
    machine.disks = disks;
    machine
}
