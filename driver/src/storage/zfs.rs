//! A data set of ZFS, file system or volume, or several as one group: `tank/vm1`, and `tank/vm1@s1`.
//!
//! Several are caught at one point in time by one `zfs snapshot`, where the tool takes several names: OpenZFS does, the old
//! zfs-fuse does not and says so. ZFS goes back to the newest snapshot alone: to go back further would destroy those in
//! between, and nothing here does that unasked. `-p`, which zfs-fuse has not for lists, is not used.
//!
//! Source: zfs-snapshot(8), zfs-rollback(8), zfs-destroy(8); recordings of zfs-fuse 0.7.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Act, BackupSource, Capabilities, InUse, Method, Provider, Refusal, Snapshot, StorageError, command,
    error::{SYSTEM, by_words},
    fit, names, text,
};
use crate::{env::HostCommand, name::SnapshotName};

/// A data set, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zfs {
    sets: Vec<String>,
}

impl Zfs {
    /// These data sets, whose snapshots are taken as one.
    ///
    /// # Errors
    /// [`StorageError::BadName`] for what is no data set's name, or without one.
    pub fn new(sets: &[&str]) -> Result<Self, StorageError> {
        if sets.is_empty() {
            return Err(StorageError::bad_name("", "no data set is named"));
        }
        let sets = sets.iter().map(|set| names::pooled(set, 1..=50, names::plain_char));
        Ok(Self { sets: sets.collect::<Result<_, _>>()? })
    }

    fn places(&self, name: &SnapshotName) -> Result<Vec<String>, StorageError> {
        let name = names::snapshot(name, names::plain_char)?;
        Ok(self.sets.iter().map(|set| format!("{set}@{name}")).collect())
    }
}

/// Where a data set is found.
enum Mounted<'s> {
    /// It is a volume.
    Volume,
    No,
    At(&'s str),
    /// By other means than those of ZFS.
    Elsewhere,
}

fn mounted(said: &[u8]) -> Result<Mounted<'_>, StorageError> {
    match text("zfs", said)?.lines().collect::<Vec<_>>().as_slice() {
        ["-", _] => Ok(Mounted::Volume),
        ["no", _] => Ok(Mounted::No),
        ["yes", folder] if folder.starts_with('/') => Ok(Mounted::At(folder)),
        ["yes", _] => Ok(Mounted::Elsewhere),
        other => Err(StorageError::nonsense("zfs", format!("no mount point: {other:?}"))),
    }
}

fn zfs(arguments: &[&str]) -> HostCommand {
    command("zfs", arguments)
}

impl Provider for Zfs {
    fn method(&self) -> Method {
        Method::Zfs
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { group: true, backup_source: false, revert_consumes: false }
    }

    fn volume(&self) -> String {
        self.sets.join(" ")
    }

    fn list(&self) -> Vec<HostCommand> {
        let of = |set: &String| zfs(&["list", "-H", "-d", "1", "-t", "snapshot", "-o", "name", set]);
        self.sets.iter().map(of).collect()
    }

    /// Those that all of the data sets have.
    fn listed(&self, said: &[Vec<u8>]) -> Result<Vec<Snapshot>, StorageError> {
        let mut common: Option<Vec<&str>> = None;
        for (set, said) in self.sets.iter().zip(said) {
            let beside = format!("{set}@");
            let lines = text("zfs", said)?.lines();
            let of_it: Vec<&str> = lines.filter_map(|line| line.strip_prefix(&beside)).collect();
            common = Some(match common {
                None => of_it,
                Some(others) => others.into_iter().filter(|name| of_it.contains(name)).collect(),
            });
        }
        Ok(fit(common.unwrap_or_default()))
    }

    fn snapshot(&self, name: &SnapshotName, _fresh: &str) -> Result<Vec<Act>, StorageError> {
        let places = self.places(name)?;
        let words: Vec<&str> = ["snapshot"].into_iter().chain(places.iter().map(String::as_str)).collect();
        Ok(vec![Act::of(zfs(&words))])
    }

    fn delete(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        Ok(self.places(name)?.iter().map(|place| Act::deciding(zfs(&["destroy", place]))).collect())
    }

    fn revert(&self, name: &SnapshotName, _fresh: &str) -> Result<Vec<Act>, StorageError> {
        Ok(self.places(name)?.iter().map(|place| Act::deciding(zfs(&["rollback", place]))).collect())
    }

    fn place(&self) -> Vec<HostCommand> {
        let of = |set: &String| zfs(&["get", "-H", "-o", "value", "mounted,mountpoint", set]);
        self.sets.iter().map(of).collect()
    }

    /// A volume is a device; what is not mounted holds nothing that anybody uses.
    fn folders(&self, said: &[Vec<u8>]) -> Result<Option<Vec<Utf8PathBuf>>, StorageError> {
        let mut places = Vec::new();
        for (set, said) in self.sets.iter().zip(said) {
            places.extend(match mounted(said)? {
                Mounted::Volume => Some(Utf8Path::new("/dev/zvol").join(set)),
                Mounted::No => None,
                Mounted::At(folder) => Some(folder.into()),
                Mounted::Elsewhere => return Ok(None),
            });
        }
        Ok(Some(places))
    }

    /// A volume has none, and what is not mounted nobody has open. A data set below it is another one.
    fn files(&self, said: &[Vec<u8>]) -> Result<Vec<HostCommand>, StorageError> {
        let mut commands = Vec::new();
        for said in said {
            match mounted(said)? {
                Mounted::Volume | Mounted::No => {}
                Mounted::At(folder) => {
                    commands.push(command("find", &[folder, "-xdev", "-type", "f", "-print0"]));
                }
                Mounted::Elsewhere => {
                    let words = format!("where {} is mounted is not known to ZFS", self.volume());
                    return Err(StorageError::NotSupported { words });
                }
            }
        }
        Ok(commands)
    }

    fn backup_source(&self, _name: &SnapshotName, _image: Option<&InUse>) -> Option<BackupSource> {
        None
    }

    fn refusal(&self, _code: i32, words: &str) -> Refusal {
        let own = [
            ("dataset already exists", Refusal::Exists),
            ("does not exist", Refusal::Gone),
            ("dependent clones", Refusal::Busy),
            ("more recent snapshots", Refusal::Busy),
            ("dataset is busy", Refusal::Busy),
            ("too many arguments", Refusal::NotSupported),
            ("out of space", Refusal::NoSpace),
        ];
        by_words(words, &[&own[..], SYSTEM].concat())
    }
}
