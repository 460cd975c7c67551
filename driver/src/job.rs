//! A QEMU job from the command that starts it until it is forgotten.
//!
//! ```text
//! listen -> start -> wait for `concluded` -> query-jobs (only there stands the error) -> job-dismiss
//! ```
//!
//! The listening comes first: a short job has concluded before the reply to its command arrives. The jobs used
//! here never dismiss themselves, so a lost event or reply can always be made up for by asking.
//!
//! Source: QEMU QAPI `job.json`; recordings of `snapshot-save` and `blockdev-create`.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    client::{CommandError, Silence},
    commands::{Command, JobCancel, JobDismiss, JobInfo, QueryJobs},
    env::Env,
    error::StepError,
    live::Live,
    wire,
};

/// How long until a job without news is asked about again.
const POLL_EVERY: Duration = Duration::from_millis(100);

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
    // From here on a refusal is no proof that nothing was done: it is of a question, not of the job.
    let unread = |cause| StepError::JobUnread { kind: C::NAME, cause };
    let mut events = live.events();
    match live.execute_long(start).await {
        Ok(_) => {}
        Err(error @ CommandError::TimedOut { .. }) => {
            if find(live, id).await.map_err(unread)?.is_none() {
                return Err(error.into());
            }
        }
        Err(error) => return Err(error.into()),
    }
    let started = live.env().now();
    loop {
        match events.next(live.deadline()).await {
            Ok(event) => match status_of(&event, id).as_deref() {
                Some("concluded") => break,
                Some("null") => return Err(StepError::JobVanished { kind: C::NAME }),
                _ => {}
            },
            Err(Silence::Lost(lost)) => {
                return Err(CommandError::Lost { command: C::NAME.into(), lost }.into());
            }
            Err(silence) => match find(live, id).await.map_err(unread)? {
                None => return Err(StepError::JobVanished { kind: C::NAME }),
                Some(job) if job.status == "concluded" => break,
                Some(job) if silence == Silence::TimedOut => {
                    let waited = live.env().now().saturating_sub(started);
                    return Err(StepError::JobUnfinished { kind: C::NAME, status: job.status, waited });
                }
                Some(_) => {}
            },
        }
    }
    match collect(live, id).await.map_err(unread)? {
        End::Done => Ok(()),
        End::Failed(reason) => Err(StepError::JobFailed { kind: C::NAME, reason }),
        End::Absent => Err(StepError::JobVanished { kind: C::NAME }),
    }
}

/// Finds out what became of a job that may exist: waits for its end, reads it and dismisses it.
///
/// # Errors
/// [`StepError::JobUnfinished`] at the deadline, or when QEMU does not answer.
pub async fn settle<E: Env>(live: &Live<E>, id: &str, kind: &'static str) -> Result<End, StepError> {
    let started = live.env().now();
    loop {
        match find(live, id).await? {
            None => return Ok(End::Absent),
            Some(job) if job.status == "concluded" => return Ok(collect(live, id).await?),
            Some(job) if live.env().now() >= live.deadline() => {
                let waited = live.env().now().saturating_sub(started);
                return Err(StepError::JobUnfinished { kind, status: job.status, waited });
            }
            Some(_) => live.env().sleep_until(live.env().now() + POLL_EVERY).await,
        }
    }
}

/// Makes sure that a job is no more: cancels it if it still runs, and dismisses it.
///
/// # Errors
/// As [`settle`].
pub async fn remove<E: Env>(live: &Live<E>, id: &str, kind: &'static str) -> Result<(), StepError> {
    match find(live, id).await? {
        Some(job) if job.status != "concluded" => {
            // A refusal means that it has just ended by itself.
            match live.execute(&JobCancel { id }).await {
                Ok(_) | Err(CommandError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Some(_) => {}
        None => return Ok(()),
    }
    settle(live, id, kind).await.map(drop)
}

/// Reads the result of a concluded job and dismisses it.
async fn collect<E: Env>(live: &Live<E>, id: &str) -> Result<End, CommandError> {
    let Some(job) = find(live, id).await? else { return Ok(End::Absent) };
    match live.ask(&JobDismiss { id }).await {
        // Refused: somebody was quicker. The result is known all the same.
        Ok(_) | Err(CommandError::Refused { .. }) => {}
        Err(error @ CommandError::TimedOut { .. }) => {
            if find(live, id).await?.is_some() {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    Ok(job.error.map_or(End::Done, End::Failed))
}

async fn find<E: Env>(live: &Live<E>, id: &str) -> Result<Option<JobInfo>, CommandError> {
    Ok(live.ask(&QueryJobs {}).await?.into_iter().find(|job| job.id == id))
}

/// The status that an event gives this job.
fn status_of(event: &wire::Event, id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Change {
        id: String,
        status: String,
    }
    if event.name != "JOB_STATUS_CHANGE" {
        return None;
    }
    let change: Change = wire::payload(event.data.as_deref()?).ok()?;
    (change.id == id).then_some(change.status)
}
