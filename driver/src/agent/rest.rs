//! The guest at rest: what one operation has frozen, until it has thawed it.
//!
//! ```text
//! Running -- freeze sent --> InDoubt -- so many file systems --> AtRest -- thaw --> Running
//!    ^ refused, or none at all --/ \-- the reply was lost ------------- thaw -->-/
//! ```
//! Three rules. What was frozen by somebody else is never thawed: only a guest whose agent said `thawed` is frozen, and only
//! a freeze that was sent is thawed. A freeze without a reply is not a freeze that did not happen: the agent works off what
//! it was sent, so a thaw follows it whatever its status says, for an agent that was started anew may know nothing of the
//! freeze; if it says nothing at all a thaw is left behind the freeze. And a thaw that failed is no guest that is frozen: its
//! hook runs behind the thaw, so the status is asked then.
//!
//! The connection stays open from the first question to the thaw, so that the frozen time holds no connecting. What the guest's file
//! systems are is asked while the overlays are made: the guest takes longer for that than for all other questions. Of a freeze that is the
//! caller's it is closed while the snapshot is taken, which may be long: whoever watches over that freeze may have to thaw.
//!
//! What the agent believes is not what the guest's kernel does. The counts tell more. Fewer frozen than are mounted means that
//! somebody else has frozen the others, and may let them go at any time ([`super::freezable`]); fewer thawed than were frozen
//! means that somebody has let them go meanwhile.

mod others;

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use super::{Agent, AgentError, FreezeStatus, Guard, freezable::Freezable};
use crate::{
    env::{Endpoint, Env},
    error::Code,
    mark,
    mutant::{Mutant, planted},
    race::{First, race},
    report::{LoadedFreeze, Quiesced},
};

/// How long a freeze is waited for, if the operation has as long: it writes back all that the guest has not written yet.
pub const FREEZE_WITHIN: Duration = Duration::from_secs(30);

/// How long one thaw is waited for.
pub const THAW_WITHIN: Duration = Duration::from_secs(10);

/// How often a thaw is tried.
const TRIES: u32 = 3;

/// How long between two tries.
const PAUSE: Duration = Duration::from_millis(500);

/// Why the guest was not brought to rest, or not let go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// The agent has not done it.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Somebody else has frozen the guest, and it stays so.
    #[error("somebody else has frozen the guest meanwhile")]
    FrozenMeanwhile,
    /// The agent has frozen nothing, and takes that for a success.
    #[error("the guest has no file system that could be frozen")]
    NothingFrozen,
    /// The agent has frozen none of those that can be, and takes that for a success.
    #[error(
        "{0}: somebody else may have frozen them, past the agent or before it was started anew; `freezeframe fs thaw` lets them go"
    )]
    NoneFrozen(String),
    /// Nobody would let it go should this driver die.
    #[error(
        "nobody could be started who thaws the guest when the time is up, so that it was not frozen: {0}"
    )]
    NoGuard(String),
    /// It was frozen, and stood so no longer when that was to be told.
    #[error("the guest was frozen, but somebody has let it go at once")]
    LetGo,
    /// The guest may still be frozen.
    #[error("the guest could not be thawed: {0}")]
    NotThawed(AgentError),
}

impl RestError {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            RestError::Agent(error) | RestError::NotThawed(error) => error.code(),
            RestError::FrozenMeanwhile => Code::OperationInvalid,
            RestError::NoGuard(_) => Code::SystemError,
            RestError::NothingFrozen | RestError::NoneFrozen(_) | RestError::LetGo => {
                Code::AgentCommandFailed
            }
        }
    }
}

/// How far the guest is from running, as far as this operation is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// A freeze was sent, and what became of it is not known.
    InDoubt,
    /// So many file systems were frozen, at this time.
    AtRest {
        file_systems: u64,
        since: Duration,
    },
}

struct Inner<E: Env> {
    env: E,
    port: Option<Endpoint>,
    agent: RefCell<Option<Agent<E>>>,
    state: Cell<State>,
    /// Who lets the guest go should this driver die.
    guard: Guard,
    /// What the freeze must reach.
    freezable: RefCell<Freezable>,
    told: RefCell<Quiesced>,
    /// Whether the caller's freeze is still to be looked at.
    callers: Cell<bool>,
    /// Whether the memory that was loaded held a freeze; none if nobody has looked.
    loaded: RefCell<Option<LoadedFreeze>>,
}

/// A machine's guest, and whether an operation has brought it to rest. Clones share it.
pub struct Rest<E: Env>(Rc<Inner<E>>);

