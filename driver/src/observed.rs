//! What the live machine says of itself, or the images of one that is off ([`crate::images`]): plain data, read once before a plan is
//! made.

mod described;

use camino::{Utf8Path, Utf8PathBuf};

pub use self::described::Undescribed;

use crate::{
    commands::{BlockDevice, BlockNode, DirtyBitmap, ImageInfo, InternalSnapshot, Status},
    domain::{Domain, DomainDisk},
    domain_snapshot::State,
    error::{ImageRefusal, Refusal},
    launch::transient,
    qemu_img::{Clusters, data_file},
    report::Images,
};

/// Filters that a block job puts over the node it works on. QEMU 5.2 has none for `stream`.
const JOB_FILTERS: [&str; 5] =
    ["mirror_top", "commit_top", "backup-top", "copy-before-write", "copy-on-read"];

/// The machine at one moment, disk by disk as the domain lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// `running`, `paused` ...
    pub status: Status,
    /// The domain's disks that hold an image.
    pub disks: Vec<ObservedDisk>,
    /// The domain's disks whose device QEMU does not have. An empty drive is not among them. Of a machine that is off those whose
    /// images cannot be read.
    pub missing: Vec<Missing>,
    /// The devices with an image that are no disk of the domain's.
    pub undescribed: Vec<Undescribed>,
    /// The image with the firmware's variables, if it is one that keeps internal snapshots and was found.
    pub nvram: Option<ObservedDisk>,
}

/// A disk of the domain whose device QEMU does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The disk.
    pub target: String,
    /// The device that it is said to be.
    pub device: Option<String>,
    /// If its image alone was to tell which device it is: that image, and what the devices are in that are no disk's.
    pub sought: Option<(Utf8PathBuf, Vec<Utf8PathBuf>)>,
}

/// What stands for the firmware's variables where disks are named.
pub const NVRAM: &str = "nvram";

/// One disk as QEMU has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedDisk {
    /// What the domain calls it: `vda`.
    pub target: String,
    /// Its place among QEMU's devices, from 0: `savevm` puts the memory on the first that can hold it.
    pub place: usize,
    /// The node on top of its chain.
    pub node: String,
    /// That node's format: `qcow2`, `raw` ...
    pub format: String,
    /// That node's file.
    pub file: Utf8PathBuf,
    /// Bytes that the guest sees.
    pub size: u64,
    /// Whether the guest may only read it.
    pub readonly: bool,
    /// Whether its images are another machine's for now: QEMU writes nothing to them.
    pub given_away: bool,
    /// The internal snapshots in its top image.
    pub snapshots: Vec<InternalSnapshot>,
    /// How many images its chain has.
    pub depth: usize,
    /// The images of its chain, the one that the guest writes to first.
    pub chain: Vec<ObservedImage>,
    /// The filter that a block job has put over its top node, if one works on it and has one.
    pub busy: Option<String>,
    /// The bitmaps that are kept in its top image and written to now.
    pub bitmaps: Vec<DirtyBitmap>,
    /// Whether its top image goes when the machine ends: the overlay of a `<transient/>` disk.
    pub transient: bool,
}

/// One image of a disk's chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedImage {
    /// Its file.
    pub file: Utf8PathBuf,
    /// Its format.
    pub format: String,
    /// The internal snapshots in it.
    pub snapshots: Vec<InternalSnapshot>,
    /// The file that its data are in, if they are not in its own.
    pub data_file: Option<Utf8PathBuf>,
    /// How it is laid out, as far as that is told.
    pub clusters: Clusters,
    /// The nodes that have it open as an image, as far as it was asked for ([`Observed::find_nodes`]): one, or more where disks
    /// share it.
    pub nodes: Vec<ObservedNode>,
}

impl ObservedImage {
    /// Whether it holds an internal snapshot of this name.
    pub(crate) fn holds(&self, tag: &str) -> bool {
        self.snapshots.iter().any(|held| held.name == tag)
    }
}

