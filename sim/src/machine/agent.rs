//! The guest agent of a machine, and how well it does its work.
//!
//! `Agent::linux()` is one that answers, and freezes every writable disk of the machine. What goes wrong is told as
//! the guest would have it: a hook that fails or takes long, a file system that refuses, an agent that has stopped.

use std::time::Duration;

use crate::Release;

/// A guest agent, and the virtio serial port that it listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The id of its port.
    pub port: String,
    /// What it runs on.
    pub system: System,
    /// How it stands when the guest has booted.
    pub presence: Presence,
    /// Which release it is of: QEMU's own unless set. A guest is seldom as new as its host.
    pub release: Option<Release>,
    /// Commands that its administrator has blocked (`--block-rpcs`).
    pub blocked: Vec<String>,
    /// What it runs before a freeze and after a thaw (`--fsfreeze-hook`); none by default.
    pub hook: Option<Hook>,
    /// Disks whose file system cannot be frozen, with the system's word for why: `Input/output error`.
    pub refusing: Vec<(String, String)>,
    /// Disks whose file system somebody else in the guest has frozen before.
    pub frozen_before: Vec<String>,
}

/// The guest's operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Freezes file system by file system, and until it is told to thaw.
    Linux,
    /// Freezes through VSS, which lets writers go after ten seconds whoever says what.
    Windows,
}

/// How an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has opened its port, and answers.
    Answers,
    /// It has opened its port, and says nothing: stopped, or stuck.
    Mute,
    /// Nobody has opened the port.
    Absent,
}

/// A script that is told `freeze` and `thaw`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hook {
    /// How it takes `freeze`.
    pub freeze: Script,
    /// How it takes `thaw`.
    pub thaw: Script,
}

/// One run of a script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Script {
    /// How long it takes. The agent does nothing else meanwhile.
    pub takes: Duration,
    /// Its exit status; 0 is good.
    pub status: u8,
}

impl Agent {
    /// The agent of a Linux guest, without hooks.
    pub fn linux() -> Self {
        Self {
            port: "agent".into(),
            system: System::Linux,
            presence: Presence::Answers,
            release: None,
            blocked: Vec::new(),
            hook: None,
            refusing: Vec::new(),
            frozen_before: Vec::new(),
        }
    }

    /// The agent of a Windows guest.
    pub fn windows() -> Self {
        Self { system: System::Windows, ..Self::linux() }
    }

    /// Sets how it stands.
    #[must_use]
    pub fn presence(mut self, presence: Presence) -> Self {
        self.presence = presence;
        self
    }

    /// Gives it a hook.
    #[must_use]
    pub fn hook(mut self, hook: Hook) -> Self {
        self.hook = Some(hook);
        self
    }
}
