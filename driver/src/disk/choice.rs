//! Which storage takes the snapshots of a disk, and what it calls the disk's volume: what was said in the call, else what stands in
//! the disk's XML, else its type where that leaves no doubt.

use std::{fmt, str::FromStr, time::Duration};

use camino::Utf8Path;

use super::{DiskError, ELEMENT};
use crate::{
    domain_snapshot::SourceType,
    domain_xml::{Disk, DomainXml},
    request::Quiesce,
    storage::{Method, Volumes, lvm::Room},
    xml::Element,
};

/// Who takes a disk's snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// QEMU itself, or `qemu-img` for a machine that is off.
    Qemu,
    /// The storage below it.
    Storage(Method),
}

impl By {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            By::Qemu => "qemu",
            By::Storage(method) => method.name(),
        }
    }

    /// Who takes the snapshots of these disks together: as stated or, without that, as their XML or their type says.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn of(domain: &DomainXml, targets: &[String], stated: Option<&Element>) -> Result<Self, DiskError> {
        let mut by = None;
        for target in targets {
            let disk =
                domain.disk(target).ok_or_else(|| DiskError::UnknownDisk { target: target.clone() })?;
            let its = method_of(&disk, stated)?;
            if *by.get_or_insert(its) != its {
                let why = "their storages are different ones";
                return Err(DiskError::NotTogether { targets: targets.to_vec(), why });
            }
        }
        by.ok_or(DiskError::NoDisk)
    }
}

/// Whether QEMU's snapshots of these disks are to be inside their images, as stated or as their XML says.
///
/// # Errors
/// [`DiskError`]: it is said of some and not of others, of another method, or by another word.
pub fn inside(domain: &DomainXml, targets: &[String], stated: Option<&Element>) -> Result<bool, DiskError> {
    let mut inside = None;
    for target in targets {
        let disk = domain.disk(target).ok_or_else(|| DiskError::UnknownDisk { target: target.clone() })?;
        let said = stated.or_else(|| disk.element().child(ELEMENT));
        let its = match said.and_then(|said| said.attribute("snapshot")) {
            None | Some("external") => false,
            Some("internal") if method_of(&disk, stated)? == By::Qemu => true,
            Some(word) => {
                return Err(DiskError::UnknownPlace { target: target.clone(), word: word.to_owned() });
            }
        };
        if *inside.get_or_insert(its) != its {
            let why = "some are to be inside their images, and others in overlays";
            return Err(DiskError::NotTogether { targets: targets.to_vec(), why });
        }
    }
    Ok(inside.unwrap_or(false))
}

/// How much the guest's rest is needed at the least for a snapshot of these disks, as stated or as their XML says: as much as the one
/// of them needs that needs it most.
///
/// # Errors
/// [`DiskError`]: one says so by a word that is none.
pub(super) fn at_least(
    domain: &DomainXml,
    targets: &[String],
    stated: Option<&Element>,
) -> Result<Quiesce, DiskError> {
    let mut most = Quiesce::Off;
    for target in targets {
        let disk = domain.disk(target).ok_or_else(|| DiskError::UnknownDisk { target: target.clone() })?;
        let Some(said) = stated.or_else(|| disk.element().child(ELEMENT)) else { continue };
        match (said_of_rest(target, said)?, most) {
            (Quiesce::Required, _) => most = Quiesce::Required,
            (Quiesce::BestEffort, Quiesce::Off) => most = Quiesce::BestEffort,
            _ => {}
        }
    }
    Ok(most)
}

/// What a `<diskSnapshot>` says of the guest's rest.
pub(crate) fn said_of_rest(target: &str, said: &Element) -> Result<Quiesce, DiskError> {
    match said.attribute("quiesce") {
        None | Some("no") => Ok(Quiesce::Off),
        Some("best-effort") => Ok(Quiesce::BestEffort),
        Some("required") => Ok(Quiesce::Required),
        Some(word) => Err(DiskError::UnknownRest { target: target.to_owned(), word: word.to_owned() }),
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "qemu" => Ok(By::Qemu),
            word => word.parse().map(By::Storage).map_err(|why: String| format!("{why}, qemu")),
        }
    }
}