/// A node that has an image open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedNode {
    /// Its name.
    pub name: String,
    /// Its driver: the image's format.
    pub format: String,
    /// The bitmaps that somebody has made on it, kept in the image or not.
    pub bitmaps: Vec<DirtyBitmap>,
}

impl ObservedDisk {
    /// The internal snapshot of this name.
    pub fn snapshot(&self, tag: &str) -> Option<&InternalSnapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.name == tag)
    }

    /// The image that is still there when the machine has ended, and its format.
    fn source(&self) -> (&Utf8Path, &str) {
        match self.chain.get(1).filter(|_| self.transient) {
            Some(image) => (&image.file, &image.format),
            None => (&self.file, &self.format),
        }
    }

    /// The disk as it is when the machine has ended: without what goes then.
    fn once_ended(&self) -> Self {
        self.without(usize::from(self.transient)).unwrap_or_else(|| self.clone())
    }

    /// As it is in the image below so many of its chain; none if there is no image or no such.
    pub(crate) fn without(&self, above: usize) -> Option<Self> {
        let chain = self.chain.get(above..).filter(|_| above > 0)?.to_owned();
        let image = chain.first()?;
        Some(Self {
            node: image.nodes.first().map(|node| node.name.clone()).unwrap_or_default(),
            format: image.format.clone(),
            file: image.file.clone(),
            snapshots: image.snapshots.clone(),
            depth: chain.len(),
            bitmaps: Vec::new(),
            transient: false,
            chain,
            ..self.clone()
        })
    }
}

impl Observed {
    /// Puts QEMU's answers and the domain side by side.
    pub fn new(domain: &Domain, status: Status, devices: &[BlockDevice]) -> Self {
        let own = |disk: &DomainDisk| devices.iter().position(|device| device.is_of(disk));
        let claimed: Vec<usize> = domain.disks.iter().filter_map(own).collect();
        let place = |disk: &DomainDisk| {
            let usual = |(place, device): &(usize, &BlockDevice)| {
                !claimed.contains(place) && device.is_as_usual(disk)
            };
            own(disk).or_else(|| devices.iter().enumerate().find(usual).map(|(place, _)| place))
        };
        let left = status.has_left();
        let disks: Vec<_> = domain
            .disks
            .iter()
            .filter_map(|disk| {
                let place = place(disk)?;
                let found = observed_disk(&disk.target, place, devices[place].inserted.as_ref()?, left)?;
                let is_overlay = transient::is_overlay(&found.file, &domain.name) && found.depth > 1;
                Some(ObservedDisk { transient: disk.transient && is_overlay, ..found })
            })
            .collect();
        let taken: Vec<usize> = domain.disks.iter().filter_map(place).collect();
        let is_nvram = |file: &Utf8PathBuf| domain.nvram.as_ref().is_some_and(|nvram| nvram.file == *file);
        let others = devices.iter().enumerate().filter(|(place, _)| !taken.contains(place));
        let others: Vec<(&BlockDevice, Utf8PathBuf)> = others
            .filter_map(|(_, device)| Some((device, file_of(&device.inserted.as_ref()?.image.filename))))
            .filter(|(_, file)| !is_nvram(file))
            .collect();
        let files = || others.iter().map(|(_, file)| file.clone()).collect();
        let missing = domain.disks.iter().filter(|disk| place(disk).is_none()).map(|disk| {
            let sought = disk.source.clone().filter(|_| disk.device.is_none());
            let (target, device) = (disk.target.clone(), disk.device.clone());
            Missing { target, device, sought: sought.map(|file| (file, files())) }
        });
        let missing = missing.collect();
        // A disk may have two devices, as with multipath.
        let is_no_disks = |file: &Utf8PathBuf| disks.iter().all(|disk| disk.file != *file);
        let undescribed = others.iter().filter(|(_, file)| is_no_disks(file));
        let undescribed =
            undescribed.filter_map(|(device, file)| Undescribed::of(device, file.clone())).collect();
        Self { status, disks, missing, undescribed, nvram: observed_nvram(domain, devices, left) }
    }

