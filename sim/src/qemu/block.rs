//! The block graph: named nodes, what each stands on, and the devices on top.
//!
//! ```text
//! vda-device (virtio-blk) -> overlay (qcow2) -backing-> vda (qcow2) -backing-> ...
//!                               | file                    | file
//!                            overlay-file (file)       vda-file (file)
//! ```
//! A format node stands on one protocol node (`file`), which opens a file of the simulated host. Here is the graph
//! itself and who uses whom; each command on it has a module:
//!
//! - `node` and `device`: what the graph is made of
//! - `backing`: what backs what, and since when
//! - `content`: the images of nodes, and what they hold
//! - `active`: `blockdev-set-active`
//! - `add` and `open`: `blockdev-add` and `blockdev-del`, and how a node is opened
//! - `blkdebug` and `failure`: a filter that lets requests fail, and what that does to a job
//! - `create`: `blockdev-create`
//! - `snapshot`: `blockdev-snapshot` and `blockdev-snapshot-sync`
//! - `medium`: trays, and media that come and go
//! - `internal_snapshot`: `blockdev-snapshot-internal-sync` and `blockdev-snapshot-delete-internal-sync`
//! - `commit` and `stream`: `block-commit` and `block-stream`, jobs that shorten a chain
//! - `reopen`: `blockdev-reopen`
//! - `resize`: `block_resize`
//! - `permissions` and `link_age`: who may use a node beside whom, and which of two is named
//! - `export`: the NBD server, `block-export-add` and its kin
//! - `bitmap` and `bitmap_sync`: `block-dirty-bitmap-*`, and how a backup uses a bitmap
//! - `stored_bitmap`: bitmaps that outlive their nodes
//! - `mirror` and `backup`: `blockdev-mirror` and `blockdev-backup`, jobs that copy a disk
//! - `drive_mirror` and `drive_backup`: the same, to an image that the command itself makes or opens
//! - `image`: how such an image is made and opened
//! - `transaction`: several of the two above, all or none
//! - `query` and `filename`: `query-block` and `query-named-block-nodes`
//! - `statistics`: `query-blockstats`
//!
//! - `filter` and `throttle`: other filters, the null drivers, and throttle groups
//! - `job_filter` and `job_use`: the filters of block jobs, and how jobs use their nodes
//!
//! Not here: protocols other than `file`.

use std::collections::BTreeSet;

use super::{Context, QmpError, arguments::Arguments, job::Jobs};
use crate::{
    Machine, Release,
    machine::{DiskModel, Errno, Format, Injected},
};

pub(crate) mod active;
pub(crate) mod add;
mod backing;
pub(crate) mod backup;
pub(crate) mod bitmap;
pub(crate) mod bitmap_sync;
pub mod blkdebug;
pub(crate) mod change_backing_file;
pub(crate) mod commit;
mod content;
pub(crate) mod create;
mod device;
pub(crate) mod drive_backup;
pub(crate) mod drive_mirror;
pub(crate) mod export;
pub(crate) mod failure;
pub(crate) mod filename;
pub mod filter;
mod image;
pub(crate) mod internal_snapshot;
pub(crate) mod job_bitmap;
pub mod job_filter;
mod job_use;
mod link_age;
pub(crate) mod medium;
pub(crate) mod mirror;
mod node;
pub(crate) mod open;
pub(crate) mod permissions;
pub(crate) mod query;
pub(crate) mod reopen;
pub(crate) mod resize;
pub(crate) mod snapshot;
pub(crate) mod statistics;
pub(crate) mod stored_bitmap;
pub(crate) mod stream;
pub(crate) mod throttle;
pub(crate) mod transaction;
mod unflushed;

pub use device::{Device, Model};
pub(crate) use image::OTHER_FORMATS;
pub use node::{Caching, DetectZeroes, Driver, Node};

use bitmap::Bitmap;
use export::Exports;
use throttle::Group;

/// The smallest piece of a disk, in bytes.
const SECTOR: u64 = 512;

/// Nodes and devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// Oldest first.
    nodes: Vec<Node>,
    /// In the order of the command line.
    devices: Vec<Device>,
    exports: Exports,
    /// Oldest first.
    bitmaps: Vec<Bitmap>,
    /// Of nodes that are closed, or read-only from now on.
    closed: Vec<stored_bitmap::Closed>,
    groups: Vec<Group>,
    /// Oldest first.
    backed: Vec<backing::Backed>,
    /// Nodes whose images are another machine's: nothing may be written to them. So they are once a migration is over, and
    /// before one has come.
    inactive: BTreeSet<String>,
    /// One has yet to come: whatever is opened meanwhile is not this machine's.
    waits: bool,
    /// Nodes that jobs hold which have ended.
    kept: Vec<String>,
    /// Nodes that were reopened with a backing node, or none, said.
    told_backing: Vec<String>,
    /// Nodes that were reopened onto another one, and that one: this link is younger than they are. The youngest last.
    relinked: Vec<(String, String)>,
    /// Oldest first.
    job_uses: Vec<job_use::JobUse>,
    /// Nodes that have not noticed a resize of what is below them, and what they take for their size, in bytes.
    unnoticed: Vec<(String, u64)>,
    /// What was copied and would be lost with the process.
    unflushed: unflushed::Unflushed,
    /// How many names QEMU has made up.
    names_made_up: u64,
    /// A reference to a node was never given back.
    leaks: bool,
}

