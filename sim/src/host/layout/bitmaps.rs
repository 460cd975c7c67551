//! The clusters of the dirty bitmaps that are stored in an image.
//!
//! ```text
//! each bitmap: its data, where something is dirty, and then its table
//! all of them: the directory
//! ```
//! What is stored anew is written in full before anything of the old is freed. Source: measured on all releases, and the
//! format's specification.

use super::{ENTRY, Layout};
use crate::host::{Qcow2, StoredBitmap};

/// Bytes of a bitmap in the directory, but for its name.
const BITMAP: u64 = 24;

/// Granules that a cluster of a bitmap's data stands for: a bit each.
const GRANULES: u64 = Qcow2::CLUSTER * 8;

/// Clusters of the stored bitmaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bitmaps {
    directory: Option<usize>,
    /// Of each bitmap, in the order of the directory.
    clusters: Vec<Vec<usize>>,
}

impl Layout {
    /// All bitmaps of an image of this virtual size are stored, in place of those that were.
    pub(in crate::host) fn store_bitmaps(&mut self, size: u64, bitmaps: &[StoredBitmap]) {
        let clusters = bitmaps.iter().map(|bitmap| self.write_bitmap(size, bitmap)).collect();
        self.write_directory(bitmaps);
        for cluster in std::mem::replace(&mut self.bitmaps.clusters, clusters).into_iter().flatten() {
            self.release(cluster);
        }
    }

    /// The bitmap of that place is removed; `left` are the others.
    pub(in crate::host) fn remove_bitmap(&mut self, at: usize, left: &[StoredBitmap]) {
        self.write_directory(left);
        for cluster in self.bitmaps.clusters.remove(at) {
            self.release(cluster);
        }
    }

    fn write_bitmap(&mut self, size: u64, bitmap: &StoredBitmap) -> Vec<usize> {
        let mut pieces: Vec<_> = bitmap.dirty.iter().map(|granule| granule / GRANULES).collect();
        pieces.dedup();
        let mut clusters: Vec<_> = pieces.iter().map(|_| self.take(Qcow2::CLUSTER)).collect();
        clusters.push(self.take(size.div_ceil(bitmap.granularity * GRANULES) * ENTRY));
        clusters
    }

    fn write_directory(&mut self, bitmaps: &[StoredBitmap]) {
        let bytes: u64 =
            bitmaps.iter().map(|bitmap| (BITMAP + bitmap.name.len() as u64).next_multiple_of(8)).sum();
        let directory = (bytes > 0).then(|| self.take(bytes));
        if let Some(before) = std::mem::replace(&mut self.bitmaps.directory, directory) {
            self.release(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::host::{Image, Qcow2, StoredBitmap};

    fn bitmap(name: &str, granularity: u64, dirty: impl IntoIterator<Item = u64>) -> StoredBitmap {
        StoredBitmap { name: name.into(), granularity, recording: true, dirty: BTreeSet::from_iter(dirty) }
    }

    fn store(image: &mut Image, bitmaps: Vec<StoredBitmap>) -> u64 {
        image.as_qcow2_mut().unwrap().store_bitmaps(bitmaps);
        image.file_length().next_multiple_of(512)
    }

    fn clean(name: &str) -> StoredBitmap {
        bitmap(name, Qcow2::CLUSTER, [])
    }

    /// All numbers are from real QEMUs, the same of each release.
    #[test]
    fn bitmaps_that_are_stored_again_go_to_where_they_were_before_the_last_time() {
        let mut image = Image::qcow2(16 << 20);
        assert_eq!(store(&mut image, vec![clean("x")]), 328_192);
        let both = || vec![clean("x"), clean("yyyyyyyyyyyyyyyyyy")];
        assert_eq!(store(&mut image, both()), 524_800);
        assert_eq!(store(&mut image, both()), 590_336);
        assert_eq!(store(&mut image, both()), 590_336);
    }

    /// All numbers are from real QEMUs, the same of each release.
    #[test]
    fn what_is_dirty_takes_clusters_that_are_free_when_the_bitmap_is_removed() {
        let mut image = Image::qcow2(16 << 20);
        image.write(0, 1);
        assert_eq!(store(&mut image, vec![bitmap("x", Qcow2::CLUSTER, [0])]), 524_800);
        image.write(16, 1);
        image.write(32, 1);
        let both = vec![bitmap("x", Qcow2::CLUSTER, [0, 16, 32]), bitmap("z", Qcow2::CLUSTER, [32])];
        assert_eq!(store(&mut image, both), 983_552);
        let qcow2 = image.as_qcow2_mut().unwrap();
        qcow2.remove_bitmap("z");
        qcow2.remove_bitmap("x");
        image.write(48, 1);
        image.write(64, 1);
        assert_eq!(image.file_length().next_multiple_of(512), 983_552);
    }

    /// The number is from real QEMUs, the same of each release.
    #[test]
    fn a_bitmap_of_fine_granules_has_more_than_one_cluster() {
        let mut image = Image::qcow2(512 << 20);
        for mib in [0, 300, 400] {
            image.write(mib * 16, 1);
        }
        let granules = |mib: u64| mib * 2048..mib * 2048 + 128;
        let fine = bitmap("x", 512, granules(0).chain(granules(300)).chain(granules(400)));
        assert_eq!(store(&mut image, vec![bitmap("l", 4 << 20, [100]), fine]), 852_480);
    }
}
