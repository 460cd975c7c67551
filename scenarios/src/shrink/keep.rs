//! The file of a finding: its name, its head for who reads it, and that none is overwritten.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what is kept is written on this machine"
)]

use std::{fs, io, io::Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use toml::Value;

use super::{Small, text};

/// Where a finding lies now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this file, which was written.
    Written(Utf8PathBuf),
    /// In this file, which was there.
    Before(Utf8PathBuf),
}

impl Small {
    /// The text of the file that has this path.
    pub fn text(&self, path: &Utf8Path) -> String {
        let mut table = self.table.clone();
        let id = path.file_stem().unwrap_or("regression").replace(|char: char| !is_of_an_id(char), "-");
        let one_line = |text: &str| text.replace('\n', " ");
        let (what, told) = (one_line(&self.what), one_line(&self.told));
        let mut why = format!("Found by {}, and shrunk to what it needs.", self.origin);
        if !told.is_empty() {
            why += &format!(" What was told then: {told}");
        }
        table.insert("id".to_owned(), Value::from(id));
        table.insert("title".to_owned(), Value::from(what.as_str()));
        table.insert("why".to_owned(), Value::from(why));
        format!(
            "# Shows {what}\n# Found by {}. To repeat it:\n#   freezeframe run {path} --release {}\n{}",
            self.origin,
            self.release,
            text(&table)
        )
    }
}

fn is_of_an_id(char: char) -> bool {
    char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-'
}

/// Writes a finding into a folder, which is made if it is not there. A file that lies there is left as it is: where one holds
/// something else, the next number is taken.
///
/// # Errors
/// When the folder or the file cannot be written: which, and what the system says.
pub fn keep(folder: &Utf8Path, small: &Small) -> Result<Kept, (Utf8PathBuf, io::Error)> {
    fs::create_dir_all(folder).map_err(|error| (folder.to_owned(), error))?;
    let mut number = 1_u32;
    loop {
        let more = if number > 1 { format!("-{number}") } else { String::new() };
        let path = folder.join(format!("{}{more}.toml", small.name));
        let text = small.text(&path);
        let failed = |error| (path.clone(), error);
        match fs::File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).map_err(failed)?;
                return Ok(Kept::Written(path));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read_to_string(&path).is_ok_and(|there| there == text) {
                    return Ok(Kept::Before(path));
                }
                number += 1;
            }
            Err(error) => return Err(failed(error)),
        }
    }
}
