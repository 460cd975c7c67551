//! What a scenario pins of its order, and what it is kept for: the two tables that make a finding of a campaign a scenario.
//!
//! A scenario goes in the simulator's usual order unless a `[[schedule]]` names answers that are not the usual ones. A `[regression]`
//! is a finding that is kept: its `added` faults and its schedule are what a campaign has put to the scenario, and it is held
//! against how the same goes without them.

use std::num::NonZeroU32;

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
    pub shows: Shows,
}

/// What did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shows {
    /// The guest is left frozen or stopped.
    Guest,
    /// A job or a node is left.
    Leftovers,
    /// An image does not stand on what it is to stand on.
    Chains,
    /// A write is lost.
    Writes,
    /// The disks of a snapshot are of several moments.
    PointInTime,
    /// A recorded snapshot cannot be gone back to.
    Records,
    /// A file is nobody's.
    Files,
    /// A snapshot that is told to be of a guest at rest is not.
    Quiesced,
    /// What was told is not what happened.
    Told,
    /// A second try does not converge.
    Converges,
    /// It does not end in time.
    Bound,
    /// The program breaks off.
    Panic,
    /// A step ends otherwise than is written: here that is looked at too.
    Written,
}

impl Shows {
    /// The word in the language.
    pub fn name(self) -> &'static str {
        match self {
            Shows::Guest => "guest",
            Shows::Leftovers => "leftovers",
            Shows::Chains => "chains",
            Shows::Writes => "writes",
            Shows::PointInTime => "point-in-time",
            Shows::Records => "records",
            Shows::Files => "files",
            Shows::Quiesced => "quiesced",
            Shows::Told => "told",
            Shows::Converges => "converges",
            Shows::Bound => "bound",
            Shows::Panic => "panic",
            Shows::Written => "written",
        }
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
