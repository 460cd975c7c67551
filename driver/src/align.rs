//! What a wish means for this machine: every disk gets its place, every overlay its file.
//!
//! ```text
//! <domainsnapshot> as wished + flags + the machine's disks --> [`Aligned`]: nothing is left open
//! ```
//!
//! Pure, and in libvirt's order of checks (`virDomainSnapshotAlignDisks`, observed in 9.0 and 11.3). Whether files are there and
//! whether the images can do it is [`crate::plan`]'s affair.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    domain::{Domain, DomainDisk},
    domain_snapshot::{Location, SnapshotDisk, SourceType, State},
    error::{ImageRefusal, Refusal, UnusedRefusal},
    name::SnapshotName,
    observed::Observed,
    request::{ByStorage, Create, CreateFlag},
    xml::Element,
};

/// The formats that an overlay may have: those that libvirt takes and this driver can write.
const OVERLAY_FORMAT: &str = "qcow2";

/// A wish of which nothing is open any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aligned {
    /// The snapshot's name.
    pub name: SnapshotName,
    /// What the machine does when it is taken.
    pub state: State,
    /// Where the memory goes.
    pub memory: MemoryPlace,
    /// Every disk of the machine, in the machine's order.
    pub disks: Vec<AlignedDisk>,
}

/// Where the memory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryPlace {
    /// It is not kept.
    No,
    /// Into an image.
    Internal,
    /// Into this file.
    External(Utf8PathBuf),
}

/// One disk and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignedDisk {
    /// Which.
    pub target: String,
    /// Where its part goes.
    pub place: Place,
}

/// Where a disk's part of a snapshot goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It takes no part.
    No,
    /// Into its image.
    Internal,
    /// The image stays as it is, and the guest goes on in this overlay.
    External(Overlay),
    /// The caller takes it.
    Manual,
    /// The storage below it takes it, as this `<diskSnapshot>` says.
    Storage(Element),
}

/// An overlay that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// A file or a block device.
    pub source_type: SourceType,
    /// Where.
    pub path: Utf8PathBuf,
    /// Whether the path was made from the image's, which must then be a regular file.
    pub generated: bool,
    /// How much memory may be taken for its tables, in bytes, while it is in use; none is QEMU's own choice.
    pub metadata_cache: Option<u64>,
}

impl Aligned {
    /// The disks at a place that fits, by target.
    pub fn targets(&self, fits: impl Fn(&Place) -> bool) -> Vec<String> {
        self.disks.iter().filter(|disk| fits(&disk.place)).map(|disk| disk.target.clone()).collect()
    }

    /// The disks that get an overlay.
    pub fn overlays(&self) -> impl Iterator<Item = (&str, &Overlay)> {
        self.disks.iter().filter_map(|disk| match &disk.place {
            Place::External(overlay) => Some((disk.target.as_str(), overlay)),
            _ => None,
        })
    }

    /// Whether the caller takes a disk.
    pub fn has_manual(&self) -> bool {
        self.disks.iter().any(|disk| disk.place == Place::Manual)
    }
}

/// Gives everything in a wish its place. `observed` is the running machine, none of one that is off.
///
/// # Errors
/// [`Refusal`], the first that libvirt would find.
pub fn align(create: &Create, domain: &Domain, observed: Option<&Observed>) -> Result<Aligned, Refusal> {
    let name = SnapshotName::new(create.wish.name.clone().unwrap_or_default())?;
    let state = observed.map_or(State::Shutoff, |observed| observed.status.state());
    let disk_only = create.flags.has(CreateFlag::DiskOnly);
    let wished = create.wish.memory.location;
    if create.flags.has(CreateFlag::Live) && (observed.is_none() || wished != Some(Location::External)) {
        return Err(Refusal::LiveWithoutMemory);
    }
    takes_snapshots(state)?;
    if (disk_only || observed.is_none()) && wished.is_some_and(|wished| wished != Location::No) {
        return Err(Refusal::MemoryWithoutMachine);
    }
    let some_external = create.wish.disks.iter().any(|disk| disk.location == Some(Location::External));
    let external = disk_only || wished == Some(Location::External) || (observed.is_none() && some_external);
    if !external && observed.is_some() && wished == Some(Location::No) {
        return Err(Refusal::InternalWithoutMemory);
    }
    let memory = match (&create.wish.memory.file, wished) {
        (Some(file), Some(Location::External)) => MemoryPlace::External(file.clone()),
        (None, Some(Location::External)) => return Err(Refusal::MemoryWithoutFile),
        _ if external || observed.is_none() => MemoryPlace::No,
        _ => MemoryPlace::Internal,
    };
    let default = if external { Location::External } else { Location::Internal };
    let disks = Disks { domain, observed, default, name: &name, by_storage: &create.by_storage }
        .align(&create.wish.disks)?;
    // Off and without an overlay: libvirt writes `shutoff` here too, and then does not take its own record back, since of a machine
    // that was off it wants either overlays or images that hold all of it.
    let no_overlay = disks.iter().all(|disk| !matches!(disk.place, Place::External(_)));
    let state = if disk_only && (observed.is_some() || no_overlay) { State::DiskSnapshot } else { state };
    Ok(Aligned { name, state, memory, disks })
}

