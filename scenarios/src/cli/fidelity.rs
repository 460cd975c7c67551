//! `freezeframe fidelity`: how faithful the simulator is to recordings of real QEMU.
#![allow(clippy::disallowed_methods, reason = "writes the report where the user wants it")]

use super::{CliError, FidelityArgs, output::print};
use crate::fidelity::{known::Known, measure, recording};

/// Replays and compares. True if nothing differs but what is known to.
pub(super) fn fidelity(arguments: &FidelityArgs) -> Result<bool, CliError> {
    let known = match &arguments.known {
        Some(path) => Known::read(path)?,
        None => Known::own(),
    };
    let recordings = recording::read_all(&arguments.recordings, arguments.release)?;
    print(&format!(
        "freezeframe {} fidelity of {} recordings\n",
        env!("CARGO_PKG_VERSION"),
        recordings.len()
    ))?;
    let report = measure(&recordings, known);
    if let Some(path) = &arguments.json {
        let mut json = serde_json::to_string_pretty(&report).expect("a report holds only text and numbers");
        json.push('\n');
        let unwritable = |source| CliError::Write { path: path.clone(), source };
        std::fs::write(path, json).map_err(unwritable)?;
    }
    for line in report.lines() {
        print(&format!("{line}\n"))?;
    }
    print(&format!("{}\n", report.total()))?;
    Ok(report.is_clean())
}
