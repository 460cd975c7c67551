//! Documents: read within bounds, and shown where they are wrong.
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
use clap::Args;
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    domain_xml::DomainXml,
    error::Code,
    xml::{Limits, Position},
};

use crate::{
    cli::{CliError, output},
    diagnostic::Diagnostics,
};

#[derive(Debug, Args)]
pub(super) struct XmlArgs {
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

pub(super) fn xml(arguments: &XmlArgs) -> Result<(), CliError> {
    let purpose = match arguments.redefine {
        true => Purpose::Redefine,
        false => Purpose::Create { without_memory: arguments.disk_only },
    };
    output::print(&snapshot(&arguments.file, purpose)?.document())
}

/// A `<domainsnapshot>` from a file.
pub(super) fn snapshot(file: &Utf8Path, purpose: Purpose) -> Result<DomainSnapshot, CliError> {
    let document = document(file)?;
    DomainSnapshot::read(&document, purpose)
        .map_err(|error| wrong(file, &document, error.at, error.why.code(), &error.why))
}

/// A `<domain>` from a file.
pub(super) fn domain(file: &Utf8Path) -> Result<DomainXml, CliError> {
    let document = document(file)?;
    DomainXml::read(&document).map_err(|error| wrong(file, &document, error.at, error.why.code(), &error.why))
}

fn wrong(
    file: &Utf8Path,
    document: &[u8],
    at: Position,
    code: Code,
    why: &dyn std::error::Error,
) -> CliError {
    let place = (at.line as usize, at.column as usize);
    let text = String::from_utf8_lossy(document);
    CliError::Document(Diagnostics::at(file, &text, place, format!("{code}: {why}")))
}

/// The bytes of a document, and one more than may be read if it is too long.
fn document(file: &Utf8Path) -> Result<Vec<u8>, CliError> {
    let most = Limits::default().bytes as u64 + 1;
    let mut bytes = Vec::new();
    let read = match file.as_str() {
        "-" => io::stdin().lock().take(most).read_to_end(&mut bytes),
        _ => File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(source) => Err(CliError::Unreadable { path: file.to_owned(), source }),
    }
}
