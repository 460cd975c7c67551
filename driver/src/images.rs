//! What the images of a machine that is off say: read from their headers by `qemu-img`, and told as the running machine would tell.
//!
//! That nobody else has them is looked at too, image by image, and the tool's own locks say it: a machine that runs after all, started
//! by whomever, is a refusal before anything is touched. What is behind an image is what its header states, whatever the machine's
//! description says of it.

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    commands::{DirtyBitmap, InternalSnapshot, Status},
    domain::Nvram,
    domain_xml::DomainXml,
    env::{Env, FileKind},
    error::OffRefusal,
    mark,
    observed::{Missing, NVRAM, Observed, ObservedDisk, ObservedImage, ObservedNode},
    qemu_img::{BitmapInfo, Clusters, ImageInfo, QemuImg, ToolError},
};

/// No chain is longer.
const DEEPEST: usize = 200;

/// Reads the images of all disks. Those that are no files or devices of the host are left out. So are those that cannot be read and
/// are not `needed`: who goes back to older images needs none of the newest.
///
/// # Errors
/// [`OffRefusal::ImageInUse`], [`OffRefusal::ImageUnreadable`].
pub async fn observe<E: Env>(
    tool: &QemuImg<E>,
    domain: &DomainXml,
    needed: impl Fn(&str) -> bool,
) -> Result<Observed, OffRefusal> {
    let (mut disks, mut missing) = (Vec::new(), Vec::new());
    for (place, disk) in domain.disks().enumerate() {
        let Some(path) = disk.path().filter(|_| disk.is_on_the_host()) else { continue };
        let writes = !disk.read_only() && !disk.shareable();
        match chain(tool, path, disk.format(), writes).await {
            Ok(images) => disks.push(observed(disk.target, place, disk.read_only(), &images)),
            Err(error) if error.is_locked() => {
                return Err(OffRefusal::ImageInUse { disk: disk.target.to_owned(), why: mark::told(&error) });
            }
            Err(error) if needed(disk.target) => {
                return Err(OffRefusal::ImageUnreadable {
                    disk: disk.target.to_owned(),
                    why: mark::told(&error),
                });
            }
            Err(_) => missing.push(Missing { target: disk.target.to_owned(), device: None, sought: None }),
        }
    }
    let nvram = match domain.nvram().filter(Nvram::keeps_snapshots) {
        Some(nvram) => variables(tool, &nvram, domain.disks().count(), needed(NVRAM)).await?,
        None => None,
    };
    let undescribed = Vec::new();
    Ok(Observed { status: Status::off(), disks, missing, undescribed, nvram })
}

/// The image with the firmware's variables. One that is not there takes no part, and the plan says so: it may be made when the
/// machine is started for the first time.
async fn variables<E: Env>(
    tool: &QemuImg<E>,
    nvram: &Nvram,
    place: usize,
    needed: bool,
) -> Result<Option<ObservedDisk>, OffRefusal> {
    match chain(tool, &nvram.file, &nvram.format, true).await {
        Ok(images) => Ok(Some(observed(NVRAM, place, false, &images))),
        Err(error) if error.is_locked() => {
            Err(OffRefusal::ImageInUse { disk: NVRAM.to_owned(), why: mark::told(&error) })
        }
        // What it holds would be passed over in silence.
        Err(error) if needed && !matches!(tool.env.file_kind(&nvram.file).await, Ok(FileKind::Absent)) => {
            Err(OffRefusal::ImageUnreadable { disk: NVRAM.to_owned(), why: mark::told(&error) })
        }
        Err(_) => Ok(None),
    }
}

/// An image and what its header says.
struct Image {
    file: Utf8PathBuf,
    info: ImageInfo,
}

/// The images of a disk, topmost first. `writes`: who uses the disk has its topmost image alone.
async fn chain<E: Env>(
    tool: &QemuImg<E>,
    path: &Utf8Path,
    format: &str,
    writes: bool,
) -> Result<Vec<Image>, ToolError> {
    let mut chain: Vec<Image> = Vec::new();
    let mut next = Some((path.to_owned(), format.to_owned()));
    while let Some((file, format)) = next.take() {
        let nonsense = |why: String| ToolError::Nonsense { command: "info", file: file.clone(), why };
        if chain.len() == DEEPEST {
            return Err(nonsense("the chain of images behind it has no end".into()));
        }
        let info = tool.info(&file, &format).await?;
        if chain.is_empty() && format == "raw" && writes {
            tool.raw_is_free(&file).await?;
        }
        if let Some(behind) = &info.full_backing_filename {
            let format = info.backing_filename_format.clone();
            let format = format.ok_or_else(|| {
                nonsense(format!(
                    "it does not state the format of its backing file {behind}: `qemu-img rebase -u -F` can write it there"
                ))
            })?;
            next = Some((behind.into(), format));
        }
        chain.push(Image { file, info });
    }
    Ok(chain)
}

fn observed(target: &str, place: usize, readonly: bool, images: &[Image]) -> ObservedDisk {
    let Image { file, info } = &images[0];
    ObservedDisk {
        target: target.to_owned(),
        place,
        node: String::new(),
        format: info.format.clone(),
        file: file.clone(),
        size: info.virtual_size,
        readonly,
        given_away: false,
        snapshots: snapshots(info),
        depth: images.len(),
        chain: images.iter().map(observed_image).collect(),
        busy: None,
        bitmaps: Vec::new(),
        transient: false,
    }
}

/// An image that nobody has open stands in the chain as if one node had it: it is one disk's alone.
fn observed_image(image: &Image) -> ObservedImage {
    let format = image.info.format.clone();
    let bitmaps = image.info.bitmaps().map(bitmap).collect();
    let node = ObservedNode { name: String::new(), format: format.clone(), bitmaps };
    let extended_l2 = image.info.format_specific.as_ref().is_some_and(|specific| specific.data.extended_l2);
    ObservedImage {
        file: image.file.clone(),
        format,
        snapshots: snapshots(&image.info),
        data_file: image.info.data_file(&image.file),
        clusters: Clusters::of(&image.info.format, image.info.cluster_size, extended_l2),
        nodes: vec![node],
    }
}

fn bitmap(kept: &BitmapInfo) -> DirtyBitmap {
    let has = |wanted: &str| kept.flags.iter().any(|flag| flag == wanted);
    DirtyBitmap {
        name: Some(kept.name.clone()),
        granularity: kept.granularity,
        recording: has("auto"),
        persistent: true,
        inconsistent: has("in-use"),
        busy: false,
    }
}

fn snapshots(info: &ImageInfo) -> Vec<InternalSnapshot> {
    let held = info.snapshots.iter().map(|known| InternalSnapshot {
        id: known.id.clone(),
        name: known.name.clone(),
        vm_state_size: known.vm_state_size,
    });
    held.collect()
}
