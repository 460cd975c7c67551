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
use serde_json::json;

use super::{SnapshotError, validate::ValidateArgs};
use crate::{
    cli::{CliError, told::Told},
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
    #[command(flatten)]
    validate: ValidateArgs,
}

/// A document and where it came from.
pub(super) struct Document {
    /// Its file; - is standard input.
    pub(super) file: Utf8PathBuf,
    /// As it is, and one byte more than may be read if it is too long.
    pub(super) bytes: Vec<u8>,
}

pub(super) fn xml(arguments: &XmlArgs) -> Result<Told, CliError> {
    let purpose = match arguments.redefine {
        true => Purpose::Redefine,
        false => Purpose::Create { without_memory: arguments.disk_only },
    };
    let document = Document::read(&arguments.file)?;
    let snapshot = document.snapshot(purpose)?;
    if let Some(name) = &snapshot.name {
        SnapshotError::name(name)?;
    }
    arguments.validate.check(&document)?;
    let text = snapshot.document();
    Ok(Told::new(text.clone(), json!({ "name": snapshot.name, "xml": text })))
}

impl Document {
    /// Reads a file.
    pub(super) fn read(file: &Utf8Path) -> Result<Self, CliError> {
        let most = Limits::default().bytes as u64 + 1;
        let mut bytes = Vec::new();
        let read = match file.as_str() {
            "-" => io::stdin().lock().take(most).read_to_end(&mut bytes),
            _ => File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes)),
        };
        match read {
            Ok(_) => Ok(Self { file: file.to_owned(), bytes }),
            Err(source) => Err(CliError::Unreadable { path: file.to_owned(), source }),
        }
    }

    /// It as a `<domainsnapshot>`.
    pub(super) fn snapshot(&self, purpose: Purpose) -> Result<DomainSnapshot, CliError> {
        DomainSnapshot::read(&self.bytes, purpose)
            .map_err(|error| self.wrong(error.at, error.why.code(), &error.why))
    }

    fn wrong(&self, at: Position, code: Code, why: &dyn std::error::Error) -> CliError {
        let place = (at.line as usize, at.column as usize);
        let text = String::from_utf8_lossy(&self.bytes);
        let diagnostics = Diagnostics::at(&self.file, &text, place, format!("{code}: {why}"));
        CliError::Document { code, diagnostics }
    }
}

/// A `<domain>` from a file.
pub(in crate::cli) fn domain(file: &Utf8Path) -> Result<DomainXml, CliError> {
    let document = Document::read(file)?;
    DomainXml::read(&document.bytes).map_err(|error| document.wrong(error.at, error.why.code(), &error.why))
}
