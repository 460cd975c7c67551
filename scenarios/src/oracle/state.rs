//! How a simulated machine and its host stand, as far as the invariants speak of it.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Location, Purpose, SnapshotDisk, SourceType},
    domain_xml::DomainXml,
    observed::NVRAM,
    storage::Method,
};
use freezeframe_sim::{
    host::{Blocks, Host, Image},
    machine::Machine,
    qemu::block::{Driver, Graph, Node},
    world::World,
};

use crate::{inspect, machine, world::sim::RUNTIME};

/// The file that is locked: it is no record, and stays.
const LOCK: &str = "lock";

/// The file that names the current snapshot: empty it says as much as if it were not there.
const CURRENT: &str = "current";

/// The driver's journal of an operation that is under way, or has left something: it is no record.
const JOURNAL: &str = "pending";

/// How everything stands at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// QEMU's run state; none if there is no QEMU.
    pub guest: Option<&'static str>,
    /// Disks whose file system is frozen.
    pub frozen: BTreeSet<String>,
    /// For each device the files of its chain, top first.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Nodes that a client has made and that no device stands on, with their files.
    pub loose: BTreeMap<String, String>,
    /// The ids of all jobs.
    pub jobs: BTreeSet<String>,
    /// How QEMU's migrations are set: the capabilities that are on, and the bandwidth.
    pub settings: BTreeSet<String>,
    /// Every image of the host.
    pub images: BTreeMap<String, ImageState>,
    /// What the guest has written to each image, and what it holds inside.
    pub data: BTreeMap<String, Layer>,
    /// The images that the file with the machine's description names.
    pub described: BTreeSet<String>,
    /// Every other file.
    pub documents: BTreeMap<String, Vec<u8>>,
    /// The records of snapshots, by name.
    pub records: BTreeMap<String, Record>,
    /// Which of them is the current one.
    pub current: Option<String>,
    /// An operation is written down that is under way, or has left something.
    pub pending: bool,
    /// What of QEMU and its images does not hold by itself ([`World::check_invariants`]).
    pub broken: BTreeSet<String>,
}

/// An image, but for its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageState {
    /// Its backing file.
    pub backing: Option<String>,
    /// The names of its internal snapshots, oldest first.
    pub tags: Vec<String>,
}

/// What was written to an image itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layer {
    /// Now.
    pub blocks: Blocks,
    /// When each of its internal snapshots was taken.
    pub inside: BTreeMap<String, Blocks>,
}

/// What of a record the invariants speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The snapshot that it came from.
    pub parent: Option<String>,
    /// Files without which one cannot go back to it.
    pub needs: BTreeSet<String>,
    /// The overlays that it says the machine went on in.
    pub overlays: BTreeSet<String>,
    /// Images that hold it inside.
    pub inside: BTreeSet<String>,
    /// For each disk that took part the image that the guest wrote to then, or the file in which a storage keeps it.
    pub images: BTreeMap<String, String>,
    /// Disks of which the caller keeps a part, or a storage one that is in no file of its own.
    pub elsewhere: BTreeSet<String>,
    /// It says that its deletion has begun, and on which disks: nobody can go back to it.
    pub being_deleted: bool,
}

impl State {
    /// Looks.
    pub fn of(world: &World) -> Self {
        let host = world.host();
        let mut state = State::default();
        for (path, image) in host.files() {
            state.images.insert(path.to_string(), image_state(path, image));
            state.data.insert(path.to_string(), layer(image));
        }
        let kept = inspect::state(&Machine::new().folder).join(machine::NAME);
        let is_lock = |path: &Utf8Path| path.file_name() == Some(LOCK) || path.starts_with(RUNTIME);
        for (path, bytes) in host.documents().filter(|(path, _)| !is_lock(path)) {
            // A storage that catches a folder catches the records in it: those are nobody's any more.
            if path.parent() != Some(&kept) {
                if path == kept.with_extension("xml") {
                    state.described = images_of(bytes);
                }
                state.documents.insert(path.to_string(), bytes.to_owned());
                continue;
            }
            if path.file_name() == Some(CURRENT) {
                let name = String::from_utf8_lossy(bytes).trim().to_owned();
                state.current = Some(name).filter(|name| !name.is_empty());
                continue;
            }
            if path.file_name() == Some(JOURNAL) {
                // Once it says that it is over, only the file is left.
                state.pending = !bytes.ends_with(b"{\"over\":true}\n");
                continue;
            }
            state.documents.insert(path.to_string(), bytes.to_owned());
            let record = record_of(path, bytes, host);
            state.records.extend(record);
        }
        state.broken = world.check_invariants().err().into_iter().flat_map(|broken| broken.0).collect();
        if !world.qemu_is_running() {
            return state;
        }
        let qemu = world.qemu();
        state.guest = Some(qemu.run_state().name());
        let systems = qemu.guest().into_iter().flat_map(|guest| guest.file_systems());
        state.frozen = systems.filter(|known| known.frozen).map(|known| known.disk.clone()).collect();
        state.jobs = qemu.jobs().map(|job| job.id.clone()).collect();
        state.settings = qemu.migration_settings();
        state.look_at_nodes(qemu.graph(), world);
        state
    }

