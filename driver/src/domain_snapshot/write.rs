//! From definition to document, in libvirt's order of elements.

use super::{DomainSnapshot, Memory, SnapshotDisk, SourceType, read::GONE, storage_part};
use crate::xml::Element;

/// What stands at the head of a record's file, for who opens it in an editor.
const HEAD: &str = "<!--
This file is written by freezeframe. What is changed here may be overwritten; use
  freezeframe snapshot edit
instead.
-->

";

impl DomainSnapshot {
    /// The document. It does not say whether the snapshot is the current one.
    pub fn document(&self) -> String {
        self.element().document()
    }

    /// The content of a record's file, which says whether the snapshot is the current one.
    pub fn file(&self) -> String {
        let mut element = self.element();
        let active = if self.active == Some(true) { "1" } else { "0" };
        element.push(Element::of_text("active", active));
        format!("{HEAD}{}", element.document())
    }

    fn element(&self) -> Element {
        let mut root = Element::new("domainsnapshot");
        let text = |name: &str, text: &str| Element::of_text(name, text);
        let parent = self.parent.as_deref().map(|name| {
            let mut parent = Element::new("parent");
            parent.push(text("name", name));
            parent
        });
        let parts = [
            self.name.as_deref().map(|name| text("name", name)),
            self.description.as_deref().map(|said| text("description", said)),
            self.state.map(|state| text("state", state.name())),
            parent,
            self.creation_time.map(|time| text("creationTime", &time.to_string())),
            self.memory.element().or_else(|| self.unknown_alone("memory")),
            self.list("disks", &self.disks),
            self.list("revertDisks", &self.revert_disks),
        ];
        for mut part in parts.into_iter().flatten() {
            if let Some(rest) = self.unknown.parts.get(&part.name) {
                rest.add_to(&mut part);
            }
            root.push(part);
        }
        let domain = self.domain.as_ref();
        let domain = domain.map(|domain| {
            storage_part::put_in(domain, &self.storage, self.quiesced.as_ref(), self.creation_time)
        });
        for part in [&domain, &self.inactive_domain, &self.cookie].into_iter().flatten() {
            root.push(part.clone());
        }
        self.unknown.root.add_to(&mut root);
        root
    }

    fn list(&self, name: &str, disks: &[SnapshotDisk]) -> Option<Element> {
        let mut list = Element::new(name);
        disks.iter().for_each(|disk| list.push(disk.element()));
        if disks.is_empty() { self.unknown_alone(name) } else { Some(list) }
    }

    /// A part of which nothing is understood, but that stands there.
    fn unknown_alone(&self, name: &str) -> Option<Element> {
        self.unknown.parts.contains_key(name).then(|| Element::new(name))
    }
}

impl Memory {
    fn element(&self) -> Option<Element> {
        let mut element = Element::new("memory").with("snapshot", self.location?.name());
        if let Some(file) = &self.file {
            element.set("file", file.as_str());
        }
        Some(element)
    }
}

impl SnapshotDisk {
    fn element(&self) -> Element {
        let mut element = Element::new("disk").with("name", &self.name);
        if let Some(location) = self.location {
            element.set("snapshot", location.name());
        }
        let parts = || self.driver.iter().chain(&self.source);
        if parts().next().is_some() || self.source_type != SourceType::File {
            element.set("type", self.source_type.name());
        }
        if self.delete_in_progress {
            element.push(Element::new("snapshotDeleteInProgress"));
        }
        parts().for_each(|part| element.push(part.clone()));
        if self.gone {
            element.push(Element::new(GONE));
        }
        self.rest.add_to(&mut element);
        element
    }
}
