//! The guest, as far as snapshots reach into it: its file systems, and the agent that freezes them.
//!
//! ```text
//!   file system:  thawed <-(thaw, by anybody / the guest resets)-- frozen: writes wait
//!                    \------------(freeze, by anybody)--------------/
//!   port:  off -- the guest runs --> booting -- the agent is up --> open -- it is killed --> closed -- started --> open
//!   any -- the guest resets --> off
//! ```
//! All of this is memory of the guest: an internal snapshot keeps it, and a load brings it back, frozen file systems
//! included. A disk that can be written has one file system, `/mnt/<target>`, of type ext4.
//!
//! It knows nothing of sockets; the host's side of the agent's port is [`crate::guest_agent::port`].

use std::time::Duration;

use crate::{
    Machine, Release,
    guest_agent::Agent,
    machine::{Disk, DiskModel, agent::Presence},
    qemu::Context,
    qobject::qdict,
};

/// One file system of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Where it is mounted.
    pub mountpoint: String,
    /// The disk that it is on.
    pub disk: String,
    /// The device that the disk is to QEMU.
    pub(crate) device: String,
    /// Why it cannot be frozen, in the system's words; none if it can.
    pub refuses: Option<String>,
    /// Nothing is written to it until somebody thaws it.
    pub frozen: bool,
    /// Somebody else had frozen it before.
    others: bool,
    /// Writes that wait for that: block, and which write.
    waiting: Vec<(u64, u64)>,
}

/// A write that a guest does: to which device, to which block, and which write.
pub(crate) type Write = (String, u64, u64);

/// How far the agent's port is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PortState {
    /// The guest has not run since it was started or reset.
    Off,
    /// The agent will open it then.
    OpensAt(Duration),
    /// Nobody has it open.
    Closed,
    Open,
}

/// A guest that has booted an operating system, or will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    file_systems: Vec<FileSystem>,
    agent: Agent,
    port: PortState,
    presence: Presence,
    /// A loaded state's port is to be reported, once the guest runs.
    port_report_due: bool,
}

impl Guest {
    /// From the first instruction to an agent that answers. Measured under TCG: 2.4 s to 3.2 s.
    pub const BOOT: Duration = Duration::from_secs(3);

    /// The guest of a machine, if it has one that knows an agent. `booted` says whether it has run.
    pub(crate) fn of(machine: &Machine, release: Release, booted: bool) -> Option<Self> {
        let agent = machine.agent.as_ref()?;
        let file_system = |disk: &Disk| FileSystem {
            mountpoint: format!("/mnt/{}", disk.target),
            disk: disk.target.clone(),
            device: disk.device.clone(),
            refuses: agent.refusing.iter().find(|(name, _)| *name == disk.target).map(|(_, why)| why.clone()),
            frozen: agent.frozen_before.contains(&disk.target),
            others: agent.frozen_before.contains(&disk.target),
            waiting: Vec::new(),
        };
        let port = match agent.presence {
            Presence::Absent => PortState::Closed,
            _ if booted => PortState::Open,
            _ => PortState::Off,
        };
        Some(Self {
            file_systems: machine
                .disks
                .iter()
                .filter(|disk| !disk.readonly && disk.model != DiskModel::Flash)
                .map(file_system)
                .collect(),
            agent: Agent::new(agent, release),
            port,
            presence: agent.presence,
            port_report_due: false,
        })
    }

    /// Its file systems, in the order in which they were mounted.
    pub fn file_systems(&self) -> &[FileSystem] {
        &self.file_systems
    }

    /// Whether a disk's file system is frozen.
    pub fn is_frozen(&self, disk: &str) -> bool {
        self.file_systems.iter().any(|known| known.disk == disk && known.frozen)
    }

    /// Whether nothing is written to a device: its file system is frozen.
    pub(crate) fn holds(&self, device: &str) -> bool {
        self.file_systems.iter().any(|known| known.device == device && known.frozen)
    }

    /// Whether the agent has its port open.
    pub fn port_is_open(&self) -> bool {
        self.port == PortState::Open
    }

    /// Whether it takes what the host sends: the port is open, and the agent not too far behind.
    pub(crate) fn takes_input(&self) -> bool {
        self.port_is_open() && self.agent.takes_input()
    }

