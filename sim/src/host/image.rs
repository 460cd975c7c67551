//! What a file of the simulated host holds: a raw image, a qcow2 layer with its internal snapshots, or a machine state.
//!
//! Contents are kept as "block number, which write it carries". An image holds only what was written to it: a
//! block that is absent from an overlay is looked for in its backing file, by whoever reads the chain.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::layout::{Layout, Usage};
use super::machine_state::{Hardware, MachineState};

use crate::guest::Guest;

/// Which write of the guest each written block carries.
pub type Blocks = BTreeMap<u64, u64>;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// No format: the file is the disk. A new, empty file is one of no length.
    Raw {
        /// Length in bytes.
        size: u64,
        /// What was written.
        blocks: Blocks,
    },
    /// A qcow2 image.
    Qcow2(Qcow2),
    /// What `migrate` wrote: no disk, though QEMU would open it as a raw one.
    MachineState(MachineState),
}

/// A qcow2 image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Qcow2 {
    /// Virtual size in bytes.
    pub size: u64,
    /// The backing file as the header names it.
    pub backing: Option<Backing>,
    /// What was written to the active layer.
    pub blocks: Blocks,
    /// Internal snapshots, oldest first.
    pub snapshots: Vec<InternalSnapshot>,
    /// Persistent dirty bitmaps, as they were when they were last stored.
    pub bitmaps: Vec<StoredBitmap>,
    pub(super) layout: Box<Layout>,
}

/// A dirty bitmap that is stored in a qcow2 image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBitmap {
    /// Its name.
    pub name: String,
    /// Bytes that one bit stands for.
    pub granularity: u64,
    /// It goes on recording when the image is opened.
    pub recording: bool,
    /// What is dirty, by number of granule.
    pub dirty: BTreeSet<u64>,
}

/// What a qcow2 header says of its backing file. Both are plain text there, resolved only when opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// The file's name.
    pub file: String,
    /// The format's name; none leaves it to be probed.
    pub format: Option<String>,
}

/// An internal snapshot of a qcow2 image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalSnapshot {
    /// A number in decimal, counted up in each image.
    pub id: String,
    /// The tag; not unique.
    pub name: String,
    /// Length of the machine state stored with it in bytes; 0 for a snapshot of the disk alone.
    pub vm_state_size: u64,
    /// Of what machine that state is; nothing without one, or for one that was not made here.
    pub hardware: Option<Arc<Hardware>>,
    /// When it was taken: wall clock, since the Unix epoch.
    pub date: Duration,
    /// How long the guest had run.
    pub vm_clock: Duration,
    /// Instructions that had been counted: a running QEMU notes none, `qemu-img` notes 0.
    pub icount: Option<u64>,
    /// Virtual size of the disk in bytes.
    pub size: u64,
    /// What the active layer held.
    pub blocks: Blocks,
    /// What the machine state holds of the guest, where a guest is simulated.
    pub memory: Option<Box<Guest>>,
}

impl Image {
    /// A raw image in which nothing was written.
    pub fn raw(size: u64) -> Self {
        Image::Raw { size, blocks: Blocks::new() }
    }

    /// A qcow2 image in which nothing was written, without backing file.
    pub fn qcow2(size: u64) -> Self {
        Image::Qcow2(Qcow2 { size, ..Qcow2::default() })
    }

    /// A qcow2 image whose header is written into a file of `had` bytes, which does not get shorter.
    pub fn formatted(had: u64, size: u64, backing: Option<Backing>) -> Self {
        Image::Qcow2(Qcow2 { size, backing, layout: Box::new(Layout::in_file_of(had)), ..Qcow2::default() })
    }

    /// A qcow2 image in which nothing was written, whose header names this backing file.
    pub fn overlay(size: u64, backing: Option<Backing>) -> Self {
        Image::Qcow2(Qcow2 { size, backing, ..Qcow2::default() })
    }

    /// The qcow2 image, unless it is raw.
    pub fn as_qcow2(&self) -> Option<&Qcow2> {
        match self {
            Image::Qcow2(image) => Some(image),
            Image::Raw { .. } | Image::MachineState(_) => None,
        }
    }

    /// The qcow2 image to be changed, unless it is raw.
    pub fn as_qcow2_mut(&mut self) -> Option<&mut Qcow2> {
        match self {
            Image::Qcow2(image) => Some(image),
            Image::Raw { .. } | Image::MachineState(_) => None,
        }
    }

