//! Deleting an external snapshot at which branches part, or that lies aside of what runs: what its images hold goes up into every
//! image that stands on them.
//!
//! ```text
//! base <- frozen <- one               base <- one      the running machine's: streamed by it
//!               \-- other                 \-- other    no machine's, or that of one that is off: rebased by qemu-img
//!
//! copy into those of no machine, side by side | into the machine's | write the records without the snapshot
//!     | remove the images that nothing stands on, and the file of memory
//! ```
//!
//! Only the overlays are written to, and each reads the same at every moment. So the snapshot is whole until the records are
//! written: whatever ends this before, nothing has to be put back, and to delete it again does what is left.
//!
//! Who stands on an image is read from the machine's chains and from the headers of all images that the records name. One
//! that cannot be read may be one of them, and an image that holds internal snapshots is not touched: those read through it. Nor are
//! those of a disk that the machine is without by now.

mod begun;
mod records;

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use self::records::tree_without;
pub(super) use self::records::{branch_of, pass_on};
use super::{
    Facts, Plan, Planned, Records, Stage, check_images_are_held,
    delete::{check_no_stranger, left_out},
    merge,
};
use crate::{
    domain_snapshot::{DomainSnapshot, Location, SnapshotDisk, SourceType},
    domain_xml::DomainXml,
    error::{DeleteRefusal, ImageRefusal, Refusal},
    kept::WhyKept,
    observed::{Observed, ObservedDisk},
    qemu_img::{Backing, ImageInfo},
    request::Request,
    step::{KeepImage, RebaseImage, RemoveFile, RemoveImage, StreamImage, WriteRecords},
    strangers::Stranger,
    tree::SnapshotTree,
};

/// What lies beside the chains of the machine, as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Beside {
    /// `qemu-img`.
    pub tool: Utf8PathBuf,
    /// The images that are there; or why one cannot be read.
    pub images: BTreeMap<Utf8PathBuf, Result<ImageInfo, String>>,
    /// What the files behind them, and those of the machine's disks, are called without links.
    pub canonical: BTreeMap<Utf8PathBuf, Utf8PathBuf>,
    /// Images that nobody here knows and that stand on those that are [`at_stake`](super::at_stake).
    pub strangers: Vec<Stranger>,
    /// The same of those that the records know, and no chain of the machine has.
    pub recorded: Vec<Stranger>,
    /// What stands on the overlays that no record may lead to any more then, be it of the records or not, and on what those stand on.
    pub standing: Vec<Stranger>,
}

impl Beside {
    /// Whether two paths lead to one file.
    pub(super) fn is_one(&self, one: &Utf8Path, other: &Utf8Path) -> bool {
        let name =
            |path: &Utf8Path| self.canonical.get(path).map_or(path, |found| found.as_path()).to_owned();
        name(one) == name(other)
    }
}

/// The images beside the running machine's chains that a plan will want to know about, with their formats.
pub fn images_beside(
    request: &Request,
    tree: Option<&SnapshotTree>,
    observed: &Observed,
) -> BTreeMap<Utf8PathBuf, String> {
    let (Request::Delete(delete), Some(tree)) = (request, tree) else { return BTreeMap::new() };
    let snapshot = tree.get(delete.name.as_str()).filter(|_| delete.flags.iter().next().is_none());
    let Some(snapshot) = snapshot else { return BTreeMap::new() };
    let is_apart = || external(snapshot).any(|part| stands_apart(part, snapshot, tree, observed));
    if is_branching(snapshot, tree, observed) || is_apart() {
        return recorded_images(tree, observed);
    }
    if !is_begun(snapshot) {
        return BTreeMap::new();
    }
    let images = recorded_images(tree, observed);
    let merged: BTreeSet<_> = snapshot.disks.iter().filter_map(merge::note).map(|note| note.file).collect();
    // Where all but those are in the machine's chains there is no other branch.
    match images.keys().any(|image| !merged.contains(image.as_path())) {
        true => images,
        false => BTreeMap::new(),
    }
}

