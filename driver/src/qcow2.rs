//! Whether an overlay holds anything, by its own bytes: when QEMU is gone that alone tells whether the guest ever wrote to it.
//!
//! A qcow2 image that was made empty leads to no data: every entry of its L1 table is 0. QEMU writes the entry as soon as the first
//! cluster below it is taken, so that an overlay without one was never written to, as far as anybody was promised. An overlay of a
//! disk that was not switched is never written to either.
//!
//! The few bytes are read here and not by `qemu-img`, for there may be no such program where a machine runs. What is no qcow2 image, is
//! cut off or cannot be read tells nothing.
//!
//! Source: QEMU's `docs/interop/qcow2`; `block/qcow2-cluster.c` (`l2_allocate`) for the order of the writes.

use camino::Utf8Path;

use crate::env::{Access, Env, OpenFile as _};

/// How a qcow2 image begins.
const MAGIC: &[u8] = b"QFI\xfb";
/// How many bytes of the header tell where the L1 table is: its entries stand at 36, its offset at 40.
const HEADER: usize = 48;
/// The longest L1 table that QEMU takes, in bytes.
const LONGEST_L1: u64 = 32 << 20;
/// How many bytes of it are read at once.
const CHUNK: u64 = 1 << 20;

/// Whether a qcow2 image holds anything of its own; none if that cannot be told.
pub(crate) async fn holds_data<E: Env>(env: &E, path: &Utf8Path) -> Option<bool> {
    let file = env.open(path, Access::Read).await.ok()?;
    let header = file.read_at(0, HEADER).await.ok()?;
    let number = |at: usize, bytes: usize| {
        let field = header.get(at..at + bytes)?;
        Some(field.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    if !header.starts_with(MAGIC) {
        return None;
    }
    let (length, offset) = (number(36, 4)? * 8, number(40, 8)?);
    if length == 0 || length > LONGEST_L1 {
        return None;
    }
    let mut at = 0;
    while at < length {
        let most = CHUNK.min(length - at);
        let entries = file.read_at(offset.checked_add(at)?, most as usize).await.ok()?;
        if entries.len() as u64 != most {
            return None;
        }
        if entries.iter().any(|byte| *byte != 0) {
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

    use camino::Utf8PathBuf;

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
