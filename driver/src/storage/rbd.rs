//! An image in a Ceph pool, or a group of images: `pool/vm1` and `pool/vm1@s1`; `pool/group` and `pool/group@s1`.
//!
//! The snapshot of a group is one point in time of all its images. The group is the operator's (`rbd group create`, `rbd group
//! image add`), and must hold exactly the images that are asked for: one more would be caught or put back unasked, one less
//! would be missing. A group that does not exist is listed by the tool as an empty one, without an error.
//!
//! A full pool and a cluster that is down let the tool wait for ever, so it is given times of its own; what it was to do is
//! then unknown. Its exit code is the number of the system's error. What it says beside its own words (`rbd: ...`) is the
//! library's log. To go back to a snapshot takes the lock away from a machine that runs: who watches an image is asked first.
//!
//! Source: rbd(8); recordings of Ceph 16.2.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use super::{
    Act, BackupSource, Capabilities, InUse, Method, Provider, Refusal, Snapshot, StorageError, command, fit,
    names,
};
use crate::{env::HostCommand, name::SnapshotName};

/// An image, or a group of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rbd {
    /// The image or the group.
    place: String,
    /// The images of a group, sorted; none for a single image.
    members: Option<Vec<String>>,
    /// Ceph's own file of settings; where Ceph looks for it by itself otherwise.
    settings: Option<Utf8PathBuf>,
}

/// A snapshot of an image, as `snap ls` has it. `protected` is a text there, and of no use here.
#[derive(Debug, Deserialize)]
struct ImageSnapshot {
    name: String,
}

/// A snapshot of a group, as `group snap ls` has it.
#[derive(Debug, Deserialize)]
struct GroupSnapshot {
    snapshot: String,
    state: String,
}

/// An image of a group, as `group image list` has it.
#[derive(Debug, Deserialize)]
struct Member {
    image: String,
    pool: String,
    #[serde(default)]
    namespace: String,
}

impl Member {
    fn name(&self) -> String {
        let inside: &[&str] = if self.namespace.is_empty() { &[] } else { &[&self.namespace] };
        [&[self.pool.as_str()], inside, &[self.image.as_str()]].concat().join("/")
    }
}

/// Who has an image open, as `status` has it.
#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    watchers: Vec<Watcher>,
}

#[derive(Debug, Deserialize)]
struct Watcher {
    address: String,
}

/// The exit codes that say what is meant: the system's numbers for its errors.
const CODES: &[(i32, Refusal)] = &[
    (2, Refusal::Gone),
    (16, Refusal::Busy),
    (17, Refusal::Exists),
    (28, Refusal::NoSpace),
    (39, Refusal::Busy),
    (95, Refusal::NotSupported),
    (110, Refusal::TimedOut),
    (122, Refusal::NoSpace),
];

impl Rbd {
    /// An image by `pool/image`, or `pool/namespace/image`.
    ///
    /// # Errors
    /// [`StorageError::BadName`].
    pub fn image(image: &str) -> Result<Self, StorageError> {
        Ok(Self { place: names::pooled(image, 2..=3, names::plain_char)?, members: None, settings: None })
    }

    /// A group by `pool/group`, of these images.
    ///
    /// # Errors
    /// [`StorageError::BadName`].
    pub fn group(group: &str, images: &[&str]) -> Result<Self, StorageError> {
        let members = images.iter().map(|image| names::pooled(image, 2..=3, names::plain_char));
        let mut members = members.collect::<Result<Vec<_>, _>>()?;
        members.sort_unstable();
        Ok(Self {
            place: names::pooled(group, 2..=3, names::plain_char)?,
            members: Some(members),
            settings: None,
        })
    }

    /// The same in the cluster of this `ceph.conf`.
    ///
    /// # Errors
    /// [`StorageError::BadName`] for what is no plain absolute path.
    pub fn in_cluster(self, settings: impl AsRef<Utf8Path>) -> Result<Self, StorageError> {
        Ok(Self { settings: Some(names::path(settings.as_ref())?), ..self })
    }

    /// The tool, which gives up by itself when its cluster does not answer.
    fn rbd(&self, words: &[&str]) -> HostCommand {
        let bounds = ["--rados-osd-op-timeout", "10", "--client-mount-timeout", "10"];
        let settings = self.settings.as_ref().map(|settings| ["--conf", settings.as_str()]);
        command("rbd", &[words, &bounds, settings.as_ref().map_or(&[], |words| &words[..])].concat())
    }

