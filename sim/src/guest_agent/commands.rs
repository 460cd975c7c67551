//! Which commands an agent has, which it refuses when, and those that only tell.

use serde_json::{Map, Value};

use super::{Agent, differences::Disabled};
use crate::{
    guest::FileSystem,
    machine::agent::System,
    qemu::QmpError,
    qobject::{QObject, qdict},
};

/// The commands of 5.2, in the order of its `guest-info`: last registered first.
const COMMANDS: [&str; 38] = [
    "guest-ssh-remove-authorized-keys",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-get-authorized-keys",
    NOT_ON_LINUX,
    "guest-get-osinfo",
    "guest-get-timezone",
    "guest-get-users",
    "guest-get-host-name",
    "guest-exec",
    "guest-exec-status",
    "guest-get-memory-block-info",
    "guest-set-memory-blocks",
    "guest-get-memory-blocks",
    "guest-set-user-password",
    "guest-get-fsinfo",
    "guest-get-disks",
    "guest-set-vcpus",
    "guest-get-vcpus",
    "guest-network-get-interfaces",
    "guest-suspend-hybrid",
    "guest-suspend-ram",
    "guest-suspend-disk",
    "guest-fstrim",
    "guest-fsfreeze-thaw",
    "guest-fsfreeze-freeze-list",
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-status",
    "guest-file-flush",
    "guest-file-seek",
    "guest-file-write",
    "guest-file-read",
    "guest-file-close",
    "guest-file-open",
    "guest-shutdown",
    "guest-info",
    "guest-set-time",
    "guest-get-time",
    "guest-ping",
];

/// Registered before all others.
const SYNC: [&str; 2] = ["guest-sync", "guest-sync-delimited"];

/// What an agent on Linux cannot do.
const NOT_ON_LINUX: &str = "guest-get-devices";

/// Commands that are not answered when they succeed.
const UNANSWERED: [&str; 4] =
    ["guest-suspend-hybrid", "guest-suspend-ram", "guest-suspend-disk", "guest-shutdown"];

/// What there is of an agent that has frozen.
const WHILE_FROZEN: [&str; 6] = [
    "guest-ping",
    "guest-info",
    "guest-sync",
    "guest-sync-delimited",
    "guest-fsfreeze-status",
    "guest-fsfreeze-thaw",
];

impl Agent {
    /// The commands that this agent knows, last registered first.
    fn commands(&self) -> impl Iterator<Item = &'static str> {
        let lacking = !self.release.agent_keeps_what_linux_lacks();
        let all = self.release.agent_commands_added().iter().chain(&COMMANDS).chain(&SYNC);
        all.copied().filter(move |name| !(lacking && *name == NOT_ON_LINUX))
    }

    fn is_blocked(&self, command: &str) -> bool {
        command == NOT_ON_LINUX || self.blocked.iter().any(|blocked| blocked == command)
    }

    /// Why a command is not carried out, before its arguments are looked at.
    pub(super) fn refusal(&self, command: &str) -> Option<QmpError> {
        if !self.commands().any(|known| known == command) {
            let desc = format!("The command {command} has not been found");
            return Some(QmpError { class: "CommandNotFound", desc });
        }
        let passes_a_freeze = WHILE_FROZEN.contains(&command);
        let frozen = self.freezer.frozen() && !passes_a_freeze;
        let blocked = self.is_blocked(command);
        // What is blocked keeps the word that a freeze gave it.
        let was_frozen = blocked && self.freezer.has_frozen && !passes_a_freeze;
        match (frozen || was_frozen, blocked) {
            (true, _) => Some(self.release.agent_command_disabled(command, Disabled::Frozen)),
            (false, true) => Some(self.release.agent_command_disabled(command, Disabled::Blocked)),
            (false, false) => None,
        }
    }

    /// The value of `guest-info`.
    pub(super) fn info(&self) -> QObject {
        let (major, minor, micro) = self.release.version();
        let supported: QObject = self
            .commands()
            .map(|name| {
                QObject::from(qdict! {
                    "name": name,
                    "enabled": self.refusal(name).is_none(),
                    "success-response": !UNANSWERED.contains(&name),
                })
            })
            .collect();
        qdict! { "version": format!("{major}.{minor}.{micro}"), "supported_commands": supported }.into()
    }
}

/// Checks the arguments of a command, in the words of QEMU's input visitor.
///
/// # Errors
/// The first thing wrong with them.
pub(super) fn check(command: &str, arguments: &Map<String, Value>) -> Result<(), QmpError> {
    let known: &[&str] = match command {
        "guest-sync" | "guest-sync-delimited" => {
            match arguments.get("id") {
                None => return Err(QmpError::generic("Parameter 'id' is missing")),
                Some(id) if !id.is_i64() => return Err(wrong_type("id", "integer")),
                Some(_) => {}
            }
            &["id"]
        }
        "guest-fsfreeze-freeze-list" => {
            match arguments.get("mountpoints") {
                None => {}
                Some(Value::Array(list)) => {
                    if let Some(place) = list.iter().position(|mountpoint| !mountpoint.is_string()) {
                        return Err(wrong_type(&format!("mountpoints[{place}]"), "string"));
                    }
                }
                Some(_) => return Err(wrong_type("mountpoints", "array")),
            }
            &["mountpoints"]
        }
        "guest-ping"
        | "guest-info"
        | "guest-fsfreeze-status"
        | "guest-fsfreeze-freeze"
        | "guest-fsfreeze-thaw"
        | "guest-get-fsinfo"
        | "guest-get-osinfo" => &[],
        _ => return Ok(()),
    };
    match arguments.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(QmpError::generic(format!("Parameter '{name}' is unexpected"))),
        None => Ok(()),
    }
}

fn wrong_type(name: &str, expected: &str) -> QmpError {
    QmpError::generic(format!("Invalid parameter type for '{name}', expected: {expected}"))
}

/// The value of `guest-get-fsinfo`: last mounted first. The numbers are those of an empty file system of 64 MiB.
pub(super) fn file_systems(file_systems: &[FileSystem], system: System) -> QObject {
    let described = |(place, known): (usize, &FileSystem)| {
        let slot = place as u64 + 1;
        let disk = qdict! {
            "bus-type": "virtio",
            "bus": 0,
            "unit": 0,
            "pci-controller": qdict! { "bus": 0, "slot": slot, "domain": 0, "function": 0 },
            "dev": format!("/dev/{}", known.disk),
            "target": 0,
        };
        let (name, mountpoint, kind) = match system {
            System::Linux => (known.disk.clone(), known.mountpoint.clone(), "ext4"),
            System::Windows => (
                format!(r"\\?\Volume{{00000000-0000-0000-0000-{slot:012}}}\"),
                // The first is C.
                format!(r"{}:\", char::from(b'C' + (place % 24) as u8)),
                "NTFS",
            ),
        };
        QObject::from(qdict! {
            "name": name,
            "total-bytes": 52_685_824,
            "mountpoint": mountpoint,
            "disk": QObject::List(vec![disk.into()]),
            "used-bytes": 14_336,
            "type": kind,
        })
    };
    file_systems.iter().enumerate().rev().map(described).collect()
}

/// The value of `guest-get-osinfo` in a guest without `/etc/os-release`.
pub(super) fn operating_system() -> QObject {
    qdict! {
        "kernel-release": "6.1.0-56-cloud-amd64",
        "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)",
        "machine": "x86_64",
    }
    .into()
}
