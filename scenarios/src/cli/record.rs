//! `freezeframe record`: plays scenarios on a real QEMU and writes down what was said.
#![allow(clippy::disallowed_methods, reason = "writes the transcripts that were asked for")]

use std::fs;

use camino::Utf8Path;

use super::{
    CliError, RecordArgs,
    interrupt::Interrupt,
    output::{complain, print},
    real::Real,
};
use crate::{language::World, suite, transcript::render};

/// Records. True if every scenario went as it should.
pub(super) fn record(arguments: &RecordArgs) -> Result<bool, CliError> {
    let selection = &arguments.selection;
    let cases = suite::load(&selection.paths, selection.filter.as_deref())?;
    let mut real = Real::new(&Interrupt::listen().map_err(CliError::Runtime)?)?;
    let binary = real.ask(&arguments.qemu, &arguments.launch)?;
    let cases = cases.iter().filter(|case| case.is_for(binary.release) && case.is_played_on(World::Qemu));
    let mut well = true;
    for case in cases {
        let run = real.play(case, &binary, None)?;
        let name = format!("{}@{}.txt", case.scenario.id, binary.version_name());
        match &arguments.output {
            Some(folder) => write(&folder.join(&name), &render(&run.lines()))?,
            None => print(&format!("# {name}\n{}\n", render(&run.lines())))?,
        }
        for finding in &run.findings {
            well = false;
            complain(&format!("{name}: {finding}"));
        }
    }
    Ok(well)
}

fn write(path: &Utf8Path, text: &str) -> Result<(), CliError> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|source| CliError::Write { path: path.to_owned(), source })
}
