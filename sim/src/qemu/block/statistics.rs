//! `query-blockstats`: what devices and nodes have read and written.
//!
//! Nobody counts here: reads and writes are those of an idle guest, none, but for the first sector of the first disk,
//! which the firmware reads when it looks for a system to start. Which members there are, and where, is as recorded.

use std::time::Duration;

use super::{Device, Driver, Graph, Node};
use crate::{
    Release,
    qobject::{QDict, QObject, key, qdict},
};

/// What the firmware reads of the first disk, in bytes.
const BOOT_SECTOR: u64 = 512;

/// How to answer `query-blockstats`.
pub(crate) struct Statistics<'a> {
    /// The graph to show.
    pub(crate) graph: &'a Graph,
    /// In whose shape.
    pub(crate) release: Release,
    /// QEMU's own time.
    pub(crate) now: Duration,
    /// When the firmware looked at the first disk, if it has.
    pub(crate) booted: Option<Duration>,
    /// The disk that it looked at: the one in the first slot.
    pub(crate) first: Option<&'a str>,
    /// The device that told the guest of a failed write, if any.
    pub(crate) failed_write: Option<&'a str>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    reads: u64,
    failed_writes: u64,
    /// Whether failed and invalid requests are counted at all.
    what_fails: bool,
}

impl Statistics<'_> {
    /// The reply for devices, each with all that it stands on.
    pub(crate) fn devices(&self) -> QObject {
        let was_read = |device: &Device| self.booted.is_some() && self.first == Some(device.id.as_str());
        self.graph.devices().iter().map(|device| self.device(device, was_read(device)).into()).collect()
    }

    /// The reply with `query-nodes`: every node with the one below it, oldest first.
    pub(crate) fn nodes(&self) -> QObject {
        self.graph.oldest_first().map(|node| self.node(node, false).into()).collect()
    }

    fn device(&self, device: &Device, was_read: bool) -> QDict {
        let mut counts = self.counts(Counted {
            reads: u64::from(was_read),
            failed_writes: u64::from(self.failed_write == Some(device.id.as_str())),
            what_fails: self.release.devices_account_what_fails() || !device.drive.is_empty(),
        });
        if let Some(booted) = self.booted.filter(|_| was_read) {
            let idle = self.now.saturating_sub(booted).as_nanos();
            counts.put(key!("idle_time_ns"), u64::try_from(idle).unwrap_or(u64::MAX));
        }
        let mut info = qdict! { "device": device.drive.clone(), "stats": counts };
        if let Some(node) = self.graph.shown(&device.node) {
            self.add_node(node, true, &mut info);
        }
        info.put(key!("qdev"), device.qdev());
        info
    }

    /// QAPI's `BlockStats` of a node; below a device with its backing chain, otherwise with its storage alone.
    fn node(&self, node: &Node, with_backing: bool) -> QDict {
        let mut info = qdict! { "stats": self.counts(Counted::default()) };
        self.add_node(node, with_backing, &mut info);
        info
    }

    fn add_node(&self, node: &Node, with_backing: bool, info: &mut QDict) {
        info.put(key!("node-name"), node.name.clone());
        let child = |name: Option<&str>| name.and_then(|name| self.graph.node(name));
        if let Some(file) = child(node.driver.file()) {
            info.put(key!("parent"), self.node(file, with_backing));
        }
        if let Some(backing) = child(node.driver.filtered_or_backing()).filter(|_| with_backing) {
            info.put(key!("backing"), self.node(backing, true));
        }
        if matches!(node.driver, Driver::File { .. }) {
            let counts = qdict! {
                "driver": node.driver.name(), "discard-nb-ok": 0, "discard-nb-failed": 0, "discard-bytes-ok": 0,
            };
            info.put(key!("driver-specific"), counts);
        }
    }

    /// QAPI's `BlockDeviceStats`.
    fn counts(&self, counted: Counted) -> QDict {
        let Counted { reads, failed_writes, what_fails } = counted;
        let mut counts = qdict! {
            "rd_bytes": reads * BOOT_SECTOR, "wr_bytes": 0, "unmap_bytes": 0,
            "rd_operations": reads, "wr_operations": 0, "flush_operations": 0, "unmap_operations": 0,
            "rd_total_time_ns": 0, "wr_total_time_ns": 0, "flush_total_time_ns": 0, "unmap_total_time_ns": 0,
            "wr_highest_offset": 0,
            "rd_merged": 0, "wr_merged": 0, "unmap_merged": 0,
            "failed_rd_operations": 0, "failed_wr_operations": failed_writes,
            "failed_flush_operations": 0, "failed_unmap_operations": 0,
            "invalid_rd_operations": 0, "invalid_wr_operations": 0,
            "invalid_flush_operations": 0, "invalid_unmap_operations": 0,
            "account_invalid": what_fails, "account_failed": what_fails,
            "timed_stats": QObject::List(Vec::new()),
        };
        if self.release.accounts_have_zone_append() {
            counts.put(key!("zone_append_bytes"), 0);
            counts.put(key!("zone_append_operations"), 0);
            counts.put(key!("zone_append_total_time_ns"), 0);
            counts.put(key!("zone_append_merged"), 0);
            counts.put(key!("failed_zone_append_operations"), 0);
            counts.put(key!("invalid_zone_append_operations"), 0);
        }
        counts
    }
}
