//! A logical volume of LVM, thin or thick, and its snapshots beside it: `vg/vm1` and `vg/vm1.s1`.
//!
//! A thin one shares its pool's room. A thick one has room of its own, which the caller states; when what was written since
//! exceeds it, the snapshot holds nothing any more, and is listed as unfit. A share of a volume is to the tool no more than it may take:
//! where the group has less left it makes a smaller snapshot and says nothing, so that the group is asked before, and the snapshot itself
//! when it is made. To go back uses the snapshot up, and would be put
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
    /// Of a volume of so many bytes, in a group with extents of so many: as LVM makes it where it can. All of a volume is its chunks of
    /// 4 KiB, 16 bytes of the table for each, and what the table itself begins with.
    fn of(self, size: u64, extent: u64) -> u64 {
        let extent = extent.max(1);
        let whole = size.saturating_add(size / 256).saturating_add(8192).div_ceil(extent);
        whole.saturating_mul(self.0.into()).div_ceil(100).saturating_mul(extent)
    }

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

/// How large a volume is, what it is a snapshot of, and what its group has left, in bytes; all that `lvs` says are texts.
#[derive(Debug, Deserialize)]
struct Sizes {
    lv_size: String,
    origin_size: String,
    vg_free: String,
    vg_extent_size: String,
}

/// How `lvs` is asked for them.
const SIZES: [&str; 7] = [
    "--reportformat",
    "json",
    "--units",
    "b",
    "--nosuffix",
    "-o",
    "lv_size,origin_size,vg_free,vg_extent_size",
];

/// Bytes, as `lvs` says them.
fn bytes(text: &str) -> Result<u64, StorageError> {
    text.parse().map_err(|error| StorageError::nonsense("lvs", error))
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

    /// What asks for the sizes of a volume, where a snapshot has room of its own.
    fn ask_sizes(&self, volume: &str) -> Vec<HostCommand> {
        let ask = |_| command("lvs", &[&SIZES[..], &[volume]].concat());
        self.room.map(ask).into_iter().collect()
    }

    /// Whether there is as much room as a snapshot is to have. `of` tells how large what it is of is, and how much there is.
    fn check_sizes(
        &self,
        said: &[Vec<u8>],
        of: fn(&Sizes) -> (&str, &str),
        whose: &str,
    ) -> Result<(), StorageError> {
        let Some(room) = self.room else { return Ok(()) };
        for sizes in reported::<Sizes>(said)? {
            let (whole, has) = of(&sizes);
            let wanted = room.of(bytes(whole)?, bytes(&sizes.vg_extent_size)?);
            let has = bytes(has)?;
            if has < wanted {
                let (group, volume) = (&self.group, &self.volume);
                let words = format!(
                    "a snapshot of {volume} is to have {wanted} bytes, and {has} {whose} {group}; LVM makes a smaller one then, which \
                     holds nothing any more once more is written"
                );
                return Err(StorageError::NoSpace { words });
            }
        }
        Ok(())
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
        self.ask_sizes(&Provider::volume(self))
    }

    fn check_room(&self, said: &[Vec<u8>]) -> Result<(), StorageError> {
        self.check_sizes(said, |sizes| (&sizes.lv_size, &sizes.vg_free), "is left in the group")
    }

    fn given(&self, name: &SnapshotName) -> Vec<HostCommand> {
        self.place(name).map_or_else(|_| Vec::new(), |place| self.ask_sizes(&place))
    }

    fn check_given(&self, said: &[Vec<u8>]) -> Result<(), StorageError> {
        self.check_sizes(said, |sizes| (&sizes.origin_size, &sizes.lv_size), "was left for it in the group")
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

    /// A snapshot that is open is put off too, and goes back at the volume's next activation, whatever is written until then. Other
    /// snapshots are lost, each in its way: of thin ones LVM forgets what they are of, and into thick ones it copies what it overwrites
    /// until their room is used up.
    fn used(&self, name: &SnapshotName, said: &[Vec<u8>]) -> Result<Option<String>, StorageError> {
        let volumes = reported::<Volume>(said)?;
        let beside = self.beside(name)?;
        let live = self.live(&volumes)?;
        let snapshot = volumes.iter().find(|known| known.lv_name == beside);
        // `open`; or `unknown`, if the kernel cannot be asked.
        if let Some(open) =
            [Some(live), snapshot].into_iter().flatten().find(|known| !known.lv_device_open.is_empty())
        {
            let (group, Volume { lv_name, lv_device_open, .. }) = (&self.group, open);
            return Ok(Some(format!(
                "whether the logical volume {group}/{lv_name} is open: {lv_device_open}"
            )));
        }
        let others = volumes.iter().filter(|known| known.origin == self.volume && known.lv_name != beside);
        let others: Vec<_> = others.map(|known| known.lv_name.as_str()).collect();
        let words = || {
            let volume = Provider::volume(self);
            format!(
                "{volume} has other snapshots, which would be lost: {}; delete them first",
                others.join(", ")
            )
        };
        Ok((!others.is_empty()).then(words))
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
            let failed =
                "the volume goes back at its next activation, and what is written until then is lost";
            return Err(StorageError::Unfinished {
                failed: vec![format!("{failed}: {}", plain(words.trim()))],
            });
        }
        Ok(())
    }
}
