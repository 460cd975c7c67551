//! A QEMU job, from the command that starts it to the `null` that forgets it.
//!
//! ```text
//! created -> running <-> paused
//!               |  \--> ready <-> standby
//!               |         |
//!               |         v
//!               +----> waiting -> pending -> concluded -> null
//!               \------------------> aborting ---^
//! ```
//! (`created` may also go to `aborting` or `null`; `ready`, `standby`, `waiting` and `pending` to `aborting`.)
//!
//! Who moves it: the job's own work, a client's verb, or `quit`. What it says: `JOB_STATUS_CHANGE` on every arrow.
//! It knows nothing of images: what a job does is handed in and handed out as a `Work`, and whether that worked
//! as a `Result`. Source: QEMU's QAPI docs of `JobStatus` and `JobVerb`, recordings.
//!
//! Not here yet: block jobs (`BLOCK_JOB_*` events, `ready`), transactions of jobs.

use super::{Context, QmpError, block::create::Format};
use crate::qobject::{QObject, key, qdict};

mod status;
pub use status::{JobStatus, Verb};

/// What a running job still has to do when its timer comes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// All was done within the command: this is how it ended.
    Done(Result<(), String>),
    /// Write the header of a new image.
    Format(Format),
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Tells it from an earlier job of the same id.
    serial: u64,
    /// The client's name for it.
    pub id: String,
    /// QAPI's `JobType`: `create`, `snapshot-save` ...
    pub kind: &'static str,
    /// Where it is in its life.
    pub status: JobStatus,
    /// Why it failed; shown by `query-jobs` alone.
    pub error: Option<String>,
    /// How much of `total` is done.
    pub current: u64,
    /// How much there is to do, in the job's own unit.
    pub total: u64,
    /// Nodes that it uses: they cannot be removed.
    pub nodes: Vec<String>,
    paused_by_user: bool,
    cancelled: bool,
    work: Option<Work>,
}

impl Job {
    fn go(&mut self, status: JobStatus, cx: &mut Context<'_>) {
        debug_assert!(self.status.may_become(status), "{} -> {}", self.status.name(), status.name());
        self.status = status;
        cx.event("JOB_STATUS_CHANGE", Some(qdict! { "status": status.name(), "id": self.id.clone() }));
    }

    fn accept(&self, verb: Verb) -> Result<(), QmpError> {
        if self.status.accepts(verb) {
            return Ok(());
        }
        let (id, status, verb) = (&self.id, self.status.name(), verb.name());
        Err(QmpError::generic(format!("Job '{id}' in state '{status}' cannot accept command verb '{verb}'")))
    }

    fn end(&mut self, outcome: Result<(), String>, cx: &mut Context<'_>) {
        let outcome = if self.cancelled { outcome.and(Err("Operation canceled".into())) } else { outcome };
        match outcome {
            Ok(()) => {
                self.go(JobStatus::Waiting, cx);
                self.go(JobStatus::Pending, cx);
            }
            Err(error) => {
                self.error = Some(error);
                self.go(JobStatus::Aborting, cx);
            }
        }
        self.current = self.total;
        self.go(JobStatus::Concluded, cx);
    }
}

/// All jobs of a QEMU.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// Oldest first.
    jobs: Vec<Job>,
    next_serial: u64,
}

