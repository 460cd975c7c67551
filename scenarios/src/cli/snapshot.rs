//! `freezeframe snapshot`: snapshots of a machine, as a user of virsh knows them.

pub(super) mod create;
mod create_as;
mod delete;
mod edit;
mod hand_over;
mod known;
mod list;
mod old_description;
pub(super) mod operate;
pub(super) mod records;
mod recover;
mod redefine;
mod revert;
mod show;
mod spec;
mod validate;
pub(super) mod xml;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use freezeframe_driver::{
    client::ConnectError,
    error::{Code, OperationError, Refusal},
    journal::JournalError,
    machine::HoldError,
    name::{BadName, SnapshotName},
    recover::{Recovered, Turn},
    store::StoreError,
    tree::{BadHandOver, BadRedefinition},
};

use self::{edit::NotEdited, hand_over::NotHandedOver, validate::Invalid};
use super::{
    CliError,
    told::{Told, tell},
};

/// What a user must know of all verbs.
const HELP: &str = "\
An option that would do nothing is refused. What describes the machine and how it is reached (--qmp,
--off, --agent, --launcher, --within), and what only permits or is so in any case (--force, --atomic,
--write-domain), may always be given.

Exit codes:
  0   done
  1   failed, or refused: what is said tells how things stand
  2   wrong use: arguments or documents that cannot be understood
  75  somebody else works on the machine's snapshots or holds its monitor, or its records cannot be reached: try again

JSON: with --json standard output holds one object and nothing else.
  create, create-as, revert, delete:
      {snapshot, disks, summary, guest-stopped-seconds, done}; null seconds: nobody knows
      also: description-is-old: true, where --domain's FILE names other images than the disks are in
      also: kept: [file...], where some were to be removed and were not: the summary says what for
      taken, also: {consistency: memory|file-system|crash|off, machine: as-it-was|paused|off,
      take-yourself: [disk...], quiesced: true|false|null, quiesced-why, guest-frozen-seconds,
      not-in-background: why a live memory was not, if QEMU refused it,
      tpm-left-out: true, where the machine has a TPM whose state is not part of it,
      open: what earlier operations have left, open in QEMU or on the host's disk, and still is};
      null quiesced: nobody knows; null seconds frozen: it was not, or nobody knows
      reverted, also: {machine: in-its-process|started-and-runs|started-and-paused|off,
      was-frozen: true (and was thawed)|false|null: the guest's file systems, when it was taken}
  --dry-run of these:                 {dry-run, summary, plan}
  recover: {pending: what was not finished, or null, done: [deed...], remains: [what is left...],
      became: rolled-back|finished|not-begun, with --forget: forgotten, with --dry-run: null},
      also: description-is-old and kept, as above
  list:                               {domain, current, snapshots: [{name, parent,
      creation-time, state, external, current}...]}
  info:                               {name, domain, current, state, location, parent,
      children, descendants, metadata, quiesced: yes|no|unknown, or null where nobody asked}
  dumpxml, current, xml, --print-xml: {name, xml}
  current --name: {name}              current --set:     {current}
  parent: {name, parent}              redefine:          {recorded}
  edit: {edited}, also: renamed-to, cloned-to
  hand-over: {handed-over: [name...]} delete --metadata: {records-removed: [name...]}
      with --dry-run also: {dry-run}
  what failed:                        {error: {code, message, outcome, remains}, exit-code}
      code: libvirt's name of the error, or null; remains: what is left to be done by hand
      outcome: not-begun|rolled-back|machine-gone|not-rolled-back|unfinished|partly|unknown";

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
    /// Put right what an operation has left whose driver was killed, or that could not put back all
    Recover(recover::RecoverArgs),
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
    /// Hand the records of a machine that has migrated over to its new host; no disk is touched
    HandOver(hand_over::HandOverArgs),
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
    /// The records were not handed over.
    #[error(transparent)]
    NotHandedOver(#[from] NotHandedOver),
    /// The records do not go there.
    #[error(transparent)]
    HandOver(#[from] BadHandOver),
    /// The record does not fit.
    #[error(transparent)]
    Redefinition(#[from] BadRedefinition),
    /// The records cannot be worked with.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine's operation failed.
    #[error(transparent)]
    Operation(Box<OperationError>),
    /// What an operation has left is not all put right.
    #[error("{0}")]
    NotRecovered(Box<Recovered>),
    /// An operation has not come to its end, and what it has left is in the way.
    #[error(
        "an operation on this machine had not come to its end: {0}. Nothing was touched; put it right with `freezeframe snapshot recover` first."
    )]
    Pending(String),
    /// Whether an operation has not come to its end cannot be read.
    #[error("{0}. Nothing was touched.")]
    Journal(#[from] JournalError),
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
            SnapshotError::HasSnapshots(_) => Code::OperationInvalid,
            SnapshotError::Invalid(Invalid::Document { .. }) => Code::XmlInvalidSchema,
            SnapshotError::Invalid(Invalid::NotChecked { .. }) => Code::OperationUnsupported,
            SnapshotError::NotEdited(NotEdited::Name { .. }) => Code::InvalidArg,
            SnapshotError::NotEdited(NotEdited::Internal(_)) => Code::OperationUnsupported,
            SnapshotError::NotEdited(NotEdited::File(_)) => Code::SystemError,
            SnapshotError::NotEdited(_) => Code::OperationFailed,
            SnapshotError::NotHandedOver(NotHandedOver::SameFolder(_) | NotHandedOver::NoFolder(_)) => {
                Code::InvalidArg
            }
            SnapshotError::NotHandedOver(NotHandedOver::Unread(_)) => Code::OperationInvalid,
            SnapshotError::NotHandedOver(NotHandedOver::LeftHere { cause, .. }) => cause.code(),
            SnapshotError::HandOver(bad) => bad.code(),
            SnapshotError::Redefinition(bad) => bad.code(),
            SnapshotError::Store(error) => error.code(),
            SnapshotError::Operation(error) => error.code(),
            SnapshotError::NotRecovered(_) => Code::OperationFailed,
            SnapshotError::Pending(_) => Code::OperationInvalid,
            SnapshotError::Journal(error) => error.code(),
        }
    }

    /// How things stand, in one word for programs.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            SnapshotError::Operation(error) => outcome(error),
            SnapshotError::NotRecovered(recovered) => match recovered.turn {
                Turn::NotBegun | Turn::Back => "not-rolled-back",
                Turn::Forward | Turn::Forgotten => "unfinished",
                Turn::Unknown => "unknown",
            },
            SnapshotError::Store(StoreError::CurrentUnknown { .. })
            | SnapshotError::NotHandedOver(NotHandedOver::LeftHere { .. }) => "unfinished",
            _ => "not-begun",
        }
    }

    /// What is left to be done by hand.
    pub(super) fn remains(&self) -> &[String] {
        match self {
            SnapshotError::Operation(error) => remains(error),
            SnapshotError::NotRecovered(recovered) => &recovered.remains,
            _ => &[],
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            SnapshotError::Operation(error)
                if matches!(**error, OperationError::Refused(Refusal::Unused(_))) =>
            {
                2
            }
            SnapshotError::Store(StoreError::Locked(_)) => 75,
            SnapshotError::Operation(error)
                if matches!(
                    **error,
                    OperationError::Held(HoldError::Held(_))
                        | OperationError::Unreachable(ConnectError::Silent { .. })
                ) =>
            {
                75
            }
            SnapshotError::Store(
                StoreError::File { source, .. } | StoreError::CurrentUnknown { source, .. },
            ) if crate::serve::is_short(source) => 75,
            SnapshotError::NotHandedOver(NotHandedOver::LeftHere { cause, .. }) => cause.exit_code(),
            _ => 1,
        }
    }
}

