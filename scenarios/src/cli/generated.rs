//! What is made from the command's own description: completions for shells, and manual pages.

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, CliError, output};

#[derive(Debug, Args)]
#[command(after_help = "\
bash: freezeframe completions bash > ~/.local/share/bash-completion/completions/freezeframe
zsh:  freezeframe completions zsh > DIR/_freezeframe, with DIR in $fpath
fish: freezeframe completions fish > ~/.config/fish/completions/freezeframe.fish")]
pub(super) struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL", value_parser = clap::value_parser!(Shell))]
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
To read one:      freezeframe man snapshot create-as | man -l -
To install all:   freezeframe man --output ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Of which verb: `snapshot create-as` [default: of the command as a whole]
    #[arg(value_name = "VERB", conflicts_with = "output")]
    verb: Vec<String>,
    /// Write all pages into this folder instead, which must be there
    #[arg(long, value_name = "DIR")]
    output: Option<Utf8PathBuf>,
}

/// Prints what a shell needs to complete the command.
pub(super) fn completions(arguments: &CompletionsArgs) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "freezeframe", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a manual page, or writes them all.
pub(super) fn man(arguments: &ManArgs) -> Result<ExitCode, CliError> {
    if let Some(folder) = &arguments.output {
        let written = clap_mangen::generate_to(Cli::command(), folder);
        written.map_err(|source| CliError::Write { path: folder.clone(), source })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut all = Cli::command();
    all.build();
    let mut page = Vec::new();
    let rendered = Man::new(find(&all, &arguments.verb)?.clone()).render(&mut page);
    rendered.map_err(|source| CliError::Write { path: "a manual page".into(), source })?;
    output::print(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::SUCCESS)
}

fn find<'c>(command: &'c Command, verb: &[String]) -> Result<&'c Command, CliError> {
    let Some((first, rest)) = verb.split_first() else { return Ok(command) };
    let next = command.find_subcommand(first);
    find(next.ok_or_else(|| CliError::Usage(format!("there is no verb `{first}`")))?, rest)
}
