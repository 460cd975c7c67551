//! `freezeframe snapshot`: snapshots of a machine, as a user of virsh knows them.

mod create;
mod create_as;
mod delete;
mod edit;
mod list;
mod operate;
pub(super) mod records;
mod redefine;
mod revert;
mod show;
mod spec;
mod validate;
mod xml;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use freezeframe_driver::{
    error::{Code, OperationError},
    name::{BadName, SnapshotName},
    store::StoreError,
    tree::BadRedefinition,
};

use self::{edit::NotEdited, validate::Invalid};
use super::{
    CliError,
    told::{Told, tell},
};

/// What a user must know of all verbs.
const HELP: &str = "\
Exit codes:
  0   done
  1   failed, or refused: what is said tells how things stand
  2   wrong use: arguments or documents that cannot be understood
  75  somebody else works on the machine's snapshots, or its records cannot be reached: try again

JSON: with --json standard output holds one object and nothing else.
  create, create-as, revert, delete:
      {snapshot, disks, summary, guest-stopped-seconds, done}; null seconds: nobody knows
      taken, also: {consistency: memory|crash, quiesced, machine: as-it-was|paused|off,
      take-yourself: [disk...]}
      reverted, also: {machine: in-its-process|started-and-runs|started-and-paused|off}
  --dry-run of these:                 {dry-run, summary, plan}
  list:                               {domain, current, snapshots: [{name, parent,
      creation-time, state, external, current}...]}
  info:                               {name, domain, current, state, location, parent,
      children, descendants, metadata}
  dumpxml, current, xml, --print-xml: {name, xml}
  current --name: {name}              current --set:     {current}
  parent: {name, parent}              redefine:          {recorded}
  edit:   {edited}                    delete --metadata: {records-removed: [name...]}
      with --dry-run also: {dry-run}
  what failed:                        {error: {code, message, outcome, remains}, exit-code}
      code: libvirt's name of the error, or null; remains: what is left to be done by hand
      outcome: not-begun|rolled-back|machine-gone|not-rolled-back|unfinished|unknown";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub(super) struct SnapshotArgs {
    #[command(subcommand)]
    verb: Verb,
    /// Print one JSON object (described in `freezeframe snapshot --help`)
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take a snapshot, as a <domainsnapshot> document describes it
    Create(Box<create::CreateArgs>),
    /// Take a snapshot, as options describe it
    CreateAs(Box<create_as::CreateAsArgs>),
    /// Put the machine back to a snapshot
    Revert(revert::RevertArgs),
    /// Remove a snapshot
    Delete(delete::DeleteArgs),
    /// List the snapshots of a machine
    List(list::ListArgs),
    /// Say the main things of one snapshot
    Info(show::OneArgs),
    /// Print the document of one snapshot
    Dumpxml(show::DumpxmlArgs),
    /// Print the document or the name of the current snapshot, or make another one current
    Current(show::CurrentArgs),
    /// Print the name of a snapshot's parent
    Parent(show::OneArgs),
    /// Hand in the record of a snapshot that exists; no disk is touched
    Redefine(redefine::RedefineArgs),
    /// Change the record of a snapshot in an editor; no disk is touched
    Edit(edit::EditArgs),
    /// Read a <domainsnapshot> document, check it and print its canonical form; needs no machine
    Xml(xml::XmlArgs),
}

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    /// There is no such snapshot.
    #[error("no snapshot `{0}` of this machine")]
    NoSuch(String),
    /// None is the current one.
    #[error("this machine has no current snapshot")]
    NoCurrent,
    /// It is a root.
    #[error("snapshot `{0}` has no parent")]
    NoParent(String),
    /// The name is not allowed.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Nobody speaks to the agent.
    #[error(
        "this version cannot speak to the guest agent, so nobody can bring the guest to rest; leave `--quiesce` out"
    )]
    AgentUnused,
    /// Records are in the way of forgetting the machine.
    #[error(
        "{0} snapshots of this machine are recorded; `--snapshots-metadata` forgets them too, and leaves disks and memory alone"
    )]
    HasSnapshots(usize),
    /// A document does not pass libvirt's schema.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A record was not edited.
    #[error(transparent)]
    NotEdited(#[from] NotEdited),
    /// The record does not fit.
    #[error(transparent)]
    Redefinition(#[from] BadRedefinition),
    /// The records cannot be worked with.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine's operation failed.
    #[error(transparent)]
    Operation(Box<OperationError>),
}

impl From<OperationError> for SnapshotError {
    fn from(error: OperationError) -> Self {
        SnapshotError::Operation(Box::new(error))
    }
}

impl SnapshotError {
    /// A snapshot's name, checked.
    fn name(name: &str) -> Result<SnapshotName, Self> {
        Ok(SnapshotName::new(name)?)
    }

    /// libvirt's name for it.
    pub(super) fn code(&self) -> Code {
        match self {
            SnapshotError::NoSuch(_) | SnapshotError::NoCurrent | SnapshotError::NoParent(_) => {
                Code::NoDomainSnapshot
            }
            SnapshotError::Name(_) => Code::XmlDetail,
            SnapshotError::AgentUnused => Code::ArgumentUnsupported,
            SnapshotError::HasSnapshots(_) => Code::OperationInvalid,
            SnapshotError::Invalid(Invalid::Document { .. }) => Code::XmlInvalidSchema,
            SnapshotError::Invalid(Invalid::NotChecked { .. }) => Code::OperationUnsupported,
            SnapshotError::NotEdited(NotEdited::Name { .. }) => Code::InvalidArg,
            SnapshotError::NotEdited(NotEdited::File(_)) => Code::SystemError,
            SnapshotError::NotEdited(_) => Code::OperationFailed,
            SnapshotError::Redefinition(bad) => bad.code(),
            SnapshotError::Store(error) => error.code(),
            SnapshotError::Operation(error) => error.code(),
        }
    }

    /// How things stand, in one word for programs.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            SnapshotError::Operation(error) => outcome(error),
            SnapshotError::Store(StoreError::CurrentUnknown { .. }) => "unfinished",
            _ => "not-begun",
        }
    }

    /// What is left to be done by hand.
    pub(super) fn remains(&self) -> &[String] {
        let SnapshotError::Operation(error) = self else { return &[] };
        match &**error {
            OperationError::NotRolledBack { remains, .. } | OperationError::Unfinished { remains, .. } => {
                remains
            }
            OperationError::Unknown { keeps, .. } => keeps,
            _ => &[],
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            SnapshotError::Store(
                StoreError::Locked(_) | StoreError::File { .. } | StoreError::CurrentUnknown { .. },
            ) => 75,
            _ => 1,
        }
    }
}

