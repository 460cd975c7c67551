//! Dirty bitmaps: which parts of a node were written since a bitmap was made or last cleared.
//!
//! ```text
//! recording <-(enable / disable)-> resting
//! ```
//! Either may be cleared, merged into another, removed, or busy: used by an export or a backup. Nothing is counted when
//! something is written. A bitmap remembers what its node held when it began to record, and compares when it is asked.
//!
//! How a persistent bitmap outlives its node is told in `stored_bitmap`, which ones jobs keep for themselves in
//! `job_bitmap`. Source of the order of checks: probes of the four
//! releases.

use std::collections::BTreeSet;

use camino::Utf8Path;
use serde_json::Value;

use super::{
    Driver, Graph,
    job_bitmap::{Counts, Kept, Owner},
};
use crate::{
    Release,
    host::{Blocks, Host, Image, Qcow2},
    qemu::{Context, QmpError, arguments::Arguments, not_simulated},
    qobject::{QObject, key, qdict},
};

/// Bytes that one bit of a bitmap stands for, unless another number is asked for: a cluster.
pub(super) const GRANULARITY: u64 = Qcow2::CLUSTER;

/// The smallest number that may be asked for.
const SMALLEST_GRANULARITY: u64 = 512;

/// The longest name, in bytes.
const NAME_MAX: usize = 1023;

/// A dirty bitmap of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    pub(super) node: String,
    /// Empty for one that no client has made.
    pub(super) name: String,
    pub(super) owner: Owner,
    pub(super) granularity: u64,
    pub(super) persistent: bool,
    /// It is stored in an image that cannot be written.
    pub(super) read_only: bool,
    /// What is dirty for certain, by number of granule.
    pub(super) dirty: BTreeSet<u64>,
    /// What the node held when it began to record; none while it rests.
    pub(super) recording_since: Option<Blocks>,
    /// A backup works with it: it stays as it is.
    pub(super) busy: bool,
    /// It goes when the transaction succeeds.
    pub(super) to_remove: bool,
}

impl Bitmap {
    /// Whether it is the client's bitmap of that name.
    pub(super) fn is(&self, node: &str, name: &str) -> bool {
        self.node == node && self.name == name && self.owner == Owner::Client
    }

    /// The granules that are dirty, when the node holds this.
    pub(super) fn granules(&self, held: &Blocks) -> BTreeSet<u64> {
        let mut granules = self.dirty.clone();
        if let Some(before) = &self.recording_since {
            let written = held.iter().filter(|(block, write)| before.get(block) != Some(write));
            for (block, _) in written {
                let first = block * Qcow2::CLUSTER / self.granularity;
                let last = ((block + 1) * Qcow2::CLUSTER - 1) / self.granularity;
                granules.extend(first..=last);
            }
        }
        granules
    }

    /// Whether it is told what is written.
    fn records(&self) -> bool {
        match &self.owner {
            Owner::Job(kept) => kept.records,
            _ => self.recording_since.is_some(),
        }
    }
}

impl Graph {
    /// The bitmap of that name.
    pub(super) fn bitmap(&self, node: &str, name: &str) -> Option<&Bitmap> {
        self.bitmaps.iter().find(|bitmap| bitmap.is(node, name))
    }

    /// Looks up a bitmap, as most commands do.
    fn find_bitmap(&self, node: &str, name: &str) -> Result<usize, QmpError> {
        self.node(node).ok_or_else(|| QmpError::generic(format!("Node '{node}' not found")))?;
        let at = self.bitmaps.iter().position(|bitmap| bitmap.is(node, name));
        at.ok_or_else(|| QmpError::generic(format!("Dirty bitmap '{name}' not found")))
    }

    /// Looks up a bitmap that nothing else may be using.
    fn find_idle_bitmap(&self, node: &str, name: &str) -> Result<usize, QmpError> {
        let at = self.find_bitmap(node, name)?;
        if self.is_busy(&self.bitmaps[at]) { Err(in_use(name)) } else { Ok(at) }
    }

    /// Looks up a bitmap to be changed.
    fn find_writable_bitmap(&self, node: &str, name: &str) -> Result<usize, QmpError> {
        let at = self.find_idle_bitmap(node, name)?;
        if self.bitmaps[at].read_only {
            let text = format!("Bitmap '{name}' is readonly and cannot be modified");
            return Err(QmpError::generic(text));
        }
        Ok(at)
    }