/// The images that the records name and no chain of the machine has, with their formats.
pub fn recorded_images(tree: &SnapshotTree, observed: &Observed) -> BTreeMap<Utf8PathBuf, String> {
    let mut images = named_images(tree);
    images.retain(|path, _| {
        !observed.disks.iter().flat_map(|disk| &disk.chain).any(|image| image.file == *path)
    });
    images
}

/// The images that the records lead to.
pub(crate) fn recorded(tree: Option<&SnapshotTree>) -> impl Iterator<Item = Utf8PathBuf> {
    tree.into_iter().flat_map(|tree| named_images(tree).into_keys())
}

/// All images that the records name, with their formats.
fn named_images(tree: &SnapshotTree) -> BTreeMap<Utf8PathBuf, String> {
    let mut images = BTreeMap::new();
    for record in tree.topological().into_iter().filter_map(|name| tree.get(name)) {
        let parts = record.disks.iter().chain(&record.revert_disks);
        for part in parts.filter(|part| part.location == Some(Location::External)) {
            let format = part.format().unwrap_or("qcow2").to_owned();
            images.extend(part.path().map(|path| (path.to_owned(), format)));
        }
        // An overlay is no record's any more once it is merged.
        let merged = record.disks.iter().filter_map(merge::note).filter(|note| note.done);
        images.extend(merged.map(|note| (note.file.to_owned(), "qcow2".to_owned())));
        let document = record.domain.clone().and_then(|domain| DomainXml::of(domain).ok());
        for disk in document.iter().flat_map(DomainXml::disks).filter(|disk| !disk.read_only()) {
            images.extend(disk.path().map(|path| (path.to_owned(), disk.format().to_owned())));
        }
    }
    images
}

/// The files of which nothing is to be asked: those that the machine has open, those of memory, and what is merged.
pub fn known_files(tree: Option<&SnapshotTree>, observed: &Observed) -> BTreeSet<Utf8PathBuf> {
    let open = observed.images().flat_map(|disk| &disk.chain).map(|image| image.file.clone());
    let records: Vec<_> = tree
        .iter()
        .flat_map(|tree| tree.topological().into_iter().filter_map(|name| tree.get(name)))
        .collect();
    let memory = records.iter().filter_map(|record| record.memory.file.clone());
    let merged = records.iter().flat_map(|record| &record.disks).filter_map(merge::note);
    let merged = merged.map(|note| note.file.to_owned());
    open.chain(memory).chain(merged).collect()
}

/// Whether a snapshot's deletion was begun. Its overlays go down, unless the machine has left them: see [`begun`].
fn is_begun(snapshot: &DomainSnapshot) -> bool {
    snapshot.disks.iter().any(|part| part.delete_in_progress)
}

/// Whether a snapshot is no single overlay in a chain of the running machine, which could go down into the image below it.
pub(super) fn is_branching(snapshot: &DomainSnapshot, tree: &SnapshotTree, observed: &Observed) -> bool {
    let name = snapshot.name.as_deref().unwrap_or_default();
    if is_begun(snapshot) {
        return false;
    }
    let (children, is_current) = (tree.children(name).count(), tree.current() == Some(name));
    let is_below = |part: &SnapshotDisk| {
        let held = merge::source(snapshot, &part.name);
        let mut chain = observed.disk(&part.name).into_iter().flat_map(|disk| &disk.chain);
        part.path().is_none() && chain.any(|image| held.as_ref() == Some(&image.file))
    };
    if children > 1
        || (is_current && children > 0)
        || !snapshot.revert_disks.is_empty()
        || external(snapshot).any(is_below)
    {
        return true;
    }
    let mut parts = external(snapshot).peekable();
    // One that the machine grew out of is in its chain, or somebody else has changed that.
    let is_left = tree.line().all(|ancestor| ancestor != name);
    is_left && parts.peek().is_some() && !parts.any(|part| in_chain(part, observed))
}