    /// Why a disk cannot take part that QEMU does not have, or whose drive is empty.
    pub fn no_image(&self, target: &str) -> Refusal {
        let disk = target.to_owned();
        match self.missing.iter().find(|missing| missing.target == target).cloned() {
            Some(Missing { sought: Some((file, others)), .. }) => {
                ImageRefusal::NotOpen { disk, file, others }.into()
            }
            Some(Missing { device: Some(device), .. }) => ImageRefusal::NotPlugged { disk, device }.into(),
            _ => Refusal::NoImage(disk),
        }
    }

    /// Finds among all nodes the filters of block jobs, and over which disks they are.
    pub fn find_busy(&mut self, nodes: &[BlockNode]) {
        for node in nodes.iter().filter(|node| JOB_FILTERS.contains(&node.drv.as_str())) {
            let file = file_of(&node.image.filename);
            if let Some(disk) = self.disks.iter_mut().find(|disk| disk.file == file) {
                disk.busy = Some(node.drv.clone());
            }
        }
    }

    /// Finds among all nodes those that have the images of the chains open.
    pub fn find_nodes(&mut self, nodes: &[BlockNode]) {
        for image in self.disks.iter_mut().flat_map(|disk| &mut disk.chain) {
            let opens = |node: &&BlockNode| {
                !node.is_protocol()
                    && !JOB_FILTERS.contains(&node.drv.as_str())
                    && file_of(&node.image.filename) == image.file
            };
            image.nodes = nodes.iter().filter(opens).filter_map(observed_node).collect();
        }
    }

    /// How an image of a chain is laid out; as QEMU does it by itself, if it is in none.
    pub fn clusters(&self, file: &Utf8Path) -> Clusters {
        let mut images = self.disks.iter().flat_map(|disk| &disk.chain);
        images.find(|image| image.file == file).map(|image| image.clusters).unwrap_or_default()
    }

    /// The images that an internal snapshot is in: those of the disks, and that with the firmware's variables.
    pub fn images(&self) -> impl Iterator<Item = &ObservedDisk> {
        self.disks.iter().chain(&self.nvram)
    }

    /// Every disk with the image that it is in by now, and that one's format: of a `<transient/>` one the image below the
    /// overlay, for no description names what goes when the machine ends.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &Utf8Path, &str)> {
        self.disks.iter().map(|disk| {
            let (file, format) = disk.source();
            (disk.target.as_str(), file, format)
        })
    }

    /// The image that each disk is in by now: that of [`Observed::sources`].
    pub fn images_by_target(&self) -> Images {
        self.sources().map(|(target, file, _)| (target.to_owned(), file.to_owned())).collect()
    }

    /// The disks whose top image goes when the machine ends.
    pub fn transient(&self) -> impl Iterator<Item = &ObservedDisk> {
        self.disks.iter().filter(|disk| disk.transient)
    }

    /// The machine's disks as they are when it has ended.
    #[must_use]
    pub fn once_ended(&self) -> Self {
        Self { disks: self.disks.iter().map(ObservedDisk::once_ended).collect(), ..self.clone() }
    }

    /// Whether the machine is off, and only its images were asked.
    pub fn is_off(&self) -> bool {
        self.status.state() == State::Shutoff
    }

    /// The running machine; none of one that is off.
    pub fn running(&self) -> Option<&Self> {
        (!self.is_off()).then_some(self)
    }

    /// The disk that the domain calls so.
    pub fn disk(&self, target: &str) -> Option<&ObservedDisk> {
        self.disks.iter().find(|disk| disk.target == target)
    }
}

impl Status {
    /// That of a machine that is off: a word of libvirt, for QEMU says none then.
    pub fn off() -> Self {
        Self { status: State::Shutoff.name().to_owned(), running: false }
    }

    /// Whether its state has left for a file or another machine, and its guest has not gone on since.
    pub fn has_left(&self) -> bool {
        self.status == "postmigrate"
    }

