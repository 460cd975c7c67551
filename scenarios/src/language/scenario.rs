//! A scenario as a whole: what it shows, and where it counts.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Choice, Expect, Fault, FaultKind, Machine, Regression, Step, forms::ScenarioId};

/// One scenario: a machine, what is done to it, what goes wrong meanwhile, and how it must end.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// The file's path below `suite/`, without `.toml`.
    #[schemars(with = "ScenarioId")]
    pub id: String,
    /// What happens, in one line.
    #[schemars(length(min = 1))]
    pub title: String,
    /// Why it matters, and what a careless client would do. A scenario that only the simulator can play
    /// says here why.
    #[schemars(length(min = 1))]
    pub why: String,
    /// Bug reports and documents that it comes from: `LP#1754360`, a URL.
    #[serde(default)]
    pub refs: Vec<String>,
    /// How binding the expected outcome is. Default: must.
    #[serde(default)]
    pub level: Level,
    /// The QEMU releases that it holds for. Default: all.
    #[serde(default = "Release::all")]
    #[schemars(length(min = 1))]
    pub releases: BTreeSet<Release>,
    /// The worlds that it can be played in. Default: sim and qemu.
    #[serde(default = "World::all")]
    #[schemars(length(min = 1))]
    pub targets: BTreeSet<World>,
    /// The machine before the first step.
    pub machine: Machine,
    /// What is done, in this order.
    #[serde(rename = "step")]
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// What goes wrong meanwhile. A fault that never strikes fails the scenario.
    #[serde(rename = "fault", default)]
    pub faults: Vec<Fault>,
    /// What goes otherwise than it usually does. A choice that never comes up fails the scenario. Default: all goes as usual.
    #[serde(default)]
    pub schedule: Vec<Choice>,
    /// It is a finding that is kept, in the smallest form: how it goes is held against what must hold in any case, and against
    /// how it goes without what was added. It has no transcript. Default: it is none.
    #[serde(default)]
    pub regression: Option<Regression>,
    /// How everything must be after the last step. What is not named is not compared; the invariants of
    /// the simulator hold in any case.
    #[serde(default)]
    pub expect: Expect,
}

/// How binding an outcome is, as RFC 2119 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Any other outcome is a defect.
    #[default]
    Must,
    /// Another outcome needs a reason.
    Should,
    /// One outcome among others that are as good.
    May,
}

/// A QEMU release whose behaviour was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum Release {
    /// QEMU 5.2.
    #[serde(rename = "5.2")]
    V5_2,
    /// QEMU 7.2.
    #[serde(rename = "7.2")]
    V7_2,
    /// QEMU 10.0.
    #[serde(rename = "10.0")]
    V10_0,
    /// QEMU 11.1.
    #[serde(rename = "11.1")]
    V11_1,
}

impl Release {
    fn all() -> BTreeSet<Release> {
        BTreeSet::from([Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1])
    }
}

impl From<Release> for freezeframe_sim::Release {
    fn from(release: Release) -> Self {
        match release {
            Release::V5_2 => freezeframe_sim::Release::V5_2,
            Release::V7_2 => freezeframe_sim::Release::V7_2,
            Release::V10_0 => freezeframe_sim::Release::V10_0,
            Release::V11_1 => freezeframe_sim::Release::V11_1,
        }
    }
}

/// Where a scenario is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// The simulator.
    Sim,
    /// A real QEMU whose guest runs nothing.
    Qemu,
    /// A real QEMU whose guest boots Linux with an agent and a program that writes to every disk: `ci/build-guest.sh`. It has
    /// 96 MiB of memory at least.
    Guest,
}

impl World {
    fn all() -> BTreeSet<World> {
        BTreeSet::from([World::Sim, World::Qemu])
    }
}

impl Scenario {
    /// Whether a fault of it kills the driver.
    pub fn kills_the_driver(&self) -> bool {
        self.faults.iter().any(|fault| fault.kind == FaultKind::KillDriver)
    }
}
