//! A logical volume of LVM, thin or thick, and its snapshots beside it: `vg/vm1` and `vg/vm1.s1`.
//!
//! A thin one shares its pool's room. A thick one has room of its own, which the caller states; when what was written since
//! exceeds it, the snapshot holds nothing any more, and is listed as unfit. A share of a volume is to the tool no more than it may take:
//! where the group has less left it makes a smaller snapshot and says nothing, so that the group is asked before. To go back uses the snapshot up, and would be put
//! off by the tool until the volume is closed: a volume that is open is refused before that.
//!
//! There is no command that catches several volumes at one point in time.
//!
//! Source: lvcreate(8), lvs(8), lvconvert(8); recordings of LVM 2.03.16.

use std::fmt;

use camino::Utf8PathBuf;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Act, BackupSource, Capabilities, InUse, Method, Provider, Refusal, Snapshot, StorageError, command,
    error::{SYSTEM, by_words},
    names,
};
use crate::{env::HostCommand, name::SnapshotName, words::plain};

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lvm {
    group: String,
    volume: String,
    room: Option<Room>,
}

/// How much room a thick snapshot has for what is written since: a part of what its origin has, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room(u8);

impl Room {
    /// So many percent, 1 to 100.
    pub fn percent(percent: u8) -> Option<Self> {
        (1..=100).contains(&percent).then_some(Self(percent))
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%ORIGIN", self.0)
    }
}

/// What `lvs` says.
#[derive(Debug, Deserialize)]
struct Said<T> {
    report: Vec<Report<T>>,
}

#[derive(Debug, Deserialize)]
struct Report<T> {
    #[serde(default = "Vec::new")]
    lv: Vec<T>,
}

/// What `lvs` says, of what it was asked of each logical volume.
fn reported<T: DeserializeOwned>(said: &[Vec<u8>]) -> Result<Vec<T>, StorageError> {
    let [said] = said else { return Err(StorageError::nonsense("lvs", "it was not asked")) };
    let said: Said<T> = serde_json::from_slice(said).map_err(|error| StorageError::nonsense("lvs", error))?;
    Ok(said.report.into_iter().flat_map(|report| report.lv).collect())
}

/// How large a volume is and what its group has left, in bytes; all that `lvs` says are texts.
#[derive(Debug, Deserialize)]
struct Sizes {
    lv_size: String,
    vg_free: String,
}

/// A logical volume as `lvs` has it; all that it says are texts.
#[derive(Debug, Deserialize)]
struct Volume {
    lv_name: String,
    origin: String,
    lv_attr: String,
    lv_device_open: String,
}

impl Volume {
    /// A thick snapshot without room left has an `I` in the place of its state, or an `S` while it is merged.
    fn fit(&self) -> bool {
        !matches!(self.lv_attr.as_bytes().get(4), Some(b'I' | b'S'))
    }
}

/// LVM's own limit for a name, in bytes.
const LONGEST: usize = 127;

impl Lvm {
    /// A volume by `group/volume`. A thick one needs `room` for its snapshots; a thin one has none of its own.
    ///
    /// # Errors
    /// [`StorageError::BadName`].
    pub fn new(volume: &str, room: Option<Room>) -> Result<Self, StorageError> {
        let name = names::pooled(volume, 2..=2, may)?;
        let (group, volume) = name.split_once('/').unwrap_or_default();
        Ok(Self { group: group.to_owned(), volume: volume.to_owned(), room })
    }

    /// The snapshot's name in its volume group.
    fn beside(&self, name: &SnapshotName) -> Result<String, StorageError> {
        let beside = format!("{}.{}", self.volume, names::snapshot(name, may)?);
        if beside.len() > LONGEST {
            return Err(StorageError::bad_name(&beside, "LVM takes 127 bytes at most"));
        }
        Ok(beside)
    }

    fn place(&self, name: &SnapshotName) -> Result<String, StorageError> {
        Ok(format!("{}/{}", self.group, self.beside(name)?))
    }

    fn report(&self) -> HostCommand {
        let fields = "lv_name,origin,lv_attr,lv_device_open";
        command("lvs", &["--reportformat", "json", "-o", fields, &self.group])
    }

    /// The volume itself.
    fn live<'v>(&self, volumes: &'v [Volume]) -> Result<&'v Volume, StorageError> {
        let words = || format!("there is no logical volume {}", Provider::volume(self));
        let found = volumes.iter().find(|known| known.lv_name == self.volume);
        found.ok_or_else(|| StorageError::Gone { words: words() })
    }
}

/// What LVM takes in names.
fn may(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+')
}

impl Provider for Lvm {
    fn method(&self) -> Method {
        Method::Lvm
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { group: false, backup_source: true, revert_consumes: true }
    }

    fn volume(&self) -> String {
        format!("{}/{}", self.group, self.volume)
    }

    fn list(&self) -> Vec<HostCommand> {
        vec![self.report()]
    }

