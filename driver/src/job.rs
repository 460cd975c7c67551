//! A QEMU job from the command that starts it until it is forgotten.
//!
//! ```text
//! listen -> start -> wait for `concluded` -> query-jobs (only there stands the error) -> job-dismiss
//!             `-> wait until it is held (`ready`, `pending`) ... its client's word --^
//! ```
//!
//! One whose result whoever finds the machine must be able to read is dismissed by another step, behind the journal's next mark.
//!
//! The listening comes first: a short job has concluded before the reply to its command arrives. The jobs used
//! here never dismiss themselves, so a lost event or reply can always be made up for by asking.
//!
//! Source: QEMU QAPI `job.json`; recordings of `snapshot-save` and `blockdev-create`.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    client::{CommandError, Events, Silence},
    commands::{Command, JobCancel, JobDismiss, JobInfo, QueryJobs},
    env::Env,
    error::StepError,
    live::Live,
    mutant::{Mutant, planted},
    wire,
};

/// How long until a job without news is asked about again.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// How often it is asked how far a job is that may take long.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long a job that is ready may rest for what is done to other disks; longer, and somebody has paused it.
const RESTS_AT_MOST: Duration = Duration::from_secs(1);

/// How long a job that was told to end may still look as if it waited for that.
pub const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// The status of a job that has ended and is not forgotten yet.
const CONCLUDED: &str = "concluded";

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It did its work.
    Done,
    /// It failed, and did not.
    Failed(String),
    /// QEMU knows no such job: it never began, or was dismissed.
    Absent,
}

/// Starts a job, waits until it has concluded, reads its result and dismisses it.
///
/// A lost reply to the starting command is no failure if the job is there.
///
/// # Errors
/// [`StepError::Command`] if it was refused or in doubt, [`StepError::JobFailed`],
/// [`StepError::JobUnfinished`], [`StepError::JobVanished`].
pub async fn run<E: Env, C: Command>(live: &Live<E>, id: &str, start: &C) -> Result<(), StepError> {
    let mut watch = begin(live, id, C::NAME, live.execute_long(start)).await?;
    watch.until(|status| status == CONCLUDED).await?;
    watch.conclude().await
}

/// As [`run`], but that the job is not dismissed: as long as it is there whoever comes next can read how it has ended, see [`ended`].
///
/// # Errors
/// As [`run`].
pub async fn run_and_keep<E: Env, C: Command>(live: &Live<E>, id: &str, start: &C) -> Result<(), StepError> {
    let mut watch = begin(live, id, C::NAME, live.execute_long(start)).await?;
    watch.until(|status| status == CONCLUDED).await?;
    let kind = watch.kind;
    match find(live, id).await.map_err(|cause| watch.unread(cause))? {
        Some(job) => match job.error.filter(|_| !planted(Mutant::IgnoresJobErrors)) {
            None => Ok(()),
            Some(reason) => Err(StepError::JobFailed { kind, reason }),
        },
        None => Err(StepError::JobVanished { kind }),
    }
}

/// Starts a job and waits until it holds still, all its work done and the chain as it was, for its client's word. How far it
/// is, is told meanwhile.
///
/// # Errors
/// As [`run`].
pub async fn run_until_held<E: Env, C: Command>(
    live: &Live<E>,
    id: &str,
    start: &C,
) -> Result<(), StepError> {
    // Its work begins behind the reply.
    let mut watch = begin(live, id, C::NAME, live.execute(start)).await?;
    watch.tells_progress = true;
    match watch.until(|status| matches!(status, "ready" | "pending" | CONCLUDED)).await?.as_str() {
        // Before its client's word it ends only if it has failed, or somebody else has given that word.
        CONCLUDED => watch.conclude().await,
        _ => Ok(()),
    }
}

/// Gives a held job of a kind its client's word, waits until it has concluded, reads its result and dismisses it.
///
/// # Errors
/// As [`run`].
pub async fn release<E: Env, C: Command>(
    live: &Live<E>,
    id: &str,
    kind: &'static str,
    word: &C,
) -> Result<(), StepError> {
    let mut watch = Watch { kind, ..Watch::new(live, id) };
    let rests_until = live.env().now() + RESTS_AT_MOST;
    loop {
        let error = match live.execute(word).await {
            Ok(_) => break,
            Err(error @ (CommandError::TimedOut { .. } | CommandError::Refused { .. })) => error,
            Err(error) => return Err(error.into()),
        };
        let was_refused = matches!(error, CommandError::Refused { .. });
        let job = find(live, id).await.map_err(|cause| watch.unread(cause))?;
        match job.as_ref().map(|job| job.status.as_str()) {
            // It has ended without the word, or the word was heard: its own result says which.
            Some(CONCLUDED) => return watch.conclude().await,
            // What is done to another disk makes it rest for a moment, and then it does not listen.
            Some("standby") if was_refused && live.env().now() < rests_until => {
                live.env().sleep_until(live.env().now() + POLL_EVERY).await;
            }
            _ if was_refused => return Err(error.into()),
            // The word was lost before it arrived, or the job has just begun to act on it: to hear it twice does no harm.
            Some("ready" | "pending") if live.env().now() < live.deadline() => {}
            _ => break,
        }
    }
    if planted(Mutant::DoesNotAwaitThePivot) {
        return Ok(());
    }
    watch.until(|status| status == CONCLUDED).await?;
    watch.conclude().await
}

