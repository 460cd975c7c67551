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
//! - `add` and `open`: `blockdev-add` and `blockdev-del`, and how a node is opened
//! - `blkdebug` and `failure`: a filter that lets requests fail, and what that does to a job
//! - `create`: `blockdev-create`
//! - `snapshot`: `blockdev-snapshot` and `blockdev-snapshot-sync`
//! - `medium`: trays, and media that come and go
//! - `internal_snapshot`: `blockdev-snapshot-internal-sync` and `blockdev-snapshot-delete-internal-sync`
//! - `commit` and `stream`: `block-commit` and `block-stream`, jobs that shorten a chain
//! - `reopen`: `blockdev-reopen`
//! - `resize`: `block_resize`
//! - `permissions`: who may use a node beside whom
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
//! - `job_filter`: the filters of block jobs
//!
//! Not here: protocols other than `file`.

use std::time::Duration;

use camino::Utf8Path;

use super::{Context, QmpError, arguments::Arguments, job::block::Options};
use crate::{
    Machine, Release,
    host::{Blocks, Host, Image, Qcow2},
    machine::{Errno, Format, Injected, OnError},
};

pub(crate) mod add;
pub(crate) mod backup;
pub(crate) mod bitmap;
pub(crate) mod bitmap_sync;
pub mod blkdebug;
pub(crate) mod commit;
pub(crate) mod create;
pub(crate) mod drive_backup;
pub(crate) mod drive_mirror;
pub(crate) mod export;
pub(crate) mod failure;
pub(crate) mod filename;
pub mod filter;
mod image;
pub(crate) mod internal_snapshot;
pub mod job_filter;
pub(crate) mod medium;
pub(crate) mod mirror;
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

use bitmap::Bitmap;
use export::Exports;
use filter::{Filter, Null};
use throttle::Group;

/// The smallest piece of a disk, in bytes.
const SECTOR: u64 = 512;

/// A node of the block graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its `node-name`.
    pub name: String,
    /// What it does with its children.
    pub driver: Driver,
    /// Whether it was opened, or reopened, for reading only.
    pub read_only: bool,
    /// Whether a client added it by its own name. Any other goes when nothing uses it any more.
    pub owned_by_monitor: bool,
    /// How it treats what passes through it.
    pub caching: Caching,
}

/// How a node treats what passes through it. Nothing is cached here: queries show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caching {
    /// It goes past the host's page cache.
    pub direct: bool,
    /// It ignores that data are to be flushed.
    pub no_flush: bool,
    /// What becomes of zeroes that are written.
    pub detect_zeroes: DetectZeroes,
}

/// What becomes of zeroes that are written, by QAPI's `BlockdevDetectZeroesOptions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DetectZeroes {
    /// They are written.
    #[default]
    Off,
    /// The node is told that they are zeroes.
    On,
    /// They are given back to the host.
    Unmap,
}

impl DetectZeroes {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            DetectZeroes::Off => "off",
            DetectZeroes::On => "on",
            DetectZeroes::Unmap => "unmap",
        }
    }
}

/// The block drivers that are simulated, with their children by node name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// Protocol: a file of the host.
    File {
        /// As it was given.
        filename: String,
        /// Whether it keeps others from opening the file.
        locking: bool,
    },
    /// Filter: lets requests to what is below it fail.
    Blkdebug {
        /// The protocol node.
        image: String,
        /// When they fail.
        rules: blkdebug::Blkdebug,
    },
    /// Filter: passes requests on.
    Filter {
        /// What it does with them.
        filter: Filter,
        /// The node below it.
        file: String,
    },
    /// Protocol: holds nothing.
    Null(Null),
    /// Format: the file as it is.
    Raw {
        /// The protocol node.
        file: String,
    },
    /// Format: a qcow2 image.
    Qcow2 {
        /// The protocol node.
        file: String,
        /// The node that holds what this one does not; none if there is none, or if the header's was suppressed.
        backing: Option<String>,
    },
}

