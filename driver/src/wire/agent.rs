//! The guest agent's protocol as bytes: a core that is told what arrived and says what it means.
//!
//! No time, no I/O. A request is a JSON object and a newline; the agent answers each with one line, in order, and says
//! nothing by itself. There is no greeting, and the port keeps what an earlier client left: half a request in the agent, a
//! reply that nobody heard in QEMU. So a connection begins with a **sync**, and so does what comes after a reply that did
//! not come in time:
//!
//! ```text
//! 0xFF guest-sync-delimited {id}  -->          (0xFF ends whatever half request the agent still holds)
//!   <--  late replies, and the error that the agent makes of the 0xFF: passed over
//!   <--  0xFF {"return": id}      our own id: from here on every line answers us
//! request -->   <-- reply         ...
//! ```
//!
//! The guest is hostile: a reply may be at most [`REPLY_MAX`] bytes and as deep as [`DEPTH_MAX`], and while a sync is waited
//! for nothing of what is passed over is kept. Bytes that are no UTF-8 are read as U+FFFD: an agent tells its system's
//! errors in its system's encoding.
//!
//! Source: QEMU's `qga/qapi-schema.json` (`guest-sync-delimited`); the agents of four releases, asked.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::QmpError;

/// The longest reply taken, in bytes. A guest with a thousand file systems needs a third of it for all of them.
pub const REPLY_MAX: usize = 1 << 20;

/// How deep a reply may be nested. `guest-get-fsinfo`, the deepest, has six.
pub const DEPTH_MAX: usize = 32;

/// Ends what was said before, in both directions: no byte of JSON, nor of any text in UTF-8.
const DELIMITER: u8 = 0xFF;

/// How much of a line that is no reply is shown.
const SHOWN: usize = 80;

/// What came is no reply. Nothing after it can be trusted until the next sync.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentWireError {
    /// A reply longer than [`REPLY_MAX`].
    #[error("a reply is longer than {REPLY_MAX} bytes")]
    TooLong,
    /// A line that is no reply; the start of it is shown.
    #[error("not a reply: `{0}`")]
    NotAReply(String),
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSays {
    /// The answer to the sync: from here on every line answers a request of this connection.
    Synced,
    /// What a request returned, or the agent's refusal.
    Reply(Result<Value, QmpError>),
}

/// One connection's protocol state. Feed it with [`AgentSession::receive`], drain it with [`AgentSession::poll`].
#[derive(Debug, Default)]
pub struct AgentSession {
    buffer: Vec<u8>,
    /// Up to where no newline was found, so that a long line is searched once.
    searched: usize,
    state: State,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum State {
    /// What comes may answer anybody.
    #[default]
    Unsynced,
    /// All is passed over until this id comes back.
    Syncing(u64),
    /// Every line answers a request.
    Synced,
}

impl AgentSession {
    /// A connection that was just opened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a sync; returns what is to be sent. `id` must not have been used on this agent before: an earlier client's
    /// answer may be still to come.
    pub fn sync(&mut self, id: u64) -> Vec<u8> {
        self.state = State::Syncing(id);
        let mut bytes = vec![DELIMITER];
        bytes.extend(agent_request("guest-sync-delimited", Some(&serde_json::json!({ "id": id }))));
        bytes
    }

    /// A reply was given up: what comes next may be that one.
    pub fn lose_sync(&mut self) {
        self.state = State::Unsynced;
    }

    /// Whether requests can be sent, and their replies told.
    pub fn is_synced(&self) -> bool {
        self.state == State::Synced
    }

    /// Takes bytes as they came.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What has been said, if a whole line of it has arrived.
    ///
    /// # Errors
    /// [`AgentWireError`], once in sync: sync anew, or give up.
    pub fn poll(&mut self) -> Result<Option<AgentSays>, AgentWireError> {
        while let Some(line) = self.next_line()? {
            match self.state {
                State::Unsynced => {}
                State::Syncing(id) if answers_sync(&line, id) => {
                    self.state = State::Synced;
                    return Ok(Some(AgentSays::Synced));
                }
                State::Syncing(_) => {}
                State::Synced if line.trim_ascii().is_empty() => {}
                State::Synced => {
                    let reply = read_reply(&line).inspect_err(|_| self.lose_sync())?;
                    return Ok(Some(AgentSays::Reply(reply)));
                }
            }
        }
        Ok(None)
    }

    /// The next whole line. One that never ends is an error in sync; else it is forgotten, but for its delimiter.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, AgentWireError> {
        if let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
            let rest = self.buffer.split_off(self.searched + found + 1);
            let line = std::mem::replace(&mut self.buffer, rest);
            self.searched = 0;
            if line.len() > REPLY_MAX && self.is_synced() {
                self.lose_sync();
                return Err(AgentWireError::TooLong);
            }
            return Ok(Some(line));
        }
        self.searched = self.buffer.len();
        if self.searched > REPLY_MAX {
            let delimiter = memchr::memrchr(DELIMITER, &self.buffer);
            self.buffer.drain(..delimiter.filter(|at| *at > 0).unwrap_or(self.searched));
            self.searched = self.buffer.len();
            if self.is_synced() {
                self.lose_sync();
                return Err(AgentWireError::TooLong);
            }
        }
        Ok(None)
    }
}

/// The bytes of one request, ending with a newline.
pub fn agent_request<A: Serialize>(command: &str, arguments: Option<&A>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a, A> {
        execute: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<&'a A>,
    }
    let mut bytes = serde_json::to_vec(&Request { execute: command, arguments })
        .expect("requests are plain data, and a Vec takes every byte");
    bytes.push(b'\n');
    bytes
}

/// Whether a line ends with the delimited answer to this sync, whatever stands before it.
fn answers_sync(line: &[u8], id: u64) -> bool {
    #[derive(Deserialize)]
    struct Synced {
        #[serde(rename = "return")]
        returned: u64,
    }
    let Some(at) = memchr::memrchr(DELIMITER, line) else { return false };
    // A number and a few brackets: anything longer is something else.
    let answer = line[at + 1..].trim_ascii();
    answer.len() < SHOWN && serde_json::from_slice(answer).is_ok_and(|Synced { returned }| returned == id)
}

fn read_reply(line: &[u8]) -> Result<Result<Value, QmpError>, AgentWireError> {
    #[derive(Deserialize)]
    struct Reply {
        #[serde(rename = "return")]
        returned: Option<Value>,
        error: Option<QmpError>,
    }
    let text = String::from_utf8_lossy(line);
    let bad = || {
        let shown: String = text.trim().chars().take(SHOWN).collect();
        AgentWireError::NotAReply(shown.escape_debug().to_string())
    };
    if depth(text.as_bytes()) > DEPTH_MAX {
        return Err(bad());
    }
    match serde_json::from_str(&text) {
        Ok(Reply { error: Some(error), .. }) => Ok(Err(error)),
        Ok(Reply { returned: Some(returned), .. }) => Ok(Ok(returned)),
        _ => Err(bad()),
    }
}

/// How deep brackets are nested, those in texts aside.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
