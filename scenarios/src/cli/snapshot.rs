//! `freezeframe snapshot`: snapshots of a machine, as a user of virsh knows them.

mod list;
mod records;
mod show;
mod xml;

use clap::{Args, Subcommand};
use freezeframe_driver::{error::Code, store::StoreError, tree::BadRedefinition};

use super::CliError;

#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the snapshots of a machine
    List(list::ListArgs),
    /// Say the main things of one snapshot
    Info(show::OneArgs),
    /// Print the document of one snapshot
    Dumpxml(show::OneArgs),
    /// Print the name of the current snapshot, or make another one current
    Current(show::CurrentArgs),
    /// Print the name of a snapshot's parent
    Parent(show::OneArgs),
    /// Hand in the record of a snapshot that exists; no disk is touched
    Redefine(records::RedefineArgs),
    /// Remove a snapshot
    Delete(records::DeleteArgs),
    /// Read a <domainsnapshot> document, check it and print its canonical form; needs no machine
    Xml(xml::XmlArgs),
}

/// Why a verb was not carried out. Nothing was changed.
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
    /// The record does not fit.
    #[error(transparent)]
    Redefinition(#[from] BadRedefinition),
    /// The records cannot be worked with.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SnapshotError {
    /// libvirt's name for it.
    pub(super) fn code(&self) -> Code {
        match self {
            SnapshotError::NoSuch(_) | SnapshotError::NoCurrent | SnapshotError::NoParent(_) => {
                Code::NoDomainSnapshot
            }
            SnapshotError::Redefinition(bad) => bad.code(),
            SnapshotError::Store(error) => error.code(),
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

/// Carries out a verb.
///
/// # Errors
/// [`CliError`] when a document cannot be read or used, or the verb cannot be carried out.
pub(super) fn snapshot(arguments: &SnapshotArgs) -> Result<(), CliError> {
    match &arguments.verb {
        Verb::List(arguments) => list::list(arguments),
        Verb::Info(arguments) => show::info(arguments),
        Verb::Dumpxml(arguments) => show::dumpxml(arguments),
        Verb::Current(arguments) => show::current(arguments),
        Verb::Parent(arguments) => show::parent(arguments),
        Verb::Redefine(arguments) => records::redefine(arguments),
        Verb::Delete(arguments) => records::delete(arguments),
        Verb::Xml(arguments) => xml::xml(arguments),
    }
}
