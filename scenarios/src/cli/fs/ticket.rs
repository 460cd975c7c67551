//! Notes beside the agent's socket of the freezes of ours that stand: `SOCK.frozen.WORD`, each with a word that no other freeze has.
//!
//! ```text
//! freeze writes its own --> it is thawed, or froze nothing: whoever knows removes it --> its watchdog finds none, and does nothing
//!                       \-> nobody did: its watchdog thaws, and removes it
//! ```
//! A note is its freeze's alone: that another one came to nothing, or is over, says nothing of this one. All of them go with a
//! thaw by `fs thaw` or by a recovery, which lets everything go; and the older ones with a freeze that has found all file systems thawed.
//!
//! While one of a caller's lies there, a snapshot of that guest knows by whom it was frozen, and leaves it so. What it holds is why the
//! guest may be at rest in part only; nothing, if it is as a whole.

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    env::{Env as _, FileKind, tokio::TokioEnv},
    request::FrozenBy,
};

use std::io;

use tokio::sync::watch::Receiver;

/// How much of a note is written and read, in bytes: a guest may have any number of file systems.
const NOTE_MAX: usize = 4096;

/// Who leaves those of callers.
const BY: &str = "freezeframe fs freeze";

/// How the word of a freeze begins that is the caller's, and not that of a snapshot which thaws by itself.
const CALLERS: &str = "caller-";

/// What a caller's note holds until it is known how far its freeze has come.
const BEGUN: &str = "how far its freeze came was never written down";

/// Who has left word that the guest with this agent, if it has one, is frozen, and how far. Whether it still is, its agent tells.
pub(in crate::cli) async fn frozen_by(agent: Option<&Utf8Path>) -> Option<FrozenBy> {
    let env = TokioEnv::new();
    let mut found = None;
    for ticket in Ticket::all(&env, agent?).await.iter().filter(|ticket| ticket.is_callers()) {
        let in_part = match env.read_file(&ticket.path, NOTE_MAX).await {
            // It was removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Some(format!("its note cannot be read: {error}")),
            Ok(note) if note.is_empty() => None,
            Ok(note) => Some(String::from_utf8_lossy(&note).into_owned()),
        };
        let by = found.get_or_insert(FrozenBy { by: BY.to_owned(), in_part: None });
        by.in_part = by.in_part.take().or(in_part);
    }
    found
}

/// Does what freezes nothing, and may let the guest with this agent go: then the freezes with a note from before are over.
pub(in crate::cli) async fn over_if_thawed<T>(
    agent: Option<&Utf8Path>,
    frozen: Receiver<bool>,
    work: impl Future<Output = T>,
) -> T {
    let Some(agent) = agent else { return work.await };
    let env = TokioEnv::new();
    let tickets = Ticket::all(&env, agent).await;
    let done = work.await;
    let was_thawed = frozen.has_changed().unwrap_or(false) && !*frozen.borrow();
    for over in tickets.iter().filter(|_| was_thawed) {
        over.remove(&env).await;
    }
    done
}

/// The note of one freeze.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Ticket {
    path: Utf8PathBuf,
    word: String,
}

impl Ticket {
    /// That of a freeze by the agent at this socket which stands until its caller ends it.
    pub(super) fn callers(agent: &Utf8Path, unique: &str) -> Self {
        Self::of(agent, &format!("{CALLERS}{unique}"))
    }

    /// That of the freeze with this word, by the agent at this socket.
    pub(super) fn of(agent: &Utf8Path, word: &str) -> Self {
        Self { path: format!("{agent}.frozen.{word}").into(), word: word.to_owned() }
    }

    /// Those of all freezes by the agent at this socket.
    pub(super) async fn all(env: &TokioEnv, agent: &Utf8Path) -> Vec<Self> {
        let folder = agent.parent().filter(|folder| *folder != "").unwrap_or(Utf8Path::new("."));
        let begins = format!("{}.frozen.", agent.file_name().unwrap_or_default());
        let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        // Where nobody may look nobody has left a word.
        let names = env.list_folder(folder).await.unwrap_or_default();
        let words = names.iter().filter_map(|name| name.strip_prefix(&begins)).filter(is_word);
        words.map(|word| Self::of(agent, word)).collect()
    }

    fn is_callers(&self) -> bool {
        self.word.starts_with(CALLERS)
    }

    /// What tells this freeze from every other.
    pub(super) fn word(&self) -> &str {
        &self.word
    }

    /// Writes it, of a freeze that is about to begin.
    pub(super) async fn begin(&self, env: &TokioEnv) -> io::Result<()> {
        env.replace_file(&self.path, BEGUN.as_bytes()).await
    }

    /// The freeze stands: why in part only, if it may be so.
    pub(super) async fn note(&self, env: &TokioEnv, in_part: Option<&str>) -> io::Result<()> {
        let why = in_part.unwrap_or_default();
        env.replace_file(&self.path, &why.as_bytes()[..why.floor_char_boundary(NOTE_MAX)]).await
    }

    /// Whether it says that its freeze stands, and not only that it was begun.
    pub(super) async fn is_noted(&self, env: &TokioEnv) -> bool {
        matches!(env.read_file(&self.path, NOTE_MAX).await, Ok(note) if note != BEGUN.as_bytes())
    }

    /// Whether its freeze still stands.
    pub(super) async fn stands(&self, env: &TokioEnv) -> bool {
        matches!(env.file_kind(&self.path).await, Ok(FileKind::File { .. }))
    }

    /// Its freeze is over, if there was one.
    pub(in crate::cli) async fn remove(&self, env: &TokioEnv) {
        // What cannot be removed leads to one thaw too many, of a guest that is thawed.
        let _ = env.remove_file(&self.path).await;
    }
}
