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
use freezeframe_driver::domain_snapshot::{DomainSnapshot, Location, Purpose};
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
    /// The name may be changed: the record gets the new one, and what descends from it follows
    #[arg(long, conflicts_with = "clone")]
    rename: bool,
    /// The name may be changed: the record stays, and another one gets the new name
    #[arg(long)]
    clone: bool,
}

impl EditArgs {
    /// What a changed name means.
    fn naming(&self) -> Naming {
        match (self.rename, self.clone) {
            (true, _) => Naming::Rename,
            (_, true) => Naming::Clone,
            _ => Naming::Keep,
        }
    }
}

/// What a changed name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// A mistake.
    Keep,
    /// The snapshot is called so from now on.
    Rename,
    /// A second record is called so.
    Clone,
}

/// What has become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Edited {
    /// Nothing.
    Not,
    /// It was changed under its name.
    InPlace,
    /// It is called so now.
    Renamed(String),
    /// One that is called so is beside it.
    Cloned(String),
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
    #[error("the name was changed from `{from}` to `{to}`: say `--rename` or `--clone` if it is to be")]
    Name {
        /// The snapshot.
        from: String,
        /// What the text says.
        to: String,
    },
    /// Its images know it by its name.
    #[error("snapshot `{0}` is inside its images, which know it by this name: it is found by no other")]
    Internal(String),
    /// Another one has the new name.
    #[error("there is a snapshot `{0}` already")]
    Taken(String),
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
        .and_then(|()| take_back(arguments, &before, &path));
    match taken {
        Ok(Edited::Not) => Ok(Told::new(format!("snapshot {name} not changed\n"), json!({ "edited": null }))),
        Ok(Edited::InPlace) => Ok(Told::new(format!("snapshot {name} edited\n"), json!({ "edited": name }))),
        Ok(Edited::Renamed(to)) => {
            let object = json!({ "edited": name, "renamed-to": to });
            Ok(Told::new(format!("snapshot {name} renamed to {to}\n"), object))
        }
        Ok(Edited::Cloned(to)) => {
            let object = json!({ "edited": name, "cloned-to": to });
            Ok(Told::new(format!("snapshot {name} cloned to {to}\n"), object))
        }
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

/// Puts the text in the record's place, or in that of another name.
fn take_back(arguments: &EditArgs, before: &DomainSnapshot, path: &Utf8Path) -> Result<Edited, CliError> {
    let document = Document::read(path)?;
    if document.bytes == before.document().as_bytes() {
        return Ok(Edited::Not);
    }
    let record = document.snapshot(Purpose::Redefine)?;
    let from = before.name.clone().unwrap_or_default();
    let to = record.name.clone().unwrap_or_default();
    let naming = if from == to { Naming::Keep } else { arguments.naming() };
    if from != to {
        check_name(naming, before, &to)?;
    }
    let mut records = Locked::open(&arguments.machine, false)?;
    let uuid = records.domain.uuid();
    records.change(false, |tree| {
        if records::known(tree, &from)? != before {
            return Err(NotEdited::Meanwhile(from.clone()).into());
        }
        if from != to && tree.get(&to).is_some() {
            return Err(NotEdited::Taken(to.clone()).into());
        }
        // Whatever it is called, it is the same snapshot: what may not change may not.
        let mut redefined = tree.clone();
        redefined.redefine(
            DomainSnapshot { name: Some(from.clone()), ..record.clone() },
            uuid.as_deref(),
            false,
        )?;
        let whole = records::known(&redefined, &from)?.clone();
        match naming {
            Naming::Keep => *tree = redefined,
            Naming::Rename => tree.rename(&from, DomainSnapshot { name: Some(to.clone()), ..whole }),
            Naming::Clone => tree.insert(DomainSnapshot { name: Some(to.clone()), ..whole }),
        }
        Ok(())
    })?;
    Ok(match naming {
        Naming::Keep => Edited::InPlace,
        Naming::Rename => Edited::Renamed(to),
        Naming::Clone => Edited::Cloned(to),
    })
}

/// Whether a snapshot may be called so.
fn check_name(naming: Naming, before: &DomainSnapshot, to: &str) -> Result<(), SnapshotError> {
    let from = before.name.clone().unwrap_or_default();
    if naming == Naming::Keep {
        return Err(NotEdited::Name { from, to: to.to_owned() }.into());
    }
    let is_internal = |location| location == Some(Location::Internal);
    if is_internal(before.memory.location) || before.disks.iter().any(|disk| is_internal(disk.location)) {
        return Err(NotEdited::Internal(from).into());
    }
    SnapshotError::name(to).map(drop)
}
