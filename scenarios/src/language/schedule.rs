//! What a scenario pins of its order, and what it is kept for: the two tables that make a finding of a campaign a scenario.
//!
//! A scenario goes in the simulator's usual order unless a `[[schedule]]` names answers that are not the usual ones. A `[regression]`
//! is a finding that is kept: its `added` faults and its schedule are what a campaign has put to the scenario, and it is held
//! against how the same goes without them.

use std::{fmt, num::NonZeroU32};

use freezeframe_sim::{
    Oracle,
    oracle::{Deviation, Trace},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Fault, Scenario};

/// Something that goes otherwise than it usually does. On the simulator alone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Choice {
    /// What is asked about, in the simulator's word: `latency`, `task`.
    #[schemars(length(min = 1))]
    pub choice: String,
    /// At which time that it is asked, counted from 1. Default: 1.
    #[serde(default = "once")]
    pub nth: NonZeroU32,
    /// The answer: the usual one is 0.
    pub answer: NonZeroU32,
}

/// A finding that is kept as a scenario: how the steps end is not looked at, but what must hold in any case.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Regression {
    /// What did not hold.
    pub shows: Invariant,
}

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Invariant {
    /// The guest is not left frozen or stopped.
    Guest,
    /// No job and no node is left.
    Leftovers,
    /// Images and what they stand on.
    Chains,
    /// No write is lost.
    Writes,
    /// All disks of a snapshot are of one moment.
    PointInTime,
    /// Recorded snapshots can be gone back to.
    Records,
    /// Every file is accounted for.
    Files,
    /// A snapshot of a guest at rest is one.
    Quiesced,
    /// What was told is what happened.
    Told,
    /// A second try converges.
    Converges,
    /// It ends in time.
    Bound,
    /// The program does not break off.
    Panic,
    /// A step ends as is written: of a finding in another order that is looked at too.
    Written,
}

impl Invariant {
    /// The word in the language.
    pub fn name(self) -> &'static str {
        match self {
            Invariant::Guest => "guest",
            Invariant::Leftovers => "leftovers",
            Invariant::Chains => "chains",
            Invariant::Writes => "writes",
            Invariant::PointInTime => "point-in-time",
            Invariant::Records => "records",
            Invariant::Files => "files",
            Invariant::Quiesced => "quiesced",
            Invariant::Told => "told",
            Invariant::Converges => "converges",
            Invariant::Bound => "bound",
            Invariant::Panic => "panic",
            Invariant::Written => "written",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Scenario {
    /// What its schedule says, as a trace.
    pub fn trace(&self) -> Trace {
        let deviation = |choice: &Choice| Deviation {
            label: choice.choice.clone().into(),
            occurrence: choice.nth.get() - 1,
            value: choice.answer.get() as usize,
        };
        self.schedule.iter().map(deviation).collect()
    }

    /// The order in which it is played where nobody asks for another: what its schedule says, and else the usual one.
    pub fn order(&self) -> Oracle {
        if self.schedule.is_empty() { Oracle::default_order() } else { Oracle::replay(self.trace()) }
    }

    /// The same without what a campaign has put to it, and the faults that are thereby left out.
    pub fn without_what_was_added(&self) -> (Scenario, Vec<Fault>) {
        let mut scenario = self.clone();
        scenario.schedule.clear();
        let added = scenario.faults.extract_if(.., |fault| fault.added).collect();
        (scenario, added)
    }
}

fn once() -> NonZeroU32 {
    NonZeroU32::MIN
}
