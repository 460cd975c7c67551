//! What is left of the disks that a snapshot has left out, or that the caller takes, when it is deleted.
//!
//! ```text
//! base <- m1 (m2, the caller's)         gone back to m1: the machine is in m1-2, and m1 stays for the caller to put m2 back in
//!     \\- m1-2                        delete m2: nobody goes back there any more
//! ```
//! What the caller keeps is the caller's. But the overlay that the disk was in then, the driver has made, for a snapshot before: it goes
//! once nothing else leads to it, unless it holds an internal snapshot, which may be what the caller has kept. So does that of a disk that
//! was left out, which the record has named until then. An image that no snapshot has made is named when it stays.

use camino::{Utf8Path, Utf8PathBuf};

use super::check_no_stranger;
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk},
    kept::WhyKept,
    plan::{Facts, merge},
    step::{DropOverlay, KeepImage, Step},
    tree::{SnapshotTree, settle_current},
};

/// The disks that were left out or that the caller took, each with the image that it was in.
pub(super) fn images(snapshot: &DomainSnapshot) -> impl Iterator<Item = (&str, Utf8PathBuf)> {
    let is_left_out = |part: &&SnapshotDisk| {
        matches!(part.location, Some(Location::Manual | Location::No)) && !part.delete_in_progress
    };
    let parts = snapshot.disks.iter().filter(is_left_out);
    parts.filter_map(|part| Some((part.name.as_str(), merge::source(snapshot, &part.name)?)))
}

/// What becomes of the images that only those parts of a snapshot that is gone led to. `tree` is what the records say then, and says no more that
/// a disk went on there.
pub(in crate::plan) fn left(
    snapshot: &DomainSnapshot,
    tree: &mut SnapshotTree,
    facts: Facts<'_>,
) -> Vec<Step> {
    let mut left = Vec::new();
    for (target, file) in images(snapshot) {
        if is_needed(target, &file, tree, facts) {
            continue;
        }
        if !is_overlay(target, &file, facts) {
            let why = if facts.has(target) { WhyKept::Unrecorded } else { WhyKept::NoPart };
            left.push(KeepImage { file, why: why(target.to_owned()) }.into());
            continue;
        }
        tree.lose(target, &file, &[]);
        let program = facts.off.map(|off| off.tool).or(facts.beside.map(|beside| &*beside.tool));
        let program = program.unwrap_or(Utf8Path::new("qemu-img")).to_owned();
        left.push(DropOverlay { program, file, above: Vec::new() }.into());
    }
    settle_current(tree);
    left
}

/// Whether a snapshot has given it to the disk.
fn is_overlay(target: &str, file: &Utf8Path, facts: Facts<'_>) -> bool {
    let Some(records) = facts.records else { return false };
    let tree = records.tree;
    let records = tree.topological().into_iter().filter_map(|name| tree.get(name));
    merge::overlays(records).any(|overlay| overlay == (target, file))
}

/// Whether the machine is in it, another snapshot was taken in it, or an image stands on it.
fn is_needed(target: &str, file: &Utf8Path, tree: &SnapshotTree, facts: Facts<'_>) -> bool {
    let mut chains = facts.observed.disks.iter().flat_map(|disk| &disk.chain);
    let mut records = tree.topological().into_iter().filter_map(|name| tree.get(name));
    let is_taken = |record: &DomainSnapshot| {
        let left_out = |part: &SnapshotDisk| part.name == target && part.location == Some(Location::No);
        !record.disks.iter().any(left_out) && merge::source(record, target).as_deref() == Some(file)
    };
    let mut above = facts.beside.into_iter().flat_map(|beside| &beside.recorded);
    chains.any(|image| image.file == file)
        || records.any(is_taken)
        || above.any(|found| found.on == file)
        || check_no_stranger(target, file, facts).is_err()
}
