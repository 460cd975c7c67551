//! Recovery: an operation whose driver was killed, or that left something behind, is put back or carried to its end.
//!
//! ```text
//! the journal's plan -> thaw the guest, if it may be frozen -> have its programs ended? -> has the decisive step happened?
//!      it did not               --> undo what was or may have been begun, newest first
//!      it has                   --> do what comes behind it, unless that has happened
//!      nobody knows             --> keep everything, and say so
//! ```
//!
//! It is the executor's own way back and forward ([`crate::execute`]); what is new is only how far the steps had got. The journal
//! says which had come to their end and which may have begun ([`crate::journal`]); of those the machine is asked, and the files, which
//! alone can tell once QEMU is gone.
//!
//! It may itself be killed: the journal stays until all is done, and every step can be asked, done and put back once more.

use std::{fmt, time::Duration};

use crate::{
    env::Env,
    error::{OperationError, but, sentence},
    execute::{ENDED, Execution, Failure, Reach, Undone},
    journal::{Journal, Pending, Written},
    kept::KeptFile,
    live::Live,
    mark,
    monitor::Monitor,
    mutant::{Mutant, planted},
    patience::Patience,
    plan::Plan,
    step::{Begun, Happened, Step},
};

/// What was found of an operation that was not finished, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The operation.
    pub title: String,
    /// What became of it.
    pub turn: Turn,
    /// What was done for it, in order.
    pub deeds: Vec<String>,
    /// What is left, and what to do about it; none if nothing is.
    pub remains: Vec<String>,
    /// What cannot be put back and needs no hand: how QEMU stands until the guest goes on, what was copied.
    pub stays: Option<String>,
    /// Files that it was to remove and has kept.
    pub kept: Vec<KeptFile>,
}

/// What became of an operation that was not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// None of its steps had begun.
    NotBegun,
    /// It is put back.
    Back,
    /// It is done.
    Forward,
    /// Nobody knows whether its decisive step has happened: everything is kept.
    Unknown,
    /// It is written down nowhere but in the snapshots' records, which say that it was begun: nothing is done.
    Forgotten,
}

impl Turn {
    /// `rolled-back`, in one word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Turn::NotBegun => "not-begun",
            Turn::Back => "rolled-back",
            Turn::Forward => "finished",
            Turn::Unknown => "unknown",
            Turn::Forgotten => "forgotten",
        }
    }
}

impl Recovered {
    /// Of an operation that has ended well: what is left is of those before it.
    pub(crate) fn over(pending: &Pending) -> Self {
        let (deeds, remains, kept) = (Vec::new(), Vec::new(), Vec::new());
        let title = format!("what was left of {}", pending.title());
        Self { title, turn: Turn::Forward, deeds, remains, stays: None, kept }
    }

    /// Takes out of what was done the removals of files that were kept: that is told beside it.
    pub(crate) fn forget_deeds_of_kept(&mut self, plan: &Plan) {
        for kept in &self.kept {
            let removes = |step: &&Step| step.removes() == Some(&*kept.file);
            let title = plan.steps().find(removes).map(ToString::to_string);
            if let Some(place) = self.deeds.iter().position(|deed| Some(deed) == title.as_ref()) {
                self.deeds.remove(place);
            }
        }
    }

    /// Of deletions that were given up, and that the records of these snapshots say were begun.
    pub(crate) fn forgotten(names: &[String]) -> Self {
        let (deeds, kept) = (Vec::new(), Vec::new());
        let remain = |name: &String| {
            format!(
                "the images of snapshot `{name}` may not hold it any more, and no other is deleted or gone back to with `discard` before it is \
                 gone: delete it again"
            )
        };
        let title = format!("delete {}", names.join(", "));
        let remains = names.iter().map(remain).collect();
        Self { title, turn: Turn::Forgotten, deeds, remains, stays: None, kept }
    }
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let became = match (self.turn, self.remains.is_empty()) {
            (Turn::NotBegun, _) => "nothing had been done",
            (Turn::Back, true) => "it is rolled back, and all is as it was before",
            (Turn::Back, false) => "it is rolled back, but for what is told here",
            (Turn::Forward, true) => "it was decided already, and is finished",
            (Turn::Forward, false) => "it was decided already, and is finished but for what is told here",
            (Turn::Unknown, _) => "it could not be found out whether it was decided, and everything is kept",
            (Turn::Forgotten, _) => "nothing of it is pending, and the records say that it was begun",
        };
        write!(f, "an operation had not come to its end: {}; {became}", self.title)?;
        f.write_str(&but(self.stays.as_deref()))?;
        for deed in &self.deeds {
            write!(f, "\n  done: {deed}")?;
        }
        for left in &self.remains {
            write!(f, "\n  left: {left}")?;
        }
        for kept in &self.kept {
            write!(f, "\n  kept: {kept}")?;
        }
        Ok(())
    }
}

