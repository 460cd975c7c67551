//! Snapshots that the storage below the disks takes by itself: btrfs, reflink files, LVM, ZFS, RBD, or a program of the user's.
//!
//! A [`Provider`] is a volume (or several, as one group) together with what it knows of its tool: it tells which commands do
//! an operation, and reads what they say. It is pure: it runs nothing. The [`shell`] runs the commands through
//! [`Env::run`](crate::env::Env::run), one operation the same way for every storage:
//!
//! ```text
//!   list -> is the operation possible? -> acts, in order, up to the one that decides -> the rest -> list again: is it so?
//!                                           | one fails: what was begun is undone, newest first
//!                                           | one does not end: list, and tell what is
//! ```
//!
//! A tool's success alone is never taken for the truth, nor is a command that did not end taken for nothing done. Nothing is
//! overwritten by a snapshot: what has its name already, snapshot or not, stays.
//!
//! What it does not do: freeze the guest, switch the machine's disks, or know whether a machine is running. To go back to a
//! snapshot under a machine that runs destroys its file systems; where the storage tells who has a volume open, that is asked
//! for and refused, and elsewhere it is the caller who knows.

pub mod btrfs;
mod error;
pub mod exec;
mod holds;
pub mod lvm;
mod names;
pub mod rbd;
pub mod reflink;
pub mod shell;
mod volumes;
pub mod zfs;

use std::{fmt, str::FromStr, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

pub(crate) use self::shell::{absent, present};
pub use self::{
    btrfs::Btrfs,
    error::{Refusal, StorageError},
    exec::Exec,
    lvm::Lvm,
    rbd::Rbd,
    reflink::Reflink,
    shell::Storage,
    volumes::Volumes,
    zfs::Zfs,
};
use crate::{
    env::{Env, FileKind, HostCommand},
    name::SnapshotName,
};

/// Who takes a disk's snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A subvolume of btrfs.
    Btrfs,
    /// A file on a file system that can let files share their blocks: xfs, btrfs.
    Reflink,
    /// A logical volume, thick or thin.
    Lvm,
    /// A data set of ZFS.
    Zfs,
    /// An image in a Ceph pool.
    Rbd,
    /// Whatever a program of the user's makes of it.
    Exec,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 6] =
        [Method::Btrfs, Method::Reflink, Method::Lvm, Method::Zfs, Method::Rbd, Method::Exec];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Btrfs => "btrfs",
            Method::Reflink => "reflink",
            Method::Lvm => "lvm",
            Method::Zfs => "zfs",
            Method::Rbd => "rbd",
            Method::Exec => "exec",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Method::ALL.into_iter().find(|method| method.name() == word);
        known.ok_or_else(|| format!("no such method; they are: {}", Method::ALL.map(Method::name).join(", ")))
    }
}

/// What a storage can do beyond snapshots of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// It takes the snapshots of several volumes at one point in time.
    pub group: bool,
    /// A snapshot can be read beside the live volume; see [`Provider::backup_source`].
    pub backup_source: bool,
    /// To go back to a snapshot uses it up: it is gone afterwards.
    pub revert_consumes: bool,
}

/// A snapshot that the storage has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its name.
    pub name: SnapshotName,
    /// Whether it still holds what it was taken of: a thick one of LVM that ran out of room does not.
    pub fit: bool,
    /// The volume that it is of, where that is another than the disk's: the image that an overlay of it stands on by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
}

impl Snapshot {
    fn fit(name: SnapshotName) -> Self {
        Self { name, fit: true, of: None }
    }
}

/// The file or device that a machine uses of a volume, as the host finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InUse {
    /// Where it is.
    pub path: Utf8PathBuf,
    /// Whether it is a block device.
    pub device: bool,
}

impl InUse {
    /// Asks the host what it is. What cannot be looked at is taken for a file.
    pub async fn ask<E: Env>(env: &E, path: &Utf8Path) -> Self {
        let device = matches!(env.file_kind(path).await, Ok(FileKind::Device));
        Self { path: path.to_owned(), device }
    }
}

/// Where a backup reads a snapshot: always read-only, for a write to it would break what it is there for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupSource {
    /// A file.
    File(Utf8PathBuf),
    /// A block device.
    Block(Utf8PathBuf),
    /// An image in a Ceph pool: `pool/image@snapshot`.
    Rbd(String),
}

/// A command of an operation, and what takes it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// What is run.
    pub run: HostCommand,
    /// What clears away what it did, or the part that it did before it failed. That it finds nothing is no failure.
    pub undo: Option<HostCommand>,
    /// Once this is done the operation is done: what comes behind only tidies up, and is tried whatever fails of it.
    pub decides: bool,
}

impl Act {
    fn of(run: HostCommand) -> Self {
        Self { run, undo: None, decides: false }
    }

    fn or_else(self, undo: HostCommand) -> Self {
        Self { undo: Some(undo), ..self }
    }

    fn deciding(run: HostCommand) -> Self {
        Self { decides: true, ..Self::of(run) }
    }
}

/// A volume, or several as one group, and how its storage's tool is spoken to. Pure: commands and what they say.
pub trait Provider: fmt::Debug {
    /// Which storage it is.
    fn method(&self) -> Method;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// What it is of, for messages: `/pool/vm1`, `vg/vm1`.
    fn volume(&self) -> String;

    /// What is run to learn its snapshots, in order. A volume that is not there makes one of them fail.
    fn list(&self) -> Vec<HostCommand>;

    /// The snapshots, by what those commands said, one output each. Those whose names nobody could ask for are left out.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be understood, or says that it failed.
    fn listed(&self, said: &[Vec<u8>]) -> Result<Vec<Snapshot>, StorageError>;