/// What an operation has left to be done by hand.
pub(super) fn remains(mut error: &OperationError) -> &[String] {
    while let OperationError::Partly { cause, .. } = error {
        error = cause;
    }
    match error {
        OperationError::NotRolledBack { remains, .. } | OperationError::Unfinished { remains, .. } => remains,
        OperationError::Unknown { keeps, .. } => keeps,
        OperationError::Pending(recovered) => &recovered.remains,
        _ => &[],
    }
}

/// How things stand after an operation has failed, in one word for programs.
pub(super) fn outcome(error: &OperationError) -> &'static str {
    match error {
        OperationError::Refused(_)
        | OperationError::Unreachable(_)
        | OperationError::Unobserved(_)
        | OperationError::Held(_)
        | OperationError::Journal(_)
        | OperationError::Pending(_) => "not-begun",
        OperationError::RolledBack { .. } => "rolled-back",
        OperationError::MachineGone { .. } => "machine-gone",
        OperationError::NotRolledBack { .. } => "not-rolled-back",
        OperationError::Unfinished { .. } => "unfinished",
        OperationError::Unknown { .. } => "unknown",
        OperationError::Partly { .. } => "partly",
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
        Verb::Recover(arguments) => recover::recover(arguments),
        Verb::List(arguments) => list::list(arguments),
        Verb::Info(arguments) => show::info(arguments),
        Verb::Dumpxml(arguments) => show::dumpxml(arguments),
        Verb::Current(arguments) => show::current(arguments),
        Verb::Parent(arguments) => show::parent(arguments),
        Verb::Redefine(arguments) => redefine::redefine(arguments),
        Verb::Edit(arguments) => edit::edit(arguments),
        Verb::HandOver(arguments) => hand_over::hand_over(arguments),
        Verb::Xml(arguments) => xml::xml(arguments),
    }
}
