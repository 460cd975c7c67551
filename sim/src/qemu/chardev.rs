//! `query-chardev`: the machine's sockets, and who is at either end.
//!
//! A monitor's own end is always open; that of a serial port is when a program in the guest has opened it, which the
//! simulated guest never does. Source: recordings `greeting` and `serial-port`.

use crate::{
    Release,
    machine::{Chardev, Frontend, Machine},
    qobject::{QObject, qdict},
};

/// The sockets of a machine.
#[derive(Debug)]
pub(crate) struct Chardevs {
    sockets: Vec<Chardev>,
    /// Which monitors a client is connected to.
    connected: Vec<bool>,
}

impl Chardevs {
    /// Nobody is connected.
    pub(crate) fn of(machine: &Machine) -> Self {
        Self { sockets: machine.chardevs.clone(), connected: vec![false; machine.monitors] }
    }

    /// A client has come to a monitor, or left it.
    pub(crate) fn set_connected(&mut self, monitor: usize, connected: bool) {
        self.connected[monitor] = connected;
    }

    /// The reply to `query-chardev`.
    pub(crate) fn query(&self, release: Release) -> QObject {
        let server = release.server_option();
        let socket = |chardev: &Chardev| {
            let (open, connected) = match chardev.frontend {
                Some(Frontend::Monitor(number)) => (true, self.connected[number]),
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
