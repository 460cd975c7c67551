//! What a stream or a commit has copied and QEMU has not written yet: its data is in the image's file, and where it is in the image is in QEMU's
//! memory alone. A process that is killed then has lost it, and a header names the base that does not hold it.
//!
//! It is written with the next flush of the node: on request, when the guest is stopped, when the node may only be read again, and when
//! QEMU ends in order. What a guest flushes by itself is not simulated.
//!
//! Source: images of real QEMUs after SIGKILL, behind a stream and a commit, with a flush and without.

use std::collections::BTreeMap;

use super::Graph;
use crate::host::{Blocks, Host};

/// By node: the blocks that its image has not got for good.
pub(super) type Unflushed = BTreeMap<String, Blocks>;

impl Graph {
    /// Writes to a node what is found there only once the node is flushed.
    pub(super) fn write_unflushed(&mut self, name: &str, content: Blocks, host: &mut Host) {
        let had = self.qcow2_mut(name, host).map(|image| image.blocks.clone()).unwrap_or_default();
        let new = content.iter().filter(|(block, _)| !had.contains_key(block));
        self.unflushed.entry(name.to_owned()).or_default().extend(new.map(|(block, write)| (*block, *write)));
        self.write(name, content, host);
    }

    /// A node is flushed.
    pub(crate) fn flush(&mut self, name: &str) {
        self.unflushed.remove(name);
    }

    /// All nodes are flushed.
    pub(crate) fn flush_all(&mut self) {
        self.unflushed.clear();
    }

    /// The process was killed.
    pub(crate) fn lose_unflushed(&mut self, host: &mut Host) {
        for (name, lost) in std::mem::take(&mut self.unflushed) {
            if let Some(image) = self.qcow2_mut(&name, host) {
                image.blocks.retain(|block, write| lost.get(block) != Some(write));
            }
        }
    }
}