impl Driver {
    /// Whether it passes on what its users do as they do it.
    pub(crate) fn passes_on(&self) -> bool {
        matches!(self, Driver::Raw { .. } | Driver::Blkdebug { .. } | Driver::Filter { .. })
    }

    /// The child whose content a node shows where it has none of its own: that of a filter, or `backing`.
    pub(crate) fn filtered_or_backing(&self) -> Option<&str> {
        match self {
            Driver::Blkdebug { image: file, .. } | Driver::Filter { file, .. } => Some(file),
            other => other.backing(),
        }
    }

    /// Stands on another node where it stood on this one.
    fn replace_child(&mut self, child: &str, by: &str) {
        let (file, backing) = match self {
            Driver::File { .. } | Driver::Null(_) => (None, None),
            Driver::Raw { file } | Driver::Blkdebug { image: file, .. } | Driver::Filter { file, .. } => {
                (Some(file), None)
            }
            Driver::Qcow2 { file, backing } => (Some(file), backing.as_mut()),
        };
        for name in file.into_iter().chain(backing).filter(|name| *name == child) {
            *name = by.into();
        }
    }

    /// The driver's name.
    pub fn name(&self) -> &'static str {
        match self {
            Driver::File { .. } => "file",
            Driver::Blkdebug { .. } => "blkdebug",
            Driver::Filter { filter, .. } => filter.driver(),
            Driver::Null(null) => null.driver(),
            Driver::Raw { .. } => "raw",
            Driver::Qcow2 { .. } => "qcow2",
        }
    }

    /// The child that its own data is in: `file`, or `image` of `blkdebug`.
    pub fn file(&self) -> Option<&str> {
        match self {
            Driver::File { .. } | Driver::Null(_) => None,
            Driver::Blkdebug { image, .. } => Some(image),
            Driver::Filter { file, .. } | Driver::Raw { file } | Driver::Qcow2 { file, .. } => Some(file),
        }
    }

    /// What the child is to it that its own data is in.
    pub(crate) fn file_role(&self) -> &'static str {
        match self {
            Driver::Blkdebug { .. } => "image",
            other => other.job_filter().map_or("file", |(filter, _)| filter.driver.role()),
        }
    }

    /// All children.
    pub fn children(&self) -> impl Iterator<Item = &str> {
        self.file().into_iter().chain(self.backing())
    }

    /// The `backing` child.
    pub fn backing(&self) -> Option<&str> {
        match self {
            Driver::Qcow2 { backing, .. } => backing.as_deref(),
            _ => None,
        }
    }
}

/// A device that the guest sees a disk in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its qdev id.
    pub id: String,
    /// The node that it reads and writes: the top of its chain. Empty for a drive without medium.
    pub node: String,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// What is done when a write of the guest fails.
    pub on_write_error: OnError,
    /// QAPI's `BlockDeviceIoStatus`.
    pub io_status: &'static str,
    /// What it is.
    pub model: Model,
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// virtio-blk: always holds its disk.
    VirtioBlk {
        /// It came after the firmware had looked for devices.
        unseen: bool,
    },
    /// A drive for media that come and go.
    Cd {
        /// Whether the tray is open.
        tray_open: bool,
    },
}

impl Model {
    /// Whether the tray is open; nothing for a device without.
    pub fn tray_open(self) -> Option<bool> {
        match self {
            Model::Cd { tray_open } => Some(tray_open),
            Model::VirtioBlk { .. } => None,
        }
    }
}

impl Device {
    /// A device as QEMU makes it when nothing is said of errors.
    pub(crate) fn new(id: String, node: String, model: Model) -> Self {
        Self { id, node, read_only: false, on_write_error: OnError::Enospc, io_status: "ok", model }
    }

