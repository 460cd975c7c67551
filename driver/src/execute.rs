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

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{
    client::{CommandError, ConnectError},
    env::Env,
    error::{OperationError, StepError},
    live::Live,
    monitor::Monitor,
    patience::Patience,
    plan::{Plan, Stage},
    step::{Begun, Happened, Step},
};

/// How long putting things back may take, beyond the operation's own time.
pub const UNDO_WITHIN: Duration = Duration::from_secs(30);

/// Carries out a plan.
///
/// # Errors
/// [`OperationError::RolledBack`], [`OperationError::MachineGone`], [`OperationError::NotRolledBack`],
/// [`OperationError::Unknown`], [`OperationError::Unfinished`].
pub(crate) async fn carry_out<E: Env>(
    monitor: &Monitor<E>,
    plan: &Plan,
    deadline: Duration,
    patience: Patience,
) -> Result<(), OperationError> {
    let mut execution = Execution { monitor, patience, begun: Vec::new(), rounds: 0 };
    let mut late = Vec::new();
    for (index, stage) in plan.stages.iter().enumerate() {
        if index > plan.no_return {
            // It is done: there is no way but forward, with time of its own if need be.
            let deadline = deadline.max(monitor.env().now() + patience.command);
            late.extend(execution.forward(stage, deadline).await);
        } else if let Some(failure) = execution.side_by_side(&stage.steps, deadline).await.into_iter().next()
        {
            return Err(execution.fail(failure, index == plan.no_return).await);
        }
        if stage.steps.iter().any(Step::starts_a_machine) {
            // The steps to come speak to the new process. One that does not answer is told by the first of them.
            let _ = monitor.reconnect(patience.connect).await;
        }
    }
    let remains = late.iter().map(|failure| failure.step.remains()).collect();
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

/// How a step in doubt turned out.
enum Verdict {
    Happened,
    DidNot,
    Unknown,
}

/// A step that did not come to its end.
struct Failure<'p> {
    step: &'p Step,
    cause: StepError,
    /// Whether it is known not to have happened as a whole.
    certain: bool,
}

/// What can be reached when things must be put back.
enum Reach<E: Env> {
    Alive(Live<E>),
    /// Nothing listens any more: the process has ended.
    Gone,
    /// It may live on, but does not answer.
    Mute(String),
}

struct Execution<'m, E: Env> {
    monitor: &'m Monitor<E>,
    patience: Patience,
    /// What has been begun, oldest first.
    begun: Vec<(&'m Step, Begun)>,
    /// Counts stages and undos: the number in front of each lane.
    rounds: usize,
}

impl<'m, E: Env> Execution<'m, E> {
    /// Runs the steps of a stage behind the point of no return. What was lost on its way and is known not to have happened
    /// is done once more: nothing else would bring it about.
    async fn forward(&mut self, stage: &'m Stage, deadline: Duration) -> Vec<Failure<'m>> {
        let failures = self.side_by_side(&stage.steps, deadline).await;
        let (lost, mut failed): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|failure| failure.certain && failure.cause.is_doubtful());
        if !lost.is_empty() {
            failed.extend(self.side_by_side(lost.into_iter().map(|failure| failure.step), deadline).await);
        }
        failed
    }

    /// Runs steps side by side and returns those that failed.
    async fn side_by_side(
        &mut self,
        steps: impl IntoIterator<Item = &'m Step>,
        deadline: Duration,
    ) -> Vec<Failure<'m>> {
        self.rounds += 1;
        let mut running = Vec::new();
        for step in steps {
            let live = self.monitor.live(self.lane(&step.lane()), deadline, self.patience);
            let (sender, receiver) = oneshot::channel();
            let task = step.clone();
            self.monitor.env().spawn_local(async move {
                // Nobody waits any more only if the whole operation was dropped.
                let _ = sender.send(task.act(&live).await);
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
                Err(mut cause) => match self.verdict(step, &mut cause).await {
                    Verdict::Happened => self.begun.push((step, Begun::Whole)),
                    verdict => {
                        let refused = matches!(cause, StepError::Command(CommandError::Refused { .. }));
                        self.begun.push((step, if refused { Begun::Refused } else { Begun::Part }));
                        let certain = matches!(verdict, Verdict::DidNot);
                        failures.push(Failure { step, cause, certain });
                    }
                },
            }
        }
        failures
    }