fn outcome(error: &OperationError) -> &'static str {
    match error {
        OperationError::Refused(_) | OperationError::Unreachable(_) | OperationError::Unobserved(_) => {
            "not-begun"
        }
        OperationError::RolledBack { .. } => "rolled-back",
        OperationError::MachineGone { .. } => "machine-gone",
        OperationError::NotRolledBack { .. } => "not-rolled-back",
        OperationError::Unfinished { .. } => "unfinished",
        OperationError::Unknown { .. } => "unknown",
    }
}

/// Carries out a verb.
///
/// # Errors
/// [`CliError`] when a document cannot be read or used, or the verb cannot be carried out.
pub(super) fn snapshot(arguments: &SnapshotArgs) -> Result<ExitCode, CliError> {
    tell(carry_out(&arguments.verb), arguments.json)
}

fn carry_out(verb: &Verb) -> Result<Told, CliError> {
    match verb {
        Verb::Create(arguments) => create::create(arguments),
        Verb::CreateAs(arguments) => create_as::create_as(arguments),
        Verb::Revert(arguments) => revert::revert(arguments),
        Verb::Delete(arguments) => delete::delete(arguments),
        Verb::List(arguments) => list::list(arguments),
        Verb::Info(arguments) => show::info(arguments),
        Verb::Dumpxml(arguments) => show::dumpxml(arguments),
        Verb::Current(arguments) => show::current(arguments),
        Verb::Parent(arguments) => show::parent(arguments),
        Verb::Redefine(arguments) => redefine::redefine(arguments),
        Verb::Edit(arguments) => edit::edit(arguments),
        Verb::Xml(arguments) => xml::xml(arguments),
    }
}