impl Jobs {
    /// All jobs, newest first, as QEMU lists them.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().rev()
    }

    /// Whether a job uses a node.
    pub(crate) fn uses(&self, node: &str) -> bool {
        self.jobs.iter().any(|job| job.status.is_alive() && job.nodes.iter().any(|used| used == node))
    }

    /// Checks whether a job may be called so.
    ///
    /// # Errors
    /// A malformed id, or one that is taken: a concluded job keeps its own until it is dismissed.
    pub(crate) fn check_id(&self, id: &str) -> Result<(), QmpError> {
        if !is_well_formed(id) {
            return Err(QmpError::generic(format!("Invalid job ID '{id}'")));
        }
        if self.jobs.iter().any(|job| job.id == id) {
            return Err(QmpError::generic(format!("Job ID '{id}' already in use")));
        }
        Ok(())
    }

    /// Starts a job: `created`, `running`. Returns its serial number.
    ///
    /// # Errors
    /// As [`Jobs::check_id`]; nothing is said then.
    pub(crate) fn start(
        &mut self,
        id: &str,
        kind: &'static str,
        cx: &mut Context<'_>,
    ) -> Result<u64, QmpError> {
        self.check_id(id)?;
        self.next_serial += 1;
        let mut job = Job {
            serial: self.next_serial,
            id: id.into(),
            kind,
            status: JobStatus::Undefined,
            error: None,
            current: 0,
            total: 1,
            nodes: Vec::new(),
            paused_by_user: false,
            cancelled: false,
            work: None,
        };
        job.go(JobStatus::Created, cx);
        job.go(JobStatus::Running, cx);
        self.jobs.push(job);
        Ok(self.next_serial)
    }

    /// Gives a running job what it will do when its timer comes, and the nodes that it uses until then.
    pub(crate) fn give_work(&mut self, serial: u64, work: Work, nodes: Vec<String>) {
        if let Some(job) = self.by_serial(serial) {
            job.work = Some(work);
            job.nodes = nodes;
        }
    }

    /// Takes what a running job has to do; nothing if it is gone or has ended.
    pub(crate) fn take_work(&mut self, serial: u64) -> Option<Work> {
        self.by_serial(serial)?.work.take()
    }

    /// Ends a running job: `waiting`, `pending`, `concluded`, or `aborting`, `concluded`.
    pub(crate) fn end(&mut self, serial: u64, outcome: Result<(), String>, cx: &mut Context<'_>) {
        if let Some(job) = self.by_serial(serial) {
            job.end(outcome, cx);
        }
    }

    /// `quit`: cancels what runs and forgets all, newest first.
    pub(crate) fn close_all(&mut self, cx: &mut Context<'_>) {
        while let Some(mut job) = self.jobs.pop() {
            if job.status.is_alive() {
                job.cancelled = true;
                job.end(Ok(()), cx);
            }
            job.go(JobStatus::Null, cx);
        }
    }

    /// Carries out a `job-*` command.
    ///
    /// # Errors
    /// An unknown job, or one whose state does not accept the verb. `resume` asks whether the job was paused
    /// before it asks whether it may be resumed.
    pub(crate) fn verb(&mut self, id: &str, verb: Verb, cx: &mut Context<'_>) -> Result<QObject, QmpError> {
        let at = self.jobs.iter().position(|job| job.id == id);
        let at = at.ok_or_else(|| QmpError::generic("Job not found"))?;
        let job = &mut self.jobs[at];
        if verb == Verb::Resume && !job.paused_by_user {
            return Err(QmpError::generic("Can't resume a job that was not paused"));
        }
        job.accept(verb)?;
        match verb {
            Verb::Cancel => job.cancelled = true,
            Verb::Pause if job.paused_by_user => return Err(QmpError::generic("Job is already paused")),
            // The jobs that are modelled have no point at which they could pause: the wish is noted, no more.
            Verb::Pause => job.paused_by_user = true,
            Verb::Resume => job.paused_by_user = false,
            Verb::Dismiss => {
                job.go(JobStatus::Null, cx);
                self.jobs.remove(at);
            }
            Verb::Complete | Verb::Finalize => {
                return Err(super::not_simulated("a job that waits for its client"));
            }
        }
        Ok(QObject::empty())
    }

    /// The reply to `query-jobs`.
    pub(crate) fn query(&self) -> QObject {
        self.newest_first()
            .map(|job| {
                let mut info = qdict! {
                    "id": job.id.clone(),
                    "type": job.kind,
                    "status": job.status.name(),
                    "current-progress": job.current,
                    "total-progress": job.total,
                };
                if let Some(error) = &job.error {
                    info.put(key!("error"), error.clone());
                }
                info.into()
            })
            .collect()
    }

    fn by_serial(&mut self, serial: u64) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.serial == serial)
    }
}

/// The reply to a `block-job-*` command: none of the jobs that are modelled is a block job.
pub(crate) fn no_block_job(id: &str) -> QmpError {
    QmpError { class: "DeviceNotActive", desc: format!("Block job '{id}' not found") }
}

/// Whether QEMU takes a name as an id: a letter, then letters, digits, `-`, `.`, `_`.
pub(crate) fn is_well_formed(id: &str) -> bool {
    id.starts_with(|first: char| first.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}