    /// Whether something works with a bitmap.
    pub(super) fn is_busy(&self, bitmap: &Bitmap) -> bool {
        bitmap.busy || bitmap.to_remove || self.exports().shows(&bitmap.node, &bitmap.name)
    }

    /// Checks whether a bitmap may be shown with an export. Those of nodes below are not looked for.
    pub(crate) fn check_bitmap_to_export(
        &self,
        node: &str,
        name: &str,
        writable: bool,
    ) -> Result<(), QmpError> {
        let missing = || QmpError::generic(format!("Bitmap '{name}' is not found"));
        let bitmap = self.bitmap(node, name).ok_or_else(missing)?;
        if self.is_busy(bitmap) {
            return Err(in_use(name));
        }
        if bitmap.recording_since.is_some() && !writable {
            let text = format!("Enabled bitmap '{name}' incompatible with readonly export");
            return Err(QmpError::generic(text));
        }
        Ok(())
    }

    /// QAPI's list of `BlockDirtyInfo` of a node, newest first; none if it has no bitmap. `left` tells how many bytes
    /// the job of a filter has still to copy.
    pub(crate) fn bitmaps_shown(
        &self,
        node: &str,
        host: &Host,
        release: Release,
        left: impl Fn(&str) -> u64,
    ) -> Option<QObject> {
        let mut shown = self.bitmaps.iter().rev().filter(|bitmap| bitmap.node == node).peekable();
        shown.peek()?;
        let held = self.held_by(node, host);
        let count = |bitmap: &Bitmap| match &bitmap.owner {
            Owner::Job(Kept { counts: Counts::Left, filter, .. }) => left(filter),
            Owner::Job(Kept { counts: Counts::All, .. }) => self.size(node, host),
            _ if bitmap.busy => bitmap.dirty.len() as u64 * bitmap.granularity,
            _ => bitmap.granules(&held).len() as u64 * bitmap.granularity,
        };
        let info = |bitmap: &Bitmap| {
            let recording = bitmap.records();
            let busy = self.is_busy(bitmap);
            let mut info = qdict! {
                "count": count(bitmap),
                "granularity": bitmap.granularity,
                "recording": recording,
                "busy": busy,
                "persistent": bitmap.persistent,
            };
            if bitmap.owner == Owner::Client {
                info.put(key!("name"), bitmap.name.clone());
            }
            if release.bitmaps_have_status() {
                let status = match (bitmap.busy, busy, recording) {
                    (true, ..) => "frozen",
                    (_, true, _) => "locked",
                    (.., true) => "active",
                    (.., false) => "disabled",
                };
                info.put(key!("status"), status);
            }
            info.into()
        };
        Some(shown.map(info).collect())
    }

    /// What is dirty in a bitmap when its node holds this, as blocks of the simulated host.
    pub(crate) fn dirty_blocks(&self, node: &str, name: &str, held: &Blocks) -> BTreeSet<u64> {
        let Some(bitmap) = self.bitmap(node, name) else { return BTreeSet::new() };
        let blocks = |granule: u64| {
            let (from, to) = (granule * bitmap.granularity, (granule + 1) * bitmap.granularity - 1);
            from / Qcow2::CLUSTER..=to / Qcow2::CLUSTER
        };
        bitmap.granules(held).into_iter().flat_map(blocks).collect()
    }

    /// Says that a bitmap is to be removed: until then nothing else may use it, and its name is taken.
    ///
    /// # Errors
    /// There is none, or it is in use.
    pub(crate) fn mark_bitmap_to_remove(
        &mut self,
        node: &str,
        name: &str,
        release: Release,
    ) -> Result<(), QmpError> {
        let at = self.find_idle_bitmap(node, name)?;
        let read_only = self.node(node).is_some_and(|node| node.read_only);
        if self.bitmaps[at].persistent
            && read_only
            && let Some(refused) = release.no_write_access_to_remove(node, name)
        {
            return Err(refused);
        }
        if !release.read_only_bitmaps_can_be_removed() {
            self.find_writable_bitmap(node, name)?;
        }
        self.bitmaps[at].to_remove = true;
        Ok(())
    }

    /// Removes the bitmaps that are to be removed, and from the headers that know them.
    pub(crate) fn remove_marked_bitmaps(&mut self, host: &mut Host) {
        for bitmap in self.bitmaps.iter().filter(|bitmap| bitmap.to_remove) {
            if let Some(image) = self.qcow2_mut(&bitmap.node, host) {
                image.remove_bitmap(&bitmap.name);
            }
        }
        self.bitmaps.retain(|bitmap| !bitmap.to_remove);
    }