impl Graph {
    /// The graph that QEMU makes of a machine's command line.
    pub(crate) fn of(machine: &Machine) -> Self {
        let mut graph = Graph::default();
        for disk in &machine.disks {
            let add = |graph: &mut Graph, name: &str, driver, read_only| {
                let owned_by_monitor = !name.is_empty();
                let name = if owned_by_monitor { name.into() } else { graph.make_up_name() };
                let caching = Caching::default();
                graph.insert(Node { name: name.clone(), driver, read_only, owned_by_monitor, caching });
                name
            };
            let protocol = Driver::File { filename: disk.path.to_string(), locking: true, length: None };
            let mut file = add(&mut graph, &disk.file_node, protocol, disk.file_is_read_only());
            if let Some(Injected { node, rules }) = &disk.injected {
                let rules = blkdebug::Blkdebug::of_command_line(rules);
                let blkdebug = Driver::Blkdebug { image: file, rules };
                file = add(&mut graph, node, blkdebug, disk.readonly);
            }
            let format = match disk.format {
                Format::Qcow2 => Driver::Qcow2 { file, backing: disk.backing.clone() },
                Format::Raw => Driver::Raw { file },
            };
            let node = add(&mut graph, &disk.target, format, disk.readonly);
            let (id, on_write_error) = (disk.device.clone(), disk.on_write_error);
            let model = match disk.model {
                DiskModel::VirtioBlk => Model::VirtioBlk { unseen: false },
                DiskModel::ScsiHd => Model::ScsiHd,
                DiskModel::Flash => Model::Flash,
            };
            let drive = disk.drive.clone();
            let node = disk.root.clone().unwrap_or(node);
            let read_only = disk.readonly;
            graph.devices.push(Device { drive, read_only, on_write_error, ..Device::new(id, node, model) });
        }
        for drive in &machine.cd_drives {
            let model = Model::Cd { tray_open: false };
            graph.devices.push(Device::new(drive.id.clone(), String::new(), model));
        }
        graph
    }

    /// Opens what the command line has beside disks, and puts all nodes into its order.
    pub(crate) fn open_others(&mut self, machine: &Machine, cx: &mut Context<'_>) {
        for options in &machine.nodes {
            // What cannot be opened would have kept QEMU from starting.
            let _ = add::blockdev_add(self, Arguments(options), cx);
        }
        let rank = |node: &Node| machine.node_order.iter().position(|name| *name == node.name);
        if self.nodes.iter().all(|node| rank(node).is_some()) {
            self.nodes.sort_by_key(rank);
        }
    }

    /// All nodes, newest first, as QEMU lists them.
    pub fn newest_first(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().rev()
    }

    /// All nodes, oldest first.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// All devices in the order of the command line.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// What is exported.
    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// What is exported, to be changed.
    pub(crate) fn exports_mut(&mut self) -> &mut Exports {
        &mut self.exports
    }

    /// Adds a device behind the others.
    pub(crate) fn plug(&mut self, device: Device) {
        self.devices.push(device);
    }

    /// Takes a device away; its node stays.
    pub(crate) fn unplug(&mut self, id: &str) {
        self.devices.retain(|device| device.id != id);
    }

