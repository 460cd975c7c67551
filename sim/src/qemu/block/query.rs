//! `query-block` and `query-named-block-nodes`: the graph as QEMU shows it.
//!
//! Throttling, encryption and caching are not simulated: their members are those of a node that was
//! given none. The order of members is the wire's business.

use std::time::Duration;

use super::{
    Device, Driver, Graph, Node,
    filename::{backing_in_header, combined, filename},
    internal_snapshot::snapshot_info,
};
use crate::{
    Release,
    host::{Host, Image, InternalSnapshot, Qcow2, StoredBitmap},
    machine::OnError,
    qemu::job::Jobs,
    qobject::{QDict, QObject, key, qdict},
};

/// What a query shows, and how.
pub(crate) struct Query<'a> {
    /// The graph to show.
    pub(crate) graph: &'a Graph,
    /// The jobs on it.
    pub(crate) jobs: &'a Jobs,
    /// When it is asked for.
    pub(crate) now: Duration,
    /// The images in it.
    pub(crate) host: &'a Host,
    /// In whose shape.
    pub(crate) release: Release,
    /// Leaves out what is below each node.
    pub(crate) flat: bool,
}

impl Query<'_> {
    /// The reply to `query-block`. `started` tells whether the guest has started its disks.
    pub(crate) fn devices(&self, started: bool) -> QObject {
        let device = |device: &Device| {
            let tray_open = device.model.tray_open();
            let qdev = device.qdev();
            let mut info = qdict! {
                "device": device.drive.clone(),
                "type": "unknown",
                "locked": false,
                "removable": tray_open.is_some(),
            };
            if let Some(open) = tray_open {
                info.put(key!("tray_open"), open);
            }
            let is_asked = matches!(device.on_write_error, OnError::Enospc | OnError::Stop);
            if is_asked && device.model != super::device::Model::Flash {
                info.put(key!("io-status"), device.io_status);
            }
            let shown = self.graph.shown(&device.node);
            if let (true, Some(bitmaps)) =
                (self.release.bitmaps_have_status(), shown.and_then(|node| self.bitmaps(node)))
            {
                info.put(key!("dirty-bitmaps"), bitmaps);
            }
            if let Some(node) = shown {
                info.put(key!("inserted"), self.node(node, Some(&qdev), device.write_cache(started)));
            }
            info.put(key!("qdev"), qdev);
            info.into()
        };
        self.graph.devices().iter().map(device).collect()
    }

    /// The reply to `query-named-block-nodes`.
    pub(crate) fn nodes(&self) -> QObject {
        self.graph.newest_first().map(|node| self.node(node, None, true).into()).collect()
    }

    /// QAPI's `BlockDeviceInfo`.
    fn node(&self, node: &Node, device: Option<&str>, writeback: bool) -> QDict {
        let depth = match &node.driver {
            _ if self.flat => 0,
            _ => std::iter::successors(Some(node), |node| self.below(node, device.is_some())).count() - 1,
        };
        let mut info = qdict! {
            "node-name": node.name.clone(),
            "drv": node.driver.name(),
            "file": filename(self.graph, node, self.host),
            "image": self.image(node, device.is_some()),
            "ro": node.read_only,
            "backing_file_depth": depth as u64,
            "cache": qdict! {
                "writeback": writeback,
                "direct": node.caching.direct,
                "no-flush": node.caching.no_flush,
            },
            "detect_zeroes": node.caching.detect_zeroes.name(),
            "encrypted": false,
        };
        self.graph.show_limits(device, &mut info);
        if let Some(backing) = self.backing_file(node) {
            info.put(key!("backing_file"), backing);
        }
        // In the bucket of `backing_file`, in front of which it is written.
        info.put(key!("write_threshold"), 0);
        if let Some(bitmaps) = self.bitmaps(node) {
            info.put(key!("dirty-bitmaps"), bitmaps);
        }
        if self.release.nodes_have_encryption_key_missing() {
            info.put(key!("encryption_key_missing"), false);
        }
        if self.release.nodes_have_active() {
            info.put(key!("active"), self.graph.is_active(&node.name));
        }
        if self.release.nodes_have_children_and_limits() {
            info.put(key!("children"), children(node));
        }
        info
    }

    fn bitmaps(&self, node: &Node) -> Option<QObject> {
        let left = |filter: &str| self.jobs.left_to_copy(filter, self.now);
        self.graph.bitmaps_shown(&node.name, self.host, self.release, left)
    }

    /// QAPI's `ImageInfo`.
    pub(crate) fn image(&self, node: &Node, of_device: bool) -> QDict {
        let image = self.graph.image(node, self.host);
        let qcow2 = image.and_then(Image::as_qcow2).filter(|_| matches!(node.driver, Driver::Qcow2 { .. }));
        let mut info = qdict! {
            "filename": filename(self.graph, node, self.host),
            "format": node.driver.name(),
            "virtual-size": self.graph.size_of(node, self.host),
        };
        if !self.graph.ends_in_null(node) {
            info.put(key!("dirty-flag"), false);
        }
        if self.has_actual_size(node) {
            info.put(key!("actual-size"), image.map_or(0, Image::on_disk));
        }
        match &node.driver {
            Driver::File { .. } if self.release.files_have_format_specific() => {
                info.put(key!("format-specific"), qdict! { "type": "file", "data": qdict! {} });
            }
            Driver::Filter { .. } | Driver::Raw { .. } if self.graph.stands_on_qcow2(node) => {
                info.put(key!("cluster-size"), Qcow2::CLUSTER);
            }
            Driver::Qcow2 { .. } => {
                let is_stored = node.read_only || self.graph.has_stored_bitmaps(&node.name);
                info.put(key!("cluster-size"), Qcow2::CLUSTER);
                info.put(key!("format-specific"), qcow2_specific(qcow2, is_stored));
            }
            _ => {}
        }
        let snapshots = self.snapshots(node);
        if !snapshots.is_empty() {
            let snapshots: QObject = snapshots.iter().map(|known| snapshot_info(known).into()).collect();
            info.put(key!("snapshots"), snapshots);
        }
        if self.release.nodes_have_children_and_limits() {
            info.put(key!("limits"), self.limits(node));
        }
        self.add_backing(node, of_device, &mut info);
        info
    }

    /// The internal snapshots that a node shows: those of its own image, or of that of the one node below it.
    pub(crate) fn snapshots(&self, node: &Node) -> &[InternalSnapshot] {
        let has_target = node.driver.job_filter().is_some_and(|(filter, _)| filter.target.is_some());
        match &node.driver {
            Driver::Qcow2 { .. } => {
                let image = self.graph.image(node, self.host).and_then(Image::as_qcow2);
                image.map_or(&[], |image| &image.snapshots)
            }
            Driver::Filter { file, .. } | Driver::Raw { file } if !has_target => {
                self.graph.node(file).map_or(&[], |below| self.snapshots(below))
            }
            _ => &[],
        }
    }

    /// QAPI's `BlockLimitsInfo`. A filter, and raw, take over how discards are aligned, no more.
    fn limits(&self, node: &Node) -> QDict {
        let has_none = node.driver.job_filter().is_some_and(|(filter, _)| filter.driver.has_no_limits());
        let takes_over = matches!(node.driver, Driver::Filter { .. } | Driver::Raw { .. }) && !has_none;
        let is_direct_file = node.caching.direct && matches!(node.driver, Driver::File { .. });
        let mut limits = qdict! {
            "request-alignment": if is_direct_file { 512 } else { 1 },
            "min-mem-alignment": if has_none || self.graph.needs_aligned_memory(node) { 512 } else { 1 },
            "opt-mem-alignment": 4096,
            "max-iov": 1024,
        };
        let is_qcow2 = matches!(node.driver, Driver::Qcow2 { .. });
        if is_qcow2 {
            limits.put(key!("write-zeroes-alignment"), Qcow2::CLUSTER);
        }
        if is_qcow2 || takes_over && node.caching.whole_clusters {
            limits.put(key!("discard-alignment"), Qcow2::CLUSTER);
        }
        limits
    }

    /// `blkdebug` does not know it, nor does what stands on it.
    fn has_actual_size(&self, node: &Node) -> bool {
        let below = node.driver.file().and_then(|file| self.graph.node(file));
        [Some(node), below].into_iter().flatten().all(|node| !matches!(node.driver, Driver::Blkdebug { .. }))
    }

    fn add_backing(&self, node: &Node, of_device: bool, info: &mut QDict) {
        if matches!(node.driver, Driver::Qcow2 { .. })
            && let Some(stated) = backing_in_header(self.graph, node, self.host)
        {
            info.put(key!("backing-filename"), stated.file.clone());
            info.put(key!("full-backing-filename"), combined(self.graph, node, &stated.file));
            if let Some(format) = &stated.format {
                info.put(key!("backing-filename-format"), format.clone());
            }
        }
        if !self.flat
            && let Some(backing) = self.below(node, of_device)
        {
            info.put(key!("backing-image"), self.image(backing, of_device));
        }
    }

    /// The node whose content a node shows where it has none of its own; below a device no implicit filter.
    pub(crate) fn below(&self, node: &Node, of_device: bool) -> Option<&Node> {
        let below = node.driver.filtered_or_backing()?;
        if of_device { self.graph.shown(below) } else { self.graph.node(below) }
    }

    fn backing_file(&self, node: &Node) -> Option<String> {
        let backing = node.driver.backing().and_then(|backing| self.graph.node(backing))?;
        Some(filename(self.graph, backing, self.host))
    }
}

