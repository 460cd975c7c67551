//! Puts back what was begun, newest first, and says how that went.

use super::{ENDED, Execution, Failure, Reach};
use crate::{
    env::Env,
    error::{OperationError, StepError},
    mark,
    mutant::{Mutant, planted},
    step::{Begun, Step},
};

/// What came of putting things back.
pub(crate) struct Undone<'p> {
    /// Whether QEMU is gone.
    pub(crate) gone: bool,
    /// What is left.
    pub(crate) remains: Vec<String>,
    /// What is another than before, and needs no hand.
    pub(crate) stays: Option<String>,
    /// What is put back, newest first.
    pub(crate) steps: Vec<&'p Step>,
}

impl<'m, E: Env> Execution<'m, E> {
    /// Puts things back and says how that went. At the point of no return nothing is put back on a mere guess.
    pub(super) async fn fail(mut self, failure: Failure<'m>, decisive: bool) -> OperationError {
        let Failure { step, cause, certain } = failure;
        let title = step.to_string();
        // A guest that is gone is not frozen.
        let forgets = planted(Mutant::ForgetsToThaw) && decisive;
        let thawed = if self.gone || forgets { None } else { self.thaw().await };
        if decisive && !certain && !planted(Mutant::UndoesInDoubt) {
            // Nothing is undone: a guest that was stopped for it stands still.
            let stopped = self.begun.iter().map(|(step, _)| *step);
            let stopped = stopped.filter(|begun| *begun != step && begun.stops_the_guest());
            let made =
                self.begun.iter().filter_map(|(step, _)| step.made()).filter(|made| *made != step.remains());
            let keeps = std::iter::once(step.remains()).chain(stopped.map(Step::remains));
            let keeps = keeps.chain(made).chain(self.ended()).chain(thawed).collect();
            return OperationError::Unknown { step: title, cause, keeps };
        }
        if let Some(journal) = self.journal.filter(|_| planted(Mutant::ClosesTheJournalEarly)) {
            let _ = journal.settled().await;
        }
        let ahead = self.ahead();
        let Undone { gone, mut remains, stays, steps } = self.undo(Some((step, &cause))).await;
        let frozen = thawed.is_some() && !gone;
        remains.extend(thawed.filter(|_| frozen));
        if let Some(journal) = self.journal.filter(|_| !remains.is_empty()) {
            // What is put back is not put back again when the rest is: by then it may be somebody else's.
            let put_back = steps.into_iter().filter(|step| !(frozen && matches!(step, Step::Freeze(_))));
            let numbers = put_back.map(|step| self.number(step)).chain(ahead).collect();
            if let Err(error) = journal.undone(numbers).await {
                tracing::warn!(%error, "what is put back is not written down");
            }
        }
        match (remains.is_empty(), gone) {
            (false, _) => {
                remains.extend(stays);
                OperationError::NotRolledBack { step: title, cause, remains }
            }
            (true, true) => OperationError::MachineGone { step: title, cause, stays },
            (true, false) => OperationError::RolledBack { step: title, cause, stays },
        }
    }

    /// The numbers of the steps that were never begun. The journal's mark covers them where a standstill is of several stages, and a disk
    /// would be taken for one that may have been switched.
    fn ahead(&self) -> Vec<usize> {
        let is_begun = |step: &Step| self.begun.iter().any(|(begun, _)| std::ptr::eq(*begun, step));
        let steps = self.plan.steps().enumerate();
        steps.filter(|(_, step)| !is_begun(step)).map(|(number, _)| number).collect()
    }

    /// That the machine is off, if it was ended and none was started in its place.
    fn ended(&self) -> Option<String> {
        let ended = self
            .begun
            .iter()
            .any(|(step, begun)| matches!((step, begun), (Step::StopMachine(_), Begun::Whole)));
        let is_off = ended && !self.begun.iter().any(|(step, _)| step.starts_a_machine());
        is_off.then(|| ENDED.to_owned())
    }

