//! What is to be done so that the guest is at rest when the snapshot is taken.
//!
//! ```text
//! ... prepare all that can be | freeze -> switch -> thaw | all that can be done afterwards
//!                               the guest stands frozen
//! ```

use super::Facts;
use crate::{
    agent::{AgentError, FreezeStatus},
    align::{Aligned, Place},
    error::{QuiesceRefusal, Refusal},
    mark,
    mutant::{Mutant, planted},
    report::Quiesced,
    request::{Create, FrozenBy, Quiesce},
    step::Freeze,
    words,
};

/// How much a snapshot needs the guest at rest, and what is known of the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// What is asked for.
    pub(crate) quiesce: Quiesce,
    /// See [`Create::frozen_by`].
    pub(crate) frozen_by: Option<&'a FrozenBy>,
    /// See [`Create::thaw_hooks`].
    pub(crate) thaw_hooks: bool,
    /// How its agent stands, if it was asked.
    pub(crate) agent: Option<&'a Result<FreezeStatus, AgentError>>,
    /// Whether the guest runs.
    pub(crate) runs: bool,
    /// The first disk for which the guest stands still instead.
    pub(crate) manual: Option<&'a str>,
}

/// The freeze that a snapshot needs, if it needs one.
pub(super) fn freeze(
    create: &Create,
    aligned: &Aligned,
    facts: Facts<'_>,
) -> Result<Option<Freeze>, Refusal> {
    // Storages take part while the guest is at rest; but one that may not come to rest is paused for them.
    let stands_still = |place: &Place| match place {
        Place::Manual => true,
        Place::Storage(_) => create.quiesce() == Quiesce::BestEffort,
        Place::No | Place::Internal | Place::External(_) => false,
    };
    let manual = aligned.disks.iter().find(|disk| stands_still(&disk.place));
    Wanted::of(create, manual.map(|disk| disk.target.as_str()), facts).freeze()
}

/// What is to be told of the guest's rest where no freeze tells more.
pub(crate) fn told(create: &Create, facts: Facts<'_>) -> Quiesced {
    match facts.off {
        Some(_) => Quiesced::no("the machine is off"),
        None => Wanted::of(create, None, facts).told(),
    }
}

impl<'a> Wanted<'a> {
    fn of(create: &'a Create, manual: Option<&'a str>, facts: Facts<'a>) -> Self {
        let (quiesce, thaw_hooks) = (create.quiesce(), create.thaw_hooks);
        let (frozen_by, runs) = (create.frozen_by.as_ref(), facts.observed.status.running);
        Self { quiesce, frozen_by, thaw_hooks, agent: facts.agent, runs, manual }
    }

    /// The freeze that is needed, if one is.
    pub(crate) fn freeze(self) -> Result<Option<Freeze>, Refusal> {
        if self.frozen_for_the_caller().is_some() {
            return Ok(None);
        }
        let freeze = |best_effort| Ok(Some(Freeze { best_effort, thaw_hooks: self.thaw_hooks }));
        match (self.quiesce, self.agent) {
            (Quiesce::AlreadyFrozen, Some(Ok(FreezeStatus::Thawed))) => Err(QuiesceRefusal::NotFrozen.into()),
            (Quiesce::Off | Quiesce::AlreadyFrozen, _) => Ok(None),
            (Quiesce::Required, _) if !self.runs => Err(QuiesceRefusal::GuestStopped.into()),
            (Quiesce::Required, None) => Err(Refusal::NoAgent),
            (Quiesce::Required, Some(Err(error))) => Err(QuiesceRefusal::from(error.clone()).into()),
            (Quiesce::Required, Some(Ok(FreezeStatus::Frozen))) if planted(Mutant::ThawsWhatOthersFroze) => {
                freeze(false)
            }
            (Quiesce::Required, Some(Ok(FreezeStatus::Frozen))) => Err(QuiesceRefusal::FrozenBefore.into()),
            (Quiesce::Required, Some(Ok(FreezeStatus::Thawed))) => match self.manual {
                Some(disk) => Err(QuiesceRefusal::ManualDisk(disk.to_owned()).into()),
                None => freeze(false),
            },
            (Quiesce::BestEffort, Some(Ok(FreezeStatus::Thawed))) if self.manual.is_none() => freeze(true),
            (Quiesce::BestEffort, _) => Ok(None),
        }
    }

    /// Who has frozen the guest for the caller, if it stands frozen.
    fn frozen_for_the_caller(self) -> Option<&'a FrozenBy> {
        self.frozen_by.filter(|_| matches!(self.agent, Some(Ok(FreezeStatus::Frozen))))
    }

    /// What is to be told where no freeze tells more.
    pub(crate) fn told(self) -> Quiesced {
        if let Some(FrozenBy { by, in_part }) = self.frozen_for_the_caller() {
            let by = format!("frozen by the caller, with {by}");
            return match in_part {
                None => Quiesced::yes(by),
                Some(why) => {
                    Quiesced::unknown(format!("{by}, and maybe in part only: {}", words::plain(why)))
                }
            };
        }
        match (self.quiesce, self.agent) {
            (Quiesce::Off | Quiesce::Required, _) => Quiesced::no("not asked for"),
            (Quiesce::AlreadyFrozen, Some(Ok(_))) => Quiesced::yes("frozen by the caller"),
            (Quiesce::AlreadyFrozen, Some(Err(error))) => {
                Quiesced::unknown(format!("frozen by the caller, who alone knows: {error}"))
            }
            (Quiesce::AlreadyFrozen, None) => {
                Quiesced::unknown("frozen by the caller, who alone knows: nobody in the guest was asked")
            }
            (Quiesce::BestEffort, _) if !self.runs => Quiesced::no("the guest does not run"),
            (Quiesce::BestEffort, None) => Quiesced::no("no guest agent is configured"),
            (Quiesce::BestEffort, Some(Err(error))) => Quiesced::no(mark::told(error)),
            (Quiesce::BestEffort, Some(Ok(FreezeStatus::Frozen))) => {
                Quiesced::no("somebody else has frozen the guest, and may thaw it at any time")
            }
            (Quiesce::BestEffort, Some(Ok(FreezeStatus::Thawed))) => {
                Quiesced::no("the guest stands still for disks that QEMU does not take")
            }
        }
    }
}
