//! What is asked about images: the devices that they are in, the nodes that have them open, their bitmaps and snapshots.

use serde::{Deserialize, Serialize};

/// Asks for the devices and what is in them.
#[derive(Debug, Serialize)]
pub struct QueryBlock {}

/// A guest's drive.
#[derive(Debug, Clone, Deserialize)]
pub struct BlockDevice {
    /// The device's path in QEMU's object tree.
    pub qdev: Option<String>,
    /// Whether its medium can be taken out: a CD's or a floppy's.
    #[serde(default)]
    pub removable: bool,
    /// The node it uses; none for an empty drive.
    pub inserted: Option<BlockNode>,
}

/// Asks for every node that has a name.
#[derive(Debug, Serialize)]
pub struct QueryNamedBlockNodes {
    /// Leave out each node's backing chain.
    pub flat: bool,
}

/// A node of the block graph.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockNode {
    /// Its name; releases before 11.1 may leave it out.
    pub node_name: Option<String>,
    /// The block driver: `qcow2`, `raw`, `file` ...
    pub drv: String,
    /// Whether it is opened read-only.
    pub ro: bool,
    /// Whether its image is this machine's to write to; releases before 10.0 do not say.
    #[serde(default)]
    pub active: Option<bool>,
    /// The image behind it.
    pub image: ImageInfo,
    /// What keeps account of writes to it; the member is absent if nothing does.
    #[serde(default)]
    pub dirty_bitmaps: Vec<DirtyBitmap>,
}

impl BlockNode {
    /// Whether it is a file or a device itself, and no image in one.
    pub fn is_protocol(&self) -> bool {
        matches!(self.drv.as_str(), "file" | "host_device")
    }
}

/// What keeps account of the writes to a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DirtyBitmap {
    /// Its name; one that a job has of its own has none.
    pub name: Option<String>,
    /// How many bytes one bit stands for.
    pub granularity: u32,
    /// Whether it takes account of writes now.
    pub recording: bool,
    /// Whether it is kept in the image when QEMU ends.
    #[serde(default)]
    pub persistent: bool,
    /// Whether it was lost for not having been kept.
    #[serde(default)]
    pub inconsistent: bool,
    /// Whether something works with it: a backup, an export.
    #[serde(default)]
    pub busy: bool,
}

impl DirtyBitmap {
    /// Whether it can be read and changed.
    pub fn is_usable(&self) -> bool {
        !self.inconsistent && !self.busy
    }

    /// Whether the image above must go on with it: who made it counts on it.
    pub fn is_carried(&self) -> bool {
        self.name.is_some() && self.persistent && self.recording && !self.inconsistent
    }
}

/// What is known of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageInfo {
    /// Its file, or a `json:` description of it.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// What the guest sees, in bytes.
    pub virtual_size: u64,
    /// Internal snapshots; the member is absent if there are none.
    #[serde(default)]
    pub snapshots: Vec<InternalSnapshot>,
    /// The next image of the chain. Absent with `flat`.
    pub backing_image: Option<Box<ImageInfo>>,
    /// Bytes of a cluster, of an image that has such.
    pub cluster_size: Option<u64>,
    /// What only images of its format have.
    pub format_specific: Option<FormatSpecific>,
}

/// What only images of one format have: QAPI's `ImageInfoSpecific`, as far as it is of use.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct FormatSpecific {
    /// That of a qcow2 image.
    #[serde(default)]
    pub data: Qcow2Specific,
}

/// What only a qcow2 image has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Qcow2Specific {
    /// Whether parts of a cluster are kept account of.
    #[serde(default)]
    pub extended_l2: bool,
    /// The file that its data are in, if they are not in its own; as its header names it.
    #[serde(default)]
    pub data_file: Option<String>,
}

/// An internal snapshot in an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InternalSnapshot {
    /// The number that the image gave it.
    pub id: String,
    /// Its name, the tag.
    pub name: String,
    /// Bytes of machine state in this image; 0 where only the disk was kept.
    pub vm_state_size: u64,
}
