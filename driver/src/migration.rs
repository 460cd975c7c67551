//! A migration of the machine's state from the command that starts it until it is over.
//!
//! ```text
//! setup -> active -> [device] -> completed
//!             |-> cancelling -> cancelled        [failing] -> failed
//! ```
//! Events say it quickest; `query-migrate` says it for sure, and is asked often enough that a lost event costs little.
//! QEMU knows one migration at a time and gives it no name: whoever asks about it must know that it is theirs.
//!
//! Source: QEMU QAPI `migration.json`; recordings `migrate-*`, `background-snapshot`.

use std::{rc::Rc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    client::{Client, CommandError, Events, Silence},
    commands::{
        MigrateCancel, MigrationCapabilityStatus, MigrationInfo, MigrationParameters, QueryMigrate,
        QueryMigrateCapabilities, QueryMigrateParameters, QueryStatus,
    },
    env::Env,
    error::StepError,
    live::Live,
    mutant::{Mutant, planted},
    standstill::OwnStop,
    wire,
};

/// How long QEMU may take for the last of a state, for which it stops the guest. Where a guest stands still for longer, who has stopped
/// it is found out; until then nothing is asked, for it waits.
const LAST_OF_IT: Duration = Duration::from_millis(100);

/// How long until a migration without news is asked about again.
const POLL_EVERY: Duration = Duration::from_millis(250);

/// The same for one that is on its last steps.
const SETTLE_EVERY: Duration = Duration::from_millis(20);

/// As much as QEMU takes, in bytes a second; libvirt's value.
const UNLIMITED: u64 = (i64::MAX as u64 >> 20) << 20;

/// What migrations of a QEMU may use and how fast they are: one for all of them, and so for all of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Every capability that this QEMU has.
    pub capabilities: Vec<MigrationCapabilityStatus>,
    /// How fast.
    pub parameters: MigrationParameters,
}

/// How a QEMU stands before a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// What migrations may use.
    pub settings: Settings,
    /// Why it will begin none now, in its own words; not known of a QEMU before 6.0.
    pub blocked: Vec<String>,
}

impl Before {
    /// Asks a QEMU.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is changed by asking.
    pub async fn ask<E: Env>(
        client: &Client<E>,
        lane: &str,
        deadline: Duration,
    ) -> Result<Self, CommandError> {
        let blocked = client.execute(lane, &QueryMigrate {}, deadline).await?.blocked_reasons;
        Ok(Self { settings: Settings::ask(client, lane, deadline).await?, blocked })
    }
}

impl Settings {
    /// Asks a QEMU.
    ///
    /// # Errors
    /// [`CommandError`]; nothing is changed by asking.
    pub async fn ask<E: Env>(
        client: &Client<E>,
        lane: &str,
        deadline: Duration,
    ) -> Result<Self, CommandError> {
        let capabilities = client.execute(lane, &QueryMigrateCapabilities {}, deadline).await?;
        let parameters = client.execute(lane, &QueryMigrateParameters {}, deadline).await?;
        Ok(Self { capabilities, parameters })
    }

    /// Those for saving to a file: as fast as can be, with these capabilities on, `events` too, and all others off.
    #[must_use]
    pub fn for_saving(&self, on: &[&str]) -> Self {
        let with = |status: &MigrationCapabilityStatus| {
            let name = status.capability.as_str();
            MigrationCapabilityStatus { state: name == "events" || on.contains(&name), ..status.clone() }
        };
        let capabilities = self.capabilities.iter().map(with).collect();
        Self { capabilities, parameters: MigrationParameters { max_bandwidth: UNLIMITED } }
    }

    /// What is to be changed so that it is this and not `old`; `events` is always named, so that it is refused while a
    /// migration is under way, whoever began it. What stays is not named: some releases refuse what is out of date.
    pub(crate) fn changes(&self, old: &Settings) -> Vec<MigrationCapabilityStatus> {
        let changes = self.capabilities.iter();
        changes.filter(|to| to.capability == "events" || !old.capabilities.contains(to)).cloned().collect()
    }
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// All of the state is where it was to go.
    Completed,
    /// It could not be, for this reason.
    Failed(String),
    /// Somebody has stopped it.
    Cancelled,
    /// There has been none.
    None,
}

impl End {
    /// Of one that is over; none while it goes on.
    fn of(info: &MigrationInfo) -> Option<Self> {
        match info.status.as_deref() {
            Some("completed") => Some(End::Completed),
            Some("failed") => {
                let reason = info.error_desc.clone();
                Some(End::Failed(reason.unwrap_or_else(|| "QEMU gives no reason".to_owned())))
            }
            Some("cancelled") => Some(End::Cancelled),
            None | Some("none") => Some(End::None),
            Some(_) => None,
        }
    }