    fn look_at_nodes(&mut self, graph: &Graph, world: &World) {
        let file_of = |node: &Node| {
            let file = graph.file_of(node)?;
            Some(world.host().resolve(Utf8Path::new(file)).into_string())
        };
        let mut used = BTreeSet::new();
        for device in graph.devices() {
            let chain: Vec<_> = graph.chain(&device.node).collect();
            for node in &chain {
                let mut below = Some(*node);
                while let Some(node) = below {
                    used.insert(node.name.clone());
                    below = node.driver.file().and_then(|file| graph.node(file));
                }
            }
            // The filters of jobs have no file of their own.
            let is_layer = |node: &&Node| matches!(node.driver, Driver::Raw { .. } | Driver::Qcow2 { .. });
            let layers = chain.into_iter().filter(is_layer);
            self.chains.insert(device.id.clone(), layers.filter_map(file_of).collect());
        }
        let loose = graph.newest_first().filter(|node| node.owned_by_monitor && !used.contains(&node.name));
        self.loose = loose.map(|node| (node.name.clone(), file_of(node).unwrap_or_default())).collect();
    }

    /// Every file that is in use, or that a record names, with all that these stand on. Of a machine that is gone the last tops
    /// are in use, and what it is to be started from.
    pub fn reachable(&self, last_tops: &BTreeSet<String>) -> BTreeSet<String> {
        let mut found = self.used_as_such();
        if self.guest.is_none() {
            found.extend(last_tops.iter().cloned());
        }
        for record in self.records.values() {
            found.extend(record.needs.iter().cloned());
        }
        self.with_all_below(found)
    }

    /// Every file that is in use, with all that these stand on: of a machine that is off what it is to be started from.
    pub fn in_use(&self) -> BTreeSet<String> {
        self.with_all_below(self.used_as_such())
    }

    /// Those of them that are in use by themselves.
    fn used_as_such(&self) -> BTreeSet<String> {
        let mut found: BTreeSet<String> = self.chains.values().flatten().cloned().collect();
        if self.guest.is_none() {
            found.extend(self.described.iter().cloned());
        }
        found
    }

    /// These files, and all that they stand on.
    fn with_all_below(&self, mut found: BTreeSet<String>) -> BTreeSet<String> {
        let mut next: Vec<String> = found.iter().cloned().collect();
        while let Some(path) = next.pop() {
            let backing = self.images.get(&path).and_then(|image| image.backing.clone());
            next.extend(backing.filter(|backing| found.insert(backing.clone())));
        }
        found
    }

    /// What a chain of images holds, from this one down; nothing if one of them is not there.
    pub fn content(&self, top: &str) -> Option<Blocks> {
        self.content_of(top, &self.data.get(top)?.blocks)
    }

    /// What an image, and those below it, held when an internal snapshot was taken.
    pub fn content_inside(&self, image: &str, snapshot: &str) -> Option<Blocks> {
        self.content_of(image, self.data.get(image)?.inside.get(snapshot)?)
    }

    fn content_of(&self, image: &str, blocks: &Blocks) -> Option<Blocks> {
        let mut content = blocks.clone();
        let mut next = self.images.get(image)?.backing.as_ref();
        // No chain is longer than there are images.
        for _ in 0..self.images.len() {
            let Some(below) = next else { break };
            for (block, write) in &self.data.get(below)?.blocks {
                content.entry(*block).or_insert(*write);
            }
            next = self.images.get(below)?.backing.as_ref();
        }
        Some(content)
    }

    /// Whether a file is there.
    pub fn has(&self, path: &str) -> bool {
        self.images.contains_key(path) || self.documents.contains_key(path)
    }

    /// The names of all files.
    pub fn files(&self) -> BTreeSet<&String> {
        self.images.keys().chain(self.documents.keys()).collect()
    }
}

/// The images that a machine's description names.
fn images_of(description: &[u8]) -> BTreeSet<String> {
    let document = DomainXml::read(description).ok();
    let disks = document.iter().flat_map(DomainXml::disks);
    disks.filter_map(|disk| Some(disk.path()?.to_string())).collect()
}

