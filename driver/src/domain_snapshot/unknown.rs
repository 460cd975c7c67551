//! What a definition says that is not understood here: it is kept, and written back as it came.
//!
//! Parts are known by their names as they stand.

use std::collections::BTreeMap;

use crate::xml::{Element, Node};

/// What stands in one element and is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rest {
    /// Its attributes, in order; prefixes are declared by such.
    pub attributes: Vec<(String, String)>,
    /// What it holds, in order.
    pub children: Vec<Node>,
}

/// What a whole definition says that is not understood, but for its disks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unknown {
    /// In its root.
    pub root: Rest,
    /// In the parts of the root that are understood, by their names: `memory`, `disks`.
    pub parts: BTreeMap<String, Rest>,
}

impl Rest {
    /// What is in an element besides these attributes and the parts that are `understood`.
    pub(super) fn of(element: &Element, attributes: &[&str], understood: impl Fn(&Node) -> bool) -> Self {
        let unknown = |(name, _): &&(String, String)| !attributes.contains(&name.as_str());
        let blank = |node: &Node| matches!(node, Node::Text(text) if text.trim().is_empty());
        let children = element.children.iter().filter(|node| !blank(node) && !understood(node));
        Self {
            attributes: element.attributes.iter().filter(unknown).cloned().collect(),
            children: children.cloned().collect(),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.children.is_empty()
    }

    /// The first element of that name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|element| element.name == name)
    }

    /// The elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            _ => None,
        })
    }

    /// Takes the elements of that name out.
    pub fn remove(&mut self, name: &str) {
        self.children.retain(|node| !matches!(node, Node::Element(element) if element.name == name));
    }

    /// Puts an element in, last.
    pub fn push(&mut self, element: Element) {
        self.children.push(Node::Element(element));
    }

    /// Puts it behind what is understood.
    pub(super) fn add_to(&self, element: &mut Element) {
        element.attributes.extend(self.attributes.iter().cloned());
        element.children.extend(self.children.iter().cloned());
    }
}

impl Unknown {
    /// What is in the root, and in its parts; a wish for a new snapshot says nothing of the past.
    pub(super) fn of(root: &Element, recorded: bool) -> Self {
        let mut parts = BTreeMap::new();
        for part in root.elements().filter(|part| recorded || !PAST.contains(&part.name.as_str())) {
            let rest = match part.name.as_str() {
                "name" | "description" | "state" | "creationTime" => {
                    Rest::of(part, &[], |node| matches!(node, Node::Text(_)))
                }
                "parent" => Rest::of(part, &[], |node| is(node, |name| name == "name")),
                "memory" => Rest::of(part, &["snapshot", "file"], |_| false),
                "disks" | "revertDisks" => Rest::of(part, &[], |node| is(node, is_disk)),
                _ => continue,
            };
            if !rest.is_empty() {
                parts.entry(part.name.clone()).or_insert(rest);
            }
        }
        Self { root: Rest::of(root, &[], |node| is(node, |name| PARTS.contains(&name))), parts }
    }
}

/// The parts of a definition that are understood.
pub(super) const PARTS: [&str; 12] = [
    "name",
    "description",
    "state",
    "parent",
    "creationTime",
    "memory",
    "disks",
    "revertDisks",
    "domain",
    "inactiveDomain",
    "cookie",
    "active",
];

/// Those of them that tell of the past.
const PAST: [&str; 4] = ["state", "parent", "creationTime", "revertDisks"];

fn is(node: &Node, known: impl Fn(&str) -> bool) -> bool {
    matches!(node, Node::Element(element) if known(&element.name))
}

/// libvirt takes whatever stands among the disks for one; what somebody else has put there bears a prefix.
pub(super) fn is_disk(name: &str) -> bool {
    !name.contains(':')
}
