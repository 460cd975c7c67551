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
//! Who moves it: the job's own work, a client's verb, or `quit`. What it says: `JOB_STATUS_CHANGE` on every arrow;
//! of a block job (`block`) also `BLOCK_JOB_ERROR`, `BLOCK_JOB_READY` and `BLOCK_JOB_PENDING` behind the state of that name, and
//! `BLOCK_JOB_COMPLETED` or `BLOCK_JOB_CANCELLED` before `concluded`. `query` shows it, `verb` lets clients move it.
//! It knows nothing of images: what a job does is handed in and handed out as a `Work`, and whether that worked
//! as a `Result`. Source: QEMU's QAPI docs of `JobStatus` and `JobVerb`, recordings.
//!
//! `list` holds the jobs of a QEMU. Those of one transaction may be a `group`: they end together. `beside` is what one does
//! while another begins or ends.

use std::time::Duration;

use super::{Context, QmpError, Timer, differences::UNFIT_TARGET, work::Work};
use crate::{
    machine::OnError,
    qobject::{QDict, key, qdict},
};

mod beside;
pub(crate) mod block;
mod group;
mod list;
mod query;
mod status;
mod verb;
pub(crate) use block::Copied;
pub(crate) use list::{Claim, Ended, Jobs};
pub use status::{JobStatus, Verb};

use block::{BlockJob, Completion};

/// From an error of a block job to the end of its other requests, where that takes time.
const REQUESTS_COME_BACK: Duration = Duration::from_millis(2);

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
    /// It ends without `job-finalize`.
    auto_finalize: bool,
    /// It is forgotten without `job-dismiss`.
    auto_dismiss: bool,
    block: Option<BlockJob>,
    /// The jobs of one number end together.
    group: Option<u64>,
    filter: Option<String>,
    kept: Vec<String>,
    paused_by_user: bool,
    cancelled: bool,
    work: Option<Work>,
}

impl Job {
    /// Whether it waits for its timer to do, or to tell, the rest of its work.
    pub(crate) fn has_work(&self) -> bool {
        self.work.is_some()
    }

    /// Whether it has ended and a node is still its own: only a commit that failed lets go of them.
    fn keeps(&self, node: &str) -> bool {
        let keeps = self.status == JobStatus::Concluded && (self.error.is_none() || self.kind != "commit");
        keeps && self.kept.iter().any(|kept| kept == node)
    }

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

    /// Its work has ended: well, or with an error.
    fn end(&mut self, outcome: Result<(), String>, cx: &mut Context<'_>) {
        let outcome = if self.cancelled { outcome.and(Err("Operation canceled".into())) } else { outcome };
        match outcome {
            Ok(()) => {
                self.go(JobStatus::Waiting, cx);
                if self.group.is_none() {
                    self.get_pending(cx);
                }
            }
            Err(error) => self.abort(error, cx),
        }
    }

    /// Its work has ended, and there is no other job to wait for.
    fn end_alone(&mut self, outcome: Result<(), String>, cx: &mut Context<'_>) {
        self.end(outcome, cx);
        if self.is_to_finalize() {
            self.finalize(cx);
        }
    }

    /// Whether it finalizes itself now.
    fn is_to_finalize(&self) -> bool {
        self.status == JobStatus::Pending && self.group.is_none() && self.auto_finalize
    }

    /// Nothing but its finalization is left.
    fn get_pending(&mut self, cx: &mut Context<'_>) {
        self.go(JobStatus::Pending, cx);
        if !self.auto_finalize {
            cx.event("BLOCK_JOB_PENDING", Some(qdict! { "type": self.kind, "id": self.id.clone() }));
        }
    }

    fn finalize(&mut self, cx: &mut Context<'_>) {
        self.report("BLOCK_JOB_COMPLETED", cx);
        self.current = self.total;
        self.go(JobStatus::Concluded, cx);
    }

    /// It has failed or was cancelled. One of a group concludes with the others.
    fn abort(&mut self, error: String, cx: &mut Context<'_>) {
        self.begin_to_abort(error, cx);
        if self.group.is_none() {
            self.conclude_aborted(cx);
        }
    }

    fn begin_to_abort(&mut self, error: String, cx: &mut Context<'_>) {
        self.wake_up(cx);
        self.error = Some(error);
        self.go(JobStatus::Aborting, cx);
    }

    fn conclude_aborted(&mut self, cx: &mut Context<'_>) {
        self.report(if self.cancelled { "BLOCK_JOB_CANCELLED" } else { "BLOCK_JOB_COMPLETED" }, cx);
        self.current = self.total;
        self.go(JobStatus::Concluded, cx);
    }

    /// A block job's work is over, one way or the other: it copies no more and says so.
    fn report(&mut self, event: &'static str, cx: &mut Context<'_>) {
        if let Some(block) = &mut self.block {
            block.rest(cx.now());
            let mut data = self.block_data(cx);
            if let (Some(error), false) = (&self.error, self.cancelled) {
                let unfit = self.block.as_ref().is_some_and(|block| block.unfit);
                let told = if unfit { cx.release().unfit_target_told().into() } else { error.clone() };
                data.put(key!("error"), told);
            }
            cx.event(event, Some(data));
        }
    }

