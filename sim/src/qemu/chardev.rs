//! `query-chardev`: the machine's sockets, and who is at either end.
//!
//! A monitor's own end is always open; that of a serial port is when a program in the guest has opened it, which of
//! those in the simulated guest only its agent does. Source: recordings `greeting` and `serial-port`.

use crate::{
    Release,
    machine::{Chardev, Frontend, Machine},
    qobject::{QObject, qdict},
};

/// The sockets of a machine.
#[derive(Debug)]
pub(crate) struct Chardevs {
    sockets: Vec<Chardev>,
    /// How many monitors the machine has that others may know of.
    monitors: usize,
    /// Which monitors a client is connected to, those included that nobody knows of.
    connected: Vec<bool>,
    /// Whether a client is connected to the guest agent's port.
    agent_connected: bool,
}

impl Chardevs {
    /// Nobody is connected.
    pub(crate) fn of(machine: &Machine) -> Self {
        Self {
            sockets: machine.chardevs.clone(),
            monitors: machine.monitors,
            connected: vec![false; machine.monitors + machine.private_monitors],
            agent_connected: false,
        }
    }

    /// A client has come to a monitor, or left it.
    pub(crate) fn set_connected(&mut self, monitor: usize, connected: bool) {
        self.connected[monitor] = connected;
    }

    /// A client has come to the guest agent's port, or left it.
    pub(crate) fn set_agent_connected(&mut self, connected: bool) {
        self.agent_connected = connected;
    }

    /// How many monitors there are to be seen.
    pub(crate) fn monitors(&self) -> usize {
        self.monitors
    }

    /// Whether there is one of that name.
    pub(crate) fn has(&self, label: &str) -> bool {
        self.sockets.iter().any(|socket| socket.label == label)
    }

    /// The sockets as objects: name and type.
    pub(crate) fn objects(&self) -> Vec<(String, String)> {
        self.sockets.iter().map(|socket| (socket.label.clone(), "chardev-socket".to_owned())).collect()
    }

    /// The reply to `query-yank`: what can be cut off.
    pub(crate) fn query_yank(&self) -> QObject {
        let instance = |socket: &Chardev| qdict! { "type": "chardev", "id": socket.label.clone() }.into();
        self.sockets.iter().map(instance).collect()
    }

    /// The reply to `query-chardev`. `agent_open` says whether the guest's agent has its port open.
    pub(crate) fn query(&self, release: Release, agent_open: bool) -> QObject {
        let server = release.server_option();
        let socket = |chardev: &Chardev| {
            let (open, connected) = match chardev.frontend {
                Some(Frontend::Monitor(number)) => {
                    (true, self.connected.get(number).is_some_and(|connected| *connected))
                }
                Some(Frontend::Agent) => (agent_open, self.agent_connected),
                Some(Frontend::SerialPort) | None => (false, chardev.connected),
            };
            let nobody = if connected { "" } else { "disconnected:" };
            qdict! {
                "label": chardev.label.clone(),
                "filename": format!("{nobody}unix:{},{server}", chardev.path),
                "frontend-open": open,
            }
            .into()
        };
        self.sockets.iter().map(socket).collect()
    }
}