    /// Forgets what a node's bitmaps knew, for the node is gone.
    pub(crate) fn forget_bitmaps(&mut self, node: &str) {
        self.bitmaps.retain(|bitmap| bitmap.node != node);
    }

    /// Whether bitmaps of a node are as they are stored.
    pub(super) fn has_stored_bitmaps(&self, node: &str) -> bool {
        self.bitmaps.iter().any(|bitmap| bitmap.node == node && bitmap.read_only)
    }

    /// Whether a node has a bitmap, be it a job's, or what it passes its requests on to.
    pub(crate) fn has_bitmaps(&self, node: &str) -> bool {
        let below =
            self.node(node).filter(|node| node.driver.passes_on()).and_then(|node| node.driver.file());
        self.bitmaps.iter().any(|bitmap| bitmap.node == node)
            || below.is_some_and(|below| self.has_bitmaps(below))
    }

    /// What a node itself holds: a file, of an image that is in it all clusters, its tables too.
    pub(super) fn held_by(&self, node: &str, host: &Host) -> Blocks {
        let Some(node) = self.node(node) else { return Blocks::new() };
        match (&node.driver, self.image(node, host)) {
            (Driver::File { .. }, Some(Image::Qcow2(image))) => image.clusters(),
            (_, image) => image.map(|image| image.blocks().clone()).unwrap_or_default(),
        }
    }

    /// Writes an image through one node: bitmaps of other nodes of that file do not see it.
    pub(super) fn write_through(
        &mut self,
        node: &str,
        path: &Utf8Path,
        host: &mut Host,
        write: impl FnOnce(&mut Image),
    ) {
        let seeing: Vec<_> = std::iter::successors(Some(node), |name| {
            self.node(name).filter(|node| node.driver.passes_on()).and_then(|node| node.driver.file())
        })
        .map(str::to_owned)
        .collect();
        let is_of_file = |bitmap: &Bitmap| {
            let file = self.node(&bitmap.node).filter(|node| matches!(node.driver, Driver::File { .. }));
            let file = file.and_then(|node| self.file_of(node));
            file.is_some_and(|file| host.resolve(Utf8Path::new(file)) == host.resolve(path))
        };
        let blind = |bitmap: &Bitmap| bitmap.recording_since.is_some() && !seeing.contains(&bitmap.node);
        let others: Vec<_> = (0..self.bitmaps.len())
            .filter(|at| blind(&self.bitmaps[*at]) && is_of_file(&self.bitmaps[*at]))
            .collect();
        for &at in &others {
            self.bitmaps[at].dirty = self.bitmaps[at].granules(&self.held_by(&self.bitmaps[at].node, host));
        }
        if let Some(image) = host.image_mut(path) {
            write(image);
        }
        for at in others {
            self.bitmaps[at].recording_since = Some(self.held_by(&self.bitmaps[at].node, host));
        }
    }

    /// So many bytes of a node are written from its beginning on, and so of all that it passes its requests on to: where
    /// they are zeroes, as where they were, nothing else would show it.
    pub(super) fn dirty_from_the_beginning(&mut self, node: &str, bytes: u64) {
        for bitmap in self.bitmaps.iter_mut().filter(|bitmap| bitmap.node == node) {
            if bitmap.owner == Owner::Client && bitmap.recording_since.is_some() {
                bitmap.dirty.extend(0..bytes.div_ceil(bitmap.granularity));
            }
        }
        let below = self.node(node).filter(|node| node.driver.passes_on());
        if let Some(below) = below.and_then(|node| node.driver.file()).map(str::to_owned) {
            self.dirty_from_the_beginning(&below, bytes);
        }
    }
}

