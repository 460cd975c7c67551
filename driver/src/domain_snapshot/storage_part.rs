//! What libvirt has no word for in a record: where a storage below the disks holds its part of the snapshot, and whether the guest
//! was at rest for it.
//!
//! libvirt's schema lets a `manual` disk of a snapshot hold nothing at all, and of a `<cookie>` libvirt keeps
//! what it knows; what stands in the machine's `<metadata>` in a namespace of its own passes both, and comes back from libvirt as it
//! was handed in:
//!
//! ```xml
//! <domain>
//!   <metadata>
//!     <freezeframe:storage xmlns:freezeframe='urn:freezeframe:storage:1' taken='1700000000'>
//!       <freezeframe:part name='s1' method='btrfs'>
//!         <freezeframe:disk name='vdb'/>
//!         <freezeframe:volume name='/pool/vm1'/>
//!       </freezeframe:part>
//!       <freezeframe:quiesced verdict='yes'>2 file systems</freezeframe:quiesced>
//!     </freezeframe:storage>
//!   </metadata>
//! </domain>
//! ```
//!
//! libvirt makes the snapshot's machine the machine's own when it goes back to it, this with it: `taken`, the snapshot's time, tells
//! the snapshot whose it is. One of another is left where it stands, and means nothing.

use crate::{
    name::SnapshotName,
    report::{Quiesced, Verdict},
    storage::{self, Method, Volumes, lvm::Room},
    xml::Element,
};

/// The namespace.
const NAMESPACE: &str = "urn:freezeframe:storage:1";

/// What one storage holds of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePart {
    /// The disks.
    pub targets: Vec<String>,
    /// The volumes that they lie in, and their storage.
    pub volumes: Volumes,
    /// What the snapshot is called there.
    pub name: SnapshotName,
}

/// What a record says there.
#[derive(Debug, Default)]
pub(super) struct Note {
    pub(super) parts: Vec<StoragePart>,
    pub(super) quiesced: Option<Quiesced>,
}

/// What a record's machine tells of the snapshot, and the machine without it.
pub(super) fn take_out(domain: Element, taken: Option<i64>) -> (Element, Note) {
    let found = note(&domain).filter(|note| belongs_to(note, taken)).and_then(understood);
    match found {
        Some(note) => (without(&domain), note),
        None => (domain, Note::default()),
    }
}

/// The same machine without what any snapshot says there.
pub(crate) fn without(domain: &Element) -> Element {
    let mut domain = domain.clone();
    if note(&domain).is_none() {
        return domain;
    }
    if let Some(metadata) = domain.child_mut("metadata") {
        metadata
            .children
            .retain(|node| !matches!(node, crate::xml::Node::Element(element) if prefix(element).is_some()));
        if metadata.elements().next().is_none() {
            domain.remove("metadata");
        }
    }
    domain
}

/// The machine with this in it.
pub(super) fn put_in(
    domain: &Element,
    parts: &[StoragePart],
    quiesced: Option<&Quiesced>,
    taken: Option<i64>,
) -> Element {
    if parts.is_empty() && quiesced.is_none() {
        return domain.clone();
    }
    let mut domain = without(domain);
    let mut note = element("storage").with("xmlns:freezeframe", NAMESPACE);
    note.set("taken", &taken.unwrap_or_default().to_string());
    parts.iter().for_each(|part| note.push(part.element()));
    quiesced.into_iter().for_each(|quiesced| note.push(rest(quiesced)));
    if domain.child("metadata").is_none() {
        domain.push(Element::new("metadata"));
    }
    if let Some(metadata) = domain.child_mut("metadata") {
        metadata.push(note);
    }
    domain
}

fn element(name: &str) -> Element {
    Element::new(&format!("freezeframe:{name}"))
}

