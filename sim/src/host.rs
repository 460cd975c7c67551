//! The files of the simulated host, seen as image layers.
//!
//! A tree of folders and files in memory. What a file holds is an [`Image`]: as much of raw and qcow2 as
//! snapshots need. It knows nothing of QEMU: block nodes open these files by path, and so may the storage
//! commands and the storage providers of a scenario.
//!
//! What it does not do: permissions, links, and bytes. A file has contents in the sense of "which write of the
//! guest is in which block".

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};

mod contents;
mod descriptor;
mod image;
mod layout;
mod machine_state;
pub use contents::Contents;
pub use descriptor::Descriptor;
pub use image::{Backing, Blocks, Image, InternalSnapshot, Qcow2, StoredBitmap};
pub use layout::Usage;
pub use machine_state::{Hardware, MachineState, PciDevice, Unfit};

/// The files of the simulated host. Paths are kept as texts, each in its one plain form: files are looked up all the time,
/// and texts are compared far faster than paths are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    folder: Utf8PathBuf,
    folders: BTreeSet<String>,
    files: BTreeMap<String, Image>,
    /// Files that can take no more.
    full: BTreeSet<String>,
    /// What programs have written down: whole files that are no image, and what stands before a machine state. QEMU reads
    /// none of it.
    documents: BTreeMap<String, Vec<u8>>,
    /// Images that some other program has open, only to read them.
    read: BTreeSet<String>,
    /// Files that a program has locked.
    locked: BTreeSet<String>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            folder: "/".into(),
            folders: BTreeSet::from(["/".into()]),
            files: BTreeMap::new(),
            full: BTreeSet::new(),
            documents: BTreeMap::new(),
            read: BTreeSet::new(),
            locked: BTreeSet::new(),
        }
    }
}

impl Host {
    /// The wall clock of the host when virtual time is zero: 2026-01-01 00:00:00 UTC, since the Unix epoch.
    pub const EPOCH: Duration = Duration::from_secs(1_767_225_600);

    /// A host without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the folder against which relative paths are resolved, and makes it.
    pub fn set_folder(&mut self, folder: &Utf8Path) {
        self.folder = folder.to_owned();
        self.add_folder(folder);
    }

    /// The folder against which relative paths are resolved.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Makes a folder and those above it.
    pub fn add_folder(&mut self, folder: &Utf8Path) {
        let folder = Utf8PathBuf::from(self.plain(folder).into_owned());
        self.folders.extend(folder.ancestors().map(Utf8Path::to_string));
    }

    /// Whether a block device lies at a path: a volume in a folder of `/dev` of its own. It is as long as it is, and holds what a file
    /// would.
    pub fn is_device(path: &Utf8Path) -> bool {
        let of_the_system = ["fdset", "hugepages", "mqueue", "pts", "shm"];
        let below = path.strip_prefix("/dev").ok().map(|below| below.as_str().split_once('/'));
        matches!(below, Some(Some((folder, _))) if !of_the_system.contains(&folder))
    }

    /// The path from the root: a relative one starts in the machine's folder.
    pub fn resolve(&self, path: &Utf8Path) -> Utf8PathBuf {
        self.folder.join(path)
    }

