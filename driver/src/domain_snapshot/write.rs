//! From definition to document, in libvirt's order of elements.

use super::{DomainSnapshot, Memory, SnapshotDisk, storage_part};
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
        let text = |root: &mut Element, name: &str, text: &str| root.push(Element::of_text(name, text));
        if let Some(name) = &self.name {
            text(&mut root, "name", name);
        }
        if let Some(description) = &self.description {
            text(&mut root, "description", description);
        }
        if let Some(state) = self.state {
            text(&mut root, "state", state.name());
        }
        if let Some(parent) = &self.parent {
            let mut element = Element::new("parent");
            text(&mut element, "name", parent);
            root.push(element);
        }
        if let Some(time) = self.creation_time {
            text(&mut root, "creationTime", &time.to_string());
        }
        if let Some(memory) = self.memory.element() {
            root.push(memory);
        }
        for (name, disks) in [("disks", &self.disks), ("revertDisks", &self.revert_disks)] {
            if !disks.is_empty() {
                let mut list = Element::new(name);
                disks.iter().for_each(|disk| list.push(disk.element()));
                root.push(list);
            }
        }
        let domain = self.domain.as_ref();
        let domain = domain.map(|domain| storage_part::put_in(domain, &self.storage, self.creation_time));
        for part in [&domain, &self.inactive_domain, &self.cookie].into_iter().flatten() {
            root.push(part.clone());
        }
        root
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
        let parts = || self.driver.iter().chain(&self.source).chain(&self.others);
        if parts().next().is_none() && !self.delete_in_progress {
            return element;
        }
        element.set("type", self.source_type.name());
        parts().for_each(|part| element.push(part.clone()));
        if self.delete_in_progress {
            element.push(Element::new("snapshotDeleteInProgress"));
        }
        element
    }
}
