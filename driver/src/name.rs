//! Names that end up in files and in QEMU: checked once, where they come in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name in bytes: qcow2 keeps no more of a tag than 255, and an overlay's file name needs room.
pub const LONGEST: usize = 200;

/// A snapshot's name. It cannot leave its folder, be mistaken for an option, or break a line of a log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing at all.
    #[error("a snapshot needs a name")]
    Empty,
    /// Longer than [`LONGEST`].
    #[error("the name has {0} bytes; {LONGEST} is the most")]
    TooLong(usize),
    /// It holds a `/`, and would name another folder.
    #[error("the name `{0}` holds a `/`: it would leave its folder")]
    Slash(String),
    /// It begins with a `.`: a hidden file, or the folder itself.
    #[error("the name `{0}` begins with a `.`")]
    LeadingDot(String),
    /// It begins with a `-`: a program would take it for an option.
    #[error("the name `{0}` begins with a `-`")]
    LeadingDash(String),
    /// It holds a control character.
    #[error("the name `{}` holds a control character", .0.escape_debug())]
    Control(String),
}

impl SnapshotName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BadName`], the first that applies.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        match name.as_str() {
            "" => Err(BadName::Empty),
            _ if name.len() > LONGEST => Err(BadName::TooLong(name.len())),
            _ if name.contains('/') => Err(BadName::Slash(name)),
            _ if name.starts_with('.') => Err(BadName::LeadingDot(name)),
            _ if name.starts_with('-') => Err(BadName::LeadingDash(name)),
            _ if name.chars().any(char::is_control) => Err(BadName::Control(name)),
            _ => Ok(Self(name)),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it could be a number that QEMU gives its snapshots. As the tag of an internal one QEMU could take it for such an
    /// id: it looks for ids before names when it loads one. Ids count from 1; a name of ten digits or more, as the
    /// seconds since 1970 that libvirt names snapshots by, is none.
    pub fn could_be_id(&self) -> bool {
        self.0.len() < Self::BEYOND_IDS && self.0.bytes().all(|byte| byte.is_ascii_digit())
    }

    /// The digits that no id has: no image has so many snapshots.
    const BEYOND_IDS: usize = 10;
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = BadName;

    fn try_from(name: String) -> Result<Self, BadName> {
        Self::new(name)
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_folder() {
        for bad in ["", ".", "..", ".hidden", "a/b", "/etc/passwd", "-f", "a\nb", "nul\0"] {
            assert!(SnapshotName::new(bad).is_err(), "{bad:?} was taken");
        }
        for good in ["s1", "before upgrade", "käse", "a.b", "2026-11-21"] {
            assert!(SnapshotName::new(good).is_ok(), "{good:?} was refused");
        }
    }
}
