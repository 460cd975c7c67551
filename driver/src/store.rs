//! The records of one machine's snapshots, on the host's disk.
//!
//! ```text
//! <state>/<machine>/s1.xml      one snapshot each, as libvirt would write it
//!                   s2.xml
//!                   current     the name of the current one
//!                   lock        held by whoever works on the machine
//!                   pending     an operation that has not come to its end: see [`crate::journal`]
//!                   capabilities   what its QEMU can do, as the command has found it (no record, and nobody needs it)
//! ```
//!
//! Each file is replaced whole and durably, so that after a crash it holds what it held or what it should. Which snapshot is the
//! current one is said in one file alone: no crash leaves two. (`<active>` in a record is for who reads it as libvirt's.)
//! Folder and files are their owner's alone; symbolic links in it are not followed.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::{
    all::all,
    domain_snapshot::{BadDefinition, DomainSnapshot, Purpose},
    env::{Access, Env, FileKind, OpenFile, Ownership},
    error::Code,
    mutant::{Mutant, planted},
    name::{BadName, SnapshotName},
    tree::{Inconsistent, SnapshotTree},
    xml::Limits,
};

/// The file that names the current snapshot.
const CURRENT: &str = "current";
/// The longest name that a record may have, in bytes: no file's is longer.
const LONGEST: usize = 256;
/// How many records are written at once.
const AT_ONCE: usize = 8;
/// The file that is locked.
const LOCK: &str = "lock";

/// The records of one machine, for this driver alone until it is dropped.
#[derive(Debug)]
pub struct Store<E: Env> {
    env: E,
    folder: Utf8PathBuf,
    tree: SnapshotTree,
    /// The records that cannot be read: of what their snapshots are nobody knows.
    unread: Vec<Utf8PathBuf>,
    /// None of records that are only looked at.
    lock: Option<E::Lock>,
}

