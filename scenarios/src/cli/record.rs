//! `freezeframe record`: plays scenarios on a real QEMU and writes down what was said.
#![allow(clippy::disallowed_methods, reason = "writes the transcripts that were asked for")]

use std::{fs, rc::Rc};

use camino::Utf8Path;

use super::{CliError, RecordArgs, conform::block_on};
use crate::{
    machine,
    play::{self, Run},
    suite::{self, Case},
    transcript::render,
    world::{
        World as _,
        qemu::{Binary, QemuWorld},
    },
};

/// Records. True if every scenario went as it should.
pub(super) fn record(arguments: &RecordArgs) -> Result<bool, CliError> {
    let selection = &arguments.selection;
    let cases = suite::load(&selection.paths, selection.filter.as_deref())?;
    block_on(async {
        let binary = Binary::ask(&arguments.qemu, &arguments.accelerator.accel).await?;
        let mut well = true;
        for case in cases.iter().filter(|case| case.is_for(binary.release)) {
            let run = real(case, &binary).await?;
            let name = format!("{}@{}.txt", case.scenario.id, binary.version_name());
            match &arguments.output {
                Some(folder) => write(&folder.join(&name), &render(&run.lines()))?,
                None => print!("# {name}\n{}\n", render(&run.lines())),
            }
            for finding in &run.findings {
                well = false;
                eprintln!("{name}: {finding}");
            }
        }
        Ok(well)
    })?
}

async fn real(case: &Case, binary: &Binary) -> Result<Run, CliError> {
    let world = QemuWorld::start(binary, &machine::of(&case.scenario)).await?;
    let capabilities = Rc::new(play::capabilities(&world).await?);
    let run = play::play(&case.scenario, &world, capabilities).await;
    world.kill_qemu().await;
    Ok(run?)
}

fn write(path: &Utf8Path, text: &str) -> Result<(), CliError> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|source| CliError::Write { path: path.to_owned(), source })
}
