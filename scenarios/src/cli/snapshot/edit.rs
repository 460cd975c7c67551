//! `edit`: the record of a snapshot in the user's editor.
//!
//! ```text
//! record -> temporary file -> editor -> checked -> record
//!                                  \--> refused: the record is as it was, the user's text stays in its file
//! ```
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place where a person works on a file: the editor is theirs, and so is its terminal"
)]

use std::{
    env, io,
    io::Write as _,
    process::{Command, ExitStatus},
};

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use freezeframe_driver::domain_snapshot::{DomainSnapshot, Purpose};
use serde_json::json;
use tempfile::{NamedTempFile, TempPath};

use super::{
    SnapshotError,
    records::{self, Locked, MachineArgs, Records, WhichArgs},
    xml::Document,
};
use crate::cli::{CliError, output, told::Told};

#[derive(Debug, Args)]
#[command(after_help = "The editor is that of $VISUAL, or $EDITOR, or vi.")]
pub(super) struct EditArgs {
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    which: WhichArgs,
}

/// Why a record is not edited. It is as it was.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum NotEdited {
    /// The editor does not work.
    #[error("the editor `{editor}` {why}")]
    Editor {
        /// Which.
        editor: String,
        /// What became of it.
        why: String,
    },
    /// The text has another snapshot's name.
    #[error("the name was changed from `{from}` to `{to}`: a snapshot keeps the name that its images know")]
    Name {
        /// The snapshot.
        from: String,
        /// What the text says.
        to: String,
    },
    /// Somebody else has changed the record.
    #[error("the record of `{0}` was changed by somebody else meanwhile")]
    Meanwhile(String),
    /// The text cannot be put in a file, or read back.
    #[error("cannot keep the text in a temporary file: {0}")]
    File(io::Error),
}

pub(super) fn edit(arguments: &EditArgs) -> Result<Told, CliError> {
    let records = Records::read(&arguments.machine)?;
    let before = records.get(&arguments.which)?.clone();
    let name = before.name.clone().unwrap_or_default();
    let text = before.document();
    let file = temporary(&text).map_err(|error| SnapshotError::from(NotEdited::File(error)))?;
    let path = Utf8Path::from_path(&file).expect("its name is ours").to_owned();
    let taken = open_editor(&path)
        .map_err(|error| SnapshotError::from(error).into())
        .and_then(|()| take_back(&arguments.machine, &before, &path));
    match taken {
        Ok(true) => Ok(Told::new(format!("snapshot {name} edited\n"), json!({ "edited": name }))),
        Ok(false) => Ok(Told::new(format!("snapshot {name} not changed\n"), json!({ "edited": null }))),
        Err(error) => {
            if std::fs::read_to_string(&path).is_ok_and(|now| now != text) {
                keep(file, &path);
            }
            Err(error)
        }
    }
}

/// The text in a file that its owner alone reads.
fn temporary(text: &str) -> io::Result<TempPath> {
    let folder = Utf8PathBuf::try_from(env::temp_dir()).map_err(io::Error::other)?;
    let mut file: NamedTempFile =
        tempfile::Builder::new().prefix("freezeframe-edit-").suffix(".xml").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    Ok(file.into_temp_path())
}

/// What the user has written is not thrown away because it has a mistake.
fn keep(file: TempPath, path: &Utf8Path) {
    match file.keep() {
        Ok(_) => output::complain(&format!(
            "the record is as it was; your text is in {path}: mend it there and hand it in with \
             `freezeframe snapshot redefine {path}`"
        )),
        Err(error) => output::complain(&format!("warning: your text could not be kept: {error}")),
    }
}

/// As other programs do: what the variable holds may be a command with arguments.
fn open_editor(file: &Utf8Path) -> Result<(), NotEdited> {
    let editor = ["VISUAL", "EDITOR"].into_iter().filter_map(|name| env::var(name).ok());
    let editor = editor.into_iter().find(|editor| !editor.trim().is_empty()).unwrap_or_else(|| "vi".into());
    let script = format!("{editor} \"$1\"");
    let failed = |why: String| NotEdited::Editor { editor: editor.clone(), why };
    let status = Command::new("sh").args(["-c", &script, "sh", file.as_str()]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(ended(status))),
        Err(error) => Err(failed(format!("cannot be started: {error}"))),
    }
}

fn ended(status: ExitStatus) -> String {
    status.code().map_or_else(|| "was killed".into(), |code| format!("ended with exit code {code}"))
}

/// Puts the text in the record's place; false if nothing was changed.
fn take_back(machine: &MachineArgs, before: &DomainSnapshot, path: &Utf8Path) -> Result<bool, CliError> {
    let document = Document::read(path)?;
    if document.bytes == before.document().as_bytes() {
        return Ok(false);
    }
    let record = document.snapshot(Purpose::Redefine)?;
    let name = before.name.clone().unwrap_or_default();
    if record.name != before.name {
        let to = record.name.unwrap_or_default();
        return Err(SnapshotError::from(NotEdited::Name { from: name, to }).into());
    }
    let mut records = Locked::open(machine)?;
    let uuid = records.domain.uuid();
    records.change(false, |tree| {
        if records::known(tree, &name)? != before {
            return Err(NotEdited::Meanwhile(name.clone()).into());
        }
        Ok(tree.redefine(record, uuid.as_deref(), false)?)
    })?;
    Ok(true)
}