    /// What takes a snapshot. The first act is the moment that is caught: a guest that is to be at rest may go on behind it.
    /// `fresh` is a word that nothing has in its name yet.
    ///
    /// # Errors
    /// [`StorageError`] if this storage cannot have one of that name.
    fn snapshot(&self, name: &SnapshotName, fresh: &str) -> Result<Vec<Act>, StorageError>;

    /// What is run to learn whether a snapshot that is taken now gets the room that it is to have; nothing where the storage itself
    /// refuses one that would not.
    fn room(&self) -> Vec<HostCommand> {
        Vec::new()
    }

    /// Whether it does, by what those commands said.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]; and if it cannot be understood.
    fn check_room(&self, _said: &[Vec<u8>]) -> Result<(), StorageError> {
        Ok(())
    }

    /// What is run to learn how much room a snapshot that was just made has; nothing where the storage itself refuses what it has no
    /// room for.
    fn given(&self, _name: &SnapshotName) -> Vec<HostCommand> {
        Vec::new()
    }

    /// Whether that is what it was to have, by what those commands said.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`]; and if it cannot be understood.
    fn check_given(&self, _said: &[Vec<u8>]) -> Result<(), StorageError> {
        Ok(())
    }

    /// What deletes a snapshot.
    ///
    /// # Errors
    /// [`StorageError`] if this storage cannot have one of that name.
    fn delete(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError>;

    /// What lets the live volume be what the snapshot holds. What was written since is lost.
    ///
    /// # Errors
    /// [`StorageError`] if this storage cannot have one of that name.
    fn revert(&self, name: &SnapshotName, fresh: &str) -> Result<Vec<Act>, StorageError>;

    /// What lets go of a snapshot and keeps all that was written since. The live volume of every storage here holds all of its
    /// data by itself, so that this is to delete the snapshot.
    ///
    /// # Errors
    /// [`StorageError`] if this storage cannot have one of that name.
    fn merge(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        self.delete(name)
    }

    /// What is run to learn who has the volume open; nothing where the storage does not tell.
    fn users(&self) -> Vec<HostCommand> {
        Vec::new()
    }

    /// What keeps it from going back to this snapshot, by what those commands said: who has it open, or what would be lost.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be understood.
    fn used(&self, _name: &SnapshotName, _said: &[Vec<u8>]) -> Result<Option<String>, StorageError> {
        Ok(None)
    }

    /// What is run to learn what lies within the volume and does not go back with it; nothing where no such thing can.
    fn within(&self) -> Vec<HostCommand> {
        Vec::new()
    }

    /// The first of it, by what those commands said. `root` is the volume's one name.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be understood.
    fn stays_behind(&self, _root: &Utf8Path, _said: &[Vec<u8>]) -> Result<Option<String>, StorageError> {
        Ok(None)
    }

    /// What is run to learn where the files of the volume are; nothing where that is known, or where it has none.
    fn place(&self) -> Vec<HostCommand> {
        Vec::new()
    }

    /// The folders and devices in which all lies that is caught, by what those commands said; nothing where what the machine uses is the
    /// volume, or where nobody can tell.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be understood.
    fn folders(&self, _said: &[Vec<u8>]) -> Result<Option<Vec<Utf8PathBuf>>, StorageError> {
        Ok(None)
    }

    /// What is run to learn which files go back with the volume, by what those commands said: each ends in a zero byte. Nothing
    /// where a volume is all one disk's.
    ///
    /// # Errors
    /// [`StorageError`] if it cannot be understood, or if nobody can look there.
    fn files(&self, _said: &[Vec<u8>]) -> Result<Vec<HostCommand>, StorageError> {
        Ok(Vec::new())
    }

    /// Where a backup reads a snapshot of what the machine uses; none where it cannot.
    fn backup_source(&self, name: &SnapshotName, image: Option<&InUse>) -> Option<BackupSource>;

    /// Whether its snapshots are seen beside it, file by file, where [`Provider::caught`] says.
    fn shows_files(&self) -> bool {
        false
    }

    /// Where a file of the live volume is seen in a snapshot, by its name alone: whether it is there, and is no link out of it, the
    /// host tells. None where it is not in the volume, or is seen nowhere. What is in the snapshot already is seen there.
    fn caught(&self, _name: &SnapshotName, _file: &Utf8Path) -> Option<Utf8PathBuf> {
        None
    }

    /// What is meant by the words and the exit code (not 0) of a command.
    fn refusal(&self, code: i32, words: &str) -> Refusal;

    /// Whether an act that ended with 0 did what it was told to, by what it said.
    ///
    /// # Errors
    /// [`StorageError`] if it says that it did not.
    fn understood(&self, _said: &[u8]) -> Result<(), StorageError> {
        Ok(())
    }
}

/// How long a command may take unless the [`Storage`] is told otherwise.
pub const WITHIN: Duration = Duration::from_secs(60);

/// A command of a storage's tool.
fn command(program: &str, arguments: &[&str]) -> HostCommand {
    HostCommand::new(program, arguments.iter().copied(), WITHIN)
}

/// What a command said, as text.
///
/// # Errors
/// [`StorageError::Nonsense`].
fn text<'s>(program: &'static str, said: &'s [u8]) -> Result<&'s str, StorageError> {
    std::str::from_utf8(said).map_err(|_| StorageError::nonsense(program, "it is no text"))
}

/// The snapshots of these names, in their order.
fn fit(names: impl IntoIterator<Item = impl Into<String>>) -> Vec<Snapshot> {
    names.into_iter().filter_map(|name| SnapshotName::new(name).ok()).map(Snapshot::fit).collect()
}

#[cfg(test)]
mod tests;