/// Why the records cannot be worked with, and how they stand.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The machine's name cannot be that of a folder.
    #[error("the machine's records cannot be kept under its name: {0}. Nothing was touched.")]
    Machine(BadName),
    /// A snapshot's name cannot be that of a file.
    #[error("{0}. Nothing was changed.")]
    Name(#[from] BadName),
    /// Another driver works on the machine.
    #[error(
        "another freezeframe works on this machine's snapshots (it holds `{0}`). Nothing was changed; try again when it is done."
    )]
    Locked(Utf8PathBuf),
    /// The folder is another one's.
    #[error("`{0}` is a symbolic link, and no records are kept behind one. Nothing was changed.")]
    Linked(Utf8PathBuf),
    /// The host refused. What was to be changed is as it was.
    #[error("cannot {action} `{path}`: {source}. The record is as it was before.")]
    File {
        /// `read`, `write`, `remove`, `lock`, `make`.
        action: &'static str,
        /// Which file or folder.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The record is removed or written, and which snapshot is current could not be written down.
    #[error(
        "the records are changed, but which snapshot is current could not be written to `{path}`: {source}. Set it anew with `snapshot current`."
    )]
    CurrentUnknown {
        /// Which file.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A file among the records that is passed over, or a record that does not fit; all stay where they are.
#[derive(Debug, thiserror::Error)]
pub enum Passed {
    /// It cannot be read.
    #[error("the record `{path}` is passed over: {source}")]
    Unreadable {
        /// Which.
        path: Utf8PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no record.
    #[error("the record `{path}` is passed over: {bad}")]
    Bad {
        /// Which.
        path: Utf8PathBuf,
        /// Why.
        bad: BadDefinition,
    },
    /// It holds another snapshot than its name says.
    #[error("the record `{path}` is passed over: it holds the snapshot `{name}`")]
    OtherName {
        /// Which.
        path: Utf8PathBuf,
        /// What it holds.
        name: String,
    },
    /// The records do not make a tree.
    #[error(transparent)]
    Inconsistent(#[from] Inconsistent),
}

impl StoreError {
    /// libvirt's name for it.
    pub fn code(&self) -> Code {
        match self {
            StoreError::Machine(_) | StoreError::Name(_) => Code::XmlDetail,
            StoreError::Locked(_) => Code::OperationTimeout,
            StoreError::Linked(_) | StoreError::File { .. } | StoreError::CurrentUnknown { .. } => {
                Code::SystemError
            }
        }
    }
}

impl<E: Env> Store<E> {
    /// Opens a machine's records under `state`, made if there are none, and locks them. What is passed over is given beside them.
    ///
    /// # Errors
    /// [`StoreError::Machine`], [`StoreError::Linked`], [`StoreError::Locked`], [`StoreError::File`].
    pub async fn open(env: E, state: &Utf8Path, machine: &str) -> Result<(Self, Vec<Passed>), StoreError> {
        let folder = folder(state, machine)?;
        env.create_folder(&folder).await.map_err(|source| failed("make", &folder, source))?;
        check_is_no_link(&env, state, &folder).await?;
        let path = folder.join(LOCK);
        let lock = env.lock(&path).await.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked(path.clone()),
            _ => failed("lock", &path, source),
        })?;
        let (tree, passed) = read_folder(&env, &folder).await?;
        Ok((Self { env, folder, tree, unread: unread(&passed), lock: Some(lock) }, passed))
    }

    /// Reads a machine's records to plan with: nothing is made and nothing locked, and nothing can be saved.
    ///
    /// # Errors
    /// [`StoreError::Machine`], [`StoreError::Linked`], [`StoreError::File`].
    pub async fn look(env: E, state: &Utf8Path, machine: &str) -> Result<(Self, Vec<Passed>), StoreError> {
        let folder = folder(state, machine)?;
        let (tree, passed) = load(&env, state, machine).await?;
        Ok((Self { env, folder, tree, unread: unread(&passed), lock: None }, passed))
    }

    /// The snapshots.
    pub fn tree(&self) -> &SnapshotTree {
        &self.tree
    }

    /// Whether nobody else may write them.
    pub(crate) fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// The files among the records that cannot be read: what their snapshots stand on nobody knows.
    pub fn unread(&self) -> &[Utf8PathBuf] {
        &self.unread
    }

    /// The file of this snapshot's record, if that cannot be read.
    pub fn unread_of(&self, name: &str) -> Option<&Utf8Path> {
        self.unread.iter().find(|path| path.file_stem() == Some(name)).map(|path| &**path)
    }

    /// Removes a record that cannot be read; which snapshot is current is written anew, for it may have been that one.
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::CurrentUnknown`].
    pub async fn remove_unread(&mut self, name: &str) -> Result<(), StoreError> {
        let Some(path) = self.unread_of(name).map(ToOwned::to_owned) else { return Ok(()) };
        self.env.remove_file(&path).await.map_err(|source| failed("remove", &path, source))?;
        self.unread.retain(|unread| *unread != path);
        self.save(self.tree.clone()).await
    }

    /// The folder that they are in.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Takes over a changed tree: writes and removes what differs.
    ///
    /// # Errors
    /// [`StoreError::Name`] before anything is written; [`StoreError::File`], [`StoreError::CurrentUnknown`]: what was written
    /// until then stays, and is read anew.
    pub async fn save(&mut self, tree: SnapshotTree) -> Result<(), StoreError> {
        if self.lock.is_none() {
            return Err(failed("write", &self.folder, io::Error::other("they are only looked at")));
        }
        let changes = Changes::between(&self.folder, &self.tree, &tree)?;
        match changes.write(&self.env).await {
            Ok(()) => {
                self.tree = tree;
                self.unread.retain(|unread| changes.files().all(|written| written != unread));
            }
            Err(error) => {
                // What cannot be read either is as it was last known.
                if let Ok((found, passed)) = read_folder(&self.env, &self.folder).await {
                    (self.tree, self.unread) = (found, unread(&passed));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes over a tree that a plan has written.
    pub(crate) fn adopt(&mut self, tree: SnapshotTree) {
        self.tree = tree;
    }
}

/// What is to be written among a machine's records, and what removed: plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Files and what they shall hold.
    writes: Vec<(Utf8PathBuf, String)>,
    /// Files that shall be gone.
    removals: Vec<Utf8PathBuf>,
    /// The file that names the current snapshot, and what it shall hold.
    current: (Utf8PathBuf, String),
}

impl Changes {
    /// From one tree to another, in the folder of their records.
    ///
    /// # Errors
    /// [`BadName`] of a snapshot that no file can be named after.
    pub fn between(folder: &Utf8Path, old: &SnapshotTree, new: &SnapshotTree) -> Result<Self, BadName> {
        let (mut writes, mut removals) = (Vec::new(), Vec::new());
        for name in new.changed_since(old) {
            let path = folder.join(format!("{}.xml", SnapshotName::new(name.clone())?));
            match new.get(&name) {
                None => removals.push(path),
                Some(record) => {
                    let active = new.current() == Some(&*name);
                    writes.push((path, DomainSnapshot { active: Some(active), ..record.clone() }.file()));
                }
            }
        }
        let current = format!("{}\n", new.current().unwrap_or_default());
        Ok(Self { writes, removals, current: (folder.join(CURRENT), current) })
    }

    /// Writes and removes, each file at once: children before what they came from is removed, and at last which is current.
    ///
    /// # Errors
    /// [`StoreError::File`], [`StoreError::CurrentUnknown`]: what was written until then stays.
    pub async fn write<E: Env>(&self, env: &E) -> Result<(), StoreError> {
        // Some at once: each waits for the disk.
        for some in self.writes.chunks(AT_ONCE) {
            let write = async |(path, file): &(Utf8PathBuf, String)| {
                let written = match planted(Mutant::WritesRecordsInPlace) {
                    true => write_in_place(env, path, file.as_bytes()).await,
                    false => env.replace_file(path, file.as_bytes()).await,
                };
                written.map_err(|source| failed("write", path, source))
            };
            all(some.iter().map(write)).await.into_iter().collect::<Result<(), StoreError>>()?;
        }
        for path in &self.removals {
            match env.remove_file(path).await {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", path, source));
                }
                _ => {}
            }
        }
        // It makes the removals durable too: they are changes of the same folder.
        let (path, current) = &self.current;
        let unknown = |source| StoreError::CurrentUnknown { path: path.clone(), source };
        env.replace_file(path, current.as_bytes()).await.map_err(unknown)
    }

    /// Whether all of it stands in the files.
    ///
    /// # Errors
    /// [`StoreError::File`].
    pub(crate) async fn are_written<E: Env>(&self, env: &E) -> Result<bool, StoreError> {
        for path in &self.removals {
            let kind = env.file_kind(path).await.map_err(|source| failed("look at", path, source))?;
            if kind != FileKind::Absent {
                return Ok(false);
            }
        }
        for (path, wanted) in self.writes.iter().chain([&self.current]) {
            match env.read_file(path, wanted.len()).await {
                Ok(held) if held == wanted.as_bytes() => {}
                Ok(_) => return Ok(false),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge) =>
                {
                    return Ok(false);
                }
                Err(source) => return Err(failed("read", path, source)),
            }
        }
        Ok(true)
    }

    /// Whether none of it stands in the files, which may be of a try that has failed.
    pub(crate) async fn are_unwritten<E: Env>(&self, env: &E) -> bool {
        for path in &self.removals {
            if !matches!(env.file_kind(path).await, Ok(kind) if kind != FileKind::Absent) {
                return false;
            }
        }
        for (path, wanted) in &self.writes {
            match env.read_file(path, wanted.len()).await {
                Ok(held) if held != wanted.as_bytes() => {}
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {}
                _ => return false,
            }
        }
        true
    }

    /// The snapshot that shall be the current one, if one shall.
    pub(crate) fn current(&self) -> Option<&str> {
        Some(self.current.1.trim_end()).filter(|name| !name.is_empty())
    }

    /// The files that are written, and what they shall hold.
    pub fn writes(&self) -> &[(Utf8PathBuf, String)] {
        &self.writes
    }

    /// All files that are touched.
    pub fn files(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        self.writes.iter().map(|(path, _)| path).chain(&self.removals).chain([&self.current.0])
    }
}

/// Reads a machine's records under `state` without a lock: each is whole, though somebody may be changing them. What is passed
/// over is given beside them.
///
/// # Errors
/// [`StoreError::Machine`], [`StoreError::Linked`], [`StoreError::File`].
pub async fn load<E: Env>(
    env: &E,
    state: &Utf8Path,
    machine: &str,
) -> Result<(SnapshotTree, Vec<Passed>), StoreError> {
    let folder = folder(state, machine)?;
    check_is_no_link(env, state, &folder).await?;
    read_folder(env, &folder).await
}

/// Whoever may make a link among the folders of the records could have another machine's worked on.
async fn check_is_no_link<E: Env>(env: &E, state: &Utf8Path, folder: &Utf8Path) -> Result<(), StoreError> {
    let real = async |path: &Utf8Path| match env.canonical(path).await {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        real => real.map(Some).map_err(|source| failed("look at", path, source)),
    };
    let found = all([state, folder].map(real)).await.into_iter().collect::<Result<Option<Vec<_>>, _>>()?;
    let Some([state, real]) = found.as_deref() else { return Ok(()) };
    let is_it = folder.file_name().is_some_and(|name| state.join(name) == *real);
    if is_it { Ok(()) } else { Err(StoreError::Linked(folder.to_owned())) }
}

/// Reads the records in a folder, without a lock.
pub(crate) async fn read_folder<E: Env>(
    env: &E,
    folder: &Utf8Path,
) -> Result<(SnapshotTree, Vec<Passed>), StoreError> {
    let names = match env.list_folder(folder).await {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|source| failed("read", folder, source))?,
    };
    let (mut records, mut passed) = (Vec::new(), Vec::new());
    for name in names.iter().filter_map(|name| name.strip_suffix(".xml")) {
        match read(env, folder, name).await {
            Ok(record) => records.push(record),
            Err(why) => passed.push(why),
        }
    }
    let current = if names.iter().any(|name| name == CURRENT) {
        let path = folder.join(CURRENT);
        let bytes = env.read_file(&path, LONGEST).await.map_err(|source| failed("read", &path, source))?;
        Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
    } else {
        // Records that were libvirt's say it themselves.
        records.iter().find(|record| record.active == Some(true)).and_then(|record| record.name.clone())
    };
    let (tree, wrong) = SnapshotTree::new(records, current.filter(|name| !name.is_empty()));
    passed.extend(wrong.into_iter().map(Passed::from));
    Ok((tree, passed))
}

/// Only where that mistake is planted: whoever is killed meanwhile leaves half of it.
async fn write_in_place<E: Env>(env: &E, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    match env.create_new(path, &Ownership::Own).await {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let file = env.open(path, Access::Write).await?;
    file.set_length(0).await?;
    file.write_at(0, bytes).await
}

/// The files of those that cannot be read.
fn unread(passed: &[Passed]) -> Vec<Utf8PathBuf> {
    let path = |passed: &Passed| match passed {
        Passed::Unreadable { path, .. } | Passed::Bad { path, .. } | Passed::OtherName { path, .. } => {
            Some(path.clone())
        }
        Passed::Inconsistent(_) => None,
    };
    passed.iter().filter_map(path).collect()
}

/// The folder of a machine's records: its name is under the same rules as a file's.
fn folder(state: &Utf8Path, machine: &str) -> Result<Utf8PathBuf, StoreError> {
    Ok(state.join(SnapshotName::new(machine).map_err(StoreError::Machine)?.as_str()))
}

fn failed(action: &'static str, path: &Utf8Path, source: io::Error) -> StoreError {
    StoreError::File { action, path: path.to_owned(), source }
}

async fn read<E: Env>(env: &E, folder: &Utf8Path, name: &str) -> Result<DomainSnapshot, Passed> {
    let path = folder.join(format!("{name}.xml"));
    let bytes = match env.read_file(&path, Limits::default().bytes).await {
        Ok(bytes) => bytes,
        Err(source) => return Err(Passed::Unreadable { path, source }),
    };
    match DomainSnapshot::read(&bytes, Purpose::Load) {
        Err(bad) => Err(Passed::Bad { path, bad }),
        Ok(record) if record.name.as_deref() == Some(name) => Ok(record),
        Ok(record) => Err(Passed::OtherName { path, name: record.name.unwrap_or_default() }),
    }
}
