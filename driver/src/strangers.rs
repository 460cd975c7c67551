//! Images beside a machine's that neither it nor its records name, and that stand on one of its own all the same.
//!
//! An overlay that was made without a record, or that a revert has left behind, is in nobody's chain. Whoever writes to what it
//! stands on, or removes that, has broken it; and only its own header says what that is. The few bytes are read here and not by
//! `qemu-img`, which would be a process for each file, and refuses the images that other machines run in.
//!
//! Overlays are qcow2 images here; what does not begin as one is passed over, and so is what cannot be read or is in another folder.
//! A guest's raw disk can look like one: nothing comes of what is found but a refusal.
//!
//! Source: QEMU's `docs/interop/qcow2`.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    env::{Access, Env, FileKind, OpenFile as _, one_name},
    observed::file_of,
};

/// How a qcow2 image begins.
const MAGIC: &[u8] = b"QFI\xfb";
/// How many bytes of the header tell where the name of the file below is: its offset stands at 8, its length at 16.
const HEADER: usize = 20;
/// The longest name that QEMU takes, in bytes.
const LONGEST_NAME: usize = 1023;

/// An image that nobody here knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its file.
    pub file: Utf8PathBuf,
    /// What it stands on.
    pub on: Utf8PathBuf,
}

/// The images beside these that stand on one of them, but for those that are known.
pub async fn standing_on<E: Env>(
    env: &E,
    images: &BTreeSet<Utf8PathBuf>,
    known: &BTreeSet<Utf8PathBuf>,
) -> Vec<Stranger> {
    let mut names = Vec::new();
    for image in images {
        names.push((one_name(env, image).await, image));
    }
    let folders: BTreeSet<&Utf8Path> = images.iter().filter_map(|image| image.parent()).collect();
    let mut strangers = Vec::new();
    for folder in folders {
        for name in env.list_folder(folder).await.unwrap_or_default() {
            let file = folder.join(name);
            if images.contains(&file) || known.contains(&file) {
                continue;
            }
            let Some(below) = below(env, &file).await else { continue };
            let below = one_name(env, &folder.join(below)).await;
            let on = names.iter().filter(|(name, _)| *name == below);
            strangers.extend(on.map(|(_, on)| Stranger { file: file.clone(), on: (*on).clone() }));
        }
    }
    strangers
}

/// What an image's header says that is below it; nothing of what is no qcow2 image, or has none below.
async fn below<E: Env>(env: &E, file: &Utf8Path) -> Option<Utf8PathBuf> {
    if !matches!(env.file_kind(file).await, Ok(FileKind::File { bytes }) if bytes >= HEADER as u64) {
        return None;
    }
    let file = env.open(file, Access::Read).await.ok()?;
    let header = file.read_at(0, HEADER).await.ok()?;
    let at = u64::from_be_bytes(header.strip_prefix(MAGIC)?.get(4..12)?.try_into().ok()?);
    let length = u32::from_be_bytes(header.get(16..20)?.try_into().ok()?) as usize;
    if at == 0 || length == 0 || length > LONGEST_NAME {
        return None;
    }
    let name = file.read_at(at, length).await.ok().filter(|name| name.len() == length)?;
    let name = file_of(std::str::from_utf8(&name).ok()?);
    Some(name.as_str().strip_prefix("file:").map_or_else(|| name.clone(), Into::into))
}
