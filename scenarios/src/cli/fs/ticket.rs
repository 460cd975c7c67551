//! A note beside the agent's socket that a freeze of ours stands: `SOCK.frozen`, with a word that no other freeze has.
//!
//! ```text
//! freeze writes it --> thaw removes it --> the watchdog finds none, or another's, and does nothing
//!                 \--> nobody did: the watchdog finds its own, thaws and removes it
//! ```

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::env::{Env as _, tokio::TokioEnv};

use std::io;

/// The longest word, in bytes.
const WORD_MAX: usize = 64;

/// The note of one freeze.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Ticket {
    path: Utf8PathBuf,
}

impl Ticket {
    /// That of the agent at this socket.
    pub(super) fn at(agent: &Utf8Path) -> Self {
        Self { path: format!("{agent}.frozen").into() }
    }

    /// Writes it, in the place of one that a freeze has left which is over.
    pub(super) async fn write(&self, env: &TokioEnv, word: &str) -> io::Result<()> {
        env.replace_file(&self.path, word.as_bytes()).await
    }

    /// Whether the freeze with this word still stands.
    pub(super) async fn stands(&self, env: &TokioEnv, word: &str) -> bool {
        env.read_file(&self.path, WORD_MAX).await.is_ok_and(|found| found == word.as_bytes())
    }

    /// The freeze is over, if there was one.
    pub(in crate::cli) async fn remove(&self, env: &TokioEnv) {
        // What cannot be removed leads to one thaw too many, of a guest that is thawed.
        let _ = env.remove_file(&self.path).await;
    }
}