    /// A timed-out command is never taken for one that did not happen: ask, on a new connection if need be.
    async fn verdict(&mut self, step: &Step, cause: &mut StepError) -> Verdict {
        if !cause.is_doubtful() {
            return Verdict::DidNot;
        }
        self.rounds += 1;
        let live = match self.reach(&format!("probe-{}", step.lane())).await {
            Reach::Alive(live) => live,
            // What was begun in it went with it.
            Reach::Gone if step.only_in_qemu() => return Verdict::DidNot,
            Reach::Gone | Reach::Mute(_) => return Verdict::Unknown,
        };
        match step.probe(&live).await {
            Ok(Happened::Yes) => Verdict::Happened,
            Ok(Happened::No) => Verdict::DidNot,
            // Worse than the doubt: this is what must be told.
            Err(torn @ StepError::Torn(_)) => {
                *cause = torn;
                Verdict::Unknown
            }
            Ok(Happened::Unknown) | Err(_) => Verdict::Unknown,
        }
    }

    /// Puts things back and says how that went. At the point of no return nothing is put back on a mere guess.
    async fn fail(mut self, failure: Failure<'m>, decisive: bool) -> OperationError {
        let Failure { step, cause, certain } = failure;
        let title = step.to_string();
        if decisive && !certain {
            return OperationError::Unknown { step: title, cause, keeps: vec![step.remains()] };
        }
        let (gone, remains) = self.undo(step, &cause).await;
        match (remains.is_empty(), gone) {
            (false, _) => OperationError::NotRolledBack { step: title, cause, remains },
            (true, true) => OperationError::MachineGone { step: title, cause },
            (true, false) => OperationError::RolledBack { step: title, cause },
        }
    }

    /// Undoes what was begun, newest first. Tells whether QEMU is gone, and what is left.
    async fn undo(&mut self, failed: &Step, cause: &StepError) -> (bool, Vec<String>) {
        let mut remains = Vec::new();
        let mut gone = false;
        for (step, begun) in std::mem::take(&mut self.begun).into_iter().rev() {
            self.rounds += 1;
            let undone = match self.reach(&format!("undo-{}", step.lane())).await {
                Reach::Alive(live) => step.undo(&live, begun, (step == failed).then_some(cause)).await,
                Reach::Gone => {
                    gone = true;
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
            if let Err(left) = undone {
                remains.push(left);
                if step.starts_a_machine() {
                    // It may run: what it stands on is not pulled from under it.
                    remains.push("what it was started from is kept".to_owned());
                    break;
                }
            }
        }
        (gone, remains)
    }

    /// A hold on the machine for asking and undoing, over a new connection if the old one is lost or mute.
    async fn reach(&self, lane: &str) -> Reach<E> {
        let deadline = self.monitor.env().now() + UNDO_WITHIN;
        match self.monitor.reconnect(self.patience.connect).await {
            Ok(()) => Reach::Alive(self.monitor.live(self.lane(lane), deadline, self.patience)),
            Err(ConnectError::Unreachable { source, .. }) if is_gone(&source) => Reach::Gone,
            Err(error) => Reach::Mute(error.to_string()),
        }
    }

    fn lane(&self, name: &str) -> String {
        format!("{}.{name}", self.rounds)
    }
}

/// Whether a failed connection means that no process listens any more. A socket that is not found is no proof: its
/// path may have been removed under a QEMU that lives.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::ConnectionRefused
}

impl From<CommandError> for OperationError {
    /// Of the questions that come before a plan.
    fn from(error: CommandError) -> Self {
        OperationError::Unobserved(error)
    }
}
