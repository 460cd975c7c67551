//! `<domain>`: a machine as libvirt describes it, as far as snapshots need it.
//!
//! The document stays whole, and what is asked of it is looked up in it: so nothing is lost that this driver does not
//! understand, and a changed disk is a changed element.
//!
//! Source: libvirt's documentation of the domain XML format.

mod abi;
pub(crate) mod size;
mod usual_alias;

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

pub(crate) use self::usual_alias::number_of;
use crate::{
    domain::Nvram,
    domain_snapshot::{Location, SourceType},
    error::Code,
    qemu_img::Backing,
    xml::{self, Element, Limits, Node, Position},
};

/// A machine's description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DomainXml {
    element: Element,
}

/// One disk of a machine's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk<'a> {
    element: &'a Element,
    /// What the guest and the caller call it: `vda`.
    pub target: &'a str,
}

/// A machine's description that is refused, and where in the document that shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {why}")]
pub struct BadDomain {
    /// Where.
    pub at: Position,
    /// Why.
    pub why: Why,
}

/// Why a machine's description is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It is no XML, or too large.
    #[error(transparent)]
    Xml(xml::Why),
    /// Another document.
    #[error("the root element is `<{0}>`; a machine is described by `<domain>`")]
    Root(String),
    /// No name.
    #[error("the machine has no `<name>`")]
    NoName,
    /// Not a UUID.
    #[error("`{0}` is no UUID")]
    BadUuid(String),
    /// A disk without a target.
    #[error("a `<disk>` has no `<target dev='...'/>`")]
    NoTarget,
    /// Two disks with one target.
    #[error("two disks have the target `{0}`")]
    TargetTwice(String),
    /// Not one of [`Location`].
    #[error("`{0}` is no place for a disk's snapshot; there are no, internal, external and manual")]
    UnknownLocation(String),
}

impl Why {
    /// libvirt's name of this error.
    pub fn code(&self) -> Code {
        Code::XmlError
    }
}

impl From<DomainXml> for String {
    fn from(domain: DomainXml) -> String {
        domain.element.document()
    }
}

impl TryFrom<String> for DomainXml {
    type Error = BadDomain;

    fn try_from(document: String) -> Result<Self, BadDomain> {
        Self::read(document.as_bytes())
    }
}

impl DomainXml {
    /// Reads a document.
    ///
    /// # Errors
    /// [`BadDomain`].
    pub fn read(document: &[u8]) -> Result<Self, BadDomain> {
        let root = xml::read(document, Limits::default())
            .map_err(|error| BadDomain { at: error.at, why: Why::Xml(error.why) })?;
        Self::of(root)
    }

    /// Checks an element: `<domain>`, or a snapshot's `<inactiveDomain>`.
    ///
    /// # Errors
    /// [`BadDomain`].
    pub fn of(element: Element) -> Result<Self, BadDomain> {
        let bad = |at: &Element, why| Err(BadDomain { at: at.at, why });
        if !matches!(element.name.as_str(), "domain" | "inactiveDomain") {
            return bad(&element, Why::Root(element.name.clone()));
        }
        match element.child("name") {
            Some(name) if !name.text().trim().is_empty() => {}
            other => return bad(other.unwrap_or(&element), Why::NoName),
        }
        if let Some(uuid) = element.child("uuid")
            && canonical_uuid(&uuid.text()).is_none()
        {
            return bad(uuid, Why::BadUuid(uuid.text()));
        }
        let mut targets = BTreeSet::new();
        for disk in disk_elements(&element) {
            let Some(target) = target(disk) else {
                return bad(disk, Why::NoTarget);
            };
            if !targets.insert(target) {
                return bad(disk, Why::TargetTwice(target.into()));
            }
            if let Some(said) = disk.attribute("snapshot").filter(|said| Location::of(said).is_none()) {
                return bad(disk, Why::UnknownLocation(said.into()));
            }
        }
        Ok(Self { element })
    }

    /// The document as a tree.
    pub fn element(&self) -> &Element {
        &self.element
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.element.text_of("name").unwrap_or_default().trim().to_owned()
    }

    /// Its UUID in small letters with hyphens.
    pub fn uuid(&self) -> Option<String> {
        uuid_of(&self.element)
    }

    /// What kind of machine it is, as `<type machine=…>` says.
    pub fn board(&self) -> Option<&str> {
        self.element.child("os")?.child("type")?.attribute("machine")
    }

