//! An empty qcow2 image as bytes, small and valid: what a program finds that opens a served machine's file.
//!
//! Version 3, clusters of 64 KiB, refcounts of 16 bits. It holds no data clusters: what the simulated guest writes,
//! and internal snapshots, stay in the simulation.
//!
//! ```text
//!   cluster 0: header, backing format, backing name | 1: refcount table | 2: refcount block | 3...: L1 table
//! ```
//!
//! Source: QEMU's `docs/interop/qcow2`.

use freezeframe_sim::host::{Backing, Blocks, Qcow2};

const CLUSTER: u64 = Qcow2::CLUSTER;

/// What one entry of the L1 table covers, in bytes: a cluster of L2 entries.
const COVERED: u64 = CLUSTER / 8 * CLUSTER;

/// Where the header ends and its extensions begin.
const HEADER: u32 = 104;

/// The longest backing name that QEMU takes, in bytes.
const LONGEST_NAME: usize = 1023;

/// The bytes of an image without data; none if no small one can say it: a size beyond 256 TiB, or a longer backing name
/// than QEMU takes.
pub fn bytes(image: &Qcow2) -> Option<Vec<u8>> {
    let entries = image.size.div_ceil(COVERED).max(1);
    let clusters = 3 + (entries * 8).div_ceil(CLUSTER);
    let name = image.backing.as_ref().map_or("", |backing| backing.file.as_str());
    if clusters > 3 + 64 || name.len() > LONGEST_NAME {
        return None;
    }
    let mut file = vec![0; usize::try_from(clusters * CLUSTER).ok()?];
    let mut put = |at: u64, bytes: &[u8]| {
        let at = at as usize;
        file[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let extensions = extensions(image.backing.as_ref());
    let name_at = u64::from(HEADER) + extensions.len() as u64;
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    if !name.is_empty() {
        put(8, &name_at.to_be_bytes());
        put(16, &(name.len() as u32).to_be_bytes());
    }
    put(20, &16_u32.to_be_bytes()); // a cluster has 2^16 bytes
    put(24, &image.size.to_be_bytes());
    put(36, &(entries as u32).to_be_bytes());
    put(40, &(3 * CLUSTER).to_be_bytes()); // L1 table
    put(48, &CLUSTER.to_be_bytes()); // refcount table
    put(56, &1_u32.to_be_bytes()); // its clusters
    put(96, &4_u32.to_be_bytes()); // a refcount has 2^4 bits
    put(100, &HEADER.to_be_bytes());
    put(u64::from(HEADER), &extensions);
    put(name_at, name.as_bytes());
    put(CLUSTER, &(2 * CLUSTER).to_be_bytes()); // refcount block
    for cluster in 0..clusters {
        put(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    Some(file)
}

/// The same of an image in which something is written: its L1 table says which parts hold data, and what it leads to is not there.
pub fn bytes_with_parts(image: &Qcow2, blocks: &Blocks) -> Option<Vec<u8>> {
    const OWN: u64 = 1 << 63;
    let mut file = bytes(image)?;
    let parts = blocks.keys().map(|block| block * CLUSTER / COVERED);
    for part in parts {
        let entry = usize::try_from(3 * CLUSTER + 8 * part).ok()?;
        let table = OWN | (file.len() as u64).next_multiple_of(CLUSTER);
        file.get_mut(entry..entry + 8)?.copy_from_slice(&table.to_be_bytes());
    }
    Some(file)
}

/// The size of the disk in an image that begins with these bytes; none if it is no qcow2 image.
pub fn size(beginning: &[u8]) -> Option<u64> {
    let size = beginning.strip_prefix(b"QFI\xfb")?.get(20..28)?;
    Some(u64::from_be_bytes(size.try_into().ok()?))
}

/// The header extensions: the backing file's format, if it is stated, and the end.
fn extensions(backing: Option<&Backing>) -> Vec<u8> {
    const BACKING_FORMAT: u32 = 0xe279_2aca;
    let mut bytes = Vec::new();
    if let Some(format) = backing.and_then(|backing| backing.format.as_deref()) {
        bytes.extend(BACKING_FORMAT.to_be_bytes());
        bytes.extend((format.len() as u32).to_be_bytes());
        bytes.extend(format.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes.extend([0; 8]);
    bytes
}