impl StoragePart {
    fn element(&self) -> Element {
        let Volumes { method, names, group, settings, program, room, within: _ } = &self.volumes;
        let mut part = element("part").with("name", self.name.as_str()).with("method", method.name());
        let room = room.map(|room| room.to_string());
        for (name, value) in [("group", group), ("settings", settings), ("program", program), ("room", &room)]
        {
            if let Some(value) = value {
                part.set(name, value);
            }
        }
        self.targets.iter().for_each(|target| part.push(element("disk").with("name", target)));
        names.iter().for_each(|name| part.push(element("volume").with("name", name)));
        part
    }

    fn of(part: &Element, prefix: &str) -> Option<Self> {
        let attribute = |name: &str| part.attribute(name).map(str::to_owned);
        let named = |kind: &str| -> Vec<String> {
            let kind = format!("{prefix}{kind}");
            let elements = part.elements().filter(|element| element.name == kind);
            elements.filter_map(|element| Some(element.attribute("name")?.to_owned())).collect()
        };
        let method: Method = part.attribute("method")?.parse().ok()?;
        let room = part.attribute("room").map(str::parse::<u8>).transpose().ok()?;
        let volumes = Volumes {
            method,
            names: named("volume"),
            group: attribute("group"),
            settings: attribute("settings"),
            program: attribute("program"),
            room: room.filter(|room| Room::percent(*room).is_some()),
            within: storage::WITHIN,
        };
        // What no storage could be called is no part.
        volumes.provider().ok()?;
        let targets = named("disk");
        let name = SnapshotName::new(attribute("name")?).ok()?;
        (!targets.is_empty()).then_some(Self { targets, volumes, name })
    }
}

/// What stands in a machine's metadata in the namespace.
fn note(domain: &Element) -> Option<&Element> {
    domain.child("metadata")?.elements().find(|element| prefix(element).is_some())
}

/// By which prefix an element says that it is of the namespace: `freezeframe:`, unless somebody has written it anew.
fn prefix(element: &Element) -> Option<String> {
    let is_it = |(name, value): &&(String, String)| name.starts_with("xmlns") && value == NAMESPACE;
    let (name, _) = element.attributes.iter().find(is_it)?;
    let prefix = name.strip_prefix("xmlns:").map_or_else(String::new, |prefix| format!("{prefix}:"));
    (element.name == format!("{prefix}storage")).then_some(prefix)
}

fn belongs_to(note: &Element, taken: Option<i64>) -> bool {
    let said = note.attribute("taken").and_then(|taken| taken.parse().ok());
    said.is_some() && said == taken
}

/// All of it; none if a part cannot be understood.
fn understood(note: &Element) -> Option<Note> {
    let prefix = prefix(note)?;
    let (part, quiesced) = (format!("{prefix}part"), format!("{prefix}quiesced"));
    let parts = note.elements().filter(|element| element.name == part);
    let parts = parts.map(|part| StoragePart::of(part, &prefix)).collect::<Option<_>>()?;
    let quiesced = note.child(&quiesced).map(|said| {
        let verdict = said.attribute("verdict").and_then(Verdict::of)?;
        Some(Quiesced { verdict, why: said.text(), frozen_for: None })
    });
    Some(Note { parts, quiesced: quiesced.map_or(Some(None), |said| said.map(Some))? })
}

/// Whether the guest was at rest. How long it stood still for it, only the one who took the snapshot is told.
fn rest(quiesced: &Quiesced) -> Element {
    // Words of the guest's may be in it, and no document holds a control character.
    let why: String = quiesced.why.chars().filter(|c| !c.is_control()).collect();
    let said = Element::of_text("freezeframe:quiesced", &why);
    said.with("verdict", quiesced.verdict.name())
}

#[cfg(test)]
mod tests {
    use crate::{
        domain_snapshot::{DomainSnapshot, Purpose, StoragePart},
        report::Quiesced,
    };

    const NOTE: &str = "<metadata><mine:note xmlns:mine='urn:mine'/>
        <freezeframe:storage xmlns:freezeframe='urn:freezeframe:storage:1' taken='7'>
        <freezeframe:part name='s1' method='rbd' group='rbd/vm' settings='/etc/ceph.conf'>
        <freezeframe:disk name='vda'/><freezeframe:disk name='vdb'/>
        <freezeframe:volume name='rbd/a'/><freezeframe:volume name='rbd/b'/></freezeframe:part>
        <freezeframe:part name='s1' method='lvm' room='20'><freezeframe:disk name='vdc'/>
        <freezeframe:volume name='vg/c'/></freezeframe:part></freezeframe:storage></metadata>";

