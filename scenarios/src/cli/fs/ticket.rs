//! A note beside the agent's socket that a freeze of ours stands: `SOCK.frozen`, with a word that no other freeze has.
//!
//! ```text
//! freeze writes it --> thaw removes it --> the watchdog finds none, or another's, and does nothing
//!                 \--> nobody did: the watchdog finds its own, thaws and removes it
//! ```
//! While it lies there, a snapshot of that guest knows by whom it was frozen, and leaves it so.

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::env::{Env as _, tokio::TokioEnv};

use std::io;

/// The longest word, in bytes.
const WORD_MAX: usize = 64;

/// Who leaves such a note.
const BY: &str = "freezeframe fs freeze";

/// How the word of a freeze begins that is the caller's, and not that of a snapshot which thaws by itself.
const CALLERS: &str = "caller-";

/// The word of a freeze that stands until its caller ends it.
pub(super) fn callers(unique: &str) -> String {
    format!("{CALLERS}{unique}")
}

/// Who has left word that the guest with this agent, if it has one, is frozen. Whether it still is, its agent tells.
pub(in crate::cli) async fn frozen_by(agent: Option<&Utf8Path>) -> Option<String> {
    let note = TokioEnv::new().read_file(&Ticket::at(agent?).path, WORD_MAX).await;
    note.is_ok_and(|word| word.starts_with(CALLERS.as_bytes())).then(|| BY.to_owned())
}

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
