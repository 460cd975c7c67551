//! What lies aside that a revert goes back to: what of it is to be read, and what was found.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;

use super::{has_memory, is_external, location, overlaid};
use crate::{
    domain_snapshot::{Location, SourceType},
    domain_xml::DomainXml,
    launch::chain::Chains,
    plan::Kept,
    request::Request,
    save_image::SaveImage,
    tree::SnapshotTree,
};

/// What is read before it can be planned how to go back.
#[derive(Debug, Clone, PartialEq)]
pub struct GoingBack {
    /// The machine of the snapshot, with the disks alone that get new overlays, each with the image under that.
    pub domain: DomainXml,
    /// The file with its memory.
    pub memory: Option<Utf8PathBuf>,
    /// The images of the disks that the caller has put back.
    pub left_to_caller: Vec<Utf8PathBuf>,
}

/// What lies aside that a revert goes back to, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Aside {
    /// `qemu-img`.
    pub tool: Utf8PathBuf,
    /// The images behind those under the new overlays, by target; or why they cannot be read.
    pub chains: Result<Chains, String>,
    /// What the file with the memory says; or why it cannot be used.
    pub memory: Option<Result<SaveImage, String>>,
    /// Why overlays that an earlier run of the machine has left stay: [`crate::plan::overlays_found`] says which may be there.
    pub kept: Kept,
}

/// Whether a request may load a machine's memory into a QEMU that is started for it.
pub fn loads_memory(request: &Request, tree: Option<&SnapshotTree>) -> bool {
    let Request::Revert(revert) = request else { return false };
    tree.and_then(|tree| tree.get(revert.name.as_str())).is_some_and(has_memory)
}

/// Whether a request cannot do without the images that a disk of a machine that is off is in now: whoever goes back to older ones needs
/// none of the newest, where the snapshot is outside of the images and the disk takes part.
pub fn needs_images(request: &Request, tree: Option<&SnapshotTree>, target: &str) -> bool {
    let Request::Revert(revert) = request else { return true };
    let record = tree.and_then(|tree| tree.get(revert.name.as_str()));
    let takes_part = |record| matches!(location(record, target), Location::External | Location::Manual);
    record.is_some_and(|record| !is_external(record) || !takes_part(record))
}

/// What is to be read for a request; nothing if it does not go back to what a record describes.
pub fn going_back(request: &Request, tree: Option<&SnapshotTree>) -> Option<GoingBack> {
    let Request::Revert(revert) = request else { return None };
    let record = tree?.get(revert.name.as_str())?;
    let domain = DomainXml::of(record.domain.clone()?).ok()?;
    let aside = overlaid(record, &domain).filter(|_| is_external(record));
    let kept: BTreeSet<String> = aside.map(|disk| disk.target.to_owned()).collect();
    let manual = domain.disks().filter(|disk| location(record, disk.target) == Location::Manual);
    let manual = manual.filter(|disk| disk.source_type() == Some(SourceType::File));
    Some(GoingBack {
        left_to_caller: manual.filter_map(|disk| Some(disk.path()?.to_owned())).collect(),
        domain: domain.with_disks(|target| kept.contains(target)),
        memory: record.memory.file.clone().filter(|_| record.memory.location == Some(Location::External)),
    })
}
