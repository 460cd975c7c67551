//! Images beside a machine's that neither it nor its records name, and that stand on one of its own all the same.
//!
//! An overlay that was made without a record, or that a revert has left behind, is in nobody's chain. Whoever writes to what it
//! stands on, or removes that, has broken it; and only its own header says what that is.
//!
//! Overlays are qcow2 images here; what does not begin as one is passed over, and so is what cannot be read or is in another folder.
//! A guest's raw disk can look like one: nothing comes of what is found but a refusal.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::{
    env::{Env, identity},
    qcow2,
};

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
    let mut own = Vec::new();
    for image in images {
        own.push((identity(env, image).await, image));
    }
    let folders: BTreeSet<&Utf8Path> = images.iter().filter_map(|image| image.parent()).collect();
    let mut strangers = Vec::new();
    for folder in folders {
        for name in env.list_folder(folder).await.unwrap_or_default() {
            let file = folder.join(name);
            if known.contains(&file) {
                continue;
            }
            let Some(below) = qcow2::below(env, &file).await else { continue };
            let below = identity(env, &folder.join(below)).await;
            let on = own.iter().filter(|(image, _)| *image == below);
            strangers.extend(on.map(|(_, on)| Stranger { file: file.clone(), on: (*on).clone() }));
        }
    }
    strangers
}

#[cfg(all(test, feature = "tokio-env"))]
#[allow(clippy::disallowed_methods, reason = "a link is of the real host")]
mod tests {
    use std::fs;

    use super::*;
    use crate::env::tokio::TokioEnv;

    /// The header of a qcow2 image that stands on one of this name.
    fn standing_on_the(below: &str) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        bytes[8..16].copy_from_slice(&48_u64.to_be_bytes());
        bytes[16..20].copy_from_slice(&(below.len() as u32).to_be_bytes());
        bytes.extend(below.as_bytes());
        bytes
    }

    #[tokio::test]
    async fn what_stands_on_an_image_by_any_of_its_names_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Utf8PathBuf::try_from(folder.path().join(name)).unwrap();
        fs::write(path("vda"), [0; 48]).unwrap();
        fs::write(path("vdb"), [0; 48]).unwrap();
        fs::hard_link(path("vda"), path("hard")).unwrap();
        std::os::unix::fs::symlink("vda", path("soft")).unwrap();
        for below in ["vda", "hard", "soft", "vdb"] {
            fs::write(path(&format!("on-{below}")), standing_on_the(below)).unwrap();
        }
        let found = standing_on(&TokioEnv::new(), &[path("vda")].into(), &BTreeSet::new()).await;
        let mut found: Vec<_> = found.into_iter().map(|stranger| stranger.file).collect();
        found.sort();
        assert_eq!(found, ["on-hard", "on-soft", "on-vda"].map(path));
    }
}
