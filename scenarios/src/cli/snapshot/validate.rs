//! `--validate`: a document held against libvirt's own schema, by `xmllint`.
//!
//! What is read here anyway is checked anyway; this finds what libvirt would not take and this driver passes over, such as an
//! element that nobody knows.

use std::{io, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use freezeframe_driver::env::{Ended, Env as _, HostCommand, tokio::TokioEnv};

use super::{SnapshotError, records, xml::Document};
use crate::cli::CliError;

/// How long a document may be looked at.
const WITHIN: Duration = Duration::from_secs(20);

/// What says where the schema is.
const VARIABLE: &str = "FREEZEFRAME_SNAPSHOT_SCHEMA";

/// Where libvirt has it.
const INSTALLED: &str = "/usr/share/libvirt/schemas/domainsnapshot.rng";

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    /// Hold the document against libvirt's schema too; needs xmllint
    #[arg(long)]
    pub(super) validate: bool,
    /// libvirt's schema, for --validate [default: that of the variable FREEZEFRAME_SNAPSHOT_SCHEMA, or else
    /// /usr/share/libvirt/schemas/domainsnapshot.rng]
    #[arg(long, value_name = "FILE", requires = "validate")]
    schema: Option<Utf8PathBuf>,
}

/// Why a document does not pass.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Invalid {
    /// libvirt's schema has it otherwise.
    #[error("{file} is not as libvirt's schema {schema} has it:\n{words}")]
    Document {
        /// The document.
        file: Utf8PathBuf,
        /// The schema.
        schema: Utf8PathBuf,
        /// What `xmllint` said.
        words: String,
    },
    /// It could not be looked at.
    #[error("`--validate` needs xmllint and libvirt's schema ({schema}; `--schema` says another): {why}")]
    NotChecked {
        /// The schema.
        schema: Utf8PathBuf,
        /// Why not.
        why: String,
    },
}

impl ValidateArgs {
    /// Checks a document if that is asked for.
    ///
    /// # Errors
    /// [`Invalid`].
    pub(super) fn check(&self, document: &Document) -> Result<(), CliError> {
        match self.validate {
            true => Ok(records::runtime()?
                .block_on(check(document, &self.schema()))
                .map_err(SnapshotError::from)?),
            false => Ok(()),
        }
    }

    /// The variable is nothing that the option is asked for by: it may be set where nothing is validated.
    #[allow(clippy::disallowed_methods, reason = "a default of the option, as clap reads other variables")]
    fn schema(&self) -> Utf8PathBuf {
        let set = || std::env::var(VARIABLE).ok().map(Utf8PathBuf::from);
        self.schema.clone().or_else(set).unwrap_or_else(|| INSTALLED.into())
    }
}

async fn check(document: &Document, schema: &Utf8Path) -> Result<(), Invalid> {
    let not_checked = |why: String| Err(Invalid::NotChecked { schema: schema.to_owned(), why });
    let arguments = ["--noout", "--nonet", "--relaxng", schema.as_str(), "-"];
    let mut command = HostCommand::new("xmllint", arguments, WITHIN);
    command.input = Some(document.bytes.clone());
    let ran = match TokioEnv::new().run(&command).await {
        Ok(ran) => ran,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return not_checked("xmllint is not installed".into());
        }
        Err(error) => return not_checked(format!("xmllint cannot be run: {error}")),
    };
    match ran.ended {
        Ended::Exited(0) => Ok(()),
        // xmllint's codes of a document that does not parse, and of one that does not fit.
        Ended::Exited(1 | 3 | 4) => Err(Invalid::Document {
            file: document.file.clone(),
            schema: schema.to_owned(),
            words: ran.words(),
        }),
        _ => not_checked(ran.words()),
    }
}