    fn listed(&self, said: &[Vec<u8>]) -> Result<Vec<Snapshot>, StorageError> {
        let volumes = reported::<Volume>(said)?;
        self.live(&volumes)?;
        let beside = format!("{}.", self.volume);
        let ours = volumes.iter().filter(|known| known.origin == self.volume);
        let named = ours.filter_map(|known| {
            let name = SnapshotName::new(known.lv_name.strip_prefix(&beside)?).ok()?;
            Some(Snapshot { fit: known.fit(), ..Snapshot::fit(name) })
        });
        Ok(named.collect())
    }

    fn snapshot(&self, name: &SnapshotName, _fresh: &str) -> Result<Vec<Act>, StorageError> {
        let (beside, origin) = (self.beside(name)?, Provider::volume(self));
        let room = self.room.map(|room| room.to_string());
        let how: &[&str] = match &room {
            Some(room) => &["--extents", room],
            // A thin snapshot is not seen by the system otherwise until somebody activates it with `-K`.
            None => &["--setactivationskip", "n"],
        };
        let words = [&["--yes", "--snapshot", "--name", &beside], how, &[&origin]].concat();
        Ok(vec![Act::of(command("lvcreate", &words))])
    }

    fn room(&self) -> Vec<HostCommand> {
        let Some(_) = self.room else { return Vec::new() };
        let how = ["--reportformat", "json", "--units", "b", "--nosuffix", "-o", "lv_size,vg_free"];
        vec![command("lvs", &[&how[..], &[&Provider::volume(self)]].concat())]
    }

    fn check_room(&self, said: &[Vec<u8>]) -> Result<(), StorageError> {
        let Some(Room(percent)) = self.room else { return Ok(()) };
        let bytes = |text: &str| text.parse().map_err(|error| StorageError::nonsense("lvs", error));
        for Sizes { lv_size, vg_free } in reported(said)? {
            let (size, free): (u64, u64) = (bytes(&lv_size)?, bytes(&vg_free)?);
            let wanted = size / 100 * u64::from(percent);
            if free < wanted {
                let (group, volume) = (&self.group, &self.volume);
                let words = format!(
                    "{percent} % of {volume} are {wanted} bytes, and the group {group} has {free} left; LVM would make a smaller \
                     snapshot, which holds nothing any more once more is written"
                );
                return Err(StorageError::NoSpace { words });
            }
        }
        Ok(())
    }

    fn delete(&self, name: &SnapshotName) -> Result<Vec<Act>, StorageError> {
        Ok(vec![Act::of(command("lvremove", &["--yes", &self.place(name)?]))])
    }

    fn revert(&self, name: &SnapshotName, _fresh: &str) -> Result<Vec<Act>, StorageError> {
        Ok(vec![Act::of(command("lvconvert", &["--yes", "--merge", &self.place(name)?]))])
    }

    fn users(&self) -> Vec<HostCommand> {
        vec![self.report()]
    }

    fn used(&self, said: &[Vec<u8>]) -> Result<Option<String>, StorageError> {
        let volumes = reported::<Volume>(said)?;
        // `open`; or `unknown`, if the kernel cannot be asked.
        let open = &self.live(&volumes)?.lv_device_open;
        let words = || format!("whether the logical volume {} is open: {open}", Provider::volume(self));
        Ok((!open.is_empty()).then(words))
    }

    /// The image of a machine may also be a file in a file system on the volume: that is not seen in the device.
    fn backup_source(&self, name: &SnapshotName, image: Option<&InUse>) -> Option<BackupSource> {
        if image.is_some_and(|image| !image.device) {
            return None;
        }
        let place = self.place(name).ok()?;
        Some(BackupSource::Block(Utf8PathBuf::from("/dev").join(place)))
    }

    fn refusal(&self, _code: i32, words: &str) -> Refusal {
        let own = [
            ("already exists", Refusal::Exists),
            ("insufficient free space", Refusal::NoSpace),
            ("Insufficient suitable allocatable extents", Refusal::NoSpace),
            ("reached threshold", Refusal::NoSpace),
            ("not found", Refusal::Gone),
            ("Failed to find logical volume", Refusal::Gone),
            ("in use", Refusal::Busy),
            ("specify either size or extents", Refusal::NotSupported),
            ("Required device-mapper target", Refusal::NotSupported),
            ("without using device-mapper", Refusal::NotSupported),
            ("Failure to communicate with kernel device-mapper", Refusal::NotSupported),
            ("Unable to merge invalidated snapshot", Refusal::Gone),
        ];
        by_words(words, &[&own[..], SYSTEM].concat())
    }

    fn understood(&self, said: &[u8]) -> Result<(), StorageError> {
        let words = String::from_utf8_lossy(said);
        if words.contains("will occur on next activation") {
            return Err(StorageError::Busy { words: plain(words.trim()) });
        }
        Ok(())
    }
}
