//! `disk tethered`: becomes another program, which the system asks to end as soon as the command is dead that has started it; so that a
//! `disk export` that is killed by force leaves nobody serving. Started by export.
//!
//! ```text
//! export -- starts --> this command once more: SIGTERM when the parent dies -- exec --> qemu-storage-daemon
//! ```
//! Source: prctl(2), `PR_SET_PDEATHSIG`. It stays set over execve(2), but for a program that gets other rights by it. The parent is the thread
//! that has started the child: that of `main`, which ends with its process.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the thin shell that becomes another program"
)]

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use camino::Utf8PathBuf;
use clap::Args;
use freezeframe_driver::env::HostCommand;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::cli::output;

/// The exit code of a program that could not be started, as shells have it.
pub(super) const NOT_STARTED: u8 = 127;

#[derive(Debug, Args)]
pub(super) struct TetheredArgs {
    /// Who starts it, by its number
    #[arg(long)]
    parent: u32,
    program: Utf8PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The same program, which ends with this process.
///
/// # Errors
/// This command cannot be found.
pub(super) fn tethered(command: &HostCommand) -> io::Result<HostCommand> {
    let own = Utf8PathBuf::try_from(std::env::current_exe()?).map_err(|error| error.into_io_error())?;
    let parent = format!("--parent={}", std::process::id());
    let mut arguments =
        ["disk", "tethered", &parent, "--", command.program.as_str()].map(str::to_owned).to_vec();
    arguments.extend(command.arguments.iter().cloned());
    Ok(HostCommand { program: own, arguments, ..command.clone() })
}

/// Becomes the program. Only where it cannot, or where nobody is left to end with, this returns.
pub(super) fn become_it(arguments: &TetheredArgs) -> ExitCode {
    let TetheredArgs { parent, program, arguments } = arguments;
    let why = match set_parent_process_death_signal(Some(Signal::TERM)) {
        Ok(()) if !is_child_of(*parent) => "whoever has started it is dead".to_owned(),
        Ok(()) => Command::new(program).args(arguments).exec().to_string(),
        Err(error) => error.to_string(),
    };
    output::complain(&format!("cannot run `{program}`: {why}"));
    ExitCode::from(NOT_STARTED)
}

/// One that has died before has a signal for nobody.
fn is_child_of(parent: u32) -> bool {
    getppid().is_some_and(|now| now.as_raw_nonzero().get().cast_unsigned() == parent)
}
