//! What a backup reads of a snapshot that a storage has: an image with all that it stands on, none of which anybody writes any more.
//!
//! The header of an image names what is behind it by its path in the live volume:
//!
//! ```text
//! /pool/vm1/vda.s1 -> /pool/vm1/vda.qcow2     a merge writes there
//! /pool/vm1@s1/vda.s1 -> /pool/vm1@s1/vda.qcow2      what was caught with it is read from the snapshot
//! ```
//! What was not caught with it, the file beside a reflink or one on another file system, changes under it when overlays are merged:
//! then no backup reads the snapshot. It can be gone back to all the same, as long as nothing was merged.

use std::{fmt, io};

use camino::{Utf8Path, Utf8PathBuf};

use super::{DiskError, document::Described};
use crate::{
    env::Env,
    mark,
    name::SnapshotName,
    qemu_img::{Backing, QemuImg},
    storage::{BackupSource, InUse, Provider},
};

/// No chain is longer.
const DEEPEST: usize = 200;

/// How often a link out of a snapshot is followed back into it.
const LINKS: usize = 8;

/// An image that nobody writes, and all that is behind it, neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) image: BackupSource,
    pub(super) behind: Vec<Backing>,
}

impl Source {
    /// What a snapshot that is there holds of a disk.
    ///
    /// # Errors
    /// [`DiskError::NotRead`].
    pub(super) async fn of<E: Env>(
        tool: &QemuImg<E>,
        provider: &dyn Provider,
        name: &SnapshotName,
        disk: &Described,
    ) -> Result<Self, DiskError> {
        let not_read = |why: String| DiskError::NotRead { target: disk.target.clone(), why };
        let in_use = match &disk.image {
            Some(path) => Some(InUse::ask(&tool.env, path).await),
            None => None,
        };
        let image = match &in_use {
            Some(used) if provider.shows_files() => {
                let seen = seen(&tool.env, provider, name, &used.path).await;
                BackupSource::File(seen.map_err(|unseen| not_read(unseen.to_string()))?)
            }
            in_use => provider
                .backup_source(name, in_use.as_ref())
                .ok_or_else(|| not_read(format!("{} shows no snapshot of it", provider.method())))?,
        };
        let mut behind = Vec::new();
        let (BackupSource::File(file) | BackupSource::Block(file)) = &image else {
            return Ok(Self { image, behind });
        };
        let mut above = Backing { file: file.clone(), format: disk.format.clone() };
        while above.format != "raw" && behind.len() < DEEPEST {
            let info = tool.info(&above.file, &above.format).await;
            let info = info.map_err(|error| not_read(mark::told(&error)))?;
            if let Some(data) = info.data_file(&above.file) {
                let why =
                    format!("{} keeps its data in {data}, where its header would have them read", above.file);
                return Err(not_read(why));
            }
            let Some(live) = info.full_backing_filename.map(Utf8PathBuf::from) else { break };
            let seen = seen(&tool.env, provider, name, &live).await;
            let file = seen.map_err(|unseen| not_read(format!("it stands on {}", unseen.below())))?;
            let format = info.backing_filename_format;
            let format = format
                .ok_or_else(|| not_read(format!("{} does not state the format of {live}", above.file)))?;
            above = Backing { file, format };
            behind.push(above.clone());
        }
        Ok(Self { image, behind })
    }
}

/// Why a file is not seen in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unseen {
    /// It lies elsewhere.
    NotCaught(Utf8PathBuf),
    /// It is not there, in the system's words.
    Gone(Utf8PathBuf, String),
}

impl Unseen {
    /// The same of an image that another one stands on.
    fn below(&self) -> String {
        match self {
            Unseen::NotCaught(file) => {
                format!("{file}, which was not caught with it, and may be merged into")
            }
            gone @ Unseen::Gone(..) => format!("what is not there: {gone}"),
        }
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unseen::NotCaught(file) => write!(f, "{file} was not caught"),
            Unseen::Gone(place, why) => write!(f, "the snapshot holds no {place} ({why})"),
        }
    }
}

/// Where a snapshot has a file of the live volume, by its one name there. A link in the snapshot is followed as it was then: one within
/// the live volume leads to what was caught of that, and one out of it to nothing that was.
pub(super) async fn seen<E: Env>(
    env: &E,
    provider: &dyn Provider,
    name: &SnapshotName,
    file: &Utf8Path,
) -> Result<Utf8PathBuf, Unseen> {
    let gone = |place: &Utf8Path, error: io::Error| Unseen::Gone(place.to_owned(), error.to_string());
    let volume = Utf8PathBuf::from(provider.volume());
    let Some(root) = provider.caught(name, &volume) else { return Err(Unseen::NotCaught(file.to_owned())) };
    let root = env.canonical(&root).await.map_err(|error| gone(&root, error))?;
    let mut file = file.to_owned();
    for _ in 0..LINKS {
        let place = match provider.caught(name, &file) {
            Some(place) => Some(place),
            None => env.canonical(&file).await.ok().and_then(|real| provider.caught(name, &real)),
        };
        let Some(place) = place else { return Err(Unseen::NotCaught(file)) };
        let real = env.canonical(&place).await.map_err(|error| gone(&place, error))?;
        if real.starts_with(&root) {
            return Ok(real);
        }
        file = real;
    }
    Err(Unseen::NotCaught(file))
}