/// Whether the machine has left a snapshot with this disk alone: others were left out of the one that was gone back to. Or the record says
/// that the disk is in none of its images.
pub(super) fn stands_apart(
    part: &SnapshotDisk,
    snapshot: &DomainSnapshot,
    tree: &SnapshotTree,
    observed: &Observed,
) -> bool {
    let name = snapshot.name.as_deref().unwrap_or_default();
    let is_begun_here = |part: &SnapshotDisk| merge::note(part).is_some();
    let stays = |part: &SnapshotDisk| is_begun_here(part) || in_chain(part, observed);
    if part.location != Some(Location::External) || stays(part) {
        return false;
    }
    let is_left = tree.line().all(|ancestor| ancestor != name) && tree.children(name).next().is_none();
    part.path().is_none() || (is_left && snapshot.disks.iter().any(stays))
}

/// Whether the machine has the overlay that a snapshot gave a disk.
fn in_chain(part: &SnapshotDisk, observed: &Observed) -> bool {
    let disk = observed.disk(&part.name);
    disk.is_some_and(|disk| disk.chain.iter().any(|image| part.path() == Some(&*image.file)))
}

/// One disk of the snapshot: the image that it was in when the snapshot was taken, and what stands on that.
pub(super) struct Frozen<'a> {
    target: &'a str,
    file: Utf8PathBuf,
    /// Whether it is a block device, which is not removed.
    device: bool,
    /// What is below it.
    below: Option<Backing>,
    /// The machine's image on it.
    live: Option<Above<'a>>,
    /// Those of no machine.
    aside: Vec<&'a Utf8Path>,
    /// An overlay of the snapshot's own that nothing stands on and nobody uses.
    left: Option<&'a Utf8Path>,
}

/// An image of the machine that stands on a snapshot's.
struct Above<'a> {
    node: &'a str,
    file: &'a Utf8Path,
    /// The node below the snapshot's image, or one of them.
    base: Option<&'a str>,
    /// Whether there are more: another disk stands on that image too, or somebody reads it.
    is_shared: bool,
}

/// Plans the deletion of one.
pub(super) fn delete(name: &str, records: Records<'_>, facts: Facts<'_>) -> Result<Planned, Refusal> {
    let missing = facts.capabilities.missing_for_streams();
    if !missing.is_empty() && facts.off.is_none() {
        return Err(Refusal::Unsupported(missing));
    }
    let snapshot = records.tree.get(name).expect("the caller has found it");
    merge::check_no_other_begun(name, records.tree)?;
    snapshot.disks.iter().try_for_each(|part| merge::check_named_once(part, name, records.tree))?;
    let frozen = external(snapshot).filter(|part| facts.has(&part.name));
    let frozen = frozen.map(|part| find(part, snapshot, records.tree, facts));
    let mut frozen = frozen.collect::<Result<Vec<_>, _>>()?;
    let mut settled = records.tree.clone();
    merge::done_again(&mut settled, name);
    let begun::Rest { frozen: merged, overlays } = begun::rest(snapshot, &settled, facts)?;
    frozen.extend(merged);
    if frozen.iter().any(|disk| disk.live.is_some()) {
        check_images_are_held(facts)?;
    }
    let tool = facts.beside.map_or("qemu-img".into(), |beside| beside.tool.clone());
    let domain = document_then(&frozen, facts);
    let mut stages =
        vec![Stage::all(frozen.iter().flat_map(|disk| disk.rebases(&tool, facts.off.is_some())))];
    match facts.off {
        None => {
            let streams = frozen.iter().enumerate();
            let streams = streams.filter_map(|(number, disk)| disk.stream(number, facts.unique));
            stages.push(Stage::all(streams));
        }
        Some(off) => {
            stages.extend(domain.as_ref().and_then(|domain| off.document(domain)).map(Stage::one));
        }
    }
    stages.retain(|stage| !stage.steps.is_empty());
    let mut tree = tree_without(snapshot, &frozen, &settled, facts);
    let left = left_out::left(snapshot, &mut tree, facts);
    stages.push(Stage::one(WriteRecords::new(records.folder, records.tree, &tree)?));
    let no_return = stages.len() - 1;
    let removals = removals(snapshot, frozen.iter(), overlays, &tree, records.tree, facts).into_iter();
    match facts.off {
        None => stages.extend(removals.map(Stage::one)),
        Some(_) => {
            let files = removals.filter(|removal| !removal.device);
            stages.extend(files.map(|removal| Stage::one(RemoveFile { path: removal.file })));
        }
    }
    stages.extend(left.into_iter().map(Stage::one));
    stages.extend(merge::removed_memory(snapshot, &tree).map(Stage::one));
    stages.extend(no_part(snapshot, &tree, facts).map(Stage::one));
    let moved = frozen.iter().filter(|disk| disk.is_stood_on());
    let disks: Vec<_> = moved.map(|disk| disk.target.to_owned()).collect();
    let on = if disks.is_empty() { String::new() } else { format!(", upwards, disks {}", disks.join(" ")) };
    let off = if facts.off.is_some() { ", which is off" } else { "" };
    let title = format!("delete snapshot {name} of {}{off}: external{on}", facts.domain.name);
    let plan = Plan { title, disks, manual: Vec::new(), stages, no_return };
    Ok(Planned { plan, tree: Some(tree), domain })
}

