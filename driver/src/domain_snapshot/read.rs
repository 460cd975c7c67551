//! From document to definition, checked in libvirt's order.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    BadDefinition, DomainSnapshot, Location, Memory, Rest, SnapshotDisk, SourceType, State, Unknown, Why,
    storage_part::{self, Note},
    unknown,
};
use crate::xml::{self, Element, Limits, Node};

/// What a wish for a new snapshot says.
const WISHED: [&str; 4] = ["name", "description", "memory", "disks"];

/// What a definition is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A new snapshot is to be taken: what it says of the past is passed over.
    Create {
        /// Whether there is no memory: the machine is off, or only its disks are wanted.
        without_memory: bool,
    },
    /// A record is handed in.
    Redefine,
    /// A record is read from its file.
    Load,
}

/// Formats that libvirt has a name for.
const FORMATS: [&str; 16] = [
    "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow",
    "qcow2", "qed", "vmdk",
];

/// Types of disks that libvirt has, but no overlay can be of.
const NOT_FOR_OVERLAYS: [&str; 2] = ["volume", "dir"];

/// At a disk: a delete of the snapshot above was begun.
const BEGUN: &str = "snapshotDeleteInProgress";

/// At a disk of a record: its overlay is gone. This driver's own.
pub(super) const GONE: &str = "gone";

impl DomainSnapshot {
    /// Reads a document.
    ///
    /// # Errors
    /// [`BadDefinition`], the first that libvirt would find; its code is [`Why::code`].
    pub fn read(document: &[u8], purpose: Purpose) -> Result<Self, BadDefinition> {
        Self::of(&xml::read(document, Limits::default())?, purpose)
    }

    /// Reads an element.
    ///
    /// # Errors
    /// As [`DomainSnapshot::read`].
    pub fn of(root: &Element, purpose: Purpose) -> Result<Self, BadDefinition> {
        if root.name != "domainsnapshot" {
            return Err(bad(root, Why::Root(root.name.clone())));
        }
        let past = match purpose {
            Purpose::Create { without_memory } => {
                once(root, &WISHED)?;
                Past::to_be(root, without_memory)
            }
            Purpose::Redefine | Purpose::Load => {
                once(root, &unknown::PARTS)?;
                Past::recorded(root)?
            }
        };
        let memory = memory(root, &past)?;
        let mut disks = disks(root, "disks")?;
        disks.iter_mut().for_each(|disk| disk.gone &= past.recorded);
        let revert_disks = disks_of_a_record(root, past.recorded)?;
        let active = (purpose == Purpose::Load).then(|| active(root)).transpose()?;
        let part = |name: &str| root.child(name).filter(|_| past.recorded).cloned();
        let taken = past.creation_time;
        let (domain, note) = part("domain").map(|domain| storage_part::take_out(domain, taken)).unzip();
        let Note { parts, quiesced } = note.unwrap_or_default();
        Ok(Self {
            description: root.text_of("description"),
            storage: parts,
            quiesced,
            domain,
            inactive_domain: part("inactiveDomain"),
            cookie: part("cookie").filter(|_| !past.without_memory),
            name: past.name,
            state: past.state,
            parent: past.parent,
            creation_time: past.creation_time,
            memory,
            disks,
            revert_disks,
            active,
            unknown: Unknown::of(root, past.recorded),
        })
    }
}

/// What a definition says of the time when the snapshot was taken.
struct Past {
    recorded: bool,
    name: Option<String>,
    state: Option<State>,
    parent: Option<String>,
    creation_time: Option<i64>,
    without_memory: bool,
}

impl Past {
    fn to_be(root: &Element, without_memory: bool) -> Self {
        let name = named(root);
        Self { recorded: false, name, state: None, parent: None, creation_time: None, without_memory }
    }

    fn recorded(root: &Element) -> Result<Self, BadDefinition> {
        let name = named(root).ok_or_else(|| bad(root, Why::NoName))?;
        let time = root.child("creationTime");
        let creation_time = time
            .and_then(|time| time.text().trim().parse().ok())
            .ok_or_else(|| bad(time.unwrap_or(root), Why::NoCreationTime))?;
        let state = root.child("state").ok_or_else(|| bad(root, Why::NoState))?;
        let said = state.text();
        let state =
            super::of_name(&State::NAMES, &said).ok_or_else(|| bad(state, Why::UnknownState(said)))?;
        Ok(Self {
            recorded: true,
            name: Some(name),
            state: Some(state),
            parent: parent(root)?,
            creation_time: Some(creation_time),
            without_memory: state.has_no_memory(),
        })
    }
}

/// Whether each of these parts is said once at the most. libvirt takes the first, and passes over what else is said.
fn once(element: &Element, parts: &[&str]) -> Result<(), BadDefinition> {
    let mut said = BTreeSet::new();
    let mut known = element.elements().filter(|part| parts.contains(&part.name.as_str()));
    match known.find(|part| !said.insert(part.name.as_str())) {
        None => Ok(()),
        Some(part) => {
            let (again, whole) = (part.name.clone(), element.name.clone());
            Err(bad(part, Why::Twice { part: again, whole }))
        }
    }
}

