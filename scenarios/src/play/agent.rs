//! Raw requests to the guest's agent: one connection for the whole play, opened by the first, or anew behind one that closes it.
//!
//! A line that comes too late stays unread, and is heard by the next request, as it would be by any careless client.

use std::{cell::RefCell, io, time::Duration};

use freezeframe_driver::{
    env::Env,
    race::{First, race},
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Ending, Stands};
use crate::{language::AgentRequest, recorded::Recorded, transcript::Entry, world::World};

/// How long a line is waited for, unless the step says otherwise.
const WITHIN: Duration = Duration::from_secs(5);

/// The connection to the agent, once there is one.
pub(super) struct Agent<E: Env>(RefCell<Option<Connection<E::Io>>>);

struct Connection<Io> {
    io: Io,
    /// What came behind the last line.
    rest: Vec<u8>,
}

impl<E: Env> Default for Agent<E> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}

impl<E: Env> Agent<E> {
    /// Sends a request, waits for a line, and holds it against what the step expects.
    pub(super) async fn ask<W: World<Env = E>>(
        &self,
        request: &AgentRequest,
        world: &W,
        env: &Recorded<E>,
    ) -> Ending {
        let connection = match self.0.take() {
            Some(connection) => Ok(connection),
            None => connect(world).await,
        };
        let (line, connection) = match connection {
            Ok(mut connection) => (exchange(&mut connection, request, env).await, Some(connection)),
            Err(error) => (Err(error), None),
        };
        self.0.replace(connection.filter(|_| !request.close));
        match line {
            Ok(line) => held(line, request),
            Err(error) => failed(format!("the agent's port: {error}")),
        }
    }
}

async fn connect<W: World>(world: &W) -> io::Result<Connection<<W::Env as Env>::Io>> {
    Ok(Connection { io: world.env().connect(&world.agent()).await?, rest: Vec::new() })
}

/// Sends, and gives the line that came back in time.
async fn exchange<E: Env>(
    connection: &mut Connection<E::Io>,
    request: &AgentRequest,
    env: &Recorded<E>,
) -> io::Result<Option<Vec<u8>>> {
    let deadline = env.now() + request.within.as_ref().map_or(WITHIN, |within| within.duration());
    env.note(Entry::AgentSent(request.json.as_bytes().to_vec()));
    connection.io.write_all(format!("{}\n", request.json).as_bytes()).await?;
    loop {
        if let Some(end) = memchr::memchr(b'\n', &connection.rest) {
            let mut line: Vec<u8> = connection.rest.drain(..=end).collect();
            line.pop();
            env.note(Entry::AgentReceived(line.clone()));
            return Ok(Some(line));
        }
        let mut piece = [0; 4096];
        match race(connection.io.read(&mut piece), env.sleep_until(deadline)).await {
            First::Left(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            First::Left(read) => connection.rest.extend_from_slice(&piece[..read?]),
            First::Right(()) => return Ok(None),
        }
    }
}

/// How the step ended, with this line or none.
fn held(line: Option<Vec<u8>>, request: &AgentRequest) -> Ending {
    let line = match (line, request.silent) {
        (None, true) => return Ending::Done("nothing came back".into()),
        (None, false) => return failed("nothing came back in time".into()),
        (Some(line), true) => {
            return failed(format!("nothing was to come back, and came: {}", line.escape_ascii()));
        }
        (Some(line), false) => line,
    };
    let text = String::from_utf8_lossy(&line);
    let message: Value = serde_json::from_str(text.trim_start_matches('\u{FFFD}')).unwrap_or_default();
    if let Some(error) = message.get("error") {
        let part = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        return Ending::Refused { class: part("class"), text: part("desc") };
    }
    match &request.says {
        Some(says) if !text.contains(says.as_str()) => {
            failed(format!("the agent was to say `{says}`, and says: {text}"))
        }
        _ => Ending::Done(String::new()),
    }
}

fn failed(text: String) -> Ending {
    Ending::Failed { code: "agent", text, stands: Stands::Unsaid }
}