/// libvirt's gate: in these states a snapshot makes sense.
fn takes_snapshots(state: State) -> Result<(), Refusal> {
    match state {
        State::Running | State::Paused | State::Shutdown | State::Shutoff | State::Crashed => Ok(()),
        State::PmSuspended => Err(Refusal::GuestSleeps),
        State::NoState | State::Blocked | State::DiskSnapshot => Err(Refusal::BadState(state.name())),
    }
}

/// The machine's disks, about to get their places.
struct Disks<'a> {
    domain: &'a Domain,
    observed: Option<&'a Observed>,
    default: Location,
    name: &'a SnapshotName,
    by_storage: &'a ByStorage,
}

impl Disks<'_> {
    fn align(&self, wished: &[SnapshotDisk]) -> Result<Vec<AlignedDisk>, Refusal> {
        if wished.len() > self.domain.disks.len() {
            return Err(Refusal::TooManyDisks { wished: wished.len(), has: self.domain.disks.len() });
        }
        let mut by_target: BTreeMap<&str, &SnapshotDisk> = BTreeMap::new();
        for disk in wished {
            let known = self.domain.known(&disk.name)?;
            if by_target.insert(&known.target, disk).is_some() {
                return Err(Refusal::DiskTwice(known.target.clone()));
            }
            self.check_wish(known, disk)?;
        }
        for target in self.by_storage.stated.keys() {
            self.domain.known(target)?;
        }
        let mut aligned: Vec<AlignedDisk> = Vec::new();
        for disk in &self.domain.disks {
            let place = self.place(disk, by_target.get(disk.target.as_str()).copied())?;
            if let Place::External(overlay) = &place {
                let same = |other: &&AlignedDisk| matches!(&other.place, Place::External(taken) if taken.path == overlay.path);
                if let Some(other) = aligned.iter().find(same) {
                    let path = overlay.path.clone();
                    return Err(Refusal::SameFile(other.target.clone(), disk.target.clone(), path));
                }
            }
            aligned.push(AlignedDisk { target: disk.target.clone(), place });
        }
        Ok(aligned)
    }

    /// An internal snapshot is one as a whole; only what the machine always leaves out may stay out.
    fn check_wish(&self, disk: &DomainDisk, wished: &SnapshotDisk) -> Result<(), Refusal> {
        let location = wished.location.unwrap_or(self.default);
        if self.default == Location::Internal && location != Location::Internal {
            let left_out = location == Location::No && self.standing(disk) == Some(Location::No);
            if !left_out {
                return Err(match location {
                    Location::No => Refusal::MustTakeAll(disk.target.clone()),
                    _ => Refusal::MustBeInternal { disk: disk.target.clone(), asked: location.name() },
                });
            }
        }
        match wished.path() {
            Some(path) if location != Location::External => {
                Err(Refusal::FileUnused { disk: disk.target.clone(), path: path.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// What a disk does if nothing is said of it: one that the guest cannot write, or that another process serves, takes no part.
    fn standing(&self, disk: &DomainDisk) -> Option<Location> {
        if disk.source_type == Some(SourceType::VhostUser) {
            return disk.snapshot.or(Some(Location::No));
        }
        let readonly = || {
            let observed = self.observed.and_then(|observed| observed.disk(&disk.target));
            observed.is_some_and(|disk| disk.readonly)
        };
        disk.snapshot.or_else(|| readonly().then_some(Location::No))
    }

    fn place(&self, disk: &DomainDisk, wished: Option<&SnapshotDisk>) -> Result<Place, Refusal> {
        let standing = self.standing(disk);
        let asked = wished.and_then(|wished| wished.location).or(standing);
        if disk.source_type == Some(SourceType::VhostUser) && asked != Some(Location::No) {
            return Err(Refusal::VhostUser(disk.target.clone()));
        }
        let stated = self.by_storage.stated.contains_key(&disk.target);
        let location = match wished.and_then(|wished| wished.location) {
            Some(location) => location,
            None if stated => Location::Manual,
            None if standing == Some(Location::No) || self.is_empty(disk, wished.is_some())? => Location::No,
            // What the machine's description says is meant for the snapshots that libvirt took first: external ones.
            None if self.default == Location::External => standing.unwrap_or(self.default),
            None => self.default,
        };
        if stated && (location != Location::Manual || self.default == Location::Internal) {
            return Err(UnusedRefusal::Provider(disk.target.clone()).into());
        }
        Ok(match location {
            Location::No => Place::No,
            Location::Internal => Place::Internal,
            Location::Manual => self.by_storage.of(disk).map_or(Place::Manual, Place::Storage),
            Location::External => Place::External(self.overlay(disk, wished)?),
        })
    }

    /// Whether nothing is in the drive. A device that QEMU does not have at all is no empty drive: "every disk" must not quietly
    /// mean "every disk that was found".
    fn is_empty(&self, disk: &DomainDisk, named: bool) -> Result<bool, Refusal> {
        let Some(observed) = self.observed else {
            // Of what is neither file nor device no path is known.
            return Ok(disk.is_on_the_host() && disk.source.is_none());
        };
        let missing = observed.missing.iter().any(|missing| missing.target == disk.target);
        match observed.disk(&disk.target) {
            _ if missing => Err(observed.no_image(&disk.target)),
            Some(_) => Ok(false),
            None if named => Err(Refusal::NoImage(disk.target.clone())),
            None => Ok(true),
        }
    }

    fn overlay(&self, disk: &DomainDisk, wished: Option<&SnapshotDisk>) -> Result<Overlay, Refusal> {
        self.check_image(disk)?;
        let format = wished.and_then(SnapshotDisk::format).unwrap_or(OVERLAY_FORMAT);
        if format != OVERLAY_FORMAT {
            return Err(Refusal::OverlayFormat { disk: disk.target.clone(), format: format.into() });
        }
        let metadata_cache = match wished {
            Some(wished) => wished
                .metadata_cache()
                .map_err(|said| Refusal::MetadataCache { disk: disk.target.clone(), said })?,
            None => None,
        };
        let source_type = wished.map_or(SourceType::File, |wished| wished.source_type);
        let path = wished.and_then(|wished| wished.path());
        if let Some(path) = path {
            check_path(path)?;
            if !source_type.is_on_the_host() {
                return Err(Refusal::OverlayType {
                    disk: disk.target.clone(),
                    source_type: source_type.name(),
                });
            }
            return Ok(Overlay { source_type, path: path.to_owned(), generated: false, metadata_cache });
        }
        if source_type != SourceType::File {
            return Err(Refusal::NameNotGenerated {
                disk: disk.target.clone(),
                why: format!("an overlay on a `{}` needs a source of its own", source_type.name()),
            });
        }
        let path = self.beside(disk)?;
        check_path(&path)?;
        Ok(Overlay { source_type, path, generated: true, metadata_cache })
    }

    /// Whether an overlay will find the image that it is to stand on: QEMU looks for that from where the overlay is, and tells of a path
    /// as it was given, in a folder that only it knows.
    fn check_image(&self, disk: &DomainDisk) -> Result<(), Refusal> {
        match self.image(disk).filter(|image| disk.is_on_the_host() && image.is_relative()) {
            Some(image) => {
                Err(ImageRefusal::NotAbsolute { disk: disk.target.clone(), file: image.clone() }.into())
            }
            None => Ok(()),
        }
    }

    /// What a disk is in: the running machine may be in an overlay by now.
    fn image<'d>(&'d self, disk: &'d DomainDisk) -> Option<&'d Utf8PathBuf> {
        match self.observed {
            Some(observed) => observed.disk(&disk.target).map(|disk| &disk.file),
            None => disk.source.as_ref(),
        }
    }

    /// `/images/vda.qcow2` and `s1` make `/images/vda.s1`, as libvirt names it: the image that the machine is in by now counts.
    fn beside(&self, disk: &DomainDisk) -> Result<Utf8PathBuf, Refusal> {
        let refused = |why: &str| Refusal::NameNotGenerated { disk: disk.target.clone(), why: why.into() };
        if disk.source_type != Some(SourceType::File) {
            return Err(refused("its own source is no file"));
        }
        let image = self.image(disk).ok_or_else(|| Refusal::NoImage(disk.target.clone()))?;
        let stem = image.file_stem().ok_or_else(|| refused("its image has no name"))?;
        Ok(image.with_file_name(format!("{stem}.{}", self.name)))
    }
}

fn check_path(path: &Utf8Path) -> Result<(), Refusal> {
    let plain = path.is_absolute() && path.file_name().is_some() && !path.as_str().ends_with('/');
    if plain { Ok(()) } else { Err(Refusal::BadOverlayPath(path.to_owned())) }
}

impl Domain {
    /// The disk of that target, or with that source.
    pub(crate) fn known(&self, name: &str) -> Result<&DomainDisk, Refusal> {
        self.disk(name).ok_or_else(|| Refusal::NoSuchDisk {
            disk: name.to_owned(),
            domain: self.name.clone(),
            known: self.disks.iter().map(|disk| disk.target.clone()).collect(),
        })
    }
}
