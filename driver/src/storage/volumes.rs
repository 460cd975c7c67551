//! Volumes in plain words: which storage they are in, what it calls them, and what its tool has to be told beside.
//!
//! What a plan holds of a [`Provider`]: it can be printed, compared and written down, and is made into one where a command is
//! to be run.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Btrfs, Exec, Lvm, Method, Provider, Rbd, Reflink, Storage, StorageError, Zfs, lvm::Room};
use crate::env::Env;

/// Volumes that one storage catches at one point in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volumes {
    /// Which storage.
    pub method: Method,
    /// What it calls them; one, but for `zfs`, `exec`, and `rbd` with a group.
    pub names: Vec<String>,
    /// rbd: the group that holds exactly these images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// rbd: a `ceph.conf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<String>,
    /// exec: the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// lvm: the room of a thick volume's snapshot, in percent of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<u8>,
    /// How long each command may take.
    pub within: Duration,
}

impl Volumes {
    /// How their storage's tool is spoken to.
    ///
    /// # Errors
    /// [`StorageError::BadName`], and [`StorageError::NotSupported`] for several that this storage does not catch at once.
    pub fn provider(&self) -> Result<Box<dyn Provider>, StorageError> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let one = || match names.as_slice() {
            [one] => Ok(*one),
            _ => Err(StorageError::NotSupported { words: format!("{} takes one volume", self.method) }),
        };
        Ok(match self.method {
            Method::Btrfs => Box::new(Btrfs::new(one()?)?),
            Method::Reflink => Box::new(Reflink::new(one()?)?),
            Method::Lvm => Box::new(Lvm::new(one()?, self.room.and_then(Room::percent))?),
            Method::Zfs => Box::new(Zfs::new(&names)?),
            Method::Rbd => {
                let images = match &self.group {
                    None => Rbd::image(one()?)?,
                    Some(group) => Rbd::group(group, &names)?,
                };
                match &self.settings {
                    Some(settings) => Box::new(images.in_cluster(settings)?),
                    None => Box::new(images),
                }
            }
            Method::Exec => Box::new(Exec::new(self.program.as_deref().unwrap_or_default(), &names)?),
        })
    }

    /// The storage, in this world.
    ///
    /// # Errors
    /// As [`Volumes::provider`].
    pub fn storage<E: Env>(&self, env: E) -> Result<Storage<E>, StorageError> {
        Ok(Storage::boxed(env, self.provider()?).within(self.within))
    }
}

impl fmt::Display for Volumes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => f.write_str(group),
            None => f.write_str(&self.names.join(" ")),
        }
    }
}
