//! Every way in which the agents of the releases differ, as far as it is simulated.
//!
//! The rest of the agent asks here and never compares releases itself. Source: the agents themselves, asked.

use crate::{Release, qemu::QmpError};

/// Why a command is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disabled {
    /// The agent has frozen, or, in releases that never take the word back, had.
    Frozen,
    /// It was blocked when the agent was started.
    Blocked,
}

impl Release {
    /// The command is there, and not now.
    pub(super) fn agent_command_disabled(self, command: &str, why: Disabled) -> QmpError {
        let desc = match (self, why) {
            (Release::V5_2, _) => format!("The command {command} has been disabled for this instance"),
            (Release::V7_2, Disabled::Frozen) => {
                format!("Command {command} has been disabled: the agent is in frozen state")
            }
            (Release::V7_2, Disabled::Blocked) => format!("Command {command} has been disabled"),
            (Release::V10_0 | Release::V11_1, _) => {
                format!("Command {command} has been disabled: the command is not allowed")
            }
        };
        QmpError { class: "CommandNotFound", desc }
    }

    /// The hook ended with this status.
    pub(super) fn hook_failed(self, status: u8) -> QmpError {
        QmpError::generic(match self {
            Release::V5_2 | Release::V7_2 => format!("fsfreeze hook has failed with status {status}"),
            Release::V10_0 | Release::V11_1 => {
                format!("child process has failed to execute fsfreeze hook: exit status {status}")
            }
        })
    }

    /// The commands that came after 5.2, last registered first.
    pub(super) fn agent_commands_added(self) -> &'static [&'static str] {
        match self {
            Release::V5_2 => &[],
            Release::V7_2 => &["guest-get-cpustats", "guest-get-diskstats"],
            Release::V10_0 | Release::V11_1 => {
                &["guest-network-get-route", "guest-get-load", "guest-get-cpustats", "guest-get-diskstats"]
            }
        }
    }

    /// Commands that Linux lacks are there, and disabled.
    pub(super) fn agent_keeps_what_linux_lacks(self) -> bool {
        self <= Release::V7_2
    }
}
