//! The scenario language: what may stand in a scenario file, and what is wrong with one that is wrong.
//!
//! A scenario is TOML 1.0. The types in here are the one truth about it: serde reads them, and the JSON
//! Schema that editors use ([`json_schema`]) is made from them. A file is read in four passes:
//!
//! ```text
//! text -> tree:     TOML syntax, spans kept                       stops here when it is no TOML
//!      -> shape:    keys, types and forms, against the schema     \ both look at all that is sound,
//!      -> meaning:  names, ids, what goes with what, raw JSON     / and report together
//!      -> types:    serde, only when nothing was found
//! ```
//!
//! So all the mistakes of a file come at once, each with its line, its column and what would be right
//! ([`Diagnostics`]). Nothing in here plays a scenario, and only `load` touches files.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `scenario` | a scenario as a whole: what it shows, where it counts |
//! | `machine`, `step`, `describe`, `fault`, `expect` | its parts |
//! | `schedule` | a pinned order, and a finding that is kept |
//! | `forms` | how names, durations and sizes are written |
//! | `schema` | the JSON Schema |
//! | `tree`, `shape`, `meaning` | the passes |
//! | `reach` | what raw commands may reach on a real QEMU |
//! | `load` | files and folders |

mod describe;
mod expect;
mod fault;
mod forms;
mod load;
mod machine;
mod meaning;
mod plug;
mod reach;
mod scenario;
mod schedule;
mod schema;
mod shape;
mod snapshot;
mod step;
mod tamper;
mod tree;

#[cfg(test)]
mod tests;

use camino::Utf8Path;
use serde::Deserialize;

pub use crate::diagnostic::{Diagnostic, Diagnostics};
pub use describe::Describe;
pub use expect::{Expect, GuestState, Quiesced};
pub use fault::{At, Fault, FaultKind, HostError, JobStatus, Moment, Point, QmpError};
pub use forms::{Size, Timespan, WrongForm};
pub use load::{FindError, LoadError, find, load_all};
pub use machine::{
    Agent, AgentHook, Disk, DiskStorage, Format, HookScript, HostFile, Machine, OnPanic, OnWatchdog,
    OnWriteError, Power,
};
pub use plug::Plug;
pub(crate) use reach::beyond;
pub use scenario::{Level, Release, Scenario, World};
pub use schedule::{Choice, Invariant, Regression};
pub use schema::json_schema;
pub use snapshot::{Flag, MemoryFormat, MemoryPlace, Place, Quiesce, Snapshot};
pub use step::{
    Action, AgentRequest, Becomes, Delete, DeleteFlag, ErrorClass, Fails, GuestAct, Hold, HostAct, Probe,
    Qmp, Recover, Revert, RevertFlag, Shorten, Step, StorageMethod, StorageStep, StorageVerb,
};
pub use tamper::{Folder, Tamper};

impl Scenario {
    /// Reads the text of a scenario file. The file's path is for the diagnostics, and for the id: below a
    /// folder named `suite` the id is the path.
    ///
    /// # Errors
    /// All that is wrong with the text.
    pub fn parse(file: &Utf8Path, text: &str) -> Result<Scenario, Diagnostics> {
        Scenario::parse_with_codes(file, text, &[])
    }

    /// The same, and each `fails.code` must be one of these codes. None given: any code will do.
    ///
    /// # Errors
    /// All that is wrong with the text.
    pub fn parse_with_codes(file: &Utf8Path, text: &str, codes: &[&str]) -> Result<Scenario, Diagnostics> {
        let wrong = |found| Diagnostics::new(file, text, found);
        let tree = tree::read(text).map_err(wrong)?;
        let root = tree::Node::root(&tree);
        let mut found = shape::check(root, schema::schema());
        found.extend(meaning::check(root, file, text, codes));
        if !found.is_empty() {
            return Err(wrong(found));
        }
        let reader = toml::Deserializer::parse(text).map_err(|error| wrong(vec![(&error).into()]))?;
        Scenario::deserialize(reader).map_err(|error| wrong(vec![(&error).into()]))
    }
}
