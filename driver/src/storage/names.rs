//! Names of volumes and snapshots: none leaves its folder or pool, is taken for an option, or ends a line of a log.

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::StorageError;
use crate::name::SnapshotName;

/// A file or folder by its plain, absolute path.
pub(super) fn path(path: &Utf8Path) -> Result<Utf8PathBuf, StorageError> {
    let bad = |why| Err(StorageError::bad_name(path.as_str(), why));
    let mut parts = path.components();
    if parts.next() != Some(Utf8Component::RootDir) {
        return bad("the path is not absolute");
    }
    if path.as_str().chars().any(char::is_control) {
        return bad("it holds a control character");
    }
    let plain: Utf8PathBuf = path.components().collect();
    if plain.file_name().is_none() || !parts.all(|part| matches!(part, Utf8Component::Normal(_))) {
        return bad("it is no plain path: it holds `..`, or is the root");
    }
    Ok(plain)
}

/// A volume in a pool: names between `/`, so many of them, of these characters.
pub(super) fn pooled(
    name: &str,
    parts: std::ops::RangeInclusive<usize>,
    may: fn(char) -> bool,
) -> Result<String, StorageError> {
    let bad = |why| Err(StorageError::bad_name(name, why));
    if !parts.contains(&name.split('/').count()) {
        return bad("it names no volume in a pool: that is `pool/volume`");
    }
    for part in name.split('/') {
        if part.is_empty() || part.starts_with(['-', '.']) {
            return bad("a part of it is empty, or begins with `-` or `.`");
        }
        if !part.chars().all(may) {
            return bad("it holds a character that this storage does not take");
        }
    }
    Ok(name.to_owned())
}

/// Checks that a snapshot's name has these characters alone.
pub(super) fn snapshot(name: &SnapshotName, may: fn(char) -> bool) -> Result<&str, StorageError> {
    if name.as_str().chars().all(may) {
        Ok(name.as_str())
    } else {
        Err(StorageError::bad_name(name.as_str(), "it holds a character that this storage does not take"))
    }
}

/// What ZFS and RBD take in names: letters, digits and `_-.:`.
pub(super) fn plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_its_folder_or_could_be_an_option_is_refused() {
        for bad in ["", "/", "a", "-a", "/a/../b", "/a/..", "/a\nb", "./a"] {
            assert!(path(bad.into()).is_err(), "{bad:?} was taken");
        }
        assert_eq!(path("/a//./b/".into()).unwrap(), "/a/b");
    }

    #[test]
    fn a_volume_stays_in_its_pool_and_is_no_option() {
        for bad in ["", "a", "a/", "/a", "-a/b", "a/-b", "a/..", "a/b@c", "a/b c", "a/b/c"] {
            assert!(pooled(bad, 2..=2, plain_char).is_err(), "{bad:?} was taken");
        }
        assert!(pooled("pool/vm-1", 2..=2, plain_char).is_ok());
    }
}
