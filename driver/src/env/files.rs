//! Files of the real host that must outlive its death: blocking calls, run beside the runtime's thread by [`super::tokio`].
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the shell that the rest of the driver is kept from"
)]

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
        PermissionsExt as _, fchown,
    },
};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;

use super::{Access, FileKind, Ownership};

pub(super) fn kind(path: &Utf8Path) -> io::Result<FileKind> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FileKind::Absent),
        found => found?,
    };
    Ok(match found.file_type() {
        kind if kind.is_file() => FileKind::File { bytes: found.len() },
        kind if kind.is_dir() => FileKind::Folder,
        kind if kind.is_block_device() => FileKind::Device,
        _ => FileKind::Other,
    })
}

pub(super) fn create_folder(path: &Utf8Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn list_folder(path: &Utf8Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let mut names: Vec<String> = entries.filter_map(io::Result::transpose).collect::<io::Result<_>>()?;
    names.sort_unstable();
    Ok(names)
}

pub(super) fn read_file(path: &Utf8Path, most: usize) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

pub(super) fn create_new(path: &Utf8Path, ownership: &Ownership) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let given = give(&file, ownership);
    if given.is_err() {
        // What it could not be given for is the error that matters.
        let _ = fs::remove_file(path);
    }
    given
}

/// Not every system of files lets owner, group and mode be set: what they are afterwards tells whether the file can be opened.
fn give(file: &File, ownership: &Ownership) -> io::Result<()> {
    let (path, granted, must) = match ownership {
        Ownership::Own => return Ok(()),
        Ownership::OfImage(image) => (image, 0o666, true),
        Ownership::OfMemory(image) => (image, 0o660, false),
    };
    // What is no file of the host has no owner, and of what may not be looked at none is known.
    let Ok(image) = fs::metadata(path) else { return Ok(()) };
    let _ = fchown(file, None, Some(image.gid()));
    // Another group has had nothing to do with it.
    let of_its_group = file.metadata()?.gid() == image.gid();
    let granted = if of_its_group { granted } else { granted & !0o060 };
    let _ = file.set_permissions(Permissions::from_mode(image.mode() & granted | 0o600));
    let _ = fchown(file, Some(image.uid()), None);
    let file = file.metadata()?;
    let by_group = file.gid() == image.gid() && file.mode() & 0o060 == 0o060;
    let by_anybody = file.mode() & 0o006 == 0o006;
    // Who may open a device is often neither its owner nor in its group: those are no measure.
    if file.uid() == image.uid() || by_group || by_anybody || !must || !image.is_file() {
        return Ok(());
    }
    let (user, own) = (image.uid(), file.uid());
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "`{path}`, on which it is to stand, is user {user}'s, and user {own} can make no file that user {user} may write to: do this \
             as that user or as root"
        ),
    ))
}

/// Written beside it, synced, renamed over it; then the folder is synced, since the new name is in the folder. Whose it is and who may
/// read or write it stays as it was, as far as this process may give files away; a new file is its owner's alone.
pub(super) fn replace_file(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let beside = Utf8PathBuf::from(format!("{path}.new"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    if let Some(before) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file) {
        give_to_whom_it_was(&file, &before)?;
    }
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder(folder_of(path))
}

/// To a group that it cannot be given to it grants nothing: those in the one that it gets instead have had nothing to do with it.
fn give_to_whom_it_was(file: &File, before: &Metadata) -> io::Result<()> {
    let group = fchown(file, None, Some(before.gid()));
    let mode = match group {
        Ok(()) => before.mode(),
        Err(_) => before.mode() & !0o070,
    };
    // Only root gives files away, and the mode is nobody else's affair afterwards.
    file.set_permissions(Permissions::from_mode(mode & 0o777))?;
    let _ = fchown(file, Some(before.uid()), None);
    Ok(())
}

/// The folder that a file is in: of a name alone it is the one that the program is in.
fn folder_of(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|folder| *folder != "").unwrap_or(Utf8Path::new("."))
}

fn sync_folder(path: &Utf8Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn lock(path: &Utf8Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

pub(super) fn open(path: &Utf8Path, access: Access) -> io::Result<File> {
    let write = access == Access::Write;
    OpenOptions::new().read(true).write(write).custom_flags(no_follow()).open(path)
}

pub(super) fn read_at(file: &File, at: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut read = 0;
    while read < most {
        match file.read_at(&mut bytes[read..], at + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// A path whose last part is a symbolic link fails with `ELOOP`.
fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}
