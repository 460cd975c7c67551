//! `<domainsnapshot>`: one snapshot as libvirt's document describes it.
//!
//! The same element is a caller's wish ([`Purpose::Create`]), a record handed in ([`Purpose::Redefine`]) and a record of our own or
//! of libvirt's read back ([`Purpose::Load`]); what each must and may hold differs, and [`DomainSnapshot::read`] checks it in
//! libvirt's order. What the machine makes of it (defaults, alignment with its disks) is not decided here.
//!
//! Source: libvirt's documentation of the snapshot XML format; order and codes as observed in 9.0 and 11.3.

mod error;
mod read;
mod secrets;
mod storage_part;
#[cfg(test)]
mod tests;
mod unknown;
mod write;

pub use error::{BadDefinition, Why};
pub use read::Purpose;
pub use storage_part::StoragePart;
pub(crate) use storage_part::without as without_storage_parts;
pub use unknown::{Rest, Unknown};

use camino::{Utf8Path, Utf8PathBuf};

use crate::{report::Quiesced, xml::Element};

/// A snapshot's definition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainSnapshot {
    /// Its name; none in a wish that leaves it to [`DomainSnapshot::taken_at`]. Not yet checked as a file's name: a record may
    /// have one that no new snapshot may.
    pub name: Option<String>,
    /// What a person says of it.
    pub description: Option<String>,
    /// What the machine did when it was taken; none in a wish.
    pub state: Option<State>,
    /// The snapshot that was current then.
    pub parent: Option<String>,
    /// When it was taken, in seconds since 1970 (UTC); none in a wish.
    pub creation_time: Option<i64>,
    /// Where the memory is.
    pub memory: Memory,
    /// The disks, as far as they are named.
    pub disks: Vec<SnapshotDisk>,
    /// What replaced `disks` for the branch that a revert began (11.3's `<revertDisks>`).
    pub revert_disks: Vec<SnapshotDisk>,
    /// What storages below the disks hold of it, as far as that is known; none in a wish, nor without a whole `domain`.
    pub storage: Vec<StoragePart>,
    /// Whether the guest was at rest for it, where that was asked for, under the same conditions.
    pub quiesced: Option<Quiesced>,
    /// The machine as it ran when the snapshot was taken. Old records hold its `<uuid>` alone.
    pub domain: Option<Element>,
    /// The machine as it would have started next, where that differs.
    pub inactive_domain: Option<Element>,
    /// libvirt's own notes for a later start. Kept, not understood.
    pub cookie: Option<Element>,
    /// Whether it is the current one; said in a record's file only.
    pub active: Option<bool>,
    /// What else stands there.
    pub unknown: Unknown,
}

/// What the machine did when a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Unknown.
    NoState,
    /// It ran.
    Running,
    /// It waited for a resource.
    Blocked,
    /// It was paused.
    Paused,
    /// The guest was shutting down.
    Shutdown,
    /// It was off.
    Shutoff,
    /// It had crashed.
    Crashed,
    /// The guest slept.
    PmSuspended,
    /// It ran, and only its disks were taken.
    DiskSnapshot,
}

/// Where a part of a snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// Nowhere: it takes no part.
    No,
    /// Inside the image.
    Internal,
    /// In a file of its own.
    External,
    /// Where the caller puts it: the machine waits, paused, until that is done.
    Manual,
}

/// What kind of thing a disk's data is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceType {
    /// A file.
    File,
    /// A block device.
    Block,
    /// A network's storage.
    Network,
    /// An NVMe device that is not the host's.
    Nvme,
    /// A device behind a vhost-user socket.
    VhostUser,
    /// A vDPA device.
    VhostVdpa,
}

/// Where the memory is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// Where; none if it is left to the default.
    pub location: Option<Location>,
    /// The file of an external one.
    pub file: Option<Utf8PathBuf>,
}

/// One disk in a snapshot's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDisk {
    /// The disk's target (`vda`), or in a wish also its source's path.
    pub name: String,
    /// Where its part is; none if that is left to the default.
    pub location: Option<Location>,
    /// What kind of thing the overlay is in.
    pub source_type: SourceType,
    /// `<driver type='qcow2'>` with all that is in it.
    pub driver: Option<Element>,
    /// `<source>` with all that is in it: the overlay.
    pub source: Option<Element>,
    /// Whether a delete of the snapshot above was begun and has not ended.
    pub delete_in_progress: bool,
    /// Whether the overlay is gone, and the disk in no image of the snapshot's. It stays named: libvirt takes no record without a name.
    pub gone: bool,
    /// What else stands there.
    pub rest: Rest,
}

impl DomainSnapshot {
    /// The wish as it is carried out at a time, in seconds since 1970: without a name of its own it is called by its second.
    #[must_use]
    pub fn taken_at(mut self, now: i64) -> Self {
        self.name.get_or_insert_with(|| now.to_string());
        self.creation_time = Some(now);
        self
    }
}

