//! A subvolume of btrfs, and its snapshots beside it: `/pool/vm1` and `/pool/vm1@s1`.
//!
//! All files in a subvolume are caught at one point in time, so that a machine whose disks lie in one needs no group.
//!
//! A snapshot is made under a name that nothing has, and renamed: `btrfs subvolume snapshot` puts its result **inside** a
//! folder that has the name already, silently. To go back makes a writable snapshot of the snapshot and swaps the two by
//! their names. It is no descendant of the old subvolume then, so snapshots are known by their names and not by their parents.
//!
//! What lies within a subvolume and is no part of it, another subvolume or something that is mounted there, is in no snapshot, and
//! goes with the old one's name: with such a thing within it nothing is gone back to.
//!
//! Listing needs root. A full file system takes a snapshot all the same; the guest's next write then fails.
//!
//! Source: btrfs-subvolume(8); recordings of btrfs-progs 6.2.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Act, BackupSource, Capabilities, InUse, Method, Provider, Refusal, Snapshot, StorageError, command,
    error::{SYSTEM, by_words},
    fit, names, text,
};
use crate::{env::HostCommand, name::SnapshotName};

/// A subvolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Btrfs {
    subvolume: Utf8PathBuf,
}

impl Btrfs {
    /// The subvolume at this path.
    ///
    /// # Errors
    /// [`StorageError::BadName`] for what is no plain absolute path.
    pub fn new(subvolume: impl AsRef<Utf8Path>) -> Result<Self, StorageError> {
        Ok(Self { subvolume: names::path(subvolume.as_ref())? })
    }

    fn place(&self, name: &SnapshotName) -> String {
        format!("{}@{name}", self.subvolume)
    }

    /// A name beside it that nothing has.
    fn aside(&self, fresh: &str) -> String {
        let name = self.subvolume.file_name().unwrap_or_default();
        self.subvolume.with_file_name(format!("{name}.freezeframe-{fresh}")).into_string()
    }
}

fn btrfs(arguments: &[&str]) -> HostCommand {
    command("btrfs", &[&["subvolume"], arguments].concat())
}

fn rename(from: &str, to: &str) -> HostCommand {
    command("mv", &["-T", from, to])
}

/// A path as `findmnt --raw` writes it: some bytes as `\x20`. What becomes no text stays as it is written.
fn unescaped(raw: &str) -> Utf8PathBuf {
    let mut parts = raw.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.split_at_checked(2).map(|(code, rest)| (u8::from_str_radix(code, 16), rest)) {
            Some((Ok(byte), rest)) => {
                bytes.push(byte);
                bytes.extend(rest.bytes());
            }
            _ => return raw.into(),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| raw.to_owned()).into()
}

impl Provider for Btrfs {
    fn method(&self) -> Method {
        Method::Btrfs
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { group: false, backup_source: true, revert_consumes: false }
    }

    fn volume(&self) -> String {
        self.subvolume.to_string()
    }

    /// Where it lies in its file system, and all that is read-only there.
    fn list(&self) -> Vec<HostCommand> {
        vec![btrfs(&["show", self.subvolume.as_str()]), btrfs(&["list", "-r", self.subvolume.as_str()])]
    }

    fn listed(&self, said: &[Vec<u8>]) -> Result<Vec<Snapshot>, StorageError> {
        let [shown, listed] = said else { return Err(StorageError::nonsense("btrfs", "it was not asked")) };
        let live = text("btrfs", shown)?.lines().next().unwrap_or_default();
        if live.rsplit('/').next() != self.subvolume.file_name() {
            // The topmost subvolume is `/` in its file system: there is nothing beside it.
            let words = format!(
                "{} is not shown by its name: it is where its file system is mounted",
                self.subvolume
            );
            return Err(StorageError::NotSupported { words });
        }
        let beside = format!("{live}@");
        let mut names = Vec::new();
        for line in text("btrfs", listed)?.lines() {
            let path = line.split_once(" path ").map(|(_, path)| path);
            let path = path
                .ok_or_else(|| StorageError::nonsense("btrfs", format!("a line without a path: {line}")))?;
            names.extend(path.strip_prefix(&beside));
        }
        Ok(fit(names))
    }

