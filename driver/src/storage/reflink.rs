//! A file whose snapshots share its blocks: `/images/vda.raw` and `/images/vda.raw@s1`. For xfs and btrfs.
//!
//! Each file is a snapshot of its own point in time: two disks in one need a frozen or paused guest.
//!
//! The copy is made under a name that nothing has, is written out, and gets its own name by a hard link, which no file that is
//! there can be lost to: `cp` would overwrite one, or with `-n` do nothing and say nothing. While somebody has frozen the
//! host's file system a copy hangs and cannot be killed, and an empty file is left of it.
//!
//! Source: ioctl_ficlonerange(2), cp(1); recordings of coreutils 9.1 on xfs and btrfs.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    Act, BackupSource, Capabilities, InUse, Method, Provider, Refusal, Snapshot, StorageError, command,
    error::{SYSTEM, by_words},
    fit, names, text,
};
use crate::{env::HostCommand, name::SnapshotName};

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflink {
    file: Utf8PathBuf,
}

impl Reflink {
    /// The file at this path.
    ///
    /// # Errors
    /// [`StorageError::BadName`] for what is no plain absolute path.
    pub fn new(file: impl AsRef<Utf8Path>) -> Result<Self, StorageError> {
        Ok(Self { file: names::path(file.as_ref())? })
    }

    fn name(&self) -> &str {
        self.file.file_name().unwrap_or_default()
    }

    fn folder(&self) -> &str {
        self.file.parent().map_or("/", Utf8Path::as_str)
    }

    fn place(&self, name: &SnapshotName) -> String {
        format!("{}@{name}", self.file)
    }

    /// A copy under another name, written out.
    fn copy(&self, from: &str, aside: &str) -> [Act; 2] {
        let copy = command("cp", &["--reflink=always", "--preserve=all", from, aside]);
        [Act::of(copy).or_else(remove(aside)), Act::of(sync(aside))]
    }

    fn aside(&self, fresh: &str) -> String {
        self.file.with_file_name(format!("{}.freezeframe-{fresh}", self.name())).into_string()
    }
}

fn remove(file: &str) -> HostCommand {
    command("rm", &[file])
}

fn sync(path: &str) -> HostCommand {
    command("sync", &[path])
}

impl Provider for Reflink {
    fn method(&self) -> Method {
        Method::Reflink
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { group: false, backup_source: true, revert_consumes: false }
    }

    fn volume(&self) -> String {
        self.file.to_string()
    }

    fn list(&self) -> Vec<HostCommand> {
        let all = ["-mindepth", "1", "-maxdepth", "1", "-type", "f", "-printf", "%f\\0"];
        vec![command("find", &[&[self.folder()], &all[..]].concat())]
    }

    fn listed(&self, said: &[Vec<u8>]) -> Result<Vec<Snapshot>, StorageError> {
        let [said] = said else { return Err(StorageError::nonsense("find", "it was not asked")) };
        // Names that are no text are none of ours.
        let found = said.split(|byte| *byte == 0).filter_map(|name| text("find", name).ok());
        let mut found: Vec<&str> = found.collect();
        found.sort_unstable();
        if !found.contains(&self.name()) {
            return Err(StorageError::Gone {
                words: format!("there is no file {}; a link to one is none", self.file),
            });
        }
        let beside = format!("{}@", self.name());
        Ok(fit(found.into_iter().filter_map(|name| name.strip_prefix(&beside))))
    }

    fn snapshot(&self, name: &SnapshotName, fresh: &str) -> Result<Vec<Act>, StorageError> {
        let aside = self.aside(fresh);
        let mut acts = self.copy(self.file.as_str(), &aside).to_vec();
        acts.push(Act::deciding(command("ln", &["-T", &aside, &self.place(name)])));
        acts.push(Act::of(remove(&aside)));
        acts.push(Act::of(sync(self.folder())));
        Ok(acts)
    }

    fn delete(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        Ok(vec![Act::deciding(remove(&self.place(name))), Act::of(sync(self.folder()))])
    }

    /// The copy takes the place of the live file at once: whenever the host dies, there is the one or the other.
    fn revert(&self, name: &SnapshotName, fresh: &str) -> Result<Vec<Act>, StorageError> {
        let aside = self.aside(fresh);
        let mut acts = self.copy(&self.place(name), &aside).to_vec();
        acts.push(Act::deciding(command("mv", &["-T", &aside, self.file.as_str()])));
        acts.push(Act::of(sync(self.folder())));
        Ok(acts)
    }

    fn backup_source(&self, name: &SnapshotName, _image: Option<&InUse>) -> Option<BackupSource> {
        Some(BackupSource::File(self.place(name).into()))
    }

    fn refusal(&self, _code: i32, words: &str) -> Refusal {
        by_words(words, SYSTEM)
    }
}
