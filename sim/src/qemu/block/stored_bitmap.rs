//! Persistent dirty bitmaps: kept in the image's header while its node is closed.
//!
//! ```text
//! opened:                       loaded, in the order of the header
//! closed, or made read-only:    stored; those that the header does not know yet behind the others, newest first
//! ```
//! A bitmap of a node that is read-only can be looked at, enabled and disabled, no more; what was changed then is not
//! stored. Nodes are closed deep within a command: what is to be stored is noted, and written when it ends.
//!
//! Not here: the mark in the header that a bitmap is in use, by which QEMU finds after a crash that it cannot be trusted.
//! Source: probes of the four releases.

use camino::Utf8Path;

use super::{Driver, Graph, bitmap::Bitmap, job_bitmap::Owner};
use crate::host::{Blocks, Host, Image, Qcow2, StoredBitmap};

/// Bitmaps that are to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    file: String,
    /// Oldest first.
    bitmaps: Vec<Bitmap>,
}

impl Graph {
    /// Takes up the bitmaps of a node's image.
    pub(crate) fn load_bitmaps(&mut self, name: &str, host: &Host) {
        let Some(node) = self.node(name).filter(|node| matches!(node.driver, Driver::Qcow2 { .. })) else {
            return;
        };
        let read_only = node.read_only;
        let image = self.image(node, host).and_then(Image::as_qcow2);
        let Some(image) = image.filter(|image| !image.bitmaps.is_empty()) else { return };
        let loaded = image.bitmaps.iter().map(|stored| Bitmap {
            node: name.to_owned(),
            name: stored.name.clone(),
            owner: Owner::Client,
            granularity: stored.granularity,
            persistent: true,
            read_only,
            dirty: stored.dirty.clone(),
            recording_since: stored.recording.then(|| image.blocks.clone()),
            busy: false,
            to_remove: false,
        });
        self.bitmaps.extend(loaded.collect::<Vec<_>>());
    }

    /// Takes up the bitmaps of all images.
    pub(crate) fn load_all_bitmaps(&mut self, host: &Host) {
        let names: Vec<_> = self.nodes.iter().map(|node| node.name.clone()).collect();
        names.iter().for_each(|name| self.load_bitmaps(name, host));
    }

    /// A node is to be closed, or to be read-only or writable from now on.
    pub(super) fn note_bitmaps(&mut self, name: &str, will_be_writable: bool) {
        let is_its = |bitmap: &&Bitmap| bitmap.node == name && bitmap.persistent;
        if !self.bitmaps.iter().any(|bitmap| is_its(&bitmap)) {
            return;
        }
        let Some(node) = self.node(name) else { return };
        if !node.read_only
            && !will_be_writable
            && let Some(file) = self.file_of(node)
        {
            let bitmaps = self.bitmaps.iter().filter(is_its).cloned().collect();
            let closed = Closed { file: file.to_owned(), bitmaps };
            self.closed.push(closed);
        }
        let its = self.bitmaps.iter_mut().filter(|bitmap| bitmap.node == name && bitmap.persistent);
        its.for_each(|bitmap| bitmap.read_only = !will_be_writable);
    }

    /// Writes what was noted since this was last called.
    pub(crate) fn store_closed_bitmaps(&mut self, host: &mut Host) {
        for Closed { file, bitmaps } in std::mem::take(&mut self.closed) {
            let image = host.image_mut(Utf8Path::new(&file)).and_then(Image::as_qcow2_mut);
            if let Some(image) = image {
                store(image, &bitmaps);
            }
        }
    }

    /// QEMU ends: all nodes are closed.
    pub(crate) fn store_all_bitmaps(&mut self, host: &mut Host) {
        let names: Vec<_> = self.bitmaps.iter().map(|bitmap| bitmap.node.clone()).collect();
        names.iter().for_each(|name| self.note_bitmaps(name, false));
        self.store_closed_bitmaps(host);
    }
}

fn store(image: &mut Qcow2, bitmaps: &[Bitmap]) {
    let stored = |bitmap: &Bitmap, held: &Blocks| StoredBitmap {
        name: bitmap.name.clone(),
        granularity: bitmap.granularity,
        recording: bitmap.recording_since.is_some(),
        dirty: bitmap.granules(held),
    };
    let old = &image.bitmaps;
    let kept = old.iter().filter_map(|old| bitmaps.iter().find(|bitmap| bitmap.name == old.name));
    let new = bitmaps.iter().rev().filter(|bitmap| !old.iter().any(|old| old.name == bitmap.name));
    let all = kept.chain(new).map(|bitmap| stored(bitmap, &image.blocks)).collect();
    image.store_bitmaps(all);
}