impl<E: Env> Clone for Rest<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Env> fmt::Debug for Rest<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest")
            .field("port", &self.0.port)
            .field("state", &self.0.state)
            .finish_non_exhaustive()
    }
}

impl<E: Env> Rest<E> {
    /// Of a guest whose agent is reached there, if it is known where.
    pub fn new(env: E, port: Option<Endpoint>) -> Self {
        Self(Rc::new(Inner {
            env,
            port,
            agent: RefCell::default(),
            state: Cell::new(State::Running),
            guard: Guard::default(),
            freezable: RefCell::default(),
            told: RefCell::new(Quiesced::no("not asked for")),
            callers: Cell::new(false),
            loaded: RefCell::default(),
        }))
    }

    /// Where its agent is reached, if that is known.
    pub fn port(&self) -> Option<&Endpoint> {
        self.0.port.as_ref()
    }

    /// What is to be told of the guest's rest, unless more becomes known.
    pub(crate) fn expect(&self, told: Quiesced) {
        self.0.told.replace(told);
    }

    /// What is to be told of the guest's rest.
    pub fn told(&self) -> Quiesced {
        self.0.told.borrow().clone()
    }

    /// Leaves the port to others: it serves one at a time.
    pub fn release(&self) {
        self.0.agent.take();
    }

    /// How many file systems this operation has frozen, and not thawed.
    pub fn frozen(&self) -> u64 {
        match self.0.state.get() {
            State::AtRest { file_systems, .. } => file_systems,
            State::Running | State::InDoubt => 0,
        }
    }

    /// Why this operation's freeze, which stands, may have brought the guest to rest in part only: somebody else has frozen the rest, and
    /// may let it go at any time. None if it has reached all, as far as the agent can tell.
    pub fn in_part(&self) -> Option<String> {
        self.0.freezable.borrow().doubt(self.frozen())
    }

    /// Whether this operation's freeze, which stands, has found every file system thawed: no other freeze stands beside it.
    pub fn is_alone(&self) -> bool {
        self.0.freezable.borrow().is_all(self.frozen())
    }

    /// Whether the guest may stand frozen by this operation.
    pub fn may_be_frozen(&self) -> bool {
        self.0.state.get() != State::Running
    }

    /// Who lets the guest go should this driver die while it stands frozen; and whether it does.
    pub fn guard(&self) -> Guard {
        self.0.guard.clone()
    }

    fn is_now(&self, state: State) {
        self.0.state.set(state);
        self.0.guard.is_frozen(state != State::Running);
    }

