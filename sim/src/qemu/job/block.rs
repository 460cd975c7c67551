//! What makes a job a block job: a speed, a progress in bytes, and that some are completed by their client.
//!
//! A block job copies in chunks. Without a speed it is done after a time that was chosen when it started; with one, its
//! first chunk is copied at once, and what it need not copy before that, and each further one when its bytes are due. While
//! it rests nothing is copied.
//! A request of it may fail: what then happens is its policy's, which is the client's ([`OnError`]). Errors show when
//! all else is copied, since many requests are under way at once.
//! It says nothing itself: that is for [`super::Job`]. Source: recordings; QEMU's QAPI docs of `BlockJobInfo`.

use std::time::Duration;

use crate::{
    machine::{Errno, OnError},
    qemu::{Context, QmpError, arguments::Arguments},
};

/// How long a block job without speed may take, in milliseconds.
const JOB_TAKES_MS: [u64; 4] = [5, 1, 20, 100];

/// Requests of a job that will fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// `read` or `write`.
    pub(crate) operation: &'static str,
    /// How they fail.
    pub(crate) errno: Errno,
    /// What is done about it.
    pub(crate) on_error: OnError,
    /// How many say so.
    pub(crate) times: u64,
    /// Bytes that are not copied because of it.
    pub(crate) lacks: u64,
    /// They would fail again.
    pub(crate) lasts: bool,
    /// A drain that comes in between makes the job try again, and nobody hears of the error.
    pub(crate) hidden_by_a_drain: bool,
}

/// What is asked for when a block job is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// QAPI's `JobType`.
    pub(crate) kind: &'static str,
    /// Bytes a second, 0 for as fast as it goes. QEMU takes a negative one this far.
    pub(crate) speed: i64,
    /// It ends without `job-finalize`.
    pub(crate) auto_finalize: bool,
    /// It is forgotten without `job-dismiss`.
    pub(crate) auto_dismiss: bool,
    /// Bytes to copy.
    pub(crate) len: u64,
    /// Bytes that are copied in one go where it has a speed.
    pub(crate) chunk: u64,
    /// Bytes of one of its requests: what it has written when QEMU is killed is so many of them.
    pub(crate) request: u64,
    /// How far the first go comes, in bytes.
    pub(crate) first: u64,
    /// Its speed does not slow it down: it has no more to copy than goes at once.
    pub(crate) unslowed: bool,
    /// Once all is copied it keeps in step with its source until its client completes it.
    pub(crate) keeps_in_step: bool,
    /// What the guest writes goes to its target at once.
    pub(crate) write_blocking: bool,
    /// Its disk is drained while it is started: it rests for a moment.
    pub(crate) starts_drained: bool,
    /// It has nothing to copy and is ready before its command is answered.
    pub(crate) ready_at_once: bool,
    /// It copies only what is about to be overwritten, and ends when it is cancelled.
    pub(crate) endless: bool,
    /// Its target has another size than its source: it fails as soon as it looks around.
    pub(crate) unfit: bool,
    /// How long it takes without a speed.
    pub(crate) takes: Duration,
    /// What will fail.
    pub(crate) failure: Option<Failure>,
}

/// Members that every command has that starts a block job.
const MEMBERS: [&str; 5] = ["job-id", "device", "speed", "auto-finalize", "auto-dismiss"];

impl Options {
    /// Refuses members of the command beyond those that all have and its own.
    ///
    /// # Errors
    /// As [`Arguments::only`].
    pub(crate) fn only(arguments: Arguments<'_>, own: &[&str]) -> Result<(), QmpError> {
        arguments.only(&[&MEMBERS[..], own].concat())
    }

    /// What the commands that start a block job have in common: a length and a chunk in bytes, and the members for speed
    /// and end.
    pub(crate) fn of(
        kind: &'static str,
        arguments: Arguments<'_>,
        keeps_in_step: bool,
        (len, chunk): (u64, u64),
        cx: &mut Context<'_>,
    ) -> Self {
        let takes = JOB_TAKES_MS[cx.choose("block-job-takes", JOB_TAKES_MS.len())];
        Self {
            kind,
            speed: arguments.integer("speed"),
            auto_finalize: arguments.flag_or("auto-finalize", true),
            auto_dismiss: arguments.flag_or("auto-dismiss", true),
            len,
            chunk,
            request: chunk,
            first: chunk.min(len),
            unslowed: false,
            keeps_in_step,
            takes: Duration::from_millis(takes),
            write_blocking: false,
            starts_drained: false,
            ready_at_once: false,
            endless: false,
            unfit: false,
            failure: None,
        }
    }
}

/// How a job that is `ready` is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completion {
    /// By `job-complete`: the target takes the source's place.
    Pivot,
    /// By a cancel without force: the target is a true copy, and nobody's.
    Leave,
}

/// How far a block job has come, in bytes: of data where it copies nothing else, else of the whole disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Copied {
    /// What is copied.
    pub(crate) offset: u64,
    /// Of how much.
    pub(crate) len: u64,
    /// It is all, and what was written since.
    pub(crate) whole: bool,
    /// The process was killed over it.
    pub(crate) killed: bool,
}