/// Follows the traces of an operation.
///
/// # Errors
/// [`OperationError::Unreachable`]: the machine may live and does not answer; nothing was touched. [`OperationError::Journal`]: a
/// program of the operation still runs.
pub(crate) async fn recover<E: Env>(
    monitor: &Monitor<E>,
    pending: &Pending,
    deadline: Duration,
    patience: Patience,
    journal: &Journal<E>,
) -> Result<Recovered, OperationError> {
    let mut execution = Execution::new(monitor, &pending.intent.plan, patience, Some(journal));
    execution.asks_first = true;
    let reached = match execution.reach("recover").await {
        Reach::Alive(_) => Reached::Alive,
        Reach::Gone | Reach::Off => Reached::Off,
        Reach::Mute(_) => {
            monitor.reconnect(patience.connect).await?;
            Reached::Alive
        }
    };
    let mut recovery = Recovery {
        execution,
        pending,
        deadline,
        reached,
        frozen: false,
        deeds: Vec::new(),
        remains: Vec::new(),
        stays: None,
    };
    let turn = recovery.turn().await?;
    let Recovery { deeds, mut remains, mut stays, .. } = recovery;
    if !remains.is_empty() {
        remains.extend(stays.take());
    }
    Ok(Recovered { title: pending.intent.plan.title.clone(), turn, deeds, remains, stays, kept: Vec::new() })
}

/// Whether there is a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    Alive,
    Off,
}

struct Recovery<'m, E: Env> {
    execution: Execution<'m, E>,
    pending: &'m Pending,
    deadline: Duration,
    reached: Reached,
    /// The guest may be frozen, and could not be let go.
    frozen: bool,
    deeds: Vec<String>,
    remains: Vec<String>,
    stays: Option<String>,
}

impl<'m, E: Env> Recovery<'m, E> {
    async fn turn(&mut self) -> Result<Turn, OperationError> {
        if self.steps().all(|(_, written, _)| written == Written::Ahead) {
            return Ok(Turn::NotBegun);
        }
        if !planted(Mutant::RecoversWithoutThaw) {
            self.thaw().await;
        }
        if let Some(journal) = self.execution.journal {
            journal.programs_have_ended(self.deadline).await?;
        }
        Ok(match self.decided().await {
            Some(true) => self.forward().await,
            Some(false) => self.back().await,
            None => {
                self.remains.extend(self.kept());
                Turn::Unknown
            }
        })
    }

    /// What is kept where nobody knows whether the decisive stage has happened. Nothing is undone: a guest that was stopped for it may
    /// stand still.
    fn kept(&self) -> Vec<String> {
        let decisive = self.execution.plan.no_return;
        let doubtful = &self.execution.plan.stages[decisive].steps;
        let begun = self.steps().filter(|(stage, written, _)| {
            *stage < decisive && matches!(written, Written::Done | Written::InDoubt)
        });
        let begun: Vec<_> = begun.map(|(.., step)| step).collect();
        // A guest whose QEMU is gone stands still for nobody.
        let is_off = self.reached == Reached::Off;
        let stopped =
            begun.iter().filter(|step| step.stops_the_guest() && !is_off).map(|step| step.remains());
        // The switch names the overlays itself.
        let switch = doubtful.iter().any(Step::switches);
        let made = begun.iter().filter_map(|step| match step {
            Step::PrepareOverlay(overlay) if !switch => {
                Some(format!("the overlay `{}` is kept", overlay.file))
            }
            step => step.made(),
        });
        let was_ended = begun.iter().any(|step| matches!(step, Step::StopMachine(_)));
        let ended = (was_ended && is_off).then(|| ENDED.to_owned());
        let remains = |step: &Step| match step {
            Step::SwitchOverlays(switch) if is_off => switch.remains_off(),
            step => step.remains(),
        };
        doubtful.iter().map(remains).chain(stopped).chain(made).chain(ended).collect()
    }

