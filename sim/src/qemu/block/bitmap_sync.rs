//! How a backup uses a dirty bitmap: which parts it copies, and what the bitmap says afterwards.
//!
//! ```text
//! sync incremental, bitmap: what is dirty is copied;  full, top: what `sync` says
//! bitmap-mode  on-success, always: clean but for what was written meanwhile;  never: as if there had been no backup
//! ```
//! A backup that fails leaves the bitmap as `never` does; that `always` keeps what was copied by then is not simulated.
//! While the backup works nothing else may use the bitmap. Source of the order of checks: probes of the four releases.

use super::{Graph, bitmap::in_use};
use crate::{
    host::{Blocks, Host},
    qemu::{QmpError, arguments::Arguments},
};

/// A bitmap that a backup uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BitmapSync {
    node: String,
    name: String,
    /// Only what is dirty is copied.
    pub(crate) copies_dirty: bool,
    /// What was copied is clean afterwards.
    cleans: bool,
    /// What the node held when the backup began.
    held: Blocks,
}

impl BitmapSync {
    /// The bitmap that a backup is to use, if any.
    ///
    /// # Errors
    /// QEMU's, for members that do not go together, and a bitmap that is not there or in use.
    pub(crate) fn of(
        graph: &Graph,
        node: &str,
        arguments: Arguments<'_>,
        host: &Host,
    ) -> Result<Option<Self>, QmpError> {
        let refuse = |text: String| Err(QmpError::generic(text));
        let (sync, mut mode) = (arguments.text("sync"), arguments.optional_text("bitmap-mode"));
        let name = arguments.optional_text("bitmap");
        let copies_dirty = matches!(sync, "incremental" | "bitmap");
        if copies_dirty && name.is_none() {
            return refuse(format!("must provide a valid bitmap name for '{sync}' sync mode"));
        }
        if sync == "incremental" {
            if mode.is_some_and(|mode| mode != "on-success") {
                let text = "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'";
                return refuse(text.into());
            }
            mode = Some("on-success");
        }
        let Some(name) = name else {
            return match mode {
                Some(_) => refuse("Cannot specify bitmap sync mode without a bitmap".into()),
                None => Ok(None),
            };
        };
        let Some(bitmap) = graph.bitmap(node, name) else {
            return refuse(format!("Bitmap '{name}' could not be found"));
        };
        let Some(mode) = mode else {
            return refuse("Bitmap sync mode must be given when providing a bitmap".into());
        };
        if graph.is_busy(bitmap) {
            return Err(in_use(name));
        }
        if !copies_dirty && mode == "never" {
            return refuse(format!(
                "Bitmap sync mode '{mode}' has no meaningful effect when combined with sync mode '{sync}'"
            ));
        }
        if sync == "none" {
            return refuse("sync mode 'none' does not produce meaningful bitmap outputs".into());
        }
        let (node, name) = (node.to_owned(), name.to_owned());
        let held = graph.held_by(&node, host);
        Ok(Some(Self { node, name, copies_dirty, cleans: mode != "never", held }))
    }

    /// Leaves of a disk's content what is dirty.
    pub(crate) fn keep_dirty(&self, graph: &Graph, content: &mut Blocks) {
        let dirty = graph.dirty_blocks(&self.node, &self.name, &self.held);
        content.retain(|block, _| dirty.contains(block));
    }

    /// How many blocks are dirty.
    pub(crate) fn dirty_blocks(&self, graph: &Graph) -> usize {
        graph.dirty_blocks(&self.node, &self.name, &self.held).len()
    }

    /// The backup begins.
    pub(crate) fn begin(&self, graph: &mut Graph) {
        graph.begin_with_bitmap(&self.node, &self.name, &self.held);
    }

    /// The backup has ended, well or not.
    pub(crate) fn end(self, graph: &mut Graph, well: bool) {
        graph.end_with_bitmap(&self.node, &self.name, well && self.cleans);
    }
}