/// Whether a job of that status waits for its client's word. One that rests for what is done to other disks is in standby.
fn is_held(status: &str) -> bool {
    matches!(status, "ready" | "standby" | "pending")
}

/// Whether a job waits for its client's word; none if there is no such job, or it has concluded.
///
/// # Errors
/// [`CommandError`].
pub async fn held<E: Env>(live: &Live<E>, id: &str) -> Result<Option<bool>, CommandError> {
    let job = find(live, id).await?.filter(|job| job.status != CONCLUDED);
    Ok(job.map(|job| is_held(&job.status)))
}

/// Whether QEMU lists a job, be it one that has concluded.
///
/// # Errors
/// [`CommandError`].
pub async fn is_listed<E: Env>(live: &Live<E>, id: &str) -> Result<bool, CommandError> {
    Ok(find(live, id).await?.is_some())
}

/// Starts a job by a command that is not sent before this waits for its `reply`, and watches it. The listening comes first.
async fn begin<'l, E: Env, R>(
    live: &'l Live<E>,
    id: &'l str,
    kind: &'static str,
    reply: impl Future<Output = Result<R, CommandError>>,
) -> Result<Watch<'l, E>, StepError> {
    let watch = Watch { kind, ..Watch::new(live, id) };
    match reply.await {
        Ok(_) if planted(Mutant::ListensTooLate) => Ok(Watch { kind, ..Watch::new(live, id) }),
        Ok(_) => Ok(watch),
        Err(error @ CommandError::TimedOut { .. }) => {
            match find(live, id).await.map_err(|cause| watch.unread(cause))? {
                Some(_) => Ok(watch),
                None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// A job that was started, and its events.
struct Watch<'l, E: Env> {
    live: &'l Live<E>,
    id: &'l str,
    /// The command that is waited for.
    kind: &'static str,
    events: Events<E>,
    since: Duration,
    tells_progress: bool,
}

impl<'l, E: Env> Watch<'l, E> {
    fn new(live: &'l Live<E>, id: &'l str) -> Self {
        let since = live.env().now();
        Self { live, id, kind: "", events: live.events(), since, tells_progress: false }
    }

    /// Waits for a status and tells which it is.
    async fn until(&mut self, wanted: impl Fn(&str) -> bool) -> Result<String, StepError> {
        let Self { live, id, kind, .. } = *self;
        loop {
            if planted(Mutant::TakesNothingOfNothingForDone)
                && let Some(job) = find(live, id).await?
                && job.current_progress == job.total_progress
            {
                return Ok(job.status);
            }
            let now = live.env().now();
            let next = if self.tells_progress { now + TELL_EVERY } else { live.deadline() };
            match self.events.next(next.min(live.deadline())).await {
                Ok(event) => match status_of(&event, id).as_deref() {
                    Some(status) if wanted(status) => return Ok(status.to_owned()),
                    Some("null") => return Err(StepError::JobVanished { kind }),
                    _ => {}
                },
                Err(Silence::Lost(lost)) => {
                    return Err(CommandError::Lost { command: kind.into(), lost }.into());
                }
                Err(silence) => match find(live, id).await.map_err(|cause| self.unread(cause))? {
                    None => return Err(StepError::JobVanished { kind }),
                    Some(job) if wanted(&job.status) => return Ok(job.status),
                    Some(job) if silence == Silence::TimedOut && live.env().now() >= live.deadline() => {
                        let waited = live.env().now().saturating_sub(self.since);
                        return Err(StepError::JobUnfinished { kind, status: job.status, waited });
                    }
                    Some(job) => live.progress(job.current_progress, job.total_progress),
                },
            }
        }
    }

    /// Reads the result of the concluded job and dismisses it.
    async fn conclude(&self) -> Result<(), StepError> {
        match collect(self.live, self.id).await.map_err(|cause| self.unread(cause))? {
            End::Done => Ok(()),
            End::Failed(reason) => Err(StepError::JobFailed { kind: self.kind, reason }),
            End::Absent => Err(StepError::JobVanished { kind: self.kind }),
        }
    }

    /// A refusal is no proof that nothing was done: it is of a question, not of the job.
    fn unread(&self, cause: CommandError) -> StepError {
        StepError::JobUnread { kind: self.kind, cause }
    }
}

/// Finds out what became of a job that may exist: waits for its end, reads it and dismisses it.
///
/// # Errors
/// [`StepError::JobUnfinished`] at the deadline, or when QEMU does not answer.
pub async fn settle<E: Env>(live: &Live<E>, id: &str, kind: &'static str) -> Result<End, StepError> {
    match ended(live, id, kind).await? {
        End::Absent => Ok(End::Absent),
        _ => Ok(collect(live, id).await?),
    }
}

/// As [`settle`], of a job that changes nothing before its client's word: none if it waits for that still.
///
/// # Errors
/// As [`settle`].
pub async fn settle_unless_pending<E: Env>(
    live: &Live<E>,
    id: &str,
    kind: &'static str,
) -> Result<Option<End>, StepError> {
    let started = live.env().now();
    let mut hears_until = None;
    while let Some(job) = find(live, id).await?.filter(|job| job.status != CONCLUDED) {
        let now = live.env().now();
        if job.status == "pending" {
            // A word that is on its way is heard at once.
            if now >= *hears_until.get_or_insert(now + HEARD_WITHIN) {
                return Ok(None);
            }
        } else if now >= live.deadline() {
            let waited = now.saturating_sub(started);
            return Err(StepError::JobUnfinished { kind, status: job.status, waited });
        }
        live.env().sleep_until(now + POLL_EVERY).await;
    }
    settle(live, id, kind).await.map(Some)
}

/// As [`settle`], and the job stays.
///
/// # Errors
/// As [`settle`].
pub async fn ended<E: Env>(live: &Live<E>, id: &str, kind: &'static str) -> Result<End, StepError> {
    let started = live.env().now();
    loop {
        match find(live, id).await? {
            None => return Ok(End::Absent),
            Some(job) if job.status == CONCLUDED => return Ok(job.error.map_or(End::Done, End::Failed)),
            Some(job) if live.env().now() >= live.deadline() => {
                let waited = live.env().now().saturating_sub(started);
                return Err(StepError::JobUnfinished { kind, status: job.status, waited });
            }
            Some(_) => live.env().sleep_until(live.env().now() + POLL_EVERY).await,
        }
    }
}

/// Makes sure that a job is no more: cancels it if it still runs, and dismisses it. Returns how it has ended.
///
/// # Errors
/// As [`settle`].
pub async fn remove<E: Env>(live: &Live<E>, id: &str, kind: &'static str) -> Result<End, StepError> {
    match find(live, id).await? {
        Some(job) if job.status != CONCLUDED => {
            // A refusal means that it has just ended by itself.
            match live.execute(&JobCancel { id }).await {
                Ok(_) | Err(CommandError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Some(_) => {}
        None => return Ok(End::Absent),
    }
    settle(live, id, kind).await
}

/// Reads the result of a concluded job and dismisses it.
async fn collect<E: Env>(live: &Live<E>, id: &str) -> Result<End, CommandError> {
    let Some(job) = find(live, id).await? else { return Ok(End::Absent) };
    if planted(Mutant::KeepsJobs) {
        return Ok(job.error.map_or(End::Done, End::Failed));
    }
    for last in [false, true] {
        match live.ask(&JobDismiss { id }).await {
            Ok(_) => break,
            Err(error @ (CommandError::Refused { .. } | CommandError::TimedOut { .. })) => {
                // It is gone all the same, or somebody was quicker: the result is known.
                if find(live, id).await?.is_none() {
                    break;
                }
                if last || matches!(error, CommandError::TimedOut { .. }) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    let error = job.error.filter(|_| !planted(Mutant::IgnoresJobErrors));
    Ok(error.map_or(End::Done, End::Failed))
}

async fn find<E: Env>(live: &Live<E>, id: &str) -> Result<Option<JobInfo>, CommandError> {
    Ok(live.ask(&QueryJobs {}).await?.into_iter().find(|job| job.id == id))
}

/// The status that an event gives this job. That it is held, QEMU says twice; the second counts, and nothing follows it.
fn status_of(event: &wire::Event, id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Change {
        #[serde(alias = "device")]
        id: String,
        status: Option<String>,
    }
    let change = || wire::payload(event.data.as_deref()?).ok().filter(|change: &Change| change.id == id);
    match event.name.as_str() {
        "JOB_STATUS_CHANGE" => {
            change()?.status.filter(|status| !matches!(status.as_str(), "ready" | "pending"))
        }
        "BLOCK_JOB_READY" => change().map(|_| "ready".to_owned()),
        "BLOCK_JOB_PENDING" => change().map(|_| "pending".to_owned()),
        _ => None,
    }
}