    /// The memory that it is started with, in bytes; unknown where some of it may be plugged in.
    pub fn memory_at_start(&self) -> Option<u64> {
        let plugged = self.element.child("maxMemory").is_some();
        self.element.child("memory").filter(|_| !plugged).and_then(size::bytes)
    }

    /// Its disks, in order.
    pub fn disks(&self) -> impl Iterator<Item = Disk<'_>> {
        disk_elements(&self.element).filter_map(|element| Some(Disk { element, target: target(element)? }))
    }

    /// Whether it has a TPM, which keeps its state past the disks: a program's, or the host's own.
    pub fn has_tpm(&self) -> bool {
        self.element.child("devices").is_some_and(|devices| devices.child("tpm").is_some())
    }

    /// The file of the firmware's variables, if the machine has one.
    pub fn nvram(&self) -> Option<Nvram> {
        let nvram = self.element.child("os")?.child("nvram")?;
        let file = match nvram.child("source") {
            Some(source) => source.attribute("file")?.to_owned(),
            None => nvram.text().trim().to_owned(),
        };
        let format = nvram.attribute("format").unwrap_or("raw").to_owned();
        (!file.is_empty()).then(|| Nvram { file: file.into(), format })
    }

    /// What the firmware's variables are made of, and its format; none if none is named.
    pub fn nvram_template(&self) -> Option<(Utf8PathBuf, String)> {
        let nvram = self.element.child("os")?.child("nvram")?;
        let format = nvram.attribute("templateFormat").unwrap_or("raw").to_owned();
        Some((nvram.attribute("template")?.into(), format))
    }

    /// The host's socket of its guest agent's port: that of the channel that is called so. None if it has no such channel, or
    /// one without a path, which libvirt gives it when it starts.
    pub fn agent(&self) -> Option<&Utf8Path> {
        let is_agents = |channel: &&Element| {
            let target = channel.child("target").and_then(|target| target.attribute("name"));
            channel.name == "channel" && target == Some("org.qemu.guest_agent.0")
        };
        let channel = self.element.child("devices")?.elements().find(is_agents)?;
        Some(Utf8Path::new(channel.child("source")?.attribute("path")?))
    }

    /// The same with these images in use, each as target, file and format: what a running machine's disks are in by now.
    #[must_use]
    pub fn with_sources<'s>(
        &self,
        sources: impl IntoIterator<Item = (&'s str, &'s Utf8Path, &'s str)>,
    ) -> Self {
        let mut changed = self.clone();
        for (target, path, format) in sources {
            if let Some(disk) = changed.disk_mut(target) {
                set_source(disk, path, format);
            }
        }
        changed
    }

    /// The same with the images behind these disks stated, down to the last.
    #[must_use]
    pub fn with_chains(&self, chains: &BTreeMap<String, Vec<Backing>>) -> Self {
        let mut changed = self.clone();
        for (target, chain) in chains {
            if let Some(disk) = changed.disk_mut(target) {
                disk.remove("backingStore");
                disk.push(backing_store(chain));
            }
        }
        changed
    }

    /// The same without what is said of the images behind its disks: that is left to be found.
    #[must_use]
    pub fn without_chains(&self) -> Self {
        let mut changed = self.clone();
        let devices = changed.element.child_mut("devices").into_iter().flat_map(Element::elements_mut);
        devices.filter(|device| device.name == "disk").for_each(|disk| disk.remove("backingStore"));
        changed
    }

    /// The same without what it says of the images behind a disk, if a file is among them; none if it is not.
    #[must_use]
    pub fn without_chain_through(&self, target: &str, file: &Utf8Path) -> Option<Self> {
        let mut changed = self.clone();
        let disk = changed.disk_mut(target)?;
        if !disk.child("backingStore")?.names(file.as_str()) {
            return None;
        }
        disk.remove("backingStore");
        Some(changed)
    }

    /// The same with these of its disks alone.
    #[must_use]
    pub fn with_disks(&self, kept: impl Fn(&str) -> bool) -> Self {
        let mut changed = self.clone();
        if let Some(devices) = changed.element.child_mut("devices") {
            devices.children.retain(|child| match child {
                Node::Element(disk) if disk.name == "disk" => target(disk).is_some_and(&kept),
                _ => true,
            });
        }
        changed
    }

    fn disk_mut(&mut self, target: &str) -> Option<&mut Element> {
        let devices = self.element.child_mut("devices")?;
        devices.elements_mut().find(|disk| disk.name == "disk" && self::target(disk) == Some(target))
    }

    /// The disk of that target, or with that source.
    pub fn disk(&self, name: &str) -> Option<Disk<'_>> {
        self.disks()
            .find(|disk| disk.target == name)
            .or_else(|| self.disks().find(|disk| disk.path().is_some_and(|path| path == name)))
    }
}

