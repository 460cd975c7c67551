//! Every fault at every point: plays a scenario once, collects the points at which something can go wrong, and plays it again
//! for each of them and each thing that can go wrong there. What must hold then is not what the scenario expects but what holds
//! in any case: [`crate::oracle`].
//!
//! ```text
//! survey: the scenario as it stands --> its points, and how each step ends (the oracle looks on here too)
//!   for each point and kind:  the scenario and one more fault
//!        each operation: look, let it go, look, ask the oracle
//!        the one that was struck and not done: once more without faults --> it must converge
//!        the one at which the driver was killed: recover --> it is as before, or done; else it is named
//!   for some pairs:  a second fault at a point that came behind the first
//! ```
//!
//! All of it is virtual time on the simulator, in the scenario's own order: a run is decided by the scenario, the release and the
//! faults. It does not choose orders: that is for [`crate::explore`], which looks on in the same way.

mod kinds;
mod points;
mod watcher;

use std::{rc::Rc, time::Duration};

use freezeframe_driver::request::WITHIN;
use freezeframe_sim::{Oracle, Release};

use self::points::is_operation;
pub(crate) use self::watcher::Watcher;
pub use self::{
    kinds::{Kind, faults_at, toml},
    points::Place,
};
use crate::{
    language::{self, Action, Fault, FaultKind, Power, Scenario},
    oracle::{Invariant, State, Violation},
    play::{CannotPlay, Run, Told},
    world::sim::Simulator,
};

/// A scenario as it goes where nothing is added that could go wrong.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Where a fault can strike in its operations.
    pub places: Vec<Place>,
    /// What the oracle has found all the same.
    pub violations: Vec<Violation>,
    /// How each step ended.
    steps: Vec<Ended>,
    /// How many faults the scenario has of its own.
    faults: usize,
}

/// How a step ended.
#[derive(Debug, Clone)]
struct Ended {
    told: Told,
    /// How everything stood then.
    state: State,
    /// How the guest stood before.
    guest: Option<&'static str>,
    /// How many places had come by then.
    places: usize,
    /// What the last fault was by then, in words.
    fault: String,
}

/// How one run with added faults went.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What did not hold.
    pub violations: Vec<Violation>,
    /// The places that came behind the last fault, where another could strike.
    pub behind: Vec<Place>,
    /// How many of the added faults struck.
    pub struck: usize,
    /// In which step a fault has struck first, and in which last, counted from 0.
    pub struck_in: Option<(usize, usize)>,
    /// How much the simulator had asked when each step was over.
    pub asked: Vec<u64>,
}

/// Plays a scenario as it stands.
///
/// # Errors
/// [`CannotPlay`].
pub fn survey(
    simulator: &mut Simulator,
    scenario: &Scenario,
    release: Release,
) -> Result<Survey, CannotPlay> {
    let mut watcher = None;
    watched(simulator, scenario, release, None, scenario.order(), &mut watcher)?;
    Ok(watcher.map(|watcher| watcher.survey()).unwrap_or_default())
}

/// The faults of these kinds that can be added to a scenario, one at a time, at these places.
pub fn single_faults<'a>(
    scenario: &'a Scenario,
    places: &'a [Place],
    kinds: &'a [Kind],
) -> impl Iterator<Item = Fault> + 'a {
    let guest = matches!(scenario.machine.agent, Some(language::Agent::Linux | language::Agent::Windows));
    // A machine that is off has no monitor yet on which a scenario could let something go wrong.
    let is_off = scenario.machine.state == Power::Off;
    let places = places.iter().filter(move |place| {
        !is_off || matches!(place.moment, language::Moment::Program(_) | language::Moment::File(_))
    });
    let recovers = |place: &Place| is_recovered(scenario, place);
    places.flat_map(move |place| {
        let faults = faults_at(place, kinds, guest).into_iter();
        // Killed where it is killed already, it would be killed once more later.
        let is_its_own = |fault: &Fault| scenario.faults.contains(fault);
        faults.filter(move |fault| {
            fault.kind != FaultKind::KillDriver || (recovers(place) && !is_its_own(fault))
        })
    })
}

/// Whether the driver writes down what it does there, so that its work can be recovered when it is killed.
fn is_recovered(scenario: &Scenario, place: &Place) -> bool {
    let action = &scenario.steps[place.step].action;
    scenario.machine.records && is_operation(action) && !matches!(action, Action::Storage(_))
}

/// Plays a scenario with these faults beside its own.
///
/// # Errors
/// [`CannotPlay`].
pub fn run(
    simulator: &mut Simulator,
    scenario: &Scenario,
    release: Release,
    survey: &Rc<Survey>,
    faults: &[Fault],
) -> Result<Outcome, CannotPlay> {
    let with = with_faults(scenario, faults);
    let mut watcher = None;
    let played = watched(simulator, &with, release, Some(survey.clone()), with.order(), &mut watcher);
    let mut outcome = watcher.map(|watcher| watcher.outcome()).unwrap_or_default();
    match played {
        Ok(_) => Ok(outcome),
        // A driver that waits for what never comes has no bound at all.
        Err(stuck) if outcome.struck > 0 => {
            let (what, told) = (stuck.to_string(), "nothing".to_owned());
            outcome.violations.push(Violation { invariant: Invariant::Bound, step: 0, what, told });
            Ok(outcome)
        }
        Err(error) => Err(error),
    }
}

/// A scenario with these faults beside its own.
pub(crate) fn with_faults(scenario: &Scenario, faults: &[Fault]) -> Scenario {
    let mut with = scenario.clone();
    // In front: where two wait for the same moment, the added one is meant.
    with.faults.splice(..0, faults.iter().cloned());
    with
}

/// Plays a scenario while a new `watcher` looks on. It is the caller's before the play begins: it knows what has happened even
/// if the play breaks off.
pub(crate) fn watched(
    simulator: &mut Simulator,
    scenario: &Scenario,
    release: Release,
    usual: Option<Rc<Survey>>,
    oracle: Oracle,
    watcher: &mut Option<Rc<Watcher>>,
) -> Result<Run, CannotPlay> {
    simulator.play_watched(scenario, release, oracle, |world| {
        let new = Rc::new(Watcher::new(scenario, world, usual));
        *watcher = Some(new.clone());
        new
    })
}

/// How long an action may take by what it was asked.
fn within(action: &Action) -> Duration {
    let asked = match action {
        Action::Snapshot(snapshot) => snapshot.within,
        Action::Revert(revert) => revert.within,
        Action::Delete(delete) => delete.within,
        _ => None,
    };
    asked.map_or(WITHIN, language::Timespan::duration)
}