/// The part of a job that only block jobs have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BlockJob {
    pub(super) len: u64,
    pub(super) speed: u64,
    unslowed: bool,
    pub(super) keeps_in_step: bool,
    pub(super) write_blocking: bool,
    pub(super) starts_drained: bool,
    pub(super) ready_at_once: bool,
    pub(super) unfit: bool,
    pub(super) endless: bool,
    pub(super) completion: Option<Completion>,
    /// What will fail when all else is copied.
    pub(super) failure: Option<Failure>,
    /// The error that ends it, once its other requests have come back.
    pub(super) failed: Option<&'static str>,
    /// QAPI's `BlockDeviceIoStatus`.
    pub(super) io_status: &'static str,
    /// Bytes that failed and are not copied.
    lacks: u64,
    chunk: u64,
    request: u64,
    takes: Duration,
    /// Bytes that were copied when the pace was last set.
    copied: u64,
    /// When that was; none while the job rests.
    since: Option<Duration>,
}

impl BlockJob {
    pub(super) fn new(options: Options, now: Duration) -> Self {
        let speed = options.speed.unsigned_abs();
        Self {
            len: options.len,
            speed,
            unslowed: options.unslowed,
            keeps_in_step: options.keeps_in_step,
            write_blocking: options.write_blocking,
            starts_drained: options.starts_drained,
            ready_at_once: options.ready_at_once,
            unfit: options.unfit,
            endless: options.endless,
            completion: None,
            failure: options.failure,
            failed: None,
            io_status: "ok",
            lacks: 0,
            chunk: options.chunk,
            request: options.request,
            takes: options.takes,
            copied: if speed > 0 && !options.unslowed && !options.endless { options.first } else { 0 },
            since: Some(now),
        }
    }

    /// Bytes that are copied by now.
    pub(super) fn offset(&self, now: Duration) -> u64 {
        self.reached(now) - self.lacks.min(self.reached(now))
    }

    /// What has reached the target by now. Clients are not told of it before the end where a job has no speed.
    pub(super) fn written(&self, now: Duration) -> Copied {
        let offset = match self.since {
            Some(since) if self.pace() == 0 && !self.endless && now < since + self.takes => {
                let (elapsed, takes) = (now.saturating_sub(since).as_micros(), self.takes.as_micros());
                let ahead = u128::from(self.len - self.copied) * elapsed / takes;
                let reached = self.copied + u64::try_from(ahead).unwrap_or(0) / self.request * self.request;
                reached - self.lacks.min(reached)
            }
            _ => self.offset(now),
        };
        Copied { offset, len: self.len, whole: offset == self.len && !self.unfit, killed: false }
    }

    /// As far as requests have come by now.
    fn reached(&self, now: Duration) -> u64 {
        let Some(since) = self.since.filter(|_| !self.endless) else { return self.copied };
        let elapsed = now.saturating_sub(since);
        match self.pace() {
            0 if elapsed >= self.takes => self.len,
            0 => self.copied,
            speed => {
                let due = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(speed) / 1000;
                self.copied.saturating_add(due / self.chunk * self.chunk).min(self.len)
            }
        }
    }

    /// How long until all is copied; none while it rests, and if that never comes.
    pub(super) fn remaining(&self, now: Duration) -> Option<Duration> {
        let end = self.since.filter(|_| !self.endless)? + self.time_for(self.len - self.copied) + self.owed();
        Some(end.saturating_sub(now))
    }

    /// How long a job that keeps in step still sleeps for its last chunk before it looks whether all is copied: measured on
    /// 5.2 and 10.0, where `offset` is `len` long before `ready`.
    fn owed(&self) -> Duration {
        let last = if self.keeps_in_step && self.pace() > 0 { self.chunk.min(self.len) } else { 0 };
        if last == 0 { Duration::ZERO } else { self.time_for(last) }
    }

    /// How long until the next chunk is copied: when a throttled job next looks around.
    pub(super) fn next_look(&self, now: Duration) -> Duration {
        let reached = self.reached(now);
        let ahead = reached.saturating_add(self.chunk).min(self.len) - self.copied;
        let owed = if reached == self.len { self.owed() } else { Duration::ZERO };
        self.since.map_or(Duration::ZERO, |since| (since + self.time_for(ahead) + owed).saturating_sub(now))
    }

    /// Stops copying.
    pub(super) fn rest(&mut self, now: Duration) {
        self.copied = self.reached(now);
        self.since = None;
    }

    /// Requests have failed: what they were to copy is lacking.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.lacks = failure.lacks;
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self) {
        self.lacks = 0;
        self.io_status = "ok";
    }

    /// Whether it copies as fast as it goes, to its end, and nothing is in its way.
    pub(super) fn hurries(&self) -> bool {
        let fails = self.unfit || self.failure.is_some() || self.failed.is_some();
        self.pace() == 0 && !self.endless && !fails
    }

    /// It has copied all by now.
    pub(super) fn hurry(&mut self) {
        self.takes = Duration::ZERO;
    }

    /// Goes on copying.
    pub(super) fn go_on(&mut self, now: Duration) {
        self.since = Some(now);
    }

    /// Changes the speed. Where that wakes the job early, it copies a chunk more.
    pub(super) fn set_speed(&mut self, speed: u64, now: Duration, wakes: bool) {
        self.copied = self.reached(now);
        if wakes && (speed == 0 || speed > self.speed) {
            self.copied = self.copied.saturating_add(self.chunk).min(self.len);
        }
        self.since = self.since.map(|_| now);
        self.speed = speed;
    }

    /// Bytes a second, 0 for as fast as it goes.
    fn pace(&self) -> u64 {
        if self.unslowed { 0 } else { self.speed }
    }

    fn time_for(&self, bytes: u64) -> Duration {
        match self.pace() {
            0 => self.takes,
            speed => {
                let bytes = bytes.div_ceil(self.chunk).saturating_mul(self.chunk);
                Duration::from_millis(bytes.saturating_mul(1000).div_ceil(speed))
            }
        }
    }
}
