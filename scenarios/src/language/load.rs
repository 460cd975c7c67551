//! Scenario files on this machine: finding and reading them. The rest of the language knows only text.
#![allow(clippy::disallowed_types, reason = "the one place of the language that reads files")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
};

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Diagnostics, Scenario,
    tree::{self, FILE_BYTES_MAX, Node},
};
use crate::diagnostic::Found;

/// A file that gave no scenario, in the form in which a person is told of it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("error: cannot read {file}: {source}")]
    Unreadable {
        /// The file.
        file: Utf8PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is no text.
    #[error("error: {file} is not UTF-8 text, as TOML is: see its byte {offset}")]
    NoText {
        /// The file.
        file: Utf8PathBuf,
        /// The first byte that is wrong, counted from 0.
        offset: usize,
    },
    /// The file has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Diagnostics),
}

/// A path that leads to no scenario file, in the form in which a person is told of it.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is nothing at the path.
    #[error("error: no such file or folder: {0}")]
    Missing(Utf8PathBuf),
    /// The folder has no file that ends in `.toml`, at any depth.
    #[error("error: no scenario in {0}: they end in .toml")]
    Empty(Utf8PathBuf),
    /// The path could not be read.
    #[error("error: cannot read {path}: {source}")]
    Unreadable {
        /// The path.
        path: Utf8PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// When the file cannot be read, is no text, or has mistakes.
    pub fn load(file: &Utf8Path) -> Result<Scenario, LoadError> {
        Ok(Scenario::parse(file, &read(file)?)?)
    }
}

/// Reads scenario files, each beside its path. `codes` are those that the driver's errors have; none given:
/// any code will do.
///
/// # Errors
/// One for each file that gave no scenario, or that has the id of another.
pub fn load_all(
    files: &[Utf8PathBuf],
    codes: &[&str],
) -> Result<Vec<(Utf8PathBuf, Scenario)>, Vec<LoadError>> {
    let (mut loaded, mut errors) = (Vec::new(), Vec::new());
    let mut ids: BTreeMap<String, &Utf8Path> = BTreeMap::new();
    for file in files {
        let scenario = read(file).and_then(|text| {
            let scenario = Scenario::parse_with_codes(file, &text, codes)?;
            match ids.get(&scenario.id) {
                Some(first) => Err(LoadError::Mistakes(same_id(file, &text, first))),
                None => Ok(scenario),
            }
        });
        match scenario {
            Ok(scenario) => {
                ids.insert(scenario.id.clone(), file);
                loaded.push((file.clone(), scenario));
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(loaded) } else { Err(errors) }
}

/// The scenario files at these paths: a file stands for itself, a folder for all files below it that end in
/// `.toml`. Sorted, each once. Symbolic links below a folder are not followed.
///
/// # Errors
/// At the first path that does not exist, cannot be read, or is a folder without scenarios.
pub fn find(paths: &[Utf8PathBuf]) -> Result<Vec<Utf8PathBuf>, FindError> {
    let mut files = BTreeSet::new();
    for path in paths {
        let unreadable = |source| FindError::Unreadable { path: path.clone(), source };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let below = files_below(path)?;
                if below.is_empty() {
                    return Err(FindError::Empty(path.clone()));
                }
                files.extend(below);
            }
            Ok(_) => _ = files.insert(path.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(FindError::Missing(path.clone()));
            }
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(files.into_iter().collect())
}

fn files_below(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, FindError> {
    let unreadable = |source| FindError::Unreadable { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in folder.read_dir_utf8().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            files.extend(files_below(entry.path())?);
        } else if kind.is_file() && entry.path().extension() == Some("toml") {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Reads no more than shows that the file is too long.
fn read(file: &Utf8Path) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| LoadError::Unreadable { file: file.into(), source })?;
    if bytes.len() > FILE_BYTES_MAX {
        let found = tree::too_long();
        return Err(LoadError::Mistakes(Diagnostics::new(file, "", vec![found])));
    }
    String::from_utf8(bytes)
        .map_err(|error| LoadError::NoText { file: file.into(), offset: error.utf8_error().valid_up_to() })
}

fn same_id(file: &Utf8Path, text: &str, first: &Utf8Path) -> Diagnostics {
    let span = tree::read(text).map_or(0..0, |tree| Node::root(&tree).key("id").span());
    let found = Found::new(span, "another scenario has this id".into(), format!("see {first}"));
    Diagnostics::new(file, text, vec![found])
}
