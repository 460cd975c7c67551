//! Where QEMU and the guest on it meet: the agent's turns, what it is sent, and the guest's writes.

use super::{Context, Qemu, block::Graph};
use crate::{
    guest::{Guest, Write},
    guest_agent::Agent,
    host::Host,
};

/// Something that happens inside of the guest, whoever does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestAction {
    /// The agent dies, as by SIGKILL.
    KillAgent,
    /// The same, and the file in which it kept that it had frozen is gone.
    LoseAgent,
    /// The agent is started again, or goes on.
    StartAgent,
    /// The agent is stopped, as by SIGSTOP.
    MuteAgent,
    /// Somebody freezes the file system of this disk.
    Freeze(String),
    /// Somebody thaws the file system of this disk.
    Thaw(String),
    /// Whoever had frozen file systems before thaws them.
    LetGo,
    /// A program writes.
    Write {
        /// The disk.
        disk: String,
        /// The block.
        block: u64,
        /// Which write it carries.
        write: u64,
    },
}

impl Qemu {
    /// Whether the guest takes what is sent to its agent: it runs, the port is open, and the agent keeps up.
    pub(crate) fn guest_takes_input(&self) -> bool {
        self.cpus.running() && self.guest().is_some_and(Guest::takes_input)
    }

    /// When the guest next does something by itself.
    pub(crate) fn guest_event(&self) -> Option<std::time::Duration> {
        self.guest().filter(|_| self.cpus.running())?.next_event()
    }

    /// Hands bytes to the agent.
    pub(crate) fn guest_receives(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        if let Some(guest) = self.cpus.guest_mut() {
            let now = cx.now();
            guest.receive(bytes, now, || cx.choose("agent-takes", Agent::PACES));
        }
    }

    /// Lets the guest do what is due; what its agent says goes behind what is in `said`.
    pub(crate) fn guest_acts(&mut self, said: &mut Vec<u8>, cx: &mut Context<'_>) {
        if let Some(guest) = self.cpus.guest_mut() {
            let writes = guest.act(said, cx);
            write(&self.graph, writes, cx.host());
        }
    }

    /// Does something inside of the guest.
    pub(crate) fn in_guest(&mut self, action: GuestAction, cx: &mut Context<'_>) {
        let Some(guest) = self.cpus.guest_mut() else { return };
        let writes = match action {
            GuestAction::KillAgent => {
                guest.kill_agent(true, cx);
                Vec::new()
            }
            GuestAction::LoseAgent => {
                guest.kill_agent(false, cx);
                Vec::new()
            }
            GuestAction::StartAgent => {
                guest.start_agent(cx);
                Vec::new()
            }
            GuestAction::MuteAgent => {
                guest.mute_agent();
                Vec::new()
            }
            GuestAction::Freeze(disk) => guest.set_frozen(&disk, true),
            GuestAction::Thaw(disk) => guest.set_frozen(&disk, false),
            GuestAction::LetGo => guest.let_go(),
            GuestAction::Write { disk, block, write } => {
                guest.write(&disk, block, write).into_iter().collect()
            }
        };
        write(&self.graph, writes, cx.host());
    }
}

/// Carries out writes of the guest: each goes to the top of its disk's chain.
pub(super) fn write(graph: &Graph, writes: Vec<Write>, host: &mut Host) {
    for (device, block, write) in writes {
        let device = graph.devices().iter().find(|known| known.id == device);
        if let Some(image) = device.and_then(|device| graph.image_mut(&device.node, host)) {
            image.write(block, write);
        }
    }
}
