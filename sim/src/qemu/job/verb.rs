//! What a client may ask of a job: `job-*` and `block-job-*`, with QEMU's refusals in the order of its checks.
//!
//! A job that sleeps does as it is told before the reply; one that keeps in step with its source does it behind the
//! reply, as does every job of the oldest release.

use std::time::Duration;

use super::{Completion, Job, JobStatus, Jobs, Verb};
use crate::qemu::{Context, QmpError, Timer};

impl Jobs {
    /// Carries out a `job-*` command.
    ///
    /// # Errors
    /// An unknown job, or one whose state does not accept the verb.
    pub(crate) fn verb(&mut self, id: &str, verb: Verb, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let at = self.jobs.iter().position(|job| job.id == id);
        let at = at.ok_or_else(|| QmpError::generic("Job not found"))?;
        self.apply(at, verb, cx)
    }

    /// Carries out a `block-job-*` command that has its twin among the `job-*` commands.
    ///
    /// # Errors
    /// As [`Jobs::verb`]; a job that is no block job is unknown here.
    pub(crate) fn block_verb(&mut self, id: &str, verb: Verb, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let at = self.block_job(id)?;
        self.apply(at, verb, cx)
    }

    /// `block-job-cancel`. Without force a job that is ready completes, but leaves its target to nobody.
    ///
    /// # Errors
    /// As [`Jobs::block_verb`]; without force also for a job that the client has paused.
    pub(crate) fn block_cancel(
        &mut self,
        id: &str,
        force: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), QmpError> {
        let at = self.block_job(id)?;
        let job = &mut self.jobs[at];
        if job.paused_by_user && !force {
            return Err(QmpError::generic(format!("The block job for device '{id}' is currently paused")));
        }
        match &mut job.block {
            Some(block) if block.keeps_in_step && job.status == JobStatus::Ready && !force => {
                block.completion.get_or_insert(Completion::Leave);
                job.schedule(cx);
                Ok(())
            }
            _ => self.apply(at, Verb::Cancel, cx),
        }
    }

    /// `block-job-set-speed`.
    ///
    /// # Errors
    /// As [`Jobs::block_verb`], then a negative speed.
    pub(crate) fn set_speed(&mut self, id: &str, speed: i64, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let at = self.block_job(id)?;
        let job = &mut self.jobs[at];
        job.accept(Verb::SetSpeed)?;
        let speed = u64::try_from(speed).map_err(|_| negative_speed())?;
        if let Some(block) = &mut job.block {
            block.set_speed(speed, cx.now(), cx.release().a_higher_speed_wakes_a_job());
        }
        job.schedule(cx);
        Ok(())
    }

    /// `block-job-change`: a mirror writes to both disks at once from now on.
    ///
    /// # Errors
    /// As [`Jobs::block_verb`]; for a job that is no mirror, and the way back.
    pub(crate) fn change(&mut self, id: &str, copy_mode: &str) -> Result<(), QmpError> {
        let at = self.block_job(id)?;
        let job = &mut self.jobs[at];
        job.accept(Verb::Change)?;
        let Some(block) = job.block.as_mut().filter(|_| job.kind == "mirror") else {
            return Err(QmpError::generic("Job type does not support change"));
        };
        let write_blocking = copy_mode == "write-blocking";
        if block.write_blocking && !write_blocking {
            let text = format!("Change to copy mode '{copy_mode}' is not implemented");
            return Err(QmpError::generic(text));
        }
        block.write_blocking = write_blocking;
        Ok(())
    }

    fn block_job(&self, id: &str) -> Result<usize, QmpError> {
        let at = self.jobs.iter().position(|job| job.id == id && job.block.is_some());
        at.ok_or_else(|| QmpError { class: "DeviceNotActive", desc: format!("Block job '{id}' not found") })
    }

    /// `resume` asks whether the job was paused before it asks whether it may be resumed.
    fn apply(&mut self, at: usize, verb: Verb, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let job = &mut self.jobs[at];
        if verb == Verb::Resume && !job.paused_by_user {
            return Err(QmpError::generic("Can't resume a job that was not paused"));
        }
        job.accept(verb)?;
        match verb {
            Verb::Cancel => job.cancel(cx),
            Verb::Pause if job.paused_by_user => return Err(QmpError::generic("Job is already paused")),
            Verb::Pause => job.pause(cx),
            Verb::Resume => {
                job.paused_by_user = false;
                if let Some(block) = &mut job.block {
                    block.retry();
                    if block.hurries() && cx.choose("ends-as-it-is-resumed", 2) == 1 {
                        block.hurry();
                    }
                }
                job.wake_up(cx);
                job.schedule(cx);
            }
            Verb::Complete => job.complete(cx)?,
            Verb::Finalize => match job.group {
                Some(group) => {
                    self.finalize_group(group, cx);
                    return Ok(());
                }
                None => job.finalize(cx),
            },
            Verb::Dismiss => {
                self.dismiss(at, cx);
                return Ok(());
            }
            Verb::SetSpeed | Verb::Change => {}
        }
        self.settle(at, cx);
        Ok(())
    }
}

impl Job {
    fn cancel(&mut self, cx: &mut Context<'_>) {
        self.cancelled = true;
        self.paused_by_user = false;
        let Some(block) = &self.block else { return };
        // A backup that an error has stopped waits for its requests behind the reply: asked of all releases.
        let stopped_by_an_error = self.kind == "backup" && block.io_status != "ok";
        let sleeps =
            cx.release().sleeping_jobs_act_before_the_reply() && !block.keeps_in_step && !stopped_by_an_error;
        if sleeps || matches!(self.status, JobStatus::Waiting | JobStatus::Pending) {
            self.abort("Operation canceled".into(), cx);
        } else {
            self.wake_up(cx);
            cx.schedule(Duration::ZERO, Timer::BlockJob { serial: self.serial });
        }
    }

    /// A job that is no block job has no point at which it could pause: the wish is noted, no more.
    fn pause(&mut self, cx: &mut Context<'_>) {
        self.paused_by_user = true;
        let Some(block) = &self.block else { return };
        if cx.release().sleeping_jobs_act_before_the_reply() {
            self.rest(cx);
        } else {
            cx.schedule(block.next_look(cx.now()), Timer::BlockJob { serial: self.serial });
        }
    }

    fn complete(&mut self, cx: &mut Context<'_>) -> Result<(), QmpError> {
        let completion = self.block.as_mut().map(|block| &mut block.completion);
        match completion {
            Some(Some(Completion::Leave)) | None => {
                Err(QmpError::generic(format!("The active block job '{}' cannot be completed", self.id)))
            }
            Some(completion) => {
                *completion = Some(Completion::Pivot);
                self.schedule(cx);
                Ok(())
            }
        }
    }
}

/// The refusal of a negative speed.
pub(super) fn negative_speed() -> QmpError {
    QmpError::generic("Parameter 'speed' expects a non-negative value")
}
