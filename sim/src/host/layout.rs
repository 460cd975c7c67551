//! Which clusters of its file a qcow2 image has taken: how long the file is, and how much of it is on disk.
//!
//! ```text
//! header, refcount table, refcount block, L1 table | L2 tables, data, L1 tables of snapshots, table of snapshots ...
//! ```
//! Each takes the first cluster that is free, and what is freed is taken again; the file never gets shorter. Cluster by
//! cluster: that a request of several looks for a free run of as many is not simulated. Nor are refcount blocks beyond
//! the first, which stands for 2 GiB of file, and what a snapshot that is undone leaves. Source: measured on all releases,
//! and the format's specification.

mod bitmaps;

use std::collections::BTreeMap;

use super::Qcow2;

/// Bytes of the disk that one L2 table stands for.
const L2_COVERS: u64 = Qcow2::CLUSTER / ENTRY * Qcow2::CLUSTER;

/// Bytes of an entry of an L1 or L2 table.
const ENTRY: u64 = 8;

/// The smallest piece that the host's file system keeps, in bytes.
const HOST_BLOCK: u64 = 4096;

/// The part from which on a machine's state is: no disk is as big.
const STATE: u64 = 1 << 32;

/// Where the header is.
const HEADER: usize = 0;

/// Where the block of refcounts is.
const REFCOUNTS: usize = 2;

/// Where the L1 table of a new image is.
const FIRST_L1: usize = 3;

/// Bytes of a snapshot in the table of them, but for its id and its name.
const SNAPSHOT: u64 = 40 + 24;

/// What the file of a qcow2 image consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    clusters: Vec<Cluster>,
    active: Layer,
    /// Of the snapshots, oldest first.
    snapshots: Vec<Layer>,
    /// The cluster of the table of snapshots.
    table: Option<usize>,
    bitmaps: bitmaps::Bitmaps,
    /// None in front of it is free.
    first_free: usize,
    /// Entries of the active L1 table, where it has grown.
    l1_entries: u64,
    /// Length of the file in bytes, but for a first L1 table at its end.
    length: u64,
}

/// How the clusters of a file are used: what a check of it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The end of the last one that is used, in bytes.
    pub end: u64,
    /// Clusters that hold data of the active layer.
    pub allocated: u64,
    /// How many of those do not lie behind the one before them.
    pub fragmented: u64,
}

/// A cluster of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cluster {
    /// How many layers use it.
    users: u32,
    /// Blocks of the host's that were ever written.
    on_disk: u32,
    /// How often something was written to it.
    writes: u64,
}

/// What one L1 table leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Layer {
    l1: usize,
    /// L2 tables, by the part of the disk that they stand for.
    tables: BTreeMap<u64, usize>,
    /// By block of the disk.
    data: BTreeMap<u64, usize>,
}

impl Layer {
    fn clusters(&self) -> impl Iterator<Item = usize> {
        self.tables.values().chain(self.data.values()).copied()
    }
}

impl Default for Layout {
    fn default() -> Self {
        let mut layout = Self {
            clusters: Vec::new(),
            active: Layer { l1: FIRST_L1, ..Layer::default() },
            snapshots: Vec::new(),
            table: None,
            bitmaps: bitmaps::Bitmaps::default(),
            first_free: 0,
            l1_entries: 0,
            length: 0,
        };
        for _ in 0..FIRST_L1 {
            layout.take(Qcow2::CLUSTER);
        }
        layout.take(0);
        layout.clusters[FIRST_L1].on_disk = 1;
        layout.length = FIRST_L1 as u64 * Qcow2::CLUSTER;
        layout
    }
}

impl Layout {
    /// Of a new image in a file that has been this long before, in bytes.
    pub(super) fn in_file_of(had: u64) -> Self {
        let new = Self::default();
        Self { length: new.length.max(had), ..new }
    }

    /// Of an image of this virtual size that was made empty by cutting its file off behind the L1 table.
    pub(super) fn emptied(size: u64) -> Self {
        let mut layout = Self::default();
        let bytes = (l1_entries(size) * ENTRY).max(1).next_multiple_of(Qcow2::CLUSTER);
        layout.clusters[FIRST_L1].on_disk = (bytes / HOST_BLOCK) as u32;
        layout.length = FIRST_L1 as u64 * Qcow2::CLUSTER + bytes;
        layout
    }