impl<'a> Disk<'a> {
    /// Its element in the document.
    pub fn element(&self) -> &'a Element {
        self.element
    }

    /// What libvirt and QEMU call its device: `virtio-disk0`.
    pub fn alias(&self) -> Option<&'a str> {
        self.element.child("alias")?.attribute("name")
    }

    /// `disk`, `cdrom`, `floppy` or `lun`.
    pub fn device(&self) -> &'a str {
        self.element.attribute("device").unwrap_or("disk")
    }

    /// What kind of thing its data is in; none if that is one that this driver does not know.
    pub fn source_type(&self) -> Option<SourceType> {
        SourceType::of(self.element.attribute("type").unwrap_or("file"))
    }

    /// Whether its data is in a file or a device of the host's.
    pub fn is_on_the_host(&self) -> bool {
        self.source_type().is_some_and(SourceType::is_on_the_host)
    }

    /// Its format, always stated and never looked for in the data.
    pub fn format(&self) -> &'a str {
        self.element.child("driver").and_then(|driver| driver.attribute("type")).unwrap_or("raw")
    }

    /// Its source's path; none if it is empty or has no path.
    pub fn path(&self) -> Option<&'a Utf8Path> {
        self.source_type()?.path(self.element.child("source"))
    }

    /// Whether the guest cannot write it: a CD's disc never.
    pub fn read_only(&self) -> bool {
        self.element.child("readonly").is_some() || self.device() == "cdrom"
    }

    /// Whether other machines write it too.
    pub fn shareable(&self) -> bool {
        self.element.child("shareable").is_some()
    }

    /// Whether what the guest writes is thrown away when the machine stops.
    pub fn transient(&self) -> bool {
        self.element.child("transient").is_some()
    }

    /// Where its part of a snapshot goes if the snapshot does not say: a disk that the guest cannot write has none.
    pub fn snapshot(&self) -> Option<Location> {
        match self.element.attribute("snapshot") {
            Some(said) => Location::of(said),
            None if self.read_only() => Some(Location::No),
            None => None,
        }
    }
}

/// Puts another image in a disk. What was said of the chain below is of the old one, and is left to be found anew.
fn set_source(disk: &mut Element, path: &Utf8Path, format: &str) {
    let was = if disk.attribute("type") == Some("block") { "dev" } else { "file" };
    if disk.child("source").and_then(|source| source.attribute(was)) == Some(path.as_str()) {
        return;
    }
    disk.remove("backingStore");
    // A disk on a device may go on in a file, and the other way round.
    let (source_type, attribute) = stated(path);
    disk.set("type", source_type);
    match disk.child_mut("driver") {
        Some(driver) => driver.set("type", format),
        // Where nothing is said it is raw, and an overlay that is opened as that is not the disk.
        None => {
            let driver = Element::new("driver").with("name", "qemu").with("type", format);
            disk.children.insert(0, Node::Element(driver));
        }
    }
    if let Some(source) = disk.child_mut("source") {
        source.attributes.retain(|(name, _)| name == attribute || name != was);
        source.set(attribute, path.as_str());
    }
}

/// The images from the first on down, and that there are no others.
pub(crate) fn backing_store(chain: &[Backing]) -> Element {
    let Some((first, rest)) = chain.split_first() else { return Element::new("backingStore") };
    let (kind, attribute) = stated(&first.file);
    let mut store = Element::new("backingStore").with("type", kind);
    store.push(Element::new("format").with("type", &first.format));
    store.push(Element::new("source").with(attribute, first.file.as_str()));
    store.push(backing_store(rest));
    store
}

/// The type of a source, and its attribute with the path.
fn stated(path: &Utf8Path) -> (&'static str, &'static str) {
    match SourceType::of_path(path) {
        SourceType::Block => ("block", "dev"),
        _ => ("file", "file"),
    }
}

fn disk_elements(domain: &Element) -> impl Iterator<Item = &Element> {
    let devices = domain.child("devices").into_iter();
    devices.flat_map(Element::elements).filter(|device| device.name == "disk")
}

fn target(disk: &Element) -> Option<&str> {
    disk.child("target")?.attribute("dev").filter(|target| !target.is_empty())
}

/// The UUID in a `<domain>`, as [`DomainXml::uuid`] has it.
pub(crate) fn uuid_of(domain: &Element) -> Option<String> {
    canonical_uuid(&domain.text_of("uuid")?)
}