    /// Lets the guest go, if a step has frozen it: first of all, for its programs stand still as long as it is frozen. Tells
    /// what is left if it cannot be.
    pub(crate) async fn thaw(&self) -> Option<String> {
        let freeze = self.begun.iter().find(|(step, _)| matches!(step, Step::Freeze(_)))?.0;
        let error = self.monitor.rest().thaw().await.err()?;
        mark::reached(&error);
        mark::taken(freeze.marks().not_put_back);
        Some(format!("{} ({error})", freeze.remains()))
    }

    /// Undoes what was begun, newest first, but for what the guest's disks stand on if they could not be put back. `failed` is
    /// the step that failed, if one did, and why.
    pub(crate) async fn undo(&mut self, failed: Option<(&Step, &StepError)>) -> Undone<'m> {
        let mut told = Undone { gone: false, remains: Vec::new(), stays: None, steps: Vec::new() };
        let (mut in_use, mut load_unclear) = (false, false);
        let mut newest_first: Vec<_> = std::mem::take(&mut self.begun).into_iter().rev().collect();
        if planted(Mutant::UndoesOldestFirst) {
            newest_first.reverse();
        }
        let copied = newest_first.iter().rev().filter(|(_, begun)| *begun == Begun::Whole);
        let copied: Vec<_> = copied.filter_map(|(step, _)| step.has_copied()).collect();
        for (step, begun) in newest_first {
            if in_use && !step.touches_no_file() && !planted(Mutant::UnlinksWhatIsInUse) {
                continue;
            }
            // Without the mark nobody would know any more whether the load has begun.
            if load_unclear && matches!(step, Step::MarkProcess(_)) {
                continue;
            }
            self.rounds += 1;
            let why = failed.filter(|(other, _)| *other == step).map(|(_, cause)| cause);
            let undone = match self.reach_for(step, "undo").await {
                Reach::Alive(live) => {
                    let undone = step.undo(&live, begun, why).await;
                    if let Step::SaveMemory(save) = step {
                        told.stays = save.stays(&live, self.plan).await;
                    }
                    undone
                }
                gone @ (Reach::Gone | Reach::Off) => {
                    told.gone |= matches!(gone, Reach::Gone);
                    if step.only_in_qemu() {
                        Ok(())
                    } else {
                        step.undo_outside(self.monitor.env(), begun).await
                    }
                }
                Reach::Mute(why) => match step.undo_outside(self.monitor.env(), begun).await {
                    Err(remains) => Err(format!("{remains} ({why})")),
                    Ok(()) => Ok(()),
                },
            };
            let Err(left) = undone else {
                told.steps.push(step);
                self.note_undone_load(step).await;
                continue;
            };
            load_unclear |= matches!(step, Step::LoadSnapshot(_));
            mark::taken(step.marks().not_put_back);
            told.remains.push(left);
            // What a machine that is off may be started from is in use as what the guest may write to is.
            if step.switches() || matches!(step, Step::WriteDocument(_)) {
                in_use = true;
                told.remains.push("its files and its record are kept with them".to_owned());
            }
            if step.starts_a_machine() {
                // It may run: what it stands on is not pulled from under it.
                told.remains.push("what it was started from is kept".to_owned());
                break;
            }
        }
        // How QEMU stood is nobody's affair once it is gone.
        told.stays = told.stays.filter(|_| !told.gone).or_else(|| stays_copied(&copied));
        told
    }

    /// Writes down that a load is put back or never began, before the mark goes by which that is known.
    async fn note_undone_load(&self, step: &Step) {
        let Some(journal) = self.journal.filter(|_| matches!(step, Step::LoadSnapshot(_))) else { return };
        if let Err(error) = journal.undone(vec![self.number(step)]).await {
            tracing::warn!(%error, "that the load is put back is not written down");
        }
    }
}

/// That what was copied into these images stays there: nobody takes it out again.
fn stays_copied(images: &[String]) -> Option<String> {
    (!images.is_empty()).then(|| {
        format!(
            "what was copied into {} stays there: all reads the same, and to delete the snapshot again goes on from there",
            images.join(", ")
        )
    })
}