    /// Every step with its stage and how far it had got, by what is written down.
    fn steps(&self) -> impl Iterator<Item = (usize, Written, &'m Step)> + use<'m, E> {
        self.pending.steps()
    }

    fn live(&self, lane: &str) -> Live<E> {
        let Execution { monitor, patience, .. } = &self.execution;
        monitor.live(format!("recover-{lane}"), self.deadline, *patience)
    }

    /// Lets the guest go first of all, if it may be frozen: its programs stand still as long as it is.
    async fn thaw(&mut self) {
        let freeze = |(_, written, step): &(usize, Written, &'m Step)| {
            *written == Written::InDoubt && matches!(step, Step::Freeze(_))
        };
        let Some((.., step)) = self.steps().find(freeze).filter(|_| self.reached == Reached::Alive) else {
            return;
        };
        self.execution.monitor.rest().suspect();
        self.execution.begun = vec![(step, Begun::Part)];
        match self.execution.thaw().await {
            Some(left) => {
                self.frozen = true;
                self.remains.push(left);
            }
            None => self.deeds.push("thaw the guest's file systems, if they were frozen".to_owned()),
        }
        self.execution.begun.clear();
    }

    /// Whether the decisive stage has happened; none if nobody knows. What has been put back in part is put back.
    async fn decided(&mut self) -> Option<bool> {
        if self.steps().any(|(_, written, _)| written == Written::Undone) {
            return Some(false);
        }
        let decisive = self.execution.plan.no_return;
        let steps: Vec<_> = self.steps().filter(|(stage, ..)| *stage == decisive).collect();
        let mut all = true;
        for (_, written, step) in steps {
            let happened = match written {
                Written::Done => Happened::Yes,
                Written::Ahead | Written::Undone => Happened::No,
                Written::InDoubt => self.has_happened(step).await,
            };
            match happened {
                Happened::Yes => {}
                Happened::No => all = false,
                Happened::Unknown if planted(Mutant::RecoversForwardInDoubt) => {}
                Happened::Unknown => return None,
            }
        }
        // A stage without steps is decided when the one before it is.
        Some(all && !planted(Mutant::RecoversBack))
    }

    async fn has_happened(&mut self, step: &Step) -> Happened {
        if self.reached == Reached::Alive {
            match step.probe(&self.live(&step.lane())).await {
                Ok(happened) => return happened,
                // It may have ended this very moment.
                Err(_) => match self.execution.reach("recover").await {
                    Reach::Gone => self.reached = Reached::Off,
                    _ => return Happened::Unknown,
                },
            }
        }
        match step {
            Step::StopMachine(_) | Step::Quit(_) => return Happened::Yes,
            step if step.only_in_qemu() || step.starts_a_machine() => return Happened::No,
            _ => {}
        }
        match step.probe(&self.live(&step.lane())).await {
            Ok(happened @ (Happened::Yes | Happened::No)) => happened,
            _ => step.probe_gone(self.execution.monitor.env()).await,
        }
    }

    /// Whether QEMU is gone, and the step's files tell that nothing of it is left.
    async fn is_undone_by_the_end(&self, step: &Step) -> bool {
        let env = self.execution.monitor.env();
        self.reached == Reached::Off && step.probe_gone(env).await == Happened::No
    }

    /// Does what comes behind the decisive stage, unless it has happened.
    async fn forward(&mut self) -> Turn {
        let plan = self.execution.plan;
        let is_off = self.reached == Reached::Off;
        let is_moot = |step: &Step| is_off && step.only_in_qemu() && !step.ends_qemu();
        let behind = self.steps().filter(|(stage, written, step)| {
            *stage > plan.no_return && *written == Written::InDoubt && !is_moot(step)
        });
        self.execution.is_over = is_off;
        // One after the other, as they are written down: it is not many that are in doubt.
        let mut failed = Vec::new();
        for (.., step) in behind.collect::<Vec<_>>() {
            // What it was to end has ended.
            if !(is_off && step.ends_qemu()) {
                failed.extend(self.execution.forward([step], self.deadline).await);
            }
            self.deeds.push(step.to_string());
        }
        let ahead =
            self.steps().find(|(stage, written, _)| *stage > plan.no_return && *written == Written::Ahead);
        if let Some((stage, ..)) = ahead {
            let late = self.execution.rest(stage, self.deadline).await;
            failed.extend(late.into_iter().filter(|failure| !(is_off && failure.step.only_in_qemu())));
            let done = plan.stages[stage..].iter().flat_map(|stage| &stage.steps);
            self.deeds.extend(done.map(ToString::to_string));
        }
        self.settle_forward(failed).await;
        Turn::Forward
    }

    /// Tells and writes down what is done by now, and what is not.
    async fn settle_forward(&mut self, failed: Vec<Failure<'m>>) {
        for Failure { step, cause, .. } in &failed {
            let title = step.to_string();
            self.deeds.retain(|deed| *deed != title);
            self.remains.push(format!("{title}: {} {}", sentence(cause), step.remains()));
        }
        if failed.is_empty() {
            return;
        }
        let is_failed = |step: &Step| failed.iter().any(|failure| std::ptr::eq(failure.step, step));
        let steps = self.execution.plan.steps().enumerate();
        let done = steps.filter(|(_, step)| !is_failed(step) && !self.is_frozen_by(step));
        let done = done.map(|(number, _)| number).collect();
        if let Some(Err(error)) = match self.execution.journal {
            Some(journal) => Some(journal.done(done).await),
            None => None,
        } {
            tracing::warn!(%error, "how far the recovery has come is not written down");
        }
    }

    /// Whether it is the freeze of a guest that could not be let go: the next recovery tries that again.
    fn is_frozen_by(&self, step: &Step) -> bool {
        self.frozen && matches!(step, Step::Freeze(_))
    }

    /// Undoes what was or may have been begun: nothing of what comes behind the decisive stage, which has not happened.
    async fn back(&mut self) -> Turn {
        let decisive = self.execution.plan.no_return;
        let (mut begun, mut unclear) = (Vec::new(), Vec::new());
        let mut left_overlay = false;
        for (_, written, step) in self.steps().filter(|(stage, ..)| *stage <= decisive).collect::<Vec<_>>() {
            let how_far = match written {
                // What a pivot owes the records is not written yet.
                Written::Ahead if left_overlay && matches!(step, Step::RecordDeletion(_)) => {
                    Ok(Some(Begun::Part))
                }
                Written::Done => Ok(Some(Begun::Whole)),
                Written::InDoubt if self.is_undone_by_the_end(step).await => Ok(None),
                Written::InDoubt => step.look_back(&self.live(&step.lane())).await,
                Written::Ahead | Written::Undone => Ok(None),
            };
            let is_whole = matches!(how_far, Ok(Some(Begun::Whole)));
            left_overlay = is_whole && matches!(step, Step::EndCommit(_));
            match how_far {
                Ok(how_far) => begun.extend(how_far.map(|begun| (step, begun))),
                Err(left) => {
                    mark::taken(step.marks().not_put_back);
                    unclear.push(left);
                }
            }
        }
        if begun.is_empty() && unclear.is_empty() && self.deeds.is_empty() {
            return Turn::NotBegun;
        }
        self.execution.begun = begun;
        let Undone { mut remains, stays, steps, .. } = self.execution.undo(None).await;
        remains.splice(..0, unclear);
        self.stays = stays;
        // Of the thaw it is told above; what was in a QEMU that has ended went with it.
        let is_off = self.reached == Reached::Off;
        let told =
            steps.iter().filter(|step| !(matches!(step, Step::Freeze(_)) || is_off && step.only_in_qemu()));
        let deeds = told.filter_map(|step| Some(format!("{step}: {}", step.undo_title()?)));
        self.deeds.extend(deeds);
        if let (Some(journal), true) = (self.execution.journal, self.frozen || !remains.is_empty()) {
            let put_back = steps.iter().filter(|step| !self.is_frozen_by(step));
            let numbers = put_back.map(|step| self.execution.number(step)).collect();
            if let Err(error) = journal.undone(numbers).await {
                tracing::warn!(%error, "how far the recovery has come is not written down");
            }
        }
        self.remains.extend(remains);
        Turn::Back
    }
}
