//! Commands of the human monitor that are QMP commands in other words.
//!
//! What the QMP command refuses is told as a text. Only those are here whose words each stand for one argument.

use serde_json::{Map, Value, json};

use crate::qemu::{Context, Qemu, QmpError, arguments::Arguments, drive_name::DriveNames, not_simulated};

/// What a word of the command line becomes.
#[derive(Clone, Copy)]
enum Word {
    /// A text.
    Text(&'static str),
    /// A number of bytes, in MiB if it has no unit.
    Size(&'static str),
    /// A whole number.
    Number(&'static str),
    /// `on` or `off`.
    Switch(&'static str),
    /// `driver,name=value,...`: the head is the argument of that name.
    Options(&'static str),
    /// `unix:PATH`: the address of a server.
    Address(&'static str),
}

/// A command and what its words become.
struct Translated {
    name: &'static str,
    qmp: &'static str,
    /// How the first words are read; the rest may be missing.
    needed: usize,
    words: &'static [Word],
}

const fn translated(
    name: &'static str,
    qmp: &'static str,
    needed: usize,
    words: &'static [Word],
) -> Translated {
    Translated { name, qmp, needed, words }
}

const COMMANDS: [Translated; 33] = [
    translated("balloon", "balloon", 1, &[Word::Size("value")]),
    translated("block_job_cancel", "block-job-cancel", 1, &[Word::Text("device")]),
    translated("block_job_complete", "block-job-complete", 1, &[Word::Text("device")]),
    translated("block_job_pause", "block-job-pause", 1, &[Word::Text("device")]),
    translated("block_job_resume", "block-job-resume", 1, &[Word::Text("device")]),
    translated("block_job_set_speed", "block-job-set-speed", 2, &[Word::Text("device"), Word::Size("speed")]),
    translated("block_resize", "block_resize", 2, &[Word::Text("device"), Word::Size("size")]),
    translated(
        "block_set_io_throttle",
        "block_set_io_throttle",
        7,
        &[
            Word::Text("device"),
            Word::Number("bps"),
            Word::Number("bps_rd"),
            Word::Number("bps_wr"),
            Word::Number("iops"),
            Word::Number("iops_rd"),
            Word::Number("iops_wr"),
        ],
    ),
    translated("block_stream", "block-stream", 1, &[Word::Text("device"), Word::Number("speed")]),
    translated("chardev-remove", "chardev-remove", 1, &[Word::Text("id")]),
    translated("closefd", "closefd", 1, &[Word::Text("fdname")]),
    translated("device_add", "device_add", 1, &[Word::Options("driver")]),
    translated("device_del", "device_del", 1, &[Word::Text("id")]),
    translated("drive_backup", "drive-backup", 2, &[Word::Text("device"), Word::Text("target")]),
    translated("drive_mirror", "drive-mirror", 2, &[Word::Text("device"), Word::Text("target")]),
    translated("eject", "eject", 1, &[Word::Text("device")]),
    translated("getfd", "getfd", 1, &[Word::Text("fdname")]),
    translated("migrate", "migrate", 1, &[Word::Text("uri")]),
    translated("migrate_cancel", "migrate_cancel", 0, &[]),
    translated("migrate_incoming", "migrate-incoming", 1, &[Word::Text("uri")]),
    translated(
        "migrate_set_capability",
        "migrate-set-capabilities",
        2,
        &[Word::Text("capability"), Word::Switch("state")],
    ),
    translated("nbd_server_add", "nbd-server-add", 1, &[Word::Text("device"), Word::Text("name")]),
    translated("nbd_server_start", "nbd-server-start", 1, &[Word::Address("addr")]),
    translated("nbd_server_stop", "nbd-server-stop", 0, &[]),
    translated("nmi", "inject-nmi", 0, &[]),
    translated("object_add", "object-add", 1, &[Word::Options("qom-type")]),
    translated("object_del", "object-del", 1, &[Word::Text("id")]),
    translated("quit", "quit", 0, &[]),
    translated("set_link", "set_link", 2, &[Word::Text("name"), Word::Switch("up")]),
    translated(
        "snapshot_blkdev",
        "blockdev-snapshot-sync",
        1,
        &[Word::Text("device"), Word::Text("snapshot-file"), Word::Text("format")],
    ),
    translated(
        "snapshot_blkdev_internal",
        "blockdev-snapshot-internal-sync",
        2,
        &[Word::Text("device"), Word::Text("name")],
    ),
    translated(
        "snapshot_delete_blkdev_internal",
        "blockdev-snapshot-delete-internal-sync",
        2,
        &[Word::Text("device"), Word::Text("name")],
    ),
    translated("system_powerdown", "system_powerdown", 0, &[]),
];

/// Carries out a command, if it is one of these; what it says is nothing, or what was refused.
pub(super) fn command(
    qemu: &mut Qemu,
    name: &str,
    words: &[String],
    cx: &mut Context<'_>,
) -> Option<Result<String, QmpError>> {
    let found = COMMANDS.iter().find(|command| command.name == name)?;
    let unknown = || not_simulated(&format!("human monitor command `{name}` with such words"));
    // `migrate` waits for its end unless it is told not to; only then the client can look on.
    let (detached, words) = match words.split_first() {
        Some((flag, rest)) if name == "migrate" && flag == "-d" => (true, rest),
        _ => (false, words),
    };
    if words.len() < found.needed || words.len() > found.words.len() || name == "migrate" && !detached {
        return Some(Err(unknown()));
    }
    if words.iter().any(|word| word.starts_with('-')) {
        return Some(Err(unknown()));
    }
    let Some(mut arguments) = arguments(found, words) else { return Some(Err(unknown())) };
    if found.qmp == "blockdev-snapshot-sync" && words.len() == 1 {
        return Some(Ok("Error: Parameter 'snapshot-file' is missing\r\n".into()));
    }
    let drives = DriveNames::of(&qemu.graph);
    drives.resolve(found.qmp, &mut arguments);
    Some(match qemu.dispatch(found.qmp, Arguments(&arguments), cx).map_err(|refused| drives.name(refused)) {
        Ok(_) => Ok(String::new()),
        Err(error) if error.desc.starts_with("not simulated") => Err(error),
        Err(error) => Ok(format!("Error: {}\r\n", error.desc)),
    })
}

fn arguments(command: &Translated, words: &[String]) -> Option<Map<String, Value>> {
    let mut arguments = Map::new();
    for (word, becomes) in words.iter().zip(command.words) {
        let (name, value) = match becomes {
            Word::Text(name) => (name, word.as_str().into()),
            Word::Number(name) => (name, word.parse::<i64>().ok()?.into()),
            Word::Size(name) => (name, super::size(word)?.into()),
            Word::Switch(name) => (name, matches!(word.as_str(), "on").into()),
            Word::Address(name) => {
                (name, json!({"type": "unix", "data": {"path": word.strip_prefix("unix:")?}}))
            }
            Word::Options(head) => {
                for (place, part) in word.split(',').enumerate() {
                    let (name, value) = match part.split_once('=') {
                        None if place == 0 => (*head, part),
                        named => named?,
                    };
                    arguments.insert(name.into(), value.into());
                }
                continue;
            }
        };
        arguments.insert((*name).to_owned(), value);
    }
    match command.qmp {
        "drive-backup" => {
            arguments.extend([("sync".into(), json!("top")), ("mode".into(), json!("absolute-paths"))])
        }
        "drive-mirror" => arguments.extend([("sync".into(), json!("top"))]),
        "blockdev-snapshot-sync" => {
            arguments.entry("format").or_insert_with(|| "qcow2".into());
        }
        "block-stream" => {
            // A job is named after its device.
            let device = arguments.get("device").cloned().unwrap_or_default();
            arguments.insert("job-id".into(), device);
        }
        "migrate-set-capabilities" => {
            let capability = Value::Object(std::mem::take(&mut arguments));
            arguments.insert("capabilities".into(), json!([capability]));
        }
        "block-job-cancel" => arguments.extend([("force".into(), json!(false))]),
        _ => {}
    }
    Some(arguments)
}