/// Tells of the overlays of disks that the machine is without: what is on those a revert to a machine that never knew them has kept.
/// `left` is what the records say then.
pub(super) fn no_part(
    snapshot: &DomainSnapshot,
    left: &SnapshotTree,
    facts: Facts<'_>,
) -> impl Iterator<Item = KeepImage> {
    let others = external(snapshot).filter(move |part| !facts.has(&part.name));
    let overlays = others.filter_map(|part| Some((part.name.clone(), part.path()?.to_owned())));
    let unknown = overlays.filter(move |(_, file)| !merge::is_named(left, file));
    unknown.map(|(target, file)| KeepImage { file, why: WhyKept::NoPart(target) })
}

/// The machine's description then, if it says what is below its images.
fn document_then(frozen: &[Frozen<'_>], facts: Facts<'_>) -> Option<DomainXml> {
    let document = facts.domain.document.as_ref()?;
    let changed = |document: DomainXml, disk: &Frozen<'_>| {
        document.without_chain_through(disk.target, &disk.file).unwrap_or(document)
    };
    let changed = frozen.iter().fold(document.clone(), changed);
    (changed != *document).then_some(changed)
}

/// The parts of a snapshot that are in overlays.
fn external(snapshot: &DomainSnapshot) -> impl Iterator<Item = &SnapshotDisk> {
    snapshot.disks.iter().filter(|part| part.location == Some(Location::External))
}