impl SnapshotDisk {
    /// A disk of which nothing but the name is said.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            location: None,
            source_type: SourceType::File,
            driver: None,
            source: None,
            delete_in_progress: false,
            gone: false,
            rest: Rest::default(),
        }
    }

    /// The overlay's format.
    pub fn format(&self) -> Option<&str> {
        self.driver.as_ref()?.attribute("type")
    }

    /// How much memory QEMU may take for the tables of the overlay, in bytes: `<metadata_cache><max_size>` of the driver.
    ///
    /// # Errors
    /// What is said instead of a size.
    pub fn metadata_cache(&self) -> Result<Option<u64>, String> {
        let said = self.driver.as_ref().and_then(|driver| driver.child("metadata_cache")?.child("max_size"));
        let Some(said) = said else { return Ok(None) };
        let (number, unit) = (said.text(), said.attribute("unit").unwrap_or("bytes"));
        match scaled(number.trim(), unit) {
            Some(0) => Ok(None),
            Some(bytes) => Ok(Some(bytes)),
            None => Err(format!("{} {unit}", number.trim())),
        }
    }

    /// The overlay's path: a file's, a device's, or the name within a network's storage. None if it is gone.
    pub fn path(&self) -> Option<&Utf8Path> {
        self.source_type.path(self.source.as_ref().filter(|_| !self.gone))
    }
}

impl State {
    const NAMES: [(State, &'static str); 9] = [
        (State::NoState, "nostate"),
        (State::Running, "running"),
        (State::Blocked, "blocked"),
        (State::Paused, "paused"),
        (State::Shutdown, "shutdown"),
        (State::Shutoff, "shutoff"),
        (State::Crashed, "crashed"),
        (State::PmSuspended, "pmsuspended"),
        (State::DiskSnapshot, "disk-snapshot"),
    ];

    /// `"running"`.
    pub fn name(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }

    /// Whether a snapshot of that state holds no memory: the machine was off, or only its disks were taken.
    pub fn has_no_memory(self) -> bool {
        matches!(self, State::Shutoff | State::DiskSnapshot)
    }
}

impl Location {
    const NAMES: [(Location, &'static str); 4] = [
        (Location::No, "no"),
        (Location::Internal, "internal"),
        (Location::External, "external"),
        (Location::Manual, "manual"),
    ];

    /// `"external"`.
    pub fn name(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }

    /// The location of that name.
    pub fn of(name: &str) -> Option<Self> {
        of_name(&Self::NAMES, name)
    }
}

impl SourceType {
    /// Whether it is a file or a device of the host's, which a path leads to.
    pub(crate) fn is_on_the_host(self) -> bool {
        matches!(self, SourceType::File | SourceType::Block)
    }

    const NAMES: [(SourceType, &'static str); 6] = [
        (SourceType::File, "file"),
        (SourceType::Block, "block"),
        (SourceType::Network, "network"),
        (SourceType::Nvme, "nvme"),
        (SourceType::VhostUser, "vhostuser"),
        (SourceType::VhostVdpa, "vhostvdpa"),
    ];

    /// `"file"`.
    pub fn name(self) -> &'static str {
        name_of(&Self::NAMES, self)
    }

    /// The path that a `<source>` of this type names.
    pub(crate) fn path(self, source: Option<&Element>) -> Option<&Utf8Path> {
        let attribute = match self {
            SourceType::File => "file",
            SourceType::Block | SourceType::VhostVdpa => "dev",
            SourceType::Network => "name",
            SourceType::Nvme | SourceType::VhostUser => return None,
        };
        source?.attribute(attribute).map(Utf8Path::new)
    }

    /// What a path is of which no document says it: what is below `/dev` is a device, but for the file systems that are there.
    pub(crate) fn of_path(path: &Utf8Path) -> Self {
        let files = ["/dev/shm", "/dev/hugepages", "/dev/mqueue"];
        match path.starts_with("/dev") && !files.iter().any(|folder| path.starts_with(folder)) {
            true => SourceType::Block,
            false => SourceType::File,
        }
    }

    /// The type of that name.
    pub fn of(name: &str) -> Option<Self> {
        of_name(&Self::NAMES, name)
    }
}

fn name_of<T: Copy + PartialEq>(names: &[(T, &'static str)], value: T) -> &'static str {
    names.iter().find(|(known, _)| *known == value).map_or("", |(_, name)| name)
}

fn of_name<T: Copy>(names: &[(T, &'static str)], name: &str) -> Option<T> {
    names.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
}

/// A number with one of libvirt's units, in bytes: `1 KiB`, `1 KB` (of a thousand), `1 k` (as KiB).
fn scaled(number: &str, unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (letter, rest) = unit.split_at_checked(1)?;
    let base = match rest {
        _ if matches!(&*unit, "b" | "byte" | "bytes") => return number.parse().ok(),
        "" | "ib" => 1024_u64,
        "b" => 1000,
        _ => return None,
    };
    let power = "kmgtpe".find(letter)? as u32 + 1;
    number.parse::<u64>().ok()?.checked_mul(base.checked_pow(power)?)
}
