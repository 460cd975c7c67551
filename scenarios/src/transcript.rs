//! What was said and done in one run, as text that reads the same in every world.
//!
//! ```text
//! Record (raw lines and their times, taken while it runs)
//!    --> Line (lane, direction, canonical text; made afterwards)
//!       --> render   the golden file: every line with its virtual time
//!       --> compare  the partial order: exact within a lane, between lanes only what causality guarantees
//! ```
//!
//! What differs from run to run has become a placeholder: the machine's folder is `<dir>`. Replies whose members
//! differ between releases are told by what matters of them ([`reply`]); the exact shape of every reply is the
//! fidelity report's business, not the transcript's.

mod compare;
mod line;
mod reply;

use std::{cell::RefCell, fmt, rc::Rc, time::Duration};

use tokio::sync::Notify;

pub use compare::{Difference, compare};
pub use line::{Direction, Line, Lines, lines};

/// One thing that happened, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The driver sent a line to the monitor.
    Sent(Vec<u8>),
    /// The driver received a line from the monitor.
    Received(Vec<u8>),
    /// A line to the guest's agent.
    AgentSent(Vec<u8>),
    /// A line from the guest's agent.
    AgentReceived(Vec<u8>),
    /// The monitor's connection was opened or closed.
    Connection(&'static str),
    /// The connection to the guest's agent was opened or closed.
    AgentConnection(&'static str),
    /// The driver did something to a file of the host.
    Host {
        /// `create`, `remove`.
        action: &'static str,
        /// The file.
        path: String,
        /// Why it failed, if it did.
        error: Option<String>,
    },
    /// The driver is about to change a file of this name: that is told to whoever looks on, and not noted.
    Change(String),
    /// The driver ran a program of the host's to its end.
    Ran {
        /// Its name.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
        /// How it ended.
        outcome: String,
    },
    /// A fault struck.
    Fault(String),
    /// A step of the scenario began.
    Step(String),
    /// A step of the scenario ended: well, or not.
    Outcome(Result<String, String>),
}

/// What happened in a run, in order. Clones share it.
#[derive(Debug, Clone)]
pub struct Record {
    start: Duration,
    entries: Rc<RefCell<Vec<(Duration, Entry)>>>,
    news: Rc<Notify>,
    listener: Option<Listener>,
}

/// Who is told of everything as it is noted.
#[derive(Clone)]
struct Listener(Rc<dyn Fn(&Entry)>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

impl Record {
    /// A run that begins at this time of the world.
    pub fn new(start: Duration) -> Self {
        Self { start, entries: Rc::default(), news: Rc::default(), listener: None }
    }

    /// The same, and somebody is told of everything as it is noted.
    #[must_use]
    pub fn telling(self, listener: impl Fn(&Entry) + 'static) -> Self {
        Self { listener: Some(Listener(Rc::new(listener))), ..self }
    }

    /// Notes what happened at a time of the world.
    pub fn note(&self, now: Duration, entry: Entry) {
        self.tell(&entry);
        self.entries.borrow_mut().push((now.saturating_sub(self.start), entry));
        self.news.notify_one();
    }

    /// Tells whoever looks on of something that is not noted.
    pub fn tell(&self, entry: &Entry) {
        if let Some(Listener(listener)) = &self.listener {
            listener(entry);
        }
    }

    /// Waits until something has been noted since this was last asked.
    pub async fn noted(&self) {
        self.news.notified().await;
    }

    /// Takes out everything noted.
    pub fn take(&self) -> Vec<(Duration, Entry)> {
        self.entries.take()
    }
}

/// The transcript as it stands in a golden file.
pub fn render(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.lane.chars().count()).max().unwrap_or(0);
    let mut text = String::with_capacity(lines.len() * 80);
    for line in lines {
        text += &render_line(line, width);
    }
    text
}

/// One line of a transcript and its end, the lane padded to `width` characters.
pub fn render_line(line: &Line, width: usize) -> String {
    let Line { at, lane, direction, text } = line;
    let line = format!("{:>7.3}  {lane:<width$}  {direction} {text}", at.as_secs_f64());
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests;