    fn snapshot(&self, name: &SnapshotName, fresh: &str) -> Result<Vec<Act>, StorageError> {
        let aside = self.aside(fresh);
        let make = btrfs(&["snapshot", "-r", self.subvolume.as_str(), &aside]);
        Ok(vec![
            Act::of(make).or_else(btrfs(&["delete", &aside])),
            Act::deciding(rename(&aside, &self.place(name))),
        ])
    }

    fn delete(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        Ok(vec![Act::of(btrfs(&["delete", "--commit-after", &self.place(name)]))])
    }

    fn revert(&self, name: &SnapshotName, fresh: &str) -> Result<Vec<Act>, StorageError> {
        let (live, new, old) =
            (self.subvolume.as_str(), self.aside(fresh), self.aside(&format!("{fresh}-old")));
        Ok(vec![
            Act::of(btrfs(&["snapshot", &self.place(name), &new])).or_else(btrfs(&["delete", &new])),
            Act::of(rename(live, &old)).or_else(rename(&old, live)),
            Act::deciding(rename(&new, live)),
            Act::of(btrfs(&["delete", "--commit-after", &old])),
        ])
    }

    /// The subvolumes right below it, and all that is mounted anywhere.
    fn within(&self) -> Vec<HostCommand> {
        vec![
            btrfs(&["list", "-o", self.subvolume.as_str()]),
            command("findmnt", &["--kernel", "--noheadings", "--raw", "--output", "TARGET"]),
        ]
    }

    /// Both go with its old name: the snapshot has an empty folder for the one, and what is mounted goes when the old one is deleted.
    fn stays_behind(&self, root: &Utf8Path, said: &[Vec<u8>]) -> Result<Option<String>, StorageError> {
        let [nested, mounted] = said else { return Err(StorageError::nonsense("btrfs", "it was not asked")) };
        if let Some(line) = text("btrfs", nested)?.lines().next() {
            let path = line.split_once(" path ").map_or(line, |(_, path)| path);
            return Ok(Some(format!("the subvolume {path}")));
        }
        let mut mounts = text("findmnt", mounted)?.lines().map(unescaped);
        let first = mounts.find(|place| place != root && place.starts_with(root));
        Ok(first.map(|place| format!("what is mounted at {place}")))
    }

    fn folders(&self, _said: &[Vec<u8>]) -> Result<Option<Vec<Utf8PathBuf>>, StorageError> {
        Ok(Some(vec![self.subvolume.clone()]))
    }

    /// Those in subvolumes below it too: they go with its old name, and are seen there no more.
    fn files(&self, _said: &[Vec<u8>]) -> Result<Vec<HostCommand>, StorageError> {
        Ok(vec![command("find", &[self.subvolume.as_str(), "-type", "f", "-print0"])])
    }

    fn backup_source(&self, name: &SnapshotName, image: Option<&InUse>) -> Option<BackupSource> {
        Some(BackupSource::File(self.caught(name, &image?.path)?))
    }

    fn shows_files(&self) -> bool {
        true
    }

    /// A subvolume within it is an empty folder in its snapshots.
    fn caught(&self, name: &SnapshotName, file: &Utf8Path) -> Option<Utf8PathBuf> {
        let place = Utf8PathBuf::from(self.place(name));
        // What an image names beside itself is there already.
        match file.strip_prefix(&self.subvolume) {
            Ok(inside) => Some(place.join(inside)),
            Err(_) => file.starts_with(&place).then(|| file.to_owned()),
        }
    }

    fn refusal(&self, _code: i32, words: &str) -> Refusal {
        let own = [
            ("Not a Btrfs", Refusal::NotSupported),
            // Another subvolume lies within it.
            ("Could not destroy subvolume/snapshot: Directory not empty", Refusal::Busy),
        ];
        by_words(words, &[&own, SYSTEM].concat())
    }
}
