//! The executor: carries out any plan, and puts things back when it cannot.
//!
//! ```text
//! stage by stage:  act side by side --> all well --> next stage ... --> done
//!                       |
//!                    a failure --> in doubt? ask (probe) --> it happened after all --> go on
//!                                                        |-> it did not, or in part --> undo, newest first
//!                                                        `-> nobody knows --> before the point of no return: undo;
//!                                                                             at it: keep everything, and say so
//! ```
//!
//! Behind the point of no return nothing is undone: what was lost on its way is done once more, what fails is told, and
//! the rest is done all the same.
//!
//! Steps of one stage all come to their end before anything is decided: no step is left half way. Asking and
//! undoing have time of their own, for they are needed most when the operation's time is up.

mod undo;

use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) use self::undo::Undone;
use crate::{
    client::CommandError,
    env::Env,
    error::{OperationError, StepError},
    journal::Journal,
    live::Live,
    mark,
    monitor::Monitor,
    mutant::{Mutant, planted},
    patience::Patience,
    plan::{Plan, Stage},
    step::{Begun, Happened, Step},
};

/// How long putting things back may take, beyond the operation's own time.
pub const UNDO_WITHIN: Duration = Duration::from_secs(30);

/// How many steps are under way at once. Each asks after its own job and is told of all: were there a thousand, every question would have
/// a thousand answers.
const AT_ONCE: usize = 32;

/// Carries out a plan, and writes down in the journal what is about to be done.
///
/// # Errors
/// [`OperationError::RolledBack`], [`OperationError::MachineGone`], [`OperationError::NotRolledBack`],
/// [`OperationError::Unknown`], [`OperationError::Unfinished`].
pub(crate) async fn carry_out<E: Env>(
    monitor: &Monitor<E>,
    plan: &Plan,
    deadline: Duration,
    patience: Patience,
    journal: Option<&Journal<E>>,
) -> Result<(), OperationError> {
    let mut execution = Execution::new(monitor, plan, patience, journal);
    let mut late = Vec::new();
    // There may be no stage at all: what is the caller's alone, of a guest that stands still.
    for index in (0..=plan.no_return).take(plan.stages.len()) {
        let (told, failures): (Vec<_>, Vec<_>) =
            execution.stage(index, deadline).await.into_iter().partition(Failure::takes_nothing_back);
        if let Some(failure) = failures.into_iter().next() {
            return Err(execution.fail(failure, index == plan.no_return).await);
        }
        late.extend(told);
    }
    late.extend(execution.rest(plan.no_return + 1, deadline).await);
    let remains = late.iter().map(Failure::remains).collect();
    match late.into_iter().next() {
        None => Ok(()),
        Some(Failure { step, cause, .. }) => Err(OperationError::Unfinished {
            done: plan.title.clone(),
            step: step.to_string(),
            cause,
            remains,
        }),
    }
}

/// What is told of a machine that was ended, and in whose place none was started.
pub(crate) const ENDED: &str = "the machine was ended, and is off";

/// How a step in doubt turned out.
pub(crate) enum Verdict {
    Happened,
    DidNot,
    Unknown,
}

/// A step that did not come to its end.
pub(crate) struct Failure<'p> {
    pub(crate) step: &'p Step,
    pub(crate) cause: StepError,
    /// Whether it is known not to have happened as a whole.
    certain: bool,
}

impl Failure<'_> {
    /// Whether what was done is good all the same: a snapshot is not worse because the guest could not be let go behind it, or
    /// because something is left to be cleared away. It is told when all is done.
    fn takes_nothing_back(&self) -> bool {
        matches!(self.step, Step::Thaw(_)) || matches!(self.cause, StepError::DoneButFor { .. })
    }

    /// What may be left of it.
    pub(crate) fn remains(&self) -> String {
        match &self.cause {
            StepError::DoneButFor { failed } => failed.join("; "),
            _ => match self.step {
                // What it was to be started in nobody can take back.
                Step::StartMachine(start) => format!("{}; {}", self.step.remains(), start.is_due()),
                step => step.remains(),
            },
        }
    }
}

/// What can be reached when things must be put back.
pub(crate) enum Reach<E: Env> {
    Alive(Live<E>),
    /// Nothing listens any more: the process has ended.
    Gone,
    /// The machine is off, and nothing of this operation is in any process.
    Off,
    /// It may live on, but does not answer.
    Mute(String),
}

/// A plan that is carried out, or whose traces are followed.
pub(crate) struct Execution<'m, E: Env> {
    pub(crate) monitor: &'m Monitor<E>,
    pub(crate) plan: &'m Plan,
    pub(crate) patience: Patience,
    /// None where nobody keeps records: there is no place for it.
    pub(crate) journal: Option<&'m Journal<E>>,
    /// What has been begun, oldest first.
    pub(crate) begun: Vec<(&'m Step, Begun)>,
    /// Counts stages and undos: the number in front of each lane.
    rounds: usize,
    /// QEMU was found to be gone.
    gone: bool,
    /// QEMU had ended before anything of this was done.
    pub(crate) is_over: bool,
    /// Whether each step is asked whether it has happened before it acts: after a crash it may have.
    pub(crate) asks_first: bool,
}