    /// What all `BLOCK_JOB_*` events of a job that works have in common.
    fn block_data(&self, cx: &Context<'_>) -> QDict {
        let (current, total) = self.progress(cx.now());
        qdict! {
            "type": self.kind,
            "device": self.id.clone(),
            "len": total,
            "offset": current,
            "speed": self.block.as_ref().map_or(0, |block| block.speed),
        }
    }

    /// How much is done, and of how much.
    fn progress(&self, now: Duration) -> (u64, u64) {
        self.block.as_ref().map_or((self.current, self.total), |block| (block.offset(now), block.len))
    }

    fn get_ready(&mut self, cx: &mut Context<'_>) {
        self.go(JobStatus::Ready, cx);
        cx.event("BLOCK_JOB_READY", Some(self.block_data(cx)));
    }

    /// Rests, if it works.
    fn rest(&mut self, cx: &mut Context<'_>) {
        match self.status {
            JobStatus::Running => self.go(JobStatus::Paused, cx),
            JobStatus::Ready => self.go(JobStatus::Standby, cx),
            _ => return,
        }
        if let Some(block) = &mut self.block {
            block.rest(cx.now());
        }
    }

    /// Whether a drain makes it rest.
    fn would_rest(&self) -> bool {
        self.block.is_some() && matches!(self.status, JobStatus::Running | JobStatus::Ready)
    }

    /// Works again, if it rests.
    fn wake_up(&mut self, cx: &mut Context<'_>) {
        match self.status {
            JobStatus::Paused => self.go(JobStatus::Running, cx),
            JobStatus::Standby => self.go(JobStatus::Ready, cx),
            _ => return,
        }
        if let Some(block) = &mut self.block {
            block.go_on(cx.now());
        }
    }

    /// A block job looks around: whether it was cancelled, is to rest, or is done.
    fn look_around(&mut self, cx: &mut Context<'_>) {
        let Some(block) = &self.block else { return };
        let all_is_copied = block.remaining(cx.now()).is_some_and(|remaining| remaining.is_zero());
        let (keeps_in_step, completes) = (block.keeps_in_step, block.completion.is_some());
        match self.status {
            JobStatus::Running | JobStatus::Ready | JobStatus::Paused | JobStatus::Standby
                if self.cancelled =>
            {
                self.end(Ok(()), cx);
            }
            JobStatus::Running | JobStatus::Ready if self.paused_by_user => self.rest(cx),
            JobStatus::Running if block.failed.is_some() => {
                let error = block.failed.unwrap_or_default();
                self.abort(error.into(), cx);
            }
            JobStatus::Running if block.unfit => self.abort(UNFIT_TARGET.into(), cx),
            JobStatus::Running
                if all_is_copied && self.block.as_ref().is_some_and(|b| b.failure.is_some()) =>
            {
                self.fail(cx);
            }
            JobStatus::Running if all_is_copied && keeps_in_step => self.get_ready(cx),
            JobStatus::Running if all_is_copied => self.end(Ok(()), cx),
            JobStatus::Ready if completes => self.end(Ok(()), cx),
            _ => {}
        }
    }

    /// Requests have failed; all others are done.
    fn fail(&mut self, cx: &mut Context<'_>) {
        let Some(block) = &mut self.block else { return };
        let Some(failure) = block.failure.take() else { return };
        if failure.hidden_by_a_drain && cx.choose("drain-hides-an-error", 2) == 1 {
            self.rest(cx);
            self.wake_up(cx);
            self.schedule(cx);
            return;
        }
        block.fail(failure);
        let action = failure.on_error.action(failure.errno);
        for _ in 0..failure.times {
            let data = qdict! {
                "device": self.id.clone(),
                "operation": failure.operation,
                "action": action.name(),
            };
            cx.event("BLOCK_JOB_ERROR", Some(data));
        }
        match action {
            OnError::Stop => {
                block.io_status = failure.errno.io_status();
                block.failure = failure.lasts.then_some(failure);
                self.paused_by_user = true;
                self.rest(cx);
            }
            OnError::Ignore => {
                block.retry();
                self.look_around(cx);
            }
            OnError::Report | OnError::Enospc => self.fails_with(failure.errno.text(), cx),
        }
    }

    /// An error was told that ends it: at once, or in a moment, once its other requests have come back.
    fn fails_with(&mut self, error: &'static str, cx: &mut Context<'_>) {
        if cx.choose("fails-behind-its-error", 2) == 0 {
            return self.abort(error.into(), cx);
        }
        if let Some(block) = &mut self.block {
            block.failed = Some(error);
        }
        cx.schedule(REQUESTS_COME_BACK, Timer::BlockJob { serial: self.serial });
    }

    /// Asks to look around when all will be copied, or at once if it is ready.
    fn schedule(&self, cx: &mut Context<'_>) {
        let remaining = self.block.as_ref().and_then(|block| block.remaining(cx.now()));
        if let Some(remaining) = remaining {
            cx.schedule(remaining, Timer::BlockJob { serial: self.serial });
        }
    }
}

/// Whether QEMU takes a name as an id: a letter, then letters, digits, `-`, `.`, `_`.
pub(crate) fn is_well_formed(id: &str) -> bool {
    id.starts_with(|first: char| first.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}
