//! Findings that are kept: a scenario with the faults that a campaign has added and the order that it has chosen, played while the
//! oracle looks on, and held against how it goes without them.
//!
//! ```text
//! the scenario without its `added` faults, in the usual order --> how it usually goes
//! the scenario as it stands, in the order of its schedule     --> what does not hold: the finding is back
//!                                                             --> what of it never came up: it shows nothing any more
//! ```
//!
//! It is written by [`crate::shrink`], and by hand. What a scenario of the suite expects of a transcript it does not: the driver
//! may come to another end than it once did, so long as what must hold in any case holds.

use std::{fmt, rc::Rc};

use freezeframe_sim::{Oracle, Release};

use crate::{
    explore::{self, Finding, Subject},
    language::{Invariant, Scenario},
    sweep,
    world::sim::Simulator,
};

/// How a kept finding went.
#[derive(Debug, Default)]
pub struct Played {
    /// What does not hold.
    pub findings: Vec<Finding>,
    /// What of the file never came up, in words: it shows less than it did.
    pub stale: Vec<String>,
}

impl Played {
    /// Whether that is among what does not hold.
    pub fn shows(&self, what: Invariant) -> bool {
        self.findings.iter().any(|finding| finding.shows == what)
    }
}

/// Plays a kept finding, in the order of its schedule or in another one.
pub fn play(
    simulator: &mut Simulator,
    scenario: &Scenario,
    release: Release,
    order: Option<Oracle>,
) -> Played {
    let (usual, added) = scenario.without_what_was_added();
    let survey = match sweep::survey(simulator, &usual, release) {
        Ok(survey) => Rc::new(survey),
        Err(stuck) => {
            let finding = Finding { shows: Invariant::Bound, what: stuck.to_string(), told: None };
            return Played { findings: vec![finding], stale: Vec::new() };
        }
    };
    let mut findings: Vec<_> = survey.violations.iter().cloned().map(Finding::from).collect();
    let subject = Subject::new(&usual, release, survey, &added);
    let subject = match scenario.regression.as_ref().map(|regression| regression.shows) {
        Some(Invariant::Written) | None => subject.as_written(),
        Some(_) => subject.however_steps_end(),
    };
    let played = explore::play(simulator, &subject, order.unwrap_or_else(|| scenario.order()));
    findings.extend(played.findings);
    let mut stale = Vec::new();
    if played.struck < added.len() {
        stale.push(format!(
            "only {} of its {} added faults struck: the driver does not come there any more",
            played.struck,
            added.len()
        ));
    }
    if *played.oracle.trace() != scenario.trace() {
        stale.push(format!("of its schedule only `{}` came up", played.oracle.trace()));
    }
    Played { findings, stale }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.told {
            Some(told) => write!(f, "\ntold: {told}"),
            None => Ok(()),
        }
    }
}
