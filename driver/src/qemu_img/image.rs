//! Images as the tool makes them and tells of them.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

/// The image behind another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Its file.
    pub file: Utf8PathBuf,
    /// Its format: `qcow2`, `raw`.
    pub format: String,
}

/// How a qcow2 image is laid out, where that is not as QEMU does it by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Clusters {
    /// Bytes of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Whether parts of a cluster are kept account of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extended_l2: bool,
}

impl Clusters {
    /// Bytes of a cluster, if nothing else is asked for. All releases do it so.
    const QEMUS_OWN: u64 = 65_536;

    /// Those of an image of this format, of which that is told.
    pub fn of(format: &str, size: Option<u64>, extended_l2: bool) -> Self {
        let told = size.filter(|size| format == "qcow2" && *size != Self::QEMUS_OWN);
        Self { size: told, extended_l2: extended_l2 && format == "qcow2" }
    }

    /// Whether they are as QEMU does it by itself.
    pub fn are_qemus_own(&self) -> bool {
        *self == Self::default()
    }
}

/// A qcow2 image to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// Its file. What is there is overwritten, unless a machine has it open.
    pub file: Utf8PathBuf,
    /// Virtual size in bytes; as big as the backing image if it is not stated.
    pub size: Option<u64>,
    /// How it is laid out.
    pub clusters: Clusters,
    /// What it is on top of.
    pub backing: Option<Backing>,
}

/// What an image's header says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageInfo {
    /// The name by which it was opened.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// Virtual size in bytes.
    pub virtual_size: u64,
    /// Bytes of the host's disk that it takes.
    #[serde(default)]
    pub actual_size: Option<u64>,
    /// Its backing file, as the header names it.
    #[serde(default)]
    pub backing_filename: Option<String>,
    /// The name that leads there.
    #[serde(default)]
    pub full_backing_filename: Option<String>,
    /// The format of that, if the header states it.
    #[serde(default)]
    pub backing_filename_format: Option<String>,
    /// Its internal snapshots, oldest first.
    #[serde(default)]
    pub snapshots: Vec<SnapshotInfo>,
    /// Bytes of a cluster, if it has such.
    #[serde(default)]
    pub cluster_size: Option<u64>,
    /// What only images of its format have.
    #[serde(default)]
    pub format_specific: Option<FormatSpecific>,
}

/// What only images of one format have: QAPI's `ImageInfoSpecific`, as far as it is of use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct FormatSpecific {
    /// That of a qcow2 image.
    #[serde(default)]
    pub data: Qcow2Specific,
}

/// What only a qcow2 image has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Qcow2Specific {
    /// Whether parts of a cluster are kept account of.
    #[serde(default)]
    pub extended_l2: bool,
    /// The file that its data are in, if they are not in its own; as its header names it.
    #[serde(default)]
    pub data_file: Option<String>,
    /// The bitmaps that are kept in it.
    #[serde(default)]
    pub bitmaps: Vec<BitmapInfo>,
}

/// A bitmap that is kept in an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BitmapInfo {
    /// Its name.
    pub name: String,
    /// How many bytes one bit stands for.
    pub granularity: u32,
    /// `auto`: it takes account of writes when the image is in use. `in-use`: it was lost for not having been kept.
    pub flags: Vec<String>,
}

impl ImageInfo {
    /// The bitmaps that are kept in it.
    pub fn bitmaps(&self) -> impl Iterator<Item = &BitmapInfo> {
        self.format_specific.iter().flat_map(|specific| &specific.data.bitmaps)
    }
}

impl ImageInfo {
    /// The file that the data of the image at `file` are in, if they are not in its own.
    pub fn data_file(&self, file: &Utf8Path) -> Option<Utf8PathBuf> {
        data_file(file, self.format_specific.as_ref()?.data.data_file.as_deref()?)
    }

    /// The file behind it.
    pub fn backing_file(&self) -> Option<Utf8PathBuf> {
        let name = self.full_backing_filename.as_ref().or(self.backing_filename.as_ref())?;
        Some(crate::observed::file_of(name))
    }

    /// The image behind it, if there is one.
    ///
    /// # Errors
    /// Why it is not known what that is.
    pub fn backing(&self) -> Result<Option<Backing>, String> {
        let Some(file) = self.backing_file() else { return Ok(None) };
        let format = self.backing_filename_format.clone();
        let format = format.ok_or_else(|| format!("it does not say the format of `{file}` below it"))?;
        Ok(Some(Backing { file, format }))
    }
}

/// The file that a header names for an image's data: beside the image, unless the name begins at the root.
pub(crate) fn data_file(image: &Utf8Path, name: &str) -> Option<Utf8PathBuf> {
    Some(image.parent()?.join(crate::observed::file_of(name)))
}

/// An internal snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotInfo {
    /// A number that no other snapshot of the image has.
    pub id: String,
    /// Its name; the tool lets several have one.
    pub name: String,
    /// Length of the machine's state in bytes; 0 without one.
    pub vm_state_size: u64,
    /// When it was taken: seconds since the Unix epoch.
    pub date_sec: u64,
    /// How long the guest had run, in seconds.
    pub vm_clock_sec: u64,
}