/// Finds a disk's image of the snapshot, and all that stands on it.
pub(super) fn find<'a>(
    part: &'a SnapshotDisk,
    snapshot: &'a DomainSnapshot,
    tree: &SnapshotTree,
    facts: Facts<'a>,
) -> Result<Frozen<'a>, Refusal> {
    let target = part.name.as_str();
    let name = || snapshot.name.clone().unwrap_or_default();
    let document = snapshot.domain.clone().and_then(|domain| DomainXml::of(domain).ok());
    let disk = document.as_ref().and_then(|document| document.disk(target));
    let unknown = || ImageRefusal::Unknown { name: name(), disk: target.to_owned() };
    let (disk, file) = disk.and_then(|disk| Some((disk, disk.path()?.to_owned()))).ok_or_else(unknown)?;
    let others = tree.topological().into_iter().filter_map(|other| tree.get(other));
    for other in others.filter(|other| other.name != snapshot.name) {
        if external(other).any(|part| part.name == target)
            && merge::source(other, target).as_ref() == Some(&file)
        {
            let by = other.name.clone().unwrap_or_default();
            return Err(DeleteRefusal::OtherBranch { disk: target.to_owned(), file, by }.into());
        }
    }
    let (live, mut below) = above(part, &file, snapshot, facts)?.unzip();
    let images = facts.beside.into_iter().flat_map(|beside| &beside.images);
    let mut aside = Vec::new();
    for (path, found) in images {
        let unreadable = |why: &str| ImageRefusal::Unreadable { file: path.clone(), why: why.to_owned() };
        let info = found.as_ref().map_err(|why| unreadable(why))?;
        let stands_on_it = info.backing_file().as_ref() == Some(&file);
        if stands_on_it || *path == file {
            check_empty(info, path, target)?;
        }
        if let Some(bitmap) = info.bitmaps().next().filter(|_| *path == file) {
            return Err(bitmap_lost(target, &file, &bitmap.name));
        }
        if stands_on_it {
            aside.push(path.as_path());
        } else if *path == file {
            below = Some(info.backing().map_err(|why| unreadable(&why))?);
        }
    }
    let device = disk.source_type() != Some(SourceType::File);
    let mut frozen = Frozen { target, file, device, below: below.flatten(), live, aside, left: None };
    // Of a disk that is in no image of the snapshot's no branch began there.
    if part.path().is_some() {
        frozen.check_children(&name(), tree, facts)?;
        frozen.check_line(part, snapshot, tree, facts)?;
    }
    let own = part.path().filter(|_| tree.children(&name()).next().is_none());
    if let Some(own) = own.filter(|own| frozen.is_left_alone(own, facts)) {
        frozen.aside.clear();
        frozen.left = Some(own);
    }
    for file in std::iter::once(&*frozen.file).chain(frozen.left) {
        check_no_stranger(target, file, facts)?;
    }
    Ok(frozen)
}

/// The running machine's image on the snapshot's, if that is in its chain, and then what is below it.
fn above<'a>(
    part: &SnapshotDisk,
    file: &Utf8Path,
    snapshot: &DomainSnapshot,
    facts: Facts<'a>,
) -> Result<Option<(Above<'a>, Option<Backing>)>, Refusal> {
    let has = |disk: &&ObservedDisk| disk.chain.iter().any(|image| image.file == file);
    let Some(disk) = facts.observed.disks.iter().find(has) else { return Ok(None) };
    let target = || disk.target.clone();
    if let Some(filter) = &disk.busy {
        return Err(Refusal::BlockJob { disk: target(), filter: filter.clone() });
    }
    let place = disk.chain.iter().position(|image| image.file == file).unwrap_or_default();
    let Some(above) = place.checked_sub(1) else {
        let name = snapshot.name.clone().unwrap_or_default();
        let file = part.path().unwrap_or(file).to_owned();
        return Err(DeleteRefusal::NotInChain { name, disk: target(), file }.into());
    };
    for image in &disk.chain[above..=place] {
        if let Some(held) = image.snapshots.first() {
            let held = held.name.clone();
            return Err(
                DeleteRefusal::HoldsInternal { disk: target(), file: image.file.clone(), held }.into()
            );
        }
    }
    let frozen = merge::alone(&disk.chain[place], disk, facts)?;
    if let Some(bitmap) = frozen.node.bitmaps.first() {
        return Err(bitmap_lost(&disk.target, file, bitmap.name.as_deref().unwrap_or_default()));
    }
    let above = merge::alone(&disk.chain[above], disk, facts)?;
    let base = disk.chain.get(place + 1).and_then(|image| Some((image, image.nodes.first()?)));
    let below = base.map(|(image, node)| Backing { file: image.file.clone(), format: node.format.clone() });
    let is_shared = base.is_some_and(|(image, _)| image.nodes.len() > 1);
    let base = base.map(|(_, node)| node.name.as_str());
    Ok(Some((Above { node: &above.node.name, file: above.file, base, is_shared }, below)))
}

