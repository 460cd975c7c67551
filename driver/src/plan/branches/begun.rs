//! The rest of a deletion that was begun in a chain, downwards, and that the machine has left for another branch meanwhile.
//!
//! ```text
//! base <- one <- two   the overlay `two` was being merged into `one`, and
//!     \-- three        the machine goes on in `three`
//!
//! not merged     `two` reads as before, whatever was copied already: what is below goes up into it, as of any other branch
//! merged         what stood on `two` stands on `one` now, and `two` is worth nothing; where nothing does, neither is `one`
//! ```
//!
//! Which of the two is so, the record says: a revert writes down of each disk that it finds merged that it is.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Frozen, external};
use crate::{
    domain_snapshot::{DomainSnapshot, SnapshotDisk, SourceType},
    domain_xml::DomainXml,
    error::{ImageRefusal, Refusal},
    plan::{
        Facts,
        delete::check_no_stranger,
        merge::{self, Note},
    },
    step::RemoveImage,
    tree::SnapshotTree,
};

/// What is left of the disks that are merged.
#[derive(Default)]
pub(super) struct Rest<'a> {
    /// The images below that nothing stands on any more: they go with their overlays.
    pub(super) frozen: Vec<Frozen<'a>>,
    /// The overlays of those that something stands on.
    pub(super) overlays: Vec<RemoveImage>,
}

/// Finds what is left of the disks that are merged.
pub(super) fn rest<'a>(
    snapshot: &'a DomainSnapshot,
    tree: &SnapshotTree,
    facts: Facts<'a>,
) -> Result<Rest<'a>, Refusal> {
    let mut rest = Rest::default();
    let merged = snapshot.disks.iter().filter_map(|part| Some((part, merge::note(part)?)));
    for (part, note) in merged.filter(|(_, note)| note.done) {
        let into = Utf8PathBuf::from(note.into);
        for file in [note.file, &into] {
            check_no_stranger(&part.name, file, facts)?;
        }
        let device = part.source_type != SourceType::File;
        let made = was_made(snapshot, &part.name, tree);
        if !made || is_needed(&into, snapshot, tree, &note, facts)? {
            let (file, merged_before) = (note.file.to_owned(), note.ran);
            rest.overlays.push(RemoveImage { file, device, merged_before });
            continue;
        }
        let left = (!device && is_there(note.file, facts)).then_some(note.file);
        let frozen = Frozen {
            target: &part.name,
            device: is_device(snapshot, part),
            file: into,
            below: None,
            live: None,
            aside: Vec::new(),
            left,
        };
        rest.frozen.push(frozen);
    }
    Ok(rest)
}

/// Whether the snapshot before has given the disk an overlay: the image that the machine was given at first is not removed.
fn was_made(snapshot: &DomainSnapshot, target: &str, tree: &SnapshotTree) -> bool {
    let parent = snapshot.parent.as_deref().and_then(|parent| tree.get(parent));
    parent.is_some_and(|parent| external(parent).any(|part| part.name == target))
}

/// Whether the machine, another snapshot or an image stands on the one below.
fn is_needed(
    into: &Utf8Path,
    snapshot: &DomainSnapshot,
    tree: &SnapshotTree,
    note: &Note<'_>,
    facts: Facts<'_>,
) -> Result<bool, Refusal> {
    if facts.observed.disks.iter().flat_map(|disk| &disk.chain).any(|image| image.file == into) {
        return Ok(true);
    }
    let mut others = tree.clone();
    others.remove(snapshot.name.as_deref().unwrap_or_default());
    if let Some(mut parent) = snapshot.parent.as_deref().and_then(|parent| others.get(parent)).cloned() {
        // In which overlay a branch began that nobody is in is of no use.
        parent.disks.iter_mut().filter(|part| part.path() == Some(into)).for_each(|part| part.source = None);
        others.insert(parent);
    }
    if merge::is_named(&others, into) {
        return Ok(true);
    }
    let images = facts.beside.into_iter().flat_map(|beside| &beside.images);
    for (path, found) in images.filter(|(path, _)| *path != note.file) {
        let unreadable = |why: &String| ImageRefusal::Unreadable { file: path.clone(), why: why.clone() };
        let info = found.as_ref().map_err(unreadable)?;
        if info.backing_file().as_deref() == Some(into) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_there(file: &Utf8Path, facts: Facts<'_>) -> bool {
    facts.beside.is_some_and(|beside| beside.images.contains_key(file))
}

/// Whether the image that the disk was in when the snapshot was taken is a block device.
fn is_device(snapshot: &DomainSnapshot, part: &SnapshotDisk) -> bool {
    let document = snapshot.domain.clone().and_then(|domain| DomainXml::of(domain).ok());
    let disk = document.as_ref().and_then(|document| document.disk(&part.name));
    disk.is_none_or(|disk| disk.source_type() != Some(SourceType::File))
}