fn parent(root: &Element) -> Result<Option<String>, BadDefinition> {
    let Some(parent) = root.child("parent") else { return Ok(None) };
    once(parent, &["name"])?;
    Ok(parent.text_of("name"))
}

fn named(root: &Element) -> Option<String> {
    root.text_of("name").filter(|name| !name.is_empty())
}

fn memory(root: &Element, past: &Past) -> Result<Memory, BadDefinition> {
    let element = root.child("memory").unwrap_or(root);
    let of = |name: &str| element.attribute(name).filter(|said| element.name == "memory" && !said.is_empty());
    let wrong = |why| Err(bad(element, why));
    let file = of("file");
    let location = match (of("snapshot"), file) {
        (Some(said), _) => {
            let Some(location) = Location::of(said) else {
                return wrong(Why::UnknownMemory(said.into()));
            };
            match (location, file) {
                (Location::Manual, _) => return wrong(Why::ManualMemory),
                (Location::External, None) => return wrong(Why::NoMemoryFile),
                (Location::No | Location::Internal, Some(file)) => {
                    return wrong(Why::MemoryFileUnused(file.into()));
                }
                _ => Some(location),
            }
        }
        (None, Some(_)) => Some(Location::External),
        (None, None) if past.recorded && past.without_memory => Some(Location::No),
        (None, None) if past.recorded => Some(Location::Internal),
        (None, None) => None,
    };
    if past.without_memory && location.is_some_and(|location| location != Location::No) {
        return wrong(Why::MemoryWithoutMachine);
    }
    let file = file.map(Utf8PathBuf::from);
    match &file {
        Some(relative) if !relative.is_absolute() => wrong(Why::RelativeMemoryFile(relative.clone())),
        _ => Ok(Memory { location, file }),
    }
}

fn disks_of_a_record(root: &Element, recorded: bool) -> Result<Vec<SnapshotDisk>, BadDefinition> {
    if recorded { disks(root, "revertDisks") } else { Ok(Vec::new()) }
}

fn disks(root: &Element, list: &str) -> Result<Vec<SnapshotDisk>, BadDefinition> {
    let all = root.child(list).into_iter().flat_map(Element::elements);
    all.filter(|element| unknown::is_disk(&element.name)).map(disk).collect()
}

fn disk(element: &Element) -> Result<SnapshotDisk, BadDefinition> {
    let name = element.attribute("name").ok_or_else(|| bad(element, Why::NoDiskName))?;
    let mut disk = SnapshotDisk::new(name);
    if let Some(said) = element.attribute("snapshot") {
        let unknown = || bad(element, Why::UnknownLocation(said.into()));
        disk.location = Some(Location::of(said).ok_or_else(unknown)?);
    }
    if let Some(said) = element.attribute("type") {
        let why = if NOT_FOR_OVERLAYS.contains(&said) {
            Why::SourceTypeUnsupported
        } else {
            Why::UnknownSourceType
        };
        disk.source_type = SourceType::of(said).ok_or_else(|| bad(element, why(said.into())))?;
    }
    once(element, &["driver", "source"])?;
    let [driver, source] = ["driver", "source"].map(|part| element.child(part));
    disk.driver = driver.cloned();
    disk.source = source.cloned();
    disk.delete_in_progress = element.child(BEGUN).is_some();
    disk.gone = element.child(GONE).is_some();
    disk.rest = Rest::of(element, &["name", "snapshot", "type"], |node| match node {
        Node::Element(part) => {
            [BEGUN, GONE].contains(&&*part.name)
                || [driver, source].into_iter().flatten().any(|known| std::ptr::eq(known, part))
        }
        _ => false,
    });
    if let Some(format) = disk.format()
        && !FORMATS.contains(&format)
    {
        return Err(bad(disk.driver.as_ref().unwrap_or(element), Why::UnknownFormat(format.into())));
    }
    if let Some(path) = disk.path().filter(|path| disk.source_type.is_on_the_host() && !path.is_absolute()) {
        let path = Utf8Path::to_owned(path);
        return Err(bad(disk.source.as_ref().unwrap_or(element), Why::RelativePath(path)));
    }
    if disk.location.is_none() && (disk.path().is_some() || disk.format().is_some()) {
        disk.location = Some(Location::External);
    }
    Ok(disk)
}

fn active(root: &Element) -> Result<bool, BadDefinition> {
    let element = root.child("active");
    match element.map(Element::text).as_deref().map(str::trim) {
        Some("0") => Ok(false),
        // libvirt takes every other number for yes.
        Some(number) if number.parse::<i32>().is_ok() => Ok(true),
        _ => Err(bad(element.unwrap_or(root), Why::NoActive)),
    }
}

fn bad(element: &Element, why: Why) -> BadDefinition {
    BadDefinition { at: element.at, why }
}
