//! Whether somebody has an image open: QEMU's own locks on it tell, and are asked for without taking one.
//!
//! A process of QEMU's locks bytes of each image that it opens, also one behind another and one that it only reads: a byte from 100 on
//! for each thing that it does with it, and one from 200 on for each that it does not bear others to do. An image that it has given
//! away to another machine (`inactive`) is not locked.
//!
//! Source: QEMU's `block/file-posix.c`, `RAW_LOCK_PERM_BASE` and `RAW_LOCK_SHARED_BASE`; fcntl(2), `F_OFD_GETLK`.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is the shell that the rest of the driver is kept from"
)]

use std::{fs::File, io};

use camino::Utf8Path;

/// The first byte that is locked.
const FIRST: i64 = 100;
/// How many bytes may be.
const BYTES: i64 = 200;

/// Whether any process has locked an image.
pub(super) fn is_held(path: &Utf8Path) -> io::Result<bool> {
    // What is no file has no such locks, and a pipe would wait for somebody to open its other end.
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() {
        return Ok(false);
    }
    in_the_way(&File::open(path)?)
}

/// Whether a lock for writing would be refused.
#[cfg(target_os = "linux")]
fn in_the_way(file: &File) -> io::Result<bool> {
    use nix::{
        fcntl::{FcntlArg, fcntl},
        libc,
    };
    let mut lock = wanted(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

#[cfg(target_os = "linux")]
fn wanted(kind: i32) -> nix::libc::flock {
    nix::libc::flock {
        l_type: kind as _,
        l_whence: nix::libc::SEEK_SET as _,
        l_start: FIRST,
        l_len: BYTES,
        l_pid: 0,
    }
}

/// Elsewhere nothing tells.
#[cfg(not(target_os = "linux"))]
fn in_the_way(_: &File) -> io::Result<bool> {
    Ok(false)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use nix::{
        fcntl::{FcntlArg, fcntl},
        libc,
    };

    use super::*;

    #[test]
    fn an_image_is_held_as_long_as_somebody_has_any_of_its_bytes_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("image");
        std::fs::write(&path, "").unwrap();
        assert!(!is_held(&path).unwrap());
        for byte in [100, 201] {
            let reader = File::open(&path).unwrap();
            let lock = libc::flock { l_start: byte, l_len: 1, ..wanted(libc::F_RDLCK) };
            fcntl(&reader, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
            assert!(is_held(&path).unwrap(), "byte {byte}");
            drop(reader);
            assert!(!is_held(&path).unwrap(), "byte {byte}");
        }
        assert_eq!(is_held(&path.with_extension("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
