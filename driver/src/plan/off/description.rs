//! Whether a machine's description names the images that, by its records, it went on in, and as what they are. One that was left
//! behind would be taken for the machine's disks, and what was written since would be lost; one that is opened as of another format
//! is another disk. The same of a machine that runs, which was started from one.
//!
//! ```text
//! the current snapshot has put the disk on an image:   that one, or what stands on it
//! it has not (the disk was left out of it):            none that an overlay of a recorded snapshot stands on
//! the disk is the caller's (manual):                   whatever the caller has put there
//! ```

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk},
    domain_xml::DomainXml,
    env::FileKind,
    error::{ImageRefusal, OffRefusal, OldImage},
    observed::{Observed, ObservedDisk, ObservedImage},
    plan::{
        Facts,
        merge::{self, Note},
    },
    request::{DeleteFlag, Request},
    tree::SnapshotTree,
};

/// Refuses a description that is older than the records, and names every disk of which it is.
pub(in crate::plan) fn check_description(facts: Facts<'_>) -> Result<(), OffRefusal> {
    let Some(records) = facts.records else { return Ok(()) };
    let mut old = left_by_deletions(records.tree, facts)?;
    for disk in &facts.observed.disks {
        let known = old.iter().any(|old| old.disk == disk.target);
        if let Some(recorded) = went_on_in(disk, records.tree).filter(|_| !known) {
            old.push(OldImage { disk: disk.target.clone(), file: disk.file.clone(), recorded });
        }
    }
    for old in &old {
        check_advice(old, facts, records.tree)?;
    }
    if !old.is_empty() {
        return Err(OffRefusal::OtherImage(old));
    }
    facts.observed.disks.iter().try_for_each(|disk| check_format(disk, records.tree))
}

/// Refuses a machine that runs in another image than the records say: it was started from a description that is older than those. Who
/// forgets records asks for nothing else, and a path that is not told as one, or leads to the same file, is no other image.
pub(in crate::plan) fn check_goes_on(request: &Request, facts: Facts<'_>) -> Result<(), ImageRefusal> {
    let forgets = matches!(request, Request::Delete(delete) if delete.flags.has(DeleteFlag::MetadataOnly));
    let records = facts.records.filter(|_| facts.off.is_none() && !forgets);
    let Some(tree) = records.map(|records| records.tree) else { return Ok(()) };
    if let Some(refusal) = in_what_was_merged(tree, facts) {
        return Err(refusal);
    }
    for disk in &facts.observed.disks {
        let is_one = |recorded: &Utf8PathBuf, image: &ObservedImage| {
            image.file.is_relative() || facts.beside.is_some_and(|it| it.is_one(recorded, &image.file))
        };
        let recorded = went_on_in(disk, tree);
        let recorded = recorded.filter(|recorded| !disk.chain.iter().any(|image| is_one(recorded, image)));
        let Some(recorded) = recorded else { continue };
        let why = why_not(&recorded, &disk.target, facts, tree);
        let (disk, file) = (disk.target.clone(), disk.file.clone());
        let current = tree.current().unwrap_or_default().to_owned();
        return Err(ImageRefusal::WentOnElsewhere { disk, file, recorded, why, current });
    }
    Ok(())
}

/// That QEMU has a disk in an overlay out of which a deletion that was not finished has taken the guest.
fn in_what_was_merged(tree: &SnapshotTree, facts: Facts<'_>) -> Option<ImageRefusal> {
    let snapshots = tree.topological().into_iter().filter_map(|name| tree.get(name));
    let mut parts = snapshots.flat_map(|snapshot| snapshot.disks.iter().map(move |part| (snapshot, part)));
    parts.find_map(|(snapshot, part)| {
        let note = merge::note(part).filter(|note| note.done && note.ran)?;
        let disk = facts.observed.disk(&part.name).filter(|disk| has(disk, note.file))?;
        let (disk, file, into) = (disk.target.clone(), note.file.to_owned(), note.into.into());
        Some(ImageRefusal::WasMerged {
            disk,
            file,
            into,
            snapshot: snapshot.name.clone().unwrap_or_default(),
        })
    })
}