    /// All data of the active layer is discarded. Its L2 tables stay, and where there was none there is one.
    pub(super) fn discard_all(&mut self, size: u64) {
        for part in 0..l1_entries(size) {
            let table = self.own(self.active.tables.get(&part).copied());
            self.active.tables.insert(part, table);
        }
        for cluster in std::mem::take(&mut self.active.data).into_values() {
            self.release(cluster);
        }
    }

    /// How the clusters are used.
    pub(super) fn usage(&self) -> Usage {
        let last = self.clusters.iter().rposition(|cluster| cluster.users > 0);
        let data =
            || self.active.data.iter().map(|(block, cluster)| (block * Qcow2::CLUSTER / L2_COVERS, *cluster));
        let apart = |((part, cluster), (next_part, next)): ((u64, usize), (u64, usize))| {
            part == next_part && next != cluster + 1
        };
        Usage {
            end: last.map_or(0, |last| (last as u64 + 1) * Qcow2::CLUSTER),
            allocated: self.active.data.len() as u64,
            fragmented: data().zip(data().skip(1)).filter(|pair| apart(*pair)).count() as u64,
        }
    }

    /// Length of the file in bytes, of an image of this virtual size.
    pub(super) fn length(&self, size: u64) -> u64 {
        self.length.max(FIRST_L1 as u64 * Qcow2::CLUSTER + l1_entries(size) * ENTRY)
    }

    /// Bytes of the host's disk that the file takes.
    pub(super) fn on_disk(&self) -> u64 {
        self.clusters.iter().map(|cluster| u64::from(cluster.on_disk) * HOST_BLOCK).sum()
    }

    /// How often something was written to each cluster of the file; none of those that never were.
    pub(super) fn writes(&self) -> impl Iterator<Item = (u64, u64)> {
        let writes = (0..).zip(&self.clusters).map(|(at, cluster)| (at, cluster.writes));
        writes.filter(|(_, writes)| *writes > 0)
    }

    /// A block of the active layer is written: one that is shared with a snapshot goes to a new place.
    pub(super) fn write(&mut self, block: u64) {
        let part = block * Qcow2::CLUSTER / L2_COVERS;
        let before = (self.active.tables.get(&part).copied(), self.active.data.get(&block).copied());
        let table = self.own(before.0);
        self.active.tables.insert(part, table);
        let data = self.own(before.1);
        self.active.data.insert(block, data);
        self.touch(data);
        if before.1 != Some(data) {
            self.touch(table);
        }
        if before.0 != Some(table) {
            self.touch(self.active.l1);
        }
    }

    /// An image is made as big as this: its L1 table moves where it gets longer. Where it gets shorter, what lies beyond
    /// is freed, and the file ends with the last cluster that is used.
    pub(super) fn resize(&mut self, before: u64, size: u64) {
        if l1_entries(size) > self.l1_entries.max(l1_entries(before)) {
            self.move_l1(l1_entries(size));
        }
        if size < before {
            let gone = self.active.data.split_off(&size.div_ceil(Qcow2::CLUSTER));
            gone.into_values().for_each(|cluster| self.release(cluster));
            let used = self.clusters.iter().rposition(|cluster| cluster.users > 0).map_or(0, |last| last + 1);
            self.clusters.truncate(used);
            self.first_free = self.first_free.min(used);
            self.length = used as u64 * Qcow2::CLUSTER;
        }
    }

