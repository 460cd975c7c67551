//! Whether anybody in the guest has the agent's port open, by QEMU's own word: `query-chardev`.
//!
//! `VSERPORT_CHANGE` tells the same, at most once a second for a port, and nothing of a guest that stands still: so it is
//! asked when it is needed, and a sync decides.

use crate::{commands::ChardevInfo, env::Endpoint};

/// How the agent's port stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Somebody in the guest has it open.
    Open,
    /// Nobody has.
    Closed,
    /// QEMU knows no character device at that socket.
    Unknown,
}

impl Presence {
    /// Of the port whose host's side is at this socket.
    pub fn at(endpoint: &Endpoint, chardevs: &[ChardevInfo]) -> Self {
        let Endpoint::Unix(socket) = endpoint;
        let is_there = |chardev: &&ChardevInfo| {
            let filename = chardev.filename.strip_prefix("disconnected:").unwrap_or(&chardev.filename);
            let path =
                filename.strip_prefix("unix:").map(|rest| rest.split_once(',').map_or(rest, |it| it.0));
            path == Some(socket.as_str())
        };
        match chardevs.iter().find(is_there) {
            Some(chardev) if chardev.frontend_open => Presence::Open,
            Some(_) => Presence::Closed,
            None => Presence::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_its_socket() {
        let chardev =
            |filename: &str, frontend_open| ChardevInfo { filename: filename.into(), frontend_open };
        let chardevs = [
            chardev("unix:/run/vm.qmp,server=on", true),
            chardev("disconnected:unix:/run/vm.qga,server=on", true),
            chardev("unix:/run/old.qga,server", false),
        ];
        let at = |path: &str| Presence::at(&Endpoint::Unix(path.into()), &chardevs);
        assert_eq!(at("/run/vm.qga"), Presence::Open);
        assert_eq!(at("/run/old.qga"), Presence::Closed);
        assert_eq!(at("/run/vm"), Presence::Unknown);
    }
}
