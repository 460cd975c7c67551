//! The images of nodes on the simulated host, and what they hold.

use std::collections::BTreeSet;

use camino::Utf8Path;

use super::{Driver, Graph, Node, SECTOR};
use crate::{
    Release,
    host::{Blocks, Host, Image, Qcow2},
    qemu::job::Copied,
};

impl Graph {
    /// The name of the file that a node's own data is in, as it was given.
    pub fn file_of<'a>(&'a self, node: &'a Node) -> Option<&'a str> {
        match &node.driver {
            Driver::File { filename, .. } => Some(filename),
            Driver::Null(_) => None,
            // An image inside others, which were put on its file, is in the last of them.
            Driver::Qcow2 { file, .. } => self.file_of(self.chain(file).last()?),
            other => self.file_of(self.node(other.file()?)?),
        }
    }

    /// The image that a node reads and writes.
    pub fn image<'h>(&self, node: &Node, host: &'h Host) -> Option<&'h Image> {
        host.image(Utf8Path::new(self.file_of(node)?))
    }

    /// The image of a node of that name, to be changed.
    pub(crate) fn image_mut<'h>(&self, name: &str, host: &'h mut Host) -> Option<&'h mut Image> {
        host.image_mut(Utf8Path::new(self.file_of(self.node(name)?)?))
    }

    /// What the layers from `top` down to above `base` hold together; down to the end without one.
    pub(crate) fn content(&self, top: &str, base: Option<&str>, host: &Host) -> Blocks {
        let mut content = Blocks::new();
        for layer in self.chain(top).take_while(|node| Some(&*node.name) != base) {
            for (block, write) in self.image(layer, host).into_iter().flat_map(Image::blocks) {
                content.entry(*block).or_insert(*write);
            }
        }
        content
    }

    /// How many bytes the layers from `top` down to above `base` have allocated together, as [`Graph::content`] takes them.
    /// To QEMU a file has all of its bytes allocated, holes too, and so is what lies beyond the end of a layer that is
    /// shorter than the top.
    pub(crate) fn allocated(&self, top: &str, base: Option<&str>, host: &Host) -> u64 {
        let layers = || self.chain(top).take_while(|node| Some(&*node.name) != base);
        let size = self.size(top, host);
        if layers().any(|layer| self.is_all_allocated(layer)) {
            return size;
        }
        let shortest =
            layers().map(|layer| self.size_of(layer, host)).min().filter(|shortest| *shortest < size);
        let end = shortest.map_or(u64::MAX, |shortest| shortest / Qcow2::CLUSTER);
        let beyond = size.div_ceil(Qcow2::CLUSTER).saturating_sub(end);
        let content = self.content(top, base, host);
        (content.keys().filter(|block| **block < end).count() as u64 + beyond) * Qcow2::CLUSTER
    }

    fn is_all_allocated(&self, node: &Node) -> bool {
        match &node.driver {
            Driver::File { .. } => true,
            Driver::Qcow2 { .. } | Driver::Null(_) => false,
            other => other
                .file()
                .and_then(|below| self.node(below))
                .is_some_and(|below| self.is_all_allocated(below)),
        }
    }

    /// Writes to a node what a job has copied so far. The tables of a qcow2 image are written later: of a process that is
    /// killed only what lies where the image had data before is found.
    pub(crate) fn write_part(&self, name: &str, content: Blocks, copied: Copied, host: &mut Host) {
        let data_alone = copied.len == content.len() as u64 * Qcow2::CLUSTER;
        let had =
            copied.killed.then(|| self.qcow2_mut(name, host).map(|image| image.blocks.clone())).flatten();
        let part = content.into_iter().enumerate().filter(|(index, (block, _))| {
            let place = if data_alone { *index as u64 } else { *block };
            let reached = copied.whole || place * Qcow2::CLUSTER < copied.offset;
            reached && had.as_ref().is_none_or(|had| had.contains_key(block))
        });
        self.write(name, part.map(|(_, block)| block).collect(), host);
    }

    /// Writes blocks to a node.
    pub(crate) fn write(&self, name: &str, content: Blocks, host: &mut Host) {
        if let Some(image) = self.image_mut(name, host) {
            content.into_iter().for_each(|(block, write)| image.write(block, write));
        }
    }

    /// What a guest would see as the size of a node, in bytes.
    pub(crate) fn size(&self, name: &str, host: &Host) -> u64 {
        self.node(name).map_or(0, |node| self.size_of(node, host))
    }

    /// What a guest would see as the size of a node, in bytes: whole sectors.
    pub(crate) fn size_of(&self, node: &Node, host: &Host) -> u64 {
        let image = self.image(node, host);
        match &node.driver {
            Driver::Null(null) => null.size(),
            Driver::File { length, .. } => {
                length.unwrap_or_else(|| image.map_or(0, Image::file_length)).next_multiple_of(SECTOR)
            }
            Driver::Qcow2 { .. } => image.map_or(0, Image::virtual_size),
            other => {
                let unnoticed = self.unnoticed.iter().find(|(above, _)| *above == node.name);
                let below = || other.file().map_or(0, |below| self.size(below, host));
                unnoticed.map_or_else(below, |(_, size)| *size)
            }
        }
    }

    /// Lets each file node through which an image grows be as long as its file, and any other as long as it is now: what
    /// others do to the file from here on it does not notice.
    pub(crate) fn note_lengths(&mut self, release: Release, host: &Host) {
        if release.resizes_below_go_unnoticed() {
            self.beside_images().iter().for_each(|name| self.keep_size(name, host));
        }
        let carrying = self.carriers_of_images();
        let noted = |node: &Node| match node.driver {
            Driver::File { .. } if carrying.contains(&*node.name) => None,
            Driver::File { length, .. } => length.or_else(|| self.image(node, host).map(Image::file_length)),
            _ => None,
        };
        let lengths: Vec<_> = self.nodes.iter().map(noted).collect();
        for (node, noted) in self.nodes.iter_mut().zip(lengths) {
            if let Driver::File { length, .. } = &mut node.driver {
                *length = noted;
            }
        }
    }

    /// The nodes on which an image that may grow stands.
    fn carriers_of_images(&self) -> BTreeSet<&str> {
        let images = self.nodes.iter().filter(|node| matches!(node.driver, Driver::Qcow2 { .. }));
        let mut carriers: BTreeSet<_> = images.filter_map(|node| node.driver.file()).collect();
        let mut passing: Vec<_> = self.nodes.iter().filter(|node| node.driver.passes_on()).collect();
        while let Some(at) = passing.iter().position(|node| carriers.contains(&*node.name)) {
            carriers.extend(passing.swap_remove(at).driver.file());
        }
        carriers
    }

    /// The nodes that show the file of an image which may grow without them.
    fn beside_images(&self) -> Vec<String> {
        let carrying = self.carriers_of_images();
        let beside = self.nodes.iter().filter(|node| {
            let below = node.driver.file().filter(|_| node.driver.passes_on());
            below.is_some_and(|below| carrying.contains(below)) && !carrying.contains(&*node.name)
        });
        beside.map(|node| node.name.clone()).collect()
    }

    /// A node is to be resized by itself: those above it do not notice.
    pub(crate) fn keep_sizes_above(&mut self, name: &str, host: &Host) {
        let above = self.parents(name).filter(|above| above.driver.passes_on());
        let above: Vec<_> = above.map(|above| above.name.clone()).collect();
        above.iter().for_each(|name| self.keep_size(name, host));
    }

    /// A node and those above it do not notice what becomes of the size of what is below.
    fn keep_size(&mut self, name: &str, host: &Host) {
        self.keep_sizes_above(name, host);
        if !self.unnoticed.iter().any(|(known, _)| known == name) {
            let size = self.size(name, host);
            self.unnoticed.push((name.to_owned(), size));
        }
    }

    /// A node looks at its size again.
    pub(crate) fn notice_size(&mut self, name: &str) {
        self.unnoticed.retain(|(above, _)| above != name);
    }

    /// A node was made longer or shorter by itself: so is the file node below it.
    pub(crate) fn forget_length(&mut self, name: &str) {
        self.notice_size(name);
        let Some(node) = self.nodes.iter_mut().find(|node| node.name == name) else { return };
        if let Driver::File { length, .. } = &mut node.driver {
            *length = None;
        } else if let Some(below) = node.driver.file().map(str::to_owned) {
            self.forget_length(&below);
        }
    }

    /// The node that keeps internal snapshots for one of that name: what passes on what is done to it has none itself.
    pub(crate) fn keeper<'n>(&'n self, name: &'n str) -> &'n str {
        let below =
            self.node(name).filter(|node| node.driver.passes_on()).and_then(|node| node.driver.file());
        below.map_or(name, |below| self.keeper(below))
    }

    /// The qcow2 image that holds the internal snapshots of a node of that name; none if nothing does.
    pub(crate) fn keeper_mut<'h>(&self, name: &str, host: &'h mut Host) -> Option<&'h mut Qcow2> {
        self.qcow2_mut(self.keeper(name), host)
    }

    /// The qcow2 image of a node of that name; none for another format.
    pub(crate) fn qcow2_mut<'h>(&self, name: &str, host: &'h mut Host) -> Option<&'h mut Qcow2> {
        let node = self.node(name).filter(|node| matches!(node.driver, Driver::Qcow2 { .. }))?;
        host.image_mut(Utf8Path::new(self.file_of(node)?))?.as_qcow2_mut()
    }
}