/// Why a disk cannot have gone on in an image: it is not there, or another snapshot was taken in it.
fn why_not(recorded: &Utf8Path, target: &str, facts: Facts<'_>, tree: &SnapshotTree) -> Option<String> {
    let records = || tree.topological().into_iter().filter_map(|name| tree.get(name));
    let holds = |record: &&DomainSnapshot| {
        let is_it = |part: &SnapshotDisk| part.name == target && part.location == Some(Location::External);
        let is_taken = record.disks.iter().any(|part| is_it(part) && !part.delete_in_progress);
        is_taken && merge::source(record, target).as_deref() == Some(recorded)
    };
    match (facts.files.get(recorded), overlay_on(recorded, target, tree), records().find(holds)) {
        (Some(FileKind::Absent), ..) => Some("is not there".to_owned()),
        (_, Some(above), _) => Some(format!("a snapshot holds, with `{above}` on it")),
        (_, None, Some(by)) => Some(format!("snapshot `{}` holds", by.name.as_deref().unwrap_or_default())),
        (_, None, None) => None,
    }
}

/// Refuses to advise an image that a disk cannot have gone on in: what is written to one that another record's overlay stands on would be
/// written to what another snapshot holds.
fn check_advice(old: &OldImage, facts: Facts<'_>, tree: &SnapshotTree) -> Result<(), OffRefusal> {
    let Some(why) = why_not(&old.recorded, &old.disk, facts, tree) else { return Ok(()) };
    Err(OffRefusal::WhereUnknown {
        disk: old.disk.clone(),
        file: old.file.clone(),
        recorded: old.recorded.clone(),
        why,
        current: tree.current().unwrap_or_default().to_owned(),
    })
}

/// The images that the records say, otherwise than a machine that runs or the description of one that is off, that it went on in: whether
/// they are there is what a plan will want to know.
pub fn went_on(tree: &SnapshotTree, observed: &Observed) -> BTreeSet<Utf8PathBuf> {
    observed.disks.iter().filter_map(|disk| went_on_in(disk, tree)).collect()
}

/// Refuses a description that states another format of an image than the current snapshot, which has put the disk on it.
fn check_format(disk: &ObservedDisk, tree: &SnapshotTree) -> Result<(), OffRefusal> {
    let current = tree.current().and_then(|name| tree.get(name));
    let Some(Put::On(image, Some(recorded))) = current.map(|current| put_on(current, &disk.target)) else {
        return Ok(());
    };
    if image != disk.file || recorded == disk.format {
        return Ok(());
    }
    let (file, described) = (disk.file.clone(), disk.format.clone());
    Err(OffRefusal::OtherFormat { disk: disk.target.clone(), file, described, recorded })
}

/// The image that a disk is in by the records, if it is another one than the description says.
fn went_on_in(disk: &ObservedDisk, tree: &SnapshotTree) -> Option<Utf8PathBuf> {
    let current = tree.get(tree.current()?)?;
    match put_on(current, &disk.target) {
        Put::On(image, _) => (!has(disk, &image)).then_some(image),
        Put::Nowhere => {
            overlay_on(&disk.file, &disk.target, tree)?;
            let then = merge::source(current, &disk.target);
            Some(newest(then.as_ref().unwrap_or(&disk.file), &disk.target, tree))
        }
        Put::ByTheCaller => None,
    }
}

fn has(disk: &ObservedDisk, file: &Utf8Path) -> bool {
    disk.chain.iter().any(|image| image.file == file)
}

/// What a snapshot has done with a disk.
enum Put {
    /// The machine goes on in this image of it, of this format if that is known.
    On(Utf8PathBuf, Option<String>),
    /// Nothing: it stayed in what it was in.
    Nowhere,
    /// The caller has it in hand.
    ByTheCaller,
}

/// In which image the current snapshot says that a disk goes on: where others descend from it, not in what it was given first.
fn put_on(current: &DomainSnapshot, target: &str) -> Put {
    let find = |parts: &[SnapshotDisk]| parts.iter().find(|part| part.name == target).cloned();
    let first = find(&current.disks).filter(|part| part.location != Some(Location::External));
    let part = match current.revert_disks.is_empty() {
        true => find(&current.disks),
        false => find(&current.revert_disks).or(first),
    };
    let Some(part) = part.filter(|part| !part.delete_in_progress) else { return Put::Nowhere };
    let (image, format) = match part.location {
        Some(Location::External) => {
            (part.path().map(ToOwned::to_owned), part.format().map(ToOwned::to_owned))
        }
        Some(Location::Internal) => (merge::source(current, target), format_then(current, target)),
        Some(Location::Manual) => return Put::ByTheCaller,
        Some(Location::No) | None => (None, None),
    };
    image.map_or(Put::Nowhere, |image| Put::On(image, format))
}