    /// A snapshot is taken, with so many bytes of a machine's state; `names` are the ids and names of all, with it.
    pub(super) fn take_snapshot<'a>(
        &mut self,
        size: u64,
        vm_state: u64,
        names: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        let state = if vm_state > 0 { self.write_state(size, vm_state) } else { Vec::new() };
        let entries = self.l1_entries.max(l1_entries(size));
        let l1 = self.take(entries * ENTRY);
        let mut layer = Layer { l1, ..self.active.clone() };
        layer.clusters().for_each(|cluster| self.clusters[cluster].users += 1);
        // No block of the disk is as far out as where the state is.
        let far = u64::MAX - state.len() as u64;
        layer.data.extend((far..).zip(state));
        self.snapshots.push(layer);
        self.tell_who_shares();
        self.write_table(names);
        // The disk itself is to have no state: tables that are shared now are not changed but written anew.
        let of_state =
            self.active.tables.range(STATE..).map(|(part, table)| (*part, *table)).collect::<Vec<_>>();
        for (part, table) in of_state.into_iter().take(parts(vm_state) as usize) {
            let own = self.own(Some(table));
            self.active.tables.insert(part, own);
        }
    }

    /// The snapshot of that place is deleted; `names` are the ids and names of those that are left.
    pub(super) fn delete_snapshot<'a>(&mut self, at: usize, names: impl Iterator<Item = (&'a str, &'a str)>) {
        self.write_table(names);
        let layer = self.snapshots.remove(at);
        layer.clusters().for_each(|cluster| self.release(cluster));
        self.release(layer.l1);
        self.tell_who_shares();
    }

    /// The active layer is again as a snapshot has it.
    pub(super) fn revert(&mut self, at: usize) {
        let far = u64::MAX / 2;
        let mut layer = Layer { l1: self.active.l1, ..self.snapshots[at].clone() };
        layer.data.split_off(&far);
        layer.clusters().for_each(|cluster| self.clusters[cluster].users += 1);
        let before = std::mem::replace(&mut self.active, layer);
        before.clusters().for_each(|cluster| self.release(cluster));
    }

    /// The active layer's tables say which clusters no snapshot has.
    fn tell_who_shares(&mut self) {
        let tables: Vec<_> = self.active.tables.values().copied().collect();
        if !tables.is_empty() {
            self.touch(self.active.l1);
        }
        tables.into_iter().for_each(|table| self.touch(table));
    }

    /// The clusters of a machine's state, which lies behind the disk: only its snapshot keeps them.
    fn write_state(&mut self, size: u64, bytes: u64) -> Vec<usize> {
        let needed = l1_entries(size) + parts(bytes);
        let mut entries = self.l1_entries.max(l1_entries(size)).max(1);
        if needed > entries {
            while needed > entries {
                entries = (entries * 3).div_ceil(2);
            }
            self.move_l1(entries);
        }
        for part in STATE..STATE + parts(bytes) {
            let table = self.own(self.active.tables.get(&part).copied());
            self.active.tables.insert(part, table);
        }
        (0..bytes.div_ceil(Qcow2::CLUSTER)).map(|_| self.take(Qcow2::CLUSTER)).collect()
    }

    fn move_l1(&mut self, entries: u64) {
        self.l1_entries = entries;
        let l1 = self.take(entries * ENTRY);
        let before = std::mem::replace(&mut self.active.l1, l1);
        self.touch(HEADER);
        self.release(before);
    }

    /// The table is written anew, and then the old one freed.
    fn write_table<'a>(&mut self, names: impl Iterator<Item = (&'a str, &'a str)>) {
        let bytes = names.fold(0_u64, |bytes, (id, name)| {
            bytes.next_multiple_of(8) + SNAPSHOT + (id.len() + name.len()) as u64
        });
        let table = (bytes > 0).then(|| self.take(bytes));
        self.touch(HEADER);
        if let Some(before) = std::mem::replace(&mut self.table, table) {
            self.release(before);
        }
    }

    /// The cluster itself if only one layer uses it, else a new one.
    fn own(&mut self, present: Option<usize>) -> usize {
        match present {
            Some(cluster) if self.clusters[cluster].users == 1 => cluster,
            Some(shared) => {
                let new = self.take(Qcow2::CLUSTER);
                self.release(shared);
                new
            }
            None => self.take(Qcow2::CLUSTER),
        }
    }

    /// Takes the first free cluster and writes so many bytes to it.
    fn take(&mut self, bytes: u64) -> usize {
        let free = self.clusters[self.first_free..].iter().position(|cluster| cluster.users == 0);
        let at = free.map_or(self.clusters.len(), |ahead| self.first_free + ahead);
        if free.is_none() {
            self.clusters.push(Cluster::default());
        }
        self.first_free = at + 1;
        let cluster = &mut self.clusters[at];
        cluster.users = 1;
        cluster.writes += 1;
        cluster.on_disk = cluster.on_disk.max(bytes.div_ceil(HOST_BLOCK) as u32);
        self.length = self.length.max(at as u64 * Qcow2::CLUSTER + bytes);
        self.touch(REFCOUNTS);
        at
    }

    /// Something is written to a cluster that is there already.
    fn touch(&mut self, cluster: usize) {
        if let Some(cluster) = self.clusters.get_mut(cluster) {
            cluster.writes += 1;
        }
    }

    fn release(&mut self, cluster: usize) {
        self.touch(REFCOUNTS);
        self.clusters[cluster].users -= 1;
        if self.clusters[cluster].users == 0 {
            self.first_free = self.first_free.min(cluster);
        }
    }
}