    /// As what a step makes of it that wanted it completed.
    fn result(self, deed: &'static str) -> Result<(), StepError> {
        match self {
            End::Completed => Ok(()),
            End::Failed(_) if planted(Mutant::IgnoresFailedMigrations) => Ok(()),
            End::Failed(reason) => Err(StepError::MigrationFailed { deed, reason }),
            End::Cancelled => Err(StepError::MigrationCancelled),
            End::None => {
                let reason = "QEMU knows of no migration any more".to_owned();
                Err(StepError::MigrationFailed { deed, reason })
            }
        }
    }
}

/// Waits until the migration that was begun while `events` were listened to is over, and tells how far it is meanwhile.
/// `deed` is what becomes of the memory: `saved`, `loaded`.
///
/// # Errors
/// [`StepError::MigrationFailed`], [`StepError::MigrationCancelled`], [`StepError::MigrationUnfinished`] at the deadline, and
/// [`StepError::Command`].
pub(crate) async fn wait<E: Env>(
    live: &Live<E>,
    events: &mut Events<E>,
    deed: &'static str,
) -> Result<(), StepError> {
    let started = live.env().now();
    let mut stopped: Option<(Rc<wire::Event>, Duration)> = None;
    loop {
        if let Some((stop, _)) = stopped.take_if(|(_, until)| live.env().now() >= *until) {
            notice_somebody_elses(live, &stop).await?;
        }
        let poll = live.deadline().min(live.env().now() + POLL_EVERY);
        let poll = stopped.as_ref().map_or(poll, |(_, until)| poll.min(*until));
        let ask = match events.next(poll).await {
            Ok(event) if event.name == "STOP" => {
                stopped = Some((event, live.env().now() + LAST_OF_IT));
                false
            }
            Ok(event) => is_last(&event),
            Err(Silence::Lost(lost)) => {
                return Err(CommandError::Lost { command: "migrate".into(), lost }.into());
            }
            Err(Silence::TimedOut | Silence::Lagged) => true,
        };
        if !ask {
            continue;
        }
        let info = live.ask(&QueryMigrate {}).await?;
        if let Some(ram) = info.ram {
            live.progress(ram.total.saturating_sub(ram.remaining), ram.total);
        }
        if let Some(end) = End::of(&info) {
            return end.result(deed);
        }
        let now = live.env().now();
        if now >= live.deadline() {
            let status = info.status.unwrap_or_default();
            return Err(StepError::MigrationUnfinished { deed, status, waited: now - started });
        }
    }
}

/// Finds out whether it was somebody else who has stopped a guest that ran while its memory was saved: QEMU stops it for the last of
/// that, and is in `finish-migrate` or beyond when it says so.
async fn notice_somebody_elses<E: Env>(live: &Live<E>, stop: &wire::Event) -> Result<(), CommandError> {
    if live.own_stop().is_none() && live.beside("standstill").ask(&QueryStatus {}).await?.status == "paused" {
        live.note_own_stop(OwnStop::SomebodyElse, stop);
    }
    Ok(())
}

/// Waits until a migration that may be under way is over, without stopping it.
///
/// # Errors
/// [`StepError::MigrationUnfinished`] at the deadline, or [`StepError::Command`] when QEMU does not answer.
pub(crate) async fn settle<E: Env>(live: &Live<E>, deed: &'static str) -> Result<End, StepError> {
    let started = live.env().now();
    loop {
        let info = live.ask(&QueryMigrate {}).await?;
        if let Some(end) = End::of(&info) {
            return Ok(end);
        }
        let now = live.env().now();
        if now >= live.deadline() {
            let status = info.status.unwrap_or_default();
            return Err(StepError::MigrationUnfinished { deed, status, waited: now - started });
        }
        live.env().sleep_until(now + SETTLE_EVERY).await;
    }
}

/// Makes sure that no migration leaves any more: stops what is under way, and waits until it has. What was quicker has
/// completed all the same.
///
/// # Errors
/// As [`settle`].
pub(crate) async fn cancel<E: Env>(live: &Live<E>) -> Result<End, StepError> {
    if let Some(end) = End::of(&live.ask(&QueryMigrate {}).await?) {
        return Ok(end);
    }
    live.ask(&MigrateCancel {}).await?;
    settle(live, "saved").await
}

/// Whether an event says that a migration is over.
fn is_last(event: &wire::Event) -> bool {
    #[derive(Deserialize)]
    struct Change {
        status: String,
    }
    if event.name != "MIGRATION" {
        return false;
    }
    let change = event.data.as_deref().and_then(|data| wire::payload::<Change>(data).ok());
    change.is_some_and(|change| matches!(change.status.as_str(), "completed" | "failed" | "cancelled"))
}