/// The format of a disk's image when that snapshot was taken, if its record knows the machine of then.
fn format_then(record: &DomainSnapshot, target: &str) -> Option<String> {
    let domain = DomainXml::of(record.domain.clone()?).ok()?;
    domain.disk(target).map(|disk| disk.format().to_owned())
}

/// The newest of the overlays that recorded snapshots have put on an image of a disk, one on the other; itself if there is none.
fn newest(image: &Utf8Path, target: &str, tree: &SnapshotTree) -> Utf8PathBuf {
    let mut passed = vec![image];
    // Records that were changed by hand may go in circles.
    while let Some(above) = overlay_on(passed[passed.len() - 1], target, tree)
        && !passed.contains(&above)
    {
        passed.push(above);
    }
    passed[passed.len() - 1].to_owned()
}

/// The overlay of a recorded snapshot that stands on an image of a disk: nobody writes to that any more.
fn overlay_on<'t>(image: &Utf8Path, target: &str, tree: &'t SnapshotTree) -> Option<&'t Utf8Path> {
    let records = tree.topological().into_iter().filter_map(|name| tree.get(name));
    let mut taken = records.filter(|record| merge::source(record, target).as_deref() == Some(image));
    taken.find_map(|record| {
        let is_it = |part: &&SnapshotDisk| {
            part.name == target && part.location == Some(Location::External) && !part.delete_in_progress
        };
        record.revert_disks.iter().chain(&record.disks).find(is_it)?.path()
    })
}

/// The overlays out of which a deletion that was not finished has taken the guest, and that the description names still: what the
/// guest wrote in the image below would be lost, or written over when the two are merged again. One that names the image below is
/// believed if it named the overlay before: else it may never have been kept in step, and the overlay is what the guest wrote to. So it is
/// of a disk whose turn had not come.
fn left_by_deletions(tree: &SnapshotTree, facts: Facts<'_>) -> Result<Vec<OldImage>, OffRefusal> {
    let (mut old, mut doubt) = (Vec::new(), None);
    let snapshots = tree.topological().into_iter().filter_map(|name| tree.get(name));
    for part in snapshots.flat_map(|snapshot| &snapshot.disks) {
        let (Some(note), Some(disk)) = (merge::note(part), facts.observed.disk(&part.name)) else { continue };
        let names_overlay = has(disk, note.file);
        let (described, disk) = (&disk.file, part.name.clone());
        match (note.done, names_overlay) {
            _ if !note.ran => {}
            (false, _) if !note.leaves => {
                let (file, recorded) = (described.clone(), note.file.to_owned());
                old.extend((!names_overlay).then_some(OldImage { disk, file, recorded }));
            }
            (true, true) => {
                old.push(OldImage { disk, file: note.file.to_owned(), recorded: note.into.into() })
            }
            _ => doubt = doubt.or(may_have_left(&disk, note, names_overlay)),
        }
    }
    // What is sure is told first.
    doubt.filter(|_| old.is_empty()).map_or(Ok(old), Err)
}

/// That nobody can say whether the guest has left an overlay that it was about to be taken out of. Of one that was left nobody needs to, nor
/// where the description names the image below and did not before: somebody says that it was.
fn may_have_left(disk: &str, note: Note<'_>, names_overlay: bool) -> Option<OffRefusal> {
    let (disk, file, into) = (disk.to_owned(), note.file.to_owned(), note.into.into());
    match (note.done || !note.ran || !note.leaves, names_overlay) {
        (true, _) => None,
        (false, true) => Some(OffRefusal::MayHaveMoved { disk, file, into }),
        (false, false) if !note.described => Some(OffRefusal::MayHaveStayed { disk, file, into }),
        (false, false) => None,
    }
}

/// The disks of a machine that is off, of this description, of which nobody can say whether the guest has left the overlay that a deletion was
/// about to take it out of, each with what to do.
pub fn in_doubt(tree: &SnapshotTree, document: &DomainXml) -> Vec<OffRefusal> {
    let snapshots = tree.topological().into_iter().filter_map(|name| tree.get(name));
    let parts = snapshots.flat_map(|snapshot| &snapshot.disks);
    let doubt = |part: &SnapshotDisk| {
        let (note, disk) = (merge::note(part)?, document.disk(&part.name)?);
        may_have_left(&part.name, note, disk.path() == Some(note.file))
    };
    parts.filter_map(doubt).collect()
}