    /// libvirt's word for it.
    pub fn state(&self) -> State {
        match self.status.as_str() {
            "running" => State::Running,
            "suspended" => State::PmSuspended,
            "shutdown" => State::Shutdown,
            "guest-panicked" => State::Crashed,
            // Its memory is under way: there is nothing to keep yet.
            "inmigrate" => State::NoState,
            "shutoff" => State::Shutoff,
            _ => State::Paused,
        }
    }
}

impl BlockDevice {
    /// Whether this is that disk's device: by its id, or else by an image in its chain.
    fn is_of(&self, disk: &DomainDisk) -> bool {
        match (&disk.device, &disk.source) {
            (Some(device), _) => self.is(device),
            (None, Some(source)) => {
                self.inserted.as_ref().is_some_and(|node| images(&node.image).any(|file| file == *source))
            }
            (None, None) => false,
        }
    }

    /// Whether it is called as that disk's device is as a rule, where nothing else tells: the description may name an image that is
    /// not there any more.
    fn is_as_usual(&self, disk: &DomainDisk) -> bool {
        let usual = disk.usual_device.as_ref().filter(|_| disk.device.is_none() && disk.source.is_some());
        usual.is_some_and(|usual| self.is(usual))
    }

    /// Whether this is the device with that id: its path ends in the id, for some devices with the backend's
    /// name behind it (`/machine/peripheral/vda-device/virtio-backend`).
    fn is(&self, id: &str) -> bool {
        let Some(path) = &self.qdev else { return false };
        path == id || path.split('/').rev().take(2).any(|part| part == id)
    }
}

/// The files of a chain, from this image on down.
pub fn images(top: &ImageInfo) -> impl Iterator<Item = Utf8PathBuf> {
    std::iter::successors(Some(top), |image| next(image)).map(|image| file_of(&image.filename))
}

/// The image under this one.
fn next(image: &ImageInfo) -> Option<&ImageInfo> {
    image.backing_image.as_deref()
}

/// `left`: the machine's state has left, of which a QEMU that tells nothing of single images has given all away.
fn observed_disk(target: &str, place: usize, node: &BlockNode, left: bool) -> Option<ObservedDisk> {
    Some(ObservedDisk {
        target: target.to_owned(),
        place,
        node: node.node_name.clone()?,
        format: node.drv.clone(),
        file: file_of(&node.image.filename),
        size: node.image.virtual_size,
        readonly: node.ro,
        given_away: node.active == Some(false) || (node.active.is_none() && left),
        snapshots: node.image.snapshots.clone(),
        busy: None,
        depth: std::iter::successors(Some(&node.image), |image| next(image)).count(),
        chain: std::iter::successors(Some(&node.image), |image| next(image)).map(observed_image).collect(),
        bitmaps: node.dirty_bitmaps.iter().filter(|bitmap| bitmap.is_carried()).cloned().collect(),
        transient: false,
    })
}

/// The board's flash, which QEMU tells of among the disks; its file alone says which it is.
fn observed_nvram(domain: &Domain, devices: &[BlockDevice], left: bool) -> Option<ObservedDisk> {
    let nvram = domain.nvram.as_ref().filter(|nvram| nvram.keeps_snapshots())?;
    let is_it = |device: &BlockDevice| {
        let node = device.inserted.as_ref();
        node.is_some_and(|node| node.drv == nvram.format && file_of(&node.image.filename) == nvram.file)
    };
    let place = devices.iter().position(is_it)?;
    observed_disk(NVRAM, place, devices[place].inserted.as_ref()?, left)
}

fn observed_image(image: &ImageInfo) -> ObservedImage {
    let specific = image.format_specific.as_ref().map(|specific| &specific.data);
    let extended_l2 = specific.is_some_and(|specific| specific.extended_l2);
    let file = file_of(&image.filename);
    let data_file = specific.and_then(|specific| data_file(&file, specific.data_file.as_deref()?));
    ObservedImage {
        file,
        format: image.format.clone(),
        snapshots: image.snapshots.clone(),
        data_file,
        clusters: Clusters::of(&image.format, image.cluster_size, extended_l2),
        nodes: Vec::new(),
    }
}