    /// The machine state, if it is one.
    pub fn as_machine_state(&self) -> Option<&MachineState> {
        match self {
            Image::MachineState(state) => Some(state),
            Image::Raw { .. } | Image::Qcow2(_) => None,
        }
    }

    /// What the guest sees as the size of the disk, in bytes.
    pub fn virtual_size(&self) -> u64 {
        match self {
            Image::Raw { size, .. } => *size,
            Image::Qcow2(image) => image.size,
            Image::MachineState(state) => state.file_length(),
        }
    }

    /// Makes the disk so big in bytes, if it is smaller.
    pub fn grow(&mut self, to: u64) {
        if to > self.virtual_size() {
            self.resize(to);
        }
    }

    /// Makes the disk so big in bytes, or so small: what lies beyond is lost. Not one that holds a machine's state.
    pub fn resize(&mut self, to: u64) {
        let (size, blocks) = match self {
            Image::Raw { size, blocks } => (size, blocks),
            Image::Qcow2(image) => {
                image.layout.resize(image.size, to);
                (&mut image.size, &mut image.blocks)
            }
            Image::MachineState(_) => return,
        };
        *size = to;
        blocks.retain(|block, _| block * Qcow2::CLUSTER < to);
    }

    /// Length of the file in bytes.
    pub fn file_length(&self) -> u64 {
        match self {
            Image::Raw { size, .. } => *size,
            Image::Qcow2(image) => image.file_length(),
            Image::MachineState(state) => state.file_length(),
        }
    }

    /// Bytes of the host's disk that the file takes.
    pub fn on_disk(&self) -> u64 {
        match self {
            Image::Raw { blocks, .. } => blocks.len() as u64 * Qcow2::CLUSTER,
            Image::Qcow2(image) => image.layout.on_disk(),
            Image::MachineState(state) => state.file_length().next_multiple_of(4096),
        }
    }

    /// What was written to the image itself.
    pub fn blocks(&self) -> &Blocks {
        static NONE: Blocks = Blocks::new();
        match self {
            Image::Raw { blocks, .. } => blocks,
            Image::Qcow2(image) => &image.blocks,
            Image::MachineState(_) => &NONE,
        }
    }

    /// Writes `write` to a block. A machine state that is overwritten is a raw image from then on.
    pub fn write(&mut self, block: u64, write: u64) {
        match self {
            Image::Raw { blocks, .. } => blocks.insert(block, write),
            Image::Qcow2(image) => {
                image.layout.write(block);
                image.blocks.insert(block, write)
            }
            Image::MachineState(state) => {
                *self = Image::Raw { size: state.file_length(), blocks: Blocks::from([(block, write)]) };
                None
            }
        };
    }
}

impl Qcow2 {
    /// The size of a cluster in bytes.
    pub const CLUSTER: u64 = 65536;

    /// Length of the file in bytes.
    pub fn file_length(&self) -> u64 {
        self.layout.length(self.size)
    }

