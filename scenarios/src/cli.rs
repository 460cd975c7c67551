//! The `freezeframe` command.
//!
//! Exit codes: 0 all as expected; 1 findings; 2 usage, or input or output that cannot be used; 75 the surroundings
//! failed, try again; 128 and the signal's number when a signal ended it.

mod conform;
mod disk;
mod explore;
mod fidelity;
mod fs;
mod generated;
mod interrupt;
mod output;
mod real;
mod record;
mod run;
mod serve;
mod shrunk;
mod snapshot;
mod sweep;
mod told;
mod undefine;
mod workers;

use std::{process::ExitCode, time::Duration};

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};
use freezeframe_driver::{disk::DiskError, error::Code};
use freezeframe_sim::Release;

use self::{fs::FsError, interrupt::Signal, snapshot::SnapshotError};
use crate::{
    diagnostic::Diagnostics,
    fidelity::{known::KnownError, recording::RecordingError},
    language::json_schema,
    play::CannotPlay,
    serve::{ServeError, subject::SubjectError},
    suite::SuiteError,
    world::{
        guest::GuestError,
        qemu::{self, StartError},
    },
};

/// Scenarios for snapshot software, on a simulated or a real QEMU.
#[derive(Debug, Parser)]
#[command(name = "freezeframe", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Of what a schema is printed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaOf {
    /// Scenario files
    Scenario,
    /// What a storage program is asked, and answers
    StorageExec,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play scenarios and compare them with their expected transcripts.
    Run(RunArgs),
    /// Play every scenario on the simulator and on real QEMUs, and compare the two.
    Conform(ConformArgs),
    /// Play scenarios on a real QEMU and write down what was said.
    Record(RecordArgs),
    /// Replay recordings of real QEMU on the simulator and count the lines that are the same.
    ///
    /// Exit codes: 0 every release reaches what --least-equal and --least-explained ask for, recorded and live; 1 one does
    /// not, or a known difference is none any more; 2 recordings, known differences or a QEMU that cannot be used.
    Fidelity(FidelityArgs),
    /// Play scenarios with every fault at every point, and hold how that ends against what must hold in any case.
    ///
    /// Exit codes: 0 everything held; 1 something did not; 2 scenarios that cannot be read.
    Sweep(sweep::SweepArgs),
    /// Play scenarios in every order, with and without a fault, and hold how that ends against what must hold in any case.
    ///
    /// An order is what the simulator answers wherever something could have gone otherwise: which task or timer goes first, how
    /// late a reply is, where bytes are cut, what ends before what. A finding tells its trace, the answers that were not the usual
    /// ones, and the command that plays just that order again.
    ///
    /// Exit codes: 0 everything held, also where time was too short for all orders; 1 something did not; 2 scenarios that cannot
    /// be read, or options that do not go together.
    Explore(explore::ExploreArgs),
    /// Put the simulated machine of a scenario on real sockets, for other programs.
    Serve(serve::ServeArgs),
    /// Snapshots of a machine.
    Snapshot(snapshot::SnapshotArgs),
    /// Freeze and thaw the file systems of a guest, through its agent.
    Fs(fs::FsArgs),
    /// Forget the records of a machine's snapshots.
    Undefine(undefine::UndefineArgs),
    /// Snapshots of disks, taken by the storage below them.
    Disk(disk::DiskArgs),
    /// Print the JSON Schema of scenario files, or of what passes between the driver and a storage program.
    Schema {
        /// Of what
        #[arg(value_enum, default_value_t = SchemaOf::Scenario)]
        of: SchemaOf,
    },
    /// Print a shell's completions of this command.
    Completions(generated::CompletionsArgs),
    /// Print a manual page, or write them all.
    Man(generated::ManArgs),
}

/// Where a scenario is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The simulator.
    Sim,
    /// A real QEMU.
    Qemu,
}