    /// Takes what the host has sent: the agent reads it, or will.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Duration, takes: impl FnMut() -> usize) {
        self.agent.receive(bytes, now, takes);
    }

    /// When something happens in a guest that runs.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        match self.port {
            PortState::Off | PortState::Closed => None,
            PortState::OpensAt(at) => Some(at),
            PortState::Open if self.presence == Presence::Mute => None,
            PortState::Open => self.agent.next_event(),
        }
    }

    /// Does what is due. What the agent says goes behind what is in `said`; returned are the writes that had waited
    /// for a thaw.
    pub(crate) fn act(&mut self, said: &mut Vec<u8>, cx: &mut Context<'_>) -> Vec<Write> {
        if self.port != PortState::Open {
            self.set_port(PortState::Open, cx);
            return Vec::new();
        }
        self.agent.answer(&mut self.file_systems, said, cx);
        self.take_writes()
    }

    /// A write of the guest's, unless it has to wait.
    pub(crate) fn write(&mut self, disk: &str, block: u64, write: u64) -> Option<Write> {
        let known = self.file_systems.iter_mut().find(|known| known.disk == disk)?;
        if known.frozen {
            known.waiting.push((block, write));
            return None;
        }
        Some((known.device.clone(), block, write))
    }

    /// Somebody else in the guest freezes a file system, or thaws it. The agent does not know.
    pub(crate) fn set_frozen(&mut self, disk: &str, frozen: bool) -> Vec<Write> {
        for known in self.file_systems.iter_mut().filter(|known| known.disk == disk) {
            known.frozen = frozen;
        }
        self.take_writes()
    }

    /// VSS lets go of the writers, whatever the agent believes.
    pub(crate) fn let_writers_go(&mut self, freeze: u64) -> Vec<Write> {
        if self.agent.let_writers_go(freeze) {
            self.file_systems.iter_mut().for_each(|known| known.frozen = false);
        }
        self.take_writes()
    }

    /// The guest runs; it boots if it has not.
    pub(crate) fn run(&mut self, now: Duration) {
        if self.port == PortState::Off {
            self.port = PortState::OpensAt(now + Self::BOOT);
        }
    }

    /// The guest starts over: what was frozen is not any more, and the agent knows nothing.
    pub(crate) fn reset(&mut self, cx: &mut Context<'_>) {
        self.agent.restart(false);
        for known in &mut self.file_systems {
            known.frozen = false;
            known.waiting.clear();
        }
        let after = if self.presence == Presence::Absent { PortState::Closed } else { PortState::Off };
        self.set_port(after, cx);
    }

    /// A loaded state takes this one's place. The devices are reset first, which closes the port.
    pub(crate) fn load(&mut self, loaded: Self, cx: &mut Context<'_>) {
        self.set_port(PortState::Closed, cx);
        *self = Self { port_report_due: true, ..loaded };
    }

    /// Says how the port of a loaded state stands, once the guest runs.
    pub(crate) fn report_port(&mut self, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.port_report_due) {
            self.say_port(self.port_is_open(), cx);
        }
    }

    /// Whoever had frozen file systems before the agent could thaws these. The agent does not know.
    pub(crate) fn let_go(&mut self) -> Vec<Write> {
        self.file_systems.iter_mut().filter(|known| known.others).for_each(|known| known.frozen = false);
        self.take_writes()
    }

    /// The agent dies, as by SIGKILL: what is frozen stays so. Its state file may get lost with it.
    pub(crate) fn kill_agent(&mut self, with_state_file: bool, cx: &mut Context<'_>) {
        self.presence = Presence::Absent;
        self.set_port(PortState::Closed, cx);
        self.agent.restart(with_state_file);
    }

    /// The agent is started, or goes on.
    pub(crate) fn start_agent(&mut self, cx: &mut Context<'_>) {
        self.presence = Presence::Answers;
        self.set_port(PortState::Open, cx);
    }

    /// The agent is stopped, as by SIGSTOP: its port stays open.
    pub(crate) fn mute_agent(&mut self) {
        if self.presence == Presence::Answers {
            self.presence = Presence::Mute;
        }
    }

    fn set_port(&mut self, port: PortState, cx: &mut Context<'_>) {
        let (before, after) = (self.port_is_open(), port == PortState::Open);
        self.port = port;
        if before != after {
            self.say_port(after, cx);
        }
    }

    fn say_port(&self, open: bool, cx: &mut Context<'_>) {
        cx.event("VSERPORT_CHANGE", Some(qdict! { "open": open, "id": self.agent.port().to_owned() }));
    }

    /// The writes that wait for nothing any more.
    fn take_writes(&mut self) -> Vec<Write> {
        let thawed = self.file_systems.iter_mut().filter(|known| !known.frozen);
        thawed
            .flat_map(|FileSystem { device, waiting, .. }| {
                waiting.drain(..).map(|(block, write)| (device.clone(), block, write))
            })
            .collect()
    }
}