/// What says who takes a disk's snapshots, or its type where nothing does.
fn method_of(disk: &Disk<'_>, stated: Option<&Element>) -> Result<By, DiskError> {
    let target = disk.target;
    let no_method = || DiskError::NoMethod { target: target.to_owned() };
    let Some(said) = stated.or_else(|| disk.element().child(ELEMENT)) else {
        let by_type =
            [Method::Rbd, Method::Zfs].into_iter().find(|method| volume_of(disk, *method).is_some());
        return by_type.map(By::Storage).ok_or_else(no_method);
    };
    let word = said.attribute("method").ok_or_else(no_method)?;
    let unknown = |why| DiskError::UnknownMethod { target: target.to_owned(), word: word.to_owned(), why };
    let by = word.parse().map_err(unknown)?;
    check_words(target, by, said)?;
    Ok(by)
}

/// Whether all that is said is the method's own: what another would understand is passed over by nobody.
fn check_words(target: &str, by: By, said: &Element) -> Result<(), DiskError> {
    let words = [
        ("volume", "a storage's", by != By::Qemu),
        ("room", "lvm's", by == By::Storage(Method::Lvm)),
        ("group", "rbd's", by == By::Storage(Method::Rbd)),
        ("settings", "rbd's", by == By::Storage(Method::Rbd)),
        ("program", "exec's", by == By::Storage(Method::Exec)),
    ];
    match words.iter().find(|(word, _, is_its)| !is_its && said.attribute(word).is_some()) {
        None => Ok(()),
        Some(&(word, whose, _)) => {
            Err(DiskError::OtherMethods { target: target.to_owned(), by, word, whose })
        }
    }
}

/// What one disk wants of its storage.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    target: String,
    method: Method,
    said: Element,
    /// The volume, in the words of its storage.
    volume: String,
}

impl Wish {
    /// What a disk wants, by what is stated or, without that, by what its XML says.
    pub(crate) fn of(disk: &Disk<'_>, stated: Option<&Element>) -> Result<Self, DiskError> {
        let By::Storage(method) = method_of(disk, stated)? else {
            return Err(DiskError::ByQemu { target: disk.target.to_owned() });
        };
        let said = stated.or_else(|| disk.element().child(ELEMENT)).cloned();
        let said = said.unwrap_or_else(|| Element::new(ELEMENT));
        let volume = said.attribute("volume").map(str::to_owned).or_else(|| volume_of(disk, method));
        Self::new(disk.target, method, said, volume)
    }

    /// What a disk wants whose data is in this file or device by now.
    pub(crate) fn at(target: &str, path: &Utf8Path, said: &Element) -> Result<Self, DiskError> {
        let word = said.attribute("method").unwrap_or_default();
        let unknown =
            |why| DiskError::UnknownMethod { target: target.to_owned(), word: word.to_owned(), why };
        let method = word.parse().map_err(unknown)?;
        check_words(target, By::Storage(method), said)?;
        let volume = said.attribute("volume").map(str::to_owned).or_else(|| volume_at(path, method));
        Self::new(target, method, said.clone(), volume)
    }

    fn new(target: &str, method: Method, said: Element, volume: Option<String>) -> Result<Self, DiskError> {
        let target = target.to_owned();
        match volume {
            Some(volume) => Ok(Self { target, method, said, volume }),
            None => {
                let what = "to be told its `volume`: the disk's source names none";
                Err(DiskError::Missing { target, method, what })
            }
        }
    }

    /// The volume, if it is this method's.
    pub(super) fn volume_by(self, method: Method) -> Option<String> {
        (self.method == method).then_some(self.volume)
    }

    fn missing(&self, what: &'static str) -> DiskError {
        DiskError::Missing { target: self.target.clone(), method: self.method, what }
    }

    fn attribute(&self, name: &str) -> Option<String> {
        self.said.attribute(name).map(str::to_owned)
    }

