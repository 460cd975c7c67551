//! What becomes of a job while QEMU drains nodes for another's sake. To drain is to let everything go on until it rests: a
//! job may come to its end meanwhile, in the middle of what is done for the other.
//!
//! ```text
//! another begins:   all nodes are drained; what copies as fast as it goes rests, and from 10.0 on ends then and there;
//!                   for a backup what sleeps rests at each change of the graph
//! another ends:     its filter is taken out between `pending` and `BLOCK_JOB_COMPLETED`; from 10.0 on a job may end there,
//!                   and for a backup what sleeps rests
//! the guest's disks are reset, or set up by its firmware:   each is drained
//! ```
//! What copies without a speed is near its end: how it meets with the other is a matter of time, and asked of the oracle.
//! Usually each keeps to itself.
//!
//! Source: the four releases on a busy host: two backups, begun one after the other and in one transaction, 60 times each;
//! backups, mirrors, commits and streams that were begun while the firmware ran, 24 times each; a backup beside a backup and a
//! stream that sleep and a mirror that is ready, which always went the same.

use super::{Job, JobStatus, Jobs};
use crate::qemu::{Context, block::Graph, differences::Drain};

impl Jobs {
    /// Another job is about to begin. Which one has rested for it.
    pub(crate) fn before_another_begins(&mut self, cx: &mut Context<'_>) -> Option<u64> {
        let serial = self.one_that_hurries(None)?;
        let most = cx.release().rests_before_another_begins();
        let rests = cx.choose("rests-before-another-begins", most + 1);
        self.rest_and_go_on(serial, rests, cx);
        if rests > 0 && cx.release().jobs_end_within_others() {
            self.end_now(serial, cx);
        }
        (rests > 0).then_some(serial)
    }

    /// Another job has begun, for which this one has rested; the command is not answered yet.
    pub(crate) fn before_anothers_reply(&mut self, rested: u64, cx: &mut Context<'_>) {
        if cx.release().jobs_end_before_anothers_reply() && cx.choose("ends-before-anothers-reply", 2) == 1 {
            self.end_now(rested, cx);
        }
    }

    /// All nodes are drained as often as the release does it: jobs that sleep, or keep in step, rest each time.
    pub(crate) fn sleepers_rest(&mut self, times: usize, cx: &mut Context<'_>) {
        for _ in 0..times {
            let rested = self.pause_sleepers(cx);
            self.wake_sleepers(&rested, cx);
        }
    }

    /// Lets jobs that sleep, or keep in step, rest. Which they are.
    pub(crate) fn pause_sleepers(&mut self, cx: &mut Context<'_>) -> Vec<u64> {
        let sleepers = self.jobs.iter_mut().rev().filter(|job| job.would_rest() && !job.hurries());
        let paused = sleepers.map(|job| {
            job.rest(cx);
            job.serial
        });
        paused.collect()
    }

    /// Lets those go on.
    pub(crate) fn wake_sleepers(&mut self, paused: &[u64], cx: &mut Context<'_>) {
        for serial in paused {
            if let Some(job) = self.by_serial(*serial) {
                job.wake_up(cx);
                job.schedule(cx);
            }
        }
    }

    /// Of a job nothing but its end is left, and another's may come first. Where it is then in the list.
    pub(super) fn let_others_end(&mut self, at: usize, cx: &mut Context<'_>) -> usize {
        let serial = self.jobs[at].serial;
        let other = self.one_that_hurries(Some(serial)).filter(|_| self.jobs[at].block.is_some());
        let Some(other) = other.filter(|_| cx.release().jobs_end_within_others()) else { return at };
        let way = cx.choose("another-ends-within", 3);
        if way > 0 {
            self.rest_and_go_on(other, way - 1, cx);
            self.end_now(other, cx);
        }
        self.jobs.iter().position(|job| job.serial == serial).unwrap_or(at)
    }

    /// The disks are reset, or set up: the jobs on them rest.
    pub(crate) fn disks_drained(&mut self, drain: Drain, graph: &Graph, cx: &mut Context<'_>) {
        let on_a_disk = |job: &&Job| {
            let mut chains = graph.devices().iter().flat_map(|device| graph.chain(&device.node));
            job.would_rest() && chains.any(|node| job.nodes.contains(&node.name))
        };
        let jobs: Vec<_> = self
            .newest_first()
            .filter(on_a_disk)
            .map(|job| (job.serial, job.hurries(), job.sleeps()))
            .collect();
        let (rests, most) = cx.release().rests(drain);
        for (serial, hurries, sleeps) in jobs {
            if rests == 0 {
                // Whether one with a speed has come to its first sleep.
                let works =
                    hurries || !sleeps && most > 0 && cx.choose("works-before-its-first-sleep", 2) == 1;
                self.rest_and_go_on(serial, usize::from(works && most > 0), cx);
                continue;
            }
            // One that is near its end comes to it between two rests.
            let before = if hurries { rests - cx.choose("ends-between-its-rests", rests) } else { rests };
            self.rest_and_go_on(serial, before, cx);
            if before < rests {
                self.end_now(serial, cx);
                self.rest_and_go_on(serial, rests - before, cx);
            }
        }
    }

    /// The oldest job that hurries to its end; not the one that is left out.
    fn one_that_hurries(&self, but: Option<u64>) -> Option<u64> {
        let one = |job: &&Job| Some(job.serial) != but && job.hurries() && !job.keeps_in_step();
        self.jobs.iter().find(one).map(|job| job.serial)
    }

    fn rest_and_go_on(&mut self, serial: u64, times: usize, cx: &mut Context<'_>) {
        let Some(job) = self.by_serial(serial) else { return };
        for _ in 0..times {
            job.rest(cx);
            job.wake_up(cx);
        }
        if times > 0 {
            job.schedule(cx);
        }
    }

    /// A job has copied all.
    fn end_now(&mut self, serial: u64, cx: &mut Context<'_>) {
        if let Some(block) = self.by_serial(serial).and_then(|job| job.block.as_mut()) {
            block.hurry();
            self.look_around(serial, cx);
        }
    }
}

impl Job {
    /// Whether it copies as fast as it goes, for itself, and nothing is in its way.
    fn hurries(&self) -> bool {
        let free = self.group.is_none() && !self.cancelled && !self.paused_by_user;
        let hurries = self.block.as_ref().is_some_and(|block| block.hurries());
        free && hurries && self.status == JobStatus::Running
    }

    fn keeps_in_step(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.keeps_in_step)
    }

    /// Whether it waits for somebody else, or for time to pass, whenever it does not copy.
    fn sleeps(&self) -> bool {
        self.status == JobStatus::Ready || self.keeps_in_step()
    }
}
