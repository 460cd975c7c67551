//! Jobs that end together: those of a transaction whose `completion-mode` is `grouped`.
//!
//! ```text
//! one is done:   waiting, until all are; then all pending; then all finalized, unless a client is to do that
//! one fails:     all others are cancelled; then each concludes
//! ```
//! Always the newest first. Source: recordings, probes of the four releases.

use super::{Job, JobStatus, Jobs};
use crate::qemu::Context;

impl Jobs {
    /// Makes a group of jobs.
    pub(crate) fn make_group(&mut self, serials: &[u64]) {
        let group = serials.first().copied();
        self.jobs.iter_mut().filter(|job| serials.contains(&job.serial)).for_each(|job| job.group = group);
    }

    /// Undoes jobs that were created and not started, newest first. Once one of a group is gone QEMU waits for the others
    /// of it to end: they never run. Seen with all four releases, asleep and without an answer.
    pub(crate) fn discard_created(&mut self, serials: &[u64], grouped: bool, cx: &mut Context<'_>) {
        if grouped && serials.len() > 1 {
            cx.hang();
        }
        let undone = if cx.hung { 1 } else { serials.len() };
        for serial in serials.iter().rev().take(undone) {
            let Some(at) = self.jobs.iter().position(|job| job.serial == *serial) else { continue };
            let mut job = self.jobs.remove(at);
            job.go(JobStatus::Aborting, cx);
            job.go(JobStatus::Concluded, cx);
            job.go(JobStatus::Null, cx);
        }
    }

    /// A job waits for the others of its group: the last one lets all end.
    pub(super) fn group_waits(&mut self, group: u64, cx: &mut Context<'_>) {
        let members = || self.jobs.iter().filter(|job| job.group == Some(group));
        if members().any(|job| job.status != JobStatus::Waiting) {
            return;
        }
        let by_themselves = members().all(|job| job.auto_finalize);
        for job in self.members(group) {
            self.with(job, |job| job.get_pending(cx));
        }
        if by_themselves {
            self.finalize_group(group, cx);
        }
    }

    /// Finalizes all of a group.
    pub(super) fn finalize_group(&mut self, group: u64, cx: &mut Context<'_>) {
        for serial in self.members(group) {
            self.with(serial, |job| job.finalize(cx));
            self.put_out_serial(serial, cx);
        }
    }

    /// One of a group aborts: all others are cancelled, and each concludes. Where they stop at once, they do so before
    /// the first concludes, else one after the other.
    pub(super) fn abort_group(&mut self, group: u64, cx: &mut Context<'_>) {
        let members = self.members(group);
        let cancel = |job: &mut Job, cx: &mut Context<'_>| {
            if job.status != JobStatus::Aborting {
                job.cancelled = true;
                job.begin_to_abort("Operation canceled".into(), cx);
            }
        };
        if cx.release().cancelled_groups_stop_at_once() {
            for serial in &members {
                let works = |job: &&mut Job| !matches!(job.status, JobStatus::Waiting | JobStatus::Pending);
                if let Some(job) = self.by_serial(*serial).filter(works) {
                    cancel(job, cx);
                }
            }
        }
        for serial in members {
            self.with(serial, |job| {
                cancel(job, cx);
                job.conclude_aborted(cx);
            });
            self.put_out_serial(serial, cx);
        }
    }

    /// The jobs of a group, newest first.
    fn members(&self, group: u64) -> Vec<u64> {
        self.newest_first().filter(|job| job.group == Some(group)).map(|job| job.serial).collect()
    }

    fn with(&mut self, serial: u64, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.by_serial(serial) {
            change(job);
        }
    }

    fn put_out_serial(&mut self, serial: u64, cx: &mut Context<'_>) {
        if let Some(at) = self.jobs.iter().position(|job| job.serial == serial) {
            self.put_out(at, cx);
        }
    }
}
