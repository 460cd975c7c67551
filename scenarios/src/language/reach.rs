//! What raw commands may reach when the QEMU behind them is real. A scenario may come from a stranger.
//!
//! A scenario that is for a real QEMU may name, in raw JSON, only what lies in the machine's folder:
//!
//! - a command without arguments may be any: it names nothing;
//! - with arguments it is one of [`COMMANDS`]: none of them runs a program, listens, connects or opens a device of the
//!   host (`migrate`, `chardev-add`, `netdev_add`, `object-add`, `device_add` ... do, and are not among them);
//! - block drivers are those of [`DRIVERS`]: files and what stands on them, no network and no host devices;
//! - the human monitor takes the words of [`HUMAN_COMMANDS`] alone;
//! - no text holds a `/` or a `:`, nor is it `.` or `..`: a file is named by its name alone, and lies in the folder in
//!   which QEMU runs; `nbd:`, `fat:`, `json:` and their like are no names;
//! - garbage on its way to QEMU holds no `{`, so that it cannot be a command.
//!
//! What the agent of a guest that boots is asked is not looked at: that guest has no network and nothing of the host's, and is
//! gone after the play.
//!
//! A real QEMU is moreover started so that it cannot start programs, where it was built with seccomp. What this does not
//! guard against: a QEMU with holes, and one that fills the disk or the memory. The simulator reaches nothing of the host,
//! so a scenario with `targets = ["sim"]` may say what it likes.

use serde_json::Value;

/// Commands that may have arguments; `*` stands for any end.
const COMMANDS: [&str; 27] = [
    "block-commit",
    "block-dirty-bitmap-*",
    "block-job-*",
    "block-stream",
    "block_resize",
    "blockdev-add",
    "blockdev-backup",
    "blockdev-create",
    "blockdev-del",
    "blockdev-mirror",
    "blockdev-reopen",
    "blockdev-set-active",
    "blockdev-snapshot",
    "blockdev-snapshot-delete-internal-sync",
    "blockdev-snapshot-internal-sync",
    "blockdev-snapshot-sync",
    "device_del",
    "drive-backup",
    "drive-mirror",
    "human-monitor-command",
    "job-*",
    "qmp_capabilities",
    "query-*",
    "snapshot-delete",
    "snapshot-load",
    "snapshot-save",
    "transaction",
];

/// Block drivers that stay in the machine's folder.
const DRIVERS: [&str; 9] =
    ["blkdebug", "compress", "copy-on-read", "file", "null-aio", "null-co", "qcow2", "raw", "throttle"];

/// The members of an object that name a block driver.
const DRIVER_MEMBERS: [&str; 3] = ["backing-fmt", "driver", "format"];

/// What the human monitor may be told, by first word.
const HUMAN_COMMANDS: [&str; 4] = ["delvm", "info", "loadvm", "savevm"];

/// What is wrong with a command, the text in it that is, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beyond {
    pub(super) text: String,
    pub(crate) message: String,
    pub(super) help: String,
}

impl Beyond {
    fn new(text: &str, message: String, help: String) -> Self {
        let help = format!("{help}; or targets = [\"sim\"]");
        Self { text: text.to_owned(), message, help }
    }
}

/// The first thing in a command that a real QEMU must not be asked by a stranger.
pub(crate) fn beyond(request: &Value) -> Option<Beyond> {
    let command = ["execute", "exec-oob"].into_iter().find_map(|key| request.get(key)?.as_str())?;
    let arguments = request.get("arguments")?;
    let listed = |known: &str| match known.strip_suffix('*') {
        Some(start) => command.starts_with(start),
        None => command == known,
    };
    if arguments.as_object().is_some_and(serde_json::Map::is_empty) {
        return None;
    }
    if !COMMANDS.iter().any(|known| listed(known)) {
        let help = format!("with arguments these may be sent: {}", COMMANDS.join(", "));
        return Some(Beyond::new(command, format!("`{command}` may not be sent to a real QEMU"), help));
    }
    if command == "human-monitor-command" {
        let line = arguments["command-line"].as_str().unwrap_or_default();
        let word = line.split_whitespace().next().unwrap_or_default();
        if !HUMAN_COMMANDS.contains(&word) {
            let help = format!("these may be: {}", HUMAN_COMMANDS.join(", "));
            let message = format!("`{word}` may not be sent to the human monitor of a real QEMU");
            return Some(Beyond::new(line, message, help));
        }
    }
    outside(arguments)
}

/// The first text anywhere in a value that could name something outside the machine's folder.
fn outside(value: &Value) -> Option<Beyond> {
    match value {
        Value::String(text) if text.contains(['/', ':']) || text == "." || text == ".." => {
            let message = format!("`{text}` could name something outside the machine's folder");
            Some(Beyond::new(text, message, "a file is named by its name alone".into()))
        }
        Value::Array(items) => items.iter().find_map(outside),
        Value::Object(members) => members.iter().find_map(|(key, member)| {
            let driver = member.as_str().filter(|_| DRIVER_MEMBERS.contains(&key.as_str()));
            match driver.filter(|driver| !DRIVERS.contains(driver)) {
                Some(driver) => {
                    let message = format!("the block driver `{driver}` may not be used with a real QEMU");
                    Some(Beyond::new(driver, message, format!("these may be: {}", DRIVERS.join(", "))))
                }
                None => outside(member),
            }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_runs_connects_or_leaves_the_folder_is_beyond() {
        let beyond_with = |command: &str, arguments: Value| {
            beyond(&json!({"execute": command, "arguments": arguments})).map(|found| found.text)
        };
        let create = |file: &str| json!({"job-id": "j", "options": {"driver": "file", "filename": file}});
        let add = |driver: &str| json!({"driver": "raw", "file": {"driver": driver, "filename": "x"}});
        let human = |line: &str| json!({"command-line": line});
        let wrong = [
            ("migrate", json!({"uri": "exec:touch x"}), "migrate"),
            ("chardev-add", json!({"id": "c"}), "chardev-add"),
            ("blockdev-create", create("/etc/x"), "/etc/x"),
            ("blockdev-create", create("../x"), "../x"),
            ("blockdev-create", create("nbd:host"), "nbd:host"),
            ("blockdev-add", add("nbd"), "nbd"),
            ("blockdev-add", add("host_device"), "host_device"),
            ("drive-mirror", json!({"device": "vda", "target": "x", "format": "vvfat"}), "vvfat"),
            ("human-monitor-command", human("migrate exec"), "migrate exec"),
            ("human-monitor-command", human("savevm /x"), "savevm /x"),
            ("transaction", json!({"actions": [{"type": "x", "data": {"snapshot-file": ".."}}]}), ".."),
        ];
        for (command, arguments, text) in wrong {
            assert_eq!(
                beyond_with(command, arguments.clone()).as_deref(),
                Some(text),
                "{command} {arguments}"
            );
        }
        let right = [
            ("blockdev-create", create("vda.s1")),
            ("blockdev-add", add("file")),
            ("human-monitor-command", human("savevm s1")),
            ("block-job-cancel", json!({"device": "j"})),
            ("snapshot-freeze", json!({})),
        ];
        for (command, arguments) in right {
            assert_eq!(beyond_with(command, arguments.clone()), None, "{command} {arguments}");
        }
        assert_eq!(beyond(&json!({"exec-oob": "migrate-recover"})), None, "it names nothing");
    }
}
