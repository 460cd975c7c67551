//! One connection as its client's side sees it: what is under way on it, and how much of that there may be.
//!
//! ```text
//!   reads -- more than BACKLOG unread --> behind: nothing is taken up for it -- it reads --> reads
//!                                           \-- LOST more is said, by events --> lost: the connection ends
//! ```
//!
//! A real QEMU goes on talking to a client that never reads for as long as it has memory: after three seconds of
//! `query-qmp-schema` it had taken 67 MiB more (5.2) and 42 MiB more (11.1), while its other monitors were served. Here
//! that has an end, since other machines share the process; a client that reads does not notice. What the client sends
//! has one as in QEMU, which reads no further while a request waits: the client has to wait with it.

use super::Port;

/// How many bytes that wait to be taken up make their client wait.
pub(super) const INPUT: usize = 16 << 10;

/// How many bytes may be unread before the client is behind.
pub(super) const BACKLOG: usize = 4 << 20;

/// How many bytes are said to a client that is behind before it is lost.
const LOST: usize = 16 << 20;

/// The room that an empty buffer keeps, in bytes.
const ROOM: usize = 64 << 10;

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) port: Port,
    /// Sent before QEMU has accepted the connection.
    pub(super) early: Vec<u8>,
    /// Said by QEMU and not read yet: what is in `output` from `read` on.
    output: Vec<u8>,
    read: usize,
    /// How much was said while the client was behind.
    in_vain: usize,
    /// Its QEMU has ended, and another runs in its place.
    pub(super) outlived: bool,
}

impl Link {
    pub(super) fn to(port: Port) -> Self {
        Self { port, early: Vec::new(), output: Vec::new(), read: 0, in_vain: 0, outlived: false }
    }

    /// What is not read yet.
    pub(super) fn unread(&self) -> &[u8] {
        &self.output[self.read..]
    }

    /// So much is unread that its client gets no more answers.
    pub(super) fn is_behind(&self) -> bool {
        self.output.len() - self.read > BACKLOG
    }

    /// Nobody can be expected to read it any more.
    pub(super) fn is_lost(&self) -> bool {
        self.in_vain > LOST
    }

    /// Puts what is in `said` behind what is unread.
    pub(super) fn say(&mut self, said: &mut Vec<u8>) {
        if self.is_behind() {
            self.in_vain += said.len();
        }
        if self.output.is_empty() {
            std::mem::swap(&mut self.output, said);
        } else {
            self.output.append(said);
            said.shrink_to(ROOM);
        }
    }

    /// Takes so many bytes as read.
    pub(super) fn consume(&mut self, count: usize) {
        self.read += count;
        if self.read == self.output.len() {
            self.output.clear();
            self.output.shrink_to(ROOM);
            self.read = 0;
        } else if self.read > ROOM && self.read > self.output.len() / 2 {
            self.output.drain(..self.read);
            self.read = 0;
        }
        if !self.is_behind() {
            self.in_vain = 0;
        }
    }
}