    fn record(metadata: &str) -> DomainSnapshot {
        let text = format!(
            "<domainsnapshot><name>s1</name><state>disk-snapshot</state><creationTime>7</creationTime>
             <domain><name>vm</name>{metadata}</domain></domainsnapshot>"
        );
        DomainSnapshot::read(text.as_bytes(), Purpose::Redefine).unwrap()
    }

    fn metadata(record: &DomainSnapshot) -> Vec<String> {
        let domain = record.domain.as_ref().unwrap();
        domain.child("metadata").into_iter().flat_map(|all| all.elements()).map(|e| e.name.clone()).collect()
    }

    #[test]
    fn a_record_says_where_its_parts_are_and_says_it_again() {
        let record = record(NOTE);
        let of: Vec<_> = record
            .storage
            .iter()
            .map(|StoragePart { targets, volumes, .. }| {
                (targets.join(" "), volumes.names.join(" "), volumes.group.clone(), volumes.room)
            })
            .collect();
        let rbd = ("vda vdb".to_owned(), "rbd/a rbd/b".to_owned(), Some("rbd/vm".to_owned()), None);
        assert_eq!(of, [rbd, ("vdc".to_owned(), "vg/c".to_owned(), None, Some(20))]);
        assert_eq!(record.storage[0].volumes.settings.as_deref(), Some("/etc/ceph.conf"));
        // The machine does not hold it, and what is others' stays.
        assert_eq!(metadata(&record), ["mine:note"]);
        let again = DomainSnapshot::read(record.document().as_bytes(), Purpose::Redefine).unwrap();
        assert_eq!(again, record);
    }

    #[test]
    fn a_record_says_whether_the_guest_was_at_rest() {
        let quiesced = "<freezeframe:quiesced verdict='unknown'>who knows</freezeframe:quiesced>";
        let record =
            record(&NOTE.replace("</freezeframe:storage>", &format!("{quiesced}</freezeframe:storage>")));
        assert_eq!(record.quiesced, Some(Quiesced::unknown("who knows")));
        let again = DomainSnapshot::read(record.document().as_bytes(), Purpose::Redefine).unwrap();
        assert_eq!(again, record);
        let alone = DomainSnapshot { storage: Vec::new(), ..record };
        let again = DomainSnapshot::read(alone.document().as_bytes(), Purpose::Redefine).unwrap();
        assert_eq!(again, alone);
    }

    #[test]
    fn another_prefix_is_the_same_word() {
        let text = NOTE.replace("freezeframe:", "a:").replace("xmlns:freezeframe=", "xmlns:a=");
        let text = text.replace("urn:a:storage", "urn:freezeframe:storage");
        let read = record(&text);
        assert_eq!((read.storage.len(), &read.storage), (2, &record(NOTE).storage));
    }

    #[test]
    fn the_note_of_another_snapshot_and_one_that_nobody_understands_mean_nothing() {
        for other in [
            NOTE.replace("taken='7'", "taken='8'"),
            NOTE.replace(" taken='7'", ""),
            NOTE.replace("method='lvm'", "method='tape'"),
            NOTE.replace(
                "</freezeframe:storage>",
                "<freezeframe:quiesced verdict='so'/></freezeframe:storage>",
            ),
            NOTE.replace("vg/c", "-vg/c"),
            NOTE.replace("name='s1' method='lvm'", "name='../s1' method='lvm'"),
            NOTE.replace("<freezeframe:disk name='vdc'/>", ""),
        ] {
            let record = record(&other);
            assert_eq!(record.storage, [], "{other}");
            // It is nobody's to throw away.
            assert_eq!(metadata(&record), ["mine:note", "freezeframe:storage"]);
        }
    }
}