    /// Whether the agent believes that it has frozen.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn status(&self, deadline: Duration) -> Result<FreezeStatus, AgentError> {
        self.ask(deadline, async |agent| agent.freeze_status(deadline).await).await
    }

    /// The guest may have been frozen by a driver that was killed: a [`Rest::thaw`] has to follow.
    pub(crate) fn suspect(&self) {
        self.is_now(State::InDoubt);
    }

    /// An operation begins, which freezes by itself or does not. Then the port is left to others: it serves one at a time, and who has
    /// frozen the guest, or watches over that, may want to thaw it. A freeze of the caller's is looked at once more, as late as the agent
    /// can be asked.
    pub(crate) async fn begins(&self, freezes: bool, by_the_caller: bool) {
        self.0.callers.set(by_the_caller && !freezes);
        if !freezes {
            return self.release();
        }
        self.0.guard.call();
        let deadline = self.0.env.now() + PAUSE;
        // Who cannot be asked now is asked before the freeze.
        let asked = self.ask(deadline, async |agent| agent.ask_file_systems(deadline).await).await;
        if let Err(error) = asked {
            tracing::debug!(%error, "the guest's file systems could not be asked ahead");
        }
    }

    /// Brings the guest to rest. With `thaw_hooks` a freeze that the agent has refused is followed by a thaw, for the sake of
    /// its hook alone, if the guest is not frozen then.
    ///
    /// # Errors
    /// [`RestError`]; behind one that is doubtful a [`Rest::thaw`] has to follow.
    pub async fn freeze(&self, deadline: Duration, thaw_hooks: bool) -> Result<(), RestError> {
        let deadline = deadline.min(self.0.env.now() + FREEZE_WITHIN);
        self.wait_for_guard(deadline).await.map_err(RestError::NoGuard)?;
        // An agent that has frozen does not tell any more.
        self.look_at_file_systems(deadline).await?;
        if self.status(deadline).await? == FreezeStatus::Frozen {
            if planted(Mutant::ThawsWhatOthersFroze) {
                self.suspect();
            }
            return Err(RestError::FrozenMeanwhile);
        }
        self.is_now(State::InDoubt);
        let frozen = self.ask(deadline, async |agent| agent.freeze(deadline).await).await;
        let (state, result) = match frozen {
            Ok(0) => (State::Running, Err(self.nothing_frozen())),
            Ok(file_systems) => (State::AtRest { file_systems, since: self.0.env.now() }, Ok(())),
            Err(error) if error.is_doubtful() && !planted(Mutant::TakesSilentFreezeForNone) => {
                (State::InDoubt, Err(error.into()))
            }
            // Whoever refuses has frozen nothing, and what is frozen now is somebody else's.
            Err(error) => (State::Running, Err(error.into())),
        };
        self.is_now(state);
        if thaw_hooks && matches!(result, Err(RestError::Agent(AgentError::Failed { .. }))) {
            self.run_thaw_hook().await;
        }
        result
    }

    async fn wait_for_guard(&self, deadline: Duration) -> Result<(), String> {
        match race(self.0.guard.there(), self.0.env.sleep_until(deadline)).await {
            First::Left(found) => found,
            First::Right(()) => Err("nobody was found in time".to_owned()),
        }
    }

    fn nothing_frozen(&self) -> RestError {
        let left_out = self.0.freezable.borrow().beside(0);
        left_out.map_or(RestError::NothingFrozen, |(_, short)| RestError::NoneFrozen(short))
    }

    async fn look_at_file_systems(&self, deadline: Duration) -> Result<(), AgentError> {
        let is_asked = self.0.agent.borrow().as_ref().is_some_and(Agent::file_systems_are_asked);
        let told = match self.ask(deadline, async |agent| agent.file_systems(deadline).await).await {
            // It went away since it was asked, and may have come back.
            Err(AgentError::NotConnected(_)) if is_asked => {
                self.ask(deadline, async |agent| agent.file_systems(deadline).await).await
            }
            told => told,
        };
        let found = match told {
            Ok(file_systems) => Freezable::of(&file_systems),
            Err(error @ AgentError::Failed { .. }) => Freezable::unknown(&error),
            Err(error) => return Err(error),
        };
        self.0.freezable.replace(found);
        Ok(())
    }

    /// The agent runs its hook before it freezes, and does not call it again if it cannot freeze then: whatever the hook has
    /// stopped stands still. A thaw of a guest that is not frozen runs it.
    async fn run_thaw_hook(&self) {
        let deadline = self.0.env.now() + THAW_WITHIN;
        if self.status(deadline).await == Ok(FreezeStatus::Thawed) {
            // The freeze has failed already, and that is what is told.
            let _ = self.ask(deadline, async |agent| agent.thaw(deadline).await).await;
        }
    }

    /// Lets the guest go, if it is or may be frozen by this operation: once, however often this is called.
    ///
    /// # Errors
    /// [`RestError::NotThawed`]: it may still be frozen.
    pub async fn thaw(&self) -> Result<(), RestError> {
        let mut thaw = Thaw { sent: None, lost: false };
        let mut last = None;
        for round in 0..TRIES {
            let (State::InDoubt | State::AtRest { .. }) = self.0.state.get() else { return Ok(()) };
            if round > 0 {
                self.0.env.sleep_until(self.0.env.now() + PAUSE).await;
            }
            last = self.try_to_thaw(&mut thaw).await.err();
        }
        let Some(error) = last else { return Ok(()) };
        if self.0.state.get() == State::InDoubt {
            self.leave_a_thaw().await;
        }
        Err(RestError::NotThawed(error))
    }

    async fn try_to_thaw(&self, thaw: &mut Thaw) -> Result<(), AgentError> {
        let deadline = self.0.env.now() + THAW_WITHIN;
        thaw.sent = Some(self.0.env.now());
        let thawed = self.ask(deadline, async |agent| agent.thaw(deadline).await).await;
        let verdict = match thawed {
            Ok(count) => self.after_thaw(count, thaw.lost),
            Err(error @ AgentError::Failed { .. }) => {
                // It counts what it froze itself, as far as it remembers: no word for what nobody knows of.
                let proves_nothing = self.0.state.get() == State::InDoubt && !error.comes_behind_the_thaw();
                if proves_nothing || self.status(deadline).await? == FreezeStatus::Frozen {
                    return Err(error);
                }
                self.after_failed_thaw(&error)
            }
            Err(error) => {
                thaw.lost = true;
                return Err(error);
            }
        };
        self.tell_frozen_for(thaw, verdict);
        self.is_now(State::Running);
        Ok(())
    }

    /// What it means for the rest that so many were frozen when the thaw came.
    fn after_thaw(&self, thawed: u64, lost: bool) -> Quiesced {
        let State::AtRest { file_systems: frozen, .. } = self.0.state.get() else {
            return Quiesced::unknown("the reply to the freeze was lost");
        };
        let freezable = self.0.freezable.borrow();
        let all = systems(frozen);
        let others =
            |more: u64| format!("the thaw has let {} more go, which somebody else had frozen", more - frozen);
        match (thawed, freezable.beside(frozen)) {
            (0, _) if lost => Quiesced::unknown(format!("{all}, and the reply to the thaw was lost")),
            (less, _) if less < frozen => {
                Quiesced::no(format!("of {all} {} had been let go before the thaw", frozen - less))
            }
            // The others stood frozen at the beginning and at the end; in between nobody has looked.
            (more, Some((missing, short))) if more - frozen >= missing => {
                Quiesced::unknown(format!("{short}; {}, and could have let go in between", others(more)))
            }
            (_, Some((_, short))) => Quiesced::no(short),
            (_, None) if freezable.is_unanswered() => {
                Quiesced::unknown(format!("{all}{}", freezable.remark()))
            }
            (more, None) if more > frozen => Quiesced::yes(format!("{all}; {}", others(more))),
            (_, None) => Quiesced::yes(format!("{all}{}", freezable.remark())),
        }
    }

    /// What it means for the rest that all is thawed, and the agent tells an error all the same.
    fn after_failed_thaw(&self, error: &AgentError) -> Quiesced {
        match self.0.freezable.borrow().beside(self.frozen()) {
            Some((_, short)) => Quiesced::unknown(format!("{short}; the guest is thawed, but {error}")),
            None => thawed_with(error),
        }
    }

    fn tell_frozen_for(&self, thaw: &Thaw, verdict: Quiesced) {
        // What was best effort and failed has said why already.
        let State::AtRest { since, .. } = self.0.state.get() else { return };
        // Of several thaws the last has done it, unless one before it was lost: then nobody knows which.
        let until = thaw.sent.filter(|_| !thaw.lost);
        self.expect(Quiesced { frozen_for: until.map(|until| until.saturating_sub(since)), ..verdict });
    }

    /// Leaves a thaw with an agent that says nothing: should it come to the freeze, it comes to the thaw behind it.
    async fn leave_a_thaw(&self) {
        let deadline = self.0.env.now() + PAUSE;
        let left = self.ask(deadline, async |agent| agent.leave("guest-fsfreeze-thaw", deadline).await).await;
        if let Err(error) = left {
            tracing::debug!(%error, "no thaw could be left with the agent");
        }
    }

    /// Asks the agent, over a new connection if there is none.
    async fn ask<R>(
        &self,
        deadline: Duration,
        ask: impl AsyncFnOnce(&mut Agent<E>) -> Result<R, AgentError>,
    ) -> Result<R, AgentError> {
        let port = self.0.port.as_ref().ok_or(AgentError::NotConfigured)?;
        let held = self.0.agent.take();
        let mut agent = match held {
            Some(agent) => agent,
            None => Agent::connect(&self.0.env, port, deadline).await?,
        };
        let answer = ask(&mut agent).await;
        if !matches!(answer, Err(AgentError::NotConnected(_))) {
            self.0.agent.replace(Some(agent));
        }
        answer
    }
}

/// A thaw that may take several tries.
struct Thaw {
    /// When it was sent last.
    sent: Option<Duration>,
    /// One was sent, and what became of it is not known.
    lost: bool,
}

/// What it means for the rest that all is thawed, and the agent tells an error all the same.
fn thawed_with(error: &AgentError) -> Quiesced {
    let words = mark::told(error);
    match error {
        // Windows holds its writers for ten seconds, and says only at the thaw that it no longer did.
        AgentError::Failed { error, .. } if error.desc.contains("10 seconds") => {
            Quiesced::no(format!("the guest had been let go before the thaw: {words}"))
        }
        AgentError::Failed { error, .. } if error.desc.contains("hook") => {
            Quiesced::yes(format!("the guest is thawed, but {words}"))
        }
        _ => Quiesced::unknown(format!("the guest is thawed, but {words}")),
    }
}

/// So many file systems, in words.
pub fn systems(count: u64) -> String {
    format!("{count} file system{}", if count == 1 { "" } else { "s" })
}