    /// The first snapshot of that name.
    pub fn find(&self, name: &str) -> Option<&InternalSnapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.name == name)
    }

    /// The snapshot that `snapshot-load` would take for `tag`: the one of that id comes before one of that name.
    pub fn find_for_load(&self, tag: &str) -> Option<&InternalSnapshot> {
        self.snapshots.iter().find(|snapshot| snapshot.id == tag).or_else(|| self.find(tag))
    }

    /// Takes a snapshot of the active layer and returns its id: one more than the highest there is.
    ///
    /// A name of more than 255 bytes is cut, as QEMU cuts it.
    pub fn take_snapshot(
        &mut self,
        name: &str,
        vm_state_size: u64,
        date: Duration,
        vm_clock: Duration,
    ) -> String {
        let highest = self.snapshots.iter().filter_map(|snapshot| snapshot.id.parse::<u64>().ok()).max();
        let id = (highest.unwrap_or(0) + 1).to_string();
        let name = name[..name.floor_char_boundary(255)].to_owned();
        let blocks = self.blocks.clone();
        self.snapshots.push(InternalSnapshot {
            id: id.clone(),
            name,
            vm_state_size,
            hardware: None,
            date,
            vm_clock,
            icount: None,
            size: self.size,
            blocks,
            memory: None,
        });
        let names = self.snapshots.iter().map(|known| (known.id.as_str(), known.name.as_str()));
        self.layout.take_snapshot(self.size, vm_state_size, names);
        id
    }

    /// Stores these dirty bitmaps, in place of all that were.
    pub fn store_bitmaps(&mut self, bitmaps: Vec<StoredBitmap>) {
        self.layout.store_bitmaps(self.size, &bitmaps);
        self.bitmaps = bitmaps;
    }

    /// Removes the stored dirty bitmap of that name, if there is one.
    pub fn remove_bitmap(&mut self, name: &str) {
        if let Some(at) = self.bitmaps.iter().position(|stored| stored.name == name) {
            self.bitmaps.remove(at);
            self.layout.remove_bitmap(at, &self.bitmaps);
        }
    }

    /// Notes in the snapshot taken last that it was taken of a disk that no machine ran on.
    pub fn keep_no_instructions(&mut self) {
        if let Some(last) = self.snapshots.last_mut() {
            last.icount = Some(0);
        }
    }

    /// Takes out all that was written to the active layer: it shows its backing file again.
    pub fn make_empty(&mut self) {
        self.blocks.clear();
        if self.snapshots.is_empty() && self.bitmaps.is_empty() {
            *self.layout = Layout::emptied(self.size);
        } else {
            self.layout.discard_all(self.size);
        }
    }

    /// Which write each cluster of the file carries, counted for itself.
    pub fn clusters(&self) -> Blocks {
        self.layout.writes().collect()
    }

    /// How the clusters of the file are used.
    pub fn usage(&self) -> Usage {
        self.layout.usage()
    }

    /// Keeps the guest's memory in the snapshot taken last.
    pub fn keep_memory(&mut self, memory: Option<Box<Guest>>) {
        if let Some(last) = self.snapshots.last_mut() {
            last.memory = memory;
        }
    }

    /// Notes in the snapshot taken last of what machine its state is.
    pub fn keep_hardware(&mut self, hardware: Arc<Hardware>) {
        if let Some(last) = self.snapshots.last_mut() {
            last.hardware = Some(hardware);
        }
    }

    /// Reverts the active layer to a snapshot; returns that snapshot.
    pub fn revert(&mut self, id: &str) -> Option<&InternalSnapshot> {
        let at = self.snapshots.iter().position(|snapshot| snapshot.id == id)?;
        self.layout.revert(at);
        let snapshot = &self.snapshots[at];
        self.blocks.clone_from(&snapshot.blocks);
        Some(snapshot)
    }

    /// Removes a snapshot and returns it.
    pub fn delete_snapshot(&mut self, id: &str) -> Option<InternalSnapshot> {
        let at = self.snapshots.iter().position(|snapshot| snapshot.id == id)?;
        let deleted = self.snapshots.remove(at);
        let names = self.snapshots.iter().map(|known| (known.id.as_str(), known.name.as_str()));
        self.layout.delete_snapshot(at, names);
        Some(deleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_with(names: &[&str]) -> Qcow2 {
        let mut image = Qcow2::default();
        for name in names {
            image.take_snapshot(name, 0, Duration::ZERO, Duration::ZERO);
        }
        image
    }

    #[test]
    fn a_revert_brings_back_what_was_written_before_the_snapshot() {
        let mut image = Image::qcow2(1 << 20);
        image.write(1, 100);
        let qcow2 = image.as_qcow2_mut().unwrap();
        let id = qcow2.take_snapshot("s", 0, Duration::ZERO, Duration::ZERO);
        image.write(1, 200);
        image.as_qcow2_mut().unwrap().revert(&id).unwrap();
        assert_eq!(image.blocks(), &Blocks::from([(1, 100)]));
    }

    #[test]
    fn a_new_id_is_one_more_than_the_highest() {
        let mut image = image_with(&["a", "b"]);
        image.delete_snapshot("1").unwrap();
        assert_eq!(image.take_snapshot("c", 0, Duration::ZERO, Duration::ZERO), "3");
        let mut empty = image_with(&["a"]);
        empty.delete_snapshot("1").unwrap();
        assert_eq!(empty.take_snapshot("b", 0, Duration::ZERO, Duration::ZERO), "1");
    }

    #[test]
    fn a_tag_that_is_an_id_loads_the_snapshot_of_that_id() {
        let image = image_with(&["a", "1"]);
        assert_eq!(image.find_for_load("1").unwrap().name, "a");
        assert_eq!(image.find("1").unwrap().id, "2");
    }

    #[test]
    fn a_long_tag_is_cut_at_255_bytes() {
        let image = image_with(&["x".repeat(300).as_str()]);
        assert_eq!(image.snapshots[0].name.len(), 255);
    }
}
