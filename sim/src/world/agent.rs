//! The guest agent's port in QEMU's main loop, and what happens inside of the guest.
//!
//! QEMU carries bytes between a socket and the guest, and only while the guest runs. What the agent makes of them is
//! for [`crate::guest_agent`].

use std::time::Duration;

use super::{
    World,
    link::Link,
    main_loop::{AgentTurn, Turn, What},
    place,
};
use crate::{
    connection::Connection,
    guest::Guest,
    qemu::{Context, GuestAction},
};

impl World {
    /// Does something inside of the guest; nothing if the machine knows of no guest.
    pub fn in_guest(&mut self, now: Duration, action: GuestAction) {
        self.now = now;
        let mut cx = Context::new(now, self.release, &mut self.oracle, &mut self.host);
        self.qemu.in_guest(action, &mut cx);
        let (end, events, timers) = (cx.now, cx.events, cx.timers);
        self.say(events);
        self.end_turn(now, end, timers);
    }

    /// Takes what a client sends to the agent.
    pub(super) fn agent_receive(&mut self, now: Duration, connection: Connection, bytes: &[u8]) {
        let Some(agent) = &mut self.agent else { return };
        if agent.client == Some(connection) {
            let (due, sequence) = place(now, &mut self.oracle, &mut self.main_loop);
            let due = agent.to_guest.back().map_or(due, |last| last.0.max(due));
            agent.to_guest.push_back((due, sequence, bytes.to_vec()));
        } else if let Some(link) = self.links.get_mut(&connection) {
            link.early.extend_from_slice(bytes);
        }
    }

    /// What waits for its turn at the agent's port.
    pub(super) fn agent_turns(&self) -> impl Iterator<Item = Turn> {
        let turns = self.agent.as_ref().map(|agent| {
            let turn = |due, sequence, turn| Turn { due, sequence, what: What::Agent(turn) };
            let accept = agent.waiting.front().filter(|_| agent.client.is_none());
            let input = agent.to_guest.front().filter(|_| self.qemu.guest_takes_input());
            // An agent whose words go nowhere stands still in the middle of one.
            let stuck = self.agent_is_unheard() && self.qemu.guest().is_some_and(Guest::port_is_open);
            [
                accept.map(|&(due, sequence, _)| turn(due, sequence, AgentTurn::Accept)),
                input.map(|&(due, sequence, _)| turn(due, sequence, AgentTurn::Input)),
                self.qemu.guest_event().filter(|_| !stuck).map(|due| turn(due, 0, AgentTurn::Guest)),
            ]
        });
        turns.into_iter().flatten().flatten()
    }

    /// Whether its client does not read what it says.
    fn agent_is_unheard(&self) -> bool {
        let client = self.agent.as_ref().and_then(|agent| agent.client);
        client.and_then(|client| self.links.get(&client)).is_some_and(Link::is_behind)
    }

    /// Handles one thing at the agent's port.
    pub(super) fn agent_turn(&mut self, at: Duration, turn: AgentTurn) {
        let Some(agent) = &mut self.agent else { return };
        let mut cx = Context::new(at, self.release, &mut self.oracle, &mut self.host);
        let mut accepted = None;
        match turn {
            AgentTurn::Accept => {
                accepted = agent.waiting.pop_front().map(|(_, _, connection)| connection);
                agent.client = accepted;
                self.qemu.set_agent_connected(true);
            }
            AgentTurn::Input => {
                if let Some((_, _, bytes)) = agent.to_guest.pop_front() {
                    self.qemu.guest_receives(&bytes, &mut cx);
                }
            }
            AgentTurn::Guest => self.qemu.guest_acts(&mut agent.to_host, &mut cx),
        }
        let (end, events, timers) = (cx.now, cx.events, cx.timers);
        self.say(events);
        self.end_turn(at, end, timers);
        if let Some(connection) = accepted {
            self.agent_welcome(at, connection);
        }
        self.agent_deliver();
    }

    /// Takes what a client sent before it was accepted.
    fn agent_welcome(&mut self, at: Duration, connection: Connection) {
        let early = self.links.get_mut(&connection).map(|link| std::mem::take(&mut link.early));
        if let Some(early) = early.filter(|early| !early.is_empty()) {
            self.agent_receive(at, connection, &early);
        }
    }

    /// Hands what the agent has said to the client that is there.
    fn agent_deliver(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        if let Some(link) = agent.client.and_then(|connection| self.links.get_mut(&connection)) {
            link.say(&mut agent.to_host);
        }
    }
}