    /// A verb for snapshots, of an image or of a group.
    fn snap(&self, words: &[&str]) -> HostCommand {
        let what: &[&str] = if self.members.is_some() { &["group", "snap"] } else { &["snap"] };
        self.rbd(&[what, words].concat())
    }

    fn act(&self, verb: &str, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        let place = format!("{}@{}", self.place, names::snapshot(name, names::plain_char)?);
        Ok(vec![Act::of(self.snap(&[verb, &place]))])
    }

    /// Checks that the group is the one that was meant.
    fn holds(&self, wanted: &[String], said: &[u8]) -> Result<(), StorageError> {
        let found: Vec<Member> = read(said)?;
        let mut found: Vec<String> = found.iter().map(Member::name).collect();
        found.sort_unstable();
        if found == wanted {
            return Ok(());
        }
        let group = &self.place;
        let words = if found.is_empty() {
            format!("there is no group {group}, or it has no images")
        } else {
            format!("the group {group} holds {}, and {} was asked for", found.join(" "), wanted.join(" "))
        };
        Err(StorageError::Gone { words })
    }
}

fn read<T: for<'de> Deserialize<'de>>(said: &[u8]) -> Result<T, StorageError> {
    serde_json::from_slice(said).map_err(|error| StorageError::nonsense("rbd", error))
}

impl Provider for Rbd {
    fn method(&self) -> Method {
        Method::Rbd
    }

    fn capabilities(&self) -> Capabilities {
        let group = self.members.is_some();
        Capabilities { group, backup_source: !group, revert_consumes: false }
    }

    fn volume(&self) -> String {
        self.place.clone()
    }

    fn list(&self) -> Vec<HostCommand> {
        let snapshots = self.snap(&["ls", &self.place, "--format", "json"]);
        match self.members {
            None => vec![snapshots],
            Some(_) => {
                vec![self.rbd(&["group", "image", "list", &self.place, "--format", "json"]), snapshots]
            }
        }
    }

    fn listed(&self, said: &[Vec<u8>]) -> Result<Vec<Snapshot>, StorageError> {
        match (&self.members, said) {
            (None, [snapshots]) => {
                let found: Vec<ImageSnapshot> = read(snapshots)?;
                Ok(fit(found.into_iter().map(|snapshot| snapshot.name)))
            }
            (Some(wanted), [images, snapshots]) => {
                self.holds(wanted, images)?;
                let found: Vec<GroupSnapshot> = read(snapshots)?;
                let named = found.into_iter().filter_map(|found| {
                    let name = SnapshotName::new(found.snapshot).ok()?;
                    // An incomplete one is what a tool left that was killed.
                    Some(Snapshot {
                        fit: matches!(found.state.as_str(), "ok" | "complete"),
                        ..Snapshot::fit(name)
                    })
                });
                Ok(named.collect())
            }
            _ => Err(StorageError::nonsense("rbd", "it was not asked")),
        }
    }

    fn snapshot(&self, name: &SnapshotName, _fresh: &str) -> Result<Vec<Act>, StorageError> {
        self.act("create", name)
    }

    fn delete(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        self.act("rm", name)
    }

    fn revert(&self, name: &SnapshotName, _fresh: &str) -> Result<Vec<Act>, StorageError> {
        self.act("rollback", name)
    }

    fn users(&self) -> Vec<HostCommand> {
        let images = self.members.as_deref().unwrap_or(std::slice::from_ref(&self.place));
        images.iter().map(|image| self.rbd(&["status", image, "--format", "json"])).collect()
    }

    fn used(&self, _name: &SnapshotName, said: &[Vec<u8>]) -> Result<Option<String>, StorageError> {
        let images = self.members.as_deref().unwrap_or(std::slice::from_ref(&self.place));
        for (image, said) in images.iter().zip(said) {
            let status: Status = read(said)?;
            if let Some(watcher) = status.watchers.first() {
                return Ok(Some(format!("the image {image} is open at {}", watcher.address)));
            }
        }
        Ok(None)
    }

    fn backup_source(&self, name: &SnapshotName, _image: Option<&InUse>) -> Option<BackupSource> {
        self.members.is_none().then(|| BackupSource::Rbd(format!("{}@{name}", self.place)))
    }

    fn refusal(&self, code: i32, _words: &str) -> Refusal {
        CODES.iter().find(|(known, _)| *known == code).map_or(Refusal::Other, |(_, refusal)| *refusal)
    }
}
