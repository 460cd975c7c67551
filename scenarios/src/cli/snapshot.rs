//! `freezeframe snapshot`: snapshots of a machine, as a user of virsh knows them.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it reads the one document that is named"
)]

use std::{
    fs::File,
    io::{self, Read},
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    xml::Limits,
};

use super::{CliError, output};
use crate::diagnostic::Diagnostics;

#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read a <domainsnapshot> document, check it and print its canonical form; needs no machine
    Xml(XmlArgs),
}

#[derive(Debug, Args)]
struct XmlArgs {
    /// The document; - is standard input
    #[arg(value_name = "FILE")]
    file: Utf8PathBuf,
    /// It describes a snapshot that exists: its name, state and time must be there
    #[arg(long)]
    redefine: bool,
    /// The machine is off, or only its disks are to be taken: there is no memory
    #[arg(long, conflicts_with = "redefine")]
    disk_only: bool,
}

/// Carries out a verb.
///
/// # Errors
/// [`CliError`] when a document cannot be read or used.
pub(super) fn snapshot(arguments: &SnapshotArgs) -> Result<(), CliError> {
    match &arguments.verb {
        Verb::Xml(arguments) => xml(arguments),
    }
}

fn xml(arguments: &XmlArgs) -> Result<(), CliError> {
    let document = document(&arguments.file)
        .map_err(|source| CliError::Unreadable { path: arguments.file.clone(), source })?;
    let purpose = match arguments.redefine {
        true => Purpose::Redefine,
        false => Purpose::Create { without_memory: arguments.disk_only },
    };
    let definition = DomainSnapshot::read(&document, purpose).map_err(|error| {
        let place = (error.at.line as usize, error.at.column as usize);
        let message = format!("{}: {}", error.why.code(), error.why);
        CliError::Document(Diagnostics::at(
            &arguments.file,
            &String::from_utf8_lossy(&document),
            place,
            message,
        ))
    })?;
    output::print(&definition.document())
}

/// The bytes of a document, and one more than may be read if it is too long.
fn document(file: &Utf8Path) -> io::Result<Vec<u8>> {
    let most = Limits::default().bytes as u64 + 1;
    let mut bytes = Vec::new();
    match file.as_str() {
        "-" => io::stdin().lock().take(most).read_to_end(&mut bytes)?,
        _ => File::open(file)?.take(most).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}
