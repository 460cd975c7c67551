//! What a snapshot of a disk means for the documents of machines: the `<disk>` from which a backup reads it.

use camino::Utf8PathBuf;

use crate::{
    domain_snapshot::SourceType,
    domain_xml::{Disk, backing_store},
    qemu_img::Backing,
    storage::BackupSource,
    xml::Element,
};

/// A disk of which a snapshot is taken.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) target: String,
    /// The file or device of this host that the machine uses; none of what lies elsewhere, whose name is no path here.
    pub(super) image: Option<Utf8PathBuf>,
    pub(super) format: String,
    pub(super) read_only: bool,
    pub(super) element: Element,
}

impl From<&Disk<'_>> for Described {
    fn from(disk: &Disk<'_>) -> Self {
        let is_here = disk.source_type().is_some_and(SourceType::is_on_the_host);
        Self {
            target: disk.target.to_owned(),
            image: is_here.then(|| disk.path().map(ToOwned::to_owned)).flatten(),
            format: disk.format().to_owned(),
            read_only: disk.read_only(),
            element: disk.element().clone(),
        }
    }
}

impl Described {
    /// The disk as a backup reads it: the same, from another place, and read-only. What is behind it is stated where that is
    /// somewhere else, too, than the image's header says.
    pub(super) fn backup(&self, source: &BackupSource, behind: &[Backing]) -> Element {
        let mut disk = Element::new("disk").with("device", "disk");
        let (kind, place) = match source {
            BackupSource::File(path) => ("file", Element::new("source").with("file", path.as_str())),
            BackupSource::Block(path) => ("block", Element::new("source").with("dev", path.as_str())),
            BackupSource::Rbd(name) => {
                // Where the cluster is stands in the live disk's source.
                let hosts = self.element.child("source").into_iter().flat_map(Element::elements);
                let mut place = Element::new("source").with("protocol", "rbd").with("name", name);
                hosts.for_each(|element| place.push(element.clone()));
                ("network", place)
            }
        };
        disk.set("type", kind);
        disk.push(Element::new("driver").with("name", "qemu").with("type", &self.format));
        disk.push(place);
        if !behind.is_empty() {
            disk.push(backing_store(behind));
        }
        disk.push(Element::new("target").with("dev", &self.target));
        disk.push(Element::new("readonly"));
        disk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain_xml::DomainXml;

    #[test]
    fn a_backup_reads_the_disk_from_the_snapshot_and_cannot_write() {
        let disk = "<disk type='network'><driver type='raw'/><source protocol='rbd' name='p/i'><host name='mon'/></source><target dev='vda'/></disk>";
        let document = format!("<domain><name>vm</name><devices>{disk}</devices></domain>");
        let domain = DomainXml::read(document.as_bytes()).unwrap();
        let described = Described::from(&domain.disk("vda").unwrap());
        let backup = described.backup(&BackupSource::Rbd("p/i@s1".into()), &[]);
        let source = backup.child("source").unwrap();
        assert_eq!((source.attribute("name"), source.child("host").is_some()), (Some("p/i@s1"), true));
        assert!(backup.child("readonly").is_some());
    }
}