/// Several images would have to go on with a bitmap: which of them whoever made it counts on is not known.
fn bitmap_lost(target: &str, file: &Utf8Path, bitmap: &str) -> Refusal {
    let (disk, file, bitmap) = (target.to_owned(), file.to_owned(), bitmap.to_owned());
    Refusal::Delete(DeleteRefusal::BitmapLost { disk, file, bitmap, why: "what it holds goes upwards" })
}

/// Refuses an image that holds internal snapshots.
fn check_empty(info: &ImageInfo, file: &Utf8Path, target: &str) -> Result<(), Refusal> {
    match info.snapshots.first() {
        None => Ok(()),
        Some(held) => {
            let (disk, file, held) = (target.to_owned(), file.to_owned(), held.name.clone());
            Err(DeleteRefusal::HoldsInternal { disk, file, held }.into())
        }
    }
}

impl Frozen<'_> {
    /// Whether every branch's image is known to stand on this one, or on what is below it because this was begun before: one
    /// that names it otherwise would lose it.
    fn check_children(&self, name: &str, tree: &SnapshotTree, facts: Facts<'_>) -> Result<(), Refusal> {
        let grown = tree.children(name).filter_map(|child| merge::source(tree.get(child)?, self.target));
        let below = self.below.as_ref().map(|below| &below.file);
        for image in grown {
            let found = facts
                .beside
                .and_then(|beside| beside.images.get(&image))
                .and_then(|found| found.as_ref().ok());
            let is_elsewhere = found
                .map(ImageInfo::backing_file)
                .filter(|backing| backing.as_ref() != below && backing.as_ref() != Some(&self.file));
            if let Some(backing) = is_elsewhere {
                let on = backing.map_or("on nothing".to_owned(), |backing| format!("on `{backing}`"));
                let why = format!("it is based {on}, and should be on `{}`", self.file);
                return Err(ImageRefusal::Unreadable { file: image, why }.into());
            }
        }
        Ok(())
    }

    /// Whether a machine that grew out of the snapshot is still in what it grew in.
    fn check_line(
        &self,
        part: &SnapshotDisk,
        snapshot: &DomainSnapshot,
        tree: &SnapshotTree,
        facts: Facts<'_>,
    ) -> Result<(), Refusal> {
        let name = snapshot.name.as_deref().unwrap_or_default();
        let line: Vec<&str> = tree.line().collect();
        let Some(place) = line.iter().position(|ancestor| *ancestor == name).filter(|_| self.live.is_none())
        else {
            return Ok(());
        };
        let child = place.checked_sub(1).and_then(|child| tree.get(line[child]));
        let grown = child.and_then(|child| merge::source(child, self.target));
        // Of a disk that the child left out the machine may be in what it was put back to.
        let reverted = snapshot.revert_disks.iter().find(|part| part.name == self.target);
        let reverted = reverted.and_then(SnapshotDisk::path);
        let disk = facts.observed.disk(self.target);
        let mut chain = disk.into_iter().flat_map(|disk| &disk.chain);
        match chain.any(|image| [grown.as_deref(), reverted].contains(&Some(&*image.file))) {
            true => Ok(()),
            false => {
                let file = grown.as_deref().or(reverted).or(part.path()).unwrap_or(&self.file).to_owned();
                let (name, disk) = (name.to_owned(), self.target.to_owned());
                Err(DeleteRefusal::NotInChain { name, disk, file }.into())
            }
        }
    }

    /// Whether nothing but the overlay that the snapshot made is on this image, and nothing is on that and in it.
    fn is_left_alone(&self, own: &Utf8Path, facts: Facts<'_>) -> bool {
        let mut images = facts.beside.into_iter().flat_map(|beside| &beside.images);
        let is_there = facts.beside.and_then(|beside| beside.images.get(own)).is_some();
        let holds_others = images.any(|(_, found)| match found {
            Ok(info) => info.backing_file().as_deref() == Some(own),
            Err(_) => true,
        });
        is_there && !holds_others && self.live.is_none() && self.aside.iter().all(|path| *path == own)
    }

    /// Whether anything stands on it.
    fn is_stood_on(&self) -> bool {
        self.live.is_some() || !self.aside.is_empty()
    }

    /// Copies into those of no machine, and into that of one that is off.
    pub(super) fn rebases(&self, tool: &Utf8Path, is_off: bool) -> impl Iterator<Item = RebaseImage> {
        let own = self.live.iter().filter(move |_| is_off).map(|live| live.file);
        self.aside.iter().copied().chain(own).map(move |file| RebaseImage {
            program: tool.to_owned(),
            target: self.target.to_owned(),
            file: file.to_owned(),
            base: self.below.clone().map(|below| (below.file, below.format)),
        })
    }

    fn stream(&self, number: usize, unique: &str) -> Option<StreamImage> {
        let live = self.live.as_ref()?;
        let base = live.base.and_then(|node| Some((node.to_owned(), self.below.as_ref()?.file.clone())));
        Some(StreamImage {
            target: self.target.to_owned(),
            job: format!("ff-{unique}-stream-{number}"),
            node: live.node.to_owned(),
            image: live.file.to_owned(),
            file: self.file.clone(),
            base,
            is_shared: live.is_shared,
        })
    }

    /// The images that stood on it, the running machine's first.
    fn heirs(&self) -> Vec<&Utf8Path> {
        self.live.iter().map(|live| live.file).chain(self.aside.iter().copied()).collect()
    }
}