/// Entries of the L1 table of an image of this virtual size.
fn l1_entries(size: u64) -> u64 {
    parts(size)
}

/// How many L2 tables so many bytes take.
fn parts(bytes: u64) -> u64 {
    bytes.div_ceil(L2_COVERS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::host::Image;

    const MIB: u64 = 1 << 20;

    fn snapshot(image: &mut Image, name: &str) {
        image.as_qcow2_mut().unwrap().take_snapshot(name, 0, Duration::ZERO, Duration::ZERO);
    }

    fn delete(image: &mut Image, id: &str) {
        image.as_qcow2_mut().unwrap().delete_snapshot(id).unwrap();
    }

    /// All numbers are from real QEMUs, the same of each release.
    #[test]
    fn a_file_is_as_long_as_that_of_a_real_image() {
        let mut image = Image::qcow2(16 * MIB);
        assert_eq!((image.file_length(), image.on_disk()), (196_616, 200_704));
        let lengths = ["s0", "s1", "s2", "s3"].map(|name| {
            snapshot(&mut image, name);
            image.file_length()
        });
        assert_eq!(lengths, [327_747, 458_891, 524_499, 590_107]);
        image.write(0, 1);
        assert_eq!(image.file_length(), 720_896);
        (16..20).for_each(|block| image.write(block, 1));
        assert_eq!(image.file_length(), 983_040);
        snapshot(&mut image, "x");
        assert_eq!(image.file_length(), 1_048_930);
        image.write(16, 2);
        assert_eq!(image.file_length(), 1_179_648);
        delete(&mut image, "5");
        assert_eq!(image.file_length(), 1_179_931);
        delete(&mut image, "2");
        assert_eq!(image.file_length(), 1_179_931);
    }

    #[test]
    fn a_bigger_disk_has_a_longer_table() {
        assert_eq!(Image::qcow2(1024 * MIB).file_length(), 196_624);
    }

    #[test]
    fn a_disk_takes_what_was_written_to_it() {
        let mut image = Image::qcow2(16 * MIB);
        (0..128).for_each(|block| image.write(block, 1));
        assert_eq!((image.file_length(), image.on_disk()), (8_716_288, 8_654_848));
        image.write(0, 2);
        assert_eq!(image.file_length(), 8_716_288);
    }

    /// All numbers are from real QEMUs, the same of 5.2 and 10.0.
    #[test]
    fn a_machine_state_leaves_a_table_of_its_own_to_the_disk() {
        for (clusters, lengths) in [(8, [1_048_576, 1_638_539]), (12, [1_310_720, 2_162_827])] {
            let mut image = Image::qcow2(2 * MIB);
            let saved = ["s1", "s2"].map(|name| {
                let qcow2 = image.as_qcow2_mut().unwrap();
                qcow2.take_snapshot(name, clusters * 65_536 - 9, Duration::ZERO, Duration::ZERO);
                image.file_length()
            });
            assert_eq!(saved, lengths);
        }
    }

    #[test]
    fn what_a_snapshot_freed_is_taken_again() {
        let mut image = Image::qcow2(16 * MIB);
        image.write(0, 1);
        snapshot(&mut image, "a");
        image.write(0, 2);
        delete(&mut image, "1");
        let length = image.file_length();
        (1..4).for_each(|block| image.write(block, 1));
        assert_eq!(image.file_length(), length);
    }

    #[test]
    fn a_revert_shares_what_the_snapshot_has() {
        let mut image = Image::qcow2(16 * MIB);
        image.write(0, 1);
        snapshot(&mut image, "a");
        image.write(0, 2);
        let qcow2 = image.as_qcow2_mut().unwrap();
        qcow2.revert("1").unwrap();
        let length = image.file_length();
        image.write(0, 3);
        assert_eq!(image.file_length(), length, "the overwritten cluster is free");
        assert_eq!(image.blocks().len(), 1);
    }
}
