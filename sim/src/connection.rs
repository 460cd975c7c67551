//! What a client and the world know of each other: ports, connections, and why there is none.

/// Where a client can connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// A QMP monitor, counted from 0.
    Monitor(usize),
    /// The host's side of the guest agent's port.
    Agent,
}

/// One connection to one of the ports. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection(u32);

impl Connection {
    /// The connection of this number.
    pub(crate) fn new(number: u32) -> Self {
        Self(number)
    }
}

/// Nobody listens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// QEMU has ended, or was killed.
    #[error("QEMU is gone: nobody listens any more")]
    Gone,
    /// The machine has no such port.
    #[error("this machine has no {0:?}")]
    NoSuchPort(Port),
}

/// What was sent has nobody to read it: QEMU has ended, or the connection has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken pipe: nobody reads what is sent")]
pub struct BrokenPipe;
