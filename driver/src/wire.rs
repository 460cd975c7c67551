//! QMP as bytes: a protocol core that is told what arrived and says what it means.
//!
//! No time, no I/O, no tasks: [`Session`] is fed with whatever the stream gave, cut anywhere, and hands out
//! [`Incoming`] messages; [`request`] makes the bytes of one command. What to wait for, and how long, is the
//! business of [`crate::client`].
//!
//! ```text
//! bytes --> Framer (lines, size cap) --> Envelope (members) --> Message (typed, payload unread) --> Session (greeting first)
//! ```
//!
//! The other side is not trusted: a line may be at most [`MAX_LINE`] bytes, and what is not QMP ends the
//! session with a [`WireError`] instead of being guessed at.
//!
//! The guest agent's protocol, which is another, has its own core: [`AgentSession`].
//!
//! Source: QEMU's QMP specification; recordings of four releases.

mod agent;
mod envelope;
mod frame;
mod message;

use serde::Serialize;

pub use agent::{AgentSays, AgentSession, AgentWireError, DEPTH_MAX, REPLY_MAX, agent_request};
pub use frame::{Framer, MAX_LINE};
pub use message::{Event, Greeting, Incoming, QmpError, Reply, Timestamp};

/// The stream is not, or no longer, a QMP monitor. Nothing after it can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A message longer than [`MAX_LINE`].
    #[error("a message is longer than {MAX_LINE} bytes")]
    TooLong,
    /// A line that is no QMP message; the start of it is shown.
    #[error("not a QMP message: `{0}`")]
    NotQmp(String),
    /// A reply came before the greeting: something else speaks here, or the start was lost.
    #[error("a reply came before the greeting")]
    ReplyBeforeGreeting,
    /// Another greeting, or one after a reply: the monitor behind the socket was exchanged.
    #[error("a second greeting came on the same connection")]
    SecondGreeting,
}

/// One connection's protocol state. Feed it with [`Session::receive`], drain it with [`Session::poll`].
#[derive(Debug, Default)]
pub struct Session {
    framer: Framer,
    greeting: Option<Greeting>,
    /// A reply has come.
    replied: bool,
    /// What ended the session.
    over: Option<WireError>,
}

impl Session {
    /// A connection that was just opened.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.framer.push(bytes);
    }

    /// The next whole message, if one has arrived. Events may come before the greeting; replies may not.
    ///
    /// # Errors
    /// [`WireError`]: the session is over, whatever else arrives, and every later call says so again.
    pub fn poll(&mut self) -> Result<Option<Incoming>, WireError> {
        if let Some(over) = &self.over {
            return Err(over.clone());
        }
        self.read().inspect_err(|error| self.over = Some(error.clone()))
    }

    fn read(&mut self) -> Result<Option<Incoming>, WireError> {
        loop {
            let Some(line) = self.framer.next_line()? else { return Ok(None) };
            let incoming = Incoming::parse(line)?;
            match &incoming {
                Incoming::Greeting(greeting) => match &self.greeting {
                    None => self.greeting = Some(greeting.clone()),
                    // QEMU says it twice to a client that connects while the monitor is still being set up: the
                    // connection is told to the monitor by the socket, and once more when its handlers are in place.
                    Some(first) if first == greeting && !self.replied => continue,
                    Some(_) => return Err(WireError::SecondGreeting),
                },
                Incoming::Reply(_) if self.greeting.is_none() => return Err(WireError::ReplyBeforeGreeting),
                Incoming::Reply(_) => self.replied = true,
                Incoming::Event(_) => {}
            }
            return Ok(Some(incoming));
        }
    }
}

/// Whether a command waits its turn or overtakes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Band {
    /// `execute`: answered in order.
    #[default]
    In,
    /// `exec-oob`: may be answered before earlier commands; only if the greeting offered `oob` and it was
    /// enabled, and only for the commands that allow it.
    Out,
}

