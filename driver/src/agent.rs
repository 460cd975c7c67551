//! The guest's agent, from the host's side: one connection to its port, one request at a time.
//!
//! ```text
//! connect -- sync (a fresh id) --> ask, ask, ... -- no reply in time --> sync anew --> ask
//!    \-- the port's socket is gone, or the guest has nobody at it: NotConnected
//! ```
//! A connection says nothing about the agent: QEMU takes it whether or not anybody listens in the guest, and takes a second
//! one while the first is served. Only a sync that is answered does. Every call is bounded around all that it does, writing
//! included: a guest that reads nothing stops the writer.
//!
//! The agent does one thing at a time and forgets nothing: a request whose reply was given up is carried out all the same,
//! later. What that means for a freeze is [`rest`]'s business.
//!
//! Nothing that an agent says becomes a path, a name or a command here.
//!
//! Source: QEMU's `qga/qapi-schema.json`; the agents of four releases, asked.

mod commands;
mod error;
mod freezable;
mod guard;
mod presence;
pub mod rest;

use std::{fmt, io, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub use self::{
    commands::{FileSystem, FreezeStatus},
    error::AgentError,
    guard::Guard,
    presence::Presence,
};
use crate::{
    env::{Endpoint, Env},
    mark,
    race::{First, race},
    wire::{AgentSays, AgentSession, AgentWireError, agent_request},
    words,
};

/// How long a sync is waited for; libvirt waits as long.
pub const SYNC_WITHIN: Duration = Duration::from_secs(5);

/// Bytes read at once.
const CHUNK: usize = 4096;

/// What is asked when a connection is brought into step.
const SYNC: &str = "guest-sync-delimited";

/// A connection to an agent.
pub struct Agent<E: Env> {
    env: E,
    io: E::Io,
    session: AgentSession,
    /// What was asked, in step, whose reply nobody has waited for yet.
    ahead: Option<&'static str>,
}

impl<E: Env> fmt::Debug for Agent<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<E: Env> Agent<E> {
    /// Connects. Whether anybody listens is not known then: see [`Agent::sync`].
    ///
    /// # Errors
    /// [`AgentError::NotConnected`], at the latest at `deadline`.
    pub async fn connect(env: &E, endpoint: &Endpoint, deadline: Duration) -> Result<Self, AgentError> {
        let not_connected = |why: String| AgentError::NotConnected(format!("`{endpoint}`: {why}"));
        match race(env.connect(endpoint), env.sleep_until(deadline)).await {
            First::Left(Ok(io)) => {
                Ok(Self { env: env.clone(), io, session: AgentSession::new(), ahead: None })
            }
            First::Left(Err(error)) => Err(not_connected(error.to_string())),
            First::Right(()) => Err(not_connected("it takes no connection".to_owned())),
        }
    }

    /// Brings the connection into step with the agent: what comes after is ours. Every other call does so where it is needed.
    ///
    /// # Errors
    /// [`AgentError::Unresponsive`], [`AgentError::NotConnected`].
    pub async fn sync(&mut self, deadline: Duration) -> Result<(), AgentError> {
        self.ahead = None;
        let deadline = deadline.min(self.env.now() + SYNC_WITHIN);
        let bytes = self.session.sync(fresh(&self.env.unique_id()));
        match self.exchange(&bytes, deadline, SYNC).await? {
            AgentSays::Synced => Ok(()),
            AgentSays::Reply(_) => unreachable!("a session that syncs tells nothing else"),
        }
    }

    /// Sends any request and waits for its reply.
    ///
    /// # Errors
    /// [`AgentError`]; only `Failed` means that the agent has refused or failed to do it.
    pub async fn call<A: Serialize, R: DeserializeOwned>(
        &mut self,
        command: &str,
        arguments: Option<&A>,
        deadline: Duration,
    ) -> Result<R, AgentError> {
        let request = match self.ahead.take_if(|ahead| *ahead == command) {
            Some(_) => Vec::new(),
            None => {
                self.come_into_step(deadline).await?;
                agent_request(command, arguments)
            }
        };
        let said = self.exchange(&request, deadline, command).await?;
        let AgentSays::Reply(reply) = said else { unreachable!("no sync is under way") };
        let failed = |error| AgentError::Failed { command: command.to_owned(), error };
        let returned = reply.map_err(failed)?;
        serde_json::from_value(returned).map_err(|error| {
            let why = words::of_error(&error);
            AgentError::Unsynchronised(format!("the reply to `{command}` cannot be read: {why}"))
        })
    }

    /// Sends a request whose reply the next [`Agent::call`] of this very command waits for: the agent works while others do. Any other
    /// call in between syncs anew, and loses that reply.
    ///
    /// # Errors
    /// [`AgentError`]; it may not have been sent as a whole.
    pub async fn ask_ahead(&mut self, command: &'static str, deadline: Duration) -> Result<(), AgentError> {
        self.come_into_step(deadline).await?;
        self.send(command, deadline).await?;
        self.ahead = Some(command);
        Ok(())
    }

    /// Syncs, unless what comes next is ours: no reply is outstanding.
    async fn come_into_step(&mut self, deadline: Duration) -> Result<(), AgentError> {
        match self.session.is_synced() && self.ahead.is_none() {
            true => Ok(()),
            false => self.sync(deadline).await,
        }
    }

    /// Whether this was asked ahead, and nobody has waited for the reply yet.
    pub(crate) fn is_asked(&self, command: &str) -> bool {
        self.ahead == Some(command)
    }

    /// Sends a request and waits for nothing: it is carried out behind all that was sent before, should the agent ever get
    /// there.
    ///
    /// # Errors
    /// [`AgentError`]; it may not have been sent as a whole.
    pub async fn leave(&mut self, command: &str, deadline: Duration) -> Result<(), AgentError> {
        self.ahead = None;
        self.session.lose_sync();
        self.send(command, deadline).await
    }

    async fn send(&mut self, command: &str, deadline: Duration) -> Result<(), AgentError> {
        let bytes = agent_request(command, None::<&()>);
        match race(self.io.write_all(&bytes), self.env.sleep_until(deadline)).await {
            First::Left(Ok(())) => Ok(()),
            First::Left(Err(error)) => Err(AgentError::NotConnected(error.to_string())),
            First::Right(()) => {
                self.session.lose_sync();
                Err(AgentError::Unresponsive { command: command.to_owned(), waited: Duration::ZERO })
            }
        }
    }

    /// Sends bytes and waits for what is said to them. Whoever gives up must sync anew.
    async fn exchange(
        &mut self,
        bytes: &[u8],
        deadline: Duration,
        command: &str,
    ) -> Result<AgentSays, AgentError> {
        let began = self.env.now();
        let up = self.env.sleep_until(deadline);
        // A guest that never stops talking leaves a timer no turn: the clock is looked at, too.
        let in_time = || self.env.now() <= deadline;
        let said = race(write_and_read(&mut self.io, &mut self.session, bytes, in_time), up).await;
        let error = match said {
            First::Left(Ok(said)) => return Ok(said),
            First::Left(Err(Broken::Io(why))) => AgentError::NotConnected(why),
            First::Left(Err(Broken::Wire(error))) => {
                mark::reached(&error);
                AgentError::Unsynchronised(error.to_string())
            }
            First::Left(Err(Broken::Late)) | First::Right(()) => {
                let waited = self.env.now().saturating_sub(began);
                AgentError::Unresponsive { command: command.to_owned(), waited }
            }
        };
        self.session.lose_sync();
        Err(error)
    }
}

/// Why nothing more is heard.
enum Broken {
    Io(String),
    Wire(AgentWireError),
    /// The time is up.
    Late,
}

async fn write_and_read<Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    io: &mut Io,
    session: &mut AgentSession,
    bytes: &[u8],
    in_time: impl Fn() -> bool,
) -> Result<AgentSays, Broken> {
    let broken = |error: io::Error| Broken::Io(error.to_string());
    io.write_all(bytes).await.map_err(broken)?;
    loop {
        if let Some(said) = session.poll().map_err(Broken::Wire)? {
            return Ok(said);
        }
        if !in_time() {
            return Err(Broken::Late);
        }
        let mut piece = [0; CHUNK];
        match io.read(&mut piece).await.map_err(broken)? {
            0 => return Err(Broken::Io("QEMU closed it".to_owned())),
            length => session.receive(&piece[..length]),
        }
    }
}

/// A number that no other sync has, of a word that no other has. Agents take 63 bits.
fn fresh(word: &str) -> u64 {
    let digits = word.bytes().fold(0_u64, |number, byte| {
        number.wrapping_mul(36).wrapping_add(u64::from((byte as char).to_digit(36).unwrap_or_default()))
    });
    digits & (u64::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_sync_is_of_its_word_and_fits_the_agent() {
        assert_eq!(fresh("1"), 1);
        assert_ne!(fresh("a1"), fresh("1a"));
        assert!(i64::try_from(fresh("zzzzzzzzzzzzzzzzzzzz")).is_ok());
    }
}