/// Which scenarios.
#[derive(Debug, Args)]
struct Selection {
    /// Scenario files, or folders of them [default: freezeframe's own suite]
    #[arg(value_name = "PATH")]
    paths: Vec<Utf8PathBuf>,
    /// Only scenarios whose id contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// How real QEMUs are started.
#[derive(Debug, Args)]
struct Launch {
    /// QEMU's accelerator; a /dev/kvm that opens and then hangs exists, so kvm must be asked for
    #[arg(long, value_name = "NAME", default_value = "tcg", value_parser = ["tcg", "kvm"])]
    accel: String,
    /// How long a QEMU may take until its monitor answers
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    start_within: u16,
}

impl Launch {
    /// The options that a command line needs to start them in the same way.
    fn repeated(&self) -> String {
        if self.accel == "tcg" { String::new() } else { format!(" --accel {}", self.accel) }
    }
}

impl From<&Launch> for qemu::Launch {
    fn from(launch: &Launch) -> Self {
        Self { accel: launch.accel.clone(), within: Duration::from_secs(launch.start_within.into()) }
    }
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    launch: Launch,
    /// How many are played at the same time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
    /// Where the scenarios are played
    #[arg(long, value_enum, default_value = "sim")]
    target: Target,
    /// The real QEMU, with `--target qemu`
    #[arg(long, value_name = "BIN", required_if_eq("target", "qemu"))]
    qemu: Option<Utf8PathBuf>,
    /// Only this release of the simulator
    #[arg(long, value_name = "R", conflicts_with = "qemu")]
    release: Option<Release>,
    /// Let this seed choose among everything that could go otherwise, and compare the partial order
    #[arg(long, value_name = "N", conflicts_with = "qemu")]
    seed: Option<u64>,
    /// Write the expected transcripts anew
    #[arg(long, conflicts_with_all = ["qemu", "seed", "release"])]
    update: bool,
}

#[derive(Debug, Args)]
struct ConformArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    launch: Launch,
    /// How many are played at the same time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
    /// A real QEMU; may be given several times
    #[arg(long, value_name = "BIN", required = true, num_args = 1..)]
    qemu: Vec<Utf8PathBuf>,
    /// Play those that are for a guest that boots, with the one in this folder: ci/build-guest.sh builds it
    #[arg(long, value_name = "DIR")]
    guest: Option<Utf8PathBuf>,
    /// Play what differs again, up to so many times in all: on a busy machine a real QEMU may be late once. What is the same
    /// then has passed, and is named with what differed before
    #[arg(long, value_name = "N", default_value = "1")]
    tries: std::num::NonZeroU32,
    /// Play everything so many times on the real QEMUs
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: std::num::NonZeroU32,
}

#[derive(Debug, Args)]
struct RecordArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    launch: Launch,
    /// The real QEMU
    #[arg(long, value_name = "BIN")]
    qemu: Utf8PathBuf,
    /// Write each transcript to <DIR>/<id>@<version>.txt instead of standard output
    #[arg(long, value_name = "DIR")]
    output: Option<Utf8PathBuf>,
}

#[derive(Debug, Args)]
struct FidelityArgs {
    /// Folder with recordings, <DIR>/<release>/<name>.jsonl [default: those that freezeframe comes with]
    #[arg(long, value_name = "DIR")]
    recordings: Option<Utf8PathBuf>,
    /// Only this release
    #[arg(long, value_name = "R")]
    release: Option<Release>,
    /// At least so much of each release must be equal; less is a finding, exit code 1
    #[arg(long, value_name = "PERCENT", default_value = "97", value_parser = clap::value_parser!(u8).range(..=100))]
    least_equal: u8,
    /// At least so much must be equal or explained: the rest differs or is not simulated
    #[arg(long, value_name = "PERCENT", default_value = "100", value_parser = clap::value_parser!(u8).range(..=100))]
    least_explained: u8,
    /// Write every difference, with the reason where there is one, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<Utf8PathBuf>,
    /// A real QEMU that every recording of its release is played on too; may be given several times
    #[arg(long, value_name = "BIN", num_args = 1..)]
    qemu: Vec<Utf8PathBuf>,
    #[command(flatten)]
    launch: Launch,
    /// Known differences and their reasons [default: those that freezeframe knows]
    #[arg(long, value_name = "FILE")]
    known: Option<Utf8PathBuf>,
}