impl<'m, E: Env> Execution<'m, E> {
    /// Of a plan of which nothing is begun.
    pub(crate) fn new(
        monitor: &'m Monitor<E>,
        plan: &'m Plan,
        patience: Patience,
        journal: Option<&'m Journal<E>>,
    ) -> Self {
        let (begun, rounds) = (Vec::new(), 0);
        Self {
            monitor,
            plan,
            patience,
            journal,
            begun,
            rounds,
            gone: false,
            is_over: false,
            asks_first: false,
        }
    }

    /// Carries out a stage up to the point of no return. Tells what failed.
    async fn stage(&mut self, index: usize, deadline: Duration) -> Vec<Failure<'m>> {
        let stage = &self.plan.stages[index];
        self.look_at_rest(index).await;
        let behind = planted(Mutant::WritesTheJournalBehind);
        let about = if behind { Ok(()) } else { self.about(index).await };
        if let (Err(cause), Some(step)) = (about, stage.steps.first()) {
            return vec![Failure { step, cause, certain: true }];
        }
        let failures = self.side_by_side(&stage.steps, deadline).await;
        if behind {
            let _ = self.about(index).await;
        }
        if failures.iter().all(Failure::takes_nothing_back) {
            self.meet_the_new_one(stage).await;
        }
        failures
    }

    /// Carries out the stages from this one on: it is done, and there is no way but forward. Tells what failed.
    pub(crate) async fn rest(&mut self, from: usize, deadline: Duration) -> Vec<Failure<'m>> {
        let plan = self.plan;
        let mut late = Vec::new();
        for (index, stage) in plan.stages.iter().enumerate().skip(from) {
            self.look_at_rest(index).await;
            if let Err(error) = self.about(index).await {
                // Who finds the machine asks the steps then, and does again what can be done again.
                tracing::warn!(%error, "how far the operation has come is not written down");
            }
            // With time of its own if need be.
            let deadline = deadline.max(self.monitor.env().now() + self.patience.command);
            let failed = self.forward(stage.steps.iter(), deadline).await;
            if let Some(journal) = self.journal.filter(|_| !failed.is_empty()) {
                let numbers = failed.iter().map(|failure| self.number(failure.step)).collect();
                if let Err(error) = journal.failed(numbers).await {
                    tracing::warn!(%error, "what failed is not written down");
                }
            }
            late.extend(failed);
            self.meet_the_new_one(stage).await;
        }
        late
    }

    /// Looks at a freeze of the caller's, if the agent cannot be asked any more from this stage on.
    async fn look_at_rest(&self, stage: usize) {
        if self.plan.ends_answers() == Some(stage) {
            let rest = self.monitor.rest();
            rest.look_again(self.monitor.env().now() + self.patience.ask).await;
            rest.release();
        }
    }

    /// Writes down that the steps of this stage are about to act.
    async fn about(&self, stage: usize) -> Result<(), StepError> {
        let Some(journal) = self.journal else { return Ok(()) };
        let failed = |source| StepError::File { action: "write", path: journal.path().to_owned(), source };
        journal.about(self.plan, stage).await.map_err(failed)
    }

    /// The steps to come speak to the new process, if a stage has started one. One that does not answer is told by the first of
    /// them.
    async fn meet_the_new_one(&self, stage: &Stage) {
        if stage.steps.iter().any(Step::starts_a_machine) {
            let _ = self.monitor.reconnect(self.patience.connect).await;
        }
    }

    /// The number of a step among all of the plan's, counted from 0.
    pub(crate) fn number(&self, step: &Step) -> usize {
        let place = self.plan.steps().position(|other| std::ptr::eq(other, step));
        place.expect("it is one of the plan's")
    }

    /// Runs steps behind the point of no return. What was lost on its way and is known not to have happened is done once more:
    /// nothing else would bring it about.
    pub(crate) async fn forward(
        &mut self,
        steps: impl IntoIterator<Item = &'m Step>,
        deadline: Duration,
    ) -> Vec<Failure<'m>> {
        let failures = self.side_by_side(steps, deadline).await;
        let (lost, mut failed): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|failure| failure.certain && failure.cause.is_doubtful());
        if !lost.is_empty() {
            failed.extend(self.side_by_side(lost.into_iter().map(|failure| failure.step), deadline).await);
        }
        failed
    }

    /// Runs steps side by side, as many as there may be at once, and returns those that failed.
    async fn side_by_side(
        &mut self,
        steps: impl IntoIterator<Item = &'m Step>,
        deadline: Duration,
    ) -> Vec<Failure<'m>> {
        self.rounds += 1;
        let mut failures = Vec::new();
        let steps: Vec<_> = steps.into_iter().collect();
        for some in steps.chunks(AT_ONCE) {
            failures.extend(self.at_once(some, deadline).await);
        }
        failures
    }

    async fn at_once(&mut self, steps: &[&'m Step], deadline: Duration) -> Vec<Failure<'m>> {
        let mut running = Vec::new();
        for step in steps {
            let live = self.monitor.live(self.lane(&step.lane()), deadline, self.patience);
            let live = live.of_one_that_is_gone(self.is_over);
            let (sender, receiver) = oneshot::channel();
            let (task, asks_first) = (Step::clone(step), self.asks_first);
            self.monitor.env().spawn_local(async move {
                let has_happened = asks_first && matches!(task.probe(&live).await, Ok(Happened::Yes));
                let ended = if has_happened { Ok(()) } else { task.act(&live).await };
                // Nobody waits any more only if the whole operation was dropped.
                let _ = sender.send(ended);
            });
            running.push((step, receiver));
        }
        let mut ended = Vec::new();
        for (step, receiver) in running {
            ended.push((step, receiver.await.expect("a step's task ends by sending its result")));
        }
        let mut failures = Vec::new();
        for (step, result) in ended {
            match result {
                Ok(()) => self.begun.push((step, Begun::Whole)),
                Err(_) if planted(Mutant::ForgetsWhatRanBeside) && !failures.is_empty() => {}
                Err(mut cause) => {
                    // Of one that is found to have happened nobody is told; what was found instead is told.
                    mark::reached(&cause);
                    let verdict = self.verdict(step, &mut cause).await;
                    mark::reached(&cause);
                    if let Verdict::Happened = verdict {
                        self.begun.push((step, Begun::Whole));
                        continue;
                    }
                    mark::taken(step.marks().failed);
                    let refused = matches!(cause, StepError::Command(CommandError::Refused { .. }));
                    self.begun.push((step, if refused { Begun::Refused } else { Begun::Part }));
                    let certain = matches!(verdict, Verdict::DidNot);
                    failures.push(Failure { step, cause, certain });
                }
            }
        }
        failures
    }

    /// A timed-out command is never taken for one that did not happen: ask, on a new connection if need be.
    async fn verdict(&mut self, step: &Step, cause: &mut StepError) -> Verdict {
        if !cause.is_doubtful() || planted(Mutant::TakesSilenceForRefusal) {
            return Verdict::DidNot;
        }
        if planted(Mutant::TakesSilenceForConsent) {
            return Verdict::Happened;
        }
        self.rounds += 1;
        let reach = self.reach_for(step, "probe").await;
        self.gone = matches!(reach, Reach::Gone);
        let live = match reach {
            Reach::Alive(live) => live,
            // That was its work.
            Reach::Gone if step.ends_qemu() => return Verdict::Happened,
            // What was begun in it went with it.
            Reach::Gone if step.only_in_qemu() => return Verdict::DidNot,
            Reach::Gone | Reach::Off | Reach::Mute(_) => return Verdict::Unknown,
        };
        match step.probe(&live).await {
            Ok(Happened::Yes) => Verdict::Happened,
            Ok(Happened::No) => Verdict::DidNot,
            // Worse than the doubt: this is what must be told.
            Err(torn @ StepError::Torn(_)) => {
                *cause = torn;
                Verdict::Unknown
            }
            // It is done, and that is what must be told.
            Err(done @ StepError::DoneButFor { .. }) => {
                *cause = done;
                Verdict::DidNot
            }
            Ok(Happened::Unknown) | Err(_) => Verdict::Unknown,
        }
    }

    /// The same for a step. One in which QEMU has no part needs no answer from it.
    async fn reach_for(&self, step: &Step, deed: &str) -> Reach<E> {
        let lane = format!("{deed}-{}", step.lane());
        if !step.outside_qemu() {
            return self.reach(&lane).await;
        }
        let deadline = self.monitor.env().now() + UNDO_WITHIN;
        Reach::Alive(self.monitor.live(self.lane(&lane), deadline, self.patience))
    }

    /// A hold on the machine for asking and undoing, over a new connection if the old one is lost or mute.
    pub(crate) async fn reach(&self, lane: &str) -> Reach<E> {
        let deadline = self.monitor.env().now() + UNDO_WITHIN;
        if self.monitor.is_off() {
            return Reach::Off;
        }
        match self.monitor.reconnect(self.patience.connect).await {
            Ok(()) => Reach::Alive(self.monitor.live(self.lane(lane), deadline, self.patience)),
            Err(error) if error.is_gone() => Reach::Gone,
            Err(error) => Reach::Mute(mark::told(&error)),
        }
    }

    fn lane(&self, name: &str) -> String {
        format!("{}.{name}", self.rounds)
    }
}

impl From<CommandError> for OperationError {
    /// Of the questions that come before a plan.
    fn from(error: CommandError) -> Self {
        OperationError::Unobserved(error)
    }
}