    /// How queries name it.
    pub fn qdev(&self) -> String {
        match self.model {
            Model::VirtioBlk { .. } => format!("/machine/peripheral/{}/virtio-backend", self.id),
            Model::Cd { .. } => self.id.clone(),
        }
    }

    /// Whether it caches writes: the guest's firmware turns that off on the disks that it sets up.
    pub fn write_cache(&self, set_up: bool) -> bool {
        match self.model {
            Model::VirtioBlk { unseen } => unseen || !set_up,
            Model::Cd { .. } => true,
        }
    }
}

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
    /// Another machine owns the images: nothing may be written to them. So it is once a migration is over, and before
    /// one has come.
    inactive: bool,
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
            let read_only = disk.readonly;
            let add = |graph: &mut Graph, name: &str, driver| {
                let owned_by_monitor = !name.is_empty();
                let name = if owned_by_monitor { name.into() } else { graph.make_up_name() };
                let caching = Caching::default();
                graph.insert(Node { name: name.clone(), driver, read_only, owned_by_monitor, caching });
                name
            };
            let protocol = Driver::File { filename: disk.path.to_string(), locking: true };
            let mut file = add(&mut graph, &disk.file_node, protocol);
            if let Some(Injected { node, rules }) = &disk.injected {
                let rules = blkdebug::Blkdebug::of_command_line(rules);
                file = add(&mut graph, node, Driver::Blkdebug { image: file, rules });
            }
            let format = match disk.format {
                Format::Qcow2 => Driver::Qcow2 { file, backing: None },
                Format::Raw => Driver::Raw { file },
            };
            let node = add(&mut graph, &disk.target, format);
            let (id, on_write_error) = (disk.device.clone(), disk.on_write_error);
            let model = Model::VirtioBlk { unseen: false };
            graph.devices.push(Device { read_only, on_write_error, ..Device::new(id, node, model) });
        }
        for drive in &machine.cd_drives {
            let model = Model::Cd { tray_open: false };
            graph.devices.push(Device::new(drive.id.clone(), String::new(), model));
        }
        graph
    }

    /// Whether this machine owns its images.
    pub fn is_active(&self) -> bool {
        !self.inactive
    }

    /// Gives the images away to another machine, or takes them back.
    pub(crate) fn set_active(&mut self, active: bool) {
        self.inactive = !active;
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

    /// The device of that id, to be changed.
    pub(crate) fn device_mut(&mut self, id: &str) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.id == id)
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

    /// The name of the file that a node's own data is in, as it was given.
    pub fn file_of<'a>(&'a self, node: &'a Node) -> Option<&'a str> {
        match &node.driver {
            Driver::File { filename, .. } => Some(filename),
            Driver::Null(_) => None,
            other => self.file_of(self.node(other.file()?)?),
        }
    }

    /// What a node stands on, down to the protocol node.
    pub(crate) fn nodes_below<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        let below = |node: &Node| self.node(node.driver.file()?);
        std::iter::successors(below(node), move |node| below(node))
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

    /// Writes blocks to a node.
    pub(crate) fn write(&self, name: &str, content: Blocks, host: &mut Host) {
        if let Some(image) = self.image_mut(name, host) {
            content.into_iter().for_each(|(block, write)| image.write(block, write));
        }
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

    /// What a guest would see as the size of a node, in bytes.
    pub(crate) fn size(&self, name: &str, host: &Host) -> u64 {
        self.node(name).map_or(0, |node| self.size_of(node, host))
    }

    /// What a guest would see as the size of a node, in bytes: whole sectors.
    pub(crate) fn size_of(&self, node: &Node, host: &Host) -> u64 {
        let image = self.image(node, host);
        match &node.driver {
            Driver::Null(null) => null.size(),
            Driver::File { .. } => image.map_or(0, Image::file_length).next_multiple_of(SECTOR),
            Driver::Qcow2 { .. } => image.map_or(0, Image::virtual_size),
            other => other.file().map_or(0, |below| self.size(below, host)),
        }
    }

    /// The qcow2 image of a node of that name; none for another format.
    pub(crate) fn qcow2_mut<'h>(&self, name: &str, host: &'h mut Host) -> Option<&'h mut Qcow2> {
        let node = self.node(name).filter(|node| matches!(node.driver, Driver::Qcow2 { .. }))?;
        host.image_mut(Utf8Path::new(self.file_of(node)?))?.as_qcow2_mut()
    }

    /// Looks a node up the way commands do that take a device or a node. The simulated devices have no name of the
    /// old kind, so it is always a node.
    pub(crate) fn lookup(&self, name: &str, release: Release) -> Result<&Node, QmpError> {
        self.node(name).ok_or_else(|| release.cannot_find(name))
    }

    /// Refuses what may not be done to a node that backs another.
    pub(crate) fn check_not_backing(&self, name: &str) -> Result<(), QmpError> {
        match self.parents(name).find(|parent| parent.driver.backing() == Some(name)) {
            Some(overlay) => Err(QmpError::generic(format!(
                "Node '{name}' is busy: node is used as backing hd of '{}'",
                overlay.name
            ))),
            None => Ok(()),
        }
    }

    /// Takes over a new node.
    pub(crate) fn insert(&mut self, node: Node) {
        self.nodes.push(node);
    }

    /// Lets a node be another one of the same name.
    pub(crate) fn replace(&mut self, by: Node) {
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
        for child in removed.driver.children() {
            self.release(child);
        }
    }

    /// A user has let go of a node: unless a client added it, it goes with its last one.
    pub(crate) fn release(&mut self, name: &str) {
        if !self.is_used(name) && self.node(name).is_some_and(|node| !node.owned_by_monitor) {
            self.remove(name);
        }
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

    /// Puts `overlay` on top of `node`: what used the node uses the overlay, and the node is read-only from then on.
    pub(crate) fn append(&mut self, node_name: &str, overlay_name: &str) {
        for device in self.devices.iter_mut().filter(|device| device.node == node_name) {
            device.node = overlay_name.into();
        }
        self.exports.move_up(node_name, overlay_name);
        for node in self.nodes.iter_mut().filter(|node| node.name != overlay_name) {
            node.driver.replace_child(node_name, overlay_name);
        }
        self.set_read_only(node_name, true);
        self.set_backing(overlay_name, Some(node_name));
    }

    /// Lets `target`, which can be written from then on, take the place of `source` under its device.
    pub(crate) fn pivot(&mut self, source: &str, target: &str) {
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
        let file = self.node(name).and_then(|node| self.node(node.driver.file()?));
        let own = file.filter(|file| !file.owned_by_monitor).map(|file| file.name.clone());
        let is_meant = |node: &Node| node.name == name || Some(&node.name) == own.as_ref();
        for node in self.nodes.iter_mut().filter(|node| is_meant(node)) {
            node.read_only = read_only;
        }
    }
}

/// How long a block job without speed may take, in milliseconds.
const JOB_TAKES_MS: [u64; 4] = [5, 1, 20, 100];

/// What the commands that start a block job have in common: a length and a chunk in bytes, and the members for speed
/// and end.
pub(crate) fn job_options(
    kind: &'static str,
    arguments: Arguments<'_>,
    keeps_in_step: bool,
    (len, chunk): (u64, u64),
    cx: &mut Context<'_>,
) -> Options {
    let takes = JOB_TAKES_MS[cx.choose("block-job-takes", JOB_TAKES_MS.len())];
    Options {
        kind,
        speed: arguments.integer("speed"),
        auto_finalize: arguments.flag_or("auto-finalize", true),
        auto_dismiss: arguments.flag_or("auto-dismiss", true),
        len,
        chunk,
        keeps_in_step,
        takes: Duration::from_millis(takes),
        starts_drained: false,
        ready_at_once: false,
        endless: false,
        unfit: false,
        failure: None,
    }
}