    /// The room that a snapshot of a thick logical volume is to have.
    fn room(&self) -> Result<Option<u8>, DiskError> {
        let Some(said) = self.said.attribute("room") else { return Ok(None) };
        let percent = said.parse().ok().filter(|percent| Room::percent(*percent).is_some());
        percent.map(Some).ok_or_else(|| self.missing("`room` to be a number of percent, 1 to 100"))
    }
}

/// The volume that a disk's source names.
pub(crate) fn volume_of(disk: &Disk<'_>, method: Method) -> Option<String> {
    if method != Method::Rbd {
        return volume_at(disk.path()?, method);
    }
    let source = disk.element().child("source")?;
    let is = disk.source_type() == Some(SourceType::Network) && source.attribute("protocol") == Some("rbd");
    source.attribute("name").filter(|_| is).map(str::to_owned)
}

/// The volume that a file or a device is in, or is.
fn volume_at(path: &Utf8Path, method: Method) -> Option<String> {
    let below = |folder: &str| Some(path.strip_prefix(folder).ok()?.to_string());
    match method {
        Method::Btrfs => Some(path.parent()?.to_string()),
        Method::Reflink | Method::Exec => Some(path.to_string()),
        Method::Lvm => below("/dev"),
        Method::Zfs => below("/dev/zvol"),
        Method::Rbd => None,
    }
}

/// The volumes that hold these disks, of as few storages as can be: each with its disks.
pub(crate) fn groups(wishes: &[Wish], within: Duration) -> Result<Vec<(Vec<String>, Volumes)>, DiskError> {
    let mut groups: Vec<Vec<Wish>> = Vec::new();
    for wish in wishes {
        let goes_with = |group: &&mut Vec<Wish>| {
            let all: Vec<Wish> = group.iter().chain([wish]).cloned().collect();
            let same = group.iter().all(|other| other.said == wish.said || other.volume == wish.volume);
            same && together(&all, within).is_ok()
        };
        match groups.iter_mut().find(goes_with) {
            Some(group) => group.push(wish.clone()),
            None => groups.push(vec![wish.clone()]),
        }
    }
    let held = groups.iter().map(|group| {
        let targets = group.iter().map(|wish| wish.target.clone()).collect();
        Ok((targets, together(group, within)?))
    });
    held.collect()
}

/// The volumes of one storage that hold all of these disks, and that it catches at one point in time.
pub(super) fn together(wishes: &[Wish], within: Duration) -> Result<Volumes, DiskError> {
    let Some(first) = wishes.first() else { return Err(DiskError::NoDisk) };
    let not = |why| DiskError::NotTogether {
        targets: wishes.iter().map(|wish| wish.target.clone()).collect(),
        why,
    };
    if wishes.iter().any(|wish| wish.method != first.method) {
        return Err(not("their storages are different ones"));
    }
    let mut names: Vec<String> = wishes.iter().map(|wish| wish.volume.clone()).collect();
    names.sort_unstable();
    names.dedup();
    let (alone, group) = (names.len() == 1, first.attribute("group"));
    match first.method {
        Method::Btrfs if !alone => return Err(not("they lie in several subvolumes")),
        Method::Reflink if !alone => return Err(not("each file is caught by itself")),
        Method::Lvm if !alone => return Err(not("each logical volume is caught by itself")),
        Method::Rbd if !alone && group.is_none() => return Err(not("they are in no `group` of images")),
        Method::Exec if first.said.attribute("program").is_none() => {
            return Err(first.missing("a `program`"));
        }
        _ => {}
    }
    let volumes = Volumes {
        method: first.method,
        names,
        group: group.filter(|_| first.method == Method::Rbd),
        settings: first.attribute("settings").filter(|_| first.method == Method::Rbd),
        program: first.attribute("program").filter(|_| first.method == Method::Exec),
        room: if first.method == Method::Lvm { first.room()? } else { None },
        within,
    };
    // What cannot be a name there is found before anything is planned.
    volumes.provider()?;
    Ok(volumes)
}

#[cfg(test)]
mod tests;