/// QAPI's `ImageInfoSpecificQCow2`.
pub(crate) fn qcow2_specific(image: Option<&Qcow2>, read_only: bool) -> QDict {
    let mut data = qdict! {
        "compat": "1.1",
        "compression-type": "zlib",
        "lazy-refcounts": false,
        "refcount-bits": 16,
        "corrupt": false,
        "extended-l2": false,
    };
    let bitmaps = image.map_or(&[][..], |image| &image.bitmaps);
    if !bitmaps.is_empty() {
        let stored = |bitmap| QObject::from(stored_bitmap(bitmap, read_only));
        data.put(key!("bitmaps"), bitmaps.iter().map(stored).collect::<QObject>());
    }
    qdict! { "type": "qcow2", "data": data }
}

/// QAPI's `Qcow2BitmapInfo`. While its node can be written it is the node's bitmap that counts.
fn stored_bitmap(bitmap: &StoredBitmap, read_only: bool) -> QDict {
    let flags = [(!read_only, "in-use"), (bitmap.recording, "auto")];
    let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| QObject::from(name));
    qdict! {
        "flags": flags.collect::<QObject>(),
        "name": bitmap.name.clone(),
        "granularity": bitmap.granularity,
    }
}

fn children(node: &Node) -> QObject {
    let child = |child: &'static str, node: Option<&str>| {
        node.map(|node| QObject::from(qdict! { "child": child, "node-name": node.to_owned() }))
    };
    let target = node.driver.job_filter().and_then(|(filter, _)| filter.target.as_deref());
    let children = [
        child("target", target),
        child("backing", node.driver.backing()),
        child(node.driver.file_role(), node.driver.file()),
    ];
    children.into_iter().flatten().collect()
}