/// The bytes of one command, ending with a newline.
pub fn request<A: Serialize>(band: Band, command: &str, arguments: Option<&A>, id: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Request<'a, A> {
        #[serde(skip_serializing_if = "Option::is_none")]
        execute: Option<&'a str>,
        #[serde(rename = "exec-oob", skip_serializing_if = "Option::is_none")]
        exec_oob: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<&'a A>,
        id: &'a str,
    }
    let (execute, exec_oob) = match band {
        Band::In => (Some(command), None),
        Band::Out => (None, Some(command)),
    };
    let mut bytes = Vec::with_capacity(160);
    serde_json::to_writer(&mut bytes, &Request { execute, exec_oob, arguments, id })
        .expect("commands are plain data, and a Vec takes every byte");
    bytes.push(b'\n');
    bytes
}

/// The raw payload of a reply, read as what the command promises to return.
///
/// # Errors
/// What serde_json says of it.
pub fn payload<'a, T: serde::Deserialize<'a>>(raw: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(session: &mut Session) -> Vec<Incoming> {
        std::iter::from_fn(|| session.poll().expect("a sound stream")).collect()
    }

    const STREAM: &str = concat!(
        "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"RESUME\"}\r\n",
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 13, \"minor\": 0, \"major\": 10}, \"package\": \"p\"}, \"capabilities\": [\"oob\"]}}\r\n",
        "{\"return\": {}, \"id\": \"a#1\"}\r\n",
        "{\"id\": \"a#2\", \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\n",
    );

    #[test]
    fn a_stream_reads_the_same_however_it_is_cut() {
        let mut whole = Session::new();
        whole.receive(STREAM.as_bytes());
        let expected = all(&mut whole);
        assert_eq!(expected.len(), 4);
        for size in 1..STREAM.len() {
            let mut cut = Session::new();
            let mut messages = Vec::new();
            for piece in STREAM.as_bytes().chunks(size) {
                cut.receive(piece);
                messages.extend(all(&mut cut));
            }
            assert_eq!(messages, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_may_come_before_the_greeting_but_a_reply_may_not() {
        let mut session = Session::new();
        session.receive(b"{\"return\": {}, \"id\": \"a#1\"}\r\n");
        assert_eq!(session.poll(), Err(WireError::ReplyBeforeGreeting));
    }

    const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 5}, \"package\": \"p\"}, \"capabilities\": [\"oob\"]}}\r\n";

    #[test]
    fn a_greeting_may_be_said_twice_until_a_reply_has_come() {
        let mut session = Session::new();
        session.receive(GREETING.as_bytes());
        assert_eq!(all(&mut session).len(), 1);
        session.receive(GREETING.as_bytes());
        session.receive(b"{\"return\": {}, \"id\": \"a#1\"}\r\n");
        assert!(matches!(all(&mut session)[..], [Incoming::Reply(_)]), "the second is passed over");
        session.receive(GREETING.as_bytes());
        assert_eq!(session.poll(), Err(WireError::SecondGreeting));
    }

    #[test]
    fn another_greeting_is_another_monitor() {
        let mut session = Session::new();
        session.receive(GREETING.as_bytes());
        session.receive(GREETING.replace("\"minor\": 2", "\"minor\": 1").as_bytes());
        assert!(matches!(session.poll(), Ok(Some(Incoming::Greeting(_)))));
        assert_eq!(session.poll(), Err(WireError::SecondGreeting));
    }

    #[test]
    fn a_session_that_is_over_stays_over() {
        let mut session = Session::new();
        session.receive(b"+OK dovecot ready.\r\n");
        let over = session.poll();
        assert_eq!(over, Err(WireError::NotQmp("+OK dovecot ready.".into())));
        session.receive(STREAM.as_bytes());
        assert_eq!(session.poll(), over, "sound messages after it are not trusted");
        assert_eq!(session.poll(), over);
    }

    #[test]
    fn another_protocol_is_named_by_its_first_line() {
        let mut session = Session::new();
        session.receive(b"SSH-2.0-OpenSSH_9.2p1\r\n");
        assert_eq!(session.poll(), Err(WireError::NotQmp("SSH-2.0-OpenSSH_9.2p1".into())));
    }

    #[test]
    fn an_out_of_band_command_is_asked_with_exec_oob() {
        let bytes = request(Band::Out, "migrate-pause", None::<&()>, "a#1");
        assert_eq!(bytes, b"{\"exec-oob\":\"migrate-pause\",\"id\":\"a#1\"}\n");
    }
}
