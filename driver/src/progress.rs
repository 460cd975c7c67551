//! How far a long step is, for whoever wants to show it.

use tokio::sync::watch;

/// How far a long step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The step, by its lane: `2.memory`.
    pub lane: String,
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all, as far as that is known by now: it may grow.
    pub total: u64,
}

/// What was told last; none before anything was.
pub type Listener = watch::Receiver<Option<Progress>>;

/// Where steps tell how far they are. Clones share it; whoever listens may miss all but the last.
#[derive(Debug, Clone)]
pub struct Teller(watch::Sender<Option<Progress>>);

impl Default for Teller {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Teller {
    /// Tells how far a step is.
    pub fn tell(&self, progress: Progress) {
        self.0.send_replace(Some(progress));
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        self.0.subscribe()
    }
}