/// Carries out a `block-dirty-bitmap-*` command, alone or in a transaction.
pub(crate) fn command(
    graph: &mut Graph,
    command: &str,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<QObject, QmpError> {
    let (node, name) = (arguments.text("node"), arguments.text("name"));
    match command {
        "block-dirty-bitmap-add" => add(graph, node, name, arguments, cx)?,
        "block-dirty-bitmap-merge" => merge(graph, node, arguments, cx)?,
        "block-dirty-bitmap-remove" => {
            graph.mark_bitmap_to_remove(node, name, cx.release())?;
            graph.remove_marked_bitmaps(cx.host());
        }
        "block-dirty-bitmap-clear" => {
            let at = graph.find_writable_bitmap(node, name)?;
            let held = graph.held_by(node, cx.host());
            let bitmap = &mut graph.bitmaps[at];
            bitmap.dirty.clear();
            bitmap.recording_since = bitmap.recording_since.take().map(|_| held);
        }
        "block-dirty-bitmap-enable" => {
            let at = graph.find_idle_bitmap(node, name)?;
            let held = graph.held_by(node, cx.host());
            graph.bitmaps[at].recording_since.get_or_insert(held);
        }
        "block-dirty-bitmap-disable" => {
            let at = graph.find_idle_bitmap(node, name)?;
            let held = graph.held_by(node, cx.host());
            let bitmap = &mut graph.bitmaps[at];
            bitmap.dirty = bitmap.granules(&held);
            bitmap.recording_since = None;
        }
        other => return Err(not_simulated(&format!("command `{other}`"))),
    }
    Ok(QObject::empty())
}

fn add(
    graph: &mut Graph,
    node_name: &str,
    name: &str,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    if name.is_empty() {
        return Err(QmpError::generic("Bitmap name cannot be empty"));
    }
    let node = graph.lookup(node_name, cx.release())?;
    let granularity = arguments.0.get("granularity").and_then(Value::as_u64).unwrap_or(GRANULARITY);
    if granularity < SMALLEST_GRANULARITY || !granularity.is_power_of_two() {
        return Err(QmpError::generic("Granularity must be power of 2 and at least 512"));
    }
    let persistent = arguments.flag("persistent");
    if persistent
        && node.read_only
        && let Some(refused) = cx.release().no_write_access_to_add(node_name)
    {
        return Err(refused);
    }
    if persistent && !matches!(node.driver, Driver::Qcow2 { .. }) {
        let text = format!("Can't store persistent bitmaps to {node_name}: Operation not supported");
        return Err(QmpError::generic(text));
    }
    if graph.bitmap(&node.name, name).is_some() {
        return Err(QmpError::generic(format!("Bitmap already exists: {name}")));
    }
    if name.len() > NAME_MAX {
        return Err(match persistent {
            true => QmpError::generic(format!("Can't make bitmap '{name}' persistent in '{node_name}'")),
            false => QmpError::generic(format!("Bitmap name too long: {name}")),
        });
    }
    let held = graph.held_by(node_name, cx.host());
    graph.bitmaps.push(Bitmap {
        node: node_name.into(),
        name: name.into(),
        owner: Owner::Client,
        granularity,
        persistent,
        read_only: false,
        dirty: BTreeSet::new(),
        recording_since: (!arguments.flag("disabled")).then_some(held),
        busy: false,
        to_remove: false,
    });
    Ok(())
}

/// Adds what is dirty in other bitmaps; all of them are looked up before the first is added.
fn merge(
    graph: &mut Graph,
    node: &str,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> Result<(), QmpError> {
    let target = graph.find_writable_bitmap(node, arguments.text("target"))?;
    let sources = arguments.list("bitmaps");
    if sources.is_empty() {
        return Err(not_simulated("a merge of nothing, at which later releases crash"));
    }
    let granularity = graph.bitmaps[target].granularity;
    let size = graph.size(node, cx.host());
    let mut merged = BTreeSet::new();
    for source in sources {
        let other = source.get("node").and_then(Value::as_str).unwrap_or(node);
        let name = source.get("name").unwrap_or(source).as_str().unwrap_or_default();
        let source = &graph.bitmaps[graph.find_idle_bitmap(other, name)?];
        let other_size = graph.size(other, cx.host());
        if other_size != size {
            return Err(cx.release().bitmaps_of_different_sizes(size, other_size));
        }
        for granule in source.granules(&graph.held_by(other, cx.host())) {
            let (from, to) = (granule * source.granularity, (granule + 1) * source.granularity - 1);
            merged.extend(from / granularity..=to / granularity);
        }
    }
    graph.bitmaps[target].dirty.extend(merged);
    Ok(())
}

/// The refusal of a bitmap that something works with.
pub(super) fn in_use(name: &str) -> QmpError {
    let text = format!("Bitmap '{name}' is currently in use by another operation and cannot be used");
    QmpError::generic(text)
}