    /// The firmware looks for devices again.
    pub(crate) fn devices_were_reset(&mut self) {
        for device in &mut self.devices {
            if let Model::VirtioBlk { unseen } = &mut device.model {
                *unseen = false;
            }
        }
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// A node and what it is backed by, top first, with the filters of jobs.
    pub fn chain<'a>(&'a self, top: &'a str) -> impl Iterator<Item = &'a Node> {
        let below =
            |node: &'a Node| node.driver.job_filter().map(|(_, below)| below).or(node.driver.backing());
        std::iter::successors(self.node(top), move |node| self.node(below(node)?))
    }

    /// A node and what it is backed by, top first, down to a base of the same chain and with it.
    pub(crate) fn chain_down_to<'a>(&'a self, top: &'a str, base: &'a str) -> impl Iterator<Item = &'a Node> {
        let above = self.chain(top).take_while(move |node| node.name != base);
        above.chain(self.node(base))
    }

    /// The device on top of a node.
    pub fn device_on(&self, node: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.node == node)
    }

    /// The nodes that have this one for a child.
    pub fn parents<'a>(&'a self, child: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.driver.children().any(|each| each == child))
    }

    /// What a node stands on, down to the protocol node.
    pub(crate) fn nodes_below<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        let below = |node: &Node| self.node(node.driver.file()?);
        std::iter::successors(below(node), move |node| below(node))
    }

    /// The first node that a job of this `sync` mode does not copy.
    pub(crate) fn base_of_sync(&self, source: &Node, sync: &str) -> Result<Option<String>, QmpError> {
        match sync {
            "full" => Ok(None),
            "top" => Ok(source.driver.backing().map(str::to_owned)),
            "none" => Ok(Some(source.name.clone())),
            other => Err(QmpError::generic(format!("Sync mode '{other}' not supported"))),
        }
    }

    /// Whether a device, an export or a node uses a node.
    pub(crate) fn is_used(&self, name: &str) -> bool {
        self.device_on(name).is_some()
            || self.exports.on(name).next().is_some()
            || self.parents(name).next().is_some()
    }

    /// Whether there is a qcow2 node among those that a node stands on.
    pub(crate) fn stands_on_qcow2(&self, node: &Node) -> bool {
        self.nodes_below(node).any(|below| matches!(below.driver, Driver::Qcow2 { .. }))
    }

    /// Whether memory for a node's data has to be aligned: where some go past the host's page
    /// cache, or nowhere.
    pub(crate) fn needs_aligned_memory(&self, node: &Node) -> bool {
        match node.driver {
            Driver::Null(_) => true,
            Driver::File { .. } => node.caching.direct,
            _ => {
                let mut below = node.driver.children().filter_map(|child| self.node(child));
                below.any(|below| self.needs_aligned_memory(below))
            }
        }
    }

    /// Whether a node's data are nowhere.
    pub(crate) fn ends_in_null(&self, node: &Node) -> bool {
        let is_null = |node: &Node| matches!(node.driver, Driver::Null(_));
        is_null(node) || self.nodes_below(node).any(is_null)
    }

    /// Looks a node up the way commands do that take a device or a node. The simulated devices have no name of the
    /// old kind, so it is always a node.
    pub(crate) fn lookup(&self, name: &str, release: Release) -> Result<&Node, QmpError> {
        self.node(name).ok_or_else(|| release.cannot_find(name))
    }

    /// Refuses what may only be done to a root: a node that nothing but a device stands on, and that no job uses.
    pub(crate) fn check_root(&self, name: &str, jobs: &Jobs) -> Result<(), QmpError> {
        if self.parents(name).next().is_some() || jobs.holds(name) {
            return Err(QmpError::generic("Need a root block node"));
        }
        Ok(())
    }

    /// Takes over a new node.
    pub(crate) fn insert(&mut self, mut node: Node) {
        node.caching.whole_clusters = self.stands_on_qcow2(&node);
        if self.waits {
            self.open_inactive(&node.name);
        }
        self.nodes.push(node);
    }

    /// Lets a node be another one of the same name.
    pub(crate) fn replace(&mut self, mut by: Node) {
        by.caching.whole_clusters = self.stands_on_qcow2(&by);
        self.notice_size(&by.name);
        self.note_bitmaps(&by.name, !by.read_only);
        for node in self.nodes.iter_mut().filter(|node| node.name == by.name) {
            *node = by.clone();
        }
    }

    /// Whether one node is another, or stands on it.
    pub(crate) fn stands_on(&self, node: &str, on: &str) -> bool {
        node == on
            || self.node(node).is_some_and(|node| {
                let children = [node.driver.file(), node.driver.backing()];
                children.into_iter().flatten().any(|child| self.stands_on(child, on))
            })
    }

    /// Removes a node that nothing uses, and those below it that only it had use for.
    pub(crate) fn remove(&mut self, name: &str) {
        let Some(at) = self.nodes.iter().position(|node| node.name == name) else { return };
        self.note_bitmaps(name, false);
        let removed = self.nodes.remove(at);
        self.forget_bitmaps(name);
        self.notice_size(name);
        self.told_backing.retain(|told| told != name);
        self.relinked.retain(|(above, _)| above != name);
        self.inactive.remove(name);
        for child in removed.driver.children() {
            self.release(child);
        }
    }

    /// A user has let go of a node: unless a client added it, it goes with its last one.
    pub(crate) fn release(&mut self, name: &str) {
        let kept = self.kept.iter().any(|kept| kept == name);
        if !kept && !self.is_used(name) && self.node(name).is_some_and(|node| !node.owned_by_monitor) {
            self.remove(name);
        }
    }

    /// A job that has ended holds these nodes until it is dismissed.
    pub(crate) fn keep_nodes(&mut self, names: &[String]) {
        self.kept.extend_from_slice(names);
    }

    /// That job was dismissed.
    pub(crate) fn let_go_of_nodes(&mut self, names: &[String]) {
        self.kept.retain(|kept| !names.contains(kept));
        names.iter().for_each(|name| self.release(name));
    }

    /// The guest's request to a device has failed.
    pub(crate) fn set_io_status(&mut self, device: &str, errno: Errno) {
        for device in self.devices.iter_mut().filter(|known| known.id == device) {
            device.io_status = errno.io_status();
        }
    }

    /// Nobody is told of earlier I/O errors any more.
    pub(crate) fn reset_io_status(&mut self) {
        self.devices.iter_mut().for_each(|device| device.io_status = "ok");
    }

    /// A reference to a node is not given back: QEMU cannot end well any more.
    pub(crate) fn leak(&mut self) {
        self.leaks = true;
    }

    /// Whether a reference to a node was never given back.
    pub(crate) fn leaks(&self) -> bool {
        self.leaks
    }

    /// The rules of `blkdebug` right below a format node.
    pub(crate) fn injected_below(&mut self, name: &str) -> Option<&mut blkdebug::Blkdebug> {
        let below = self.below_job_filters(name)?.driver.file()?.to_owned();
        let below = self.nodes.iter_mut().find(|node| node.name == below)?;
        match &mut below.driver {
            Driver::Blkdebug { rules, .. } => Some(rules),
            _ => None,
        }
    }

    /// A name for a node that was given none: a number counted up and two digits at random, which are none here.
    pub(crate) fn make_up_name(&mut self) -> String {
        let number = self.names_made_up;
        self.names_made_up += 1;
        format!("#block{number}{:02}", (number * 37 + 11) % 100)
    }

    /// Is again as it was; names that were made up meanwhile are used up.
    pub(crate) fn go_back_to(&mut self, before: Graph) {
        *self = Graph { names_made_up: self.names_made_up, ..before };
    }

    /// QEMU makes up a name for each node that it opens only to write a header.
    pub(crate) fn skip_names(&mut self, count: u64) {
        self.names_made_up += count;
    }

    /// Puts `overlay` on top of `node`: what used the node uses the overlay. The node is still to be made read-only.
    pub(crate) fn append(&mut self, node_name: &str, overlay_name: &str) {
        for device in self.devices.iter_mut().filter(|device| device.node == node_name) {
            device.node = overlay_name.into();
        }
        self.exports.move_up(node_name, overlay_name);
        for node in self.nodes.iter_mut().filter(|node| node.name != overlay_name) {
            node.driver.replace_child(node_name, overlay_name);
        }
        self.follow_below(overlay_name, node_name);
        self.set_backing(overlay_name, Some(node_name));
    }

    /// Lets `target`, which can be written from then on, take the place of `source` under its device, and under what the job
    /// has left behind.
    pub(crate) fn pivot(&mut self, source: &str, target: &str) {
        for node in &mut self.nodes {
            if node.driver.job_filter().is_some_and(|(filter, _)| filter.left_behind) {
                node.driver.replace_child(source, target);
            }
        }
        for device in self.devices.iter_mut().filter(|device| device.node == source) {
            device.node = target.into();
        }
        self.set_read_only(target, false);
        self.release(source);
    }

    /// Gives a qcow2 node another backing node, or none.
    pub(crate) fn set_backing(&mut self, name: &str, below: Option<&str>) {
        let mut before = None;
        for node in self.nodes.iter_mut().filter(|node| node.name == name) {
            if let Driver::Qcow2 { backing, .. } = &mut node.driver {
                before = std::mem::replace(backing, below.map(str::to_owned));
            }
        }
        if let Some(before) = before {
            self.release(&before);
        }
    }

    /// Reopens a node, for reading only or not, and with it the protocol node that was opened for it alone.
    pub(crate) fn set_read_only(&mut self, name: &str, read_only: bool) {
        self.note_bitmaps(name, !read_only);
        self.notice_size(name);
        if read_only {
            self.flush(name);
        }
        let file = self.node(name).and_then(|node| self.node(node.driver.file()?));
        let opened_for_it = |file: &&Node| {
            !file.owned_by_monitor && matches!(file.driver, Driver::File { .. } | Driver::Blkdebug { .. })
        };
        let own = file.filter(opened_for_it).map(|file| file.name.clone());
        let is_meant = |node: &Node| node.name == name || Some(&node.name) == own.as_ref();
        for node in self.nodes.iter_mut().filter(|node| is_meant(node)) {
            node.read_only = read_only;
        }
    }
}
