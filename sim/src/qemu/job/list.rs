//! All jobs of a QEMU: which are there, who may be started, and what is left to be done once one has ended.

use std::time::Duration;

use super::{
    Job, JobStatus,
    block::{BlockJob, Completion, Copied, Options},
    is_well_formed, verb,
};
use crate::{
    Release,
    qemu::{
        Context, QmpError,
        differences::{Beside, Drain},
        not_simulated,
        work::Work,
    },
};

/// The nodes that a block job claims, by name.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// Those that nobody else may change meanwhile.
    pub(crate) nodes: Vec<String>,
    /// The filter that it has put in.
    pub(crate) filter: Option<String>,
    /// Those among them that stay claimed until the job is dismissed.
    pub(crate) kept: Vec<String>,
}

/// What a block job has left to be done once it has ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Ended {
    /// Its id.
    pub(crate) id: String,
    /// What it was to do.
    pub(crate) work: Work,
    /// The filter that it had put in.
    pub(crate) filter: Option<String>,
    /// How: none if it failed or was cancelled.
    pub(crate) completion: Option<Completion>,
    /// How far it had come.
    pub(crate) copied: Copied,
    /// Its filter, which has no more use, stays until it is dismissed.
    pub(crate) filter_stays: bool,
    /// So do its nodes.
    pub(crate) nodes_stay: bool,
    /// Those nodes, when it has ended and when it is dismissed.
    pub(crate) kept: Vec<String>,
}

/// Whether a job that has concluded leaves its filter where it is until it is dismissed.
fn filter_stays(work: &Work, release: Release) -> bool {
    match work {
        Work::Stream(_) => true,
        Work::Mirror(_) => release.filters_of_mirrors_stay_until_dismissed(),
        Work::Commit(commit) => commit.is_active() && release.filters_of_mirrors_stay_until_dismissed(),
        _ => false,
    }
}

/// All jobs of a QEMU.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// Oldest first.
    pub(super) jobs: Vec<Job>,
    pub(super) next_serial: u64,
    /// Block jobs that have ended and whose work is not yet taken.
    pub(super) ended: Vec<Ended>,
    /// Nodes that were drained and never let go.
    drained: Vec<String>,
}

