//! What a qcow2 image says of itself by its own bytes: what it stands on, and whether it holds anything.
//!
//! The few bytes are read here and not by `qemu-img`: that would be a process for each file, there may be no such program where a
//! machine runs, and it refuses the images that other machines run in. What is no qcow2 image, is cut off or cannot be read tells
//! nothing.
//!
//! Source: QEMU's `docs/interop/qcow2`; `block/qcow2-cluster.c` (`l2_allocate`) for the order of the writes.

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    env::{Access, Env, FileKind, OpenFile as _},
    observed::file_of,
};

/// How a qcow2 image begins.
const MAGIC: &[u8] = b"QFI\xfb";
/// How many bytes of the header are read: it tells the name of the file below from 8 on, the L1 table from 36 on.
const HEADER: usize = 48;
/// The longest name of a file below that QEMU takes, in bytes.
const LONGEST_NAME: u64 = 1023;
/// The longest L1 table that QEMU takes, in bytes.
const LONGEST_L1: u64 = 32 << 20;
/// How many bytes of it are read at once.
const CHUNK: u64 = 1 << 20;

/// A qcow2 image that is open.
struct Image<E: Env> {
    /// Its file.
    file: E::File,
    /// How it begins.
    header: Vec<u8>,
}

impl<E: Env> Image<E> {
    /// Opens an image; none if it cannot be read, or does not begin as one.
    async fn open(env: &E, path: &Utf8Path) -> Option<Self> {
        let file = env.open(path, Access::Read).await.ok()?;
        let header = file.read_at(0, HEADER).await.ok()?;
        (header.len() == HEADER && header.starts_with(MAGIC)).then_some(Self { file, header })
    }

    /// The number of so many bytes that stands here in the header.
    fn number(&self, at: usize, bytes: usize) -> u64 {
        self.header[at..at + bytes].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// So many bytes from here on; none if the file ends before.
    async fn read(&self, at: u64, length: u64) -> Option<Vec<u8>> {
        let bytes = self.file.read_at(at, length as usize).await.ok()?;
        (bytes.len() as u64 == length).then_some(bytes)
    }
}

/// What a file stands on, as its header has it; nothing of what is no qcow2 image in a file, or stands on nothing.
pub(crate) async fn below<E: Env>(env: &E, path: &Utf8Path) -> Option<Utf8PathBuf> {
    // Whoever opens a pipe waits until somebody writes to it.
    if !matches!(env.file_kind(path).await, Ok(FileKind::File { bytes }) if bytes >= HEADER as u64) {
        return None;
    }
    let image = Image::open(env, path).await?;
    let (offset, length) = (image.number(8, 8), image.number(16, 4));
    if offset == 0 || length == 0 || length > LONGEST_NAME {
        return None;
    }
    let name = image.read(offset, length).await?;
    let name = file_of(std::str::from_utf8(&name).ok()?);
    Some(name.as_str().strip_prefix("file:").map_or_else(|| name.clone(), Into::into))
}

/// Whether an image holds anything of its own; none if that cannot be told.
///
/// One that was made empty leads to no data: every entry of its L1 table is 0. QEMU writes the entry as soon as the first cluster
/// below it is taken, so that an overlay without one was never written to, as far as anybody was promised: when QEMU is gone, that
/// alone tells whether the guest ever wrote to it. An overlay of a disk that was not switched is never written to either.
pub(crate) async fn holds_data<E: Env>(env: &E, path: &Utf8Path) -> Option<bool> {
    let image = Image::open(env, path).await?;
    let (length, offset) = (image.number(36, 4) * 8, image.number(40, 8));
    if length == 0 || length > LONGEST_L1 {
        return None;
    }
    let mut at = 0;
    while at < length {
        let most = CHUNK.min(length - at);
        if image.read(offset.checked_add(at)?, most).await?.iter().any(|byte| *byte != 0) {
            return Some(true);
        }
        at += most;
    }
    Some(false)
}

#[cfg(all(test, feature = "tokio-env"))]
#[allow(clippy::disallowed_methods, reason = "an image is of the real host")]
mod tests {
    use std::fs;

    use super::*;
    use crate::env::tokio::TokioEnv;

    /// The header of a qcow2 image whose L1 table has these entries and begins behind it.
    fn image(entries: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; 72];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[36..40].copy_from_slice(&(entries.len() as u32).to_be_bytes());
        bytes[40..48].copy_from_slice(&72_u64.to_be_bytes());
        bytes.extend(entries.iter().flat_map(|entry| entry.to_be_bytes()));
        bytes
    }

    #[tokio::test]
    async fn an_image_tells_whether_anything_was_ever_written_to_it_and_what_is_none_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("image")).unwrap();
        let mut far = vec![0; 300_000];
        far[299_999] = 1 << 63 | 0x50000;
        let cut = image(&[0, 0])[..80].to_vec();
        let no_magic = vec![0; 200];
        let cases = [
            (image(&[0, 0]), Some(false)),
            (image(&[0, 1 << 63 | 0x40000]), Some(true)),
            (image(&far), Some(true)),
            (image(&[]), None),
            (cut, None),
            (no_magic, None),
        ];
        for (number, (bytes, holds)) in cases.into_iter().enumerate() {
            fs::write(&path, bytes).unwrap();
            assert_eq!(holds_data(&TokioEnv::new(), &path).await, holds, "case {number}");
        }
        assert_eq!(holds_data(&TokioEnv::new(), &path.with_file_name("gone")).await, None);
    }
}