    /// The plain form of a path: from the root, and without what changes nothing (`//`, `/./`, `/` at the end).
    fn plain<'p>(&self, path: &'p Utf8Path) -> Cow<'p, str> {
        let text = path.as_str();
        // Nearly every path is told to be plain by the first look, which is much faster than the second.
        let looks_ornate = |text: &str| {
            text.ends_with('/') || text.as_bytes().windows(2).any(|two| matches!(two, b"//" | b"/."))
        };
        let ornate = |text: &str| {
            text.len() > 1
                && looks_ornate(text)
                && text.split('/').skip(1).any(|part| part.is_empty() || part == ".")
        };
        if text.starts_with('/') && !ornate(text) {
            return Cow::Borrowed(text);
        }
        let joined = self.folder.join(path);
        Cow::Owned(if ornate(joined.as_str()) {
            joined.components().collect::<Utf8PathBuf>().into_string()
        } else {
            joined.into_string()
        })
    }

    /// Whether there is such a file.
    pub fn exists(&self, path: &Utf8Path) -> bool {
        self.files.contains_key(&*self.plain(path))
    }

    /// Lets there be no space for a file, or enough of it again: what would make it longer fails with `ENOSPC`.
    pub fn set_full(&mut self, path: &Utf8Path, full: bool) {
        let path = self.plain(path);
        if full {
            self.full.insert(path.into_owned());
        } else {
            self.full.remove(&*path);
        }
    }

    /// Whether there is no space for a file.
    pub fn is_full(&self, path: &Utf8Path) -> bool {
        !self.full.is_empty() && self.full.contains(&*self.plain(path))
    }

    /// Whether there is such a folder.
    pub fn is_folder(&self, path: &Utf8Path) -> bool {
        path != "" && self.folders.contains(&*self.plain(path))
    }

    /// All files in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&Utf8Path, &Image)> {
        self.files.iter().map(|(path, image)| (Utf8Path::new(path), image))
    }

    /// The image in a file.
    pub fn image(&self, path: &Utf8Path) -> Option<&Image> {
        self.files.get(&*self.plain(path))
    }

    /// The image in a file, to be changed.
    pub fn image_mut(&mut self, path: &Utf8Path) -> Option<&mut Image> {
        let path = self.plain(path);
        self.files.get_mut(&*path)
    }

    /// Makes a file that was not there (`O_CREAT | O_EXCL`).
    ///
    /// # Errors
    /// `AlreadyExists`; and as [`Host::create`].
    pub fn create_new(&mut self, path: &Utf8Path, image: Image) -> io::Result<()> {
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.create(path, image)
    }

    /// Makes a file, or overwrites it (`O_CREAT | O_TRUNC`).
    ///
    /// # Errors
    /// `NotFound` for a folder that is not there, `IsADirectory` for one that is.
    pub fn create(&mut self, path: &Utf8Path, image: Image) -> io::Result<()> {
        if path == "" {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = self.plain(path);
        if self.folders.contains(&*path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !self.has_folder_of(&path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.files.insert(path.into_owned(), image);
        Ok(())
    }

    /// Whether [`Host::create`] would succeed.
    pub fn can_create(&self, path: &Utf8Path) -> bool {
        let path = self.plain(path);
        !self.folders.contains(&*path) && self.has_folder_of(&path)
    }

    fn has_folder_of(&self, plain: &str) -> bool {
        Utf8Path::new(plain).parent().is_some_and(|folder| self.folders.contains(folder.as_str()))
    }

    /// From now on another program has an image open to read it, and all that it stands on, and locks them as QEMU does: `qemu-nbd -r`,
    /// say.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read_by_another(&mut self, path: &Utf8Path) -> io::Result<()> {
        let mut next = Some(self.resolve(path));
        while let Some(path) = next.filter(|path| !self.read.contains(path.as_str())) {
            let image = self.image(&path).ok_or(io::ErrorKind::NotFound)?;
            let behind = image.as_qcow2().and_then(|image| image.backing.as_ref());
            next = behind.map(|behind| path.with_file_name(&behind.file));
            self.read.insert(self.plain(&path).into_owned());
        }
        Ok(())
    }

    /// Whether another program reads an image.
    pub(crate) fn is_read_by_another(&self, path: &Utf8Path) -> bool {
        self.read.contains(&*self.plain(path))
    }

    /// Unlinks a file.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&mut self, path: &Utf8Path) -> io::Result<()> {
        let path = self.plain(path).into_owned();
        // Whoever reads it has the file that was there, and not the next one of that name.
        self.read.remove(&path);
        let document = self.documents.remove(&*path).map(drop);
        self.files.remove(&*path).map(drop).or(document).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Documents: files that are no image.
impl Host {
    /// All documents in the order of their paths, and what they hold.
    pub fn documents(&self) -> impl Iterator<Item = (&Utf8Path, &[u8])> {
        self.documents.iter().map(|(path, bytes)| (Utf8Path::new(path), bytes.as_slice()))
    }

    /// What a document holds.
    pub fn document(&self, path: &Utf8Path) -> Option<&[u8]> {
        self.documents.get(&*self.plain(path)).map(Vec::as_slice)
    }

    /// Puts a document in the place of what was there.
    ///
    /// # Errors
    /// `NotFound` for a folder that is not there, `IsADirectory` for one that is.
    pub fn replace_document(&mut self, path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
        let plain = self.plain(path).into_owned();
        if self.folders.contains(&plain) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !self.has_folder_of(&plain) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.documents.insert(plain, bytes.to_owned());
        Ok(())
    }

    /// Writes bytes of a document from `at` on: of one beside an image too, as far as they stand before what QEMU wrote.
    ///
    /// # Errors
    /// `NotFound` for a file that is not there, `StorageFull`.
    pub fn write_document(&mut self, path: &Utf8Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = at + bytes.len() as u64;
        let length = self.length(path).ok_or(io::ErrorKind::NotFound)?;
        if end > length && self.is_full(path) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let plain = self.plain(path).into_owned();
        let document = self.documents.entry(plain).or_default();
        let (at, end) = (to_index(at), to_index(end));
        document.resize(document.len().max(end), 0);
        document[at..end].copy_from_slice(bytes);
        Ok(())
    }

    /// Makes a file so long in bytes, or so short: what lies beyond is lost. Not one that is in use as a disk.
    ///
    /// # Errors
    /// `NotFound` for a file that is not there.
    pub fn set_length(&mut self, path: &Utf8Path, length: u64) -> io::Result<()> {
        let old = self.length(path).ok_or(io::ErrorKind::NotFound)?;
        let plain = self.plain(path).into_owned();
        match self.files.get_mut(&plain) {
            Some(Image::MachineState(state)) if (state.at..old).contains(&length) => {
                state.kept = length - state.at
            }
            Some(image) if length < old => *image = Image::raw(length),
            _ => {}
        }
        if let Some(document) = self.documents.get_mut(&plain) {
            document.truncate(to_index(length));
        }
        Ok(())
    }

    /// The bytes of a document or of a machine's state from `at` on, `most` at most.
    pub fn read_at(&self, path: &Utf8Path, at: u64, most: usize) -> Vec<u8> {
        let document = self.document(path).unwrap_or_default();
        let rest = usize::try_from(at).ok().and_then(|at| document.get(at..)).unwrap_or_default();
        let mut bytes = rest[..rest.len().min(most)].to_owned();
        if let Some(state) = self.image(path).and_then(Image::as_machine_state) {
            let behind = bytes.len();
            bytes.extend(state.read_at(at + behind as u64, most - behind));
        }
        bytes
    }

    /// Length of a file in bytes; nothing for one that is not there.
    pub fn length(&self, path: &Utf8Path) -> Option<u64> {
        let plain = self.plain(path);
        let image = self.files.get(&*plain).map(Image::file_length);
        let document = self.documents.get(&*plain).map(|bytes| bytes.len() as u64);
        image.max(document)
    }

    /// The names in a folder, in their order.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn names(&self, folder: &Utf8Path) -> io::Result<Vec<String>> {
        let folder = self.plain(folder);
        if !self.folders.contains(&*folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = self.files.keys().chain(self.documents.keys()).chain(&self.folders);
        let inside =
            all.map(Utf8Path::new).filter(|path| path.parent().is_some_and(|parent| parent == *folder));
        let mut names: Vec<String> = inside.filter_map(Utf8Path::file_name).map(str::to_owned).collect();
        names.sort_unstable();
        // What QEMU has written to and the driver too is one file.
        names.dedup();
        Ok(names)
    }

    /// Locks a document, made for it if it is not there.
    ///
    /// # Errors
    /// `WouldBlock` if somebody has it; and as [`Host::replace_document`].
    pub fn lock(&mut self, path: &Utf8Path) -> io::Result<()> {
        let plain = self.plain(path).into_owned();
        if self.locked.contains(&plain) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if !self.documents.contains_key(&plain) {
            self.replace_document(path, b"")?;
        }
        self.locked.insert(plain);
        Ok(())
    }

    /// Gives a lock back.
    pub fn unlock(&mut self, path: &Utf8Path) {
        let path = self.plain(path).into_owned();
        self.locked.remove(&path);
    }
}

fn to_index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a document fits in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let mut host = Host::new();
        host.set_folder("/images".into());
        host
    }

    #[test]
    fn a_relative_path_starts_in_the_machines_folder() {
        let mut host = host();
        host.create_new("a".into(), Image::raw(512)).unwrap();
        assert!(host.exists("/images/a".into()));
    }

    #[test]
    fn a_path_is_the_same_however_it_is_written() {
        let mut host = host();
        host.create_new("/images//a".into(), Image::raw(512)).unwrap();
        host.add_folder("/images/more/".into());
        for path in ["a", "./a", "/images/./a", "/images/a/", "//images/a"] {
            assert!(host.exists(path.into()), "{path}");
        }
        assert!(host.is_folder("/images/more".into()));
        assert!(host.is_folder("/".into()));
    }

    #[test]
    fn a_file_that_is_there_is_not_made_anew() {
        let mut host = host();
        host.create_new("a".into(), Image::raw(512)).unwrap();
        let again = host.create_new("a".into(), Image::raw(0)).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(host.image("a".into()).unwrap().virtual_size(), 512);
    }

    #[test]
    fn a_file_needs_its_folder() {
        let missing = host().create_new("/nowhere/a".into(), Image::raw(0)).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_removed_file_is_gone() {
        let mut host = host();
        host.create_new("a".into(), Image::raw(0)).unwrap();
        host.remove("a".into()).unwrap();
        assert!(!host.exists("a".into()));
        assert_eq!(host.remove("a".into()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_stands_before_a_machine_state_is_as_long_as_was_written_and_gone_when_the_file_is() {
        let mut host = host();
        host.create_new("a".into(), Image::raw(0)).unwrap();
        host.write_document("a".into(), 2, b"cd").unwrap();
        host.write_document("a".into(), 0, b"ab").unwrap();
        assert_eq!((host.document("a".into()), host.length("a".into())), (Some(&b"abcd"[..]), Some(4)));
        host.set_length("a".into(), 1).unwrap();
        assert_eq!(host.document("a".into()), Some(&b"a"[..]));
        host.remove("a".into()).unwrap();
        assert_eq!(host.length("a".into()), None);
    }

    #[test]
    fn a_full_file_takes_no_more_bytes_but_others_in_their_place() {
        let mut host = host();
        host.create_new("a".into(), Image::raw(0)).unwrap();
        host.write_document("a".into(), 0, b"ab").unwrap();
        host.set_full("a".into(), true);
        host.write_document("a".into(), 0, b"AB").unwrap();
        assert_eq!(host.write_document("a".into(), 2, b"c").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