impl Jobs {
    /// All jobs, newest first, as QEMU lists them.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().rev()
    }

    /// The nodes that jobs write as if they were a guest's disks: they hold them by backends of their own.
    pub(crate) fn written_disks(&self) -> impl Iterator<Item = &str> {
        self.jobs.iter().filter_map(|job| match job.work.as_ref()? {
            Work::Commit(commit) => commit.active_base(),
            Work::Mirror(mirror) => Some(mirror.target()),
            _ => None,
        })
    }

    /// A node is flushed, or all are: what a stream or a commit has copied by then is safe.
    pub(crate) fn flushed(&mut self, node: Option<&str>) {
        for job in self.jobs.iter_mut().filter(|job| job.status == JobStatus::Pending) {
            match &mut job.work {
                Some(Work::Stream(stream)) => stream.flushed(node),
                Some(Work::Commit(commit)) => commit.flushed(node),
                _ => {}
            }
        }
    }

    /// Whether a job uses a node.
    pub(crate) fn uses(&self, node: &str) -> bool {
        self.users(node).next().is_some()
    }

    /// Refuses what may not be done to a node that a block job works on.
    ///
    /// # Errors
    /// QEMU's text for a blocked operation.
    pub(crate) fn check_not_busy(&self, node: &str) -> Result<(), QmpError> {
        match self.users(node).find(|job| job.block.is_some()).or_else(|| self.keeper(node)) {
            Some(job) => Err(QmpError::generic(format!(
                "Node '{node}' is busy: block device is in use by block job: {}",
                job.kind
            ))),
            None => Ok(()),
        }
    }

    /// How many jobs there have been.
    pub(crate) fn created(&self) -> u64 {
        self.next_serial
    }

    /// The serial number of the newest block job that works on a node, or has ended and still keeps it.
    pub(crate) fn newest_blocker(&self, node: &str) -> Option<u64> {
        let at_work = self.users(node).filter(|job| job.block.is_some());
        at_work.chain(self.keeper(node)).map(|job| job.serial).max()
    }

    /// Whether a job uses a node, or has ended and still keeps it.
    pub(crate) fn holds(&self, node: &str) -> bool {
        self.uses(node) || self.keeper(node).is_some()
    }

    fn keeper(&self, node: &str) -> Option<&Job> {
        self.newest_first().find(|job| job.block.is_some() && job.keeps(node))
    }

    /// Bytes that the job of a filter has still to copy.
    pub(crate) fn left_to_copy(&self, filter: &str, now: Duration) -> u64 {
        let job = self.jobs.iter().find(|job| job.filter.as_deref() == Some(filter));
        job.map(|job| job.progress(now)).map_or(0, |(current, total)| total - current)
    }

    pub(super) fn users<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Job> {
        self.newest_first()
            .filter(move |job| job.status.is_alive() && job.nodes.iter().any(|used| used == node))
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
        let mut job = self.create(id, kind, cx);
        job.go(JobStatus::Running, cx);
        self.jobs.push(job);
        Ok(self.next_serial)
    }

    /// Starts a block job on nodes: `created`, `running`. It looks around by itself from then on, and its work is
    /// handed out by [`Jobs::take_ended`].
    ///
    /// # Errors
    /// As [`Jobs::check_id`]; a negative speed, after `created` and `null` were said.
    pub(crate) fn start_block(
        &mut self,
        id: &str,
        options: Options,
        work: Work,
        claim: Claim,
        cx: &mut Context<'_>,
    ) -> Result<(), QmpError> {
        let serial = self.create_block(id, options, work, claim, cx)?;
        self.start_created(&[serial], cx);
        Ok(())
    }

    /// Creates a block job on nodes, to be started by [`Jobs::start_created`]. Returns its serial number.
    ///
    /// # Errors
    /// As [`Jobs::start_block`].
    pub(crate) fn create_block(
        &mut self,
        id: &str,
        options: Options,
        work: Work,
        claim: Claim,
        cx: &mut Context<'_>,
    ) -> Result<u64, QmpError> {
        self.check_id(id)?;
        claim.nodes.iter().try_for_each(|node| self.check_not_left_drained(node))?;
        let mut job = self.create(id, options.kind, cx);
        if options.speed < 0 {
            job.go(JobStatus::Null, cx);
            return Err(verb::negative_speed());
        }
        job.auto_finalize = options.auto_finalize;
        job.auto_dismiss = options.auto_dismiss;
        job.block = Some(BlockJob::new(options, cx.now()));
        job.work = Some(work);
        job.nodes = claim.nodes;
        job.filter = claim.filter;
        job.kept = claim.kept;
        self.jobs.push(job);
        Ok(self.next_serial)
    }

    /// Starts created block jobs in this order; those whose disk is drained meanwhile go on once all have started.
    pub(crate) fn start_created(&mut self, serials: &[u64], cx: &mut Context<'_>) {
        for job in serials {
            let Some(job) = self.by_serial(*job) else { continue };
            job.go(JobStatus::Running, cx);
            if job.block.as_ref().is_some_and(|block| block.starts_drained) {
                job.rest(cx);
            }
        }
        for job in serials {
            let Some(job) = self.by_serial(*job) else { continue };
            job.wake_up(cx);
            if job.block.as_ref().is_some_and(|block| block.ready_at_once) {
                job.get_ready(cx);
            }
            job.schedule(cx);
        }
    }

    /// A block job that is refused only after it was created: `created`, `null`, and why.
    pub(crate) fn refuse_block(&mut self, id: &str, why: QmpError, cx: &mut Context<'_>) -> QmpError {
        if let Err(refused) = self.check_id(id) {
            return refused;
        }
        self.create(id, "", cx).go(JobStatus::Null, cx);
        why
    }

    pub(super) fn create(&mut self, id: &str, kind: &'static str, cx: &mut Context<'_>) -> Job {
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
            auto_finalize: true,
            auto_dismiss: false,
            block: None,
            group: None,
            filter: None,
            kept: Vec::new(),
            paused_by_user: false,
            cancelled: false,
            work: None,
        };
        job.go(JobStatus::Created, cx);
        job
    }

    /// A node is drained and will never be let go.
    pub(crate) fn leave_drained(&mut self, node: &str) {
        self.drained.push(node.to_owned());
    }

    /// Refuses a job on a node that stays drained.
    ///
    /// # Errors
    /// What such a job does is not modelled.
    pub(crate) fn check_not_left_drained(&self, node: &str) -> Result<(), QmpError> {
        if self.drained.iter().any(|drained| drained == node) {
            return Err(not_simulated("a job on a disk that stays drained"));
        }
        Ok(())
    }

    /// Lets the newest job look around.
    pub(crate) fn newest_looks_around(&mut self, cx: &mut Context<'_>) {
        self.look_around(self.next_serial, cx);
    }

    /// Lets a block job look around, if it is still there.
    pub(crate) fn look_around(&mut self, serial: u64, cx: &mut Context<'_>) {
        if let Some(at) = self.jobs.iter().position(|job| job.serial == serial) {
            self.jobs[at].look_around(cx);
            self.settle(at, cx);
        }
    }

    /// All nodes are drained for a moment: block jobs that work rest and go on, as often as the release shows it.
    pub(crate) fn drained(&mut self, drain: Drain, cx: &mut Context<'_>) {
        if !self.any_would_rest() {
            return;
        }
        let (usual, most) = cx.release().rests(drain);
        let more = if most > usual { cx.choose("more-rests", most - usual + 1) } else { 0 };
        for _ in 0..usual + more {
            for job in self.jobs.iter_mut().rev().filter(|job| job.would_rest()) {
                job.rest(cx);
                job.wake_up(cx);
                job.schedule(cx);
            }
        }
    }

    /// Whether a block job works that a drain makes rest.
    pub(crate) fn any_would_rest(&self) -> bool {
        self.jobs.iter().any(Job::would_rest)
    }

    /// The work of block jobs that have ended since this was last asked, in that order.
    pub(crate) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// What follows for a job and its group from where it has come to.
    pub(super) fn settle(&mut self, mut at: usize, cx: &mut Context<'_>) {
        let mut beside = Beside::NONE;
        if self.jobs[at].is_to_finalize() {
            if self.jobs[at].kind == "backup" {
                beside = cx.release().rests_beside_a_backup();
            }
            at = self.let_others_end(at, cx);
            self.sleepers_rest(beside.before_its_end, cx);
            self.jobs[at].finalize(cx);
        }
        let job = &self.jobs[at];
        match (job.group, job.status) {
            (Some(group), JobStatus::Waiting) => self.group_waits(group, cx),
            (Some(group), JobStatus::Aborting) => self.abort_group(group, cx),
            (_, JobStatus::Concluded) => self.put_out(at, cx),
            _ => {}
        }
        self.sleepers_rest(beside.behind_it, cx);
    }

    /// Puts a block job's work out when it has concluded, and forgets the job if nobody is to dismiss it.
    pub(super) fn put_out(&mut self, at: usize, cx: &mut Context<'_>) {
        let job = &mut self.jobs[at];
        if let (Some(block), Some(work)) = (&job.block, job.work.take()) {
            let completion = job.error.is_none().then_some(block.completion.unwrap_or(Completion::Pivot));
            let filter_stays = !job.auto_dismiss && filter_stays(&work, cx.release());
            let nodes_stay = !job.auto_dismiss && matches!(work, Work::Stream(_) | Work::Commit(_));
            let filter = if filter_stays { job.filter.clone() } else { job.filter.take() };
            let kept = if nodes_stay { job.kept.clone() } else { Vec::new() };
            let copied = block.written(cx.now());
            let id = job.id.clone();
            self.ended.push(Ended { id, work, filter, completion, copied, filter_stays, nodes_stay, kept });
        }
        if job.auto_dismiss {
            job.go(JobStatus::Null, cx);
            self.jobs.remove(at);
        }
    }

    /// Forgets a job that has concluded, and what it kept until then.
    pub(super) fn dismiss(&mut self, at: usize, cx: &mut Context<'_>) {
        let mut job = self.jobs.remove(at);
        job.go(JobStatus::Null, cx);
        let (filter, kept) = (job.filter.take(), job.kept);
        if filter.is_some() || !kept.is_empty() {
            self.ended.push(Ended {
                id: job.id,
                work: Work::Done(Ok(())),
                filter,
                completion: None,
                copied: Copied::default(),
                filter_stays: false,
                nodes_stay: false,
                kept,
            });
        }
    }

    /// The work of block jobs that have not ended, and how far they have come: QEMU is gone.
    pub(crate) fn take_unfinished(&mut self, cx: &Context<'_>) -> Vec<(Work, Copied)> {
        let unfinished = self.jobs.iter_mut().filter_map(|job| {
            let copied = Copied { killed: true, ..job.block.as_ref()?.written(cx.now()) };
            Some((job.work.take()?, copied))
        });
        unfinished.collect()
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
            job.end_alone(outcome, cx);
        }
    }

    /// Nobody is told of earlier I/O errors any more.
    pub(crate) fn reset_io_status(&mut self) {
        self.jobs.iter_mut().filter_map(|job| job.block.as_mut()).for_each(|block| block.io_status = "ok");
    }

    /// `quit`: cancels what runs and forgets all, newest first; nothing works any more by then.
    pub(crate) fn close_all(&mut self, cx: &mut Context<'_>) {
        self.drained(Drain::Quit, cx);
        if cx.release().jobs_rest_before_the_end() {
            self.jobs.iter_mut().filter(|job| job.would_rest()).for_each(|job| job.rest(cx));
        }
        while let Some(mut job) = self.jobs.pop() {
            if job.status.is_alive() {
                job.group = None;
                let completes = cx.release().quit_completes_what_is_ready() && job.status == JobStatus::Ready;
                job.cancelled = !completes;
                job.wake_up(cx);
                job.end_alone(Ok(()), cx);
            }
            job.go(JobStatus::Null, cx);
        }
    }

    pub(super) fn by_serial(&mut self, serial: u64) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.serial == serial)
    }
}
