//! The host's side of the agent's port: a socket of QEMU's, behind which lies a virtio serial port.
//!
//! ```text
//!   a client -> held until the guest runs, has the port open and takes it -> the guest
//!   the agent -> held until a client is there -> that client, whoever asked
//! ```
//! One client is served at a time; others have connected and wait. What was not handed to the guest when a client
//! leaves is lost; what the agent says afterwards is not.

use std::{collections::VecDeque, time::Duration};

use crate::connection::Connection;

/// The host's side of the agent's port.
#[derive(Debug, Default)]
pub(crate) struct Port {
    /// Whom it serves.
    pub(crate) client: Option<Connection>,
    /// Those who have connected and wait for their turn, since when, and their place among all that happens.
    pub(crate) waiting: VecDeque<(Duration, u64, Connection)>,
    /// What the client has sent and the guest has not taken: since when it can, and its place.
    pub(crate) to_guest: VecDeque<(Duration, u64, Vec<u8>)>,
    /// What the agent has said and nobody has heard.
    pub(crate) to_host: Vec<u8>,
}

impl Port {
    /// How many bytes of this connection the guest has not taken.
    pub(crate) fn held(&self, connection: Connection) -> usize {
        if self.client != Some(connection) {
            return 0;
        }
        self.to_guest.iter().map(|(_, _, bytes)| bytes.len()).sum()
    }

    /// A client leaves.
    pub(crate) fn close(&mut self, connection: Connection) {
        self.waiting.retain(|(_, _, waiting)| *waiting != connection);
        if self.client == Some(connection) {
            self.client = None;
            self.to_guest.clear();
        }
    }
}