/// The images that are to be removed, unless a record still names them. An image on which nothing ever stood goes if a snapshot before made it,
/// or if it is none that the machine was given: its description names another.
pub(super) fn removals<'f, 'a: 'f>(
    snapshot: &DomainSnapshot,
    frozen: impl Iterator<Item = &'f Frozen<'a>>,
    merged: Vec<RemoveImage>,
    left: &SnapshotTree,
    old: &SnapshotTree,
    facts: Facts<'_>,
) -> Vec<RemoveImage> {
    let frozen: Vec<_> = frozen.collect();
    let before: Vec<_> =
        std::iter::successors(snapshot.parent.as_deref(), |name| old.get(name)?.parent.as_deref())
            .filter_map(|name| old.get(name))
            .collect();
    let grew = snapshot.name.as_deref().is_some_and(|name| old.children(name).next().is_some());
    let is_another = |disk: &Frozen<'_>| {
        let document = facts.domain.document.as_ref();
        document.is_some_and(|document| !document.element().names(disk.file.as_str()))
    };
    let was_made = |disk: &Frozen<'_>| {
        let mut parts = before.iter().flat_map(|record| external(record));
        parts.any(|part| part.name == disk.target)
    };
    let is_overlay = |disk: &&&Frozen<'_>| grew || disk.is_stood_on() || was_made(disk) || is_another(disk);
    let images = frozen.iter().filter(is_overlay).map(|disk| (disk.file.clone(), disk.device));
    let own = frozen.iter().filter_map(|disk| Some((disk.left?.to_owned(), false)));
    let all = images
        .chain(own)
        .map(|(file, device)| RemoveImage { file, device, merged_before: false })
        .chain(merged);
    // Where nothing stands on an image any more, what the parent says of it is of no use.
    let mut naming = left.clone();
    if let Some(mut parent) = snapshot.parent.as_deref().and_then(|parent| left.get(parent)).cloned() {
        let gone = |part: &&mut SnapshotDisk| frozen.iter().any(|disk| part.path() == Some(&disk.file));
        parent.disks.iter_mut().filter(gone).for_each(|part| part.source = None);
        naming.insert(parent);
    }
    all.filter(|removal| !merge::is_named(&naming, &removal.file)).collect()
}

#[cfg(test)]
mod tests;
