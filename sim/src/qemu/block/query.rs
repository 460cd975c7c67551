//! `query-block` and `query-named-block-nodes`: the graph as QEMU shows it.
//!
//! Throttling, encryption, I/O errors and caching are not simulated: their members are those of a node that was
//! given none. Sizes on disk are plausible, not exact. The order of members is the wire's business.

use serde_json::{Value, json};

use super::{
    Driver, Graph, Node,
    filename::{backing_in_header, filename},
    internal_snapshot::snapshot_info,
};
use crate::{
    Release,
    host::{Host, Image, Qcow2},
};

/// What a query shows, and how.
pub(crate) struct Query<'a> {
    /// The graph to show.
    pub(crate) graph: &'a Graph,
    /// The images in it.
    pub(crate) host: &'a Host,
    /// In whose shape.
    pub(crate) release: Release,
    /// Leaves out what is below each node.
    pub(crate) flat: bool,
}

impl Query<'_> {
    /// The reply to `query-block`. `started` tells whether the guest's firmware has set up the devices: it turns
    /// their write cache off.
    pub(crate) fn devices(&self, started: bool) -> Value {
        let nodes = self.graph.devices().iter().map(|device| (device, self.graph.node(&device.node)));
        nodes
            .map(|(device, node)| {
                let mut info = json!({
                    "device": "",
                    "type": "unknown",
                    "locked": false,
                    "removable": false,
                    "io-status": "ok",
                    "qdev": format!("/machine/peripheral/{}/virtio-backend", device.id),
                });
                if let Some(node) = node {
                    info["inserted"] = self.node(node);
                    info["inserted"]["cache"]["writeback"] = (!started).into();
                }
                info
            })
            .collect()
    }

    /// The reply to `query-named-block-nodes`.
    pub(crate) fn nodes(&self) -> Value {
        self.graph.newest_first().map(|node| self.node(node)).collect()
    }

    /// QAPI's `BlockDeviceInfo`.
    fn node(&self, node: &Node) -> Value {
        let depth = if self.flat { 0 } else { self.graph.chain(&node.name).count() - 1 };
        let mut info = json!({
            "node-name": node.name,
            "drv": node.driver.name(),
            "file": filename(self.graph, node, self.host),
            "image": self.image(node),
            "ro": node.read_only,
            "backing_file_depth": depth,
            "cache": { "writeback": true, "direct": false, "no-flush": false },
            "detect_zeroes": "off",
            "encrypted": false,
            "write_threshold": 0,
            "bps": 0, "bps_rd": 0, "bps_wr": 0,
            "iops": 0, "iops_rd": 0, "iops_wr": 0,
        });
        if let Some(backing) = self.backing_file(node) {
            info["backing_file"] = backing.into();
        }
        if self.release.nodes_have_encryption_key_missing() {
            info["encryption_key_missing"] = false.into();
        }
        if self.release.nodes_have_active() {
            info["active"] = true.into();
        }
        if self.release.nodes_have_children_and_limits() {
            info["children"] = children(node);
        }
        info
    }

    /// QAPI's `ImageInfo`.
    fn image(&self, node: &Node) -> Value {
        let image = self.graph.image(node, self.host);
        let qcow2 = image.and_then(Image::as_qcow2).filter(|_| matches!(node.driver, Driver::Qcow2 { .. }));
        let length = image.map_or(0, Image::file_length).next_multiple_of(512);
        let mut info = json!({
            "filename": filename(self.graph, node, self.host),
            "format": node.driver.name(),
            "virtual-size": qcow2.map_or(length, |qcow2| qcow2.size),
            "actual-size": image.map_or(0, actual_size),
            "dirty-flag": false,
        });
        match &node.driver {
            Driver::File { .. } if self.release.files_have_format_specific() => {
                info["format-specific"] = json!({ "type": "file", "data": {} });
            }
            Driver::File { .. } | Driver::Raw { .. } => {}
            Driver::Qcow2 { .. } => {
                info["cluster-size"] = Qcow2::CLUSTER.into();
                info["format-specific"] = qcow2_specific();
            }
        }
        let snapshots: Vec<Value> =
            qcow2.iter().flat_map(|qcow2| &qcow2.snapshots).map(snapshot_info).collect();
        if !snapshots.is_empty() {
            info["snapshots"] = snapshots.into();
        }
        if self.release.nodes_have_children_and_limits() {
            info["limits"] = limits(&node.driver);
        }
        self.add_backing(node, &mut info);
        info
    }

    fn add_backing(&self, node: &Node, info: &mut Value) {
        if matches!(node.driver, Driver::Qcow2 { .. })
            && let Some(stated) = backing_in_header(self.graph, node, self.host)
        {
            info["backing-filename"] = stated.file.clone().into();
            let folder =
                self.graph.file_of(node).and_then(|file| file.rsplit_once('/')).map(|(folder, _)| folder);
            info["full-backing-filename"] = match folder {
                Some(folder) if !stated.file.starts_with('/') => format!("{folder}/{}", stated.file),
                _ => stated.file.clone(),
            }
            .into();
            if let Some(format) = &stated.format {
                info["backing-filename-format"] = format.clone().into();
            }
        }
        if !self.flat
            && let Some(backing) = node.driver.backing().and_then(|backing| self.graph.node(backing))
        {
            info["backing-image"] = self.image(backing);
        }
    }

    fn backing_file(&self, node: &Node) -> Option<String> {
        let backing = node.driver.backing().and_then(|backing| self.graph.node(backing))?;
        Some(filename(self.graph, backing, self.host))
    }
}

fn actual_size(image: &Image) -> u64 {
    match image {
        Image::Raw { blocks, .. } => blocks.len() as u64 * 4096,
        Image::Qcow2(qcow2) => {
            let states: u64 =
                qcow2.snapshots.iter().map(|s| 8192 + s.vm_state_size.next_multiple_of(4096)).sum();
            200_704 + states + qcow2.blocks.len() as u64 * Qcow2::CLUSTER
        }
    }
}

fn qcow2_specific() -> Value {
    json!({
        "type": "qcow2",
        "data": {
            "compat": "1.1",
            "compression-type": "zlib",
            "lazy-refcounts": false,
            "refcount-bits": 16,
            "corrupt": false,
            "extended-l2": false,
        },
    })
}

fn limits(driver: &Driver) -> Value {
    let mut limits = json!({
        "request-alignment": 1,
        "min-mem-alignment": 1,
        "opt-mem-alignment": 4096,
        "max-iov": 1024,
    });
    if matches!(driver, Driver::Qcow2 { .. }) {
        limits["write-zeroes-alignment"] = Qcow2::CLUSTER.into();
        limits["discard-alignment"] = Qcow2::CLUSTER.into();
    }
    limits
}

fn children(node: &Node) -> Value {
    let child =
        |child: &str, node: Option<&str>| node.map(|node| json!({ "child": child, "node-name": node }));
    [child("backing", node.driver.backing()), child("file", node.driver.file())]
        .into_iter()
        .flatten()
        .collect()
}
