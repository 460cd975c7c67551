//! How long the driver waits for what.

use std::time::Duration;

/// How patient the driver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the first byte to the end of the negotiation.
    pub connect: Duration,
    /// For the reply to a command that has nothing to wait for.
    pub command: Duration,
    /// For the answer to a question that is asked when the operation's time is up.
    pub ask: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(5), command: seconds(10), ask: seconds(5) }
    }
}

impl Patience {
    /// No more patience than the caller has: an operation that may take one second does not ask for five how things
    /// stand.
    pub(crate) fn at_most(self, within: Duration) -> Self {
        Self {
            connect: self.connect.min(within),
            command: self.command.min(within),
            ask: self.ask.min(within),
        }
    }
}