fn image_state(path: &Utf8Path, image: &Image) -> ImageState {
    let qcow2 = image.as_qcow2();
    let backing = qcow2.and_then(|image| {
        let file = &image.backing.as_ref()?.file;
        let folder = path.parent().unwrap_or(Utf8Path::new("/"));
        Some(folder.join(file).components().collect::<Utf8PathBuf>().into_string())
    });
    let tags = qcow2.into_iter().flat_map(|image| &image.snapshots);
    ImageState { backing, tags: tags.map(|snapshot| snapshot.name.clone()).collect() }
}

fn layer(image: &Image) -> Layer {
    let inside = image.as_qcow2().into_iter().flat_map(|image| &image.snapshots);
    let inside = inside.map(|snapshot| (snapshot.name.clone(), snapshot.blocks.clone())).collect();
    Layer { blocks: image.blocks().clone(), inside }
}

/// The disk that a device is: by the id that every machine of the language gives it, or as the board's flash.
pub fn disk_of(device: &str) -> &str {
    match device {
        "/machine/system.flash1" => NVRAM,
        _ => device.strip_suffix("-device").unwrap_or(device),
    }
}

/// Whether a file is what a storage keeps as the snapshot of that name: a file with it behind an `@`, or a device of LVM's beside its
/// volume.
pub fn is_kept_by_storage(file: &str, name: &str) -> bool {
    let before = file.strip_suffix(name);
    before
        .is_some_and(|before| before.ends_with('@') || (before.starts_with("/dev/") && before.ends_with('.')))
}

/// The record that a document is, if it is one.
fn record_of(path: &Utf8Path, bytes: &[u8], host: &Host) -> Option<(String, Record)> {
    let name = path.file_name()?.strip_suffix(".xml")?;
    let read = DomainSnapshot::read(bytes, Purpose::Load).ok()?;
    let domain = read.domain.clone().and_then(|domain| DomainXml::of(domain).ok());
    // The images that the guest wrote to when it was taken: to these one goes back.
    let image = |target: &str| {
        let disk = domain.as_ref()?.disks().find(|disk| disk.target == target)?;
        // One that is named from somewhere is there where QEMU was started.
        Some(host.resolve(disk.path()?).into_string())
    };
    let (mut images, mut inside) = (BTreeMap::new(), BTreeSet::new());
    let takes_part = |location| matches!(location, Some(Location::Internal | Location::External));
    for disk in read.disks.iter().filter(|disk| takes_part(disk.location)) {
        let Some(image) = image(&disk.name) else { continue };
        if disk.location == Some(Location::Internal) {
            inside.insert(image.clone());
        }
        images.insert(disk.name.clone(), image);
    }
    // The record names the disks alone; the firmware's variables are inside of theirs as those are.
    let nvram = domain.as_ref().and_then(DomainXml::nvram).filter(|nvram| nvram.keeps_snapshots());
    if let Some(nvram) = nvram.filter(|_| !inside.is_empty()) {
        inside.insert(nvram.file.to_string());
        images.insert(NVRAM.to_owned(), nvram.file.to_string());
    }
    let mut elsewhere = BTreeSet::new();
    for part in &read.storage {
        for target in &part.targets {
            let beside = match part.volumes.method {
                Method::Reflink => Some('@'),
                Method::Lvm => Some('.'),
                _ => None,
            };
            match image(target).zip(beside) {
                Some((image, mark)) => {
                    drop(images.insert(target.clone(), format!("{image}{mark}{}", part.name)))
                }
                None => drop(elsewhere.insert(target.clone())),
            }
        }
    }
    let by_caller = read.disks.iter().filter(|disk| disk.location == Some(Location::Manual));
    let by_caller = by_caller.filter(|disk| !images.contains_key(&disk.name));
    elsewhere.extend(by_caller.map(|disk| disk.name.clone()));
    let mut needs: BTreeSet<String> = images.values().cloned().collect();
    needs.extend(read.memory.file.as_ref().map(ToString::to_string));
    let external = |part: &&SnapshotDisk| {
        part.location == Some(Location::External) && part.source_type == SourceType::File
    };
    let overlays = read.disks.iter().chain(&read.revert_disks).filter(external);
    let overlays = overlays.filter_map(|part| Some(host.resolve(part.path()?).into_string())).collect();
    let being_deleted = read.disks.iter().any(|disk| disk.delete_in_progress);
    let parent = read.parent.clone();
    Some((name.to_owned(), Record { parent, needs, overlays, inside, images, elsewhere, being_deleted }))
}