/// libvirt takes a UUID with or without its hyphens, in letters of any size.
pub(crate) fn canonical_uuid(text: &str) -> Option<String> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let part = |from: usize, to: usize| &digits[from..to];
    Some([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "<domain type='kvm'><name>vm</name><uuid>AB1234560000000000000000000000FF</uuid><devices>
        <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/a.qcow2'/><target dev='vda'/></disk>
        <disk type='block' snapshot='no'><source dev='/dev/b'/><target dev='vdb'/><shareable/><transient/></disk>
        <disk type='file' device='cdrom'><target dev='sda'/></disk>
        <interface type='user'/></devices></domain>";

    fn why(text: &str) -> Why {
        DomainXml::read(text.as_bytes()).expect_err(text).why
    }

    /// As raw it would be another disk: the overlay's own tables, and what is written to it lost.
    #[test]
    fn a_disk_of_which_no_format_is_said_says_that_of_the_image_that_it_goes_on_in() {
        let domain = DomainXml::read(DOMAIN.as_bytes()).unwrap();
        let format = |domain: &DomainXml| domain.disk("vdb").unwrap().format().to_owned();
        assert_eq!(format(&domain), "raw");
        let on = domain.with_sources([("vdb", Utf8Path::new("/b.s1"), "qcow2")]);
        assert_eq!(format(&on), "qcow2");
        let read = DomainXml::read(on.element().document().as_bytes()).unwrap();
        assert_eq!((format(&read), read.disk("vdb").unwrap().path()), ("qcow2".into(), Some("/b.s1".into())));
        assert_eq!(format(&on.with_sources([("vdb", Utf8Path::new("/dev/b"), "raw")])), "raw");
    }

    #[test]
    fn a_machine_and_its_disks_are_found() {
        let domain = DomainXml::read(DOMAIN.as_bytes()).unwrap();
        assert_eq!(domain.name(), "vm");
        assert_eq!(domain.uuid().as_deref(), Some("ab123456-0000-0000-0000-0000000000ff"));
        let disks: Vec<_> = domain
            .disks()
            .map(|disk| (disk.target, disk.format(), disk.path().map(Utf8Path::as_str)))
            .collect();
        assert_eq!(
            disks,
            [("vda", "qcow2", Some("/a.qcow2")), ("vdb", "raw", Some("/dev/b")), ("sda", "raw", None)]
        );
        let disk = |name: &str| domain.disk(name).unwrap();
        assert_eq!(disk("/dev/b").target, "vdb");
        assert!(disk("vdb").shareable() && disk("vdb").transient() && !disk("vda").shareable());
        assert_eq!(disk("vdb").snapshot(), Some(Location::No));
        assert_eq!((disk("vda").snapshot(), disk("sda").snapshot()), (None, Some(Location::No)));
    }

    #[test]
    fn a_description_that_cannot_be_is_refused() {
        assert_eq!(why("<a/>"), Why::Root("a".into()));
        assert_eq!(why("<domain/>"), Why::NoName);
        assert_eq!(why("<domain><name>a</name><uuid>12</uuid></domain>"), Why::BadUuid("12".into()));
        assert_eq!(why(&DOMAIN.replace("<target dev='vda'/>", "")), Why::NoTarget);
        assert_eq!(why(&DOMAIN.replace("'vdb'", "'vda'")), Why::TargetTwice("vda".into()));
        assert_eq!(
            why(&DOMAIN.replace("snapshot='no'", "snapshot='yes'")),
            Why::UnknownLocation("yes".into())
        );
    }

    #[test]
    fn the_agents_channel_is_the_one_of_its_name() {
        let channel = |name: &str, path: &str| {
            format!(
                "<channel type='unix'><source mode='bind'{path}/><target type='virtio' name='{name}'/></channel>"
            )
        };
        let agent = |channels: &str| {
            let text = format!("<domain><name>vm</name><devices>{channels}</devices></domain>");
            DomainXml::read(text.as_bytes()).unwrap().agent().map(ToOwned::to_owned)
        };
        let (other, ours) = ("com.redhat.spice.0", "org.qemu.guest_agent.0");
        let both = channel(other, " path='/run/spice'") + &channel(ours, " path='/run/qga'");
        assert_eq!(agent(&both).as_deref(), Some("/run/qga".into()));
        assert_eq!(agent(&channel(ours, "")), None);
        assert_eq!(agent(&channel(other, " path='/run/spice'")), None);
    }
}