fn observed_node(node: &BlockNode) -> Option<ObservedNode> {
    let named = node.dirty_bitmaps.iter().filter(|bitmap| bitmap.name.is_some());
    Some(ObservedNode {
        name: node.node_name.clone()?,
        format: node.drv.clone(),
        bitmaps: named.cloned().collect(),
    })
}

/// The path in a file name as QEMU tells it. Once a chain was changed at run time it becomes
/// `json:{"driver": "qcow2", "file": {"driver": "file", "filename": "/images/vda.s1"}, ...}`.
pub fn file_of(filename: &str) -> Utf8PathBuf {
    let described = filename.strip_prefix("json:").and_then(|json| {
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        let file = value.get("file").unwrap_or(&value);
        Some(Utf8PathBuf::from(file.get("filename")?.as_str()?))
    });
    described.unwrap_or_else(|| Utf8Path::new(filename).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with that id, and its image.
    fn device(id: &str, file: &str) -> BlockDevice {
        let image = serde_json::json!({ "filename": file, "format": "qcow2", "virtual-size": 1 });
        let node = serde_json::json!({ "node-name": id, "drv": "qcow2", "ro": false, "image": image });
        serde_json::from_value(serde_json::json!({ "qdev": id, "inserted": node })).unwrap()
    }

    #[test]
    fn a_disk_whose_image_is_gone_is_found_by_what_its_device_is_called_as_a_rule() {
        let disk = |target: &str, bus: &str, more: &str| {
            format!("<disk><source file='/{target}.gone'/><target dev='{target}' bus='{bus}'/>{more}</disk>")
        };
        let address = "<address type='drive' controller='1' bus='0' target='2' unit='3'/>";
        let disks = [
            disk("vda", "virtio", ""),
            disk("vdb", "virtio", "<alias name='other'/>"),
            disk("hdc", "ide", ""),
            disk("sda", "scsi", address),
            disk("sdb", "sata", ""),
            disk("xvda", "xen", ""),
        ];
        let text = format!("<domain><name>vm</name><devices>{}</devices></domain>", disks.concat());
        let domain = Domain::from(crate::domain_xml::DomainXml::read(text.as_bytes()).unwrap());
        let running = Status { status: "running".into(), running: true };
        let ids =
            ["virtio-disk1", "/machine/peripheral/virtio-disk0/virtio-backend", "ide0-1-0", "scsi1-0-2-3"];
        let devices = ids.map(|id| device(id, &format!("{id}.qcow2"))).to_vec();
        let observed = Observed::new(&domain, running.clone(), &devices);
        let found: Vec<_> = observed.disks.iter().map(|disk| (&*disk.target, disk.place)).collect();
        assert_eq!(found, [("vda", 1), ("hdc", 2), ("sda", 3)]);

        // What states its device is missing without it; of the others it is told what is there instead.
        let not_plugged = ImageRefusal::NotPlugged { disk: "vdb".into(), device: "other".into() };
        assert_eq!(observed.no_image("vdb"), Refusal::Image(not_plugged));
        let others = vec!["virtio-disk1.qcow2".into()];
        let not_open = ImageRefusal::NotOpen { disk: "sdb".into(), file: "/sdb.gone".into(), others };
        assert_eq!(observed.no_image("sdb"), Refusal::Image(not_open));

        // A device that has another disk's image is that one's.
        let swapped = [device("virtio-disk0", "/hdc.gone")];
        let observed = Observed::new(&domain, running, &swapped);
        assert_eq!(observed.disks.iter().map(|disk| &*disk.target).collect::<Vec<_>>(), ["hdc"]);
    }

    #[test]
    fn a_file_is_found_behind_a_json_description() {
        assert_eq!(file_of("/images/vda.qcow2"), "/images/vda.qcow2");
        let described = r#"json:{"backing": {"driver": "qcow2", "file": {"driver": "file", "filename": "/images/vda.qcow2"}}, "driver": "qcow2", "file": {"driver": "file", "filename": "/images/vda.s1"}}"#;
        assert_eq!(file_of(described), "/images/vda.s1");
    }
}