/// Why the command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// A real QEMU was named for a run on the simulator.
    #[error("error: `--qemu` goes with `--target qemu`")]
    QemuForSimulator,
    /// The scenarios cannot be read.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// What is to be served cannot be.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The recordings cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The known differences cannot be read.
    #[error(transparent)]
    Known(#[from] KnownError),
    /// The real QEMU cannot be used.
    #[error("error: {0}")]
    Start(#[from] StartError),
    /// The machine does not answer the runner.
    #[error("error: {0}")]
    Play(#[from] CannotPlay),
    /// A signal asked the command to end.
    #[error("ended by a signal; what was started is cleared away")]
    Interrupted(Signal),
    /// A file cannot be read.
    #[error("error: cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: Utf8PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What was done cannot be said.
    #[error("error: cannot write to standard output: {source}. What was to be said there:\n{}", text.trim_end())]
    Unsaid {
        /// What there was to say.
        text: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// An operation on snapshots failed.
    #[error("error: {code}: {0}", code = .0.code())]
    Snapshot(#[from] SnapshotError),
    /// A snapshot of disks by their storage failed.
    #[error("error: {code}: {0}", code = .0.code().name())]
    Disk(#[from] DiskError),
    /// The guest's file systems could not be frozen or thawed.
    #[error("error: {code}: {0}", code = .0.code())]
    Fs(#[from] FsError),
    /// A document has a mistake.
    #[error("{diagnostics}")]
    Document {
        /// libvirt's name for the mistake.
        code: Code,
        /// Where it is.
        diagnostics: Diagnostics,
    },
    /// A file cannot be written.
    #[error("error: cannot write {path}: {source}")]
    Write {
        /// Which.
        path: Utf8PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A machine cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The arguments do not go together.
    #[error("error: {0}")]
    Usage(String),
    /// The runtime cannot be made.
    #[error("error: {0}")]
    Runtime(std::io::Error),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            CliError::QemuForSimulator
            | CliError::Suite(_)
            | CliError::Subject(_)
            | CliError::Recording(_)
            | CliError::Known(_)
            | CliError::Usage(_)
            | CliError::Unreadable { .. }
            | CliError::Document { .. }
            | CliError::Write { .. } => 2,
            CliError::Start(StartError::Program { .. } | StartError::NotQemu(_)) => 2,
            CliError::Start(StartError::Guest(GuestError::Missing { .. } | GuestError::NoRelease(_))) => 2,
            CliError::Snapshot(error) => error.exit_code(),
            CliError::Disk(DiskError::Operation(_)) => 1,
            CliError::Disk(error) => match error.code() {
                Code::InvalidArg | Code::ConfigUnsupported => 2,
                _ => 1,
            },
            CliError::Fs(_) | CliError::Unsaid { .. } => 1,
            CliError::Interrupted(signal) => signal.exit_code(),
            CliError::Serve(error) if !error.may_pass() => 2,
            CliError::Start(_) | CliError::Play(_) | CliError::Serve(_) | CliError::Runtime(_) => 75,
        }
    }
}

/// Runs the command on the process's arguments.
pub fn main() -> ExitCode {
    let done = match parsed().command {
        Command::Run(arguments) => run::run(&arguments).map(well),
        Command::Conform(arguments) => conform::conform(&arguments).map(well),
        Command::Record(arguments) => record::record(&arguments).map(well),
        Command::Fidelity(arguments) => fidelity::fidelity(&arguments).map(well),
        Command::Sweep(arguments) => sweep::sweep(&arguments).map(well),
        Command::Explore(arguments) => explore::explore(&arguments).map(well),
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Snapshot(arguments) => snapshot::snapshot(&arguments),
        Command::Fs(arguments) => fs::fs(&arguments),
        Command::Undefine(arguments) => undefine::undefine(&arguments),
        Command::Disk(arguments) => disk::disk(&arguments),
        Command::Schema { of: SchemaOf::Scenario } => {
            output::print(&json_schema()).map(|()| ExitCode::SUCCESS)
        }
        Command::Schema { of: SchemaOf::StorageExec } => {
            output::print(&freezeframe_driver::storage::exec::json_schema()).map(|()| ExitCode::SUCCESS)
        }
        Command::Completions(arguments) => generated::completions(&arguments),
        Command::Man(arguments) => generated::man(&arguments),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

fn well(all_as_expected: bool) -> ExitCode {
    if all_as_expected { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// The process's arguments. Ends it where they ask for help or cannot be used; a program that has asked for an object gets one
/// then too.
fn parsed() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        // They need not be UTF-8.
        let mut arguments =
            std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
        let tells_objects = |verb: &str| ["snapshot", "undefine", "disk", "fs"].contains(&verb);
        let wants_one = arguments.next().is_some_and(|verb| tells_objects(&verb))
            && arguments.any(|argument| argument == "--json");
        if wants_one && error.use_stderr() {
            let words = error.render().to_string();
            let words = words.trim_end().strip_prefix("error: ").unwrap_or(&words).to_owned();
            // Nobody is left to be told if it cannot be said.
            let _ = told::tell(Err(CliError::Usage(words)), true);
        }
        error.exit()
    })
}
